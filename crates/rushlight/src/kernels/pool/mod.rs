//! Pooling over windows of 1 to 3 dims: maximum, average, and both with windows that adapt to an output size.
//!
//! Planes (batch × channels) of `[depth, height, width]`; with fewer dims the leading ones are 1. An output row is made
//! by passing along the input rows below it, one kernel place after the other, so every pass is a loop over
//! neighbouring outputs that the compiler can vectorise, whatever the kernel. Cost: one read of each input row per
//! kernel row that covers it.

mod adaptive;
mod average;
mod max;
#[cfg(test)]
mod testing;

use std::ops::Range;

pub(crate) use adaptive::{adaptive_avg_backward, adaptive_avg_forward, adaptive_max_forward};
pub(crate) use average::{avg_backward, avg_forward};
pub(crate) use max::{gather, max_forward, scatter};

use crate::kernels::parallel::GRAIN;

/// What a window covers: output `i` of a dim sees the places `i·stride − padding + k·dilation`, for `k` in `0..kernel`,
/// that lie inside the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolShape {
    /// Batch × channels.
    pub planes: usize,
    /// Depth, height, width.
    pub input: [usize; 3],
    /// As computed by the caller; the last windows may reach beyond the padded input (`ceil_mode`).
    pub output: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub padding: [usize; 3],
    pub dilation: [usize; 3],
}

impl PoolShape {
    fn in_size(&self) -> usize {
        self.input.iter().product()
    }

    fn out_size(&self) -> usize {
        self.output.iter().product()
    }

    /// Output rows that make one task.
    fn rows_per_task(&self) -> usize {
        let work = self.output[2] * self.kernel.iter().product::<usize>();
        (GRAIN / work.max(1)).max(1)
    }

    /// The plane of an output row, and its depth and height there.
    #[inline(always)]
    fn place(&self, row: usize) -> (usize, usize, usize) {
        let [depth, height, _] = self.output;
        (row / (depth * height), row / height % depth, row % height)
    }

    /// The places that output `i` of `dim` covers.
    #[inline(always)]
    fn places(&self, dim: usize, i: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, padding) = (i * self.stride[dim], self.padding[dim]);
        let (dilation, size) = (self.dilation[dim], self.input[dim]);
        (0..self.kernel[dim])
            .map(move |k| first + k * dilation)
            .filter(move |&p| p >= padding && p - padding < size)
            .map(
                #[inline(always)]
                move |p| p - padding,
            )
    }

    /// The input rows below output row `(d, h)` of a plane, as where they start in it.
    #[inline(always)]
    fn rows_below(&self, d: usize, h: usize) -> impl Iterator<Item = usize> + use<> {
        let (s, [_, height, width]) = (*self, self.input);
        self.places(0, d).flat_map(move |d| s.places(1, h).map(move |h| (d * height + h) * width))
    }

    /// How one kernel row passes along an input row.
    fn passes(&self) -> Vec<Pass> {
        let (stride, padding) = (self.stride[2], self.padding[2]);
        let (input, output, kernel) = (self.input[2], self.output[2], self.kernel[2]);
        let pass = |k: usize, of: Range<usize>| {
            let shift = k * self.dilation[2];
            let low = padding.saturating_sub(shift).div_ceil(stride).max(of.start);
            let high = (input + padding).saturating_sub(shift).div_ceil(stride).min(of.end);
            let outputs = low..high.max(low);
            let first = if outputs.is_empty() { 0 } else { low * stride + shift - padding };
            Pass { outputs, first, taps: 1 }
        };
        let all: Vec<Pass> = (0..kernel).map(|k| pass(k, 0..output)).collect();
        // Outputs that see every place of a narrow kernel take them in one step.
        let low = all.iter().map(|p| p.outputs.start).max().unwrap_or(0);
        let high = all.iter().map(|p| p.outputs.end).min().unwrap_or(0);
        let narrow = (2..=3).contains(&kernel) && self.dilation[2] == 1;
        let mut passes = if narrow && low < high {
            let inner = Pass { outputs: low..high, first: low * stride - padding, taps: kernel };
            let edges = (0..kernel).flat_map(|k| [pass(k, 0..low), pass(k, high..output)]);
            std::iter::once(inner).chain(edges).collect()
        } else {
            all
        };
        passes.retain(|p| !p.outputs.is_empty());
        passes
    }

    fn check(&self, x: usize, out: usize) {
        assert_eq!(x, self.planes * self.in_size());
        assert_eq!(out, self.planes * self.out_size());
        assert!(self.stride.iter().all(|&s| s > 0));
    }
}

/// Outputs that take `taps` neighbouring inputs each, the first of them from `first` on.
#[derive(Clone, Debug)]
struct Pass {
    outputs: Range<usize>,
    first: usize,
    taps: usize,
}

/// What the outputs of a pass do with its inputs.
trait Take<T> {
    /// Output `j` of the pass takes `values`, which lie at `column` and after it.
    fn take<const K: usize>(&mut self, j: usize, column: usize, values: [T; K]);
}

/// Runs a pass along the input row.
#[inline(always)]
fn run<T: Copy>(pass: &Pass, stride: usize, row: &[T], to: &mut impl Take<T>) {
    match (pass.taps, stride) {
        (2, 2) => steps::<T, 2>(pass, 2, row, to),
        (3, 1) => steps::<T, 3>(pass, 1, row, to),
        (3, 2) => steps::<T, 3>(pass, 2, row, to),
        (2, s) => steps::<T, 2>(pass, s, row, to),
        (3, s) => steps::<T, 3>(pass, s, row, to),
        (_, 1) => steps::<T, 1>(pass, 1, row, to),
        (_, 2) => steps::<T, 1>(pass, 2, row, to),
        (_, s) => steps::<T, 1>(pass, s, row, to),
    }
}

/// Inlined with a constant stride, so that strided reads become vector shuffles.
#[inline(always)]
fn steps<T: Copy, const K: usize>(pass: &Pass, stride: usize, row: &[T], to: &mut impl Take<T>) {
    let n = pass.outputs.len();
    assert!(n > 0 && row.len() >= pass.first + (n - 1) * stride + K);
    for j in 0..n {
        let column = pass.first + j * stride;
        // SAFETY: j ≤ n − 1 and k ≤ K − 1, so the place is below the length asserted above.
        let values: [T; K] = std::array::from_fn(|k| unsafe { *row.get_unchecked(column + k) });
        to.take(j, column, values);
    }
}
