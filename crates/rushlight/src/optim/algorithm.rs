//! The update rules, one element at a time; the loop over elements is `kernels::optim`.

use super::Group;
use crate::kernels::math::Functions;
use crate::kernels::optim::update;
use crate::{Error, Float, Real, Result};

/// Stochastic gradient descent. PyTorch: `optim.SGD`.
///
/// `g += wd·p`; with momentum `b = μ·b + (1 − dampening)·g` (at first `b = g`), and `g = b`, with Nesterov
/// `g + μ·b`; then `p −= lr·g`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// μ
    pub momentum: f64,
    /// Damps the gradient's part in the momentum.
    pub dampening: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd { lr: 1e-3, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }
}

/// Adam. PyTorch: `optim.Adam`. Source: Kingma & Ba 2014.
///
/// `g += wd·p`; `m = β₁m + (1 − β₁)g`; `v = β₂v + (1 − β₂)g²`;
/// `p −= lr · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)`. With `amsgrad` the largest `v` so far takes the place of `v`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε
    pub eps: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Use the largest second moment so far (Reddi et al. 2018).
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, amsgrad: false }
    }
}

/// Adam with decoupled weight decay: `p −= lr·wd·p` first. PyTorch: `optim.AdamW`. Source: Loshchilov & Hutter 2017.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Use the largest second moment so far.
    pub amsgrad: bool,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 1e-2, amsgrad: false }
    }
}

/// RMSprop. PyTorch: `optim.RMSprop`. Source: Hinton's lecture 6e; the centred form Graves 2013.
///
/// `g += wd·p`; `v = αv + (1 − α)g²`; centred: `a = αa + (1 − α)g` and `v − a²` for `v`;
/// `u = g/(√v + ε)`; with momentum `b = μb + u`, `u = b`; `p −= lr·u`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RmsProp {
    /// Learning rate.
    pub lr: f64,
    /// α
    pub alpha: f64,
    /// ε
    pub eps: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// μ
    pub momentum: f64,
    /// Divide by the variance instead of the second moment.
    pub centered: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        RmsProp { lr: 1e-2, alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

/// Adagrad. PyTorch: `optim.Adagrad`. Source: Duchi et al. 2011.
///
/// `g += wd·p`; `s += g²`; `p −= lr/(1 + (t − 1)·lr_decay) · g/(√s + ε)`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Adagrad {
    /// Learning rate.
    pub lr: f64,
    /// How fast it falls.
    pub lr_decay: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Where the sum of squares starts.
    pub initial_accumulator_value: f64,
    /// ε
    pub eps: f64,
}

impl Default for Adagrad {
    fn default() -> Self {
        Adagrad { lr: 1e-2, lr_decay: 0.0, weight_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10 }
    }
}

/// One of the five, as a value that can be saved with a run.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Algorithm {
    Sgd(Sgd),
    Adam(Adam),
    AdamW(AdamW),
    RmsProp(RmsProp),
    Adagrad(Adagrad),
}

macro_rules! each {
    ($self:expr, $a:ident => $body:expr) => {
        match $self {
            Algorithm::Sgd($a) => $body,
            Algorithm::Adam($a) => $body,
            Algorithm::AdamW($a) => $body,
            Algorithm::RmsProp($a) => $body,
            Algorithm::Adagrad($a) => $body,
        }
    };
}

macro_rules! from {
    ($($Name:ident),*) => {$(
        impl From<$Name> for Algorithm {
            fn from(a: $Name) -> Algorithm {
                Algorithm::$Name(a)
            }
        }
    )*};
}
from!(Sgd, Adam, AdamW, RmsProp, Adagrad);

impl Algorithm {
    pub(super) fn lr(&self) -> f64 {
        each!(self, a => a.lr)
    }

    pub(super) fn set_lr(&mut self, lr: f64) {
        each!(self, a => a.lr = lr)
    }

    /// The same with a group's settings.
    pub(super) fn with(&self, group: &Group) -> Algorithm {
        let mut out = *self;
        each!(&mut out, a => {
            a.lr *= group.lr_scale.unwrap_or(1.0);
            a.weight_decay = group.weight_decay.unwrap_or(a.weight_decay);
        });
        out
    }

    /// The names of the buffers it keeps for each parameter.
    pub(super) fn buffers(&self) -> &'static [&'static str] {
        match self {
            Algorithm::Sgd(a) if a.momentum == 0.0 => &[],
            Algorithm::Sgd(_) => &["momentum_buffer"],
            Algorithm::Adam(Adam { amsgrad: true, .. }) | Algorithm::AdamW(AdamW { amsgrad: true, .. }) => {
                &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
            }
            Algorithm::Adam(_) | Algorithm::AdamW(_) => &["exp_avg", "exp_avg_sq"],
            Algorithm::RmsProp(a) => match (a.centered, a.momentum > 0.0) {
                (false, false) => &["square_avg"],
                (true, false) => &["square_avg", "grad_avg"],
                (false, true) => &["square_avg", "momentum_buffer"],
                (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
            },
            Algorithm::Adagrad(_) => &["sum"],
        }
    }

    /// What each of them starts as.
    pub(super) fn start(&self) -> Vec<f64> {
        match self {
            Algorithm::Adagrad(a) => vec![a.initial_accumulator_value],
            _ => vec![0.0; self.buffers().len()],
        }
    }

    /// Update number `step` (from 1) of one parameter.
    pub(super) fn apply<T: Float>(&self, step: i64, p: &mut [T], g: &[T], states: Vec<&mut [T]>) -> Result<()> {
        if p.len() != g.len() {
            let message = format!("a parameter of {} elements and a gradient of {} differ", p.len(), g.len());
            return Err(Error::invalid("step", message));
        }
        match *self {
            Algorithm::Sgd(a) => a.apply(step, p, g, states),
            Algorithm::Adam(a) => adam(
                AdamW { lr: a.lr, betas: a.betas, eps: a.eps, weight_decay: 0.0, amsgrad: a.amsgrad },
                a.weight_decay,
                step,
                p,
                g,
                states,
            ),
            Algorithm::AdamW(a) => adam(a, 0.0, step, p, g, states),
            Algorithm::RmsProp(a) => a.apply(p, g, states),
            Algorithm::Adagrad(a) => a.apply(step, p, g, states),
        }
    }
}

/// The states as an array; an error where a loaded state has another number of them.
fn known<const N: usize, T>(states: Vec<&mut [T]>) -> Result<[&mut [T]; N]> {
    let got = states.len();
    states.try_into().map_err(|_| Error::invalid("step", format!("expected {N} state buffers, got {got}")))
}

impl Sgd {
    fn apply<T: Float>(&self, step: i64, p: &mut [T], g: &[T], states: Vec<&mut [T]>) -> Result<()> {
        let (lr, mu, wd) = (T::Compute::of(self.lr), T::Compute::of(self.momentum), T::Compute::of(self.weight_decay));
        if self.momentum == 0.0 {
            update(p, g, known::<0, T>(states)?, |p, g, []| (p - lr * (g + wd * p), []));
            return Ok(());
        }
        // The first momentum is the first gradient itself, undamped.
        let (keep, take) = if step == 1 { (0.0, 1.0) } else { (self.momentum, 1.0 - self.dampening) };
        let (keep, take, nesterov) = (T::Compute::of(keep), T::Compute::of(take), self.nesterov);
        update(p, g, known::<1, T>(states)?, |p, g, [b]| {
            let g = g + wd * p;
            let b = keep * b + take * g;
            (p - lr * if nesterov { g + mu * b } else { b }, [b])
        });
        Ok(())
    }
}

/// Adam with `l2` added to the gradient, and `a.weight_decay` decoupled.
fn adam<T: Float>(a: AdamW, l2: f64, step: i64, p: &mut [T], g: &[T], states: Vec<&mut [T]>) -> Result<()> {
    let c = T::Compute::of;
    let (b1, b2) = a.betas;
    let (fix1, fix2) = (1.0 - b1.powf(step as f64), (1.0 - b2.powf(step as f64)).sqrt());
    let (shrink, l2, eps) = (c(1.0 - a.lr * a.weight_decay), c(l2), c(a.eps));
    let (b1, take1, b2, take2) = (c(b1), c(1.0 - b1), c(b2), c(1.0 - b2));
    let (rate, unfix2) = (c(a.lr / fix1), c(1.0 / fix2));
    let moments = |p: T::Compute, g: T::Compute, m: T::Compute, v: T::Compute| {
        let g = g + l2 * p;
        (p * shrink, b1 * m + take1 * g, b2 * v + take2 * (g * g))
    };
    if a.amsgrad {
        update(p, g, known::<3, T>(states)?, |p, g, [m, v, top]| {
            let (p, m, v) = moments(p, g, m, v);
            let top = top.maximum(v);
            (p - rate * m / (top.sqrt() * unfix2 + eps), [m, v, top])
        });
    } else {
        update(p, g, known::<2, T>(states)?, |p, g, [m, v]| {
            let (p, m, v) = moments(p, g, m, v);
            (p - rate * m / (v.sqrt() * unfix2 + eps), [m, v])
        });
    }
    Ok(())
}

impl RmsProp {
    fn apply<T: Float>(&self, p: &mut [T], g: &[T], states: Vec<&mut [T]>) -> Result<()> {
        let c = T::Compute::of;
        let (lr, mu, wd, eps) = (c(self.lr), c(self.momentum), c(self.weight_decay), c(self.eps));
        let (keep, take) = (c(self.alpha), c(1.0 - self.alpha));
        match (self.centered, self.momentum > 0.0) {
            (false, false) => update(p, g, known::<1, T>(states)?, |p, g, [v]| {
                let g = g + wd * p;
                let v = keep * v + take * (g * g);
                (p - lr * g / (v.sqrt() + eps), [v])
            }),
            (true, false) => update(p, g, known::<2, T>(states)?, |p, g, [v, a]| {
                let g = g + wd * p;
                let (v, a) = (keep * v + take * (g * g), keep * a + take * g);
                (p - lr * g / ((v - a * a).sqrt() + eps), [v, a])
            }),
            (false, true) => update(p, g, known::<2, T>(states)?, |p, g, [v, b]| {
                let g = g + wd * p;
                let v = keep * v + take * (g * g);
                let b = mu * b + g / (v.sqrt() + eps);
                (p - lr * b, [v, b])
            }),
            (true, true) => update(p, g, known::<3, T>(states)?, |p, g, [v, a, b]| {
                let g = g + wd * p;
                let (v, a) = (keep * v + take * (g * g), keep * a + take * g);
                let b = mu * b + g / ((v - a * a).sqrt() + eps);
                (p - lr * b, [v, a, b])
            }),
        }
        Ok(())
    }
}

impl Adagrad {
    fn apply<T: Float>(&self, step: i64, p: &mut [T], g: &[T], states: Vec<&mut [T]>) -> Result<()> {
        let c = T::Compute::of;
        let rate = c(self.lr / (1.0 + (step - 1) as f64 * self.lr_decay));
        let (wd, eps) = (c(self.weight_decay), c(self.eps));
        update(p, g, known::<1, T>(states)?, |p, g, [s]| {
            let g = g + wd * p;
            let s = s + g * g;
            (p - rate * g / (s.sqrt() + eps), [s])
        });
        Ok(())
    }
}
