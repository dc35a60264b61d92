//! The gradient of a convolution's weights: `dw[co, ci, k] = Σ over samples and places of dy[co, p] · x[ci, s·p + d·k]`.
//!
//! The batch is cut into fixed parts; each sums into an array of its own, and the arrays are added in order. A part
//! takes pieces of samples: the input in a slab as for the forward pass (gather.rs), dy turned around so that the
//! vectors of a tile run over output channels; places are its steps, taps its rows. Groups of few output channels are
//! inner products along rows instead.

use super::ConvShape;
use super::axis::{self, Axis};
use super::tile::{self, Operands, Rows, Step, Tiled, lanes};
use super::turn::{Grid, Plain, turn};
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
    let dy = Plain::new(dy)?;
    let sums = parallel::map_chunks(pieces, pieces.div_ceil(parts), |pieces| {
        let mut part = Part::new(s, &plan)?;
        pieces.for_each(|piece| part.add(x, &dy, piece));
        Ok(part.sums)
    });
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

/// The sums of some pieces.
struct Part<'a, C> {
    s: &'a ConvShape,
    plan: &'a Plan,
    slab: Buffer<C>,
    /// A piece of dy: a panel of channels turned to `[places, lanes]`, or one channel and room after it.
    dy: Buffer<C>,
    /// Of each group those of its panels `[taps, lanes]`.
    sums: Buffer<C>,
}

impl<'a, C: Tiled> Part<'a, C> {
    fn new(s: &'a ConvShape, plan: &'a Plan) -> Result<Part<'a, C>> {
        let lanes = lanes::<C>();
        let [_, channels] = s.group_channels();
        let (dy, rows) = match plan.tiled {
            true => (plan.places * channels.min(plan.panel).next_multiple_of(lanes), channels.next_multiple_of(lanes)),
            false => (plan.places + lanes, channels),
        };
        let slab = Buffer::try_scratch(plan.slab + lanes, "conv")?;
        let dy = Buffer::try_scratch(dy, "conv")?;
        let sums = Buffer::full(s.groups * rows * plan.taps.len(), C::ZERO, "conv")?;
        Ok(Part { s, plan, slab, dy, sums })
    }

    fn add<T: Float<Compute = C>>(&mut self, x: &[T], dy: &[C], piece: usize) {
        let Part { s, plan, .. } = *self;
        let [c_in, channels] = s.group_channels();
        let [area_in, area_out] = [s.input, s.output].map(|size| size.iter().product::<usize>());
        let (pieces, taps) = (s.output[plan.cut].div_ceil(plan.len), plan.taps.len());
        let (sample, start) = (piece / pieces, piece % pieces * plan.len);
        let axes = axes(s, plan.cut, start, plan.len, !plan.tiled);
        let [planes, rows, cols] = axes.each_ref().map(|a| &a.classes[0].at);
        let rows = planes.iter().flat_map(|d| rows.iter().map(|h| (d.0 * axes[1].size + h.0) * axes[2].size));
        let rows: Vec<usize> = rows.collect();
        // Places follow each other in dy, for the dims before the one that is cut have size 1.
        let first = start * s.output[plan.cut + 1..].iter().product::<usize>();
        let places = rows.len() * cols.len();
        let scalars = rows.iter().flat_map(|row| cols.iter().map(move |col| row + col.0)).enumerate();
        let steps: Vec<Step> = scalars.map(|(vector, scalar)| Step { vector, scalar }).collect();
        let pairs: Vec<_> = rows.iter().enumerate().map(|(i, row)| (i * cols.len(), *row)).collect();

        for group in 0..s.groups {
            let x = &x[(sample * s.groups + group) * c_in * area_in..][..c_in * area_in];
            axis::fill(&mut self.slab[..plan.slab], x, s.input, &axes);
            let dy = &dy[(sample * s.groups + group) * channels * area_out..][..channels * area_out];
            let size = self.sums.len() / s.groups;
            let sums = &mut self.sums[group * size..][..size];
            for panel in (0..channels).step_by(plan.panel) {
                let here = plan.panel.min(channels - panel);
                let (start, row) = plan.sums(panel, channels, lanes::<C>());
                let sums = &mut sums[start..][..taps * row];
                let dy = &dy[panel * area_out + first..];
                if plan.tiled {
                    let vectors = &mut self.dy[..places * row];
                    if here < row {
                        vectors.fill(C::ZERO);
                    }
                    turn(Grid { data: dy, row: area_out }, Grid { data: vectors, row }, here, places);
                    let (scalars, at) = (&self.slab[..], &plan.taps[..]);
                    let operands = Operands { vectors, unit: row, bases: &[0], scalars, at, steps: &steps };
                    tile::sums(row / lanes::<C>(), &operands, sums, true);
                } else {
                    self.dy[..places].copy_from_slice(&dy[..places]);
                    let (a, b, taps) = (&self.dy[..], &self.slab[..], &plan.taps[..]);
                    tile::dots(&Rows { a, b, rows: &pairs, len: cols.len(), taps }, sums);
                }
            }
        }
    }
}
