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

    /// For each output of `dim`, the first place that it covers and how many there are, `dilation` apart.
    fn spans(&self, dim: usize) -> Vec<(usize, usize)> {
        let (padding, dilation) = (self.padding[dim], self.dilation[dim]);
        let span = |i: usize| {
            let start = i * self.stride[dim];
            let before = padding.saturating_sub(start).div_ceil(dilation);
            let end = (self.input[dim] + padding).saturating_sub(start).div_ceil(dilation).min(self.kernel[dim]);
            if before < end { (start + before * dilation - padding, end - before) } else { (0, 0) }
        };
        (0..self.output[dim]).map(span).collect()
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
        assert!(self.stride.iter().chain(&self.dilation).all(|&s| s > 0));
    }
}

/// [`PoolShape::spans`] of depth and height: which input rows lie below an output row.
struct Rows {
    depth: Vec<(usize, usize)>,
    height: Vec<(usize, usize)>,
    dilation: (usize, usize),
    /// Elements in an input row, and rows in a slice of the depth.
    input: (usize, usize),
}

impl Rows {
    fn of(s: &PoolShape) -> Rows {
        Rows {
            depth: s.spans(0),
            height: s.spans(1),
            dilation: (s.dilation[0], s.dilation[1]),
            input: (s.input[2], s.input[1]),
        }
    }

    /// Runs `f` on each of them, given as where it starts in the plane.
    #[inline(always)]
    fn each(&self, d: usize, h: usize, mut f: impl FnMut(usize)) {
        let ((depth, depths), (height, heights)) = (self.depth[d], self.height[h]);
        for i in 0..depths {
            for j in 0..heights {
                let row = (depth + i * self.dilation.0) * self.input.1 + height + j * self.dilation.1;
                f(row * self.input.0);
            }
        }
    }

    /// The first of them.
    #[inline(always)]
    fn first_below(&self, d: usize, h: usize) -> Option<usize> {
        let ((depth, depths), (height, heights)) = (self.depth[d], self.height[h]);
        (depths > 0 && heights > 0).then_some((depth * self.input.1 + height) * self.input.0)
    }
}

/// Outputs that take `taps` neighbouring inputs each, the first of them from `first` on.
#[derive(Clone, Debug)]
struct Pass {
    outputs: Range<usize>,
    first: usize,
    taps: usize,
}

/// Runs `take(output, column, inputs)` along the input row for each output of the pass.
#[inline(always)]
fn run<T: Copy, O>(
    pass: &Pass,
    stride: usize,
    row: &[T],
    outputs: impl Iterator<Item = O>,
    take: impl Fn(O, usize, &[T]),
) {
    match (pass.taps, stride) {
        (2, 2) => steps::<T, O, 2>(pass, 2, row, outputs, take),
        (3, 1) => steps::<T, O, 3>(pass, 1, row, outputs, take),
        (3, 2) => steps::<T, O, 3>(pass, 2, row, outputs, take),
        (2, s) => steps::<T, O, 2>(pass, s, row, outputs, take),
        (3, s) => steps::<T, O, 3>(pass, s, row, outputs, take),
        (_, 1) => steps::<T, O, 1>(pass, 1, row, outputs, take),
        (_, 2) => steps::<T, O, 1>(pass, 2, row, outputs, take),
        (_, s) => steps::<T, O, 1>(pass, s, row, outputs, take),
    }
}

/// Inlined with a constant stride, so that strided reads become vector shuffles.
#[inline(always)]
fn steps<T: Copy, O, const K: usize>(
    pass: &Pass,
    stride: usize,
    row: &[T],
    outputs: impl Iterator<Item = O>,
    take: impl Fn(O, usize, &[T]),
) {
    let n = pass.outputs.len();
    assert!(n > 0 && row.len() >= pass.first + (n - 1) * stride + K);
    for (j, output) in (0..n).zip(outputs) {
        let column = pass.first + j * stride;
        // SAFETY: j ≤ n − 1 and k ≤ K − 1, so the place is below the length asserted above.
        let inputs: [T; K] = std::array::from_fn(|k| unsafe { *row.get_unchecked(column + k) });
        take(output, column, &inputs);
    }
}
