//! Few queries, as when a model writes a token at a time: not enough to fill the lanes of a tile. Here vectors run along
//! the rows of keys and values instead, so each is read once, where it lies.

use super::product::{Attend, Product, Running, dots, product};
use super::{KEYS, Mask, Out, Problem};
use crate::Result;
use crate::kernels::simd::lanes;
use crate::kernels::{lanes as row, parallel, simd};
use crate::storage::Buffer;

/// Rows of queries to a head of keys at most; beyond, tiles are faster.
const ROWS: usize = 4;
/// Multiply-adds that a task has at least.
const TASK: usize = 1 << 17;

/// Whether [`forward`] is for this problem.
pub(super) fn suits<C: Attend>(p: &Problem<C>) -> bool {
    let s = p.sizes;
    let whole = s.value_dim > 0 && s.value_dim.is_multiple_of(lanes::<C>());
    (1..=ROWS).contains(&s.rows()) && whole && s.keys > 0 && s.dim > 0 && p.dropout.is_none()
}

/// As [`super::forward`].
pub(super) fn forward<C: Attend>(p: &Problem<C>, y: &Out<C>, lse: &Out<C>) -> Result<()> {
    let s = p.sizes;
    let group = (TASK / (s.rows() * s.keys * (s.dim + s.value_dim)).max(1)).max(1);
    let tasks = parallel::map_chunks(s.batch * s.kv_heads, group, |heads| {
        let mut scratch = Scratch::new(p)?;
        for head in heads {
            scratch.head(p, head / s.kv_heads, head % s.kv_heads, y, lse);
        }
        Ok(())
    });
    tasks.into_iter().collect()
}

struct Scratch<C> {
    /// `[rows, dim]`
    queries: Buffer<C>,
    /// `[rows, keys]`, each row rounded up to whole vectors.
    scores: Buffer<C>,
    /// `[rows, value_dim]`
    sums: Buffer<C>,
    /// Of the lanes of a row's softmax: maximum, sum and factor.
    running: [Buffer<C>; 3],
}

impl<C: Attend> Scratch<C> {
    fn new(p: &Problem<C>) -> Result<Scratch<C>> {
        let (s, rows) = (p.sizes, p.sizes.rows());
        let buffer = |len: usize| Buffer::try_scratch(len, "scaled_dot_product_attention");
        Ok(Scratch {
            queries: buffer(rows * s.dim)?,
            scores: buffer(rows * s.keys.next_multiple_of(lanes::<C>()))?,
            sums: buffer(rows * s.value_dim)?,
            running: [buffer(lanes::<C>())?, buffer(lanes::<C>())?, buffer(lanes::<C>())?],
        })
    }

    /// All rows that read one head of keys.
    fn head(&mut self, p: &Problem<C>, b: usize, kv: usize, y: &Out<C>, lse: &Out<C>) {
        let s = p.sizes;
        let padded = s.keys.next_multiple_of(lanes::<C>());
        let place = |r: usize| (b, kv * (s.heads / s.kv_heads) + r / s.queries, r % s.queries);
        let scale = C::of(p.scale * C::LOG_BASE);
        for (r, query) in self.queries.chunks_exact_mut(s.dim).enumerate() {
            let (b, h, t) = place(r);
            query.iter_mut().zip(p.q.row(b, h, t)).for_each(|(to, &x)| *to = x * scale);
        }
        // Every row takes a block of keys while it is in the cache.
        for first in (0..s.keys).step_by(KEYS) {
            let end = (first + KEYS).min(s.keys);
            for (query, scores) in self.queries.chunks_exact(s.dim).zip(self.scores.chunks_exact_mut(padded)) {
                dots(query, p.k.row(b, kv, first), p.k.at.row, &mut scores[first..end]);
            }
        }
        let [max, sum, factor] = &mut self.running;
        let (mut by, mut steps) = ([C::ZERO; ROWS], 0);
        for (r, scores) in self.scores.chunks_exact_mut(padded).enumerate() {
            let (b, h, t) = place(r);
            let all = p.diagonal.map_or(s.keys as isize, |d| d.saturating_add(t as isize + 1));
            let sees = all.clamp(0, s.keys as isize) as usize;
            steps = steps.max(sees);
            if let Some(mask) = &p.mask {
                add(mask, (b, h, t), &mut scores[..sees]);
            }
            scores[sees..].fill(C::NEG_INFINITY);
            let top = simd::dispatch(
                #[inline(always)]
                || row::max(&*scores),
            );
            max.fill(top);
            sum.fill(C::ZERO);
            C::soften(Running { scores, max: &mut *max, sum: &mut *sum, factor: &mut *factor });
            let total: C = sum.iter().copied().sum();
            let none = total == C::ZERO;
            by[r] = if none { C::ZERO } else { C::ONE / total };
            // SAFETY: each query is written by one task.
            let lse = unsafe { lse.row(0, 0, (b * s.heads + h) * s.queries + t) };
            lse.fill(if none { C::INFINITY } else { top + total.ln() * C::of(C::LOG_BASE) });
        }
        let weighed = Product {
            scalars: &self.scores,
            row: padded,
            step: 1,
            vectors: p.v.row(b, kv, 0),
            stride: p.v.at.row,
            rows: s.rows(),
            steps,
            width: s.value_dim / lanes::<C>(),
        };
        product(&weighed, &mut self.sums, s.value_dim, false);
        for (r, sums) in self.sums.chunks_exact(s.value_dim).enumerate() {
            let (b, h, t) = place(r);
            // SAFETY: each query is written by one task, and the row is let go before the next.
            let y = unsafe { y.row(b, h, t) };
            y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = sum * by[r]);
        }
    }
}

/// Adds a row of the mask.
fn add<C: Attend>(mask: &Mask<C>, (b, h, t): (usize, usize, usize), scores: &mut [C]) {
    let [batch, head, query, key] = mask.strides;
    let start = mask.offset + b * batch + h * head + t * query;
    for (j, score) in scores.iter_mut().enumerate() {
        let added = mask.value(start + j * key);
        *score = if added == C::NEG_INFINITY { added } else { *score + added };
    }
}
