//! Convolutions of 3 × 3 taps at stride 1 by Winograd's minimal filtering: 36 products for a tile of 4 × 4 outputs,
//! where the sum over the taps takes 144.
//!
//! ```text
//! y = Aᵀ [ (G w Gᵀ) ∘ (Bᵀ x B) ] A       for a tile: x 6 × 6, w 3 × 3, y 4 × 4
//! ```
//!
//! With many channels the products in the middle become 36 matrix products, one for each place of the transformed tile:
//! `[tiles, channels read] · [channels read, channels made]`. The gradient of the weights is the same form read
//! backwards (`weight`).
//!
//! Inside, channels come last, so that a transform is a few additions of vectors over channels, whatever the tiles' size,
//! and transforms lie as the products want them (`tile`), which copy nothing. What is read and written next in the
//! images, a short run in each channel, is asked for ahead.
//! Results differ from the direct sum's by rounding, some 1e-6 of the largest of a tile, so f64 does not come here. An
//! infinite or NaN input would reach the whole of its tile: where a result is not finite, the direct sum is asked.
//!
//! Source: Winograd 1980; Lavin & Gray 2016, F(4 × 4, 3 × 3).

mod sides;
mod slab;
mod weight;

use std::ops::Range;

use sides::{Vector, both_sides, input_side, output_back, output_side, weight_side};

use slab::Slab;
pub(super) use weight::weight_grad;

use super::ConvShape;
use super::tile::{self, Operands, Step};
use crate::Result;
use crate::kernels::parallel::{self, Shared};
use crate::kernels::simd::{dispatch, max_vectors};
use crate::kernels::turn::{Grid, turn_to};
use crate::storage::Buffer;

/// Outputs of a tile along a side, and inputs.
const OUT: usize = 4;
const IN: usize = 6;
const PLACES: usize = IN * IN;
/// Channels that are transformed together: a vector of f32.
const LANES: usize = 16;
/// Channels on either side from which on it is faster than the direct sum.
const CHANNELS: usize = 16;
/// Elements of the transformed inputs and outputs of a task: what stays in the L2 cache beside the weights.
const TASK: usize = super::limit(1 << 16, 1 << 13);

/// Whether the convolution (and so its gradients) is one of those.
pub(super) fn fits(s: &ConvShape) -> bool {
    let plane = s.kernel == [1, 3, 3] && s.input[0] == 1 && s.padding[0] == 0;
    let dense = s.stride == [1; 3] && s.dilation == [1; 3] && s.padding[1] <= 2 && s.padding[2] <= 2;
    plane && dense && s.group_channels().iter().all(|&c| c >= CHANNELS)
}

/// One pass: `made` channels of size `to` from `read` channels of size `from`, shifted by `padding`.
struct Pass {
    batch: usize,
    groups: usize,
    read: usize,
    made: usize,
    from: [usize; 2],
    to: [usize; 2],
    padding: [usize; 2],
}

impl Pass {
    fn forward(s: &ConvShape) -> Pass {
        let [read, made] = s.group_channels();
        let [from, to] = [s.input, s.output].map(|size| [size[1], size[2]]);
        Pass { batch: s.batch, groups: s.groups, read, made, from, to, padding: [s.padding[1], s.padding[2]] }
    }

    /// The convolution that the input's gradient is: the output's by the kernel turned round.
    fn transposed(s: &ConvShape) -> Pass {
        let Pass { batch, groups, read, made, from, to, padding } = Pass::forward(s);
        Pass { batch, groups, read: made, made: read, from: to, to: from, padding: padding.map(|p| 2 - p) }
    }

    /// Tiles in a row, and rows of tiles of all samples of a group.
    fn tiles(&self) -> [usize; 2] {
        [self.to[1].div_ceil(OUT), self.batch * self.to[0].div_ceil(OUT)]
    }

    /// Rows of tiles in a task: their transforms fit the cache, and there are enough for a matrix product.
    fn rows_at_once(&self) -> usize {
        let [across, _] = self.tiles();
        (TASK / (PLACES * across * padded(self.read).max(padded(self.made)))).max(TILES.div_ceil(across))
    }

    /// Which sample a row of tiles is of, and its first output row there.
    fn place(&self, row: usize) -> (usize, usize) {
        let rows = self.to[0].div_ceil(OUT);
        (row / rows, row % rows * OUT)
    }
}

/// Tiles in a task at least.
const TILES: usize = super::limit(24, 3);

/// Channels rounded up to whole vectors.
fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// How the transforms of some tiles lie: `[36, panels, tiles, wide]`, for panels of `wide` channels (the last may have
/// fewer), and some room after each place, lest the 36 of a tile should share a set of the cache.
#[derive(Clone, Copy)]
struct Tiles {
    count: usize,
    channels: usize,
    wide: usize,
}

impl Tiles {
    /// Whose channels are read one by one.
    fn scalars(count: usize, channels: usize) -> Tiles {
        Tiles { count, channels: padded(channels), wide: padded(channels) }
    }

    /// Whose channels are the vectors of a product.
    fn vectors(count: usize, channels: usize) -> Tiles {
        Tiles { count, channels: padded(channels), wide: max_vectors() * LANES }
    }

    /// Elements of a place.
    fn place(&self) -> usize {
        self.count * self.channels + LANES
    }

    fn at(&self, tile: usize, channel: usize) -> usize {
        let first = channel / self.wide * self.wide;
        let wide = self.wide.min(self.channels - first);
        first * self.count + tile * wide + channel - first
    }

    /// Of each panel, the first channel and how many.
    fn panels(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.channels).step_by(self.wide).map(move |first| (first, self.wide.min(self.channels - first)))
    }
}

/// Transforms a row of tiles, whose squares of `N` places lie `OUT` apart in the slab, to the tiles from `first` on.
fn transform<const N: usize>(
    out: &mut [f32],
    tiles: Tiles,
    first: usize,
    slab: &Slab,
    side: impl Fn(&[Vector; N], &mut [Vector; IN]) + Copy,
) {
    let Slab { data, width, channels } = slab;
    dispatch(
        #[inline(always)]
        || {
            for t in 0..(width - (N - OUT)) / OUT {
                for c in (0..*channels).step_by(LANES) {
                    let from = &data[t * OUT * channels + c..];
                    let to = &mut out[tiles.at(first + t, c)..];
                    both_sides(from, [width * channels, *channels], to, [IN * tiles.place(), tiles.place()], side);
                }
            }
        },
    );
}

impl Pass {
    /// `Bᵀ x B` of the tiles of `rows` of a group.
    fn inputs(&self, src: &[f32], group: usize, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let ([across, _], plane) = (self.tiles(), self.from[0] * self.from[1]);
        let tiles = Tiles::scalars(rows.len() * across, self.read);
        let mut slab = Slab::new(IN, across * OUT + IN - OUT, self.read)?;
        let planes = |sample: usize| &src[(sample * self.groups + group) * self.read * plane..][..self.read * plane];
        let above = |y: usize| y.checked_sub(self.padding[0]);
        for (i, row) in rows.clone().enumerate() {
            let (sample, first) = self.place(row);
            // Below another row of the same sample, the first two rows are its last.
            let known = if i > 0 && first > 0 { IN - OUT } else { 0 };
            slab.keep_last(known);
            for r in known..IN {
                slab.take(r, planes(sample), self.from, self.read, above(first + r), self.padding[1]);
            }
            if row + 1 < rows.end {
                let (sample, first) = self.place(row + 1);
                let fresh = above(first + if first > 0 { IN - OUT } else { 0 }).unwrap_or(0)..first + IN;
                slab::ask_for(planes(sample), self.from, self.read, fresh);
            }
            transform::<IN>(out, tiles, i * across, &slab, input_side);
        }
        Ok(())
    }

    /// `A dy Aᵀ` of the tiles of `rows` of a group.
    fn outputs(&self, dy: &[f32], group: usize, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let ([across, _], plane) = (self.tiles(), self.to[0] * self.to[1]);
        let tiles = Tiles::vectors(rows.len() * across, self.made);
        let mut slab = Slab::new(OUT, across * OUT, self.made)?;
        let planes = |sample: usize| &dy[(sample * self.groups + group) * self.made * plane..][..self.made * plane];
        for (i, row) in rows.clone().enumerate() {
            let (sample, first) = self.place(row);
            for r in 0..OUT {
                slab.take(r, planes(sample), self.to, self.made, Some(first + r), 0);
            }
            if row + 1 < rows.end {
                let (sample, first) = self.place(row + 1);
                slab::ask_for(planes(sample), self.to, self.made, first..first + OUT);
            }
            transform::<OUT>(out, tiles, i * across, &slab, output_back);
        }
        Ok(())
    }

    /// Writes the convolution to `dst`; whether all of it is finite.
    fn run(&self, src: &[f32], weights: &[f32], bias: Option<&[f32]>, dst: &mut [f32]) -> Result<bool> {
        let ([across, down], at_once) = (self.tiles(), self.rows_at_once());
        let (tasks, out) = (down.div_ceil(at_once), Shared::new(dst));
        let steps: Vec<Step> = (0..self.read).map(|r| Step { vector: r, scalar: r }).collect();
        let finite = parallel::map_chunks(self.groups * tasks, 1, |task| {
            let (group, first) = (task.start / tasks, task.start % tasks * at_once);
            let rows = first..(first + at_once).min(down);
            let count = rows.len() * across;
            let (read, made) = (Tiles::scalars(count, self.read), Tiles::vectors(count, self.made));
            let mut x = Buffer::try_scratch(PLACES * read.place(), "conv")?;
            self.inputs(src, group, rows.clone(), &mut x)?;
            let mut y = Buffer::try_scratch(PLACES * made.place(), "conv")?;
            let weights = &weights[group * PLACES * self.read * made.channels..];
            let at: Vec<usize> = (0..count).map(|t| t * read.channels).collect();
            for place in 0..PLACES {
                let scalars = &x[place * read.place()..][..count * read.channels];
                for (first, wide) in made.panels() {
                    let y = &mut y[place * made.place() + first * count..][..count * wide];
                    let bias = bias.map(|b| &b[group * self.made..][..self.made]).filter(|_| place == ONES);
                    if let Some(bias) = bias {
                        spread(&bias[first..self.made.min(first + wide)], y, wide);
                    }
                    let vectors = &weights[(place * made.channels + first) * self.read..][..self.read * wide];
                    let operands = Operands { vectors, unit: wide, bases: &[0], scalars, at: &at, steps: &steps };
                    tile::sums(wide / LANES, &operands, y, bias.is_some());
                }
            }
            self.write(&y, group, rows, &out)
        });
        Ok(finite.into_iter().collect::<Result<Vec<bool>>>()?.into_iter().all(|finite| finite))
    }

    /// `Aᵀ m A` of the tiles `m` of `rows` of a group; whether all of it is finite.
    fn write(&self, m: &[f32], group: usize, rows: Range<usize>, out: &Shared<f32>) -> Result<bool> {
        let ([across, _], [height, width]) = (self.tiles(), self.to);
        let tiles = Tiles::vectors(rows.len() * across, self.made);
        let (channels, place) = (tiles.channels, tiles.place());
        // Rows follow each other without a gap, as in the output: what a row's last tile has too much is overwritten.
        let mut slab = Buffer::<f32>::try_scratch((OUT * width + OUT) * channels, "conv")?;
        let mut largest = 0;
        for (i, row) in rows.enumerate() {
            let (sample, y) = self.place(row);
            let len = OUT.min(height - y) * width;
            let start = |c: usize| (((sample * self.groups + group) * self.made + c) * height + y) * width;
            (0..self.made).for_each(|c| out.ask_for(start(c), len));
            dispatch(
                #[inline(always)]
                || {
                    for t in (0..across).rev() {
                        for c in (0..channels).step_by(LANES) {
                            let from = &m[tiles.at(i * across + t, c)..];
                            let to = &mut slab[t * OUT * channels + c..];
                            both_sides(from, [IN * place, place], to, [width * channels, channels], output_side);
                        }
                    }
                },
            );
            largest = slab[..len * channels].iter().fold(largest, |most, x| most.max(x.to_bits() << 1));
            let plane = height * width;
            let to = Grid { data: out.pointer(start(0), (self.made - 1) * plane + len), row: plane };
            // SAFETY: each row of a channel is of one tile row, which one task has.
            unsafe { turn_to(Grid { data: &slab[..], row: channels }, to, len, self.made) };
        }
        Ok(largest < f32::INFINITY.to_bits() << 1)
    }
}

/// The place that all outputs of a tile have once: what is added there is added to each of them.
const ONES: usize = IN + 1;

/// Writes `row`, and zeros behind it, to each row of `wide` elements.
fn spread(row: &[f32], out: &mut [f32], wide: usize) {
    for out in out.chunks_exact_mut(wide) {
        out[..row.len()].copy_from_slice(row);
        out[row.len()..].fill(0.0);
    }
}

/// The transformed weights of each group, `[36, panels, read, wide]`. Forward they are `[made, read, 3, 3]`, for the
/// gradient of the input `[read, made, 3, 3]` and turned round.
fn weights(pass: &Pass, w: &[f32], transposed: bool) -> Result<Buffer<f32>> {
    let (read, made) = (pass.read, pass.made);
    // Each channel read is a tile, so to speak, of which a place has no room behind it.
    let tiles = Tiles::vectors(read, made);
    let size = PLACES * read * tiles.channels;
    let mut buffer = Buffer::try_scratch(pass.groups * size, "conv")?;
    let out = Shared::new(&mut buffer);
    parallel::run(pass.groups * read, |task| {
        let (group, r) = (task / read, task % read);
        let w = &w[group * read * made * 9..][..read * made * 9];
        let (first, step) = if transposed { (r * made * 9, 9) } else { (r * 9, read * 9) };
        dispatch(
            #[inline(always)]
            || {
                for c in (0..made).step_by(LANES) {
                    let (mut taps, mut places) = ([[0.0; LANES]; 9], [[0.0; LANES]; PLACES]);
                    for l in 0..LANES.min(made - c) {
                        for (tap, w) in w[first + (c + l) * step..][..9].iter().enumerate() {
                            taps[if transposed { 8 - tap } else { tap }][l] = *w;
                        }
                    }
                    let (to, strides) = (places.as_flattened_mut(), [[3 * LANES, LANES], [IN * LANES, LANES]]);
                    both_sides(taps.as_flattened(), strides[0], to, strides[1], weight_side);
                    for (place, u) in places.iter().enumerate() {
                        let start = group * size + place * read * tiles.channels + tiles.at(r, c);
                        // SAFETY: each channel read is one task's.
                        unsafe { out.at(start, LANES) }.copy_from_slice(u);
                    }
                }
            },
        );
    });
    Ok(buffer)
}

/// As [`super::forward`]; `false` where the direct sum is to be asked.
pub(super) fn forward(s: &ConvShape, x: &[f32], w: &[f32], bias: Option<&[f32]>, out: &mut [f32]) -> Result<bool> {
    let pass = Pass::forward(s);
    pass.run(x, &weights(&pass, w, false)?, bias, out)
}

/// As [`super::input_grad`]; `false` where the direct sum is to be asked.
pub(super) fn input_grad(s: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) -> Result<bool> {
    let pass = Pass::transposed(s);
    pass.run(dy, &weights(&pass, w, true)?, None, dx)
}
