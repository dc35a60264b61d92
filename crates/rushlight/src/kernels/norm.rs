//! Layer norm and RMS norm: each row of `[rows, n]` by its own mean and size.
//!
//! ```text
//! layer: x̂ = (x − mean) · rstd,  rstd = 1/√(var + ε)      RMS: x̂ = x · rstd,  rstd = 1/√(mean x² + ε)
//! y  = x̂ · w + b
//! dx = rstd · (g − mean g − x̂ · mean(g ∘ x̂)) with g = dy ∘ w   (RMS: without mean g)
//! dw = Σ dy ∘ x̂,  db = Σ dy   over the rows
//! ```
//!
//! The variance is the biased one, from differences to the mean. Mean and rstd of each row are kept for the gradient,
//! in the type that T is computed in. Cost: a row is read from memory once, and from cache as often as it takes;
//! backward the same for `x` and `dy`, with `dw` and `db` summed on the way, per chunk of rows and then over the chunks
//! in order.

use crate::kernels::lanes;
use crate::kernels::math::Functions;
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::{after, dispatch, while_next_comes};
use crate::kernels::stream;
use crate::{Float, Real};

/// Mean (0 for RMS norm) and `1 / √(size + ε)` of a row.
pub(crate) type Stats<T> = [<T as Float>::Compute; 2];

/// `y = x̂ · w + b`. PyTorch: `layer_norm`.
pub(crate) fn layer_norm_forward<T: Float>(
    x: &[T],
    n: usize,
    (weight, bias): (Option<&[T]>, Option<&[T]>),
    eps: f64,
    y: &mut [T],
    stats: &mut [Stats<T>],
) {
    forward::<T, true>(x, n, (weight, bias), eps, y, stats);
}

/// `y = x̂ · w`. PyTorch: `rms_norm`, whose ε is by default that of the dtype.
pub(crate) fn rms_norm_forward<T: Float>(
    x: &[T],
    n: usize,
    weight: Option<&[T]>,
    eps: f64,
    y: &mut [T],
    stats: &mut [Stats<T>],
) {
    forward::<T, false>(x, n, (weight, None), eps, y, stats);
}

/// `dx`, and `dweight` and `dbias` where they are wanted.
pub(crate) fn layer_norm_backward<T: Float>(
    (dy, x): (&[T], &[T]),
    n: usize,
    weight: Option<&[T]>,
    stats: &[Stats<T>],
    dx: &mut [T],
    dweight: Option<&mut [T]>,
    dbias: Option<&mut [T]>,
) {
    backward::<T, true>((dy, x), n, weight, stats, dx, dweight, dbias);
}

/// `dx`, and `dweight` where it is wanted.
pub(crate) fn rms_norm_backward<T: Float>(
    (dy, x): (&[T], &[T]),
    n: usize,
    weight: Option<&[T]>,
    stats: &[Stats<T>],
    dx: &mut [T],
    dweight: Option<&mut [T]>,
) {
    backward::<T, false>((dy, x), n, weight, stats, dx, dweight, None);
}

/// Mean and biased variance.
#[inline(always)]
pub(super) fn moments<T: Float>(x: &[T]) -> (T::Compute, T::Compute) {
    let count = T::Compute::of(x.len() as f64);
    let mean = lanes::sum(x, |x| x.up()) / count;
    let [rest, square] = lanes::sums(
        x,
        x,
        #[inline(always)]
        |x, _| {
            let d = x.up() - mean;
            [d, d * d]
        },
    );
    // What the first mean was rounded by is what the differences to it still sum to.
    let rest = rest / count;
    (mean + rest, (square / count - rest * rest).maximum(T::Compute::ZERO))
}

fn forward<T: Float, const CENTRE: bool>(
    x: &[T],
    n: usize,
    (weight, bias): (Option<&[T]>, Option<&[T]>),
    eps: f64,
    y: &mut [T],
    stats: &mut [Stats<T>],
) {
    assert!(x.len() == stats.len() * n && y.len() == x.len());
    assert!(weight.is_none_or(|w| w.len() == n) && bias.is_none_or(|b| b.len() == n));
    let (count, eps) = (T::Compute::of(n as f64), T::Compute::of(eps));
    let rows = (GRAIN / n.max(1)).max(1);
    parallel::chunks2((y, rows * n), (stats, rows), |task, y, stats| {
        let x = &x[task * rows * n..][..y.len()];
        dispatch(
            #[inline(always)]
            || {
                for ((x, y), stats) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)).zip(stats) {
                    let (mean, size) = if CENTRE {
                        moments(x)
                    } else {
                        (T::Compute::ZERO, lanes::sum(x, |x| x.up() * x.up()) / count)
                    };
                    let rstd = T::Compute::ONE / (size + eps).sqrt();
                    *stats = [mean, rstd];
                    while_next_comes(
                        n,
                        [after(x), after(y)],
                        #[inline(always)]
                        |at| {
                            let (x, y) = (&x[at.clone()], &mut y[at.clone()]);
                            match (weight.map(|w| &w[at.clone()]), bias.map(|b| &b[at])) {
                                (Some(w), Some(b)) => {
                                    for (((y, x), w), b) in y.iter_mut().zip(x).zip(w).zip(b) {
                                        *y = T::down((x.up() - mean) * rstd * w.up() + b.up());
                                    }
                                }
                                (Some(w), None) => {
                                    for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                                        *y = T::down((x.up() - mean) * rstd * w.up());
                                    }
                                }
                                (None, Some(b)) => {
                                    for ((y, x), b) in y.iter_mut().zip(x).zip(b) {
                                        *y = T::down((x.up() - mean) * rstd + b.up());
                                    }
                                }
                                (None, None) => {
                                    for (y, x) in y.iter_mut().zip(x) {
                                        *y = T::down((x.up() - mean) * rstd);
                                    }
                                }
                            }
                        },
                    );
                }
            },
        );
    });
}

fn backward<T: Float, const CENTRE: bool>(
    (dy, x): (&[T], &[T]),
    n: usize,
    weight: Option<&[T]>,
    stats: &[Stats<T>],
    dx: &mut [T],
    dweight: Option<&mut [T]>,
    dbias: Option<&mut [T]>,
) {
    assert!(x.len() == stats.len() * n && dy.len() == x.len() && dx.len() == x.len());
    assert!(weight.is_none_or(|w| w.len() == n));
    let count = T::Compute::of(n as f64);
    // Few chunks of many rows, since each has sums of its own for dweight and dbias.
    let rows = (GRAIN / n.max(1)).max(stats.len().div_ceil(64)).max(1);
    let mut parts = vec![T::Compute::ZERO; stats.len().div_ceil(rows) * 2 * n];
    let ones = weight.is_none().then(|| vec![T::from_f64(1.0); n]);
    let weight = weight.or(ones.as_deref()).unwrap_or_default();
    parallel::chunks2((dx, rows * n), (&mut parts, 2 * n), |task, dx, parts| {
        let (first, stats) = (task * rows * n, &stats[task * rows..]);
        let (dweight, dbias) = parts.split_at_mut(n);
        dispatch(
            #[inline(always)]
            || {
                stream::rows(
                    x.len(),
                    dx,
                    n,
                    #[inline(always)]
                    |at, dx| {
                        let (dy, x, [mean, rstd]) = (&dy[first + at..][..n], &x[first + at..][..n], stats[at / n]);
                        let sums = lanes::sums3(
                            dy,
                            x,
                            weight,
                            #[inline(always)]
                            |dy, x, w| {
                                let g = dy.up() * w.up();
                                [g, g * ((x.up() - mean) * rstd)]
                            },
                        );
                        let [sum, along] = sums.map(|s| s / count);
                        let sum = if CENTRE { sum } else { T::Compute::ZERO };
                        while_next_comes(
                            n,
                            [after(dy), after(x)],
                            #[inline(always)]
                            |at| {
                                let of = (&dy[at.clone()], &x[at.clone()], &weight[at.clone()]);
                                let (dx, dw, db) = (&mut dx[at.clone()], &mut dweight[at.clone()], &mut dbias[at]);
                                piece_backward(of, [mean, rstd], [sum, along], dx, dw, db);
                            },
                        );
                    },
                )
            },
        );
    });
    for (out, at) in [(dweight, 0), (dbias, n)] {
        let Some(out) = out else { continue };
        assert_eq!(out.len(), n);
        let mut total = vec![T::Compute::ZERO; n];
        for part in parts.chunks(2 * n.max(1)) {
            total.iter_mut().zip(&part[at..]).for_each(|(total, part)| *total += *part);
        }
        out.iter_mut().zip(total).for_each(|(out, total)| *out = T::down(total));
    }
}

/// `dx` of a piece of a row, given the means of `g` and `g ∘ x̂`, and what it adds to `dw` and `db`. A function of its own, since of
/// parameters the compiler knows that they do not overlap.
#[inline(always)]
fn piece_backward<T: Float>(
    (dy, x, weight): (&[T], &[T], &[T]),
    [mean, rstd]: Stats<T>,
    [sum, along]: Stats<T>,
    dx: &mut [T],
    dweight: &mut [T::Compute],
    dbias: &mut [T::Compute],
) {
    let n = dx.len();
    let (dy, x, weight, dweight, dbias) = (&dy[..n], &x[..n], &weight[..n], &mut dweight[..n], &mut dbias[..n]);
    for i in 0..n {
        let (dy, normal) = (dy[i].up(), (x[i].up() - mean) * rstd);
        dweight[i] += dy * normal;
        dbias[i] += dy;
        dx[i] = T::down(rstd * (dy * weight[i].up() - sum - normal * along));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::{bf16, f16};

    fn random(n: usize, seed: u64, shift: f64) -> Vec<f64> {
        let mut x = vec![0.0; n];
        Generator::new(seed).fill_normal(&mut x, shift, 1.0);
        x
    }

    #[track_caller]
    fn close<T: Float>(what: &str, got: &[T], expected: &[f64], tolerance: f64) {
        assert_eq!(got.len(), expected.len());
        for (g, &e) in got.iter().zip(expected) {
            let g = g.to_f64();
            let near = g == e || (g - e).abs() <= tolerance * (1.0 + e.abs()) || g.is_nan() && e.is_nan();
            assert!(near, "{what}: {g} for {e}");
        }
    }

    fn cast<T: Float>(x: &[f64]) -> (Vec<T>, Vec<f64>) {
        let x: Vec<T> = x.iter().map(|&v| T::from_f64(v)).collect();
        let wide = x.iter().map(|v| v.to_f64()).collect();
        (x, wide)
    }

    /// y, dx, dw and db in f64.
    fn naive(x: &[f64], dy: &[f64], n: usize, w: &[f64], b: &[f64], eps: f64, centre: bool) -> [Vec<f64>; 4] {
        let (mut y, mut dx, mut dw, mut db) = (vec![], vec![], vec![0.0; n], vec![0.0; n]);
        for (x, dy) in x.chunks(n.max(1)).zip(dy.chunks(n.max(1))) {
            let mean = if centre { x.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let rstd = 1.0 / (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64 + eps).sqrt();
            let hat: Vec<f64> = x.iter().map(|v| (v - mean) * rstd).collect();
            let g: Vec<f64> = dy.iter().zip(w).map(|(dy, w)| dy * w).collect();
            let sum = if centre { g.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let along = g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / n as f64;
            for i in 0..n {
                y.push(hat[i] * w[i] + b[i]);
                dx.push(rstd * (g[i] - sum - hat[i] * along));
                dw[i] += dy[i] * hat[i];
                db[i] += dy[i];
            }
        }
        [y, dx, dw, db]
    }

    fn check<T: Float>(rows: usize, n: usize, shift: f64, affine: (bool, bool), tolerance: f64) {
        let (x, x_wide) = cast::<T>(&random(rows * n, 1, shift));
        let (dy, dy_wide) = cast::<T>(&random(rows * n, 2, 0.0));
        let (mut w, mut w_wide) = cast::<T>(&random(n, 3, 1.0));
        let (mut b, mut b_wide) = cast::<T>(&random(n, 4, 0.0));
        if !affine.0 {
            (w, w_wide) = cast(&vec![1.0; n]);
        }
        if !affine.1 {
            (b, b_wide) = cast(&vec![0.0; n]);
        }
        let (weight, bias) = (affine.0.then_some(&w[..]), affine.1.then_some(&b[..]));
        let mut stats = vec![[T::Compute::ZERO; 2]; rows];
        let nine = || vec![T::from_f64(9.0); rows * n];
        let (mut y, mut dx, mut dw, mut db) = (nine(), nine(), b.clone(), w.clone());
        // Sums over many rows: their own scale.
        let sums = tolerance * (rows as f64).sqrt().max(1.0);

        let [y0, dx0, dw0, db0] = naive(&x_wide, &dy_wide, n, &w_wide, &b_wide, 1e-5, true);
        layer_norm_forward(&x, n, (weight, bias), 1e-5, &mut y, &mut stats);
        close("y", &y, &y0, tolerance);
        layer_norm_backward((&dy, &x), n, weight, &stats, &mut dx, Some(&mut dw), Some(&mut db));
        close("dx", &dx, &dx0, tolerance);
        close("dw", &dw, &dw0, sums);
        close("db", &db, &db0, sums);

        let zero = vec![0.0; n];
        let [y0, dx0, dw0, _] = naive(&x_wide, &dy_wide, n, &w_wide, &zero, 1e-6, false);
        rms_norm_forward(&x, n, weight, 1e-6, &mut y, &mut stats);
        close("rms y", &y, &y0, tolerance);
        rms_norm_backward((&dy, &x), n, weight, &stats, &mut dx, Some(&mut dw));
        close("rms dx", &dx, &dx0, tolerance);
        close("rms dw", &dw, &dw0, sums);
    }

    #[test]
    fn are_what_their_formulas_say() {
        for (rows, n) in [(3, 1), (1, 5), (7, 64), (5, 130), (300, 200), (2, 40_000), (0, 4), (4, 0)] {
            for affine in [(true, true), (true, false), (false, true), (false, false)] {
                check::<f64>(rows, n, 0.5, affine, 1e-11);
                // One element: its difference to its own mean is rounding alone, and ε all there is below it.
                check::<f32>(rows, n, 0.5, affine, 2e-5);
            }
            check::<f16>(rows, n, 0.5, (true, true), 5e-3);
            check::<bf16>(rows, n, 0.5, (true, true), 4e-2);
        }
    }

    #[test]
    fn an_offset_does_not_drown_the_variance() {
        check::<f64>(3, 500, 1e6, (true, true), 1e-8);
        let x: Vec<f32> = (0..4096).map(|i| 1e4 + (i % 2) as f32).collect();
        let (mut y, mut stats) = (vec![0f32; 4096], vec![[0.0; 2]]);
        layer_norm_forward(&x, 4096, (None, None), 0.0, &mut y, &mut stats);
        assert!(y.iter().enumerate().all(|(i, y)| (y - [-1.0, 1.0][i % 2]).abs() < 1e-6), "{:?}", &y[..2]);
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let _kept = crate::kernels::simd::testing::keep_level();
        let (rows, n) = (400, 300);
        let ((x, _), (dy, _)) = (cast::<f32>(&random(rows * n, 1, 0.5)), cast::<f32>(&random(rows * n, 2, 0.0)));
        let run = |threads: usize| {
            crate::set_num_threads(threads).unwrap();
            let (mut y, mut stats) = (vec![0f32; rows * n], vec![[0.0; 2]; rows]);
            let (mut dw, mut db) = (vec![0f32; n], vec![0f32; n]);
            layer_norm_forward(&x, n, (None, None), 1e-5, &mut y, &mut stats);
            let mut dx = y.clone();
            layer_norm_backward((&dy, &x), n, None, &stats, &mut dx, Some(&mut dw), Some(&mut db));
            [y, dx, dw, db].concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert!(run(1) == run(3));
        crate::set_num_threads(0).unwrap();
    }

    #[test]
    fn nan_stays_in_its_row() {
        let mut x = vec![1f32, 2.0, 3.0, 4.0, 5.0, 7.0];
        x[1] = f32::NAN;
        let (mut y, mut stats) = (vec![0f32; 6], vec![[0.0; 2]; 2]);
        layer_norm_forward(&x, 3, (None, None), 1e-5, &mut y, &mut stats);
        assert!(y[..3].iter().all(|y| y.is_nan()) && y[3..].iter().all(|y| y.is_finite()));
    }
}
