//! Matrix products: `out = lhs · rhs`, or `out += lhs · rhs`, over strided matrices, one or many.
//!
//! `out[i, j] = Σₖ lhs[i, k] · rhs[k, j]` with lhs `[m, k]`, rhs `[k, n]`, out `[m, n]`: 2·m·n·k operations. f32 and
//! f64 go to the `gemm` crate, large ones on processors with AVX2 and no more to tiles of our own (`packed`), the halves there by way
//! of f32 (`gemm_half`). i64 wraps around.
//!
//! An element's sum runs over k in an order that only the sizes decide; threads share out elements, never a sum. So
//! results are the same on any number of threads.

mod packed;

use super::lanes;
use super::parallel::{self, GRAIN};
use super::simd::dispatch;
use super::turn::{Grid, Turn, turn};
use crate::dtype::Element;
use crate::storage::Buffer;

/// Multiply-adds from which one product is worth a second thread.
const THREADED: usize = 1 << 20;
/// Multiply-adds a task has when many products, or the pieces of a matrix-vector product, are shared out.
const TASK: usize = 1 << 18;
/// Multiply-adds from which a row times contiguous columns (`x · wᵀ` of one row) is worth a second thread, and twice those
/// of a task: each weight is read once and from memory, which one core does not read as fast as two.
const STREAMED: usize = 1 << 17;
/// Multiply-adds from which products of a batch run one after the other, each on all threads.
const LARGE: usize = 1 << 26;
/// Columns a piece of a matrix-vector product has at least: where they are strided, a row of the piece is one page.
const PIECE: usize = 1024;

/// A matrix to read: element `(i, j)` is `data[offset + i * row_stride + j * col_stride]`. Strides may be 0 or negative.
#[derive(Debug)]
pub(crate) struct Mat<'a, T> {
    pub data: &'a [T],
    pub offset: usize,
    pub rows: usize,
    pub cols: usize,
    pub row_stride: isize,
    pub col_stride: isize,
}

/// A matrix to write; no two of its elements share a place.
#[derive(Debug)]
pub(crate) struct MatMut<'a, T> {
    pub data: &'a mut [T],
    pub offset: usize,
    pub rows: usize,
    pub cols: usize,
    pub row_stride: isize,
    pub col_stride: isize,
}

impl<T> Clone for Mat<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Mat<'_, T> {}

impl<'a, T> Mat<'a, T> {
    /// The whole of `data` as a row-major matrix.
    pub(crate) fn row_major(data: &'a [T], rows: usize, cols: usize) -> Mat<'a, T> {
        Mat { data, offset: 0, rows, cols, row_stride: cols as isize, col_stride: 1 }
    }

    /// Rows and columns swapped.
    pub(crate) fn t(self) -> Mat<'a, T> {
        let Mat { data, offset, rows, cols, row_stride, col_stride } = self;
        Mat { data, offset, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// The block of `rows` rows from `i` on and `cols` columns from `j` on.
    pub(super) fn block(self, (i, rows): (usize, usize), (j, cols): (usize, usize)) -> Mat<'a, T> {
        let start = i as isize * self.row_stride + j as isize * self.col_stride;
        Mat { offset: self.offset.wrapping_add_signed(start), rows, cols, ..self }
    }

    #[track_caller]
    fn check(&self) {
        check_bounds(self.data.len(), self.offset, [(self.rows, self.row_stride), (self.cols, self.col_stride)]);
    }
}

impl<'a, T> MatMut<'a, T> {
    /// The whole of `data` as a row-major matrix.
    pub(crate) fn row_major(data: &'a mut [T], rows: usize, cols: usize) -> MatMut<'a, T> {
        MatMut { data, offset: 0, rows, cols, row_stride: cols as isize, col_stride: 1 }
    }

    /// Rows and columns swapped.
    pub(crate) fn t(self) -> MatMut<'a, T> {
        let MatMut { data, offset, rows, cols, row_stride, col_stride } = self;
        MatMut { data, offset, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// The block of `cols` columns from `j` on.
    fn columns(&mut self, j: usize, cols: usize) -> MatMut<'_, T> {
        let offset = self.offset.wrapping_add_signed(j as isize * self.col_stride);
        MatMut { data: self.data, offset, cols, ..*self }
    }

    #[track_caller]
    fn check(&self) {
        let dims = [(self.rows, self.row_stride), (self.cols, self.col_stride)];
        check_bounds(self.data.len(), self.offset, dims);
        let [(m, row), (n, col)] = dims.map(|(size, stride)| (size, stride.unsigned_abs()));
        // One dim must end before the other takes a step.
        let apart = match (m > 1, n > 1) {
            _ if m == 0 || n == 0 => true,
            (true, true) => row.min(col) > 0 && (row > (n - 1) * col || col > (m - 1) * row),
            (true, false) => row > 0,
            (false, true) => col > 0,
            (false, false) => true,
        };
        assert!(apart, "elements of the output matrix overlap");
    }
}

/// Where a matrix that tasks share out begins.
#[derive(Clone, Copy)]
pub(super) struct Out<T> {
    pub start: *mut T,
    pub row: isize,
    pub col: isize,
}

// SAFETY: tasks write to pieces that do not overlap.
unsafe impl<T: Send> Sync for Out<T> {}

impl<T> Out<T> {
    pub(super) fn of(out: &mut MatMut<T>) -> Out<T> {
        Out { start: out.data.as_mut_ptr().wrapping_add(out.offset), row: out.row_stride, col: out.col_stride }
    }

    pub(super) fn at(self, i: usize, j: usize) -> *mut T {
        self.start.wrapping_offset(i as isize * self.row + j as isize * self.col)
    }
}

/// Asserts that every index of a matrix that has elements lies within `len`.
#[track_caller]
fn check_bounds(len: usize, offset: usize, dims: [(usize, isize); 2]) {
    if dims.iter().any(|d| d.0 == 0) {
        return;
    }
    let reach = dims.map(|(size, stride)| (size as i128 - 1) * stride as i128);
    let low = offset as i128 + reach.iter().filter(|r| **r < 0).sum::<i128>();
    let high = offset as i128 + reach.iter().filter(|r| **r > 0).sum::<i128>();
    assert!(low >= 0 && high < len as i128, "matrix {dims:?} at {offset} reaches outside its {len} elements");
}

/// `out = lhs · rhs`, or `out += lhs · rhs` where `accumulate`; an empty sum is 0.
///
/// Panics where the sizes do not fit, or a matrix reaches outside its slice.
pub(crate) fn gemm<T: MatMul>(out: MatMut<T>, lhs: Mat<T>, rhs: Mat<T>, accumulate: bool) {
    let work = checked_work(&out, &lhs, &rhs);
    let streams = (out.rows == 1 && rhs.row_stride == 1) || (out.cols == 1 && lhs.col_stride == 1);
    if work < if streams { STREAMED } else { THREADED } {
        T::product(out, lhs, rhs, accumulate, 1);
    } else if out.rows == 1 && out.col_stride == 1 {
        row_times_matrix(out, lhs, rhs, accumulate);
    } else if out.cols == 1 && out.row_stride == 1 {
        row_times_matrix(out.t(), rhs.t(), lhs.t(), accumulate);
    } else {
        T::product(out, lhs, rhs, accumulate, parallel::num_threads());
    }
}

/// [`gemm`] whose operands may be rounded to bf16 where that is faster.
pub(crate) fn gemm_rounded<T: MatMul>(mut out: MatMut<T>, lhs: Mat<T>, rhs: Mat<T>, accumulate: bool) {
    let threads = if checked_work(&out, &lhs, &rhs) < THREADED { 1 } else { parallel::num_threads() };
    if !T::rounded_product(&mut out, lhs, rhs, accumulate, threads) {
        gemm(out, lhs, rhs, accumulate);
    }
}

/// `out = x · w + bias` with `out` contiguous and the bias added to each row; where `round`, as [`gemm_rounded`].
pub(crate) fn affine<T: MatMul>(out: &mut [T], x: Mat<T>, w: Mat<T>, bias: Option<&[T]>, round: bool) {
    if let Some(bias) = bias.filter(|_| !out.is_empty()) {
        assert_eq!(bias.len(), w.cols);
        let rows = GRAIN.div_ceil(bias.len());
        // Where sums begin: no further pass over the output.
        parallel::chunks(out, rows * bias.len(), |_, out| {
            out.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
        });
    }
    let gemm = if round { gemm_rounded } else { gemm };
    gemm(MatMut::row_major(out, x.rows, w.cols), x, w, bias.is_some());
}

/// Start and length of each block of `0..len`.
pub(super) fn blocks(len: usize, block: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(block).map(move |i| (i, block.min(len - i)))
}

/// Runs the tasks on all threads, or in turn on this one where it is to be the only one.
pub(super) fn share(threads: usize, tasks: usize, f: impl Fn(usize) + Sync) {
    match threads {
        1 => (0..tasks).for_each(f),
        _ => parallel::run(tasks, f),
    }
}

/// [`gemm`] on this thread alone: for use inside a parallel region.
pub(crate) fn gemm_here<T: MatMul>(out: MatMut<T>, lhs: Mat<T>, rhs: Mat<T>, accumulate: bool) {
    checked_work(&out, &lhs, &rhs);
    T::product(out, lhs, rhs, accumulate, 1);
}

/// Asserts that the product is well formed, and counts its multiply-adds.
#[track_caller]
fn checked_work<T>(out: &MatMut<T>, lhs: &Mat<T>, rhs: &Mat<T>) -> usize {
    let (m, n, k) = (out.rows, out.cols, lhs.cols);
    assert!(
        lhs.rows == m && rhs.rows == k && rhs.cols == n,
        "gemm: {lhs_s:?} · {rhs_s:?} into {m} x {n}",
        lhs_s = (lhs.rows, lhs.cols),
        rhs_s = (rhs.rows, rhs.cols)
    );
    out.check();
    lhs.check();
    rhs.check();
    m.saturating_mul(n).saturating_mul(k)
}

/// A row vector times a matrix, which the `gemm` crate would do on one thread: the same pieces on any number of them,
/// for a piece of few columns is summed in another order.
fn row_times_matrix<T: MatMul>(out: MatMut<T>, lhs: Mat<T>, rhs: Mat<T>, accumulate: bool) {
    let (n, k) = (out.cols, lhs.cols);
    let (task, least) = if rhs.row_stride == 1 { (STREAMED / 2, 1) } else { (TASK, PIECE) };
    let piece = (task / k.max(1)).next_multiple_of(16).max(least);
    parallel::chunks(&mut out.data[out.offset..out.offset + n], piece, |from, out| {
        let cols = out.len();
        let rhs = rhs.block((0, k), (from, cols));
        if !T::dots(out, lhs, rhs, accumulate) {
            T::product(MatMut::row_major(out, 1, cols), lhs, rhs, accumulate, 1);
        }
    });
}

/// One operand of [`gemm_batched`]: matrix `b` starts at `data[offsets[b]]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a, T> {
    pub data: &'a [T],
    pub offsets: &'a [usize],
    pub row_stride: isize,
    pub col_stride: isize,
}

impl<'a, T> Batch<'a, T> {
    fn at(&self, b: usize, rows: usize, cols: usize) -> Mat<'a, T> {
        let Batch { data, offsets, row_stride, col_stride } = *self;
        Mat { data, offset: offsets[b], rows, cols, row_stride, col_stride }
    }
}

/// `out[b] = lhs[b] · rhs[b]` with `out` contiguous `[batch, m, n]`, lhs `[m, k]`, rhs `[k, n]`.
///
/// Small products are shared out among the threads whole; large ones run in turn, each on all threads. Where `round`,
/// as [`gemm_rounded`].
pub(crate) fn gemm_batched<T: MatMul>(
    out: &mut [T],
    (m, n, k): (usize, usize, usize),
    lhs: Batch<T>,
    rhs: Batch<T>,
    round: bool,
) {
    let batch = lhs.offsets.len();
    assert_eq!(rhs.offsets.len(), batch);
    assert_eq!(out.len(), batch * m * n);
    if out.is_empty() {
        return;
    }
    let work = m.saturating_mul(n).saturating_mul(k);
    if batch == 1 || work >= LARGE {
        for (b, out) in out.chunks_mut(m * n).enumerate() {
            let gemm = if round { gemm_rounded } else { gemm };
            gemm(MatMut::row_major(out, m, n), lhs.at(b, m, k), rhs.at(b, k, n), false);
        }
        return;
    }
    let group = (TASK / work.max(1)).max(1);
    parallel::chunks(out, group * m * n, |from, out| {
        for (i, out) in out.chunks_mut(m * n).enumerate() {
            let b = from / (m * n) + i;
            let (mut out, lhs, rhs) = (MatMut::row_major(out, m, n), lhs.at(b, m, k), rhs.at(b, k, n));
            checked_work(&out, &lhs, &rhs);
            if !(round && T::rounded_product(&mut out, lhs, rhs, false, 1)) {
                T::product(out, lhs, rhs, false, 1);
            }
        }
    });
}

/// An element type that matrices can be multiplied in.
pub(crate) trait MatMul: Element {
    /// [`gemm`] on `threads` threads, its arguments checked already.
    fn product(out: MatMut<Self>, lhs: Mat<Self>, rhs: Mat<Self>, accumulate: bool, threads: usize);

    /// The product of a row with contiguous columns, one after the other, as memory is read fastest; `false`, and nothing
    /// done, of others.
    fn dots(_out: &mut [Self], _lhs: Mat<Self>, _rhs: Mat<Self>, _accumulate: bool) -> bool {
        false
    }

    /// [`MatMul::product`] of operands rounded to bf16; `false`, and nothing changed, where that is no faster or not for this type.
    fn rounded_product(_: &mut MatMut<Self>, _: Mat<Self>, _: Mat<Self>, _accumulate: bool, _threads: usize) -> bool {
        false
    }
}

macro_rules! native {
    ($t:ty, $($rounded_product:item)?) => {
        impl MatMul for $t {
            $($rounded_product)?

            fn dots(out: &mut [$t], lhs: Mat<$t>, rhs: Mat<$t>, accumulate: bool) -> bool {
                let (k, Ok(stride)) = (lhs.cols, usize::try_from(rhs.col_stride)) else { return false };
                if lhs.col_stride != 1 || rhs.row_stride != 1 {
                    return false;
                }
                let x = &lhs.data[lhs.offset..][..k];
                dispatch(
                    #[inline(always)]
                    || {
                        for (j, out) in out.iter_mut().enumerate() {
                            let w = &rhs.data[rhs.offset + j * stride..][..k];
                            let sum = lanes::sum2(x, w, #[inline(always)] |x, w| x * w);
                            *out = if accumulate { *out + sum } else { sum };
                        }
                    },
                );
                true
            }

            fn product(mut out: MatMut<Self>, lhs: Mat<Self>, rhs: Mat<Self>, accumulate: bool, threads: usize) {
                // What follows thinks in rows of the output.
                if out.row_stride == 1 && out.col_stride != 1 {
                    return Self::product(out.t(), rhs.t(), lhs.t(), accumulate, threads);
                }
                const L: usize = super::simd::lanes::<$t>();
                if packed::worthwhile(lhs.rows, rhs.cols, lhs.cols)
                    && packed::product::<$t, L>(&mut out, lhs, rhs, accumulate, threads)
                {
                    return;
                }
                if has_columns_to_turn(&out, &rhs) {
                    let (depth, width) = turned_block(rhs.rows, rhs.cols);
                    if let Ok(mut turned) = Buffer::try_scratch(depth * width, "matmul") {
                        return times_columns(out, lhs, rhs, accumulate, threads, &mut turned);
                    }
                }
                let to = Out::of(&mut out);
                let (m, n, k) = (lhs.rows, rhs.cols, lhs.cols);
                let (down, across) = cuts(m, n, k, threads);
                parallel::run(down * across, |t| {
                    let (i, rows) = part(m, down, TILE_ROWS, t / across);
                    let (j, cols) = part(n, across, TILE_COLS, t % across);
                    let (lhs, rhs) = (lhs.block((i, rows), (0, k)), rhs.block((0, k), (j, cols)));
                    // SAFETY: every element that the sizes and strides name lies within its slice, and no two of
                    // `out` coincide (checked by `checked_work`); `out` is borrowed alone, and pieces of it do not
                    // overlap. With k = 0 no operand is read, so their offsets may point anywhere.
                    unsafe {
                        ::gemm::gemm(
                            rows,
                            cols,
                            k,
                            to.at(i, j),
                            to.col,
                            to.row,
                            accumulate,
                            lhs.data.as_ptr().wrapping_add(lhs.offset),
                            lhs.col_stride,
                            lhs.row_stride,
                            rhs.data.as_ptr().wrapping_add(rhs.offset),
                            rhs.col_stride,
                            rhs.row_stride,
                            1.0,
                            1.0,
                            false,
                            false,
                            false,
                            ::gemm::Parallelism::None,
                        )
                    }
                });
            }
        }
    };
}

native!(
    f32,
    #[cfg(target_arch = "x86_64")]
    fn rounded_product(out: &mut MatMut<f32>, lhs: Mat<f32>, rhs: Mat<f32>, accumulate: bool, threads: usize) -> bool {
        super::gemm_bf16::product(out, lhs, rhs, accumulate, threads)
    }
);
native!(f64,);

/// How many times the rows and the columns of an output are cut for about two tasks to a thread, so that a late one
/// costs half a task. Each piece brings its operands into the crate's order anew: pieces are as square as may be.
fn cuts(m: usize, n: usize, k: usize, threads: usize) -> (usize, usize) {
    let tasks = if threads == 1 { 1 } else { (2 * threads).min(m.saturating_mul(n).saturating_mul(k) / TASK) };
    // The crate sums over k in blocks that depend on k alone, but for outputs of up to 256 elements, or up to 64 rows and
    // 64 columns with k above 512. So that the number of threads changes no sum, no piece is that small.
    let allowed = |&(down, across): &(usize, usize)| {
        let (rows, cols) = (least(m, down, TILE_ROWS), least(n, across, TILE_COLS));
        rows.saturating_mul(cols) > 256 && (k <= 512 || rows > 64 || cols > 64)
    };
    let all = (1..=tasks).map(|across| (tasks.div_ceil(across), across));
    all.filter(allowed).min_by_key(|&(down, across)| across * m + down * n).unwrap_or((1, 1))
}

/// Rows and columns of the crate's tiles.
const TILE_ROWS: usize = 6;
const TILE_COLS: usize = 64;

/// Part `i` of `parts` of `len`: where it begins, and how long it is. All but the last are multiples of `unit`.
fn part(len: usize, parts: usize, unit: usize, i: usize) -> (usize, usize) {
    let start = |i: usize| if i == parts { len } else { i * len / parts / unit * unit };
    (start(i), start(i + 1) - start(i))
}

/// The length of the shortest part.
fn least(len: usize, parts: usize, unit: usize) -> usize {
    (0..parts).map(|i| part(len, parts, unit, i).1).min().unwrap_or(0)
}

/// Elements of a right operand that are turned at a time; few in tests, so that small products take several blocks.
const TURNED: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// Whether the columns of `rhs` are contiguous, as in `x · wᵀ`, and should be turned first: the crate takes ten times as
/// long to bring them into its own order. It has kernels for vectors and small products as they are.
fn has_columns_to_turn<T>(out: &MatMut<T>, rhs: &Mat<T>) -> bool {
    let large = out.rows > 1 && out.rows * out.cols > 256 && rhs.rows > 2 && rhs.cols > 2;
    large && rhs.row_stride == 1 && rhs.col_stride > 1
}

/// The product, block by block of `rhs`, turned into `turned`.
fn times_columns<T: MatMul + Turn>(
    mut out: MatMut<T>,
    lhs: Mat<T>,
    rhs: Mat<T>,
    accumulate: bool,
    threads: usize,
    turned: &mut [T],
) {
    let (depth, width) = turned_block(rhs.rows, rhs.cols);
    for j in (0..rhs.cols).step_by(width) {
        let cols = width.min(rhs.cols - j);
        for p in (0..rhs.rows).step_by(depth) {
            let rows = depth.min(rhs.rows - p);
            let (turned, block) = (&mut turned[..rows * cols], rhs.block((p, rows), (j, cols)));
            let rows_at_once = if threads == 1 { rows } else { GRAIN.div_ceil(cols).next_multiple_of(4) };
            parallel::chunks(turned, rows_at_once * cols, |at, turned| {
                let from = Grid { data: &block.data[block.offset + at / cols..], row: block.col_stride.unsigned_abs() };
                let rows = turned.len() / cols;
                turn(from, Grid { data: turned, row: cols }, cols, rows);
            });
            let lhs = lhs.block((0, lhs.rows), (p, rows));
            T::product(out.columns(j, cols), lhs, Mat::row_major(turned, rows, cols), accumulate || p > 0, threads);
        }
    }
}

/// Rows and columns of the blocks that a right operand is turned in.
fn turned_block(rows: usize, cols: usize) -> (usize, usize) {
    let depth = rows.min(TURNED / 64);
    (depth, (TURNED / depth.max(1)).next_multiple_of(64).min(cols))
}

impl MatMul for i64 {
    fn product(out: MatMut<i64>, lhs: Mat<i64>, rhs: Mat<i64>, accumulate: bool, _threads: usize) {
        let at = |offset: usize, i: usize, stride: isize| offset.wrapping_add_signed(i as isize * stride);
        for i in 0..out.rows {
            let out_row = at(out.offset, i, out.row_stride);
            let lhs_row = at(lhs.offset, i, lhs.row_stride);
            for j in 0..out.cols {
                let place = &mut out.data[at(out_row, j, out.col_stride)];
                let rhs_col = at(rhs.offset, j, rhs.col_stride);
                let mut sum = if accumulate { *place } else { 0 };
                for k in 0..lhs.cols {
                    let (a, b) = (at(lhs_row, k, lhs.col_stride), at(rhs_col, k, rhs.row_stride));
                    sum = sum.wrapping_add(lhs.data[a].wrapping_mul(rhs.data[b]));
                }
                *place = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests;
