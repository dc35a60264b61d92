//! The gradient of a convolution's weights: `dw[co, ci, k] = Σ over samples and places of dy[co, p] · x[ci, s·p + d·k]`.
//!
//! A task makes the gradients of one panel of output channels from a part of the batch; parts are fixed by size and
//! added in order. It takes pieces of samples: the input in a slab as for the forward pass (gather.rs), dy turned so
//! that the vectors of a tile run over output channels; places are its steps, taps its rows. The channels of a group of
//! few are panels of one each: inner products along rows.

use std::ops::Range;

use super::axis::{self, Axis};
use super::plain::Plain;
use super::tile::{self, Operands, Rows, Step, Tiled};
use super::{ConvShape, limit};
use crate::Result;
use crate::dtype::{Float, Real};
use crate::kernels::parallel;
use crate::kernels::simd::{lanes, max_vectors};
use crate::kernels::turn::{Grid, turn};
use crate::storage::Buffer;

/// Elements that a piece's slab, and its dy turned, should have at most, for the cache.
const SLAB: usize = limit(1 << 16, 1 << 8);
const TURNED: usize = limit(1 << 15, 1 << 8);
/// Tasks wanted, as far as a task keeps so many places that adding its sums is little, and so many multiply-adds.
const TASKS: usize = 32;
const PLACES: usize = limit(256, 4);
const WORK: usize = limit(1 << 19, 1 << 8);
/// Output channels of a group from which on tiles cost less than inner products.
const TILED: usize = 5;
/// Taps whose sums are turned back at a time.
const TAPS: usize = limit(48, 8);

/// Writes `dw` `[c_out, c_in / groups, kernel]`.
pub(super) fn run<T>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()>
where
    T: Float<Compute: Tiled>,
{
    if dw.is_empty() || dy.is_empty() {
        dw.fill(T::default());
        return Ok(());
    }
    let plan = Plan::new(s, lanes::<T::Compute>());
    let dy = Plain::new(dy)?;
    let pieces = s.batch * s.output[plan.cut].div_ceil(plan.len);
    let at_once = pieces.div_ceil(plan.parts);
    let parts = pieces.div_ceil(at_once);
    let sums = parallel::map_chunks(plan.panels.len() * parts, 1, |task| {
        let mut sum = Sum::new(s, &plan, &plan.panels[task.start / parts])?;
        let from = task.start % parts * at_once;
        for piece in from..pieces.min(from + at_once) {
            sum.add(x, &dy, piece);
        }
        Ok(sum.sums)
    });
    let mut sums = sums.into_iter().collect::<Result<Vec<Buffer<T::Compute>>>>()?;

    let mut rest = dw;
    let mut panels = Vec::new();
    for (panel, sums) in plan.panels.iter().zip(sums.chunks_exact_mut(parts)) {
        let (dw, after) = rest.split_at_mut(panel.channels.len() * plan.taps.len());
        panels.push((panel.row, sums, dw));
        rest = after;
    }
    parallel::chunks(&mut panels, 1, |_, panels| {
        for (row, sums, dw) in panels {
            finish(*row, sums, dw, plan.taps.len());
        }
    });
    Ok(())
}

/// Adds the parts of a panel `[taps, row]` and writes its channels `[channels, taps]`.
fn finish<T: Float<Compute: Tiled>>(row: usize, parts: &mut [Buffer<T::Compute>], dw: &mut [T], taps: usize) {
    let Some((sums, others)) = parts.split_first_mut() else { return };
    for other in others.iter() {
        sums.iter_mut().zip(&**other).for_each(|(sum, x)| *sum += *x);
    }
    let mut turned = [T::Compute::ZERO; TAPS * MAX_ROW];
    for from in (0..taps).step_by(TAPS) {
        let here = TAPS.min(taps - from);
        let to = Grid { data: &mut turned[..], row: TAPS };
        turn(Grid { data: &sums[from * row..], row }, to, here, dw.len() / taps);
        for (dw, turned) in dw.chunks_exact_mut(taps).zip(turned.chunks_exact(TAPS)) {
            dw[from..from + here].iter_mut().zip(turned).for_each(|(dw, sum)| *dw = T::down(*sum));
        }
    }
}

/// Channels of a panel at most: four vectors of f32.
const MAX_ROW: usize = 64;

/// What all tasks share.
struct Plan {
    tiled: bool,
    panels: Vec<Panel>,
    parts: usize,
    /// The dim that is cut into pieces, and their length.
    cut: usize,
    len: usize,
    /// Places of a piece, and elements of its slab, at most.
    places: usize,
    slab: usize,
    /// Where each tap of each input channel is in the slab.
    taps: Vec<usize>,
}

/// Output channels of a group, as the columns of rows of `row` elements.
struct Panel {
    group: usize,
    channels: Range<usize>,
    row: usize,
}

impl Plan {
    fn new(s: &ConvShape, lanes: usize) -> Plan {
        let [c_in, c_out] = s.group_channels();
        let tiled = c_out >= TILED;
        let widest = if tiled { max_vectors() * lanes } else { 1 };
        let mut panels = Vec::new();
        for group in 0..s.groups {
            for first in (0..c_out).step_by(widest) {
                let channels = first..c_out.min(first + widest);
                let row = if tiled { channels.len().next_multiple_of(lanes) } else { 1 };
                panels.push(Panel { group, channels, row });
            }
        }

        let cut = (0..3).find(|d| s.output[*d] > 1).unwrap_or(2);
        let inner: usize = s.output[cut + 1..].iter().product();
        let size = |len| c_in * axis::area(&axes(s, cut, 0, len, !tiled));
        let mut len = s.output[cut];
        while len > 1 && (size(len) > SLAB || len * inner * widest > TURNED) {
            len = len.div_ceil(2);
        }
        let axes = axes(s, cut, 0, len, !tiled);
        let taps: Vec<usize> = axis::taps(&axes, axes.each_ref().map(|a| &a.classes[0]), c_in).collect();

        let places = s.batch * s.output.iter().product::<usize>();
        let work = places.saturating_mul(c_out.min(widest) * taps.len());
        let parts = TASKS.div_ceil(panels.len()).min(places / PLACES).min(work / WORK).max(1);
        Plan { tiled, panels, parts, cut, len, places: len * inner, slab: size(len), taps }
    }
}

fn axes(s: &ConvShape, cut: usize, start: usize, len: usize, split: bool) -> [Axis; 3] {
    std::array::from_fn(|d| {
        let (start, len) = if d == cut { (start, len) } else { (0, s.output[d]) };
        s.dim(d).forward(start..(start + len).min(s.output[d]), len, split && d == 2)
    })
}

/// The sums `[taps, row]` of a panel over some pieces.
struct Sum<'a, C> {
    s: &'a ConvShape,
    plan: &'a Plan,
    panel: &'a Panel,
    slab: Buffer<C>,
    /// A piece of dy, turned to `[places, row]`; room after it.
    dy: Buffer<C>,
    sums: Buffer<C>,
}

impl<'a, C: Tiled> Sum<'a, C> {
    fn new(s: &'a ConvShape, plan: &'a Plan, panel: &'a Panel) -> Result<Sum<'a, C>> {
        let slab = Buffer::try_scratch(plan.slab + lanes::<C>(), "conv")?;
        let dy = Buffer::full(plan.places * panel.row + lanes::<C>(), C::ZERO, "conv")?;
        let sums = Buffer::full(plan.taps.len() * panel.row, C::ZERO, "conv")?;
        Ok(Sum { s, plan, panel, slab, dy, sums })
    }

    fn add<T: Float<Compute = C>>(&mut self, x: &[T], dy: &[C], piece: usize) {
        let Sum { s, plan, panel, .. } = *self;
        let [c_in, c_out] = s.group_channels();
        let [area_in, area_out] = [s.input, s.output].map(|size| size.iter().product::<usize>());
        let pieces = s.output[plan.cut].div_ceil(plan.len);
        let (sample, start) = (piece / pieces, piece % pieces * plan.len);
        let group = sample * s.groups + panel.group;

        let axes = axes(s, plan.cut, start, plan.len, !plan.tiled);
        axis::fill(&mut self.slab[..plan.slab], &x[group * c_in * area_in..][..c_in * area_in], s.input, &axes);
        let [planes, rows, cols] = axes.each_ref().map(|a| &a.classes[0].at);
        let rows = planes.iter().flat_map(|d| rows.iter().map(|h| (d.0 * axes[1].size + h.0) * axes[2].size));
        let places = planes.len() * axes[1].classes[0].at.len() * cols.len();

        // Places follow each other in dy, for the dims before the one that is cut have size 1.
        let first = start * s.output[plan.cut + 1..].iter().product::<usize>();
        let dy = &dy[(group * c_out + panel.channels.start) * area_out + first..];
        let (at, slab, turned) = (&plan.taps[..], &self.slab[..], &mut self.dy[..]);
        if plan.tiled {
            let row = panel.row;
            turn(Grid { data: dy, row: area_out }, Grid { data: turned, row }, panel.channels.len(), places);
            let scalars = rows.flat_map(|row| cols.iter().map(move |col| row + col.0)).enumerate();
            let steps: Vec<Step> = scalars.map(|(vector, scalar)| Step { vector, scalar }).collect();
            let operands = Operands { vectors: turned, unit: row, bases: &[0], scalars: slab, at, steps: &steps };
            tile::sums(row / lanes::<C>(), &operands, &mut self.sums, true);
        } else {
            turned[..places].copy_from_slice(&dy[..places]);
            let rows: Vec<(usize, usize)> = rows.enumerate().map(|(i, row)| (i * cols.len(), row)).collect();
            tile::dots(&Rows { a: turned, b: slab, rows: &rows, len: cols.len(), taps: at }, &mut self.sums);
        }
    }
}
