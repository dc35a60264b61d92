//! A tile of queries: where they lie, which keys they see, and their scores with a block of keys.

use std::ops::Range;

use super::product::{Attend, Product, product};
use super::{Dropout, KEYS, Mask, Operand, Out, Problem, Rows};
use crate::Result;
use crate::kernels::random::philox;
use crate::kernels::simd::{dispatch, lanes, max_vectors};
use crate::kernels::turn::{Grid, turn};
use crate::storage::Buffer;

/// Queries in a whole tile.
pub(super) fn tile_rows<C>() -> usize {
    max_vectors() * lanes::<C>()
}

/// Keys that are taken together, starting at a multiple of four, and the lanes that see any of them. A block of scores
/// or weights is `[keys, lanes]`, of these lanes alone.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub keys: Range<usize>,
    /// The first lane.
    pub from: usize,
    pub lanes: usize,
}

impl Block {
    /// Elements of a block of scores.
    pub fn len(&self) -> usize {
        self.keys.len() * self.lanes
    }
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
    /// Tile `tile`, of `size` queries, of head `head` of the keys, counted over all samples.
    pub fn new(problem: &'a Problem<'a, C>, size: usize, head: usize, tile: usize) -> Tile<'a, C> {
        let s = problem.sizes;
        let rows = tile * size..((tile + 1) * size).min(s.rows());
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

    /// The blocks that keys are taken in, and the lanes that see any of each.
    pub fn blocks(&self) -> impl Iterator<Item = Block> {
        // Past the causal diagonal a vector of lanes after the other is left out.
        let sees: Vec<usize> = self.sees.chunks(lanes::<C>()).map(|v| v.iter().copied().max().unwrap_or(0)).collect();
        let end = sees.iter().copied().max().unwrap_or(0);
        let mut start = 0;
        std::iter::from_fn(move || {
            let hidden = sees.iter().take_while(|&&sees| sees <= start).count();
            let next = sees.get(hidden).map_or(end, |sees| sees.next_multiple_of(4));
            let keys = start..(start + KEYS).min(next).min(end);
            start = keys.end;
            let from = hidden * lanes::<C>();
            (!keys.is_empty()).then_some(Block { keys, from, lanes: self.lanes - from })
        })
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

    /// `q·kᵀ·scale + mask` of a block; −∞ where a query does not see the key.
    ///
    /// `queries` are columns `[dim, lanes]`, scaled; `added` is scratch of the size of `out`, if there is a mask.
    pub fn scores(&self, keys: &Keys<C>, queries: &[C], block: &Block, added: &mut [C], out: &mut [C]) {
        self.dots(keys.k, queries, self.problem.sizes.dim, block, out);
        if let Some(mask) = &self.problem.mask {
            let added = &mut added[..out.len()];
            self.spread(mask, block, added);
            for (score, &added) in out.iter_mut().zip(&*added) {
                *score = if added == C::NEG_INFINITY { added } else { *score + added };
            }
        }
        let sees = &self.sees[block.from..];
        if sees.iter().any(|&end| end < block.keys.end) {
            dispatch(
                #[inline(always)]
                || {
                    for (key, scores) in block.keys.clone().zip(out.chunks_exact_mut(block.lanes)) {
                        for (score, &end) in scores.iter_mut().zip(sees) {
                            *score = if key < end { *score } else { C::NEG_INFINITY };
                        }
                    }
                },
            );
        }
    }

    /// Reads the mask's values for a block.
    fn spread(&self, mask: &Mask<C>, block: &Block, out: &mut [C]) {
        let [batch, head, query, key] = mask.strides;
        let start = |(b, h, t)| mask.offset + b * batch + h * head + t * query + block.keys.start * key;
        let starts: Vec<usize> = self.places().skip(block.from).map(start).collect();
        // The same for all queries, as padding is.
        let alike = starts.iter().all(|&at| at == starts[0]);
        for (j, row) in out.chunks_exact_mut(block.lanes).enumerate() {
            if alike {
                row.fill(mask.value(starts[0] + j * key));
                continue;
            }
            let (row, rest) = row.split_at_mut(starts.len());
            for (out, &at) in row.iter_mut().zip(&starts) {
                *out = mask.value(at + j * key);
            }
            rest.fill(C::ZERO);
        }
    }

    /// The products of a block's rows of keys (or of values) with columns `[n, lanes]`.
    pub fn dots(&self, of: HeadRows<C>, columns: &[C], n: usize, block: &Block, out: &mut [C]) {
        let p = Product {
            scalars: of.data.get(block.keys.start * of.row..).unwrap_or_default(),
            row: of.row,
            step: 1,
            vectors: columns.get(block.from..).unwrap_or_default(),
            stride: self.lanes,
            rows: block.keys.len(),
            steps: n,
            width: block.lanes / lanes::<C>(),
        };
        product(&p, out, block.lanes, false);
    }

    /// Adds to columns `[n, lanes]` the sums of a block's rows of keys (or of values), by these weights.
    pub fn weigh(&self, of: HeadRows<C>, weights: &[C], n: usize, block: &Block, columns: &mut [C]) {
        let p = Product {
            scalars: of.data.get(block.keys.start * of.row..).unwrap_or_default(),
            row: 1,
            step: of.row,
            vectors: weights,
            stride: block.lanes,
            rows: n,
            steps: block.keys.len(),
            width: block.lanes / lanes::<C>(),
        };
        product(&p, columns.get_mut(block.from..).unwrap_or_default(), self.lanes, true);
    }

    /// Adds to `sums` `[all keys, row]` the tile's rows `[queries, row]`, by these weights of a block.
    pub fn gather(&self, weights: &[C], rows: &[C], row: usize, block: &Block, sums: &mut [C]) {
        let p = Product {
            scalars: weights,
            row: block.lanes,
            step: 1,
            vectors: rows.get(block.from * row..).unwrap_or_default(),
            stride: row,
            rows: block.keys.len(),
            steps: self.len() - block.from,
            width: row / lanes::<C>(),
        };
        product(&p, &mut sums[block.keys.start * row..], row, true);
    }

    /// What dropout makes of a block of weights: 0 or 1 / (1 − p) each.
    pub fn kept(&self, Dropout { p, place: (seed, offset) }: Dropout, block: &Block, out: &mut [C]) {
        let threshold = (p * 2f64.powi(32)).round();
        if threshold > u32::MAX as f64 {
            return out.fill(C::ZERO);
        }
        let (threshold, scale, lanes) = (threshold as u32, C::of(1.0 / (1.0 - p)), block.lanes);
        let per_row = self.problem.sizes.keys.div_ceil(4);
        let first = offset.wrapping_add(((self.flat().start + block.from) * per_row + block.keys.start / 4) as u64);
        dispatch(
            #[inline(always)]
            || {
                for (four, rows) in out.chunks_mut(4 * lanes).enumerate() {
                    for lane in 0..lanes {
                        let bits = philox(seed, first.wrapping_add((lane * per_row + four) as u64));
                        for (row, bits) in rows.chunks_exact_mut(lanes).zip(bits) {
                            row[lane] = if bits >= threshold { scale } else { C::ZERO };
                        }
                    }
                }
            },
        );
    }
}

/// The rows of one head, each `row` elements behind the last.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a, C> {
    data: &'a [C],
    row: usize,
}

/// The keys and values of one head: where they lie, or a copy of rows that are far apart, which its tiles share.
pub(super) struct Keys<'a, C> {
    pub k: HeadRows<'a, C>,
    pub v: HeadRows<'a, C>,
}

impl<'a, C: Attend> Keys<'a, C> {
    pub fn new(problem: &Problem<'a, C>, head: usize, copies: &'a mut [Buffer<C>; 2]) -> Keys<'a, C> {
        let s = problem.sizes;
        let [k, v] = copies;
        let (b, h) = (head / s.kv_heads, head % s.kv_heads);
        Keys { k: rows(problem.k, b, h, (s.keys, s.dim), k), v: rows(problem.v, b, h, (s.keys, s.value_dim), v) }
    }

    /// Scratch for the copies, where so many tiles make them worth it.
    pub fn copies(problem: &Problem<C>, tiles: usize) -> Result<[Buffer<C>; 2]> {
        let s = problem.sizes;
        let len = |at: &Rows, n: usize| if at.row == n || tiles < 2 { 0 } else { s.keys * n };
        let buffer = |len: usize| Buffer::try_scratch(len, "scaled_dot_product_attention");
        Ok([buffer(len(&problem.k.at, s.dim))?, buffer(len(&problem.v.at, s.value_dim))?])
    }
}

fn rows<'a, C: Attend>(
    of: Operand<'a, C>,
    b: usize,
    h: usize,
    (rows, n): (usize, usize),
    copy: &'a mut [C],
) -> HeadRows<'a, C> {
    if rows == 0 || n == 0 {
        return HeadRows { data: &[], row: 0 };
    }
    if copy.is_empty() {
        return HeadRows { data: of.row(b, h, 0), row: of.at.row };
    }
    for (t, to) in copy.chunks_exact_mut(n).enumerate() {
        to.copy_from_slice(&of.row(b, h, t)[..n]);
    }
    HeadRows { data: copy, row: n }
}
