//! Cross-entropy: how many nats the right class is away from certain.

use crate::autograd::{is_grad_enabled, record};
use crate::dtype::each_float;
use crate::kernels::cross_entropy::{self as kernel, Targets};
use crate::ops::loss::Reduction;
use crate::{DType, Error, Float, Result, Tensor};

/// The options of [`cross_entropy`] and [`nll_loss`]. PyTorch: `nn.CrossEntropyLoss`, `nn.NLLLoss`.
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
    /// Errors: a target outside `0..C`; shapes that do not fit.
    pub fn forward(&self, logits: &Tensor, target: &Tensor) -> Result<Tensor> {
        let op = "cross_entropy";
        if logits.rank() == 2 && target.dtype() == DType::I64 {
            return self.rows(op, logits, target);
        }
        let log_p = logits.log_softmax(class_dim(op, logits)?)?;
        if target.dtype().is_float() { self.soft(op, &log_p, target) } else { self.hard(op, &log_p, target) }
    }

    /// The same of log-probabilities: no softmax is taken.
    pub fn forward_log(&self, log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
        self.hard("nll_loss", log_p, target)
    }

    /// `[N, C]` and `[N]`: the fused kernel, which keeps no matrix of probabilities.
    fn rows(&self, op: &'static str, logits: &Tensor, target: &Tensor) -> Result<Tensor> {
        let classes = logits.dims()[1];
        self.check_targets(op, logits, target, 1)?;
        let weight = match self.along_classes(op, logits)? {
            Some(w) => Some(w.detach().packed()?),
            None => None,
        };
        let (x, target) = (logits.detach().packed()?, target.packed()?);
        let (ignore_index, label_smoothing) = (self.ignore_index, self.label_smoothing);
        let mut lse = vec![0.0; target.numel()];
        let losses = each_float!(op, x.dtype(), T => {
            let weight = weight.as_ref().map(|w| w.slice::<T>(op)).transpose()?;
            let of = Targets { targets: target.slice::<i64>(op)?, classes, weight, ignore_index, label_smoothing };
            let x = x.slice::<T>(op)?;
            Tensor::build(op, target.shape().clone(), |loss: &mut [T]| kernel::forward(x, of, loss, &mut lse))?
        });
        let (saved, labels, class_weight) = (logits.clone(), target.clone(), weight.clone());
        let losses = record(op, losses, &[logits], move |dy| {
            if is_grad_enabled() {
                return composed_gradient(&saved, &labels, class_weight.as_ref(), ignore_index, label_smoothing, dy);
            }
            let (x, dy) = (saved.packed()?, dy.packed()?);
            each_float!(op, x.dtype(), T => {
                let weight = class_weight.as_ref().map(|w| w.slice::<T>(op)).transpose()?;
                let of = Targets { targets: labels.slice::<i64>(op)?, classes, weight, ignore_index, label_smoothing };
                let scale: Vec<_> = dy.slice::<T>(op)?.iter().map(|d| d.up()).collect();
                let x_data = x.slice::<T>(op)?;
                Tensor::build(op, x.shape().clone(), |dx: &mut [T]| kernel::backward(x_data, of, &lse, &scale, dx))
            })
        })?;
        if self.reduction != Reduction::Mean {
            return self.reduction.apply(losses);
        }
        let counts = target.ne(ignore_index)?.to_dtype(losses.dtype())?;
        let weights = match &weight {
            Some(w) => counts.mul(&picked(&w.reshape(classes)?, &target, ignore_index)?)?,
            None => counts,
        };
        losses.sum(..)?.div(&weights.sum(..)?)
    }

    fn soft(&self, op: &'static str, log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
        if target.shape() != log_p.shape() {
            let message = format!("soft targets of shape {} for logits of shape {}", target.shape(), log_p.shape());
            return Err(Error::invalid(op, message));
        }
        let dim = class_dim(op, log_p)?;
        let classes = log_p.dims()[dim];
        let smooth = target.mul(1.0 - self.label_smoothing)?.add(self.label_smoothing / classes as f64)?;
        let weighted = match self.along_classes(op, log_p)? {
            Some(w) => smooth.mul(&w)?,
            None => smooth,
        };
        let losses = weighted.mul(log_p)?.sum(dim)?.neg()?;
        match self.reduction {
            // The mean is over samples, whatever the weights.
            Reduction::Mean => losses.sum(..)?.div(losses.numel() as f64),
            other => other.apply(losses),
        }
    }

    fn hard(&self, op: &'static str, log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
        let dim = class_dim(op, log_p)?;
        self.check_targets(op, log_p, target, dim)?;
        let classes = log_p.dims()[dim];
        let counts = target.ne(self.ignore_index)?;
        // An ignored target may be no class at all; it is looked up as class 0, and its loss is then set to 0.
        let index = counts.where_cond(target, &Tensor::zeros((), DType::I64)?)?.unsqueeze(dim)?;
        let zero = Tensor::zeros((), log_p.dtype())?;
        let picked = log_p.gather(dim, &index)?.squeeze(dim)?.neg()?;
        let weights = match &self.weight {
            Some(w) => w.to_dtype(log_p.dtype())?.index_select(0, &index.reshape(-1)?)?.reshape(target.shape())?,
            None => picked.ones_like()?,
        };
        let weights = counts.where_cond(&weights, &zero)?;
        let mut losses = counts.where_cond(&picked.mul(&weights)?, &zero)?;
        if self.label_smoothing > 0.0 {
            let all = match self.along_classes(op, log_p)? {
                Some(w) => log_p.mul(&w)?.sum(dim)?,
                None => log_p.sum(dim)?,
            };
            let spread = counts.where_cond(&all.neg()?, &zero)?;
            let part = self.label_smoothing / classes as f64;
            losses = losses.mul(1.0 - self.label_smoothing)?.add(&spread.mul(part)?)?;
        }
        match self.reduction {
            Reduction::Mean => losses.sum(..)?.div(&weights.sum(..)?),
            other => other.apply(losses),
        }
    }

    /// i64, of the outputs' shape without the classes, each a class or ignored.
    fn check_targets(&self, op: &'static str, log_p: &Tensor, target: &Tensor, dim: usize) -> Result<()> {
        let classes = log_p.dims()[dim];
        if target.dtype() != DType::I64 || *target.shape() != log_p.shape().without(dim) {
            let message = format!(
                "targets of shape {} and dtype {} for outputs of shape {}; expected i64 of shape {}",
                target.shape(),
                target.dtype(),
                log_p.shape(),
                log_p.shape().without(dim)
            );
            return Err(Error::invalid(op, message));
        }
        let targets = target.to_vec::<i64>()?;
        let bad = |t: &i64| *t != self.ignore_index && (*t < 0 || *t >= classes as i64);
        if let Some(i) = targets.iter().position(bad) {
            return Err(Error::invalid(op, format!("target {} at {i} is outside the {classes} classes", targets[i])));
        }
        Ok(())
    }

    /// The class weights, shaped to multiply the outputs.
    fn along_classes(&self, op: &'static str, log_p: &Tensor) -> Result<Option<Tensor>> {
        let Some(w) = &self.weight else { return Ok(None) };
        let dim = class_dim(op, log_p)?;
        if w.dims() != [log_p.dims()[dim]] {
            let message = format!("class weights of shape {} for {} classes", w.shape(), log_p.dims()[dim]);
            return Err(Error::invalid(op, message));
        }
        let shape: Vec<usize> = (0..log_p.rank()).map(|d| if d == dim { w.numel() } else { 1 }).collect();
        w.to_dtype(log_p.dtype())?.reshape(shape).map(Some)
    }
}

/// The classes are dim 1, or the only dim.
fn class_dim(op: &'static str, x: &Tensor) -> Result<usize> {
    match x.rank() {
        0 => Err(Error::invalid(op, "expected outputs of shape [N, C] or [N, C, …], got a scalar")),
        1 => Ok(0),
        _ => Ok(1),
    }
}

/// `values[target]`, that of class 0 where the target is ignored.
fn picked(values: &Tensor, target: &Tensor, ignore_index: i64) -> Result<Tensor> {
    let index = target.ne(ignore_index)?.where_cond(target, &Tensor::zeros((), DType::I64)?)?;
    values.index_select(0, &index)
}

/// The gradient of the losses of the rows in tensor operations:
/// `dx = dy · [(1 − ε) w_t (p − hot) + ε/C (p Σw − w)]`, 0 where the target is ignored.
fn composed_gradient(
    logits: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    ignore_index: i64,
    smoothing: f64,
    dy: &Tensor,
) -> Result<Tensor> {
    let (classes, dtype) = (logits.dims()[1], logits.dtype());
    let p = logits.softmax(1)?;
    let ones = Tensor::ones(classes, dtype)?;
    let w = weight.map_or(Ok(ones), |w| w.reshape(classes))?;
    let counts = target.ne(ignore_index)?;
    let index = counts.where_cond(target, &Tensor::zeros((), DType::I64)?)?;
    let hot = index.one_hot(classes)?.to_dtype(dtype)?;
    let factor = picked(&w, target, ignore_index)?.mul(1.0 - smoothing)?.unsqueeze(1)?;
    let mut slope = p.sub(&hot)?.mul(&factor)?;
    if smoothing > 0.0 {
        let shared = p.mul(&w.sum(..)?)?.sub(&w)?.mul(smoothing / classes as f64)?;
        slope = slope.add(&shared)?;
    }
    counts.unsqueeze(1)?.where_cond(&slope.mul(&dy.unsqueeze(1)?)?, 0.0)
}
