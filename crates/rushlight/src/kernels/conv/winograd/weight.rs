//! The gradient of the weights: `dw = Gᵀ [ Σ over tiles (Bᵀ x B) ∘ (A dy Aᵀ) ] G`.
//!
//! The sums in the middle are 36 products `[channels read, tiles] · [tiles, channels made]`. Where they are few, a task
//! makes those of a part of the batch within its own cache, transforms and all, and the parts are added in order. Else
//! the tasks share out the transforms of some tiles, then the places.

use std::sync::Mutex;

use super::sides::{both_sides, weight_back};
use super::{ConvShape, IN, LANES, PLACES, Pass, Tiles};
use crate::Result;
use crate::kernels::conv::limit;
use crate::kernels::conv::tile::{self, Operands, Step};
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::storage::Buffer;

/// Sums that a task has for itself: what stays in the L2 cache beside the transforms.
const OWN: usize = limit(1 << 18, 1 << 14);
/// Parts of the batch at most, and the tiles that one has at least.
const PARTS: usize = 16;
const TILES: usize = limit(128, 4);
/// Elements of the transformed tiles that are held at once otherwise: a part of the last-level cache.
const HELD: usize = limit(1 << 21, 1 << 14);

/// As [`super::super::weight_grad`]; `false` where the direct sum is to be asked.
pub(in crate::kernels::conv) fn weight_grad(s: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) -> Result<bool> {
    let pass = Pass::forward(s);
    let read = pass.read;
    let products = Products::new(&pass);
    for (group, dw) in dw.chunks_exact_mut(read * pass.made * 9).enumerate() {
        let sums = if PLACES * products.size <= OWN {
            products.by_parts(x, dy, group)?
        } else {
            products.by_places(x, dy, group)?
        };
        // [36, read, made] back to [made, read, 3, 3]
        parallel::chunks(dw, LANES * read * 9, |at, dw| {
            let first = at / (read * 9);
            dispatch(
                #[inline(always)]
                || {
                    for r in 0..read {
                        let (mut taps, mut places) = ([[0.0; LANES]; 9], [[0.0; LANES]; PLACES]);
                        for (place, u) in places.iter_mut().enumerate() {
                            let start = place * products.size + products.sums.at(r, first);
                            u.copy_from_slice(&sums[start..][..LANES]);
                        }
                        let (to, strides) = (taps.as_flattened_mut(), [[IN * LANES, LANES], [3 * LANES, LANES]]);
                        both_sides(places.as_flattened(), strides[0], to, strides[1], weight_back);
                        for (tap, v) in taps.iter().enumerate() {
                            for l in 0..dw.len() / (read * 9) {
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

/// What the sums are made by.
struct Products<'a> {
    pass: &'a Pass,
    /// Tiles in a row, rows of them in all, and how many rows are transformed at once.
    across: usize,
    down: usize,
    at_once: usize,
    /// How the sums of a place lie: a channel read is what a tile is elsewhere. Their number.
    sums: Tiles,
    size: usize,
    channels: Vec<usize>,
    steps: Vec<Step>,
}

impl<'a> Products<'a> {
    fn new(pass: &'a Pass) -> Products<'a> {
        let [across, down] = pass.tiles();
        let sums = Tiles::vectors(pass.read, pass.made);
        let own = PLACES * pass.read * sums.channels <= OWN;
        // Sums that are not near are asked for seldom.
        let at_once = pass.rows_at_once().max(if own { 1 } else { TILES.div_ceil(across) });
        let stride = Tiles::scalars(0, pass.read).channels;
        let steps = (0..at_once * across).map(|t| Step { vector: t, scalar: t * stride }).collect();
        let size = pass.read * sums.channels;
        Products { pass, across, down, at_once, sums, size, channels: (0..pass.read).collect(), steps }
    }

    /// The transforms of `rows` of tiles.
    fn shapes(&self, rows: usize) -> (Tiles, Tiles) {
        (Tiles::scalars(rows * self.across, self.pass.read), Tiles::vectors(rows * self.across, self.pass.made))
    }

    /// Elements that they take.
    fn held(&self, rows: usize) -> usize {
        let (x, y) = self.shapes(rows);
        PLACES * (x.place() + y.place())
    }

    /// Writes the transforms of some rows of tiles.
    fn transform(
        &self,
        x: &[f32],
        dy: &[f32],
        group: usize,
        rows: std::ops::Range<usize>,
        held: &mut [f32],
    ) -> Result<()> {
        let (to_x, to_y) = held.split_at_mut(PLACES * self.shapes(rows.len()).0.place());
        self.pass.inputs(x, group, rows.clone(), to_x)?;
        self.pass.outputs(dy, group, rows, to_y)
    }

    /// Writes the sums of a place over some rows of tiles, or adds them.
    fn place(&self, place: usize, rows: usize, held: &[f32], sums: &mut [f32], accumulate: bool) {
        let (x, y) = self.shapes(rows);
        let (from_x, from_y) = held.split_at(PLACES * x.place());
        let scalars = &from_x[place * x.place()..];
        for (c, wide) in y.panels() {
            let vectors = &from_y[place * y.place() + c * y.count..][..y.count * wide];
            let (at, steps) = (&self.channels[..], &self.steps[..y.count]);
            let operands = Operands { vectors, unit: wide, bases: &[0], scalars, at, steps };
            let sums = &mut sums[c * self.pass.read..][..self.pass.read * wide];
            tile::sums(wide / LANES, &operands, sums, accumulate);
        }
    }

    fn by_parts(&self, x: &[f32], dy: &[f32], group: usize) -> Result<Buffer<f32>> {
        let parts = (self.down * self.across / TILES).clamp(1, PARTS);
        let parts = parallel::map_chunks(self.down, self.down.div_ceil(parts), |part| {
            let mut sums = Buffer::try_scratch(PLACES * self.size, "conv")?;
            let mut held = Buffer::try_scratch(self.held(self.at_once), "conv")?;
            for first in part.clone().step_by(self.at_once) {
                let rows = first..part.end.min(first + self.at_once);
                self.transform(x, dy, group, rows.clone(), &mut held)?;
                for (place, sums) in sums.chunks_exact_mut(self.size).enumerate() {
                    self.place(place, rows.len(), &held, sums, first > part.start);
                }
            }
            Ok(sums)
        });
        let mut parts = parts.into_iter().collect::<Result<Vec<Buffer<f32>>>>()?.into_iter();
        let mut sums = match parts.next() {
            Some(sums) => sums,
            None => Buffer::full(PLACES * self.size, 0.0, "conv")?,
        };
        let parts: Vec<Buffer<f32>> = parts.collect();
        parallel::chunks(&mut sums, GRAIN, |at, sums| {
            for part in &parts {
                sums.iter_mut().zip(&part[at..]).for_each(|(sum, x)| *sum += x);
            }
        });
        Ok(sums)
    }

    fn by_places(&self, x: &[f32], dy: &[f32], group: usize) -> Result<Buffer<f32>> {
        let size = self.held(self.at_once);
        let tasks = (HELD / size).clamp(2, self.down.div_ceil(self.at_once).max(2));
        let mut held = Buffer::try_scratch(tasks * size, "conv")?;
        let mut sums = Buffer::full(PLACES * self.size, 0.0, "conv")?;
        for first in (0..self.down).step_by(tasks * self.at_once) {
            let left = (self.down - first).div_ceil(self.at_once).min(tasks);
            let rows = |task: usize| {
                let first = first + task * self.at_once;
                first..(first + self.at_once).min(self.down)
            };
            let outcome = Mutex::new(Ok(()));
            parallel::chunks(&mut held[..left * size], size, |at, held| {
                if let Err(e) = self.transform(x, dy, group, rows(at / size), held) {
                    *outcome.lock().unwrap_or_else(|e| e.into_inner()) = Err(e);
                }
            });
            outcome.into_inner().unwrap_or_else(|e| e.into_inner())?;
            parallel::chunks(&mut sums, self.size, |at, sums| {
                for (task, held) in held[..left * size].chunks_exact(size).enumerate() {
                    self.place(at / self.size, rows(task).len(), held, sums, true);
                }
            });
        }
        Ok(sums)
    }
}
