//! Forward: the softmax of each row as its blocks of keys come.

use super::product::{Attend, Running};
use super::tile::{Keys, Tile, tile_rows};
use super::{KEYS, Out, Problem, few};
use crate::Result;
use crate::dtype::Real;
use crate::kernels::parallel;
use crate::storage::Buffer;

/// Multiply-adds that a task has at least.
const TASK: usize = super::limit(1 << 20, 1 << 10);

/// `y`, `[batch, heads, queries, value_dim]` or `interleaved` as `[batch, queries, heads, value_dim]`, and `lse`,
/// `[batch, heads, queries]`, in units that [`backward`](super::backward) knows. A query that sees no key gives zeros.
pub(crate) fn forward<C: Attend>(p: &Problem<C>, y: &mut [C], interleaved: bool, lse: &mut [C]) -> Result<()> {
    p.check();
    let s = p.sizes;
    let y = Out::new(y, [s.batch, s.heads, s.queries, s.value_dim], interleaved);
    let rows = s.batch * s.heads * s.queries;
    let lse = Out::new(lse, [1, 1, rows, 1], false);
    if few::suits(p) {
        return few::forward(p, &y, &lse);
    }
    let heads = s.batch * s.kv_heads;
    let size = tile_rows::<C>();
    let tiles = s.rows().div_ceil(size);
    let pieces = super::pieces(heads, tiles);
    // Few keys: several heads to a task.
    let work = s.rows().div_ceil(pieces) * s.keys * (s.dim + s.value_dim);
    let tasks = parallel::map_chunks(heads * pieces, (TASK / work.max(1)).max(1), |range| {
        let mut scratch = Scratch::new(p, size)?;
        let mut copies = Keys::copies(p, tiles.div_ceil(pieces))?;
        for i in range {
            let (head, piece) = (i / pieces, i % pieces);
            let keys = Keys::new(p, head, &mut copies);
            for tile in (piece..tiles).step_by(pieces) {
                scratch.tile(p, &keys, Tile::new(p, size, head, tile), &y, &lse);
            }
        }
        Ok(())
    });
    tasks.into_iter().collect()
}

struct Scratch<C> {
    rows: Buffer<C>,
    queries: Buffer<C>,
    scores: Buffer<C>,
    added: Buffer<C>,
    sums: Buffer<C>,
    /// Maximum, sum and factor of each lane.
    running: [Buffer<C>; 3],
}

impl<C: Attend> Scratch<C> {
    fn new(p: &Problem<C>, lanes: usize) -> Result<Scratch<C>> {
        let s = p.sizes;
        let buffer = |len: usize| Buffer::try_scratch(len, "scaled_dot_product_attention");
        Ok(Scratch {
            rows: buffer(s.dim.max(s.value_dim) * lanes)?,
            queries: buffer(s.dim * lanes)?,
            scores: buffer(KEYS * lanes)?,
            added: buffer(if p.mask.is_some() || p.dropout.is_some() { KEYS * lanes } else { 0 })?,
            sums: buffer(s.value_dim * lanes)?,
            running: [buffer(lanes)?, buffer(lanes)?, buffer(lanes)?],
        })
    }

    fn tile(&mut self, p: &Problem<C>, keys: &Keys<C>, tile: Tile<C>, y: &Out<C>, lse: &Out<C>) {
        let (s, lanes) = (p.sizes, tile.lanes);
        tile.copy_rows(p.q, s.dim, s.dim, &mut self.rows);
        tile.columns(&self.rows, s.dim, s.dim, &mut self.queries);
        scale(&mut self.queries[..s.dim * lanes], C::of(p.scale * C::LOG_BASE));
        let [max, sum, factor] = &mut self.running;
        let (max, sum, factor) = (&mut max[..lanes], &mut sum[..lanes], &mut factor[..lanes]);
        max.fill(C::NEG_INFINITY);
        sum.fill(C::ZERO);
        self.sums[..s.value_dim * lanes].fill(C::ZERO);
        for block in tile.blocks() {
            let scores = &mut self.scores[..block.len()];
            tile.scores(keys, &self.queries, &block, &mut self.added, scores);
            let (max, sum, factor) = (&mut max[block.from..], &mut sum[block.from..], &mut factor[block.from..]);
            if C::soften(Running { scores: &mut *scores, max, sum, factor: &mut *factor }) {
                C::scale(&mut self.sums[..s.value_dim * lanes], lanes, block.from, factor);
            }
            if let Some(dropout) = p.dropout {
                let kept = &mut self.added[..scores.len()];
                tile.kept(dropout, &block, kept);
                scores.iter_mut().zip(&*kept).for_each(|(w, &kept)| *w *= kept);
            }
            tile.weigh(keys.v, scores, s.value_dim, &block, &mut self.sums);
        }
        for (row, (max, (sum, factor))) in tile.flat().zip(max.iter().zip(sum.iter().zip(&mut *factor))) {
            // A query without keys: zeros, and weights of exp(s − ∞) = 0 in backward.
            let none = *sum == C::ZERO;
            *factor = if none { C::ZERO } else { C::ONE / *sum };
            let lse_of = if none { C::INFINITY } else { *max + sum.ln() * C::of(C::LOG_BASE) };
            // SAFETY: each query belongs to one tile.
            unsafe { lse.row(0, 0, row).fill(lse_of) };
        }
        C::scale(&mut self.sums[..s.value_dim * lanes], lanes, 0, factor);
        tile.write(&self.sums, s.value_dim, &mut self.rows, y);
    }
}

fn scale<C: Real>(x: &mut [C], by: C) {
    x.iter_mut().for_each(|x| *x *= by);
}
