//! Cross-entropy of logits `[rows, classes]` and class indices, with class weights and label smoothing, without
//! keeping the probabilities.
//!
//! With `l = ln Σ exp(x)` (so `ln p = x − l`), target `t`, weights `w` (else 1) and smoothing ε over C classes
//!
//! ```text
//! loss = (1 − ε) · w_t · (l − x_t) + ε/C · Σ w_c (l − x_c)
//! dx_c = scale · [ (1 − ε) · w_t · (p_c − [c = t]) + ε/C · (p_c Σ w − w_c) ]
//! ```
//!
//! and both 0 where the target is `ignore_index`, whatever the logits are. PyTorch: `cross_entropy(reduction="none")`; its mean divides the sum
//! of the losses by the sum of `w_t` over the targets that are not ignored. Cost: two reads of the logits forward, one
//! read and one write backward; where both are done at once, one read and one write for both.

use crate::kernels::lanes;
use crate::kernels::math::Functions;
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::kernels::softmax::exp_sum;
use crate::{Element, Float, Real};

/// What the loss is made of beside the logits.
#[derive(Clone, Copy)]
pub(crate) struct Targets<'a, T> {
    /// One class per row, checked by the caller to be in range or `ignore_index`.
    pub targets: &'a [i64],
    pub classes: usize,
    /// Of each class.
    pub weight: Option<&'a [T]>,
    pub ignore_index: i64,
    pub label_smoothing: f64,
}

impl<T: Float> Targets<'_, T> {
    /// Those of `count` rows from `from` on.
    pub(crate) fn only(self, from: usize, count: usize) -> Self {
        Targets { targets: &self.targets[from..][..count], ..self }
    }

    fn check(&self, logits: usize) {
        assert_eq!(logits, self.targets.len() * self.classes);
        self.weight.iter().for_each(|w| assert_eq!(w.len(), self.classes));
    }

    /// Rows that make one task.
    fn rows(&self) -> usize {
        (GRAIN / self.classes.max(1)).max(1)
    }

    /// The class of a row and the factor `(1 − ε) w_t` of its part of the loss; nothing where it is ignored.
    #[inline(always)]
    fn target(&self, row: usize) -> Option<(usize, T::Compute)> {
        let target = self.targets[row];
        if target == self.ignore_index {
            return None;
        }
        let weight = self.weight.map_or(T::Compute::ONE, |w| w[target as usize].up());
        Some((target as usize, T::Compute::of(1.0 - self.label_smoothing) * weight))
    }

    /// ε/C
    fn share(&self) -> T::Compute {
        T::Compute::of(self.label_smoothing / self.classes as f64)
    }

    /// Σ w
    fn all(&self) -> T::Compute {
        match self.weight {
            Some(w) => lanes::sum(w, |w| w.up()),
            None => T::Compute::of(self.classes as f64),
        }
    }

    /// The loss of the row x, whose largest element is m and `ln Σ exp(x − m)` is `log`.
    #[inline(always)]
    fn loss(&self, x: &[T], (m, log): (T::Compute, T::Compute), (target, factor): (usize, T::Compute)) -> T {
        // Not `l − x`: the large parts of the two cancel before anything is rounded.
        let mut total = factor * (m - x[target].up() + log);
        if self.label_smoothing != 0.0 {
            let all = match self.weight {
                Some(w) => lanes::sum2(x, w, |x, w| (m - x.up() + log) * w.up()),
                None => lanes::sum(x, |x| m - x.up() + log),
            };
            total += self.share() * all;
        }
        T::down(total)
    }
}

/// The loss of each row, and `ln Σ exp(x)` for the gradient: in f64, so that `exp(x − l)` is as exact for logits of a
/// thousand as for logits of one. Rows that are ignored have a loss of 0.
pub(crate) fn forward<T: Float>(logits: &[T], of: Targets<T>, loss: &mut [T], lse: &mut [f64]) {
    of.check(logits.len());
    assert!(loss.len() == of.targets.len() && lse.len() == of.targets.len());
    let (classes, rows) = (of.classes, of.rows());
    parallel::chunks2((loss, rows), (lse, rows), |task, loss, lse| {
        let mut e = vec![T::Compute::ZERO; classes];
        dispatch(
            #[inline(always)]
            || {
                for (r, (loss, lse)) in loss.iter_mut().zip(lse).enumerate() {
                    let row = task * rows + r;
                    (*loss, *lse) = (T::default(), 0.0);
                    let Some(target) = of.target(row) else { continue };
                    let x = &logits[row * classes..][..classes];
                    let m = lanes::max(x);
                    let log = exp_sum(x, m, &mut e, []).ln();
                    *loss = of.loss(x, (m, log), target);
                    *lse = m.to_f64() + log.to_f64();
                }
            },
        );
    });
}

/// `dx`, from what [`forward`] left in `lse`; `scale` is the gradient of each row's loss.
pub(crate) fn backward<T: Float>(logits: &[T], of: Targets<T>, lse: &[f64], scale: &[T::Compute], dx: &mut [T]) {
    of.check(logits.len());
    assert!(dx.len() == logits.len() && lse.len() == of.targets.len() && scale.len() == of.targets.len());
    let (classes, rows, share) = (of.classes, of.rows(), of.share());
    if classes == 0 {
        return;
    }
    let all = of.all();
    parallel::chunks(dx, rows * classes, |first, dx| {
        dispatch(
            #[inline(always)]
            || {
                for (r, dx) in dx.chunks_mut(classes).enumerate() {
                    let row = first / classes + r;
                    let Some((target, factor)) = of.target(row) else {
                        dx.fill(T::default());
                        continue;
                    };
                    let x = &logits[row * classes..][..classes];
                    // l in two parts, the second what the first is rounded by: x − l to its full precision.
                    let high = T::Compute::of(lse[row]);
                    let low = T::Compute::of(lse[row] - high.to_f64());
                    let low = if low.is_finite() { low } else { T::Compute::ZERO };
                    let (scale, smooth) = (scale[row], scale[row] * share);
                    let by = scale * factor + smooth * all;
                    match of.weight {
                        Some(w) => {
                            for ((dx, x), w) in dx.iter_mut().zip(x).zip(w) {
                                *dx = T::down((x.up() - high - low).exp_below() * by - smooth * w.up());
                            }
                        }
                        None => {
                            for (dx, x) in dx.iter_mut().zip(x) {
                                *dx = T::down((x.up() - high - low).exp_below() * by - smooth);
                            }
                        }
                    }
                    // Again from the logit, so that a half is rounded once.
                    let w = of.weight.map_or(T::Compute::ONE, |w| w[target].up());
                    let p = (x[target].up() - high - low).exp();
                    dx[target] = T::down(p * by - smooth * w - scale * factor);
                }
            },
        );
    });
}

/// [`forward`] and [`backward`] at once, the same `scale` for every row: the gradient takes the place of the logits.
pub(crate) fn forward_backward<T: Float>(logits: &mut [T], of: Targets<T>, scale: T::Compute, loss: &mut [T]) {
    of.check(logits.len());
    assert_eq!(loss.len(), of.targets.len());
    let (classes, rows, share, all) = (of.classes, of.rows(), of.share(), of.all());
    if classes == 0 {
        return loss.fill(T::default()); // every row is ignored
    }
    parallel::chunks2((loss, rows), (logits, rows * classes), |task, loss, logits| {
        let mut e = vec![T::Compute::ZERO; classes];
        dispatch(
            #[inline(always)]
            || {
                for (r, (loss, x)) in loss.iter_mut().zip(logits.chunks_mut(classes)).enumerate() {
                    let Some((target, factor)) = of.target(task * rows + r) else {
                        *loss = T::default();
                        x.fill(T::default());
                        continue;
                    };
                    let m = lanes::max(x);
                    let sum = exp_sum(x, m, &mut e, []);
                    *loss = of.loss(x, (m, sum.ln()), (target, factor));
                    let smooth = scale * share;
                    let by = (scale * factor + smooth * all) / sum;
                    match of.weight {
                        Some(w) => {
                            for ((x, &e), w) in x.iter_mut().zip(&e).zip(w) {
                                *x = T::down(e * by - smooth * w.up());
                            }
                        }
                        None => x.iter_mut().zip(&e).for_each(|(x, &e)| *x = T::down(e * by - smooth)),
                    }
                    // Again from the exponential, so that a half is rounded once.
                    let w = of.weight.map_or(T::Compute::ONE, |w| w[target].up());
                    x[target] = T::down(e[target] * by - smooth * w - scale * factor);
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::{bf16, f16};

    fn random(n: usize, seed: u64, low: f64, high: f64) -> Vec<f64> {
        let mut x = vec![0.0; n];
        Generator::new(seed).fill_uniform(&mut x, low, high);
        x
    }

    /// Losses and, for `scale`, gradients, from the matrix of probabilities.
    fn naive(x: &[f64], of: &Targets<f64>, scale: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (c, eps) = (of.classes, of.label_smoothing);
        let (mut losses, mut grads) = (vec![], vec![]);
        for (row, &target) in of.targets.iter().enumerate() {
            let x = &x[row * c..][..c];
            let m = x.iter().cloned().fold(f64::NEG_INFINITY, f64::max);
            let log = x.iter().map(|v| (v - m).exp()).sum::<f64>().ln();
            let log_p: Vec<f64> = x.iter().map(|v| v - m - log).collect();
            let mut q = vec![0.0; c]; // what the weighted log p are multiplied by
            if target != of.ignore_index {
                q.fill(eps / c as f64);
                q[target as usize] += 1.0 - eps;
                q.iter_mut().enumerate().for_each(|(i, q)| *q *= of.weight.map_or(1.0, |w| w[i]));
                losses.push(-log_p.iter().zip(&q).filter(|(_, q)| **q != 0.0).map(|(l, q)| l * q).sum::<f64>());
            } else {
                losses.push(0.0);
            }
            let all: f64 = q.iter().sum();
            // An ignored row of NaN has no part in the loss, and no gradient.
            let p = |l: f64| if target == of.ignore_index { 0.0 } else { l.exp() };
            grads.extend(log_p.iter().zip(&q).map(|(&l, q)| scale[row] * (p(l) * all - q)));
        }
        (losses, grads)
    }

    #[track_caller]
    fn close<T: Float>(got: &[T], expected: &[f64], tolerance: f64) {
        assert_eq!(got.len(), expected.len());
        for (g, &e) in got.iter().zip(expected) {
            let g = g.to_f64();
            assert!(g == e || (g - e).abs() <= tolerance * (1.0 + e.abs()) || g.is_nan() && e.is_nan(), "{g} for {e}");
        }
    }

    fn check<T: Float>(x: &[f64], of: Targets<f64>, tolerance: f64) {
        let cast = |x: &[f64]| x.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
        let wide = |x: &[T]| x.iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
        let (x, weight) = (cast(x), of.weight.map(cast));
        let rows = of.targets.len();
        let scale: Vec<f64> = (0..rows).map(|i| 1.0 - 0.5 * (i % 4) as f64).collect();
        let weight_wide = weight.as_deref().map(wide);
        let (losses, grads) = naive(&wide(&x), &Targets { weight: weight_wide.as_deref(), ..of }, &scale);

        let Targets { targets, classes, ignore_index, label_smoothing, .. } = of;
        let of = Targets { targets, classes, weight: weight.as_deref(), ignore_index, label_smoothing };
        let (mut loss, mut lse, mut dx) = (vec![T::from_f64(9.0); rows], vec![9.0; rows], x.clone());
        forward(&x, of, &mut loss, &mut lse);
        close(&loss, &losses, tolerance);
        let scale: Vec<T::Compute> = scale.into_iter().map(T::Compute::of).collect();
        backward(&x, of, &lse, &scale, &mut dx);
        close(&dx, &grads, tolerance);

        let (mut once, mut fused) = (vec![T::from_f64(9.0); rows], x.clone());
        forward_backward(&mut fused, of, T::Compute::of(-0.5), &mut once);
        backward(&x, of, &lse, &vec![T::Compute::of(-0.5); rows], &mut dx);
        close(&once, &losses, tolerance);
        close(&fused, &dx.iter().map(|v| v.to_f64()).collect::<Vec<_>>(), tolerance);
    }

    #[test]
    fn is_its_definition() {
        for (seed, (rows, classes)) in
            [(0, 3), (1, 1), (4, 3), (7, 200), (300, 150), (2, 70_000)].into_iter().enumerate()
        {
            let seed = seed as u64;
            let x = random(rows * classes, seed, -8.0, 8.0);
            let targets: Vec<i64> =
                (0..rows).map(|i| if i % 3 == 1 { -100 } else { (i * 7919 % classes) as i64 }).collect();
            let weight = random(classes, seed + 50, 0.1, 2.0);
            for (weight, label_smoothing) in
                [(None, 0.0), (Some(&weight[..]), 0.0), (None, 0.1), (Some(&weight[..]), 0.3), (None, 1.0)]
            {
                let of = Targets { targets: &targets, classes, weight, ignore_index: -100, label_smoothing };
                check::<f64>(&x, of, 1e-11);
                check::<f32>(&x, of, 1e-5);
                check::<f16>(&x, of, 2e-3);
                check::<bf16>(&x, of, 1e-2);
            }
        }
    }

    #[test]
    fn large_logits_keep_their_precision() {
        let x: Vec<f64> = (0..6).map(|i| 4000.0 + i as f64 * 0.5).collect();
        let of = Targets { targets: &[0, 2], classes: 3, weight: None, ignore_index: -1, label_smoothing: 0.1 };
        check::<f32>(&x, of, 3e-7);
    }

    #[test]
    fn infinities_and_nan_do_as_in_pytorch() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let of =
            |targets, label_smoothing| Targets { targets, classes: 3, weight: None, ignore_index: 7, label_smoothing };
        // Masked classes (p = 0), a loss of ∞, all masked, +∞, NaN; an ignored row may hold anything.
        let x = [1.0, -inf, 2.0, -inf, 0.0, 1.0, -inf, -inf, -inf, 1.0, inf, 0.0, nan, 0.0, 1.0, nan, nan, nan];
        check::<f32>(&x, of(&[0, 0, 1, 0, 1, 7], 0.0), 1e-6);
        check::<f64>(&x, of(&[0, 0, 1, 0, 1, 7], 0.2), 1e-12);
    }
}
