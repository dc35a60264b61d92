//! Matrix products: `out = lhs · rhs`, or `out += lhs · rhs`, over strided matrices, one or many.
//!
//! `out[i, j] = Σₖ lhs[i, k] · rhs[k, j]` with lhs `[m, k]`, rhs `[k, n]`, out `[m, n]`: 2·m·n·k operations. f32 and
//! f64 go to the `gemm` crate, the halves there by way of f32 (`gemm_half`). i64 wraps around.
//!
//! An element's sum runs over k in an order that only the sizes decide; threads share out elements, never a sum. So
//! results are the same on any number of threads.

use super::parallel::{self, GRAIN};
use super::turn::{Grid, Turn, turn};
use crate::dtype::Element;
use crate::storage::Buffer;

/// Multiply-adds from which one product is worth a second thread.
const THREADED: usize = 1 << 20;
/// Multiply-adds a task has when many products, or the pieces of a matrix-vector product, are shared out.
const TASK: usize = 1 << 18;
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
    if work < THREADED {
        T::product(out, lhs, rhs, accumulate, 1);
    } else if out.rows == 1 && out.col_stride == 1 {
        row_times_matrix(out, lhs, rhs, accumulate);
    } else if out.cols == 1 && out.row_stride == 1 {
        row_times_matrix(out.t(), rhs.t(), lhs.t(), accumulate);
    } else {
        T::product(out, lhs, rhs, accumulate, parallel::num_threads());
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
    let least = if rhs.row_stride == 1 { 1 } else { PIECE };
    let piece = (TASK / k.max(1)).next_multiple_of(16).max(least);
    parallel::chunks(&mut out.data[out.offset..out.offset + n], piece, |from, out| {
        let cols = out.len();
        T::product(MatMut::row_major(out, 1, cols), lhs, rhs.block((0, k), (from, cols)), accumulate, 1);
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
/// Small products are shared out among the threads whole; large ones run in turn, each on all threads.
pub(crate) fn gemm_batched<T: MatMul>(out: &mut [T], (m, n, k): (usize, usize, usize), lhs: Batch<T>, rhs: Batch<T>) {
    let batch = lhs.offsets.len();
    assert_eq!(rhs.offsets.len(), batch);
    assert_eq!(out.len(), batch * m * n);
    if out.is_empty() {
        return;
    }
    let work = m.saturating_mul(n).saturating_mul(k);
    if batch == 1 || work >= LARGE {
        for (b, out) in out.chunks_mut(m * n).enumerate() {
            gemm(MatMut::row_major(out, m, n), lhs.at(b, m, k), rhs.at(b, k, n), false);
        }
        return;
    }
    let group = (TASK / work.max(1)).max(1);
    parallel::chunks(out, group * m * n, |from, out| {
        for (i, out) in out.chunks_mut(m * n).enumerate() {
            let b = from / (m * n) + i;
            gemm_here(MatMut::row_major(out, m, n), lhs.at(b, m, k), rhs.at(b, k, n), false);
        }
    });
}

/// An element type that matrices can be multiplied in.
pub(crate) trait MatMul: Element {
    /// [`gemm`] on `threads` threads, its arguments checked already.
    fn product(out: MatMut<Self>, lhs: Mat<Self>, rhs: Mat<Self>, accumulate: bool, threads: usize);
}

macro_rules! native {
    ($t:ty) => {
        impl MatMul for $t {
            fn product(out: MatMut<Self>, lhs: Mat<Self>, rhs: Mat<Self>, accumulate: bool, threads: usize) {
                // What follows thinks in rows of the output.
                if out.row_stride == 1 && out.col_stride != 1 {
                    return Self::product(out.t(), rhs.t(), lhs.t(), accumulate, threads);
                }
                if let Some(rhs) = Columns::of(&out, &rhs) {
                    return times_columns(out, lhs, rhs, accumulate, threads);
                }
                let mut multiply = move |parallelism| {
                    // SAFETY: every element that the sizes and strides name lies within its slice, and no two of
                    // `out` coincide (checked by `checked_work`); `out` is borrowed alone. With k = 0 no operand is
                    // read, so their offsets may point anywhere.
                    unsafe {
                        ::gemm::gemm(
                            out.rows,
                            out.cols,
                            lhs.cols,
                            out.data.as_mut_ptr().wrapping_add(out.offset),
                            out.col_stride,
                            out.row_stride,
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
                            parallelism,
                        )
                    }
                };
                match threads {
                    1 => multiply(::gemm::Parallelism::None),
                    n => parallel::install(|| multiply(::gemm::Parallelism::Rayon(n))),
                }
            }
        }
    };
}

native!(f32);
native!(f64);

/// Elements of a right operand that are turned at a time.
const TURNED: usize = 1 << 20;

/// A right operand whose columns are contiguous, as that of `x · wᵀ`.
struct Columns<'a, T> {
    from: Grid<&'a [T]>,
    rows: usize,
    cols: usize,
    /// Room for some columns, turned.
    turned: Buffer<T>,
}

impl<'a, T: Element> Columns<'a, T> {
    /// Whether `rhs` is one, and worth turning: the crate itself takes ten times as long to bring it into its order. It
    /// has a kernel for small products as they are, and vectors.
    fn of(out: &MatMut<T>, rhs: &Mat<'a, T>) -> Option<Columns<'a, T>> {
        let (rows, cols) = (rhs.rows, rhs.cols);
        let worth = out.rows > 1 && out.rows * out.cols > 256 && rows > 2 && cols > 2;
        let contiguous = rhs.row_stride == 1 && rhs.col_stride > 1;
        let row = rhs.col_stride.unsigned_abs();
        if !worth || !contiguous {
            return None;
        }
        let turned = Buffer::try_scratch(rows * (TURNED / rows).next_multiple_of(64).min(cols), "matmul").ok()?;
        Some(Columns { from: Grid { data: &rhs.data[rhs.offset..], row }, rows, cols, turned })
    }
}

fn times_columns<T: MatMul + Turn>(out: MatMut<T>, lhs: Mat<T>, rhs: Columns<T>, accumulate: bool, threads: usize) {
    let Columns { from, rows: k, cols: n, mut turned } = rhs;
    let at_once = turned.len() / k;
    for j in (0..n).step_by(at_once) {
        let cols = at_once.min(n - j);
        let turned = &mut turned[..k * cols];
        let rows = if threads == 1 { k } else { (GRAIN / cols).next_multiple_of(4) };
        parallel::chunks(turned, rows * cols, |at, turned| {
            let from = Grid { data: &from.data[j * from.row + at / cols..], row: from.row };
            let rows = turned.len() / cols;
            turn(from, Grid { data: turned, row: cols }, cols, rows);
        });
        let start = out.offset.wrapping_add_signed(j as isize * out.col_stride);
        let out = MatMut { data: &mut *out.data, offset: start, cols, ..out };
        T::product(out, lhs, Mat::row_major(turned, k, cols), accumulate, threads);
    }
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
mod tests {
    use super::*;
    use crate::{bf16, f16};

    /// A small generator, so that each run sees the same numbers.
    struct Rng(u64);

    impl Rng {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((self.0 >> 33) % n as u64) as usize
        }

        /// Numbers that all float types hold and whose sums f32 holds exactly.
        fn numbers<T: Element>(&mut self, len: usize) -> Vec<T> {
            (0..len).map(|_| T::from_f64(self.below(17) as f64 - 8.0)).collect()
        }
    }

    /// Strides and offset for a matrix of these sizes, and the slice length that it needs.
    fn layout(rng: &mut Rng, rows: usize, cols: usize, read: bool) -> (isize, isize, usize, usize) {
        let gap = rng.below(3) as isize;
        let (mut rs, mut cs) = match rng.below(3) {
            0 => (cols as isize + gap, 1),
            1 => (1, rows as isize + gap),
            _ => (2 * cols as isize + gap, 2),
        };
        if read && rng.below(6) == 0 {
            rs = 0;
        }
        if read && rng.below(6) == 0 {
            cs = 0;
        }
        if rng.below(5) == 0 {
            rs = -rs;
        }
        if rng.below(5) == 0 {
            cs = -cs;
        }
        let reach = [(rows, rs), (cols, cs)].map(|(n, s)| (n as isize - 1).max(0) * s);
        let low: isize = reach.iter().filter(|r| **r < 0).sum();
        let len = reach.iter().map(|r| r.unsigned_abs()).sum::<usize>() + 4;
        (rs, cs, low.unsigned_abs() + 1, len)
    }

    fn check<T: MatMul>(rng: &mut Rng, m: usize, n: usize, k: usize) {
        let (rs, cs, offset, len) = layout(rng, m, k, true);
        let a = rng.numbers::<T>(len);
        let lhs = Mat { data: &a, offset, rows: m, cols: k, row_stride: rs, col_stride: cs };
        let (rs, cs, offset, len) = layout(rng, k, n, true);
        let b = rng.numbers::<T>(len);
        let rhs = Mat { data: &b, offset, rows: k, cols: n, row_stride: rs, col_stride: cs };
        let (rs, cs, offset, len) = layout(rng, m, n, false);
        let before = rng.numbers::<T>(len);
        let at = |x: &Mat<T>, i: usize, j: usize| {
            let index = x.offset as isize + i as isize * x.row_stride + j as isize * x.col_stride;
            x.data[index as usize].to_f64()
        };
        for accumulate in [false, true] {
            let mut c = before.clone();
            let out = MatMut { data: &mut c, offset, rows: m, cols: n, row_stride: rs, col_stride: cs };
            gemm(out, lhs, rhs, accumulate);
            let mut expected = before.clone();
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|p| at(&lhs, i, p) * at(&rhs, p, j)).sum();
                    let place = &mut expected[(offset as isize + i as isize * rs + j as isize * cs) as usize];
                    *place = T::from_f64(sum + if accumulate { place.to_f64() } else { 0.0 });
                }
            }
            assert_eq!(c, expected, "{m} x {n} x {k}, accumulate {accumulate}");
        }
    }

    #[test]
    fn products_of_any_size_and_stride_are_right() {
        let mut rng = Rng(1);
        for _ in 0..150 {
            let [m, n, k] = [(); 3].map(|_| [0, 1, 2, 3, 5, 16, 33, 70][rng.below(8)]);
            check::<f32>(&mut rng, m, n, k);
            check::<f64>(&mut rng, m, n, k);
            check::<bf16>(&mut rng, m, n, k);
            check::<f16>(&mut rng, m, n, k);
            check::<i64>(&mut rng, m, n, k);
        }
        for (m, n, k) in [(1, 3000, 700), (3000, 1, 700), (130, 120, 110), (530, 3, 1030), (2, 600, 1100)] {
            check::<f32>(&mut rng, m, n, k);
            check::<bf16>(&mut rng, m, n, k);
        }
    }

    #[test]
    fn a_result_of_nan_is_overwritten_and_nan_operands_spread() {
        let mut out = [f32::NAN; 4];
        gemm(
            MatMut::row_major(&mut out, 2, 2),
            Mat::row_major(&[1.0; 2], 2, 1),
            Mat::row_major(&[2.0; 2], 1, 2),
            false,
        );
        assert_eq!(out, [2.0; 4]);
        gemm(MatMut::row_major(&mut out, 2, 2), Mat::row_major(&[], 2, 0), Mat::row_major(&[], 0, 2), false);
        assert_eq!(out, [0.0; 4]);
        let lhs = [1.0, 1.0, 1.0, f32::NAN];
        gemm(MatMut::row_major(&mut out, 2, 2), Mat::row_major(&lhs, 2, 2), Mat::row_major(&[0.0; 4], 2, 2), false);
        assert!(out[..2] == [0.0; 2] && out[2..].iter().all(|x| x.is_nan()), "{out:?}");
    }

    #[test]
    fn halves_are_rounded_once() {
        let k = 5000;
        let (ones, small) = (vec![f16::from_f64(1.0); k], vec![f16::from_f64(0.25); k]);
        let mut out = [f16::from_f64(0.0)];
        gemm(MatMut::row_major(&mut out, 1, 1), Mat::row_major(&ones, 1, k), Mat::row_major(&small, k, 1), false);
        assert_eq!(out[0].to_f64(), 1250.0);
    }

    #[test]
    fn i64_wraps_around() {
        let mut out = [5];
        let rhs = Mat::row_major(&[2, 3], 2, 1);
        gemm(MatMut::row_major(&mut out, 1, 1), Mat::row_major(&[i64::MAX, 1], 1, 2), rhs, true);
        assert_eq!(out, [6]);
    }

    #[test]
    fn a_batch_is_its_products() {
        let mut rng = Rng(7);
        for (batch, m, n, k) in [(0, 2, 2, 2), (1, 4, 3, 2), (5, 1, 7, 3), (40, 33, 20, 17), (3, 4, 0, 2), (3, 2, 2, 0)]
        {
            let (a, b) = (rng.numbers::<f64>((batch + 1) * m * k + 1), rng.numbers::<f64>((batch + 1) * k * n + 1));
            let lhs_offsets: Vec<usize> = (0..batch).map(|_| rng.below(batch + 1) * m * k).collect();
            let rhs_offsets: Vec<usize> = (0..batch).map(|_| rng.below(batch + 1) * k * n + 1).collect();
            let mut out = vec![f64::NAN; batch * m * n];
            let lhs = Batch { data: &a, offsets: &lhs_offsets, row_stride: 1, col_stride: m as isize };
            let rhs = Batch { data: &b, offsets: &rhs_offsets, row_stride: n as isize, col_stride: 1 };
            gemm_batched(&mut out, (m, n, k), lhs, rhs);
            for (index, value) in out.iter().enumerate() {
                let (e, i, j) = (index / (m * n), index / n % m, index % n);
                let sum: f64 = (0..k).map(|p| a[lhs_offsets[e] + i + p * m] * b[rhs_offsets[e] + p * n + j]).sum();
                assert_eq!(*value, sum);
            }
        }
    }

    #[test]
    #[should_panic(expected = "reaches outside")]
    fn a_matrix_outside_its_slice_is_refused() {
        let rhs = Mat { data: &[1.0; 5], offset: 0, rows: 2, cols: 3, row_stride: 3, col_stride: 1 };
        gemm(MatMut::row_major(&mut [0.0; 3], 1, 3), Mat::row_major(&[1.0; 2], 1, 2), rhs, false);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn an_output_onto_itself_is_refused() {
        let out = MatMut { data: &mut [0.0; 8], offset: 0, rows: 2, cols: 3, row_stride: 2, col_stride: 1 };
        gemm(out, Mat::row_major(&[1.0; 2], 2, 1), Mat::row_major(&[1.0; 3], 1, 3), false);
    }

    #[test]
    fn the_thread_count_changes_no_bit() {
        let mut rng = Rng(3);
        let mut noise = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.below(1 << 20) as f32 / 1e5 - 5.0).collect() };
        let sizes = [
            (1, 5000, 333),
            (5000, 1, 333),
            (1, 1, 3_000_000),
            (2, 2000, 777),
            (2000, 3, 777),
            (7, 9, 60_000),
            (301, 299, 307),
            (64, 4097, 65),
            (4097, 64, 65),
            (1000, 1100, 1),
            (1000, 1100, 2),
            (513, 48, 1500),
        ];
        for (m, n, k) in sizes {
            let (a, b) = (noise(m * k), noise(k * n));
            for (lhs_t, rhs_t) in [(false, false), (false, true), (true, false), (true, true)] {
                let lhs = if lhs_t { Mat::row_major(&a, k, m).t() } else { Mat::row_major(&a, m, k) };
                let rhs = if rhs_t { Mat::row_major(&b, n, k).t() } else { Mat::row_major(&b, k, n) };
                let results = [1, 2, 3].map(|threads| {
                    parallel::set_num_threads(threads).unwrap();
                    let mut out = vec![0f32; m * n];
                    gemm(MatMut::row_major(&mut out, m, n), lhs, rhs, false);
                    out.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
                });
                assert!(results[0] == results[1] && results[0] == results[2], "{m} x {n} x {k} {lhs_t} {rhs_t}");
            }
        }
        parallel::set_num_threads(0).unwrap();
    }
}
