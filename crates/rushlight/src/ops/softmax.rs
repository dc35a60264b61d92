//! Softmax, the soft argmax: `exp(x) / Σ exp(x)` along one dim; and its logarithm.
//!
//! Not a map: the gradient at one place reaches all of its row.

use crate::autograd::{is_grad_enabled, record_with_output};
use crate::dtype::each_float;
use crate::kernels::softmax;
use crate::ops::reduce::{cut, float_only};
use crate::tensor::Dim;
use crate::{Result, Tensor};

impl Tensor {
    /// Softmax along `dim`; the output sums to 1 there.
    ///
    /// `y = exp(x − max x) / Σ exp(x − max x)`, `dx = y ∘ (dy − Σ dy ∘ y)`. It is the soft form of
    /// [`Tensor::argmax_one_hot`], and `softmax([0, x])[1]` is [`Tensor::sigmoid`]. A row of −∞ alone gives NaN.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let p = Tensor::new([1.0f32, 1.0, f32::NEG_INFINITY])?.softmax(0)?;
    /// assert_eq!(p.to_vec::<f32>()?, [0.5, 0.5, 0.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `torch.softmax`. Errors: `dim` out of range; not a float dtype.
    pub fn softmax(&self, dim: impl Dim) -> Result<Tensor> {
        let op = "softmax";
        float_only(op, self)?;
        if self.rank() == 0 {
            return self.reshape(1)?.softmax(0)?.reshape(());
        }
        let dim = dim.index(op, self.shape())?;
        let (x, cut) = (self.detach().packed()?, cut(self.shape(), dim, dim + 1));
        let y = each_float!(op, self.dtype(), T => {
            let x = x.slice::<T>(op)?;
            Tensor::build(op, self.shape().clone(), |y: &mut [T]| softmax::softmax_forward(x, cut, y))?
        });
        record_with_output(op, y, &[self], move |y: &Tensor, dy: &Tensor| {
            if is_grad_enabled() {
                return y.mul(&dy.sub(&dy.mul(y)?.sum_keepdim(dim)?)?);
            }
            let dy = dy.packed()?;
            each_float!(op, y.dtype(), T => {
                let (y_data, dy) = (y.slice::<T>(op)?, dy.slice::<T>(op)?);
                Tensor::build(op, y.shape().clone(), |dx: &mut [T]| softmax::softmax_backward(y_data, dy, cut, dx))
            })
        })
    }

    /// `ln softmax(x)` along `dim`, without overflow or underflow: `y = x − max x − ln Σ exp(x − max x)`,
    /// `dx = dy − exp(y) · Σ dy`. PyTorch: `torch.log_softmax`.
    ///
    /// Errors: `dim` out of range; not a float dtype.
    pub fn log_softmax(&self, dim: impl Dim) -> Result<Tensor> {
        let op = "log_softmax";
        float_only(op, self)?;
        if self.rank() == 0 {
            return self.reshape(1)?.log_softmax(0)?.reshape(());
        }
        let dim = dim.index(op, self.shape())?;
        let (x, cut) = (self.detach().packed()?, cut(self.shape(), dim, dim + 1));
        let y = each_float!(op, self.dtype(), T => {
            let x = x.slice::<T>(op)?;
            Tensor::build(op, self.shape().clone(), |y: &mut [T]| softmax::log_softmax_forward(x, cut, y))?
        });
        record_with_output(op, y, &[self], move |y: &Tensor, dy: &Tensor| {
            if is_grad_enabled() {
                return dy.sub(&y.exp()?.mul(&dy.sum_keepdim(dim)?)?);
            }
            let dy = dy.packed()?;
            each_float!(op, y.dtype(), T => {
                let (y_data, dy) = (y.slice::<T>(op)?, dy.slice::<T>(op)?);
                Tensor::build(op, y.shape().clone(), |dx: &mut [T]| softmax::log_softmax_backward(y_data, dy, cut, dx))
            })
        })
    }
}
