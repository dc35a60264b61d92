//! Products of f32 and f64 by tiles of our own, for processors with AVX2 and no AVX-512. There the `gemm` crate loses up
//! to a quarter to memory: its threads bring operands into order each for itself, and nothing asks for the output.
//!
//! Both operands are packed once, by all threads together, into panels in the order that tiles read them: a step of six
//! rows on the left, a step of one vector of columns on the right (Goto and van de Geijn, "Anatomy of high-performance
//! matrix multiplication", 2008). Then tasks share out blocks of the output: the panels of a block's rows stay in the
//! second cache, one panel of columns in the first, and a tile of sums in the registers.

use std::ops::Range;

use super::{Mat, MatMut, Out, blocks, share};
use crate::dtype::Real;
use crate::kernels::parallel::{GRAIN, Shared};
use crate::kernels::simd::{Level, dispatch, dispatch_fused, level, prefetch};
use crate::kernels::turn::{Grid, Turn, turn_to};
use crate::storage::Buffer;

/// Rows of a tile: with two registers of columns, 12 sums, and room for the operands.
const HIGH: usize = 6;
/// Columns of f32 in a tile; half as many of f64.
const WIDE: usize = 16;
/// How deep panels are: one of columns takes half of the first cache.
const DEPTH: usize = if cfg!(test) { 40 } else { 256 };
/// Rows of a task, whose panels take a quarter of the second cache, and its columns.
const ROWS: usize = if cfg!(test) { 12 } else { 144 };
const COLS: usize = if cfg!(test) { 32 } else { 512 };
/// Rows and columns that are packed at a time, 4 MiB of f32 each: the third cache's.
const ALL_ROWS: usize = if cfg!(test) { 30 } else { 4032 };
const ALL_COLS: usize = if cfg!(test) { 64 } else { 4096 };
/// Multiply-adds of the products that come here: those for which packing pays. Without optimisation none, as the crate has
/// it even then (`profile.dev`); in tests small ones.
const WORK: Range<usize> = match (cfg!(test), cfg!(debug_assertions)) {
    (true, _) => 0..1 << 18,
    (_, true) => 0..0,
    _ => 1 << 26..usize::MAX,
};

/// Whether the product is large in each direction, and the crate's kernels are not better.
pub(super) fn worthwhile(m: usize, n: usize, k: usize) -> bool {
    let large = m > HIGH && n >= 4 * WIDE && k >= 2 * WIDE && WORK.contains(&m.saturating_mul(n).saturating_mul(k));
    large && level() == Level::Avx2
}

/// `out = lhs · rhs`, or `out += lhs · rhs`, of matrices that were checked and are not empty, `L` columns to a tile; `false`,
/// and nothing changed, where memory was refused.
pub(super) fn product<C: Real + Turn, const L: usize>(
    out: &mut MatMut<C>,
    lhs: Mat<C>,
    rhs: Mat<C>,
    accumulate: bool,
    threads: usize,
) -> bool {
    let (m, n, k) = (lhs.rows, rhs.cols, lhs.cols);
    let out = Out::of(out);
    // Even blocks, so that the last is no short one.
    let depth = k.div_ceil(k.div_ceil(DEPTH));
    let panels = |lines: usize| Buffer::<C>::try_scratch(lines * depth, "matmul");
    let (high, wide) = (m.min(ALL_ROWS).next_multiple_of(HIGH), n.min(ALL_COLS).next_multiple_of(L));
    let (Ok(mut left), Ok(mut right)) = (panels(high), panels(wide)) else { return false };
    for (j, cols) in blocks(n, ALL_COLS) {
        for (p, deep) in blocks(k, depth) {
            for (i, rows) in blocks(m, ALL_ROWS) {
                let columns = if i == 0 { cols } else { 0 };
                let from = (lhs.block((i, rows), (p, deep)), rhs.t().block((j, columns), (p, deep)));
                pack_both::<C, L>(from, (&mut left, &mut right), threads);
                let to = Out { start: out.at(i, j), ..out };
                let keep = accumulate || p > 0;
                multiply::<C, L>(to, (rows, cols, deep), (&left, &right), keep, threads);
            }
        }
    }
    true
}

/// Packs the rows of two matrices, the left's by six and the right's by `L`.
fn pack_both<C: Real + Turn, const L: usize>(from: (Mat<C>, Mat<C>), to: (&mut [C], &mut [C]), threads: usize) {
    let (left, right) = (Shared::new(to.0), Shared::new(to.1));
    let (tasks_left, tasks_right) = (groups::<C, HIGH>(from.0), groups::<C, L>(from.1));
    share(threads, tasks_left + tasks_right, |t| match t.checked_sub(tasks_left) {
        None => pack_group::<C, HIGH>(from.0, &left, t),
        Some(t) => pack_group::<C, L>(from.1, &right, t),
    });
}

/// Lines that one task packs.
fn group<C, const W: usize>(lines: Mat<C>) -> usize {
    GRAIN.div_ceil(W * lines.cols) * W
}

fn groups<C, const W: usize>(lines: Mat<C>) -> usize {
    lines.rows.div_ceil(group::<C, W>(lines))
}

fn pack_group<C: Real + Turn, const W: usize>(lines: Mat<C>, to: &Shared<C>, t: usize) {
    let (depth, start) = (lines.cols, t * group::<C, W>(lines));
    let lines = lines.block((start, group::<C, W>(lines).min(lines.rows - start)), (0, depth));
    // SAFETY: each group of panels is one task's alone.
    let to = unsafe { to.at(start * depth, lines.rows.next_multiple_of(W) * depth) };
    pack::<C, W>(lines, to);
}

/// Panels of `W` rows each: `panel[p][row]`. The last is filled up with 0.
fn pack<C: Real + Turn, const W: usize>(lines: Mat<C>, to: &mut [C]) {
    let Mat { data, offset, rows, cols, row_stride, col_stride } = lines;
    if !rows.is_multiple_of(W) {
        // For sums that nobody reads; what stood there could be slow to compute with.
        to[rows / W * W * cols..].fill(C::ZERO);
    }
    let at = |i: usize, p: usize| offset.wrapping_add_signed(i as isize * row_stride + p as isize * col_stride);
    let panels = (0..rows).step_by(W).zip(to.chunks_exact_mut(W * cols));
    if let (1, Ok(step)) = (row_stride, usize::try_from(col_stride)) {
        side_by_side::<C, W>(&data[at(0, 0)..][..(cols - 1) * step + rows], to, (rows, cols), step);
    } else if let (1, Ok(row)) = (col_stride, usize::try_from(row_stride)) {
        for (i, panel) in panels {
            let from = Grid { data: &data[at(i, 0)..], row };
            // SAFETY: a panel has `W` places for each step, and there are at most `W` rows.
            unsafe { turn_to(from, Grid { data: panel.as_mut_ptr(), row: W }, W.min(rows - i), cols) };
        }
    } else {
        for (i, panel) in panels {
            for (p, step) in panel.chunks_exact_mut(W).enumerate() {
                for (r, place) in step.iter_mut().take(rows - i).enumerate() {
                    *place = data[at(i + r, p)];
                }
            }
        }
    }
}

/// Panels of lines that lie side by side. A step of all panels before the next: steps lie far apart, often a power of two,
/// and what is left of a cache line is gone before the next panel comes by.
fn side_by_side<C: Real, const W: usize>(from: &[C], to: &mut [C], (lines, depth): (usize, usize), step: usize) {
    let whole = lines / W;
    assert!(depth > 0 && (depth - 1) * step + lines <= from.len() && lines.next_multiple_of(W) * depth <= to.len());
    dispatch(
        #[inline(always)]
        || {
            for p in 0..depth {
                for i in 0..whole {
                    let (from, to) = (
                        from.as_ptr().wrapping_add(p * step + i * W),
                        to.as_mut_ptr().wrapping_add((i * depth + p) * W),
                    );
                    // SAFETY: both slices were seen to be long enough. An array has its element's alignment.
                    unsafe { *to.cast::<[C; W]>() = *from.cast::<[C; W]>() };
                }
            }
        },
    );
    for p in 0..if whole * W < lines { depth } else { 0 } {
        let last = &from[p * step..][whole * W..lines];
        to[(whole * depth + p) * W..][..last.len()].copy_from_slice(last);
    }
}

/// The product of packed operands, written to the output or added to it.
fn multiply<C: Real, const L: usize>(
    out: Out<C>,
    (m, n, depth): (usize, usize, usize),
    (left, right): (&[C], &[C]),
    keep: bool,
    threads: usize,
) {
    // Blocks of about one size, so that the last task is no straggler.
    let even = |len: usize, most: usize, unit: usize| len.div_ceil(len.div_ceil(most)).next_multiple_of(unit);
    let (high, wide) = (even(m, ROWS, HIGH), even(n, COLS, L));
    let across = n.div_ceil(wide);
    share(threads, m.div_ceil(high) * across, |t| {
        let (rows, cols) =
            (t / across * high..m.min((t / across + 1) * high), t % across * wide..n.min((t % across + 1) * wide));
        dispatch_fused!(FUSED => {
            for j in cols.step_by(L) {
                let b = &right[j * depth..][..L * depth];
                for i in rows.clone().step_by(HIGH) {
                    let a = &left[i * depth..][..HIGH * depth];
                    let to = Out { start: out.at(i, j), ..out };
                    // SAFETY: the block is this task's alone, and all of it lies within the output.
                    unsafe { tile::<C, L, FUSED>(to, (HIGH.min(m - i), L.min(n - j)), a, b, keep) };
                }
            }
        })
    });
}

/// Sums of six rows by `L` columns, of which the first `rows` and `cols` are written, or added.
///
/// # Safety
/// The output has so many rows and columns, and nobody else uses them.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // indexed by constants, so that the sums stay in registers
unsafe fn tile<C: Real, const L: usize, const FUSED: bool>(
    out: Out<C>,
    (rows, cols): (usize, usize),
    a: &[C],
    b: &[C],
    keep: bool,
) {
    if keep {
        // It is as far away as memory, and nothing foresees it.
        for r in 0..rows {
            prefetch(out.at(r, 0), 1);
            prefetch(out.at(r, cols - 1), 1);
        }
    }
    let mut sums = [[C::ZERO; L]; HIGH];
    for (a, b) in a.as_chunks::<HIGH>().0.iter().zip(b.as_chunks::<L>().0) {
        let b = *b;
        for r in 0..HIGH {
            let a = a[r];
            for l in 0..L {
                let sum = sums[r][l];
                sums[r][l] = if FUSED { b[l].mul_add(a, sum) } else { b[l] * a + sum };
            }
        }
    }
    // Written out and by value, for the sums to stay in registers.
    macro_rules! put_rows {
        ($put:expr, $($r:literal)*) => {
            $(if $r < rows {
                $put(out.at($r, 0), sums[$r]);
            })*
        };
    }
    // SAFETY: the caller's promise. An array has its element's alignment.
    unsafe {
        if (rows, cols, out.col) == (HIGH, L, 1) {
            put_rows!(|to: *mut C, sums| put_all(to.cast::<[C; L]>(), sums, keep), 0 1 2 3 4 5);
        } else {
            put_rows!(|to: *mut C, sums| put_some(to, out.col, cols, sums, keep), 0 1 2 3 4 5);
        }
    }
}

/// A row of sums.
#[inline(always)]
unsafe fn put_all<C: Real, const L: usize>(to: *mut [C; L], mut sums: [C; L], keep: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        if keep {
            for l in 0..L {
                sums[l] += (*to)[l];
            }
        }
        *to = sums;
    }
}

/// The first `cols` of a row of sums, to places `step` apart.
#[inline(always)]
unsafe fn put_some<C: Real, const L: usize>(to: *mut C, step: isize, cols: usize, sums: [C; L], keep: bool) {
    for (l, sum) in sums.iter().enumerate().take(cols) {
        let to = to.wrapping_offset(l as isize * step);
        // SAFETY: the caller's promise.
        unsafe { *to = if keep { *to + *sum } else { *sum } };
    }
}
