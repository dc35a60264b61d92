//! Matrix products by AVX512-BF16: operands are rounded to bf16 as they are packed, and a step adds two products to each
//! of sixteen f32 sums. Twice the speed of f32; operands of f32 may come this way where their rounding is allowed.
//!
//! The output is cut into blocks that tasks share out. A task packs the lines of both operands (rows on the left,
//! columns on the right) into panels of sixteen, `DEPTH` deep: `panel[p][line]` is the pair of elements `2p` and
//! `2p + 1` of the line. A tile of the output, eight rows by three panels of columns, then reads both in order.
//!
//! The instruction takes numbers below 2⁻¹²⁶ for 0.

mod pack;

use std::arch::x86_64::*;
use std::sync::Mutex;

pub(super) use pack::Source;
use pack::{Lines, mask, pack};

use super::gemm::{Mat, MatMut, Out, share};
use super::simd::{Level, level};
use crate::Result;
use crate::dtype::{DType, bf16};
use crate::storage::Buffer;

/// Lines of a panel: a register of f32 sums.
const LANES: usize = 16;
/// Rows of a tile, and its columns: 24 registers of sums, three of columns and one of a row.
const HIGH: usize = 8;
const WIDE: usize = 3 * LANES;
/// How deep panels are: the columns of a tile, 24 KiB, stay in the first cache.
const DEPTH: usize = if cfg!(test) { 32 } else { 256 };
/// Rows of a block: its panels, 128 KiB, lie in the second cache.
const ROWS: usize = if cfg!(test) { 32 } else { 256 };
/// Columns of a block. Each row is packed once for every so many columns, each column once for every `ROWS`.
const COLS: usize = if cfg!(test) { 48 } else { 384 };

/// Whether this processor has the instructions and the product is large enough to be packed for them.
fn worthwhile(rows: usize, cols: usize, depth: usize) -> bool {
    rows >= 8 && cols >= LANES && depth >= LANES && level() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
}

/// `out = lhs · rhs`, or `out += lhs · rhs`, of matrices that were checked. `false`, and nothing changed, where the processor has no such instructions, the product is small or memory was refused.
pub(super) fn product<S: Source>(
    out: &mut MatMut<S>,
    lhs: Mat<S>,
    rhs: Mat<S>,
    accumulate: bool,
    threads: usize,
) -> bool {
    if !worthwhile(out.rows, out.cols, lhs.cols) {
        return false;
    }
    let (m, n, k) = (out.rows, out.cols, lhs.cols);
    let lines =
        |m: &Mat<S>, count, line, step| Lines { start: m.data.as_ptr().wrapping_add(m.offset), count, line, step };
    let rows = lines(&lhs, m, lhs.row_stride, lhs.col_stride);
    let cols = lines(&rhs, n, rhs.col_stride, rhs.row_stride);
    let to = Out::of(out);
    // Blocks of about one size, so that the last task is no straggler; across, whole tiles in all but the last.
    let down = m.div_ceil(ROWS);
    let high = m.div_ceil(down).next_multiple_of(LANES);
    let (down, tiles, across) = (m.div_ceil(high), n.div_ceil(WIDE), n.div_ceil(COLS));
    let wide = tiles.div_ceil(across) * WIDE;
    let column = |block: usize| (tiles * block / across * WIDE).min(n);
    let tasks = down * across;
    let gathered = S::DTYPE != DType::F32 || to.col != 1;
    let Ok(scratch) = Scratches::new(threads.min(tasks), (high, wide, k), gathered) else { return false };
    let task = |t: usize| {
        let (i, j) = (t % down * high, column(t / down));
        let (rows, cols) = (rows.part(i, high.min(m - i)), cols.part(j, column(t / down + 1) - j));
        let to = Out { start: to.at(i, j), ..to };
        // SAFETY: `worthwhile` has seen the instructions; the sizes and strides were checked, and blocks of the output
        // do not overlap.
        scratch.lend(|s| unsafe { block(to, rows, cols, k, accumulate, s) });
    };
    share(threads, tasks, task);
    true
}

/// What one task works in.
struct Scratch {
    rows: Buffer<bf16>,
    cols: Buffer<bf16>,
    /// Where sums of a block are gathered that cannot be in the output itself.
    sums: Option<Buffer<f32>>,
}

/// A scratch for each thread.
struct Scratches(Mutex<Vec<Scratch>>);

impl Scratches {
    fn new(count: usize, (high, wide, depth): (usize, usize, usize), sums: bool) -> Result<Scratches> {
        let depth = DEPTH.min(depth).next_multiple_of(2);
        let buffer = |lines: usize| Buffer::try_scratch(lines * depth, "matmul");
        let sums = || if sums { Buffer::try_scratch(high * wide, "matmul").map(Some) } else { Ok(None) };
        let one = |_| Ok(Scratch { rows: buffer(high)?, cols: buffer(wide)?, sums: sums()? });
        Ok(Scratches(Mutex::new((0..count).map(one).collect::<Result<_>>()?)))
    }

    /// Runs `f` with one of them.
    fn lend(&self, f: impl FnOnce(&mut Scratch)) {
        let lock = || self.0.lock().unwrap_or_else(|e| e.into_inner());
        let mut scratch = loop {
            match lock().pop() {
                Some(scratch) => break scratch,
                // The number of threads was raised meanwhile.
                None => std::thread::yield_now(),
            }
        };
        f(&mut scratch);
        lock().push(scratch);
    }
}

/// One block of the output.
///
/// # Safety
/// AVX512-BF16; rows and columns lie within their slices, and the output's block is this task's alone.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,avx2,fma,bmi1,bmi2,f16c")]
unsafe fn block<S: Source>(
    out: Out<S>,
    rows: Lines<S>,
    cols: Lines<S>,
    depth: usize,
    accumulate: bool,
    scratch: &mut Scratch,
) {
    let (a, b) = (scratch.rows.as_mut_ptr().cast::<u32>(), scratch.cols.as_mut_ptr().cast::<u32>());
    let wide = cols.count.next_multiple_of(LANES);
    let sums = match &mut scratch.sums {
        Some(sums) => Out { start: sums.as_mut_ptr(), row: wide as isize, col: 1 },
        None => Out { start: out.start.cast(), row: out.row, col: 1 },
    };
    let gathered = scratch.sums.is_some();
    for d in (0..depth).step_by(DEPTH) {
        let deep = DEPTH.min(depth - d);
        let pairs = deep.div_ceil(2);
        // SAFETY: panels of a block fit its scratch; the rest is the caller's.
        unsafe {
            pack(rows.deep(d), deep, a);
            pack(cols.deep(d), deep, b);
            let keep = d > 0 || (accumulate && !gathered);
            for j in (0..cols.count).step_by(WIDE) {
                let width = WIDE.min(cols.count - j);
                for i in (0..rows.count).step_by(HIGH) {
                    let size = (HIGH.min(rows.count - i), width);
                    let a = a.add(i / LANES * LANES * pairs + i % LANES);
                    let (to, b) = (sums.at(i, j), b.add(j * pairs));
                    match width.div_ceil(LANES) {
                        1 => tile::<1>(to, sums.row, size, a, b, pairs, keep),
                        2 => tile::<2>(to, sums.row, size, a, b, pairs, keep),
                        _ => tile::<3>(to, sums.row, size, a, b, pairs, keep),
                    }
                    // While they are in the first cache.
                    if gathered && d + deep == depth {
                        for i in i..i + size.0 {
                            for j in (j..j + width).step_by(LANES) {
                                put(out, (i, j), sums.at(i, j), LANES.min(cols.count - j), accumulate);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rounds and stores `count` sums of row `i` from column `j` on.
#[inline(always)]
unsafe fn put<S: Source>(out: Out<S>, (i, j): (usize, usize), sums: *const f32, count: usize, accumulate: bool) {
    // SAFETY: the caller's.
    unsafe {
        if out.col == 1 {
            let (to, mask) = (out.at(i, j), mask(count) as u16);
            let x = f32::load(sums, mask);
            S::store(to, if accumulate { _mm512_add_ps(x, S::load(to, mask)) } else { x }, mask);
        } else {
            for c in 0..count {
                let (to, x) = (out.at(i, j + c), *sums.add(c));
                *to = S::down(if accumulate { x + (*to).up() } else { x });
            }
        }
    }
}

/// Sums of eight rows by `V` panels: `out = a · b`, or `out += a · b` where they are kept.
#[inline(always)]
unsafe fn tile<const V: usize>(
    out: *mut f32,
    row: isize,
    (rows, cols): (usize, usize),
    a: *const u32,
    b: *const u32,
    pairs: usize,
    keep: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        let pair = |x: __m512i| std::mem::transmute::<__m512i, __m512bh>(x);
        let mut sums = [[_mm512_setzero_ps(); V]; HIGH];
        for p in 0..pairs {
            let b: [__m512i; V] = std::array::from_fn(|v| _mm512_loadu_si512(b.add((v * pairs + p) * LANES).cast()));
            for i in 0..HIGH {
                let a = pair(_mm512_set1_epi32(*a.add(p * LANES + i) as i32));
                for v in 0..V {
                    sums[i][v] = _mm512_dpbf16_ps(sums[i][v], a, pair(b[v]));
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate().take(rows) {
            let to = out.offset(i as isize * row);
            for (v, sum) in sums.into_iter().enumerate() {
                let (to, mask) = (to.add(v * LANES), mask(cols.saturating_sub(v * LANES).min(LANES)) as u16);
                f32::store(to, if keep { _mm512_add_ps(sum, f32::load(to, mask)) } else { sum }, mask);
            }
        }
    }
}
