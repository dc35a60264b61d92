//! Group norm: the statistics of each sample's group of channels, which lie in one row.

use super::{Dims, Parts, affine, at, line, run_sums, write};
use crate::kernels::math::Functions;
use crate::kernels::norm::{Stats, moments};
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Float, Real};

/// `y`, and each group's mean and rstd (`batch × groups` of them). PyTorch: `group_norm`.
pub(crate) fn group_norm_forward<T: Float>(
    x: &[T],
    (batch, channels, spatial): Dims,
    groups: usize,
    (weight, bias): (Option<&[T]>, Option<&[T]>),
    eps: f64,
    y: &mut [T],
    stats: &mut [Stats<T>],
) {
    assert!(x.len() == batch * channels * spatial && y.len() == x.len());
    assert!(groups > 0 && channels.is_multiple_of(groups) && stats.len() == batch * groups);
    let (size, n) = (channels / groups, channels / groups * spatial);
    let eps = T::Compute::of(eps);
    let per_task = (GRAIN / n.max(1)).max(1);
    parallel::chunks2((y, per_task * n), (stats, per_task), |task, y, stats| {
        let first = task * per_task;
        let x = &x[first * n..][..y.len()];
        dispatch(
            #[inline(always)]
            || {
                for (i, ((x, y), stats)) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)).zip(stats).enumerate() {
                    let (mean, var) = moments(x);
                    let rstd = T::Compute::ONE / (var + eps).sqrt();
                    *stats = [mean, rstd];
                    for (j, (x, y)) in x.chunks_exact(spatial).zip(y.chunks_exact_mut(spatial)).enumerate() {
                        let c = (first + i) % groups * size + j;
                        let scale = rstd * at(weight, c, T::Compute::ONE);
                        affine(x, mean, scale, at(bias, c, T::Compute::ZERO), y);
                    }
                }
            },
        );
    });
}

/// The gradients of [`group_norm_forward`].
#[allow(clippy::too_many_arguments)] // as many as the operation has inputs and gradients
pub(crate) fn group_norm_backward<T: Float>(
    (dy, x): (&[T], &[T]),
    (batch, channels, spatial): Dims,
    groups: usize,
    weight: Option<&[T]>,
    stats: &[Stats<T>],
    dx: &mut [T],
    dweight: Option<&mut [T]>,
    dbias: Option<&mut [T]>,
) {
    assert!(x.len() == batch * channels * spatial && dy.len() == x.len() && dx.len() == x.len());
    assert!(groups > 0 && channels.is_multiple_of(groups) && stats.len() == batch * groups);
    let (size, n) = (channels / groups, channels / groups * spatial);
    let count = T::Compute::of(n as f64);
    let per_task = (GRAIN / n.max(1)).max(1);
    let mut parts = Parts { sizes: vec![], values: vec![[T::Compute::ZERO; 2]; batch * channels], channels };
    parallel::chunks2((dx, per_task * n), (&mut parts.values, per_task * size), |task, dx, sums| {
        let first = task * per_task;
        let (dy, x) = (&dy[first * n..][..dx.len()], &x[first * n..][..dx.len()]);
        dispatch(
            #[inline(always)]
            || {
                let inputs = dy.chunks_exact(n).zip(x.chunks_exact(n)).zip(dx.chunks_exact_mut(n));
                for (i, (((dy, x), dx), sums)) in inputs.zip(sums.chunks_exact_mut(size)).enumerate() {
                    let [mean, rstd] = stats[first + i];
                    let first_channel = (first + i) % groups * size;
                    let weight = |j: usize| at(weight, first_channel + j, T::Compute::ONE);
                    let (mut sum, mut along) = (T::Compute::ZERO, T::Compute::ZERO);
                    let runs = dy.chunks_exact(spatial).zip(x.chunks_exact(spatial));
                    for (j, ((dy, x), sums)) in runs.clone().zip(sums).enumerate() {
                        *sums = run_sums(dy, x, [mean, rstd]);
                        sum += weight(j) * sums[0];
                        along += weight(j) * sums[1];
                    }
                    let (sum, along) = (-(rstd * sum / count), -(rstd * rstd * along / count));
                    for (j, ((dy, x), dx)) in runs.zip(dx.chunks_exact_mut(spatial)).enumerate() {
                        line(dy, x, mean, [rstd * weight(j), along, sum], dx);
                    }
                }
            },
        );
    });
    let sums = parts.sums();
    write(dbias, &sums, 0);
    write(dweight, &sums, 1);
}
