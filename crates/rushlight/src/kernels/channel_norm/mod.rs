//! Batch norm and group norm: `[batch, channels, spatial]`, with a weight and a bias per channel.
//!
//! ```text
//! batch: mean and var of each channel, over batch and spatial
//! group: of each sample's group of channels, and over spatial (groups = channels: instance norm)
//! x̂  = (x − mean) · rstd,  y = x̂ · w + b
//! dx = rstd · (g − mean g − x̂ · mean(g ∘ x̂)) with g = dy ∘ w;  dw = Σ dy ∘ x̂,  db = Σ dy
//! ```
//!
//! where the means go over the elements that the statistics are of. Each run of `spatial` elements, of one sample and
//! channel, is summed by itself, and the sums of runs combine in order, in f64; without a spatial dim, sums go down
//! the columns of some rows at a time instead. Cost: batch norm reads its inputs twice and writes once, group norm
//! once and once, if a group fits the cache.

mod batch;
mod group;

pub(crate) use batch::{batch_norm_backward, batch_norm_forward, batch_stats, rstd};
pub(crate) use group::{group_norm_backward, group_norm_forward};

use crate::kernels::lanes;
use crate::kernels::norm::Stats;
use crate::{Float, Real};

/// `[batch, channels, spatial]`
pub(crate) type Dims = (usize, usize, usize);

/// What a channel's elements are multiplied by or shifted by.
#[inline(always)]
fn at<T: Float>(of: Option<&[T]>, channel: usize, default: T::Compute) -> T::Compute {
    of.map_or(default, |of| of[channel].up())
}

/// `y = (x − mean) · scale + shift`
#[inline(always)]
fn affine<T: Float>(x: &[T], mean: T::Compute, scale: T::Compute, shift: T::Compute, y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = T::down((x.up() - mean) * scale + shift);
    }
}

/// `dx = dy · a + (x − mean) · b + c`
#[inline(always)]
fn line<T: Float>(dy: &[T], x: &[T], mean: T::Compute, [a, b, c]: [T::Compute; 3], dx: &mut [T]) {
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = T::down(dy.up() * a + (x.up() - mean) * b + c);
    }
}

/// `Σ dy` and `Σ dy ∘ x̂`
#[inline(always)]
fn run_sums<T: Float>(dy: &[T], x: &[T], [mean, rstd]: Stats<T>) -> [T::Compute; 2] {
    lanes::sums(
        dy,
        x,
        #[inline(always)]
        |dy, x| [dy.up(), dy.up() * ((x.up() - mean) * rstd)],
    )
}

/// Two sums of each channel, in parts: those of part `p` are `values[p · channels..]`.
struct Parts<C> {
    /// Elements of a channel in each part.
    sizes: Vec<f64>,
    values: Vec<[C; 2]>,
    channels: usize,
}

impl<C: Real> Parts<C> {
    /// The parts of a channel, each with its size.
    fn of(&self, channel: usize) -> impl Iterator<Item = (f64, [C; 2])> {
        let values = self.values.iter().skip(channel).step_by(self.channels);
        self.sizes.iter().copied().zip(values.copied())
    }

    /// The sums of each channel over all parts, in order.
    fn sums(&self) -> Vec<[f64; 2]> {
        let mut sums = vec![[0.0; 2]; self.channels];
        for part in self.values.chunks(self.channels.max(1)) {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum[0] += part[0].to_f64();
                sum[1] += part[1].to_f64();
            }
        }
        sums
    }
}

fn write<T: Float>(out: Option<&mut [T]>, sums: &[[f64; 2]], k: usize) {
    if let Some(out) = out {
        assert_eq!(out.len(), sums.len());
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = T::from_f64(sum[k]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::{Element, bf16, f16};

    fn random<T: Float>(n: usize, seed: u64, shift: f64) -> (Vec<T>, Vec<f64>) {
        let mut x = vec![T::default(); n];
        Generator::new(seed).fill_normal(&mut x, shift, 1.0);
        let wide = x.iter().map(|v| v.to_f64()).collect();
        (x, wide)
    }

    #[track_caller]
    fn close<T: Element>(what: &str, got: &[T], expected: &[f64], tolerance: f64) {
        assert_eq!(got.len(), expected.len());
        for (g, &e) in got.iter().zip(expected) {
            let g = g.to_f64();
            let near = g == e || (g - e).abs() <= tolerance * (1.0 + e.abs()) || g.is_nan() && e.is_nan();
            assert!(near, "{what}: {g} for {e}");
        }
    }

    struct Naive {
        mean: Vec<f64>,
        var: Vec<f64>,
        y: Vec<f64>,
        dx: Vec<f64>,
        dw: Vec<f64>,
        db: Vec<f64>,
    }

    /// By the definition, where `cell(i)` says which statistics element `i` belongs to, of `cells`.
    #[allow(clippy::too_many_arguments)]
    fn naive(
        x: &[f64],
        dy: &[f64],
        (_, channels, spatial): Dims,
        cells: usize,
        cell: impl Fn(usize) -> usize,
        w: &[f64],
        b: &[f64],
        eps: f64,
    ) -> Naive {
        let mut members = vec![vec![]; cells];
        (0..x.len()).for_each(|i| members[cell(i)].push(i));
        let mean_of = |k: usize, v: &dyn Fn(usize) -> f64| {
            members[k].iter().map(|&i| v(i)).sum::<f64>() / members[k].len() as f64
        };
        let channel = |i: usize| i / spatial % channels;
        let mean: Vec<f64> = (0..cells).map(|k| mean_of(k, &|i| x[i])).collect();
        let var: Vec<f64> = (0..cells).map(|k| mean_of(k, &|i| (x[i] - mean[k]).powi(2))).collect();
        let hat = |i: usize| (x[i] - mean[cell(i)]) / (var[cell(i)] + eps).sqrt();
        let g = |i: usize| dy[i] * w[channel(i)];
        let sum: Vec<f64> = (0..cells).map(|k| mean_of(k, &g)).collect();
        let along: Vec<f64> = (0..cells).map(|k| mean_of(k, &|i| g(i) * hat(i))).collect();
        let back = |i: usize| (g(i) - sum[cell(i)] - hat(i) * along[cell(i)]) / (var[cell(i)] + eps).sqrt();
        let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
        for i in 0..x.len() {
            dw[channel(i)] += dy[i] * hat(i);
            db[channel(i)] += dy[i];
        }
        let y = (0..x.len()).map(|i| hat(i) * w[channel(i)] + b[channel(i)]).collect();
        let dx = (0..x.len()).map(back).collect();
        Naive { mean, var, y, dx, dw, db }
    }

    fn check<T: Float>(dims: Dims, groups: usize, affine: bool, tolerance: f64) {
        let (batch, channels, spatial) = dims;
        let (n, eps) = (batch * channels * spatial, 1e-5);
        let ((x, x_wide), (dy, dy_wide)) = (random::<T>(n, 1, 0.5), random::<T>(n, 2, 0.0));
        let ((w, mut w_wide), (b, mut b_wide)) = (random::<T>(channels, 3, 1.0), random::<T>(channels, 4, 0.0));
        if !affine {
            (w_wide, b_wide) = (vec![1.0; channels], vec![0.0; channels]);
        }
        let (weight, bias) = (affine.then_some(&w[..]), affine.then_some(&b[..]));
        let nine = |n: usize| vec![T::from_f64(9.0); n];
        let (mut y, mut dx, mut dw, mut db) = (nine(n), nine(n), nine(channels), nine(channels));
        let sums = tolerance * ((batch * spatial) as f64).sqrt().max(1.0);

        let e = naive(&x_wide, &dy_wide, dims, channels, |i| i / spatial % channels, &w_wide, &b_wide, eps);
        let (mut mean, mut var) = (vec![T::Compute::ZERO; channels], vec![T::Compute::ZERO; channels]);
        batch_stats(&x, dims, &mut mean, &mut var);
        close("mean", &mean, &e.mean, tolerance);
        close("var", &var, &e.var, tolerance);
        let scale = rstd(&var, eps);
        batch_norm_forward(&x, dims, (&mean, &scale), (weight, bias), &mut y);
        close("y", &y, &e.y, tolerance);
        let stats = (&mean[..], &scale[..]);
        batch_norm_backward((&dy, &x), dims, stats, weight, true, &mut dx, Some(&mut dw), Some(&mut db));
        close("dx", &dx, &e.dx, tolerance);
        close("dw", &dw, &e.dw, sums);
        close("db", &db, &e.db, sums);
        // With running statistics: a map, whose slope is that of y.
        batch_norm_backward((&dy, &x), dims, stats, weight, false, &mut dx, None, None);
        let slope = |i: usize| scale[i / spatial % channels].to_f64() * w_wide[i / spatial % channels];
        close("map dx", &dx, &(0..n).map(|i| dy_wide[i] * slope(i)).collect::<Vec<_>>(), tolerance);

        let size = channels / groups;
        let cell = |i: usize| i / spatial / channels * groups + i / spatial % channels / size;
        let e = naive(&x_wide, &dy_wide, dims, batch * groups, cell, &w_wide, &b_wide, eps);
        let mut stats = vec![[T::Compute::ZERO; 2]; batch * groups];
        group_norm_forward(&x, dims, groups, (weight, bias), eps, &mut y, &mut stats);
        close("group y", &y, &e.y, tolerance);
        group_norm_backward((&dy, &x), dims, groups, weight, &stats, &mut dx, Some(&mut dw), Some(&mut db));
        close("group dx", &dx, &e.dx, tolerance);
        close("group dw", &dw, &e.dw, sums);
        close("group db", &db, &e.db, sums);
    }

    #[test]
    fn are_what_their_formulas_say() {
        let shapes = [
            ((2, 4, 5), 2),
            ((3, 6, 1), 3),
            ((5, 4, 130), 1),
            ((70, 3, 1), 1),
            ((2, 3, 9), 3),
            ((1, 2, 64), 1),
            ((12, 6, 700), 3),
            ((1500, 30, 1), 3),
        ];
        for (dims, groups) in shapes {
            for affine in [true, false] {
                check::<f64>(dims, groups, affine, 1e-11);
                check::<f32>(dims, groups, affine, 2e-5);
                check::<f16>(dims, groups, affine, 8e-3);
                check::<bf16>(dims, groups, affine, 5e-2);
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for dims in [(30, 6, 700), (9000, 10, 1)] {
            let (batch, channels, spatial) = dims;
            let n = batch * channels * spatial;
            let ((x, _), (dy, _)) = (random::<f32>(n, 1, 0.5), random::<f32>(n, 2, 0.0));
            let run = |threads: usize| {
                crate::set_num_threads(threads).unwrap();
                let (mut mean, mut var) = (vec![0f32; channels], vec![0f32; channels]);
                batch_stats(&x, dims, &mut mean, &mut var);
                let (mut dx, mut dw, mut db) = (vec![0f32; n], mean.clone(), mean.clone());
                let stats = (&mean[..], &var[..]);
                batch_norm_backward((&dy, &x), dims, stats, None, true, &mut dx, Some(&mut dw), Some(&mut db));
                [mean, var, dx, dw, db].concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            assert!(run(1) == run(3));
            crate::set_num_threads(0).unwrap();
            crate::set_num_threads(0).unwrap();
        }
    }

    #[test]
    fn many_parts_and_a_large_offset() {
        for dims in [(9000, 7, 1), (30, 2, 1500)] {
            let (batch, channels, spatial) = dims;
            let n = batch * channels * spatial;
            // Each channel half c + 1 above and half below 1000.
            let x: Vec<f32> = (0..n)
                .map(|i| (i / spatial % channels + 1) as f32 * [-1.0, 1.0][(i / spatial / channels + i % spatial) % 2])
                .map(|x| x + 1000.0)
                .collect();
            let (mut mean, mut var) = (vec![0f32; channels], vec![0f32; channels]);
            batch_stats(&x, dims, &mut mean, &mut var);
            close("mean", &mean, &vec![1000.0; channels], 1e-7);
            close("var", &var, &(0..channels).map(|c| ((c + 1) * (c + 1)) as f64).collect::<Vec<_>>(), 1e-6);
        }
    }

    #[test]
    fn empty_batches_have_no_statistics() {
        for dims in [(0, 2, 3), (2, 2, 0), (0, 2, 1)] {
            let (mut mean, mut var) = ([0f32; 2], [0f32; 2]);
            batch_stats::<f32>(&[], dims, &mut mean, &mut var);
            assert!(mean[0].is_nan() && var[1].is_nan());
            let (mut dw, mut db) = ([1f32; 2], [1f32; 2]);
            batch_norm_backward((&[], &[]), dims, (&mean, &var), None, true, &mut [], Some(&mut dw), Some(&mut db));
            let mut stats = vec![[0.0; 2]; dims.0];
            group_norm_forward::<f32>(&[], dims, 1, (None, None), 1e-5, &mut [], &mut stats);
            group_norm_backward((&[], &[]), dims, 1, None, &stats, &mut [], Some(&mut dw), Some(&mut db));
            assert_eq!((dw, db), ([0.0; 2], [0.0; 2]));
        }
    }

    #[test]
    fn nan_stays_in_its_channel() {
        let mut x: Vec<f32> = (0..12).map(|i| (i * i) as f32).collect();
        x[1] = f32::NAN;
        let (mut mean, mut var) = ([0f32; 2], [0f32; 2]);
        batch_stats(&x, (2, 2, 3), &mut mean, &mut var);
        assert!(mean[0].is_nan() && var[0].is_nan() && mean[1].is_finite() && var[1].is_finite());
    }
}
