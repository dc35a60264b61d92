//! Scaled dot-product attention, fused and tiled: `y = softmax(q·kᵀ·scale + mask)·v`, and its gradients.
//!
//! ```text
//! s = q·kᵀ·scale + mask      p = exp(s − lse),  lse = ln Σ exp s      y = (z ∘ p)·v      z: dropout, 0 or 1 / (1 − rate)
//! dv = (z ∘ p)ᵀ·dy      dp = z ∘ (dy·vᵀ)      ds = p ∘ (dp − Σ dy ∘ y)      dq = ds·k·scale      dk = dsᵀ·q·scale
//! ```
//!
//! Queries are taken in tiles and keys in blocks; the softmax of a row is made as its blocks come, by rescaling what came
//! before whenever the maximum grows. No matrix of queries by keys is ever kept: backward makes it again, block by
//! block, from `lse`, so memory is linear in the length. Forward costs `2 · rows · keys · (dim + value_dim)` operations,
//! backward two and a half times as many; blocks beyond the causal diagonal are left out.
//! Source: Dao 2023, "FlashAttention-2"; Milakov & Gimelshein 2018 for the softmax.
//!
//! Everything is turned so that the *queries* of a tile stand in the lanes of a vector: maxima and sums of a softmax are
//! then vertical, and keys and values are read where they lie, one number at a time (`product`). The query heads that
//! share a head of keys (grouped queries) are further rows of the same tile. `few` is for fewer queries than fill lanes.

mod backward;
mod few;
mod forward;
mod product;
mod tile;

pub(crate) use backward::{Saved, backward};
pub(crate) use forward::forward;
pub(crate) use product::Attend;

use crate::kernels::parallel::Shared;

/// A limit of size; a small one in tests, so that short rows are cut into as many blocks.
const fn limit(size: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { size }
}

/// Keys in a block; a multiple of the four that a block of random bits decides.
const KEYS: usize = limit(64, 12);

/// Into how many pieces the tiles of each head are dealt out: one, unless heads are few.
fn pieces(heads: usize, tiles: usize) -> usize {
    /// Tasks there should be at least.
    const TASKS: usize = 16;
    TASKS.div_ceil(heads.max(1)).min(tiles).max(1)
}

/// The sizes: q `[batch, heads, queries, dim]`, k `[batch, kv_heads, keys, dim]`, v `[batch, kv_heads, keys, value_dim]`,
/// with `heads` a multiple of `kv_heads`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub dim: usize,
    pub value_dim: usize,
}

impl Sizes {
    /// Rows of queries that read one head of keys: `(head of the group, query)`, flat.
    fn rows(&self) -> usize {
        self.heads.checked_div(self.kv_heads).unwrap_or(0) * self.queries
    }
}

/// Where rows lie: row `t` of head `h` of sample `b` starts at `offset + b·batch + h·head + t·row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub offset: usize,
    pub batch: usize,
    pub head: usize,
    pub row: usize,
}

impl Rows {
    /// Of a contiguous `[batch, heads, rows, n]`, or of `[batch, rows, heads, n]` where `interleaved`.
    pub(crate) fn contiguous(heads: usize, rows: usize, n: usize, interleaved: bool) -> Rows {
        let (head, row) = if interleaved { (n, heads * n) } else { (rows * n, n) };
        Rows { offset: 0, batch: heads * rows * n, head, row }
    }

    #[inline(always)]
    fn start(&self, b: usize, h: usize, t: usize) -> usize {
        self.offset + b * self.batch + h * self.head + t * self.row
    }
}

/// An operand: its storage, and where its rows of neighbouring elements lie in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a, C> {
    pub data: &'a [C],
    pub at: Rows,
}

impl<'a, C> Operand<'a, C> {
    /// Panics if `[batch, heads, rows, n]` reaches outside the storage.
    #[track_caller]
    fn check(&self, [batch, heads, rows, n]: [usize; 4]) {
        if [batch, heads, rows, n].contains(&0) {
            return;
        }
        let reach = [(batch, self.at.batch), (heads, self.at.head), (rows, self.at.row)];
        let last = reach
            .iter()
            .fold(self.at.offset, |at, (size, stride)| at.saturating_add((size - 1).saturating_mul(*stride)));
        assert!(last.saturating_add(n) <= self.data.len(), "rows {:?} reach outside {}", self.at, self.data.len());
    }

    /// From the start of a row on.
    #[inline(always)]
    fn row(&self, b: usize, h: usize, t: usize) -> &'a [C] {
        &self.data[self.at.start(b, h, t)..]
    }
}

/// What is added to the scores, element `(b, h, query, key)` at `offset` and these strides, 0 where it is broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask<'a, C> {
    pub values: MaskValues<'a, C>,
    pub offset: usize,
    pub strides: [usize; 4],
}

/// The two kinds of mask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MaskValues<'a, C> {
    /// Where false, the key takes no part.
    Keep(&'a [bool]),
    /// Added to the score; −∞ takes the key out.
    Add(&'a [C]),
}

impl<C: Attend> Mask<'_, C> {
    /// What element `at` adds to a score, in units of the exponent's base.
    #[inline(always)]
    fn value(&self, at: usize) -> C {
        match self.values {
            MaskValues::Keep(x) => [C::NEG_INFINITY, C::ZERO][x[at] as usize],
            MaskValues::Add(x) => x[at] * C::of(C::LOG_BASE),
        }
    }

    #[track_caller]
    fn check(&self, s: &Sizes) {
        let sizes = [s.batch, s.heads, s.queries, s.keys];
        if !sizes.contains(&0) {
            let len = match self.values {
                MaskValues::Keep(x) => x.len(),
                MaskValues::Add(x) => x.len(),
            };
            let reach = sizes.iter().zip(self.strides).map(|(size, stride)| (size - 1).saturating_mul(stride));
            assert!(reach.fold(self.offset, usize::saturating_add) < len, "the mask reaches outside its slice");
        }
    }
}

/// The share of weights that is dropped, and the place of the mask in the random stream.
///
/// Weight `(row, key)` is decided by word `key % 4` of Philox block `offset + row · ⌈keys / 4⌉ + key / 4`, as
/// `kernels::dropout` would on rows padded to whole blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    pub p: f64,
    pub place: (u64, u64),
}

/// What attention is computed of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem<'a, C> {
    pub sizes: Sizes,
    pub q: Operand<'a, C>,
    pub k: Operand<'a, C>,
    pub v: Operand<'a, C>,
    pub scale: f64,
    /// Query `i` sees the keys `j ≤ i + diagonal`.
    pub diagonal: Option<isize>,
    pub mask: Option<Mask<'a, C>>,
    pub dropout: Option<Dropout>,
}

impl<C: Attend> Problem<'_, C> {
    #[track_caller]
    fn check(&self) {
        let s = self.sizes;
        assert!(s.heads == 0 || (s.kv_heads > 0 && s.heads.is_multiple_of(s.kv_heads)));
        self.q.check([s.batch, s.heads, s.queries, s.dim]);
        self.k.check([s.batch, s.kv_heads, s.keys, s.dim]);
        self.v.check([s.batch, s.kv_heads, s.keys, s.value_dim]);
        if let Some(mask) = &self.mask {
            mask.check(&s);
        }
    }
}

/// An output of contiguous rows, written by many tasks, each row by one.
struct Out<'a, C> {
    slice: Shared<'a, C>,
    at: Rows,
    n: usize,
}

impl<'a, C> Out<'a, C> {
    /// The rows of `n` elements of `slice`, `[batch, heads, rows, n]` or `[batch, rows, heads, n]`.
    #[track_caller]
    fn new(slice: &'a mut [C], [batch, heads, rows, n]: [usize; 4], interleaved: bool) -> Out<'a, C> {
        assert_eq!(slice.len(), batch * heads * rows * n);
        let at = Rows::contiguous(heads, rows, n, interleaved);
        Out { slice: Shared::new(slice), at, n }
    }

    /// One row.
    ///
    /// # Safety
    /// No other thread uses it, and this one lets go of it before it asks for it again.
    #[inline(always)]
    unsafe fn row(&self, b: usize, h: usize, t: usize) -> &'a mut [C] {
        // SAFETY: rows do not overlap, and the caller sees to it that this one is used alone.
        unsafe { self.slice.at(self.at.start(b, h, t), self.n) }
    }
}

#[cfg(test)]
mod tests;
