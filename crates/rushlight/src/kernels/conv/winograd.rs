//! Convolutions of 3 × 3 taps at stride 1 by Winograd's minimal filtering: 36 products for a tile of 4 × 4 outputs,
//! where the sum over the taps takes 144.
//!
//! ```text
//! y = Aᵀ [ (G w Gᵀ) ∘ (Bᵀ x B) ] A       for a tile: x 6 × 6, w 3 × 3, y 4 × 4
//! ```
//!
//! With many channels the products in the middle become 36 matrix products, one for each place of the transformed tile:
//! `[tiles, channels read] · [channels read, channels made]`. The gradient of the weights is the same form read
//! backwards: `dw = Gᵀ [ Σ over tiles (Bᵀ x B) ∘ (A dy Aᵀ) ] G`.
//!
//! Inside, channels come last, so that a transform is a few additions of vectors over channels, whatever the tiles' size.
//! Results differ from the direct sum's by rounding, some 1e-6 of the largest of a tile, so f64 does not come here. An
//! infinite or NaN input would reach the whole of its tile: where a result is not finite, the direct sum is asked.
//!
//! Source: Winograd 1980; Lavin & Gray 2016, F(4 × 4, 3 × 3).

mod sides;

use std::ops::Range;

use sides::{Vector, both_sides, input_side, output_back, output_side, weight_back, weight_side};

use super::ConvShape;
use crate::Result;
use crate::kernels::gemm::{Mat, MatMut, gemm_here};
use crate::kernels::parallel::{self, Shared};
use crate::kernels::simd::dispatch;
use crate::kernels::turn::{Grid, turn};
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
const TASK: usize = super::limit(1 << 18, 1 << 13);

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
const TILES: usize = super::limit(48, 3);

/// Channels rounded up to whole vectors.
fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// Some rows of an image with the channels last and zeros around.
struct Slab {
    data: Buffer<f32>,
    width: usize,
    channels: usize,
}

impl Slab {
    fn new(rows: usize, width: usize, channels: usize) -> Result<Slab> {
        let (whole, size) = (padded(channels), rows * width * padded(channels));
        // The channels behind the last are never written.
        let data =
            if whole == channels { Buffer::try_scratch(size, "conv")? } else { Buffer::full(size, 0.0, "conv")? };
        Ok(Slab { data, width, channels: whole })
    }

    /// Takes row `y` (beyond the image: zeros) of `channels` planes of `size` as row `row`, from column `left` on.
    fn take(&mut self, row: usize, planes: &[f32], size: [usize; 2], channels: usize, y: Option<usize>, left: usize) {
        let to = &mut self.data[row * self.width * self.channels..][..self.width * self.channels];
        let Some(y) = y.filter(|&y| y < size[0]) else {
            to.fill(0.0);
            return;
        };
        let (before, rest) = to.split_at_mut(left * self.channels);
        let (inside, after) = rest.split_at_mut(size[1] * self.channels);
        before.fill(0.0);
        after.fill(0.0);
        let from = Grid { data: &planes[y * size[1]..], row: size[0] * size[1] };
        turn(from, Grid { data: inside, row: self.channels }, channels, size[1]);
    }
}

/// The tiles of some rows, transformed: `[36, tiles, channels]`, from squares of `N` places that are `OUT` apart.
fn transformed<const N: usize>(
    out: &mut [f32],
    (row, tiles): (usize, usize),
    across: usize,
    slab: &Slab,
    side: impl Fn(&[Vector; N], &mut [Vector; IN]) + Copy,
) {
    let Slab { data, width, channels } = slab;
    dispatch(
        #[inline(always)]
        || {
            for t in 0..across {
                for c in (0..*channels).step_by(LANES) {
                    let from = &data[t * OUT * channels + c..];
                    let to = &mut out[(row * across + t) * channels + c..];
                    let place = tiles * channels;
                    both_sides(from, [width * channels, *channels], to, [IN * place, place], side);
                }
            }
        },
    );
}

impl Pass {
    /// `Bᵀ x B` of the tiles of `rows` of a group, `[36, tiles, read]`.
    fn inputs(&self, src: &[f32], group: usize, rows: Range<usize>, slab: &mut Slab, out: &mut [f32]) {
        let ([across, _], plane) = (self.tiles(), self.from[0] * self.from[1]);
        for (i, row) in rows.clone().enumerate() {
            let (sample, first) = self.place(row);
            let planes = &src[(sample * self.groups + group) * self.read * plane..][..self.read * plane];
            for r in 0..IN {
                slab.take(r, planes, self.from, self.read, (first + r).checked_sub(self.padding[0]), self.padding[1]);
            }
            transformed::<IN>(out, (i, rows.len() * across), across, slab, input_side);
        }
    }

    /// `A dy Aᵀ` of the tiles of `rows` of a group, `[36, tiles, made]`.
    fn outputs(&self, dy: &[f32], group: usize, rows: Range<usize>, slab: &mut Slab, out: &mut [f32]) {
        let ([across, _], plane) = (self.tiles(), self.to[0] * self.to[1]);
        for (i, row) in rows.clone().enumerate() {
            let (sample, first) = self.place(row);
            let planes = &dy[(sample * self.groups + group) * self.made * plane..][..self.made * plane];
            for r in 0..OUT {
                slab.take(r, planes, self.to, self.made, Some(first + r), 0);
            }
            transformed::<OUT>(out, (i, rows.len() * across), across, slab, output_back);
        }
    }

    fn input_slab(&self) -> Result<Slab> {
        Slab::new(IN, self.tiles()[0] * OUT + 2, self.read)
    }

    /// Writes the convolution to `dst`; whether all of it is finite.
    fn run(&self, src: &[f32], weights: &[f32], bias: Option<&[f32]>, dst: &mut [f32]) -> Result<bool> {
        let ([across, down], at_once) = (self.tiles(), self.rows_at_once());
        let (read, made) = (padded(self.read), padded(self.made));
        let (tasks, out) = (down.div_ceil(at_once), Shared::new(dst));
        let finite = parallel::map_chunks(self.groups * tasks, 1, |task| {
            let (group, first) = (task.start / tasks, task.start % tasks * at_once);
            let rows = first..(first + at_once).min(down);
            let tiles = rows.len() * across;
            let mut x = Buffer::try_scratch(PLACES * tiles * read, "conv")?;
            self.inputs(src, group, rows.clone(), &mut self.input_slab()?, &mut x);
            let mut y = Buffer::try_scratch(PLACES * tiles * made, "conv")?;
            for place in 0..PLACES {
                let weights = &weights[group * self.read * PLACES * self.made..];
                let u = Mat {
                    data: weights,
                    offset: place * self.made,
                    rows: self.read,
                    cols: self.made,
                    row_stride: (PLACES * self.made) as isize,
                    col_stride: 1,
                };
                let x = Mat { cols: self.read, ..Mat::row_major(&x[place * tiles * read..], tiles, read) };
                let y = MatMut { cols: self.made, ..MatMut::row_major(&mut y[place * tiles * made..], tiles, made) };
                gemm_here(y, x, u, false);
            }
            self.write(&y, group, rows, bias, &out)
        });
        Ok(finite.into_iter().collect::<Result<Vec<bool>>>()?.into_iter().all(|finite| finite))
    }

    /// `Aᵀ m A` of the tiles `m` `[36, tiles, made]` of `rows` of a group; whether all of it is finite.
    fn write(
        &self,
        m: &[f32],
        group: usize,
        rows: Range<usize>,
        bias: Option<&[f32]>,
        out: &Shared<f32>,
    ) -> Result<bool> {
        let ([across, _], made) = (self.tiles(), padded(self.made));
        let ([height, width], tiles) = (self.to, rows.len() * across);
        let mut slab = Buffer::<f32>::try_scratch(OUT * across * OUT * made, "conv")?;
        let mut turned = Buffer::<f32>::try_scratch(self.made * across * OUT, "conv")?;
        let mut finite = true;
        for (i, row) in rows.enumerate() {
            dispatch(
                #[inline(always)]
                || {
                    for t in 0..across {
                        for c in (0..made).step_by(LANES) {
                            let at = (i * across + t) * made + c;
                            let (place, y) = (tiles * made, &mut slab[t * OUT * made + c..]);
                            both_sides(&m[at..], [IN * place, place], y, [across * OUT * made, made], output_side);
                        }
                    }
                },
            );
            let (sample, first) = self.place(row);
            for y in first..height.min(first + OUT) {
                let from = Grid { data: &slab[(y - first) * across * OUT * made..], row: made };
                turn(from, Grid { data: &mut turned[..], row: across * OUT }, width, self.made);
                for (c, turned) in turned.chunks_exact(across * OUT).enumerate() {
                    let channel = group * self.made + c;
                    let start = ((sample * self.groups * self.made + channel) * height + y) * width;
                    // SAFETY: each row of a channel is of one tile row, which one task has.
                    let out = unsafe { out.at(start, width) };
                    let bias = bias.map_or(0.0, |b| b[channel]);
                    for (out, x) in out.iter_mut().zip(turned) {
                        *out = x + bias;
                        finite &= out.is_finite();
                    }
                }
            }
        }
        Ok(finite)
    }
}

/// The transformed weights, `[groups, read, 36, made]`. Forward they are `[made, read, 3, 3]`, for the gradient of the
/// input `[read, made, 3, 3]` and turned round.
fn weights(pass: &Pass, w: &[f32], transposed: bool) -> Result<Buffer<f32>> {
    let (read, made) = (pass.read, pass.made);
    let mut out = Buffer::try_scratch(pass.groups * read * PLACES * made, "conv")?;
    parallel::chunks(&mut out, PLACES * made, |at, out| {
        let (group, r) = (at / (PLACES * made) / read, at / (PLACES * made) % read);
        let w = &w[group * read * made * 9..][..read * made * 9];
        let (first, step) = if transposed { (r * made * 9, 9) } else { (r * 9, read * 9) };
        dispatch(
            #[inline(always)]
            || {
                for c in (0..made).step_by(LANES) {
                    let here = LANES.min(made - c);
                    let (mut taps, mut places) = ([[0.0; LANES]; 9], [[0.0; LANES]; PLACES]);
                    for l in 0..here {
                        for (tap, w) in w[first + (c + l) * step..][..9].iter().enumerate() {
                            taps[if transposed { 8 - tap } else { tap }][l] = *w;
                        }
                    }
                    let (to, strides) = (places.as_flattened_mut(), [[3 * LANES, LANES], [IN * LANES, LANES]]);
                    both_sides(taps.as_flattened(), strides[0], to, strides[1], weight_side);
                    for (place, u) in places.iter().enumerate() {
                        out[place * made + c..][..here].copy_from_slice(&u[..here]);
                    }
                }
            },
        );
    });
    Ok(out)
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

/// Elements of the transformed tiles that are held at once: a part of the last-level cache.
const HELD: usize = super::limit(1 << 21, 1 << 14);

/// As [`super::weight_grad`]; `false` where the direct sum is to be asked.
pub(super) fn weight_grad(s: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) -> Result<bool> {
    let pass = Pass::forward(s);
    let ([across, down], at_once) = (pass.tiles(), pass.rows_at_once());
    let (read, made) = (pass.read, pass.made);
    let (tiles, width) = (at_once * across, padded(read) + padded(made));
    let tasks = (HELD / (PLACES * tiles * width)).clamp(2, down.div_ceil(at_once).max(2));
    let mut held = Buffer::<f32>::try_scratch(tasks * PLACES * tiles * width, "conv")?;
    let mut sums = Buffer::<f32>::try_scratch(PLACES * read * made, "conv")?;
    for (group, dw) in dw.chunks_exact_mut(read * made * 9).enumerate() {
        sums.fill(0.0);
        for first in (0..down).step_by(tasks * at_once) {
            let left = (down - first).div_ceil(at_once).min(tasks);
            let held = &mut held[..left * PLACES * tiles * width];
            let rows = |task: usize| first + task * at_once..(first + (task + 1) * at_once).min(down);
            let outcomes = std::sync::Mutex::new(Ok(()));
            parallel::chunks(held, PLACES * tiles * width, |at, held| {
                let rows = rows(at / (PLACES * tiles * width));
                let (to_x, to_y) = held.split_at_mut(PLACES * rows.len() * across * padded(read));
                let slabs = pass.input_slab().and_then(|a| Ok((a, Slab::new(OUT, across * OUT, made)?)));
                match slabs {
                    Ok((mut a, mut b)) => {
                        pass.inputs(x, group, rows.clone(), &mut a, to_x);
                        pass.outputs(dy, group, rows, &mut b, to_y);
                    }
                    Err(e) => *outcomes.lock().unwrap_or_else(|e| e.into_inner()) = Err(e),
                }
            });
            outcomes.into_inner().unwrap_or_else(|e| e.into_inner())?;
            parallel::chunks(&mut sums, read * made, |at, sum| {
                let place = at / (read * made);
                for (task, held) in held.chunks_exact(PLACES * tiles * width).enumerate() {
                    let tiles = rows(task).len() * across;
                    let (x, y) = held.split_at(PLACES * tiles * padded(read));
                    let [x, y] = [(x, read), (y, made)].map(|(data, channels)| {
                        let width = padded(channels);
                        Mat { cols: channels, ..Mat::row_major(&data[place * tiles * width..], tiles, width) }
                    });
                    gemm_here(MatMut::row_major(sum, read, made), x.t(), y, true);
                }
            });
        }
        // [36, read, made] back to [made, read, 3, 3]
        parallel::chunks(dw, LANES * read * 9, |at, dw| {
            let first = at / (read * 9);
            dispatch(
                #[inline(always)]
                || {
                    for r in 0..read {
                        let here = dw.len() / (read * 9);
                        let (mut taps, mut places) = ([[0.0; LANES]; 9], [[0.0; LANES]; PLACES]);
                        for (place, u) in places.iter_mut().enumerate() {
                            u[..here].copy_from_slice(&sums[(place * read + r) * made + first..][..here]);
                        }
                        let (to, strides) = (taps.as_flattened_mut(), [[IN * LANES, LANES], [3 * LANES, LANES]]);
                        both_sides(places.as_flattened(), strides[0], to, strides[1], weight_back);
                        for (tap, v) in taps.iter().enumerate() {
                            for l in 0..here {
                                dw[(l * read + r) * 9 + tap] = v[l];
                            }
                        }
                    }
                },
            );
        });
    }
    Ok(dw.iter().all(|w| w.is_finite()))
}
