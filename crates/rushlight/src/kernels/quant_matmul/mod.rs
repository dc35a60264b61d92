//! Products with quantised weights: `out = x · Wᵀ`, x `[m, k]` f32, W `[n, k]` in blocks, out `[m, n]`.
//!
//! The blocks are read as they are. With AVX512-VNNI, integers are multiplied: the 32 numbers of `x` beside a block become
//! whole numbers of 16 bits that share a scale, in two bytes each, and a block's bytes are multiplied with both exactly
//! (`vectors` for few rows of x, `tiles` for many). That costs at most `2⁻¹⁶` of the largest of the 32 for each. Otherwise
//! blocks are decoded to f32: by the row of W for few rows of x, for many into a scratch that `gemm` multiplies by.
//!
//! Either way `|out − exact| ≤ Σ |w| · (2⁻¹⁶ · the largest |x| of the block)`, and the rounding of sums in f32.

#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod vectors;

use super::gemm::{Mat, MatMut, gemm};
use super::parallel::{self, Shared};
use super::quant::Blocks;
use super::simd::dispatch_fused;
use crate::Result;
use crate::storage::Buffer;

const OP: &str = "linear";
/// Rows of x up to which each goes through the weights by itself.
const FEW: usize = 3;
/// Multiply-adds that a task has at least.
const TASK: usize = 1 << 16;
/// Numbers of W that are decoded at a time.
const DECODED: usize = 1 << 18;

/// The product. `x` has whole rows of `k` numbers, a multiple of a block's; `w` as many blocks as `n` rows have.
///
/// Errors: memory is refused.
pub(crate) fn product<K: Blocks>(out: &mut [f32], x: &[f32], w: &[u8], (n, k): (usize, usize)) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    if k == 0 {
        out.fill(0.0);
        return Ok(());
    }
    let m = x.len() / k;
    assert!(
        k.is_multiple_of(K::LEN) && x.len() == m * k && w.len() == n * (k / K::LEN * K::SIZE) && out.len() == m * n
    );
    #[cfg(target_arch = "x86_64")]
    if vectors::there() {
        return if m <= FEW {
            vectors::product::<K>(out, x, w, (n, k))
        } else {
            tiles::product::<K>(out, x, w, (n, k))
        };
    }
    if m <= FEW {
        each_row(out, (n, k), |i, rows, out| {
            let (x, row) = (&x[i * k..][..k], w.len() / n);
            let w = &w[rows * row..][..out.len() * row];
            dispatch_fused!(FUSED => {
                w.chunks_exact(row).zip(out).for_each(|(w, out)| *out = dot::<K, FUSED>(x, w))
            });
        });
        return Ok(());
    }
    decoded::<K>(out, x, w, (n, k))
}

/// Runs `f(i, j, out)` for each row `i` of x and all rows of W, some from `j` on at a time; `out` is their place.
fn each_row(out: &mut [f32], (n, k): (usize, usize), f: impl Fn(usize, usize, &mut [f32]) + Sync) {
    let (m, chunk) = (out.len() / n, (TASK / k).next_multiple_of(16));
    let out = Shared::new(out);
    parallel::run(n.div_ceil(chunk), |task| {
        let j = task * chunk;
        for i in 0..m {
            // SAFETY: each task has columns of its own.
            f(i, j, unsafe { out.at(i * n + j, chunk.min(n - j)) });
        }
    });
}

/// A row of x with one of W.
#[inline(always)]
fn dot<K: Blocks, const FUSED: bool>(x: &[f32], w: &[u8]) -> f32 {
    let (mut sums, mut numbers) = ([0.0f32; 32], [0.0f32; 256]);
    for (x, block) in x.chunks_exact(K::LEN).zip(w.chunks_exact(K::SIZE)) {
        K::decode(block, &mut numbers);
        for (x, w) in x.as_chunks::<32>().0.iter().zip(numbers.as_chunks::<32>().0) {
            for l in 0..32 {
                sums[l] = if FUSED { x[l].mul_add(w[l], sums[l]) } else { x[l] * w[l] + sums[l] };
            }
        }
    }
    let mut half = 16;
    while half > 0 {
        for l in 0..half {
            sums[l] += sums[l + half];
        }
        half /= 2;
    }
    sums[0]
}

/// By way of f32, some rows of W at a time.
fn decoded<K: Blocks>(out: &mut [f32], x: &[f32], w: &[u8], (n, k): (usize, usize)) -> Result<()> {
    let (m, row) = (x.len() / k, w.len() / n);
    let rows = (DECODED / k).max(16).min(n);
    let mut numbers = Buffer::<f32>::try_scratch(rows * k, OP)?;
    for j in (0..n).step_by(rows) {
        let rows = rows.min(n - j);
        let (w, numbers) = (&w[j * row..], &mut numbers[..rows * k]);
        parallel::chunks(numbers, 16 * k, |at, numbers| {
            let w = &w[at / k * row..];
            dispatch_fused!(_FUSED => {
                let blocks = w.chunks_exact(K::SIZE).zip(numbers.chunks_exact_mut(K::LEN));
                blocks.for_each(|(block, numbers)| K::decode(block, numbers))
            });
        });
        let out = MatMut { data: &mut *out, offset: j, rows: m, cols: rows, row_stride: n as isize, col_stride: 1 };
        gemm(out, Mat::row_major(x, m, k), Mat::row_major(numbers, rows, k).t(), false);
    }
    Ok(())
}

/// The 32 numbers of `x` beside a block as whole numbers `256·high + low` of a scale, which it returns; it is NaN where one
/// of them is not finite.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn whole(x: &[f32; 32], high: &mut [i8; 32], low: &mut [i8; 32]) -> f32 {
    // The high byte of the largest is 127.
    const MOST: f32 = 32512.0;
    let most = x.iter().fold(0.0f32, |m, x| if x.abs() > m { x.abs() } else { m });
    let finite = x.iter().fold(true, |all, x| all & x.is_finite());
    // What is so small that its scale has no inverse is taken for 0.
    let inverse = if most > 1e-30 { MOST / most } else { 0.0 };
    for l in 0..32 {
        // Adding 1.5 · 2²³ rounds to a whole number, which then stands in the low bits.
        let q = (x[l] * inverse + 12_582_912.0).to_bits() as i32 - 12_582_912.0f32.to_bits() as i32;
        low[l] = q as i8;
        high[l] = ((q - low[l] as i32) >> 8) as i8;
    }
    if finite { most * (1.0 / MOST) } else { f32::NAN }
}
