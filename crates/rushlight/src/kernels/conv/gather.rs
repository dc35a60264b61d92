//! The convolution and its transpose: each output element gathers, over channels and taps, what the kernel brings it.
//!
//! A task takes a piece of one sample: some steps along its outermost dim. For each group it copies the input that the
//! piece needs into a slab with the padding around (axis.rs), then sums tiles of it (tile.rs), whose vectors run either
//!
//! - over output channels: weights are packed so once, the slab gives the scalars. Any stride is the same, but the
//!   sums must be turned to be stored; or
//! - along an output row: the slab's rows are the vectors, weights the scalars. For few channels or few taps.

use std::ops::Range;

use super::axis::{self, Axis, Class};
use super::plain::Plain;
use super::tile::{self, Operands, Step, Tiled, lanes};
use super::{ConvShape, limit};
use crate::Result;
use crate::dtype::Float;
use crate::kernels::parallel;
use crate::kernels::turn::{Grid, turn};
use crate::storage::Buffer;

/// Elements a slab should have at most: a quarter of a MiB of f32, for the cache.
const SLAB: usize = limit(1 << 16, 1 << 8);
/// Multiply-adds below which a sample is not cut further.
const TASK: usize = limit(1 << 18, 1 << 8);
/// Pieces that work is cut into, if it is large enough.
const PIECES: usize = 32;
/// Positions whose sums are turned at a time.
const POSITIONS: usize = limit(48, 8);
/// Sums along rows that are held at a time.
const SUMS: usize = limit(1 << 12, 1 << 7);

/// Channels of a group, and their stride in the weights.
#[derive(Clone, Copy)]
struct Channels {
    count: usize,
    stride: usize,
}

/// A convolution seen from its output, or its transpose seen from its own.
pub(super) struct Pass<'a> {
    shape: &'a ConvShape,
    transposed: bool,
    /// Spatial sizes of what is read and what is written.
    from: [usize; 3],
    to: [usize; 3],
    /// What is summed over, and what is made.
    summed: Channels,
    made: Channels,
}

impl<'a> Pass<'a> {
    pub(super) fn forward(shape: &'a ConvShape) -> Pass<'a> {
        let [c_in, c_out] = shape.group_channels();
        let summed = Channels { count: c_in, stride: shape.taps() };
        let made = Channels { count: c_out, stride: c_in * shape.taps() };
        Pass { shape, transposed: false, from: shape.input, to: shape.output, summed, made }
    }

    pub(super) fn transposed(shape: &'a ConvShape) -> Pass<'a> {
        let Pass { summed, made, from, to, .. } = Pass::forward(shape);
        Pass { shape, transposed: true, from: to, to: from, summed: made, made: summed }
    }

    /// Computes `dst` `[batch, groups · made, to]` from `src` `[batch, groups · summed, from]`.
    pub(super) fn run<T>(&self, src: &[T], w: &[T], bias: Option<&[T]>, dst: &mut [T]) -> Result<()>
    where
        T: Float<Compute: Tiled>,
    {
        if dst.is_empty() {
            return Ok(());
        }
        let plan = Plan::new(self, w)?;
        let out = Out { start: dst.as_mut_ptr(), len: dst.len() };
        let pieces = self.to[plan.cut].div_ceil(plan.len);
        let tasks = parallel::map_chunks(self.shape.batch * pieces, 1, |i| {
            let (sample, piece) = (i.start / pieces, i.start % pieces);
            let mut task = Task::new(self, &plan, &out, piece)?;
            for group in 0..self.shape.groups {
                task.group(sample, group, src, bias);
            }
            Ok(())
        });
        tasks.into_iter().collect()
    }

    /// The axes of a piece of `len` steps along dim `cut` from `start` on.
    fn axes(&self, cut: usize, start: usize, len: usize, along_rows: bool) -> [Axis; 3] {
        std::array::from_fn(|d| {
            let (start, len) = if d == cut { (start, len) } else { (0, self.to[d]) };
            let places = start..(start + len).min(self.to[d]);
            let dim = self.shape.dim(d);
            if self.transposed { dim.backward(places, len) } else { dim.forward(places, len, along_rows && d == 2) }
        })
    }

    /// Where the weights of a class's steps are, from those of the group's and channel's first on.
    fn sources(&self, [planes, rows, cols]: [&Class; 3]) -> impl Iterator<Item = usize> {
        let [_, height, width] = self.shape.kernel;
        let taps = planes.taps.iter().flat_map(move |d| {
            let rows = rows.taps.iter().map(move |h| (d.0 * height + h.0) * width);
            rows.flat_map(move |row| cols.taps.iter().map(move |w| row + w.0))
        });
        (0..self.summed.count).flat_map(move |c| taps.clone().map(move |tap| c * self.summed.stride + tap))
    }

    /// Whether vectors along output rows cost less than over channels; costs are multiply-adds for each position.
    fn prefers_rows(&self, lanes: usize) -> bool {
        let (s, made) = (self.shape, self.made.count);
        let strides = if self.transposed { s.stride } else { [1; 3] };
        let steps = (self.summed.count * s.taps()).div_ceil(strides.iter().product());
        let row = self.to[2].div_ceil(strides[2]);
        let positions = s.batch * self.to.iter().product::<usize>();
        // A number that is moved alone costs as much as a vector of multiply-adds.
        let turning = lanes * made;
        let packing = lanes * s.taps() * self.summed.count * made * s.groups / positions;
        steps * made * row.next_multiple_of(lanes) / row <= steps * made.next_multiple_of(lanes) + turning + packing
    }

    /// How long pieces along dim `cut` are: they fit the cache, and there are enough of them.
    fn piece(&self, cut: usize, along_rows: bool) -> usize {
        let s = self.shape;
        let work = self.made.count * self.summed.count * s.groups * s.taps() * self.to.iter().product::<usize>();
        let wanted = PIECES.div_ceil(s.batch).min(work / TASK).max(1);
        let unit = if self.transposed { s.stride[cut] } else { 1 };
        let mut len = self.to[cut].div_ceil(wanted).next_multiple_of(unit);
        while len > unit && self.summed.count * axis::area(&self.axes(cut, 0, len, along_rows)) > SLAB {
            len = len.div_ceil(2).next_multiple_of(unit);
        }
        len
    }
}

/// What all tasks share.
struct Plan<'a, C> {
    along_rows: bool,
    /// How many vectors a tile is wide at most.
    widest: usize,
    /// The dim that is cut into pieces, and their length.
    cut: usize,
    len: usize,
    /// Elements of a piece's slab.
    slab: usize,
    /// The steps of each class of places.
    steps: Vec<Vec<Step>>,
    /// Along rows as they are, else packed: panels `[steps, width]` of the channels made.
    weights: Plain<'a, C>,
    panels: Vec<Panel>,
    groups: usize,
}

/// Packed weights of some output channels of one group, for one class.
struct Panel {
    group: usize,
    class: usize,
    channels: Range<usize>,
    /// In vectors.
    width: usize,
    start: usize,
}

impl<'a, C: Tiled> Plan<'a, C> {
    fn new<T: Float<Compute = C>>(pass: &Pass, w: &'a [T]) -> Result<Plan<'a, C>> {
        let (along_rows, widest) = (pass.prefers_rows(lanes::<C>()), tile::max_vectors());
        let cut = (0..3).find(|d| pass.to[*d] > 1).unwrap_or(2);
        let len = pass.piece(cut, along_rows);
        let axes = pass.axes(cut, 0, len, along_rows);
        let mut steps = Vec::new();
        // Where in the weights each step's are, from the first channels of a group.
        let mut sources = Vec::new();
        for class in classes(&axes) {
            let at: Vec<usize> = axis::taps(&axes, class, pass.summed.count).collect();
            let source: Vec<usize> = pass.sources(class).collect();
            let step = |(i, (&at, &source)): (usize, (&usize, &usize))| match along_rows {
                true => Step { vector: at, scalar: source },
                false => Step { vector: i, scalar: at },
            };
            steps.push(at.iter().zip(&source).enumerate().map(step).collect());
            sources.push(source);
        }
        let slab = pass.summed.count * axis::area(&axes);
        let mut weights = Plain::new(w)?;
        let mut panels = Vec::new();
        if !along_rows {
            let (packed, places) = pack(pass, widest, &sources, &weights)?;
            (weights, panels) = (Plain::Converted(packed), places);
        }
        Ok(Plan { along_rows, widest, cut, len, slab, steps, weights, panels, groups: pass.shape.groups })
    }

    fn panels(&self, group: usize, class: usize) -> &[Panel] {
        let classes = self.steps.len();
        let count = self.panels.len() / (self.groups * classes);
        &self.panels[(group * classes + class) * count..][..count]
    }
}

/// The classes of places of all three dims together.
fn classes(axes: &[Axis; 3]) -> impl Iterator<Item = [&Class; 3]> {
    let [planes, rows, cols] = axes;
    planes
        .classes
        .iter()
        .flat_map(move |d| rows.classes.iter().flat_map(move |h| cols.classes.iter().map(move |w| [d, h, w])))
}

/// Packs the weights in panels, the missing channels of the last one as zeros.
fn pack<C: Tiled>(pass: &Pass, widest: usize, sources: &[Vec<usize>], w: &[C]) -> Result<(Buffer<C>, Vec<Panel>)> {
    let lanes = lanes::<C>();
    let mut panels = Vec::new();
    let mut size = 0;
    for group in 0..pass.shape.groups {
        for (class, sources) in sources.iter().enumerate() {
            for first in (0..pass.made.count).step_by(widest * lanes) {
                let channels = first..(first + widest * lanes).min(pass.made.count);
                let width = channels.len().div_ceil(lanes);
                panels.push(Panel { group, class, channels, width, start: size });
                size += sources.len() * width * lanes;
            }
        }
    }
    let mut weights = Buffer::<C>::try_scratch(size, "conv")?;
    let mut rest = &mut weights[..];
    let mut places = Vec::new();
    for panel in &panels {
        let (place, after) = rest.split_at_mut(sources[panel.class].len() * panel.width * lanes);
        places.push((panel, place));
        rest = after;
    }
    let group = pass.made.count * pass.summed.count * pass.shape.taps();
    parallel::chunks(&mut places, 1, |_, place| {
        for (panel, place) in place {
            let row = panel.width * lanes;
            if panel.channels.len() < row {
                place.fill(C::ZERO);
            }
            let w = &w[panel.group * group + panel.channels.start * pass.made.stride..];
            // Steps whose weights follow each other are turned together.
            let mut first = 0;
            for run in sources[panel.class].chunk_by(|a, b| a + 1 == *b) {
                let from = Grid { data: &w[run[0]..], row: pass.made.stride };
                let to = Grid { data: &mut place[first * row..], row };
                turn(from, to, panel.channels.len(), run.len());
                first += run.len();
            }
        }
    });
    Ok((weights, panels))
}

/// Writes sums to every `step`-th element.
fn write<T: Float>(out: &mut [T], step: usize, sums: &[T::Compute], bias: T::Compute) {
    match step {
        1 => out.iter_mut().zip(sums).for_each(|(out, &sum)| *out = T::down(sum + bias)),
        _ => out.iter_mut().step_by(step).zip(sums).for_each(|(out, &sum)| *out = T::down(sum + bias)),
    }
}

/// The output, written by many tasks, each element by one.
struct Out<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: it only gives way to writes, whose callers see to it that no two are to one place.
unsafe impl<T: Send> Sync for Out<T> {}

impl<T> Out<T> {
    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// No other thread uses these elements, and this one lets go of them before it asks for one again.
    #[allow(clippy::mut_from_ref)] // that is what the contract is for
    unsafe fn at(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: within the slice, which outlives the tasks; the caller sees to it that it is used alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// One piece of one sample.
struct Task<'a, T: Float> {
    pass: &'a Pass<'a>,
    plan: &'a Plan<'a, T::Compute>,
    out: &'a Out<T>,
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
        Places { at, index, row, step, width }
    }
}

impl<'a, T: Float<Compute: Tiled>> Task<'a, T> {
    fn new(pass: &'a Pass, plan: &'a Plan<'a, T::Compute>, out: &'a Out<T>, piece: usize) -> Result<Task<'a, T>> {
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
        for panel in self.plan.panels(group, class) {
            let row = panel.width * lanes::<T::Compute>();
            let vectors = &self.plan.weights[panel.start..][..steps.len() * row];
            for (at, index) in at.chunks(POSITIONS).zip(index.chunks(POSITIONS)) {
                let sums = &mut self.sums[..at.len() * row];
                let operands = Operands { vectors, unit: row, bases: &[0], scalars: &self.slab, at, steps };
                tile::sums(panel.width, &operands, sums, false);
                let to = Grid { data: &mut self.turned[..], row: POSITIONS };
                turn(Grid { data: sums, row }, to, at.len(), panel.channels.len());
                let (first, last) = (index[0], index[index.len() - 1]);
                for (c, sums) in panel.channels.clone().zip(self.turned.chunks_exact(POSITIONS)) {
                    let (start, sums, bias) = (channel(c), &sums[..at.len()], bias(c));
                    // SAFETY: each channel and position belongs to one class of one piece of one sample.
                    unsafe {
                        if last - first == index.len() - 1 {
                            write(self.out.at(start + first, index.len()), 1, sums, bias);
                        } else {
                            index.iter().zip(sums).for_each(|(i, &x)| self.out.at(start + i, 1)[0] = T::down(x + bias));
                        }
                    }
                }
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
        let Places { at, index, row, step, width } = &self.places[class];
        let segment = width * lanes::<T::Compute>();
        let segments = row.div_ceil(segment).max(1);
        let scalars = &self.plan.weights[group * made.count * summed.count * shape.taps()..];
        let channels: Vec<usize> = (0..made.count).map(|c| c * made.stride).collect();
        let at_once = (SUMS / (segment * made.count)).max(1);
        for first in (0..at.len()).step_by(at_once) {
            let bases = &at[first..at.len().min(first + at_once)];
            let sums = &mut self.sums[..bases.len() * made.count * segment];
            let steps = &self.plan.steps[class];
            let operands = Operands { vectors: &self.slab, unit: 1, bases, scalars, at: &channels, steps };
            tile::sums(*width, &operands, sums, false);
            for (i, sums) in sums.chunks_exact(made.count * segment).enumerate() {
                let here = (row - (first + i) % segments * segment).min(segment);
                for (c, sums) in sums.chunks_exact(segment).enumerate() {
                    let start = channel(c) + index[first + i];
                    // SAFETY: each channel and position belongs to one class of one piece of one sample; the other
                    // classes' positions in between are this task's as well.
                    let out = unsafe { self.out.at(start, (here - 1) * step + 1) };
                    write(out, *step, &sums[..here], bias(c));
                }
            }
        }
    }
}
