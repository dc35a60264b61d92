//! Few queries, as when a model writes a token at a time: not enough to fill the lanes of a tile. Here vectors run along
//! the rows of keys and values instead, so each is read once, where it lies.

use super::product::{Attend, Product, Running, dots, lanes, product};
use super::{Mask, Out, Problem};
use crate::Result;
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
        let buffer = |len: usize| Buffer::try_scratch(len, "scaled_dot_product_attention");
        let mut scores = buffer(s.keys.next_multiple_of(lanes::<C>()))?;
        let mut query = buffer(s.dim)?;
        let [mut max, mut sum, mut factor] = [buffer(lanes::<C>())?, buffer(lanes::<C>())?, buffer(lanes::<C>())?];
        for head in heads {
            for r in 0..s.rows() {
                let (b, kv) = (head / s.kv_heads, head % s.kv_heads);
                let (h, t) = (kv * (s.heads / s.kv_heads) + r / s.queries, r % s.queries);
                query.copy_from_slice(&p.q.row(b, h, t)[..s.dim]);
                let scale = C::of(p.scale * C::LOG_BASE);
                query.iter_mut().for_each(|x| *x *= scale);
                let all = p.diagonal.map_or(s.keys as isize, |d| d.saturating_add(t as isize + 1));
                let sees = all.clamp(0, s.keys as isize) as usize;
                dots(&query, p.k.row(b, kv, 0), p.k.at.row, &mut scores[..sees]);
                if let Some(mask) = &p.mask {
                    add(mask, (b, h, t), &mut scores[..sees]);
                }
                scores[sees..].fill(C::NEG_INFINITY);
                let top = simd::dispatch(
                    #[inline(always)]
                    || row::max(&scores[..]),
                );
                max.fill(top);
                sum.fill(C::ZERO);
                C::soften(Running { scores: &mut scores, max: &mut max, sum: &mut sum, factor: &mut factor });
                let total: C = sum.iter().copied().sum();
                let none = total == C::ZERO;
                // SAFETY: each query is written by one task, and the row is let go before the next.
                let (y, lse) = unsafe { (y.row(b, h, t), lse.row(0, 0, (b * s.heads + h) * s.queries + t)) };
                let weights = Product {
                    scalars: &scores,
                    row: 0,
                    step: 1,
                    vectors: p.v.row(b, kv, 0),
                    stride: p.v.at.row,
                    rows: 1,
                    steps: sees,
                    width: s.value_dim / lanes::<C>(),
                };
                product(&weights, y, s.value_dim, false);
                let by = if none { C::ZERO } else { C::ONE / total };
                y.iter_mut().for_each(|y| *y *= by);
                lse.fill(if none { C::INFINITY } else { top + total.ln() * C::of(C::LOG_BASE) });
            }
        }
        Ok(())
    });
    tasks.into_iter().collect()
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
