//! Cross-entropy: how many nats the right class is away from certain.
//!
//! ```text
//! loss = −Σ q_c ln p_c,  dx_c = dy · (p_c Σ q − q_c)      q_c = w_c · ((1 − ε) · [c = t] + ε/C)
//! ```
//!
//! with p the softmax of the logits x, t the target, w the class weights and ε the label smoothing. Logits `[N, C]` with
//! classes as targets take one operation, which keeps no matrix of probabilities; others are log-softmax and a choice.

use crate::autograd::{is_grad_enabled, record};
use crate::dtype::each_float;
use crate::kernels::cross_entropy::{self as kernel, Targets};
use crate::ops::loss::Reduction;
use crate::ops::reduce::float_only;
use crate::storage::Buffer;
use crate::{DType, Error, Float, Result, Shape, Tensor};

/// The options of [`cross_entropy`](crate::loss::cross_entropy) and [`nll_loss`](crate::loss::nll_loss). PyTorch: `nn.CrossEntropyLoss`, `nn.NLLLoss`.
///
/// ```
/// # use rushlight::{Tensor, loss::CrossEntropy};
/// let logits = Tensor::new([[2.0f32, 0.0], [0.0, 2.0]])?;
/// let smooth = CrossEntropy { label_smoothing: 0.1, ..CrossEntropy::default() };
/// let loss = smooth.forward(&logits, &Tensor::new([0i64, 1])?)?;
/// assert!((loss.item::<f32>()? - 0.2269).abs() < 1e-4);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// A factor for each class, `[C]`.
    pub weight: Option<Tensor>,
    /// Samples with this target do not count.
    pub ignore_index: i64,
    /// How much of the target is shared evenly among all classes.
    pub label_smoothing: f64,
    /// What becomes of the losses of the samples.
    pub reduction: Reduction,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        CrossEntropy { weight: None, ignore_index: -100, label_smoothing: 0.0, reduction: Reduction::Mean }
    }
}

impl CrossEntropy {
    /// Of logits `[N, C]` or `[N, C, d…]` (or `[C]`), with i64 class targets `[N]`, `[N, d…]`, or with a float
    /// distribution over the classes in the shape of the logits.
    ///
    /// `−Σ q_c ln softmax(x)_c` with `q_c = w_c · ((1 − ε) · [c = target] + ε/C)`, or with the given distribution in
    /// place of `[c = target]`. The mean divides by the sum of `w_target` over what is not ignored (of a
    /// distribution, by the number of samples); if all is ignored it is NaN, as in PyTorch.
    ///
    /// Errors: a target outside `0..C`; shapes that do not fit; a label smoothing outside [0, 1].
    pub fn forward(&self, logits: &Tensor, target: &Tensor) -> Result<Tensor> {
        let op = "cross_entropy";
        float_only(op, logits)?;
        let dim = class_dim(op, logits)?;
        self.check_smoothing(op)?;
        if target.dtype().is_float() {
            self.soft(op, &logits.log_softmax(dim)?, target)
        } else {
            self.hard(op, logits, target, true)
        }
    }

    /// The same of log-probabilities: no softmax is taken, no label smoothed. PyTorch: `F.nll_loss`.
    pub fn forward_log(&self, log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
        float_only("nll_loss", log_p)?;
        CrossEntropy { label_smoothing: 0.0, ..self.clone() }.hard("nll_loss", log_p, target, false)
    }

    fn soft(&self, op: &'static str, log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
        if target.shape() != log_p.shape() {
            let message = format!("soft targets of shape {} for logits of shape {}", target.shape(), log_p.shape());
            return Err(Error::invalid(op, message));
        }
        let dim = class_dim(op, log_p)?;
        let classes = log_p.dims()[dim];
        let mut q = target.mul(1.0 - self.label_smoothing)?.add(self.label_smoothing / classes as f64)?;
        if let Some(w) = self.class_weights(op, classes, log_p.dtype())? {
            q = q.mul(&along(&w, log_p, dim)?)?;
        }
        let losses = q.mul(log_p)?.sum(dim)?.neg()?;
        // The mean is over samples, whatever the weights.
        self.reduction.apply(losses)
    }

    /// `x` is logits, or log-probabilities.
    fn hard(&self, op: &'static str, x: &Tensor, target: &Tensor, logits: bool) -> Result<Tensor> {
        let dim = class_dim(op, x)?;
        let classes = x.dims()[dim];
        let weight = self.class_weights(op, classes, x.dtype())?;
        let target = self.class_targets(op, x.shape(), dim, target)?;
        let counts = target.ne(self.ignore_index)?;
        let zero = Tensor::zeros((), x.dtype())?;
        // An ignored target may be no class at all; it is looked up as class 0, and what comes of that is set to 0.
        let class = counts.where_cond(&target, &Tensor::zeros((), DType::I64)?)?;
        let weights = match &weight {
            Some(w) => {
                let w = w.index_select(0, &class.reshape(class.numel())?)?.reshape(target.shape())?;
                Some(counts.where_cond(&w, &zero)?)
            }
            None => None,
        };
        let constant = weight.as_ref().is_none_or(|w| !w.is_tracked());
        let losses = if logits && constant && x.rank() == 2 {
            self.rows(op, x.shape(), x.dtype(), &target)?.losses(x)?
        } else {
            let log_p = if logits { x.log_softmax(dim)? } else { x.clone() };
            let mut losses = log_p.gather(dim, &class.unsqueeze(dim)?)?.squeeze(dim)?.neg()?;
            if let Some(weights) = &weights {
                losses = losses.mul(weights)?;
            }
            if self.label_smoothing > 0.0 {
                let all = match &weight {
                    Some(w) => log_p.mul(&along(w, x, dim)?)?.sum(dim)?,
                    None => log_p.sum(dim)?,
                };
                let even = self.label_smoothing / classes as f64;
                losses = losses.mul(1.0 - self.label_smoothing)?.sub(&all.mul(even)?)?;
            }
            counts.where_cond(&losses, &zero)?
        };
        if self.reduction != Reduction::Mean {
            return self.reduction.apply(losses);
        }
        // A sum over many samples is more than an f16 holds.
        let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let sum = losses.to_dtype(wide)?.sum(..)?;
        let mean = match weights {
            Some(weights) => sum.div(&weights.to_dtype(wide)?.sum(..)?)?,
            None => sum.div(counts.sum(..)?.item::<f64>()?)?,
        };
        mean.to_dtype(x.dtype())
    }

    /// The targets, contiguous, each a class or `ignore_index`.
    fn class_targets(&self, op: &'static str, outputs: &Shape, dim: usize, target: &Tensor) -> Result<Tensor> {
        let shape = outputs.without(dim);
        if target.dtype() != DType::I64 || *target.shape() != shape {
            let (got, dtype) = (target.shape(), target.dtype());
            let message = format!("targets of shape {got} and dtype {dtype} for outputs of shape {outputs}");
            return Err(Error::invalid(op, format!("{message}; expected i64 of shape {shape}")));
        }
        let (target, classes) = (target.packed()?, outputs.dims()[dim]);
        let bad = |t: &i64| *t != self.ignore_index && (*t < 0 || *t >= classes as i64);
        let values = target.slice::<i64>(op)?;
        match values.iter().position(bad) {
            Some(i) => {
                Err(Error::invalid(op, format!("target {} at index {i} is outside the {classes} classes", values[i])))
            }
            None => Ok(target),
        }
    }

    /// The class weights `[C]` as the dtype of the outputs.
    fn class_weights(&self, op: &'static str, classes: usize, dtype: DType) -> Result<Option<Tensor>> {
        let Some(w) = &self.weight else { return Ok(None) };
        if w.dims() != [classes] {
            return Err(Error::invalid(op, format!("class weights of shape {} for {classes} classes", w.shape())));
        }
        w.to_dtype(dtype).map(Some)
    }

    pub(super) fn check_smoothing(&self, op: &'static str) -> Result<()> {
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::invalid(op, format!("label smoothing {} is outside [0, 1]", self.label_smoothing)));
        }
        Ok(())
    }

    /// What the loss of outputs `[N, C]` is made of beside them, checked.
    pub(super) fn rows(&self, op: &'static str, outputs: &Shape, dtype: DType, target: &Tensor) -> Result<Rows> {
        let classes = outputs.dims()[1];
        Ok(Rows {
            targets: self.class_targets(op, outputs, 1, target)?,
            weight: self.class_weights(op, classes, dtype)?.map(|w| w.packed()).transpose()?,
            classes,
            ignore_index: self.ignore_index,
            label_smoothing: self.label_smoothing,
        })
    }
}

/// `[C]` shaped to multiply outputs with the classes at `dim`.
fn along(w: &Tensor, x: &Tensor, dim: usize) -> Result<Tensor> {
    w.reshape((0..x.rank()).map(|d| if d == dim { w.numel() } else { 1 }).collect::<Shape>())
}

/// The classes are dim 1, or the only dim.
fn class_dim(op: &'static str, x: &Tensor) -> Result<usize> {
    match x.rank() {
        0 => Err(Error::invalid(op, "expected outputs of shape [N, C] or [N, C, …], got a scalar")),
        1 => Ok(0),
        _ => Ok(1),
    }
}

/// What the loss is made of beside the logits; all of it constant, and checked.
pub(super) struct Rows {
    /// i64 `[N]`, contiguous, each a class or `ignore_index`.
    targets: Tensor,
    /// `[C]`, contiguous, of the dtype of the logits.
    weight: Option<Tensor>,
    pub(super) classes: usize,
    ignore_index: i64,
    label_smoothing: f64,
}

const OP: &str = "cross_entropy";

impl Rows {
    /// What the mean divides by: Σ w_t over the targets that count.
    pub(super) fn total<T: Float>(&self) -> Result<f64> {
        let of = self.data::<T>()?;
        let weight = |&t: &i64| of.weight.map_or(1.0, |w| w[t as usize].to_f64());
        Ok(of.targets.iter().filter(|t| **t != self.ignore_index).map(weight).sum())
    }

    pub(super) fn data<T: Float>(&self) -> Result<Targets<'_, T>> {
        Ok(Targets {
            targets: self.targets.slice::<i64>(OP)?,
            classes: self.classes,
            weight: self.weight.as_ref().map(|w| w.slice::<T>(OP)).transpose()?,
            ignore_index: self.ignore_index,
            label_smoothing: self.label_smoothing,
        })
    }

    /// The loss of each row.
    fn losses(self, logits: &Tensor) -> Result<Tensor> {
        let x = logits.detach().packed()?;
        let (losses, lse) = each_float!(OP, x.dtype(), T => {
            let (x, of) = (x.slice::<T>(OP)?, self.data::<T>()?);
            let mut lse = Buffer::<f64>::try_scratch(self.targets.numel(), OP)?;
            let losses = Tensor::build(OP, self.targets.shape().clone(), |losses: &mut [T]| {
                kernel::forward(x, of, losses, &mut lse);
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
                    kernel::backward(logits, of, lse, scale, dx);
                })
            })
        })
    }

    /// `dx = dy · (p Σ q − q)`
    pub(super) fn rule(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
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
