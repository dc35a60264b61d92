//! What is decided once for a pass: how the work is cut, which way vectors run, where each step's operands are.

use std::ops::Range;

use super::axis::{self, Axis, Class};
use super::plain::Plain;
use super::tile::{Step, Tiled};
use super::{ConvShape, limit};
use crate::Result;
use crate::dtype::Float;
use crate::kernels::parallel;
use crate::kernels::simd::{lanes, max_vectors};
use crate::kernels::turn::{Grid, turn};
use crate::storage::Buffer;

/// Elements a slab should have at most: a quarter of a MiB of f32, for the cache.
const SLAB: usize = limit(1 << 16, 1 << 8);
/// Multiply-adds below which a sample is not cut further.
const TASK: usize = limit(1 << 18, 1 << 8);
/// Pieces that work is cut into, if it is large enough.
const PIECES: usize = 32;

/// Channels of a group, and their stride in the weights.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    pub count: usize,
    pub stride: usize,
}

/// A convolution seen from its output, or its transpose seen from its own.
pub(super) struct Pass<'a> {
    pub shape: &'a ConvShape,
    transposed: bool,
    /// Spatial sizes of what is read and what is written.
    pub from: [usize; 3],
    pub to: [usize; 3],
    /// What is summed over, and what is made.
    pub summed: Channels,
    pub made: Channels,
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

    /// The axes of a piece of `len` steps along dim `cut` from `start` on.
    pub(super) fn axes(&self, cut: usize, start: usize, len: usize, along_rows: bool) -> [Axis; 3] {
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
pub(super) struct Plan<'a, C> {
    pub along_rows: bool,
    /// How many vectors a tile is wide at most.
    pub widest: usize,
    /// The dim that is cut into pieces, and their length.
    pub cut: usize,
    pub len: usize,
    /// Elements of a piece's slab.
    pub slab: usize,
    /// The steps of each class of places.
    pub steps: Vec<Vec<Step>>,
    /// Along rows as they are, else packed: panels `[steps, width]` of the channels made.
    pub weights: Plain<'a, C>,
    panels: Vec<Panel>,
    groups: usize,
}

/// Packed weights of some output channels of one group, for one class.
pub(super) struct Panel {
    group: usize,
    class: usize,
    pub channels: Range<usize>,
    /// In vectors.
    pub width: usize,
    pub start: usize,
}

impl<'a, C: Tiled> Plan<'a, C> {
    pub(super) fn new<T: Float<Compute = C>>(pass: &Pass, w: &'a [T]) -> Result<Plan<'a, C>> {
        let (along_rows, widest) = (pass.prefers_rows(lanes::<C>()), max_vectors());
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

    pub(super) fn panels(&self, group: usize, class: usize) -> &[Panel] {
        let classes = self.steps.len();
        let count = self.panels.len() / (self.groups * classes);
        &self.panels[(group * classes + class) * count..][..count]
    }
}

/// The classes of places of all three dims together.
pub(super) fn classes(axes: &[Axis; 3]) -> impl Iterator<Item = [&Class; 3]> {
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
