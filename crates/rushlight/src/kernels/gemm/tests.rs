use super::*;
use crate::Real;
use crate::kernels::simd::testing::{force_levels, keep_level};
use crate::kernels::simd::{Level, force_level};
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
    check_by::<T>(rng, (m, n, k), "gemm", gemm);
    check_by::<T>(rng, (m, n, k), "gemm_rounded", gemm_rounded);
}

/// That `multiply` does what `gemm` is to do.
fn check_by<T: MatMul>(
    rng: &mut Rng,
    (m, n, k): (usize, usize, usize),
    name: &str,
    multiply: impl Fn(MatMut<T>, Mat<T>, Mat<T>, bool),
) {
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
        multiply(out, lhs, rhs, accumulate);
        let mut expected = before.clone();
        for i in 0..m {
            for j in 0..n {
                let sum: f64 = (0..k).map(|p| at(&lhs, i, p) * at(&rhs, p, j)).sum();
                let place = &mut expected[(offset as isize + i as isize * rs + j as isize * cs) as usize];
                *place = T::from_f64(sum + if accumulate { place.to_f64() } else { 0.0 });
            }
        }
        assert_eq!(c, expected, "{name} {m} x {n} x {k}, accumulate {accumulate}");
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
fn tiles_are_right_at_every_level_on_any_number_of_threads() {
    fn check<T: MatMul + Real + Turn, const L: usize>(rng: &mut Rng, sizes: (usize, usize, usize), threads: usize) {
        check_by::<T>(rng, sizes, "tiles", |mut out, lhs, rhs, accumulate| {
            assert!(packed::product::<T, L>(&mut out, lhs, rhs, accumulate, threads));
        });
    }
    let _forced = force_levels();
    let mut rng = Rng(2);
    for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
        force_level(level);
        for _ in 0..if cfg!(miri) { 3 } else { 40 } {
            let [m, n, k] =
                [(); 3].map(|_| [1, 2, 5, 7, 16, 35, 50, 70, 130][rng.below(if cfg!(miri) { 7 } else { 9 })]);
            let threads = 1 + rng.below(3);
            parallel::set_num_threads(threads).unwrap();
            check::<f32, 16>(&mut rng, (m, n, k), threads);
            check::<f64, 8>(&mut rng, (m, n, k), threads);
        }
    }
    parallel::set_num_threads(0).unwrap();
}

#[test]
fn a_right_operand_of_contiguous_columns_is_right() {
    let mut rng = Rng(9);
    for (m, n, k) in [(5, 200, 40), (3, 130, 2000), (40, 40_000, 3), (1, 700, 301), (1, 1, 140_001)] {
        let (a, b) = (rng.numbers::<f64>(m * k), rng.numbers::<f64>(n * k));
        let mut c = vec![1.0; m * n];
        gemm(MatMut::row_major(&mut c, m, n), Mat::row_major(&a, m, k), Mat::row_major(&b, n, k).t(), true);
        for (index, value) in c.iter().enumerate() {
            let (a, b) = (&a[index / n * k..][..k], &b[index % n * k..][..k]);
            assert_eq!(*value, 1.0 + a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>(), "{index} of {m} x {n} x {k}");
        }
    }
}

#[test]
fn a_result_of_nan_is_overwritten_and_nan_operands_spread() {
    let mut out = [f32::NAN; 4];
    gemm(MatMut::row_major(&mut out, 2, 2), Mat::row_major(&[1.0; 2], 2, 1), Mat::row_major(&[2.0; 2], 1, 2), false);
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
    for (batch, m, n, k) in [(0, 2, 2, 2), (1, 4, 3, 2), (5, 1, 7, 3), (40, 33, 20, 17), (3, 4, 0, 2), (3, 2, 2, 0)] {
        let (a, b) = (rng.numbers::<f64>((batch + 1) * m * k + 1), rng.numbers::<f64>((batch + 1) * k * n + 1));
        let lhs_offsets: Vec<usize> = (0..batch).map(|_| rng.below(batch + 1) * m * k).collect();
        let rhs_offsets: Vec<usize> = (0..batch).map(|_| rng.below(batch + 1) * k * n + 1).collect();
        let mut out = vec![f64::NAN; batch * m * n];
        let lhs = Batch { data: &a, offsets: &lhs_offsets, row_stride: 1, col_stride: m as isize };
        let rhs = Batch { data: &b, offsets: &rhs_offsets, row_stride: n as isize, col_stride: 1 };
        gemm_batched(&mut out, (m, n, k), lhs, rhs, k % 2 == 0);
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
    let _kept = keep_level();
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
        (61, 67, 45),
        (7, 300, 100),
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
