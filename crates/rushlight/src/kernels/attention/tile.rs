//! A tile of queries: where they lie, which keys they see, and their scores with a block of keys.

use std::ops::Range;

use super::product::{Attend, Product, lanes, max_vectors, product};
use super::{Dropout, KEYS, Mask, MaskValues, Operand, Out, Problem};
use crate::kernels::random::philox;
use crate::kernels::simd::dispatch;
use crate::kernels::turn::{Grid, turn};

/// Queries in a whole tile.
pub(super) fn tile_rows<C>() -> usize {
    max_vectors() * lanes::<C>()
}

/// Some queries of one head of keys, one to a lane.
pub(super) struct Tile<'a, C> {
    problem: &'a Problem<'a, C>,
    batch: usize,
    kv_head: usize,
    /// Among the rows that read these keys: `(head of the group, query)`, flat.
    rows: Range<usize>,
    /// Whole vectors. Lanes without a query hold zeros, and nothing is made of them.
    pub lanes: usize,
    /// How many keys each lane sees, from the first on.
    sees: Vec<usize>,
}

impl<'a, C: Attend> Tile<'a, C> {
    /// Tile `tile` of head `head` of the keys, counted over all samples.
    pub fn new(problem: &'a Problem<'a, C>, head: usize, tile: usize) -> Tile<'a, C> {
        let s = problem.sizes;
        let rows = tile * tile_rows::<C>()..((tile + 1) * tile_rows::<C>()).min(s.rows());
        let lanes = rows.len().next_multiple_of(lanes::<C>());
        let visible = |row: usize| {
            let all = problem.diagonal.map_or(s.keys as isize, |d| d.saturating_add((row % s.queries) as isize + 1));
            all.clamp(0, s.keys as isize) as usize
        };
        let mut sees: Vec<usize> = rows.clone().map(visible).collect();
        // Lanes without a query see what the last one sees, so that they decide nothing.
        sees.resize(lanes, sees.last().copied().unwrap_or(0));
        Tile { problem, batch: head / s.kv_heads, kv_head: head % s.kv_heads, rows, lanes, sees }
    }

    /// How many queries there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The sample, head and place of each query.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<C> {
        let (s, batch) = (self.problem.sizes, self.batch);
        let first = self.kv_head * (s.heads / s.kv_heads);
        self.rows.clone().map(move |row| (batch, first + row / s.queries, row % s.queries))
    }

    /// The queries' places in a flat `[batch, heads, queries]`.
    pub fn flat(&self) -> Range<usize> {
        let s = self.problem.sizes;
        let start = (self.batch * s.kv_heads + self.kv_head) * s.rows();
        start + self.rows.start..start + self.rows.end
    }

    /// The blocks of keys that any query sees.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<C> {
        let end = self.sees.iter().copied().max().unwrap_or(0);
        (0..end).step_by(KEYS).map(move |start| start..(start + KEYS).min(end))
    }

    /// The queries' rows of `n` elements, each followed by zeros up to `row`: `[queries, row]`.
    pub fn copy_rows(&self, of: Operand<C>, n: usize, row: usize, to: &mut [C]) {
        if n > 0 {
            for ((b, h, t), to) in self.places().zip(to.chunks_exact_mut(row)) {
                to[..n].copy_from_slice(&of.row(b, h, t)[..n]);
                to[n..].fill(C::ZERO);
            }
        }
    }

    /// `rows`, as [`copy_rows`](Tile::copy_rows) gives them, as columns `[n, lanes]`.
    pub fn columns(&self, rows: &[C], n: usize, row: usize, to: &mut [C]) {
        if self.len() < self.lanes {
            to[..n * self.lanes].fill(C::ZERO);
        }
        if n > 0 {
            turn(Grid { data: rows, row }, Grid { data: to, row: self.lanes }, self.len(), n);
        }
    }

    /// Columns `[n, lanes]` as rows of the output, by way of `rows`.
    pub fn write(&self, columns: &[C], n: usize, rows: &mut [C], out: &Out<C>) {
        if n > 0 {
            turn(Grid { data: columns, row: self.lanes }, Grid { data: rows, row: n }, n, self.len());
            for ((b, h, t), row) in self.places().zip(rows.chunks_exact(n)) {
                // SAFETY: each query belongs to one tile of one head, and the row is let go at once.
                unsafe { out.row(b, h, t) }.copy_from_slice(row);
            }
        }
    }

    /// `q·kᵀ·scale + mask` of a block of keys, `[keys, lanes]`; −∞ where a query does not see the key.
    ///
    /// `queries` are columns `[dim, lanes]`, scaled; `added` is scratch of the size of `out`, if there is a mask.
    pub fn scores(&self, queries: &[C], keys: Range<usize>, added: &mut [C], out: &mut [C]) {
        self.dots(self.problem.k, queries, self.problem.sizes.dim, keys.clone(), out);
        if let Some(mask) = &self.problem.mask {
            let added = &mut added[..out.len()];
            match mask.values {
                MaskValues::Keep(x) => {
                    self.spread(mask, &keys, added, |at| if x[at] { C::ZERO } else { C::NEG_INFINITY })
                }
                MaskValues::Add(x) => self.spread(mask, &keys, added, |at| x[at] * C::of(C::LOG_BASE)),
            }
            for (score, &added) in out.iter_mut().zip(&*added) {
                *score = if added == C::NEG_INFINITY { added } else { *score + added };
            }
        }
        if self.sees.iter().any(|&end| end < keys.end) {
            for (key, scores) in keys.zip(out.chunks_exact_mut(self.lanes)) {
                for (score, &end) in scores.iter_mut().zip(&self.sees) {
                    *score = if key < end { *score } else { C::NEG_INFINITY };
                }
            }
        }
    }

    /// Reads the mask's values for a block of keys: `[keys, lanes]`.
    fn spread(&self, mask: &Mask<C>, keys: &Range<usize>, out: &mut [C], read: impl Fn(usize) -> C) {
        let [batch, head, query, key] = mask.strides;
        let start = |(b, h, t)| mask.offset + b * batch + h * head + t * query + keys.start * key;
        let mut first = None;
        for (lane, at) in self.places().map(start).enumerate() {
            if *first.get_or_insert(at) == at && lane > 0 {
                continue;
            }
            for (j, out) in out[lane..].iter_mut().step_by(self.lanes).enumerate() {
                *out = read(at + j * key);
            }
        }
        // What is the same as for the first query, as padding is for all.
        let same = self.places().map(start).enumerate().filter(|(_, at)| Some(*at) == first).map(|(lane, _)| lane);
        let same: Vec<usize> = same.skip(1).collect();
        for row in out.chunks_exact_mut(self.lanes) {
            same.iter().for_each(|&lane| row[lane] = row[0]);
            row[self.len()..].fill(C::ZERO);
        }
    }

    /// The products of the rows of a block of keys (or of their values) with columns `[n, lanes]`: `[keys, lanes]`.
    pub fn dots(&self, of: Operand<C>, columns: &[C], n: usize, keys: Range<usize>, out: &mut [C]) {
        let (scalars, stride) = (self.from(of, n, keys.start), self.lanes);
        let (rows, width) = (keys.len(), self.lanes / lanes::<C>());
        let p = Product { scalars, row: of.at.row, step: 1, vectors: columns, stride, rows, steps: n, width };
        out.fill(C::ZERO);
        product(&p, out, self.lanes);
    }

    /// Adds the sum of the rows of a block of keys (or of their values) by these weights `[keys, lanes]`: `[n, lanes]`.
    pub fn weigh(&self, of: Operand<C>, weights: &[C], n: usize, keys: Range<usize>, out: &mut [C]) {
        let (scalars, stride) = (self.from(of, n, keys.start), self.lanes);
        let (steps, width) = (keys.len(), self.lanes / lanes::<C>());
        let p = Product { scalars, row: 1, step: of.at.row, vectors: weights, stride, rows: n, steps, width };
        product(&p, out, self.lanes);
    }

    /// Adds to `sums` `[all keys, row]` the tile's rows `[queries, row]` by these weights `[keys, lanes]`.
    pub fn gather(&self, weights: &[C], rows: &[C], row: usize, keys: Range<usize>, sums: &mut [C]) {
        let width = row / lanes::<C>();
        let (scalar_row, steps) = (self.lanes, self.len());
        let p = Product {
            scalars: weights,
            row: scalar_row,
            step: 1,
            vectors: rows,
            stride: row,
            rows: keys.len(),
            steps,
            width,
        };
        product(&p, &mut sums[keys.start * row..], row);
    }

    fn from<'b>(&self, of: Operand<'b, C>, n: usize, key: usize) -> &'b [C] {
        if n == 0 { &[] } else { of.row(self.batch, self.kv_head, key) }
    }

    /// What dropout makes of a block of weights: 0 or 1 / (1 − p) each, `[keys, lanes]`.
    pub fn kept(&self, Dropout { p, place: (seed, offset) }: Dropout, keys: &Range<usize>, out: &mut [C]) {
        let threshold = (p * 2f64.powi(32)).round();
        if threshold > u32::MAX as f64 {
            return out.fill(C::ZERO);
        }
        let (threshold, scale, lanes) = (threshold as u32, C::of(1.0 / (1.0 - p)), self.lanes);
        // A block of keys starts at a multiple of four.
        let per_row = self.problem.sizes.keys.div_ceil(4);
        let first = offset.wrapping_add((self.flat().start * per_row + keys.start / 4) as u64);
        dispatch(
            #[inline(always)]
            || {
                for (block, rows) in out.chunks_mut(4 * lanes).enumerate() {
                    for lane in 0..lanes {
                        let bits = philox(seed, first.wrapping_add((lane * per_row + block) as u64));
                        for (row, bits) in rows.chunks_exact_mut(lanes).zip(bits) {
                            row[lane] = if bits >= threshold { scale } else { C::ZERO };
                        }
                    }
                }
            },
        );
    }
}
