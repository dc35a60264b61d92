//! Losses, as functions. Cross-entropy is log-softmax and the negative log-likelihood of the right class.

use crate::autograd::record;
use crate::ops::binary::when_tracked;
use crate::ops::cross_entropy;
use crate::ops::reduce::float_only;
use crate::{DType, Error, Result, Shape, Tensor};

/// What becomes of the losses of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Their mean (weighted, where classes have weights).
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// They stay apart.
    None,
}

impl Reduction {
    fn apply(self, losses: Tensor) -> Result<Tensor> {
        match self {
            Reduction::Mean => losses.mean(..),
            Reduction::Sum => losses.sum(..),
            Reduction::None => Ok(losses),
        }
    }
}

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
    /// `−Σ q_c ln softmax(x)_c` with `q_c = w_c · ((1 − ε) · [c = target] + ε/C)`, or with the given distribution in
    /// place of `[c = target]`. The mean divides by the sum of `w_target` over what is not ignored (of a
    /// distribution, by the number of samples); if all is ignored it is NaN, as in PyTorch.
    ///
    /// Errors: a target outside `0..C`; shapes that do not fit; a label smoothing outside [0, 1].
    pub fn forward(&self, logits: &Tensor, target: &Tensor) -> Result<Tensor> {
        let op = "cross_entropy";
        float_only(op, logits)?;
        let dim = class_dim(op, logits)?;
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::invalid(op, format!("label smoothing {} is outside [0, 1]", self.label_smoothing)));
        }
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
        if let Some(w) = self.class_weights(op, log_p)? {
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
        let weight = self.class_weights(op, x)?;
        let target = self.class_targets(op, x, dim, target)?;
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
            let (ignore_index, label_smoothing) = (self.ignore_index, self.label_smoothing);
            let weight = weight.map(|w| w.packed()).transpose()?;
            cross_entropy::Rows { targets: target, weight, classes, ignore_index, label_smoothing }.losses(x)?
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
        match (self.reduction, weights) {
            (Reduction::Mean, Some(weights)) => losses.sum(..)?.div(&weights.sum(..)?),
            (Reduction::Mean, None) => losses.sum(..)?.div(counts.sum(..)?.item::<f64>()?),
            (other, _) => other.apply(losses),
        }
    }

    /// The targets, contiguous, each a class or `ignore_index`.
    fn class_targets(&self, op: &'static str, x: &Tensor, dim: usize, target: &Tensor) -> Result<Tensor> {
        let shape = x.shape().without(dim);
        if target.dtype() != DType::I64 || *target.shape() != shape {
            let (got, dtype) = (target.shape(), target.dtype());
            let message = format!("targets of shape {got} and dtype {dtype} for outputs of shape {}", x.shape());
            return Err(Error::invalid(op, format!("{message}; expected i64 of shape {shape}")));
        }
        let (target, classes) = (target.packed()?, x.dims()[dim]);
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
    fn class_weights(&self, op: &'static str, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(w) = &self.weight else { return Ok(None) };
        let classes = x.dims()[class_dim(op, x)?];
        if w.dims() != [classes] {
            return Err(Error::invalid(op, format!("class weights of shape {} for {classes} classes", w.shape())));
        }
        w.to_dtype(x.dtype()).map(Some)
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

/// Cross-entropy of logits and targets with the default options: see [`CrossEntropy`]. PyTorch: `F.cross_entropy`.
pub fn cross_entropy(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    CrossEntropy::default().forward(logits, target)
}

/// The mean of `−log_p[target]`, for log-probabilities. PyTorch: `F.nll_loss`.
pub fn nll_loss(log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
    CrossEntropy::default().forward_log(log_p, target)
}

/// `max(x, 0) − x·t + ln(1 + e^−|x|)`: stable at any logit. `pos_weight` multiplies the loss of positive targets,
/// `weight` every loss; both broadcast. PyTorch: `F.binary_cross_entropy_with_logits`.
pub fn binary_cross_entropy_with_logits(
    logits: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    pos_weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    same_shape("binary_cross_entropy_with_logits", logits, target)?;
    // −t·ln σ(x) − (1 − t)·ln σ(−x), with ln σ(−x) = ln σ(x) − x.
    let log_s = logits.log_sigmoid()?;
    let positive = target.mul(&log_s)?;
    let positive = match pos_weight {
        Some(w) => positive.mul(w)?,
        None => positive,
    };
    let negative = target.neg()?.add(1.0)?.mul(&log_s.sub(logits)?)?;
    let losses = positive.add(&negative)?.neg()?;
    reduction.apply(match weight {
        Some(w) => losses.mul(w)?,
        None => losses,
    })
}

/// `−t·ln p − (1 − t)·ln(1 − p)`, the logarithms cut at −100; `dp = (p − t) / max(p (1 − p), 1e-12) · dy`, both as
/// PyTorch's. PyTorch: `F.binary_cross_entropy`. Errors: a `p` outside [0, 1].
pub fn binary_cross_entropy(p: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    let op = "binary_cross_entropy";
    float_only(op, p)?;
    same_shape(op, p, target)?;
    if let Some(bad) = p.to_f64_vec()?.into_iter().find(|p| !(0.0..=1.0).contains(p)) {
        return Err(Error::invalid(op, format!("{bad} is no probability; for logits use {op}_with_logits")));
    }
    let target = target.to_dtype(p.dtype())?;
    let log_p = |p: &Tensor| p.log()?.clamp(-100.0, f64::INFINITY);
    let log_q = |p: &Tensor| p.neg()?.log1p()?.clamp(-100.0, f64::INFINITY);
    let (p0, t0) = (p.detach(), target.detach());
    let losses = t0.mul(&log_p(&p0)?)?.add(&t0.neg()?.add(1.0)?.mul(&log_q(&p0)?)?)?.neg()?;
    let (p0, t0) = (p.clone(), target.clone());
    let losses = record(op, losses, &[p, &target], move |dy| {
        // By operations on their own, the cut logarithm of 0 would give 0 · ∞.
        let dp = when_tracked(&p0, || {
            let spread = p0.mul(&p0.neg()?.add(1.0)?)?.clamp(1e-12, f64::INFINITY)?;
            dy.mul(&p0.sub(&t0)?.div(&spread)?)
        })?;
        Ok([dp, when_tracked(&t0, || dy.mul(&log_q(&p0)?.sub(&log_p(&p0)?)?))?])
    })?;
    reduction.apply(losses)
}

/// `(x − t)²`. PyTorch: `F.mse_loss`.
pub fn mse_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    same_shape("mse_loss", x, target)?;
    reduction.apply(x.sub(target)?.square()?)
}

/// `|x − t|`. PyTorch: `F.l1_loss`.
pub fn l1_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    same_shape("l1_loss", x, target)?;
    reduction.apply(x.sub(target)?.abs()?)
}

/// `d²/(2β)` where `d = |x − t| < β`, else `d − β/2`. PyTorch: `F.smooth_l1_loss`.
pub fn smooth_l1_loss(x: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
    if beta == 0.0 {
        return l1_loss(x, target, reduction);
    }
    if beta.is_nan() || beta < 0.0 {
        return Err(Error::invalid("smooth_l1_loss", format!("beta is {beta}; expected 0 or more")));
    }
    huber_loss(x, target, beta, Reduction::None)?.div(beta).and_then(|l| reduction.apply(l))
}

/// `d²/2` where `d = |x − t| < δ`, else `δ (d − δ/2)`; `dx = clamp(x − t, −δ, δ) · dy`. PyTorch: `F.huber_loss`. Source: Huber 1964.
pub fn huber_loss(x: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    same_shape("huber_loss", x, target)?;
    if delta.is_nan() || delta <= 0.0 {
        return Err(Error::invalid("huber_loss", format!("delta is {delta}; expected more than 0")));
    }
    float_only("huber_loss", x)?;
    let target = target.to_dtype(x.dtype())?;
    let d = x.detach().sub(&target.detach())?.abs()?;
    let (near, far) = (d.square()?.mul(0.5)?, d.sub(0.5 * delta)?.mul(delta)?);
    let losses = d.lt(delta)?.where_cond(&near, &far)?;
    let (x0, t0) = (x.clone(), target.clone());
    let losses = record("huber_loss", losses, &[x, &target], move |dy| {
        let dx = x0.sub(&t0)?.clamp(-delta, delta)?.mul(dy)?;
        Ok([Some(dx.clone()), when_tracked(&t0, || dx.neg())?])
    })?;
    reduction.apply(losses)
}

/// `t (ln t − x)` for log-probabilities `x`, where `t` is a probability or, with `log_target`, its logarithm.
///
/// `batch_mean` divides the sum by the number of rows, which is the divergence; [`Reduction::Mean`] divides by all
/// elements, as PyTorch's default does. PyTorch: `F.kl_div`.
pub fn kl_div(x: &Tensor, target: &Tensor, log_target: bool, batch_mean: bool, reduction: Reduction) -> Result<Tensor> {
    same_shape("kl_div", x, target)?;
    let losses = if log_target {
        target.exp()?.mul(&target.sub(x)?)?
    } else {
        // t ln t is 0 at 0.
        let some = target.gt(0.0)?;
        let safe = some.where_cond(target, &Tensor::ones((), target.dtype())?)?;
        target.mul(&safe.log()?)?.sub(&target.mul(x)?)?
    };
    if batch_mean {
        return losses.sum(..)?.div(x.dims().first().copied().unwrap_or(1) as f64);
    }
    reduction.apply(losses)
}

fn same_shape(op: &'static str, x: &Tensor, target: &Tensor) -> Result<()> {
    if x.shape() == target.shape() {
        return Ok(());
    }
    // PyTorch only warns, and broadcasts: [N, 1] against [N] gives an N × N loss that nobody meant.
    Err(Error::invalid(op, format!("input {} and target {} differ in shape", x.shape(), target.shape())))
}
