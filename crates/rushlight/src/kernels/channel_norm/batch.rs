//! Batch norm: the statistics of each channel, over batch and spatial; normalisation by them or by running ones.

use std::ops::Range;

use super::{Dims, Parts, affine, at, line, run_sums, write};
use crate::kernels::norm::moments;
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Element, Float, Real};

/// Mean and biased variance of each channel, what `batch_norm` trains with. NaN if there are no elements.
pub(crate) fn batch_stats<T: Float>(x: &[T], dims: Dims, mean: &mut [T::Compute], var: &mut [T::Compute]) {
    let (batch, channels, spatial) = dims;
    assert_eq!(x.len(), batch * channels * spatial);
    assert!(mean.len() == channels && var.len() == channels);
    let parts = parts::<T>(
        dims,
        #[inline(always)]
        |run| {
            let (mean, var) = moments(&x[run * spatial..][..spatial]);
            [mean, var * T::Compute::of(spatial as f64)]
        },
        #[inline(always)]
        |rows, mean, square| {
            let x = &x[rows.start * channels..rows.end * channels];
            for row in x.chunks_exact(channels) {
                mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x.up());
            }
            let scale = T::Compute::ONE / T::Compute::of(rows.len() as f64);
            mean.iter_mut().for_each(|mean| *mean *= scale);
            for row in x.chunks_exact(channels) {
                for ((square, mean), x) in square.iter_mut().zip(&*mean).zip(row) {
                    let d = x.up() - *mean;
                    *square += d * d;
                }
            }
        },
    );
    // Σ (x − mean)² of the whole from those of the parts. Source: Chan, Golub & LeVeque 1979.
    let count = (batch * spatial) as f64;
    for (c, (mean, var)) in mean.iter_mut().zip(var).enumerate() {
        let each = || parts.of(c).map(|(size, [mean, square])| (size, mean.to_f64(), square.to_f64()));
        let whole = each().map(|(size, mean, _)| size * mean).sum::<f64>() / count;
        let square: f64 = each().map(|(size, mean, square)| square + size * (mean - whole) * (mean - whole)).sum();
        (*mean, *var) = (T::Compute::of(whole), T::Compute::of(square / count));
    }
}

/// `1 / √(var + ε)`
pub(crate) fn rstd<C: Real>(var: &[C], eps: f64) -> Vec<C> {
    var.iter().map(|&v| C::ONE / (v + C::of(eps)).sqrt()).collect()
}

/// `y = (x − mean) · rstd · w + b`, with the statistics of the batch or running ones. PyTorch: `batch_norm`.
pub(crate) fn batch_norm_forward<T: Float>(
    x: &[T],
    dims: Dims,
    (mean, rstd): (&[T::Compute], &[T::Compute]),
    (weight, bias): (Option<&[T]>, Option<&[T]>),
    y: &mut [T],
) {
    let (batch, channels, spatial) = dims;
    assert_eq!(x.len(), batch * channels * spatial);
    assert!(y.len() == x.len() && mean.len() == channels && rstd.len() == channels);
    let scale: Vec<T::Compute> = (0..channels).map(|c| rstd[c] * at(weight, c, T::Compute::ONE)).collect();
    let shift: Vec<T::Compute> = (0..channels).map(|c| at(bias, c, T::Compute::ZERO)).collect();
    if spatial == 1 {
        rows(
            y,
            channels,
            #[inline(always)]
            |range, y| {
                for (x, y) in x[range].chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                    for ((((y, x), &mean), &scale), &shift) in y.iter_mut().zip(x).zip(mean).zip(&scale).zip(&shift) {
                        *y = T::down((x.up() - mean) * scale + shift);
                    }
                }
            },
        );
    } else {
        rows(
            y,
            spatial,
            #[inline(always)]
            |range, y| {
                let first = range.start / spatial;
                for (i, (x, y)) in x[range].chunks_exact(spatial).zip(y.chunks_exact_mut(spatial)).enumerate() {
                    let c = (first + i) % channels;
                    affine(x, mean[c], scale[c], shift[c], y);
                }
            },
        );
    }
}

/// The gradients of [`batch_norm_forward`], through the statistics too if they were of this batch.
#[allow(clippy::too_many_arguments)] // as many as the operation has inputs and gradients
pub(crate) fn batch_norm_backward<T: Float>(
    (dy, x): (&[T], &[T]),
    dims: Dims,
    (mean, rstd): (&[T::Compute], &[T::Compute]),
    weight: Option<&[T]>,
    through_stats: bool,
    dx: &mut [T],
    dweight: Option<&mut [T]>,
    dbias: Option<&mut [T]>,
) {
    let (batch, channels, spatial) = dims;
    assert!(x.len() == batch * channels * spatial && dy.len() == x.len() && dx.len() == x.len());
    assert!(mean.len() == channels && rstd.len() == channels);
    let parts = parts::<T>(
        dims,
        #[inline(always)]
        |run| {
            let (c, range) = (run % channels, run * spatial..(run + 1) * spatial);
            run_sums(&dy[range.clone()], &x[range], [mean[c], rstd[c]])
        },
        #[inline(always)]
        |rows, sum, along| {
            let range = rows.start * channels..rows.end * channels;
            for (dy, x) in dy[range.clone()].chunks_exact(channels).zip(x[range].chunks_exact(channels)) {
                let to = sum.iter_mut().zip(&mut *along).zip(mean.iter().zip(rstd));
                for (((sum, along), (&mean, &rstd)), (dy, x)) in to.zip(dy.iter().zip(x)) {
                    *sum += dy.up();
                    *along += dy.up() * ((x.up() - mean) * rstd);
                }
            }
        },
    );
    let sums = parts.sums();
    write(dbias, &sums, 0);
    write(dweight, &sums, 1);

    // dx = (dy − mean dy − x̂ · mean(dy ∘ x̂)) · rstd · w as a line in dy and x of each channel.
    let count = (batch * spatial) as f64;
    let lines: Vec<[T::Compute; 3]> = (0..channels)
        .map(|c| {
            let scale = rstd[c] * at(weight, c, T::Compute::ONE);
            let [sum, along] = sums[c].map(|s| T::Compute::of(if through_stats { s / count } else { 0.0 }));
            [scale, -(scale * rstd[c] * along), -(scale * sum)]
        })
        .collect();
    if spatial == 1 {
        rows(
            dx,
            channels,
            #[inline(always)]
            |range, dx| {
                let inputs = dy[range.clone()].chunks_exact(channels).zip(x[range].chunks_exact(channels));
                for ((dy, x), dx) in inputs.zip(dx.chunks_exact_mut(channels)) {
                    for ((((dx, dy), x), &mean), &[a, b, c]) in dx.iter_mut().zip(dy).zip(x).zip(mean).zip(&lines) {
                        *dx = T::down(dy.up() * a + (x.up() - mean) * b + c);
                    }
                }
            },
        );
    } else {
        rows(
            dx,
            spatial,
            #[inline(always)]
            |range, dx| {
                let first = range.start / spatial;
                let inputs = dy[range.clone()].chunks_exact(spatial).zip(x[range].chunks_exact(spatial));
                for (i, ((dy, x), dx)) in inputs.zip(dx.chunks_exact_mut(spatial)).enumerate() {
                    let c = (first + i) % channels;
                    line(dy, x, mean[c], lines[c], dx);
                }
            },
        );
    }
}

/// Runs `f(range of elements, piece)` on pieces of `out` of whole rows, each within the dispatched code.
fn rows<T: Float>(out: &mut [T], n: usize, f: impl Fn(Range<usize>, &mut [T]) + Sync) {
    parallel::chunks(out, (GRAIN / n.max(1)).max(1) * n, |first, out| {
        let range = first..first + out.len();
        dispatch(
            #[inline(always)]
            || f(range, out),
        );
    });
}

/// Sums each channel in parts: `run(i)` those of run `i`, of one sample and channel; or, without a spatial dim,
/// `down(rows, sums, sums)` those of all channels over some rows, into zeroed memory.
fn parts<T: Float>(
    (batch, channels, spatial): Dims,
    run: impl Fn(usize) -> [T::Compute; 2] + Sync,
    down: impl Fn(Range<usize>, &mut [T::Compute], &mut [T::Compute]) + Sync,
) -> Parts<T::Compute> {
    let zero = [T::Compute::ZERO; 2];
    if spatial != 1 {
        let mut values = vec![zero; if spatial == 0 { 0 } else { batch * channels }];
        parallel::chunks(&mut values, (GRAIN / spatial.max(1)).max(1), |first, values| {
            dispatch(
                #[inline(always)]
                || values.iter_mut().enumerate().for_each(|(i, value)| *value = run(first + i)),
            );
        });
        return Parts { sizes: vec![spatial as f64; batch], values, channels };
    }
    let rows = (GRAIN / channels.max(1)).max(batch.div_ceil(64)).max(1);
    let range = |part: usize| part * rows..((part + 1) * rows).min(batch);
    let count = batch.div_ceil(rows);
    let mut values = vec![zero; count * channels];
    parallel::chunks(&mut values, channels, |first, values| {
        let (mut a, mut b) = (vec![T::Compute::ZERO; channels], vec![T::Compute::ZERO; channels]);
        dispatch(
            #[inline(always)]
            || down(range(first / channels), &mut a, &mut b),
        );
        values.iter_mut().zip(a.iter().zip(&b)).for_each(|(value, (&a, &b))| *value = [a, b]);
    });
    Parts { sizes: (0..count).map(|part| range(part).len() as f64).collect(), values, channels }
}
