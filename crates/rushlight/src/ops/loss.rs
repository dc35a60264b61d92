//! Losses, as functions. Cross-entropy is log-softmax and the negative log-likelihood of the right class.

use crate::autograd::record;
use crate::ops::binary::{bce_with_logits, when_tracked};
pub use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::reduce::float_only;
use crate::{Error, Result, Tensor};

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
    pub(super) fn apply(self, losses: Tensor) -> Result<Tensor> {
        match self {
            Reduction::Mean => losses.mean(..),
            Reduction::Sum => losses.sum(..),
            Reduction::None => Ok(losses),
        }
    }
}

/// Cross-entropy of logits and targets with the default options: see [`CrossEntropy`]. PyTorch: `F.cross_entropy`.
///
/// ```
/// # use rushlight::{Tensor, loss::cross_entropy};
/// let logits = Tensor::new([[0.0f64, 0.0], [0.0, 3f64.ln()]])?;
/// let loss = cross_entropy(&logits, &Tensor::new([0i64, 1])?)?.item::<f64>()?;
/// assert!((loss - (2f64.ln() + (4f64 / 3.0).ln()) / 2.0).abs() < 1e-12);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn cross_entropy(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    CrossEntropy::default().forward(logits, target)
}

/// Cross-entropy of the logits `x Wᵀ`, which are never held whole, with the default options: see
/// [`CrossEntropy::linear`]. PyTorch: `F.linear_cross_entropy`.
///
/// ```
/// # use rushlight::{Tensor, loss::{cross_entropy, linear_cross_entropy}};
/// let x = Tensor::new([[1.0f64, 2.0], [0.5, -1.0]])?.requires_grad()?; // [N, in]
/// let w = Tensor::new([[0.3f64, 0.1], [-0.2, 0.4], [1.0, 0.0]])?.requires_grad()?; // [C, in]
/// let target = Tensor::new([2i64, 0])?;
/// let (loss, same) = (linear_cross_entropy(&x, &w, &target)?, cross_entropy(&x.linear(&w, None)?, &target)?);
/// assert!((loss.item::<f64>()? - same.item::<f64>()?).abs() < 1e-12);
/// let (grads, same) = (loss.backward()?, same.backward()?);
/// let apart = grads.get(&w).unwrap().sub(same.get(&w).unwrap())?.abs()?.amax(..)?.item::<f64>()?;
/// assert!(apart < 1e-12);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, target: &Tensor) -> Result<Tensor> {
    CrossEntropy::default().linear(x, weight, None, target)
}

/// The mean of `−log_p[target]`, for log-probabilities. PyTorch: `F.nll_loss`. Errors: as [`CrossEntropy`]'s.
///
/// ```
/// # use rushlight::{Tensor, loss::nll_loss};
/// let log_p = Tensor::new([[-1.0f32, -0.5], [-3.0, -0.1]])?;
/// assert_eq!(nll_loss(&log_p, &Tensor::new([1i64, 0])?)?.item::<f32>()?, 1.75);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn nll_loss(log_p: &Tensor, target: &Tensor) -> Result<Tensor> {
    CrossEntropy::default().forward_log(log_p, target)
}

/// `max(x, 0) − x·t + ln(1 + e^−|x|)`: stable at any logit. `pos_weight` multiplies the loss of positive targets,
/// `weight` every loss; both broadcast. PyTorch: `F.binary_cross_entropy_with_logits`. Errors: shapes that differ.
///
/// ```
/// # use rushlight::{Tensor, loss::{Reduction, binary_cross_entropy_with_logits}};
/// let (logits, target) = (Tensor::new([0.0f64, 1000.0])?, Tensor::new([1.0f64, 1.0])?);
/// let loss = binary_cross_entropy_with_logits(&logits, &target, None, None, Reduction::None)?;
/// assert_eq!(loss.to_vec::<f64>()?, [2f64.ln(), 0.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn binary_cross_entropy_with_logits(
    logits: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    pos_weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    let op = "binary_cross_entropy_with_logits";
    float_only(op, logits)?;
    same_shape(op, logits, target)?;
    let losses = match pos_weight {
        None => bce_with_logits(logits, target)?,
        // −w·t·ln σ(x) − (1 − t)·ln σ(−x), with ln σ(−x) = ln σ(x) − x.
        Some(w) => {
            let log_s = logits.log_sigmoid()?;
            let negative = target.neg()?.add(1.0)?.mul(&log_s.sub(logits)?)?;
            target.mul(&log_s)?.mul(w)?.add(&negative)?.neg()?
        }
    };
    reduction.apply(match weight {
        Some(w) => losses.mul(w)?,
        None => losses,
    })
}

/// `−t·ln p − (1 − t)·ln(1 − p)`, the logarithms cut at −100; `dp = (p − t) / max(p (1 − p), 1e-12) · dy`, both as
/// PyTorch's. `weight` multiplies the losses and broadcasts. PyTorch: `F.binary_cross_entropy`.
///
/// ```
/// # use rushlight::{Tensor, loss::{Reduction, binary_cross_entropy}};
/// let (p, target) = (Tensor::new([0.5f64, 0.25])?, Tensor::new([1.0f64, 0.0])?);
/// let loss = binary_cross_entropy(&p, &target, None, Reduction::Sum)?.item::<f64>()?;
/// assert!((loss - (-(0.5f64.ln()) - 0.75f64.ln())).abs() < 1e-12);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: a `p` outside [0, 1]; shapes that differ.
pub fn binary_cross_entropy(
    p: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
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
    reduction.apply(match weight {
        Some(w) => losses.mul(w)?,
        None => losses,
    })
}

/// `(x − t)²`. PyTorch: `F.mse_loss`. Errors: shapes that differ.
///
/// ```
/// # use rushlight::{Tensor, loss::{Reduction, mse_loss}};
/// let (x, t) = (Tensor::new([1.0f32, 5.0])?, Tensor::new([0.0f32, 2.0])?);
/// assert_eq!(mse_loss(&x, &t, Reduction::Mean)?.item::<f32>()?, 5.0);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn mse_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    same_shape("mse_loss", x, target)?;
    reduction.apply(x.sub(target)?.square()?)
}

/// `|x − t|`. PyTorch: `F.l1_loss`. Errors: shapes that differ.
///
/// ```
/// # use rushlight::{Tensor, loss::{Reduction, l1_loss}};
/// let (x, t) = (Tensor::new([1.0f32, 5.0])?, Tensor::new([0.0f32, 2.0])?);
/// assert_eq!(l1_loss(&x, &t, Reduction::Mean)?.item::<f32>()?, 2.0);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn l1_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    same_shape("l1_loss", x, target)?;
    reduction.apply(x.sub(target)?.abs()?)
}

/// `d²/(2β)` where `d = |x − t| < β`, else `d − β/2`. PyTorch: `F.smooth_l1_loss`. Errors: β below 0; shapes that differ.
///
/// ```
/// # use rushlight::{Tensor, loss::{Reduction, smooth_l1_loss}};
/// let (x, t) = (Tensor::new([0.5f32, 5.0])?, Tensor::new([0.0f32, 2.0])?);
/// assert_eq!(smooth_l1_loss(&x, &t, 1.0, Reduction::None)?.to_vec::<f32>()?, [0.125, 2.5]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn smooth_l1_loss(x: &Tensor, target: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
    if beta == 0.0 {
        return l1_loss(x, target, reduction);
    }
    if beta.is_nan() || beta < 0.0 {
        return Err(Error::invalid("smooth_l1_loss", format!("beta is {beta}; expected 0 or more")));
    }
    huber_loss(x, target, beta, Reduction::None)?.div(beta).and_then(|l| reduction.apply(l))
}

/// `d²/2` where `d = |x − t| < δ`, else `δ (d − δ/2)`; `dx = clamp(x − t, −δ, δ) · dy`. PyTorch: `F.huber_loss`.
/// Source: Huber 1964. Errors: δ not above 0; shapes that differ.
///
/// ```
/// # use rushlight::{Tensor, loss::{Reduction, huber_loss}};
/// let (x, t) = (Tensor::new([0.5f32, 5.0])?, Tensor::new([0.0f32, 2.0])?);
/// assert_eq!(huber_loss(&x, &t, 2.0, Reduction::None)?.to_vec::<f32>()?, [0.125, 4.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn huber_loss(x: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    same_shape("huber_loss", x, target)?;
    if delta.is_nan() || delta <= 0.0 {
        return Err(Error::invalid("huber_loss", format!("delta is {delta}; expected more than 0")));
    }
    float_only("huber_loss", x)?;
    let target = target.to_dtype(x.dtype())?;
    let d = x.detach().sub(target.detach())?.abs()?;
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
/// elements, as PyTorch's default does. PyTorch: `F.kl_div`. Errors: shapes that differ.
///
/// ```
/// # use rushlight::{Tensor, loss::{Reduction, kl_div}};
/// let (q, p) = (Tensor::new([[0.5f64, 0.5]])?, Tensor::new([[0.25f64, 0.75]])?);
/// let divergence = kl_div(&q.log()?, &p, false, true, Reduction::Sum)?.item::<f64>()?;
/// assert!((divergence - (0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln())).abs() < 1e-12);
/// # Ok::<(), rushlight::Error>(())
/// ```
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
