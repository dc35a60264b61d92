//! Backward: the weights are made again from `lse`, block by block.
//!
//! A task goes through tiles of queries of one head of keys, and through the keys of each. Gradients of keys and values
//! are summed in its scratch, those of the queries of a tile as it passes. Where heads are few, their tiles are shared
//! out among several tasks, whose sums are then added in order.

use super::product::{Attend, Differential};
use super::tile::{Keys, Tile, tile_rows};
use super::{KEYS, Operand, Out, Problem};
use crate::Result;
use crate::kernels::parallel;
use crate::kernels::simd::lanes;
use crate::storage::Buffer;

const OP: &str = "scaled_dot_product_attention";

/// What backward starts from: the output, its logarithms of sums, and its gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saved<'a, C> {
    pub y: Operand<'a, C>,
    pub lse: &'a [C],
    pub dy: Operand<'a, C>,
}

/// A gradient to write: `[batch, heads, rows, n]`, or `[batch, rows, heads, n]` where interleaved.
pub(crate) type Grad<'a, C> = (&'a mut [C], bool);

/// `dq`, `dk` and `dv`.
pub(crate) fn backward<C: Attend>(p: &Problem<C>, saved: &Saved<C>, [dq, dk, dv]: [Grad<C>; 3]) -> Result<()> {
    p.check();
    let s = p.sizes;
    let sizes = [s.batch, s.heads, s.queries, s.value_dim];
    saved.y.check(sizes);
    saved.dy.check(sizes);
    assert_eq!(saved.lse.len(), s.batch * s.heads * s.queries);
    let out = |(slice, interleaved), heads, rows, n| Out::new(slice, [s.batch, heads, rows, n], interleaved);
    let dq = out(dq, s.heads, s.queries, s.dim);
    let (dk, dv) = (out(dk, s.kv_heads, s.keys, s.dim), out(dv, s.kv_heads, s.keys, s.value_dim));
    let heads = s.batch * s.kv_heads;
    let size = tile_rows::<C>();
    let tiles = s.rows().div_ceil(size);
    let pieces = super::pieces(heads, tiles);
    let parts = parallel::map_chunks(heads * pieces, 1, |i| {
        let (head, piece) = (i.start / pieces, i.start % pieces);
        let mut sums = Sums::new(p)?;
        let mut scratch = Scratch::new(p, size)?;
        let mut copies = Keys::copies(p, tiles.div_ceil(pieces))?;
        let keys = Keys::new(p, head, &mut copies);
        for tile in (piece..tiles).step_by(pieces) {
            scratch.tile(p, saved, &keys, Tile::new(p, size, head, tile), &mut sums, &dq);
        }
        if pieces > 1 {
            return Ok(Some(sums));
        }
        sums.write(p, head, &dk, &dv);
        Ok(None)
    });
    let mut parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
    if pieces > 1 {
        parallel::chunks(&mut parts, pieces, |first, parts| {
            if let Some((Some(sums), others)) = parts.split_first_mut() {
                others.iter().flatten().for_each(|part| sums.add(part));
                sums.write(p, first / pieces, &dk, &dv);
            }
        });
    }
    Ok(())
}

/// A row's elements rounded up to whole vectors.
fn padded<C>(n: usize) -> usize {
    n.next_multiple_of(lanes::<C>())
}

/// The gradients of one head's keys, without the scale, and of its values: `[keys, padded dim]`.
struct Sums<C> {
    dk: Buffer<C>,
    dv: Buffer<C>,
}

impl<C: Attend> Sums<C> {
    fn new(p: &Problem<C>) -> Result<Sums<C>> {
        let zeros = |n: usize| Buffer::full(p.sizes.keys * padded::<C>(n), C::ZERO, OP);
        Ok(Sums { dk: zeros(p.sizes.dim)?, dv: zeros(p.sizes.value_dim)? })
    }

    fn add(&mut self, other: &Sums<C>) {
        for (sums, more) in [(&mut self.dk, &other.dk), (&mut self.dv, &other.dv)] {
            sums.iter_mut().zip(&**more).for_each(|(sum, &x)| *sum += x);
        }
    }

    fn write(&self, p: &Problem<C>, head: usize, dk: &Out<C>, dv: &Out<C>) {
        let (b, h) = (head / p.sizes.kv_heads, head % p.sizes.kv_heads);
        for (sums, out, scale) in [(&self.dk, dk, C::of(p.scale)), (&self.dv, dv, C::ONE)] {
            if out.n > 0 {
                for (t, sums) in sums.chunks_exact(padded::<C>(out.n)).enumerate() {
                    // SAFETY: each head is written by one task, each of its rows once.
                    let row = unsafe { out.row(b, h, t) };
                    row.iter_mut().zip(sums).for_each(|(out, &x)| *out = x * scale);
                }
            }
        }
    }
}

struct Scratch<C> {
    /// The tile's queries and output gradients, as rows and as columns; the columns of the queries are scaled.
    q_rows: Buffer<C>,
    q_columns: Buffer<C>,
    dy_rows: Buffer<C>,
    dy_columns: Buffer<C>,
    /// The gradients of its queries, as columns.
    dq: Buffer<C>,
    scores: Buffer<C>,
    grads: Buffer<C>,
    added: Buffer<C>,
    lse: Buffer<C>,
    delta: Buffer<C>,
}

impl<C: Attend> Scratch<C> {
    fn new(p: &Problem<C>, lanes: usize) -> Result<Scratch<C>> {
        let s = p.sizes;
        let buffer = |len: usize| Buffer::try_scratch(len, OP);
        Ok(Scratch {
            q_rows: buffer(padded::<C>(s.dim) * lanes)?,
            q_columns: buffer(s.dim * lanes)?,
            dy_rows: buffer(padded::<C>(s.value_dim) * lanes)?,
            dy_columns: buffer(s.value_dim * lanes)?,
            dq: buffer(s.dim * lanes)?,
            scores: buffer(KEYS * lanes)?,
            grads: buffer(KEYS * lanes)?,
            added: buffer(if p.mask.is_some() || p.dropout.is_some() { KEYS * lanes } else { 0 })?,
            lse: buffer(lanes)?,
            delta: buffer(lanes)?,
        })
    }

    fn tile(
        &mut self,
        p: &Problem<C>,
        saved: &Saved<C>,
        keys: &Keys<C>,
        tile: Tile<C>,
        sums: &mut Sums<C>,
        out: &Out<C>,
    ) {
        let (s, lanes) = (p.sizes, tile.lanes);
        let (q_row, dy_row) = (padded::<C>(s.dim), padded::<C>(s.value_dim));
        tile.copy_rows(p.q, s.dim, q_row, &mut self.q_rows);
        tile.columns(&self.q_rows, s.dim, q_row, &mut self.q_columns);
        let scale = C::of(p.scale * C::LOG_BASE);
        self.q_columns[..s.dim * lanes].iter_mut().for_each(|x| *x *= scale);
        tile.copy_rows(saved.dy, s.value_dim, dy_row, &mut self.dy_rows);
        tile.columns(&self.dy_rows, s.value_dim, dy_row, &mut self.dy_columns);
        let (lse, delta) = (&mut self.lse[..lanes], &mut self.delta[..lanes]);
        // Lanes without a query have weights of 0.
        lse[tile.len()..].fill(C::INFINITY);
        lse[..tile.len()].copy_from_slice(&saved.lse[tile.flat()]);
        delta.fill(C::ZERO);
        for (delta, (b, h, t)) in delta.iter_mut().zip(tile.places()).filter(|_| s.value_dim > 0) {
            let rows = saved.y.row(b, h, t)[..s.value_dim].iter().zip(saved.dy.row(b, h, t));
            *delta = rows.map(|(&y, &dy)| y * dy).sum();
        }
        self.dq[..s.dim * lanes].fill(C::ZERO);
        for block in tile.blocks() {
            let (scores, grads) = (&mut self.scores[..block.len()], &mut self.grads[..block.len()]);
            tile.scores(keys, &self.q_columns, &block, &mut self.added, scores);
            tile.dots(keys.v, &self.dy_columns, s.value_dim, &block, grads);
            let keep = match p.dropout {
                Some(dropout) => {
                    let kept = &mut self.added[..block.len()];
                    tile.kept(dropout, &block, kept);
                    Some(&*kept)
                }
                None => None,
            };
            let (lse, delta) = (&lse[block.from..], &delta[block.from..]);
            C::differentiate(Differential { scores: &mut *scores, grads: &mut *grads, keep, lse, delta });
            tile.gather(scores, &self.dy_rows, dy_row, &block, &mut sums.dv);
            tile.gather(grads, &self.q_rows, q_row, &block, &mut sums.dk);
            tile.weigh(keys.k, grads, s.dim, &block, &mut self.dq);
        }
        let scale = C::of(p.scale);
        self.dq[..s.dim * lanes].iter_mut().for_each(|x| *x *= scale);
        tile.write(&self.dq, s.dim, &mut self.q_rows, out);
    }
}
