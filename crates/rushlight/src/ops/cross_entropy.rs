//! Cross-entropy of logits `[N, C]` and classes in one operation: no matrix of probabilities is kept.
//!
//! ```text
//! loss = −Σ q_c ln p_c,  dx_c = dy · (p_c Σ q − q_c)      q_c = w_c · ((1 − ε) · [c = t] + ε/C)
//! ```
//!
//! with p the softmax of the row; 0 where the target is ignored.

use crate::autograd::{is_grad_enabled, record};
use crate::dtype::each_float;
use crate::kernels::cross_entropy::{self, Targets};
use crate::storage::Buffer;
use crate::{DType, Float, Result, Tensor};

/// What the loss is made of beside the logits; all of it constant, and checked.
pub(super) struct Rows {
    /// i64 `[N]`, contiguous, each a class or `ignore_index`.
    pub targets: Tensor,
    /// `[C]`, contiguous, of the dtype of the logits.
    pub weight: Option<Tensor>,
    pub classes: usize,
    pub ignore_index: i64,
    pub label_smoothing: f64,
}

const OP: &str = "cross_entropy";

impl Rows {
    fn data<T: Float>(&self) -> Result<Targets<'_, T>> {
        Ok(Targets {
            targets: self.targets.slice::<i64>(OP)?,
            classes: self.classes,
            weight: self.weight.as_ref().map(|w| w.slice::<T>(OP)).transpose()?,
            ignore_index: self.ignore_index,
            label_smoothing: self.label_smoothing,
        })
    }

    /// The loss of each row.
    pub fn losses(self, logits: &Tensor) -> Result<Tensor> {
        let x = logits.detach().packed()?;
        let (losses, lse) = each_float!(OP, x.dtype(), T => {
            let (x, of) = (x.slice::<T>(OP)?, self.data::<T>()?);
            let mut lse = Buffer::<f64>::try_scratch(self.targets.numel(), OP)?;
            let losses = Tensor::build(OP, self.targets.shape().clone(), |losses: &mut [T]| {
                cross_entropy::forward(x, of, losses, &mut lse);
            })?;
            (losses, Tensor::from_buffer(lse, self.targets.shape().clone()))
        });
        let x = logits.clone();
        record(OP, losses, &[logits], move |dy| {
            if is_grad_enabled() {
                return self.rule(&x, dy);
            }
            let x = x.detach().packed()?;
            each_float!(OP, x.dtype(), T => {
                type C = <T as Float>::Compute;
                let scale = dy.to_dtype(<C as crate::Element>::DTYPE)?.packed()?;
                let (scale, lse) = (scale.slice::<C>(OP)?, lse.slice::<f64>(OP)?);
                let (logits, of) = (x.slice::<T>(OP)?, self.data::<T>()?);
                Tensor::build(OP, x.shape().clone(), |dx: &mut [T]| {
                    cross_entropy::backward(logits, of, lse, scale, dx);
                })
            })
        })
    }

    /// `dx = dy · (p Σ q − q)`
    fn rule(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let counts = self.targets.ne(self.ignore_index)?;
        let class = counts.where_cond(&self.targets, &Tensor::zeros((), DType::I64)?)?;
        let even = self.label_smoothing / self.classes as f64;
        let mut q = class.one_hot(self.classes)?.to_dtype(x.dtype())?.mul(1.0 - self.label_smoothing)?.add(even)?;
        if let Some(w) = &self.weight {
            q = q.mul(w)?;
        }
        let dx = x.softmax(1)?.mul(&q.sum_keepdim(1)?)?.sub(&q)?.mul(&dy.unsqueeze(1)?)?;
        counts.unsqueeze(1)?.where_cond(&dx, 0.0)
    }
}
