//! Learning-rate schedules: the factor on the optimizer's rate at each step, as plain functions of the step.

use std::f64::consts::PI;

/// How [`Schedule::OneCycle`] goes from one rate to the next.
#[derive(Clone, Copy, Debug, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    Cos,
    /// Along a line.
    Linear,
}

/// The learning rate as a function of the step, relative to a base rate.
///
/// ```
/// # use rushlight::optim::Schedule;
/// let schedule = Schedule::Cosine { warmup: 10, total: 110, end: 0.0 };
/// assert_eq!(schedule.factor(4), 5.0 / 11.0);
/// assert!((schedule.factor(60) - 0.5).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Schedule {
    /// Up along a line over `warmup` steps, then 1.
    Constant {
        /// Steps of warm-up: step `i` of them has factor `(i + 1)/(warmup + 1)`, hence never 0.
        warmup: usize,
    },
    /// Up over `warmup` steps, then down along a line to `end` at step `total`.
    Linear {
        /// Steps of warm-up.
        warmup: usize,
        /// All steps.
        total: usize,
        /// The last factor.
        end: f64,
    },
    /// Up over `warmup` steps, then down along half a cosine to `end` at step `total`.
    Cosine {
        /// Steps of warm-up.
        warmup: usize,
        /// All steps.
        total: usize,
        /// The last factor.
        end: f64,
    },
    /// Times `gamma` every `size` steps. PyTorch: `StepLR`.
    Step {
        /// Steps between two falls.
        size: usize,
        /// The factor at each.
        gamma: f64,
    },
    /// Up from `1/div` to 1 and down to `1/(div · final_div)`; the base is the highest rate. PyTorch: `OneCycleLR`.
    /// Source: Smith & Topin 2017.
    OneCycle {
        /// All steps.
        total: usize,
        /// The part of them that goes up; PyTorch's default is 0.3.
        pct_start: f64,
        /// The start is 1/div; PyTorch's default is 25.
        div: f64,
        /// The end is start/final_div; PyTorch's default is 1e4.
        final_div: f64,
        /// The way between.
        anneal: Anneal,
    },
}

impl Schedule {
    /// PyTorch's `OneCycleLR` with its defaults.
    pub fn one_cycle(total: usize) -> Schedule {
        Schedule::OneCycle { total, pct_start: 0.3, div: 25.0, final_div: 1e4, anneal: Anneal::Cos }
    }

    /// The factor at `step`, counted from 0.
    pub fn factor(&self, step: usize) -> f64 {
        let ramp = |warmup: usize| ((step + 1) as f64 / (warmup + 1) as f64).min(1.0);
        // From 0 at the end of warm-up to 1 at the last step.
        let progress = |warmup: usize, total: usize| {
            let span = total.saturating_sub(warmup).max(1) as f64;
            (step.saturating_sub(warmup) as f64 / span).min(1.0)
        };
        match *self {
            Schedule::Constant { warmup } => ramp(warmup),
            Schedule::Linear { warmup, .. } | Schedule::Cosine { warmup, .. } if step < warmup => ramp(warmup),
            Schedule::Linear { warmup, total, end } => 1.0 + (end - 1.0) * progress(warmup, total),
            Schedule::Cosine { warmup, total, end } => {
                end + (1.0 - end) * (1.0 + (PI * progress(warmup, total)).cos()) / 2.0
            }
            Schedule::Step { size, gamma } => gamma.powi((step / size.max(1)) as i32),
            Schedule::OneCycle { total, pct_start, div, final_div, anneal } => {
                let (start, last) = (1.0 / div, 1.0 / (div * final_div));
                let peak = (pct_start * total as f64 - 1.0).max(0.0);
                let end = total as f64 - 1.0;
                let step = (step as f64).min(end);
                let (from, to, at) = if step <= peak && peak > 0.0 {
                    (start, 1.0, step / peak)
                } else {
                    (1.0, last, ((step - peak) / (end - peak).max(f64::MIN_POSITIVE)).min(1.0))
                };
                match anneal {
                    Anneal::Cos => to + (from - to) / 2.0 * (1.0 + (PI * at).cos()),
                    Anneal::Linear => from + (to - from) * at,
                }
            }
        }
    }
}

/// Lowers the rate when a loss stops falling. PyTorch: `ReduceLROnPlateau(mode="min", threshold_mode="rel")`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReduceOnPlateau {
    /// The rate is multiplied by this.
    pub factor: f64,
    /// How many evaluations without an improvement are borne.
    pub patience: usize,
    /// What counts as an improvement: below `best · (1 − threshold)`.
    pub threshold: f64,
    /// Evaluations after a fall that do not count.
    pub cooldown: usize,
    /// The rate does not fall below this.
    pub min_lr: f64,
    /// The best loss so far; `None` before the first evaluation.
    pub best: Option<f64>,
    /// Evaluations since without an improvement.
    pub bad: usize,
    /// Evaluations left that do not count.
    pub cooling: usize,
}

impl Default for ReduceOnPlateau {
    fn default() -> Self {
        let best = None;
        ReduceOnPlateau {
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            cooldown: 0,
            min_lr: 0.0,
            best,
            bad: 0,
            cooling: 0,
        }
    }
}

impl ReduceOnPlateau {
    /// Takes in the loss of an evaluation and returns the rate to go on with.
    pub fn step(&mut self, loss: f64, lr: f64) -> f64 {
        let start = f64::INFINITY; // also for a first loss of NaN, which is no improvement
        if loss < self.best.unwrap_or(start) * (1.0 - self.threshold) {
            self.best = Some(loss);
            self.bad = 0;
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad <= self.patience {
            return lr;
        }
        self.cooling = self.cooldown;
        self.bad = 0;
        let new = (lr * self.factor).max(self.min_lr);
        // PyTorch leaves changes below its eps of 1e-8 out.
        if lr - new > 1e-8 { new } else { lr }
    }
}
