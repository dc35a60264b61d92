//! The gradient of a convolution's weights: `dw[co, ci, k] = Σ over samples and places of dy[co, p] · x[ci, s·p + d·k]`.
//!
//! The batch is cut into fixed parts; each sums into an array of its own, and the arrays are added in order. A part
//! takes pieces of samples: the input in a slab as for the forward pass (gather.rs), dy turned around so that the
//! vectors of a tile run over output channels; places are its steps, taps its rows. Groups of few output channels are
//! inner products along rows instead.

use std::ops::Range;

use super::ConvShape;
use super::axis::{self, Axis};
use super::tile::{self, Operands, Rows, Step, Tiled, lanes};
use crate::Result;
use crate::dtype::{Float, Real};
use crate::kernels::parallel;
use crate::storage::Buffer;

/// Elements that a piece's slab, and its dy turned around, should have at most, for the cache.
const SLAB: usize = 1 << 16;
const TURNED: usize = 1 << 15;
/// Parts that the work is cut into at most, and the multiply-adds that a part should have at least.
const PARTS: usize = 16;
const PART: usize = 1 << 19;
/// Elements that the sums of all parts should have at most.
const SUMS: usize = 1 << 24;
/// Output channels of a group from which on tiles cost less than inner products.
const TILED: usize = 5;

/// What all parts share.
struct Plan {
    tiled: bool,
    /// The dim that is cut into pieces, and their length.
    cut: usize,
    len: usize,
    /// Elements of a piece's slab, and where each tap of each input channel is in it.
    slab: usize,
    taps: Vec<usize>,
    /// Places of a piece at most.
    places: usize,
    /// Channels of a panel at most; the lanes of a panel are theirs, and some that stay zero.
    panel: usize,
}

impl Plan {
    fn new(s: &ConvShape, lanes: usize) -> Plan {
        let [c_in, c_out] = s.group_channels();
        let tiled = c_out >= TILED;
        let panel = if tiled { tile::max_vectors() * lanes } else { 1 };
        let cut = (0..3).find(|d| s.output[*d] > 1).unwrap_or(2);
        let inner: usize = s.output[cut + 1..].iter().product();
        let size = |len| c_in * axis::area(&axes(s, cut, 0, len, !tiled));
        let mut len = s.output[cut].max(1);
        while len > 1 && (size(len) > SLAB || len * inner * panel > TURNED) {
            len = len.div_ceil(2);
        }
        let axes = axes(s, cut, 0, len, !tiled);
        let taps = axis::taps(&axes, axes.each_ref().map(|a| &a.classes[0]), c_in).collect();
        Plan { tiled, cut, len, slab: size(len), taps, places: len * inner, panel }
    }

    /// Of output channel `c` of a group: where its sums start in those of the group, and how far apart they are.
    fn sums(&self, c: usize, channels: usize, lanes: usize) -> (usize, usize) {
        let first = c / self.panel * self.panel;
        let row = if self.tiled { (channels - first).min(self.panel).next_multiple_of(lanes) } else { 1 };
        (first * self.taps.len() + c - first, row)
    }
}

fn axes(s: &ConvShape, cut: usize, start: usize, len: usize, split: bool) -> [Axis; 3] {
    std::array::from_fn(|d| {
        let (start, len) = if d == cut { (start, len) } else { (0, s.output[d]) };
        s.dim(d).forward(start..(start + len).min(s.output[d]), len, split && d == 2)
    })
}

/// Writes `dw` `[groups · c_out, c_in, taps]`.
pub(super) fn run<T>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()>
where
    T: Float<Compute: Tiled>,
{
    if dw.is_empty() || dy.is_empty() {
        dw.fill(T::default());
        return Ok(());
    }
    let lanes = lanes::<T::Compute>();
    let plan = Plan::new(s, lanes);
    let [_, channels] = s.group_channels();
    let work = (dy.len() / s.c_out).saturating_mul(dw.len());
    let parts = PARTS.min(SUMS / dw.len()).min(work / PART).max(1);
    let pieces = s.batch * s.output[plan.cut].div_ceil(plan.len);
    let sums = parallel::map_chunks(pieces, pieces.div_ceil(parts), |pieces| part(s, &plan, x, dy, pieces));
    let sums: Vec<Buffer<T::Compute>> = sums.into_iter().collect::<Result<_>>()?;

    let taps = plan.taps.len();
    let rows = (4096 / taps).max(1);
    parallel::chunks(dw, rows * taps, |from, dw| {
        for (i, dw) in dw.chunks_exact_mut(taps).enumerate() {
            let c = from / taps + i;
            let (start, step) = plan.sums(c % channels, channels, lanes);
            let start = c / channels * sums[0].len() / s.groups + start;
            for (t, dw) in dw.iter_mut().enumerate() {
                *dw = T::down(sums.iter().fold(T::Compute::ZERO, |sum, part| sum + part[start + t * step]));
            }
        }
    });
    Ok(())
}

/// The sums of some pieces, of each group those of its panels `[taps, lanes]`.
fn part<T>(s: &ConvShape, plan: &Plan, x: &[T], dy: &[T], pieces: Range<usize>) -> Result<Buffer<T::Compute>>
where
    T: Float<Compute: Tiled>,
{
    let lanes = lanes::<T::Compute>();
    let [c_in, channels] = s.group_channels();
    let [area_in, area_out] = [s.input, s.output].map(|size| size.iter().product::<usize>());
    let taps = plan.taps.len();
    let rows = if plan.tiled { channels.next_multiple_of(lanes) } else { channels };
    let mut sums = Buffer::full(s.groups * rows * taps, T::Compute::ZERO, "conv")?;
    let mut slab = Buffer::<T::Compute>::try_scratch(plan.slab, "conv")?;
    let mut turned = Buffer::<T::Compute>::try_scratch(plan.places * plan.panel.next_multiple_of(lanes), "conv")?;
    let per_sample = s.output[plan.cut].div_ceil(plan.len);
    for piece in pieces {
        let (sample, start) = (piece / per_sample, piece % per_sample * plan.len);
        let axes = axes(s, plan.cut, start, plan.len, !plan.tiled);
        // The dims before the one that is cut have size 1, so a piece's places follow each other.
        let first = start * s.output[plan.cut + 1..].iter().product::<usize>();
        let [planes, rows_at, cols] = axes.each_ref().map(|a| &a.classes[0].at);
        let row_starts = planes.iter().flat_map(|d| rows_at.iter().map(move |h| (d.0, h.0)));
        let row_starts: Vec<usize> = row_starts.map(|(d, h)| (d * axes[1].size + h) * axes[2].size).collect();
        let places = row_starts.len() * cols.len();
        let steps: Vec<Step> = match plan.tiled {
            true => {
                let at = row_starts.iter().flat_map(|row| cols.iter().map(move |w| row + w.0));
                at.enumerate().map(|(i, scalar)| Step { vector: i, scalar }).collect()
            }
            false => Vec::new(),
        };
        let pairs: Vec<(usize, usize)> = row_starts.iter().enumerate().map(|(i, row)| (i * cols.len(), *row)).collect();
        for group in 0..s.groups {
            let x = &x[(sample * s.groups + group) * c_in * area_in..][..c_in * area_in];
            axis::fill(&mut slab, x, s.input, &axes);
            let dy = &dy[(sample * s.groups + group) * channels * area_out..][..channels * area_out];
            let sums = &mut sums[group * rows * taps..][..rows * taps];
            for panel in (0..channels).step_by(plan.panel) {
                let here = plan.panel.min(channels - panel);
                let (start, row) = plan.sums(panel, channels, lanes);
                let dy =
                    dy[panel * area_out..][..here * area_out].chunks_exact(area_out).map(|c| &c[first..first + places]);
                let sums = &mut sums[start..][..taps * row];
                let turned = &mut turned[..places * row];
                turn::<T>(dy, row, turned);
                if plan.tiled {
                    let operands = Operands {
                        vectors: turned,
                        unit: row,
                        bases: &[0],
                        scalars: &slab,
                        at: &plan.taps,
                        steps: &steps,
                    };
                    tile::sums(row / lanes, &operands, sums, true);
                } else {
                    let rows = Rows { a: turned, b: &slab, rows: &pairs, len: cols.len(), taps: &plan.taps };
                    tile::dots(&rows, sums);
                }
            }
        }
    }
    Ok(sums)
}

/// Some channels as the columns of rows of `row` elements; the columns left are zeros.
fn turn<'a, T: Float>(channels: impl ExactSizeIterator<Item = &'a [T]>, row: usize, to: &mut [T::Compute]) {
    if channels.len() < row {
        to.fill(T::Compute::ZERO);
    }
    for (lane, channel) in channels.enumerate() {
        to[lane..].iter_mut().step_by(row).zip(channel).for_each(|(to, from)| *to = from.up());
    }
}
