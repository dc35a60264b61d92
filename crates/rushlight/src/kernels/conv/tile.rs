//! The products inside a convolution: sums of scaled vectors, whose places are given by tables.
//!
//! ```text
//! out[b, p, ·] = Σ over steps of  vectors[base_b + unit · step.vector ..][·] · scalars[at_p + step.scalar]
//! ```
//!
//! A tile of up to six `p` times four vectors is summed in registers, so a step costs one load to each vector and each
//! `p`, and an operation to each pair of them. Because the tables say where operands are, nothing is copied to bring
//! them together: a padded image is read in place once for each tap of the kernel.

use super::rows::{self, RowSums};
use crate::dtype::Real;
use crate::kernels::parallel::Shared;
use crate::kernels::simd::{dispatch_fused, lanes};
use crate::kernels::turn::Turn;

/// Where a step finds its operands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub vector: usize,
    pub scalar: usize,
}

/// The operands of a sum; see the module.
pub(crate) struct Operands<'a, C> {
    pub vectors: &'a [C],
    pub unit: usize,
    pub bases: &'a [usize],
    pub scalars: &'a [C],
    pub at: &'a [usize],
    pub steps: &'a [Step],
}

/// An element type that tiles are compiled for.
pub(crate) trait Tiled: Real + Turn {
    /// [`sums`], its operands checked.
    fn tiles(width: usize, operands: &Operands<Self>, out: &mut [Self], accumulate: bool);
    /// [`dots`], its operands checked.
    fn dot_rows(rows: &Rows<Self>, out: &mut [Self]);
    /// [`rows::sums`] of channels made together.
    ///
    /// # Safety
    /// As there.
    unsafe fn row_sums(operands: &RowSums<Self>, packed: &[Self], channels: &[(usize, Self)], out: &Shared<Self>);
}

/// Writes the sums, or adds them, to `out` `[bases, at, width · lanes]`, for a `width` of 1 to 4 vectors.
pub(super) fn sums<C: Tiled>(width: usize, operands: &Operands<C>, out: &mut [C], accumulate: bool) {
    let Operands { vectors, unit, bases, scalars, at, steps } = *operands;
    let row = width * lanes::<C>();
    assert_eq!(out.len(), bases.len() * at.len() * row);
    let most = |x: &mut dyn Iterator<Item = usize>| x.max().unwrap_or(0);
    if !out.is_empty() && !steps.is_empty() {
        let step = unit.saturating_mul(most(&mut steps.iter().map(|s| s.vector)));
        let last = most(&mut bases.iter().copied()).saturating_add(step);
        assert!(last.saturating_add(row) <= vectors.len(), "a vector outside its slice");
        let last = most(&mut at.iter().copied()).saturating_add(most(&mut steps.iter().map(|s| s.scalar)));
        assert!(last < scalars.len(), "a scalar outside its slice");
    }
    C::tiles(width, operands, out, accumulate);
}

macro_rules! tiled {
    ($t:ty) => {
        impl Tiled for $t {
            fn tiles(width: usize, operands: &Operands<Self>, out: &mut [Self], accumulate: bool) {
                const L: usize = lanes::<$t>();
                match width {
                    1 => tiles_of::<Self, L, 1>(operands, out, accumulate),
                    2 => tiles_of::<Self, L, 2>(operands, out, accumulate),
                    3 => tiles_of::<Self, L, 3>(operands, out, accumulate),
                    4 => tiles_of::<Self, L, 4>(operands, out, accumulate),
                    _ => unreachable!("a tile is one to four vectors wide"),
                }
            }
            fn dot_rows(rows: &Rows<Self>, out: &mut [Self]) {
                dots_of::<Self, { lanes::<$t>() }>(rows, out);
            }
            unsafe fn row_sums(
                operands: &RowSums<Self>,
                packed: &[Self],
                channels: &[(usize, Self)],
                out: &Shared<Self>,
            ) {
                // SAFETY: as the caller says.
                unsafe { rows::tiles::<Self, { lanes::<$t>() }>(operands, packed, channels, out) }
            }
        }
    };
}

tiled!(f32);
tiled!(f64);

fn tiles_of<C: Real, const L: usize, const V: usize>(operands: &Operands<C>, out: &mut [C], accumulate: bool) {
    let row = V * L;
    dispatch_fused!(FUSED => {
        for (b, &base) in operands.bases.iter().enumerate() {
            let mut p = 0;
            while p < operands.at.len() {
                let left = operands.at.len() - p;
                let rows = left.min(6);
                let start = (b * operands.at.len() + p) * row;
                let out = &mut out[start..start + rows * row];
                match rows {
                    1 => tile::<C, L, V, 1, FUSED>(operands, base, p, out, accumulate),
                    2 | 3 => tile::<C, L, V, 3, FUSED>(operands, base, p, out, accumulate),
                    _ => tile::<C, L, V, 6, FUSED>(operands, base, p, out, accumulate),
                }
                p += rows;
            }
        }
    })
}

/// One tile: `J` places from `p` on (those beyond the last are summed in vain), `V` vectors of `L` lanes.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indexed by constants, so that the sums stay in registers
fn tile<C: Real, const L: usize, const V: usize, const J: usize, const FUSED: bool>(
    operands: &Operands<C>,
    base: usize,
    p: usize,
    out: &mut [C],
    accumulate: bool,
) {
    let at: [usize; J] = std::array::from_fn(|j| operands.at[(p + j).min(operands.at.len() - 1)]);
    let scalars = at.map(|at| operands.scalars.as_ptr().wrapping_add(at));
    let vectors = operands.vectors.as_ptr().wrapping_add(base);
    let mut sum = [[[C::ZERO; L]; V]; J];
    for step in operands.steps {
        let start = operands.unit * step.vector;
        // SAFETY: `sums` asserted that the furthest base and step leave room for a whole tile's width in `vectors`,
        // and that the furthest place and step lie within `scalars`. An array has its element's alignment.
        let v: [[C; L]; V] = std::array::from_fn(|i| unsafe { *vectors.add(start + i * L).cast::<[C; L]>() });
        for j in 0..J {
            // SAFETY: as above.
            let x = unsafe { *scalars[j].add(step.scalar) };
            for i in 0..V {
                for l in 0..L {
                    sum[j][i][l] = if FUSED { v[i][l].mul_add(x, sum[j][i][l]) } else { v[i][l] * x + sum[j][i][l] };
                }
            }
        }
    }
    // Written out, for the sums to stay in registers.
    macro_rules! put_rows {
        ($($j:literal)*) => {
            $(if $j < J && let Some(out) = out.as_chunks_mut::<L>().0.get_mut($j * V..($j + 1) * V) {
                put(sum[$j], out, accumulate);
            })*
        };
    }
    put_rows!(0 1 2 3 4 5);
}

/// Writes a row of a tile, or adds it.
#[inline(always)]
fn put<C: Real, const L: usize, const V: usize>(sum: [[C; L]; V], out: &mut [[C; L]], accumulate: bool) {
    let Some(out) = out.first_chunk_mut::<V>() else { return };
    if accumulate {
        for i in 0..V {
            for l in 0..L {
                out[i][l] += sum[i][l];
            }
        }
    } else {
        *out = sum;
    }
}

/// Pairs of rows: row `r` is `a[rows[r].0..][..len]` and, at a tap, `b[rows[r].1 + tap..][..len]`. What follows a row is
/// read, so both slices have [`lanes`] elements more than the last row needs.
pub(crate) struct Rows<'a, C> {
    pub a: &'a [C],
    pub b: &'a [C],
    pub rows: &'a [(usize, usize)],
    pub len: usize,
    pub taps: &'a [usize],
}

/// Adds to `out[t]` the inner product of all row pairs at tap `t`.
pub(super) fn dots<C: Tiled>(rows: &Rows<C>, out: &mut [C]) {
    assert_eq!(out.len(), rows.taps.len());
    let tap = rows.taps.iter().max().map_or(0, |t| *t);
    let reach = rows.len.next_multiple_of(lanes::<C>());
    for &(a, b) in rows.rows {
        assert!(a.saturating_add(reach) <= rows.a.len(), "a row outside its slice");
        assert!(b.saturating_add(tap).saturating_add(reach) <= rows.b.len(), "a row outside its slice");
    }
    C::dot_rows(rows, out);
}

fn dots_of<C: Real, const L: usize>(rows: &Rows<C>, out: &mut [C]) {
    dispatch_fused!(FUSED => {
        for (taps, out) in rows.taps.chunks(6).zip(out.chunks_mut(6)) {
            match taps.len() {
                1..=3 => dot::<C, L, 3, FUSED>(rows, taps, out),
                _ => dot::<C, L, 6, FUSED>(rows, taps, out),
            }
        }
    })
}

/// Up to `J` taps; those beyond the last are summed in vain.
#[inline(always)]
fn dot<C: Real, const L: usize, const J: usize, const FUSED: bool>(rows: &Rows<C>, taps: &[usize], out: &mut [C]) {
    let taps: [usize; J] = std::array::from_fn(|j| taps[j.min(taps.len() - 1)]);
    let mut sum = [[C::ZERO; L]; J];
    for &(a, b) in rows.rows {
        let a = rows.a.as_ptr().wrapping_add(a);
        let b = taps.map(|tap| rows.b.as_ptr().wrapping_add(b + tap));
        let mut i = 0;
        while i < rows.len {
            // SAFETY: `dots` asserted that each row, its length rounded up to whole vectors, lies within its slice.
            let x = unsafe { *a.add(i).cast::<[C; L]>() };
            for j in 0..J {
                // SAFETY: as above.
                let y = unsafe { *b[j].add(i).cast::<[C; L]>() };
                for l in 0..L {
                    let more = if FUSED { x[l].mul_add(y[l], sum[j][l]) } else { x[l] * y[l] + sum[j][l] };
                    // What follows the row counts for nothing, whatever it is.
                    sum[j][l] = if i + l < rows.len { more } else { sum[j][l] };
                }
            }
            i += L;
        }
    }
    for (out, sum) in out.iter_mut().zip(&sum) {
        *out += sum.iter().fold(C::ZERO, |total, x| total + *x);
    }
}
