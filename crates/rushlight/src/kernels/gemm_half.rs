//! Matrix products of the halves: widened to f32 by blocks, summed there, and rounded once at the end.
//!
//! The `gemm` crate's own f16 rounds in between, in a matrix-vector product at every step. Costs `1 / BLOCK` conversions
//! to a multiply-add, and three blocks of scratch memory.

use half::slice::HalfFloatSliceExt;

use super::gemm::{Mat, MatMul, MatMut, blocks};
#[cfg(target_arch = "x86_64")]
use super::gemm_bf16;
use super::parallel::{self, GRAIN};
use crate::dtype::{Float, bf16, f16};

/// Rows, columns and depth of the blocks: 1 MiB of f32 each.
const BLOCK: usize = 512;

/// A half, converted by runs of elements.
trait Half: Float<Compute = f32> {
    fn widen(from: &[Self], to: &mut [f32]);
    fn narrow(from: &[f32], to: &mut [Self]);
    /// The product by instructions for this type, where the processor has them and they are worth it.
    fn in_halves(_: &mut MatMut<Self>, _: Mat<Self>, _: Mat<Self>, _accumulate: bool, _threads: usize) -> bool {
        false
    }
}

macro_rules! half {
    ($t:ty, $($in_halves:item)?) => {
        impl Half for $t {
            fn widen(from: &[Self], to: &mut [f32]) {
                from.convert_to_f32_slice(to);
            }
            fn narrow(from: &[f32], to: &mut [Self]) {
                to.convert_from_f32_slice(from);
            }
            $($in_halves)?
        }

        impl MatMul for $t {
            fn product(mut out: MatMut<Self>, lhs: Mat<Self>, rhs: Mat<Self>, accumulate: bool, threads: usize) {
                // Rows of the output are written in runs.
                if out.row_stride == 1 && out.col_stride != 1 {
                    return Self::product(out.t(), rhs.t(), lhs.t(), accumulate, threads);
                }
                if !Self::in_halves(&mut out, lhs, rhs, accumulate, threads) {
                    product(out, lhs, rhs, accumulate, threads);
                }
            }
        }
    };
}

half!(
    bf16,
    #[cfg(target_arch = "x86_64")]
    fn in_halves(out: &mut MatMut<bf16>, lhs: Mat<bf16>, rhs: Mat<bf16>, accumulate: bool, threads: usize) -> bool {
        gemm_bf16::product(out, lhs, rhs, accumulate, threads)
    }
);
half!(f16,);

fn product<T: Half>(mut out: MatMut<T>, lhs: Mat<T>, rhs: Mat<T>, accumulate: bool, threads: usize) {
    let (mut a, mut b, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for i in blocks(out.rows, BLOCK) {
        for j in blocks(out.cols, BLOCK) {
            sums.clear();
            sums.resize(i.1 * j.1, 0.0);
            for p in blocks(lhs.cols, BLOCK) {
                let (a, b) = (widen(lhs.block(i, p), &mut a, threads), widen(rhs.block(p, j), &mut b, threads));
                f32::product(MatMut::row_major(&mut sums, i.1, j.1), a, b, true, threads);
            }
            store(&mut sums, &mut out, i, j, accumulate);
        }
    }
}

/// `from` in f32, laid out so that both are walked in runs.
fn widen<'a, T: Half>(from: Mat<T>, to: &'a mut Vec<f32>, threads: usize) -> Mat<'a, f32> {
    if from.row_stride == 1 && from.col_stride != 1 {
        return widen(from.t(), to, threads).t();
    }
    let (rows, cols) = (from.rows, from.cols);
    to.resize(rows * cols, 0.0);
    let rows_at_once = if threads == 1 { rows } else { GRAIN.div_ceil(cols) };
    parallel::chunks(to, rows_at_once * cols, |at, piece| {
        for (i, run) in piece.chunks_mut(cols).enumerate() {
            let row = from.block((at / cols + i, 1), (0, cols));
            match row.col_stride {
                1 => T::widen(&row.data[row.offset..row.offset + cols], run),
                stride => {
                    for (j, x) in run.iter_mut().enumerate() {
                        *x = row.data[row.offset.wrapping_add_signed(j as isize * stride)].up();
                    }
                }
            }
        }
    });
    Mat::row_major(to, rows, cols)
}

/// Writes a block of sums, or adds it, to the output.
fn store<T: Half>(sums: &mut [f32], out: &mut MatMut<T>, i: (usize, usize), j: (usize, usize), accumulate: bool) {
    let cols = j.1;
    for (row, sums) in sums.chunks_mut(cols).enumerate() {
        let start = (i.0 + row) as isize * out.row_stride + j.0 as isize * out.col_stride;
        let start = out.offset.wrapping_add_signed(start);
        let at = |c: usize, stride: isize| start.wrapping_add_signed(c as isize * stride);
        if accumulate {
            for (c, sum) in sums.iter_mut().enumerate() {
                *sum += out.data[at(c, out.col_stride)].up();
            }
        }
        match out.col_stride {
            1 => T::narrow(sums, &mut out.data[start..start + cols]),
            stride => {
                for (c, sum) in sums.iter().enumerate() {
                    out.data[at(c, stride)] = T::down(*sum);
                }
            }
        }
    }
}
