//! Where a token stands: attention itself does not see the order of its keys.
//!
//! - [`Rotary`] turns queries and keys, so that their products know how far apart they are;
//! - [`sinusoidal_positions`] are numbers to add to the embeddings, made by a formula;
//! - learned positions are an [`Embedding`](super::Embedding) of the places:
//!
//! ```
//! # use rushlight::{DType, Tensor, nn::{Embedding, Layer}};
//! let (words, places) = (Embedding::new(100, 8)?, Embedding::new(16, 8)?);
//! let tokens = Tensor::new([[5i64, 7, 5], [1, 2, 3]])?; // [B, T]
//! let at = Tensor::arange(0.0, 3.0, 1.0, DType::I64)?; // [T]
//! let x = words.forward(&tokens)?.add(&places.forward(&at)?)?; // [B, T, C]
//! assert_eq!(x.dims(), [2, 3, 8]);
//! # Ok::<(), rushlight::Error>(())
//! ```

use std::ops::Range;
use std::sync::{Arc, RwLock};

use super::simple::plain_module;
use super::{Description, Module, Path, Visitor, VisitorMut};
use crate::{DType, Error, Result, RotaryPairs, Tensor};

/// Rotary positions: pair `i` of the row at place `t` is turned by `t · base^(−2i / dim)`. See [`Tensor::rotary`].
///
/// A query at `m` and a key at `n` then give a product that knows `m − n` and not `m`. The angles are computed in f64,
/// once for all layers that share clones of one `Rotary`, and kept.
///
/// ```
/// # use rushlight::{DType, RotaryPairs, Tensor, nn::Rotary};
/// let rotary = Rotary::new(64, 10_000.0, RotaryPairs::HalfSplit)?;
/// let (q, k) = (Tensor::randn([1, 64], DType::F64)?, Tensor::randn([1, 64], DType::F64)?);
/// let product = |m, n| rotary.forward(&q, m)?.mul(&rotary.forward(&k, n)?)?.sum(..)?.item::<f64>();
/// assert!((product(7, 3)? - product(104, 100)?).abs() < 1e-9);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Source: Su et al. 2021.
#[derive(Clone, Debug)]
pub struct Rotary {
    dim: usize,
    base: f64,
    pairs: RotaryPairs,
    /// What the angles of each pair are divided by; nothing where it is 1 for all.
    divisors: Vec<f64>,
    /// Cosines and sines of `[places, dim / 2]`, made as far as they were needed.
    table: Arc<RwLock<Option<[Tensor; 2]>>>,
}

plain_module!(Rotary, |s| format!("{}, base={}, pairs={:?}", s.dim, s.base, s.pairs));

impl Rotary {
    /// For rows of `dim` numbers; `base` is usually 10,000 (`rope_theta` in Hugging Face). Errors: `dim` is odd or 0;
    /// a base that is not above 0.
    pub fn new(dim: usize, base: f64, pairs: RotaryPairs) -> Result<Rotary> {
        if dim == 0 || dim % 2 == 1 || !(base > 0.0 && base.is_finite()) {
            let message =
                format!("rows of {dim} numbers, base {base}: expected an even number of them, a base above 0");
            return Err(Error::invalid("rotary", message));
        }
        Ok(Rotary { dim, base, pairs, divisors: vec![], table: Arc::default() })
    }

    /// With the angles of pair `i` divided by `divisors[i]`, as models do that were taught to read longer texts than those
    /// they first learnt from. Errors: not `dim / 2` of them; one that is not above 0.
    ///
    /// ```
    /// # use rushlight::{DType, RotaryPairs, Tensor, nn::Rotary};
    /// let rotary = || Rotary::new(4, 10_000.0, RotaryPairs::HalfSplit);
    /// let x = Tensor::randn([1, 4], DType::F64)?;
    /// // Linear scaling: place 8 becomes place 2.
    /// let (far, near) = (rotary()?.divided(vec![4.0; 2])?.forward(&x, 8)?, rotary()?.forward(&x, 2)?);
    /// assert_eq!(far.to_vec::<f64>()?, near.to_vec::<f64>()?);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Source: Chen et al. 2023, "Extending context window" (all alike); Llama 3.1 (the slow ones alone).
    pub fn divided(self, divisors: Vec<f64>) -> Result<Rotary> {
        if divisors.len() != self.dim / 2 || !divisors.iter().all(|d| *d > 0.0 && d.is_finite()) {
            let message = format!("{divisors:?} for rows of {}: expected a number above 0 for each pair", self.dim);
            return Err(Error::invalid("rotary", message));
        }
        Ok(Rotary { divisors, table: Arc::default(), ..self })
    }

    /// `[.., T, dim]` turned as the places `offset..offset + T`. Errors: rows of another length; not a float dtype.
    pub fn forward(&self, x: &Tensor, offset: usize) -> Result<Tensor> {
        let places = match *x.dims() {
            [.., places, dim] if dim == self.dim => places,
            _ => {
                let message = format!("expected [.., T, {}], got {}", self.dim, x.shape());
                return Err(Error::invalid("rotary", message));
            }
        };
        let [cos, sin] = self.angles(offset, places, if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 })?;
        x.rotary(&cos, &sin, self.pairs)
    }

    /// Cosines and sines of the places `offset..offset + places`, `[places, dim / 2]`.
    fn angles(&self, offset: usize, places: usize, dtype: DType) -> Result<[Tensor; 2]> {
        let cut = |table: &[Tensor; 2]| {
            let [cos, sin] = table.each_ref().map(|t| t.narrow(0, offset, places));
            Ok([cos?, sin?])
        };
        let end = offset.checked_add(places).and_then(usize::checked_next_power_of_two);
        let end = end.ok_or_else(|| Error::invalid("rotary", format!("{places} places from {offset} on")))?;
        let known = self.table.read().unwrap_or_else(|e| e.into_inner()).clone();
        if let Some(table) = known.filter(|[cos, _]| cos.dtype() == dtype && cos.dims()[0] >= offset + places) {
            return cut(&table);
        }
        let divisor = |i: usize| self.divisors.get(i).copied().unwrap_or(1.0);
        let frequency = |i: usize| self.base.powf(-2.0 * i as f64 / self.dim as f64) / divisor(i);
        let frequencies = Tensor::from_vec((0..self.dim / 2).map(frequency).collect::<Vec<f64>>(), self.dim / 2)?;
        let angles = Tensor::arange(0.0, end as f64, 1.0, DType::F64)?.outer(&frequencies)?;
        let table = [angles.cos()?.to_dtype(dtype)?, angles.sin()?.to_dtype(dtype)?];
        *self.table.write().unwrap_or_else(|e| e.into_inner()) = Some(table.clone());
        cut(&table)
    }
}

/// The sinusoids of the first Transformer, `[places, width]`, to be added to embeddings:
/// `y[t, 2i] = sin(t · 10000^(−2i / width))`, `y[t, 2i + 1] = cos` of the same.
///
/// ```
/// # use rushlight::{DType, nn::sinusoidal_positions};
/// let y = sinusoidal_positions(0..2, 4, DType::F64)?;
/// assert_eq!(y.to_vec::<f64>()?, [0.0, 1.0, 0.0, 1.0, 1f64.sin(), 1f64.cos(), 0.01f64.sin(), 0.01f64.cos()]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Source: Vaswani et al. 2017. Errors: not a float dtype.
pub fn sinusoidal_positions(places: Range<usize>, width: usize, dtype: DType) -> Result<Tensor> {
    if !dtype.is_float() {
        return Err(Error::dtype("sinusoidal_positions", dtype, "expected a float dtype"));
    }
    let (count, pairs) = (places.len(), width.div_ceil(2));
    let frequency = |i: usize| 1e4f64.powf(-2.0 * i as f64 / width as f64);
    let frequencies = Tensor::from_vec((0..pairs).map(frequency).collect::<Vec<f64>>(), pairs)?;
    let places = Tensor::arange(0.0, count as f64, 1.0, DType::F64)?.add(places.start as f64)?;
    let angles = places.outer(&frequencies)?; // [T, pairs]
    let y = Tensor::stack(&[angles.sin()?, angles.cos()?], -1)?; // [T, pairs, 2]
    y.reshape([count, 2 * pairs])?.narrow(1, 0, width)?.contiguous()?.to_dtype(dtype)
}
