//! The convolution and its transpose: each output element gathers, over channels and taps, what the kernel brings it.
//!
//! A task takes a piece of one sample: some steps along its outermost dim. For each group it copies the input that the
//! piece needs into a slab with the padding around (axis.rs), then sums tiles of it (tile.rs), whose vectors run either
//!
//! - over output channels: weights are packed so once, the slab gives the scalars. Any stride is the same, but the
//!   sums must be turned to be stored; or
//! - along an output row: the slab's rows are the vectors, weights the scalars. For few channels or few taps. Rows
//!   whose places lie side by side, of at least a vector, are written as they are summed (rows.rs).

use super::axis::{self, Axis, Class};
use super::limit;
use super::plan::{Pass, Plan, classes};
use super::rows::{self, RowSums, Run};
use super::tile::{self, Operands, Tiled};
use crate::Result;
use crate::dtype::Float;
use crate::kernels::parallel::{self, Shared};
use crate::kernels::simd::{dispatch, lanes};
use crate::kernels::turn::{Grid, turn, turn_to};
use crate::storage::Buffer;

/// Positions whose sums are turned at a time.
const POSITIONS: usize = limit(48, 8);
/// Sums along rows that are held at a time.
const SUMS: usize = limit(1 << 12, 1 << 7);
/// Elements of a slab that stay in the nearest cache, beside the sums; and the channels that are then made together.
const NEAR: usize = limit(1 << 12, 1 << 6);
const FEW: usize = 6;

impl Pass<'_> {
    /// Computes `dst` `[batch, groups · made, to]` from `src` `[batch, groups · summed, from]`.
    pub(super) fn run<T>(&self, src: &[T], w: &[T], bias: Option<&[T]>, dst: &mut [T]) -> Result<()>
    where
        T: Float<Compute: Tiled>,
    {
        if dst.is_empty() {
            return Ok(());
        }
        let plan = Plan::new(self, w)?;
        let out = Shared::new(dst);
        let pieces = self.to[plan.cut].div_ceil(plan.len);
        // Samples that are one piece each share what a task works in: for small ones its tables cost as much as the sums.
        let at_once = if pieces > 1 { 1 } else { (self.shape.batch / (8 * parallel::num_threads())).max(1) };
        let tasks = parallel::map_chunks(self.shape.batch * pieces, at_once, |i| {
            let mut task = Task::new(self, &plan, &out, i.start % pieces)?;
            for sample in i.start / pieces..i.end.div_ceil(pieces) {
                for group in 0..self.shape.groups {
                    task.group(sample, group, src, bias);
                }
            }
            Ok(())
        });
        tasks.into_iter().collect()
    }
}

/// Writes sums to every `step`-th element.
#[inline(always)]
fn write<T: Float>(out: &mut [T], step: usize, sums: &[T::Compute], bias: T::Compute) {
    const LANES: usize = 16;
    if step > 1 || out.len() < LANES {
        return out.iter_mut().step_by(step).zip(sums).for_each(|(out, &sum)| *out = T::down(sum + bias));
    }
    let put = |out: &mut [T; LANES], sums: &[T::Compute; LANES]| {
        for i in 0..LANES {
            out[i] = T::down(sums[i] + bias);
        }
    };
    let (pieces, rest) = out.as_chunks_mut::<LANES>();
    pieces.iter_mut().zip(sums.as_chunks().0).for_each(|(out, sums)| put(out, sums));
    // Rows are short, so that a rest by single elements would cost most: a whole vector, partly written before.
    if !rest.is_empty()
        && let (Some(out), Some(sums)) = (out.last_chunk_mut(), sums.last_chunk())
    {
        put(out, sums);
    }
}

/// One piece of one sample.
struct Task<'a, T: Float> {
    pass: &'a Pass<'a>,
    plan: &'a Plan<'a, T::Compute>,
    out: &'a Shared<'a, T>,
    axes: [Axis; 3],
    places: Vec<Places>,
    slab: Buffer<T::Compute>,
    sums: Buffer<T::Compute>,
    turned: Buffer<T::Compute>,
}

/// Where a class's positions, or the segments of its rows, lie in the slab and in an output channel.
struct Places {
    at: Vec<usize>,
    index: Vec<usize>,
    /// Of a row: its positions, and how far apart they are in the output; the width of a segment in vectors.
    row: usize,
    step: usize,
    width: usize,
    /// The vectors of the rows, where they are written as they are summed.
    runs: Vec<Run>,
}

/// The lanes of a vector, and the vectors of a segment at most.
struct Segment {
    lanes: usize,
    widest: usize,
}

impl Places {
    fn new([planes, rows, cols]: [&Class; 3], axes: &[Axis; 3], to: [usize; 3], segment: Option<Segment>) -> Places {
        let row = cols.at.len();
        let step = if row > 1 { cols.at[1].1 - cols.at[0].1 } else { 1 };
        // A row is cut into as few segments as may be, of the same width.
        let (width, every) = match segment {
            Some(Segment { lanes, widest }) => {
                let vectors = row.div_ceil(lanes).max(1);
                let width = vectors.div_ceil(vectors.div_ceil(widest));
                (width, width * lanes)
            }
            None => (1, 1),
        };
        let (mut at, mut index) = (Vec::new(), Vec::new());
        for d in &planes.at {
            for h in &rows.at {
                let (slab, out) = (d.0 * axes[1].size + h.0, d.1 * to[1] + h.1);
                let cols = cols.at.iter().step_by(every);
                at.extend(cols.clone().map(|w| slab * axes[2].size + w.0));
                index.extend(cols.map(|w| out * to[2] + w.1));
            }
        }
        let whole = segment.map_or(usize::MAX, |s| s.lanes);
        let mut runs = Vec::new();
        if step == 1 && row >= whole {
            for (at, index) in at.chunks(row.div_ceil(every)).zip(index.chunks(row.div_ceil(every))) {
                let starts = (0..row - whole).step_by(whole).chain([row - whole]);
                runs.extend(starts.map(|i| Run { base: at[0] + i, index: index[0] + i }));
            }
        }
        Places { at, index, row, step, width, runs }
    }
}

impl<'a, T: Float<Compute: Tiled>> Task<'a, T> {
    fn new(
        pass: &'a Pass,
        plan: &'a Plan<'a, T::Compute>,
        out: &'a Shared<'a, T>,
        piece: usize,
    ) -> Result<Task<'a, T>> {
        let lanes = lanes::<T::Compute>();
        let axes = pass.axes(plan.cut, piece * plan.len, plan.len, plan.along_rows);
        let segment = || plan.along_rows.then_some(Segment { lanes, widest: plan.widest });
        let places = classes(&axes).map(|class| Places::new(class, &axes, pass.to, segment())).collect();
        let widest = plan.widest * lanes;
        let sums = if plan.along_rows { SUMS.max(widest * pass.made.count) } else { POSITIONS * widest };
        // Along rows, the last segment may reach over the end.
        let slab = Buffer::try_scratch(plan.slab + widest, "conv")?;
        let sums = Buffer::try_scratch(sums, "conv")?;
        let turned = Buffer::try_scratch(if plan.along_rows { 0 } else { POSITIONS * widest }, "conv")?;
        Ok(Task { pass, plan, out, axes, places, slab, sums, turned })
    }

    fn group(&mut self, sample: usize, group: usize, src: &[T], bias: Option<&[T]>) {
        let Pass { shape, summed, made, from, to, .. } = *self.pass;
        let size = summed.count * from.iter().product::<usize>();
        let src = &src[(sample * shape.groups + group) * size..][..size];
        axis::fill(&mut self.slab[..self.plan.slab], src, from, &self.axes);
        let bias = |c: usize| bias.map_or(T::Compute::default(), |b| b[group * made.count + c].up());
        let channel = |c: usize| ((sample * shape.groups + group) * made.count + c) * to.iter().product::<usize>();
        for class in 0..self.places.len() {
            if self.plan.along_rows {
                self.along_rows(group, class, bias, channel);
            } else {
                self.over_channels(group, class, bias, channel);
            }
        }
    }

    fn over_channels(
        &mut self,
        group: usize,
        class: usize,
        bias: impl Fn(usize) -> T::Compute,
        channel: impl Fn(usize) -> usize,
    ) {
        let Places { at, index, .. } = &self.places[class];
        let steps = &self.plan.steps[class];
        let size = self.pass.to.iter().product::<usize>();
        for panel in self.plan.panels(group, class) {
            let (row, channels) = (panel.width * lanes::<T::Compute>(), panel.channels.clone());
            let vectors = &self.plan.weights[panel.start..][..steps.len() * row];
            let mut biases: Vec<T::Compute> = channels.clone().map(&bias).collect();
            biases.resize(row, T::Compute::default());
            let biased = biases.iter().any(|b| *b != T::Compute::default());
            for (at, index) in at.chunks(POSITIONS).zip(index.chunks(POSITIONS)) {
                let sums = &mut self.sums[..at.len() * row];
                if biased {
                    sums.chunks_exact_mut(row).for_each(|sums| sums.copy_from_slice(&biases));
                }
                let first = index[0];
                let side_by_side = index[index.len() - 1] - first == index.len() - 1;
                if side_by_side {
                    // Short runs all over the output: nothing else foresees them.
                    channels.clone().for_each(|c| self.out.ask_for(channel(c) + first, index.len()));
                }
                let operands = Operands { vectors, unit: row, bases: &[0], scalars: &self.slab, at, steps };
                tile::sums(panel.width, &operands, sums, biased);
                let (sums, count) = (Grid { data: &*sums, row }, channels.len());
                if let (true, Some(out)) = (side_by_side, self.out.same()) {
                    let to = out.pointer(channel(channels.start) + first, (count - 1) * size + index.len());
                    // SAFETY: each channel and position belongs to one class of one piece of one sample.
                    unsafe { turn_to(sums, Grid { data: to, row: size }, index.len(), count) };
                    continue;
                }
                turn(sums, Grid { data: &mut self.turned[..], row: POSITIONS }, index.len(), count);
                dispatch(
                    #[inline(always)]
                    || {
                        for (c, sums) in channels.clone().zip(self.turned.chunks_exact(POSITIONS)) {
                            let (start, sums) = (channel(c), &sums[..index.len()]);
                            // SAFETY: as above.
                            let at = |i: usize, len: usize| unsafe { self.out.at(start + i, len) };
                            if side_by_side {
                                write(at(first, index.len()), 1, sums, T::Compute::default());
                            } else {
                                index.iter().zip(sums).for_each(|(&i, &x)| at(i, 1)[0] = T::down(x));
                            }
                        }
                    },
                );
            }
        }
    }

    fn along_rows(
        &mut self,
        group: usize,
        class: usize,
        bias: impl Fn(usize) -> T::Compute,
        channel: impl Fn(usize) -> usize,
    ) {
        let Pass { shape, summed, made, .. } = *self.pass;
        let Places { at, index, row, step, width, runs } = &self.places[class];
        let scalars = &self.plan.weights[group * made.count * summed.count * shape.taps()..];
        let steps = &self.plan.steps[class];
        if let (false, Some(out)) = (runs.is_empty(), self.out.same()) {
            let channels: Vec<(usize, T::Compute)> = (0..made.count).map(|c| (channel(c), bias(c))).collect();
            let (weights, stride) = (scalars, made.stride);
            let operands = RowSums { vectors: &self.slab, runs, steps, weights, stride, channels: &channels };
            // SAFETY: each channel and position belongs to one class of one piece of one sample.
            return unsafe { rows::sums(&operands, &out) };
        }
        let segment = width * lanes::<T::Compute>();
        let segments = row.div_ceil(segment).max(1);
        let channels: Vec<usize> = (0..made.count).map(|c| c * made.stride).collect();
        // From a slab in the nearest cache, few channels are made for many rows, which lie in a row in the output too: short
        // runs all over it would each wait for memory. Else a row's part of the slab is used for all channels.
        let some = if self.plan.slab <= NEAR { FEW.min(made.count) } else { made.count };
        for (n, some_channels) in channels.chunks(some).enumerate() {
            let wide = some_channels.len() * segment;
            let at_once = (SUMS / wide).max(1);
            for first in (0..at.len()).step_by(at_once) {
                let bases = &at[first..at.len().min(first + at_once)];
                let sums = &mut self.sums[..bases.len() * wide];
                let operands = Operands { vectors: &self.slab, unit: 1, bases, scalars, at: some_channels, steps };
                tile::sums(*width, &operands, sums, false);
                dispatch(
                    #[inline(always)]
                    || {
                        for c in 0..some_channels.len() {
                            let (start, bias) = (channel(n * some + c), bias(n * some + c));
                            for (i, index) in index[first..first + bases.len()].iter().enumerate() {
                                let here = (row - (first + i) % segments * segment).min(segment);
                                let sums = &sums[i * wide + c * segment..][..here];
                                // SAFETY: each channel and position belongs to one class of one piece of one sample; the
                                // other classes' positions in between are this task's as well.
                                let out = unsafe { self.out.at(start + index, (here - 1) * step + 1) };
                                write(out, *step, sums, bias);
                            }
                        }
                    },
                );
            }
        }
    }
}
