//! Running sums and products along a dim: `y_k = Σ_{j ≤ k} x_j` and `y_k = Π_{j ≤ k} x_j`.
//!
//! The gradient of a cumulative sum is the cumulative sum from the other end. That of a product needs no division, so
//! zeros among the elements do no harm: `dx_k = y_{k−1} s_k`, where `s_k = dy_k + x_{k+1} s_{k+1}` runs from the end.
//! Such a linear recurrence has linear recurrences for gradients, so every order exists. All cost O(n).

use crate::autograd::record;
use crate::dtype::each_float;
use crate::kernels::scan::scan;
use crate::ops::binary::when_tracked;
use crate::ops::reduce::cut;
use crate::tensor::Dim;
use crate::{DType, Element, Result, Tensor};

impl Tensor {
    /// The sum of all elements up to each along `dim`; integers and bool sum to i64.
    ///
    /// `y_k = x_0 + … + x_k`, `dx_k = dy_k + dy_{k+1} + …`. The shape stays. Sums are kept in f64.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([1.0f32, 2.0, 3.0])?;
    /// assert_eq!(x.cumsum(0)?.to_vec::<f32>()?, [1.0, 3.0, 6.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `cumsum`. Errors: `dim` out of range.
    pub fn cumsum(&self, dim: impl Dim) -> Result<Tensor> {
        if self.rank() == 0 {
            return self.reshape(1)?.cumsum(dim)?.reshape(());
        }
        let dim = dim.index("cumsum", self.shape())?;
        let out = self.scanned("cumsum", dim, (0.0, |a, x| a + x), (0, i64::wrapping_add))?;
        if !out.dtype().is_float() {
            return Ok(out);
        }
        record("cumsum", out, &[self], move |dy| dy.flip(dim)?.cumsum(dim)?.flip(dim))
    }

    /// The product of all elements up to each along `dim`; integers and bool multiply to i64.
    ///
    /// `y_k = x_0 · … · x_k`. The shape stays, and the gradient is right with zeros among the elements.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?;
    /// assert_eq!(x.cumprod(1)?.to_vec::<f32>()?, [1.0, 2.0, 3.0, 12.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `cumprod`. Errors: `dim` out of range.
    pub fn cumprod(&self, dim: impl Dim) -> Result<Tensor> {
        if self.rank() == 0 {
            return self.reshape(1)?.cumprod(dim)?.reshape(());
        }
        let dim = dim.index("cumprod", self.shape())?;
        let out = self.scanned("cumprod", dim, (1.0, |a, x| a * x), (1, i64::wrapping_mul))?;
        if !out.dtype().is_float() {
            return Ok(out);
        }
        let x = self.clone();
        record("cumprod", out, &[self], move |dy| {
            // From the end: s_k = dy_k + x_{k+1} s_{k+1}.
            let back = x.flip(dim)?.shifted(dim, 0.0)?;
            let s = recurrence(&dy.flip(dim)?, &back, dim)?.flip(dim)?;
            x.exclusive_cumprod(dim)?.mul(&s)
        })
    }

    /// The product of all elements before each along `dim`: 1, x_0, x_0 x_1, …
    pub(super) fn exclusive_cumprod(&self, dim: usize) -> Result<Tensor> {
        self.cumprod(dim)?.shifted(dim, 1.0)
    }

    /// Moved one place up along `dim`, `first` coming in and the last going out.
    fn shifted(&self, dim: usize, first: f64) -> Result<Tensor> {
        let n = self.dims()[dim];
        if n == 0 {
            return Ok(self.clone());
        }
        let edge = Tensor::full(self.shape().with(dim, 1), first, self.dtype())?;
        Tensor::cat(&[edge, self.narrow(dim, 0, n - 1)?], dim)
    }

    /// A running value along `dim`, outside the graph: floats by `float`, others as i64 by `integer`.
    fn scanned(
        &self,
        op: &'static str,
        dim: usize,
        float: (f64, fn(f64, f64) -> f64),
        integer: (i64, fn(i64, i64) -> i64),
    ) -> Result<Tensor> {
        let (_, n, inner) = cut(self.shape(), dim, dim + 1);
        let shape = self.shape().clone();
        if !self.dtype().is_float() {
            let x = self.to_dtype(DType::I64)?.packed()?;
            let x = x.slice::<i64>(op)?;
            return Tensor::build(op, shape, |out: &mut [i64]| {
                scan(out, (n, inner), integer.0, |a, i| integer.1(a, x[i]), |a| a);
            });
        }
        let x = self.detach().packed()?;
        each_float!(op, self.dtype(), T => {
            let x = x.slice::<T>(op)?;
            Tensor::build(op, shape, |out: &mut [T]| {
                scan(out, (n, inner), float.0, |a, i| float.1(a, x[i].to_f64()), T::from_f64);
            })
        })
    }
}

/// `y_k = a_k + b_k y_{k−1}` along `dim`, from `y_{−1} = 0`; a and b of one shape.
///
/// From the end, `da_k = dy_k + b_{k+1} da_{k+1}`; and `db_k = da_k y_{k−1}`.
fn recurrence(a: &Tensor, b: &Tensor, dim: usize) -> Result<Tensor> {
    let op = "recurrence";
    let (_, n, inner) = cut(a.shape(), dim, dim + 1);
    let (pa, pb) = (a.detach().packed()?, b.detach().packed()?);
    let out = each_float!(op, a.dtype(), T => {
        let (xa, xb) = (pa.slice::<T>(op)?, pb.slice::<T>(op)?);
        Tensor::build(op, a.shape().clone(), |out: &mut [T]| {
            // Before the first element b does not count: 0 · ∞ must not appear there.
            let step = |y: Option<f64>, i: usize| {
                Some(xa[i].to_f64() + y.map_or(0.0, |y| xb[i].to_f64() * y))
            };
            scan(out, (n, inner), None, step, |y| T::from_f64(y.unwrap_or(0.0)));
        })?
    });
    let (a0, b0) = (a.clone(), b.clone());
    record(op, out, &[a, b], move |dy| {
        let da = recurrence(&dy.flip(dim)?, &b0.flip(dim)?.shifted(dim, 0.0)?, dim)?.flip(dim)?;
        let db = when_tracked(&b0, || da.mul(&recurrence(&a0, &b0, dim)?.shifted(dim, 0.0)?))?;
        Ok([Some(da), db])
    })
}
