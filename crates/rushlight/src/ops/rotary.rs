//! Rotary positions: queries and keys turned by angles that grow with their place, so that their products depend on how
//! far apart they are.

use crate::autograd::{record, tracks};
use crate::dtype::each_float;
use crate::kernels::rotary::{self, Angles};
use crate::ops::reduce::float_only;
use crate::{DType, Error, Float, Result, Tensor};

const OP: &str = "rotary";

/// Which two numbers of a row of `2n` are a pair that is turned together. A permutation of the row, and so of the rows of
/// the weight that makes it, leads from one to the other: the attention is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RotaryPairs {
    /// `(x[i], x[n + i])`: GPT-NeoX, and Llama as Hugging Face stores it.
    #[default]
    HalfSplit,
    /// `(x[2i], x[2i + 1])`: the paper, and Llama as Meta and GGUF files store it.
    Interleaved,
}

impl Tensor {
    /// The pairs `(a, b)` of each row turned by the angles of its place: `(a·cos − b·sin, b·cos + a·sin)`, for `[.., T, D]`
    /// with `cos` and `sin` of `[T, D / 2]`, which every head and sample shares. [`nn::Rotary`](crate::nn::Rotary) makes
    /// these tables.
    ///
    /// A turn keeps lengths, and the product of two turned rows depends on the difference of their angles alone. The
    /// gradient is `dy` turned back. A tensor laid out as `[batch, T, heads, D]` and transposed is read where it lies,
    /// and so is the output.
    ///
    /// ```
    /// # use rushlight::{RotaryPairs, Tensor};
    /// let x = Tensor::new([[3.0f32, 4.0], [3.0, 4.0]])?;
    /// let (cos, sin) = (Tensor::new([[1.0f32], [0.0]])?, Tensor::new([[0.0f32], [1.0]])?); // 0 and 90 degrees
    /// assert_eq!(x.rotary(&cos, &sin, RotaryPairs::HalfSplit)?.to_vec::<f32>()?, [3.0, 4.0, -4.0, 3.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Source: Su et al. 2021. Errors: not a float dtype; tables of other shapes, or that ask for a gradient.
    pub fn rotary(&self, cos: &Tensor, sin: &Tensor, pairs: RotaryPairs) -> Result<Tensor> {
        float_only(OP, self)?;
        let fits = match *self.dims() {
            [.., places, n] => n % 2 == 0 && cos.dims() == [places, n / 2] && sin.dims() == cos.dims(),
            _ => false,
        };
        if !fits {
            let message = format!(
                "expected [.., T, D] with cos and sin of [T, D / 2], got {}, {} and {}",
                self.shape(),
                cos.shape(),
                sin.shape()
            );
            return Err(Error::invalid(OP, message));
        }
        if tracks(&[cos, sin]) {
            return Err(Error::gradient(OP, "the angles have no gradient; detach() cos and sin"));
        }
        let compute = if self.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let [cos, sin] = [cos, sin].map(|table| table.detach().to_dtype(compute)?.packed());
        self.turned(cos?, sin?, pairs, false)
    }

    fn turned(&self, cos: Tensor, sin: Tensor, pairs: RotaryPairs, back: bool) -> Result<Tensor> {
        let x = self.detach();
        // Of [batch, heads, T, D] that lies as [batch, T, heads, D], neighbouring rows are the heads of one place.
        let swapped = match x.rank() >= 3 && !x.is_contiguous() {
            true => Some(x.transpose(-3, -2)?).filter(Tensor::is_contiguous),
            false => None,
        };
        let repeat = if swapped.is_some() { x.dims()[x.rank() - 3] } else { 1 };
        let rows = swapped.as_ref().map_or_else(|| x.packed(), |x| Ok(x.clone()))?;
        let y = each_float!(OP, x.dtype(), T => {
            type C = <T as Float>::Compute;
            let (x, cos_data, sin_data) = (rows.slice::<T>(OP)?, cos.slice::<C>(OP)?, sin.slice::<C>(OP)?);
            let angles = Angles { cos: cos_data, sin: sin_data, pairs: cos.dims()[1], repeat, back };
            let interleaved = pairs == RotaryPairs::Interleaved;
            Tensor::build(OP, rows.shape().clone(), |y: &mut [T]| rotary::rotate(x, angles, interleaved, y))?
        });
        let y = if swapped.is_some() { y.transpose(-3, -2)? } else { y };
        record(OP, y, &[self], move |dy| dy.turned(cos.clone(), sin.clone(), pairs, !back))
    }
}
