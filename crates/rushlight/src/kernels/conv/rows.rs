//! Sums along output rows, from registers straight to the output.
//!
//! ```text
//! out[c, index_p + l] = bias_c + Σ over steps of  vectors[base_p + step.vector + l] · weights[step.scalar + stride · c]
//! ```
//!
//! for the lanes l of a vector. A row ends with a whole vector that begins before the end of the one it follows, so that
//! some sums are made twice and every store is of a whole vector. Kernels of few channels are maps in disguise: without
//! sums that wait in between, the convolution of one channel by 3 × 3 to 32 went from 290 µs to 240.

use super::tile::{Step, Tiled};
use crate::dtype::Real;
use crate::kernels::parallel::Shared;
use crate::kernels::simd::{dispatch_fused, max_vectors};

/// A vector of places in a row: where it begins in the vectors, and in an output channel.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub base: usize,
    pub index: usize,
}

/// The operands of the sums; see the module.
pub(crate) struct RowSums<'a, C> {
    pub vectors: &'a [C],
    pub runs: &'a [Run],
    pub steps: &'a [Step],
    pub weights: &'a [C],
    /// From a channel's weights to the next one's.
    pub stride: usize,
    /// Where each channel begins in the output, and its bias.
    pub channels: &'a [(usize, C)],
}

/// Channels made together at most.
const TOGETHER: usize = 4;

/// Writes the sums to `out`.
///
/// # Safety
/// No other thread uses the runs' places of these channels.
pub(super) unsafe fn sums<C: Tiled>(operands: &RowSums<C>, out: &Shared<C>) {
    let mut packed = vec![C::ZERO; TOGETHER * operands.steps.len()];
    for (n, channels) in operands.channels.chunks(TOGETHER).enumerate() {
        let width = if channels.len() > 2 { TOGETHER } else { channels.len() };
        // The weights of a step side by side; those that are wanting repeat the last channel's.
        for (packed, step) in packed.chunks_exact_mut(width).zip(operands.steps) {
            for (j, weight) in packed.iter_mut().enumerate() {
                let channel = n * TOGETHER + j.min(channels.len() - 1);
                *weight = operands.weights[step.scalar + operands.stride * channel];
            }
        }
        // SAFETY: as the caller says.
        unsafe { C::row_sums(operands, &packed[..width * operands.steps.len()], channels, out) };
    }
}

/// The tiles of `channels`: as many vectors as there are registers for their sums.
///
/// # Safety
/// As [`sums`].
pub(super) unsafe fn tiles<C: Real, const L: usize>(
    operands: &RowSums<C>,
    packed: &[C],
    channels: &[(usize, C)],
    out: &Shared<C>,
) {
    let many = max_vectors() > 1;
    dispatch_fused!(FUSED => {
        // SAFETY: as the caller says.
        unsafe {
            match (channels.len(), many) {
                (1, true) => all::<C, L, 1, 12, FUSED>(operands, packed, channels, out),
                (2, true) => all::<C, L, 2, 8, FUSED>(operands, packed, channels, out),
                (_, true) => all::<C, L, TOGETHER, 6, FUSED>(operands, packed, channels, out),
                (1, false) => all::<C, L, 1, 4, FUSED>(operands, packed, channels, out),
                (2, false) => all::<C, L, 2, 2, FUSED>(operands, packed, channels, out),
                (_, false) => all::<C, L, TOGETHER, 1, FUSED>(operands, packed, channels, out),
            }
        }
    })
}

/// Tiles of `J` channels and `V` vectors over all runs.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn all<C: Real, const L: usize, const J: usize, const V: usize, const FUSED: bool>(
    operands: &RowSums<C>,
    packed: &[C],
    channels: &[(usize, C)],
    out: &Shared<C>,
) {
    let RowSums { vectors, runs, steps, .. } = *operands;
    let reach = steps.iter().map(|s| s.vector).max().unwrap_or(0) + L;
    assert!(packed.len() == J * steps.len());
    assert!(
        runs.iter().all(|r| r.base <= vectors.len() && reach <= vectors.len() - r.base),
        "a vector outside its slice"
    );
    let far = runs.iter().map(|r| r.index).max().unwrap_or(0) + L;
    // Beyond the last channel, and the last run, those are made again.
    let channels: [(*mut C, C); J] = std::array::from_fn(|j| {
        let (start, bias) = channels[j.min(channels.len() - 1)];
        (out.pointer(start, far), bias)
    });
    for first in (0..runs.len()).step_by(V) {
        let runs: [Run; V] = std::array::from_fn(|v| runs[(first + v).min(runs.len() - 1)]);
        let from = runs.map(|run| vectors.as_ptr().wrapping_add(run.base));
        // Loops, not `map`: that was a call for each channel, with all its vectors by way of memory.
        let mut sum = [[[C::ZERO; L]; V]; J];
        for j in 0..J {
            for v in 0..V {
                sum[j][v] = [channels[j].1; L];
            }
        }
        for (step, weights) in steps.iter().zip(packed.as_chunks::<J>().0) {
            // SAFETY: asserted above. An array has its element's alignment.
            let x: [[C; L]; V] = from.map(|from| unsafe { *from.add(step.vector).cast::<[C; L]>() });
            for j in 0..J {
                for v in 0..V {
                    for l in 0..L {
                        let (x, w, sum) = (x[v][l], weights[j], &mut sum[j][v][l]);
                        *sum = if FUSED { x.mul_add(w, *sum) } else { x * w + *sum };
                    }
                }
            }
        }
        for j in 0..J {
            for v in 0..V {
                // SAFETY: `pointer` saw to it that all runs of the channel lie in the output; nobody else uses them, says
                // the caller.
                unsafe { channels[j].0.add(runs[v].index).cast::<[C; L]>().write(sum[j][v]) };
            }
        }
    }
}
