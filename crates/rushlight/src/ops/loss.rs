//! Losses, as functions. Cross-entropy is log-softmax and the negative log-likelihood of the right class.

use crate::{DType, Error, Result, Tensor};

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
    /// Errors: a target outside `0..C`; shapes that do not fit.
    pub fn forward(&self, logits: &Tensor, target: &Tensor) -> Result<Tensor> {
        let op = "cross_entropy";
        let log_p = logits.log_softmax(class_dim(op, logits)?)?;
        if target.dtype().is_float() { self.soft(op, &log_p, target) } else { self.hard(op, &log_p, target) }
    }

    /// The same of log-probabilities: no softmax is taken.
    pub fn forward_log(&self, log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
        self.hard("nll_loss", log_p, target)
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
        let counts = target.ne(self.ignore_index)?;
        let targets = target.to_vec::<i64>()?;
        let bad = |t: &i64| *t != self.ignore_index && (*t < 0 || *t >= classes as i64);
        if let Some(i) = targets.iter().position(bad) {
            return Err(Error::invalid(op, format!("target {} at {i} is outside the {classes} classes", targets[i])));
        }
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

/// `−t·ln p − (1 − t)·ln(1 − p)`, the logarithms cut at −100 as PyTorch's. PyTorch: `F.binary_cross_entropy`.
pub fn binary_cross_entropy(p: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    same_shape("binary_cross_entropy", p, target)?;
    let log_p = p.log()?.clamp(-100.0, f64::INFINITY)?;
    let log_q = p.neg()?.log1p()?.clamp(-100.0, f64::INFINITY)?;
    reduction.apply(target.mul(&log_p)?.add(&target.neg()?.add(1.0)?.mul(&log_q)?)?.neg()?)
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

/// `d²/2` where `d = |x − t| < δ`, else `δ (d − δ/2)`. PyTorch: `F.huber_loss`. Source: Huber 1964.
pub fn huber_loss(x: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    same_shape("huber_loss", x, target)?;
    if delta.is_nan() || delta <= 0.0 {
        return Err(Error::invalid("huber_loss", format!("delta is {delta}; expected more than 0")));
    }
    let d = x.sub(target)?.abs()?;
    let (near, far) = (d.square()?.mul(0.5)?, d.sub(0.5 * delta)?.mul(delta)?);
    reduction.apply(d.lt(delta)?.where_cond(&near, &far)?)
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
