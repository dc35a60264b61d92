//! Few rows of x by AVX512-VNNI: each row of W is read once, four runs of 32 numbers at a time.
//! Rows come one by one, so that memory is read in order: with four at a time it gives two thirds as many bytes.
//!
//! A register has 16 numbers of each of the four runs, so that of the sixteen sums of a product of bytes, four belong to
//! each run, and its scale. Where a row ends within four runs, its last run stands in for those that are missing, and
//! meets zeros of x.
//!
//! What [`some`] calls is `#[inline(always)]`, so that it is compiled for the instructions that are named there. No closure
//! has instructions in it: one would not be.

use std::arch::x86_64::*;

use super::{OP, each_row, whole};
use crate::Result;
use crate::kernels::quant::Blocks;
use crate::kernels::simd::{Level, dispatch, level};
use crate::storage::reserved;

/// Bytes of W that are asked for before they are read: what comes from memory in the time that it takes to come.
const AHEAD: usize = 2048;

/// Whether this processor has the instructions.
pub(super) fn there() -> bool {
    level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni")
}

/// What four runs of x are multiplied by, each as 16 numbers and 16 more; the sixteen sums of a register's lanes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Four {
    high: [[i8; 64]; 2],
    low: [[i8; 64]; 2],
    scale: [f32; 16],
    /// The sums of the numbers that belong to a lane, of the first 16 and the other 16 of a run.
    sum: [[f32; 16]; 2],
}

/// `x`, whose length is a multiple of 32. Where W's scales are for 32, both sums are in the first.
fn prepare(x: &[f32], sixteens: bool) -> Result<Vec<Four>> {
    let count = x.len().div_ceil(128);
    let none = Four { high: [[0; 64]; 2], low: [[0; 64]; 2], scale: [0.0; 16], sum: [[0.0; 16]; 2] };
    let mut out = reserved(OP, count)?;
    out.resize(count, none);
    dispatch(
        #[inline(always)]
        || {
            for (four, x) in out.iter_mut().zip(x.chunks(128)) {
                for (i, x) in x.as_chunks::<32>().0.iter().enumerate() {
                    let (mut high, mut low) = ([0; 32], [0; 32]);
                    let scale = whole(x, &mut high, &mut low);
                    for h in 0..2 {
                        four.high[h][16 * i..][..16].copy_from_slice(&high[16 * h..][..16]);
                        four.low[h][16 * i..][..16].copy_from_slice(&low[16 * h..][..16]);
                        for l in 0..4 {
                            let at = 16 * h + 4 * l;
                            let sum: i32 = (at..at + 4).map(|i| 256 * high[i] as i32 + low[i] as i32).sum();
                            four.sum[if sixteens { h } else { 0 }][4 * i + l] += scale * sum as f32;
                        }
                    }
                    four.scale[4 * i..][..4].fill(scale);
                }
            }
        },
    );
    Ok(out)
}

/// As [`super::product`].
pub(super) fn product<K: Blocks>(out: &mut [f32], x: &[f32], w: &[u8], (n, k): (usize, usize)) -> Result<()> {
    let all = x.chunks_exact(k).map(|x| prepare(x, K::SIXTEENS)).collect::<Result<Vec<_>>>()?;
    let row = w.len() / n;
    each_row(out, (n, k), |i, j, out| {
        let w = &w[j * row..][..out.len() * row];
        // SAFETY: `there` has seen the instructions.
        unsafe { some::<K>(&all[i], w, row, out) };
    });
    Ok(())
}

/// Each row of `w`, of `row` bytes, with x.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi1,bmi2,f16c")]
fn some<K: Blocks>(x: &[Four], w: &[u8], row: usize, out: &mut [f32]) {
    assert!(w.len() == out.len() * row && row.is_multiple_of(K::SIZE));
    assert!(row / K::SIZE * (K::LEN / 32) > 4 * (x.len() - 1) && row / K::SIZE * (K::LEN / 32) <= 4 * x.len());
    for (w, out) in w.chunks_exact(row).zip(out) {
        // SAFETY: a row as long as x.
        *out = unsafe { one::<K>(x, w.as_ptr(), row) };
    }
}

/// A row of W.
///
/// # Safety
/// The instructions; `row` bytes at `w`, as many blocks as x takes, the last of its fours counted from one.
#[inline(always)]
unsafe fn one<K: Blocks>(x: &[Four], w: *const u8, row: usize) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let mut sum = _mm512_setzero_ps();
        // Fours that are whole; K blocks always make such.
        let whole = if K::LEN == 32 { row / (4 * K::SIZE) } else { x.len() };
        for (i, x) in x[..whole].iter().enumerate() {
            let four = if K::LEN == 32 {
                let w = w.add(i * 4 * K::SIZE);
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD).cast());
                if K::SIZE > 24 {
                    _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD + 64).cast());
                }
                of_blocks::<K>([w, w.add(K::SIZE), w.add(2 * K::SIZE), w.add(3 * K::SIZE)])
            } else {
                of_half::<K>(w.add(i / 2 * K::SIZE), i % 2)
            };
            sum = multiply::<K>(sum, x, four);
        }
        if let Some(x) = x.get(whole) {
            let (first, last) = (w.add(4 * whole * K::SIZE), w.add(row - K::SIZE));
            let (second, third) = (first.wrapping_add(K::SIZE).min(last), first.wrapping_add(2 * K::SIZE).min(last));
            sum = multiply::<K>(sum, x, of_blocks::<K>([first, second, third, last]));
        }
        _mm512_reduce_add_ps(sum)
    }
}

/// Four runs of a row of W: bytes, scales and minima for all lanes, of the first 16 numbers of each run and the others.
type FourOf = ([__m512i; 2], [__m512; 2], [__m512; 2]);

/// `sum` and the products of four runs.
///
/// # Safety
/// The instructions.
#[inline(always)]
unsafe fn multiply<K: Blocks>(mut sum: __m512, x: &Four, (q, d, m): FourOf) -> __m512 {
    // SAFETY: the caller's instructions; loads are of whole, aligned arrays.
    unsafe {
        let zero = _mm512_setzero_si512();
        let high = [_mm512_load_si512(x.high[0].as_ptr().cast()), _mm512_load_si512(x.high[1].as_ptr().cast())];
        let low = [_mm512_load_si512(x.low[0].as_ptr().cast()), _mm512_load_si512(x.low[1].as_ptr().cast())];
        let scale = _mm512_load_ps(x.scale.as_ptr());
        if K::SIXTEENS {
            for h in 0..2 {
                let (high, low) = (_mm512_dpbusd_epi32(zero, q[h], high[h]), _mm512_dpbusd_epi32(zero, q[h], low[h]));
                let both = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low));
                sum = _mm512_fmadd_ps(_mm512_mul_ps(d[h], scale), both, sum);
                sum = _mm512_fmadd_ps(m[h], _mm512_load_ps(x.sum[h].as_ptr()), sum);
            }
            return sum;
        }
        let high = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, q[0], high[0]), q[1], high[1]);
        let low = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, q[0], low[0]), q[1], low[1]);
        let both = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low));
        sum = _mm512_fmadd_ps(_mm512_mul_ps(d[0], scale), both, sum);
        _mm512_fmadd_ps(m[0], _mm512_load_ps(x.sum[0].as_ptr()), sum)
    }
}

/// The f16 at `at`.
#[inline(always)]
unsafe fn number(at: *const u8) -> u32 {
    // SAFETY: the caller's.
    unsafe { at.cast::<u16>().read_unaligned() as u32 }
}

/// Four blocks of 32 numbers, whose parts their size tells apart: scale, minimum (20 and 24 bytes), fifth bits (22 and
/// 24), and sixteen bytes of four bits or 32 of eight.
///
/// # Safety
/// The instructions; a block at each place.
#[inline(always)]
unsafe fn of_blocks<K: Blocks>(block: [*const u8; 4]) -> FourOf {
    let [b0, b1, b2, b3] = block;
    // SAFETY: the caller's; all is read from within the blocks.
    unsafe {
        let (d, m) = if matches!(K::SIZE, 20 | 24) {
            let pairs = [b0.cast::<i32>(), b1.cast::<i32>(), b2.cast::<i32>(), b3.cast::<i32>()];
            let halves = _mm_set_epi32(
                pairs[3].read_unaligned(),
                pairs[2].read_unaligned(),
                pairs[1].read_unaligned(),
                pairs[0].read_unaligned(),
            );
            let floats = _mm512_castps256_ps512(_mm256_cvtph_ps(halves));
            let d = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
            let m = _mm512_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3, 5, 5, 5, 5, 7, 7, 7, 7);
            (_mm512_permutexvar_ps(d, floats), _mm512_permutexvar_ps(m, floats))
        } else {
            let (first, second) = (number(b0) | number(b1) << 16, number(b2) | number(b3) << 16);
            let halves = _mm_set_epi64x(0, (first as u64 | (second as u64) << 32) as i64);
            let places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let d = _mm512_permutexvar_ps(places, _mm512_castps256_ps512(_mm256_cvtph_ps(halves)));
            let below = match K::SIZE {
                34 => -128.0,
                18 => -8.0,
                _ => -16.0,
            };
            (d, _mm512_mul_ps(d, _mm512_set1_ps(below)))
        };
        if K::SIZE == 34 {
            let flip = _mm512_set1_epi8(-128);
            let q = [_mm512_xor_si512(sixteens(block, 2), flip), _mm512_xor_si512(sixteens(block, 18), flip)];
            return (q, [d; 2], [m; 2]);
        }
        let (q, four_bits) = (sixteens(block, K::SIZE - 16), _mm512_set1_epi8(15));
        let mut q = [_mm512_and_si512(q, four_bits), _mm512_and_si512(_mm512_srli_epi16::<4>(q), four_bits)];
        if matches!(K::SIZE, 22 | 24) {
            for h in 0..2 {
                let at = K::SIZE - 20 + 2 * h;
                let first = number(b0.add(at)) | number(b1.add(at)) << 16;
                let second = number(b2.add(at)) | number(b3.add(at)) << 16;
                let fifth = first as u64 | (second as u64) << 32;
                q[h] = _mm512_mask_add_epi8(q[h], fifth, q[h], _mm512_set1_epi8(16));
            }
        }
        (q, [d; 2], [m; 2])
    }
}

/// Sixteen bytes of each block, from byte `at` on.
///
/// # Safety
/// The instructions; so many bytes.
#[inline(always)]
unsafe fn sixteens(block: [*const u8; 4], at: usize) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let q = _mm512_castsi128_si512(_mm_loadu_si128(block[0].add(at).cast()));
        let q = _mm512_inserti32x4::<1>(q, _mm_loadu_si128(block[1].add(at).cast()));
        let q = _mm512_inserti32x4::<2>(q, _mm_loadu_si128(block[2].add(at).cast()));
        _mm512_inserti32x4::<3>(q, _mm_loadu_si128(block[3].add(at).cast()))
    }
}

/// Half of a block of 256 numbers.
///
/// # Safety
/// The instructions; a block there.
#[inline(always)]
unsafe fn of_half<K: Blocks>(block: *const u8, half: usize) -> FourOf {
    let (mut q, mut d, mut m) = ([[0u8; 64]; 2], [[0.0f32; 16]; 2], [[0.0f32; 16]; 2]);
    // SAFETY: the caller's; loads are of whole arrays.
    unsafe {
        let block = std::slice::from_raw_parts(block, K::SIZE);
        for run in 0..4 {
            let mut bytes = [0; 32];
            let pairs = K::bytes(block, 4 * half + run, &mut bytes);
            for h in 0..2 {
                q[h][16 * run..][..16].copy_from_slice(&bytes[16 * h..][..16]);
                d[h][4 * run..][..4].fill(pairs[h].0);
                m[h][4 * run..][..4].fill(pairs[h].1);
            }
        }
        let q = [_mm512_loadu_si512(q[0].as_ptr().cast()), _mm512_loadu_si512(q[1].as_ptr().cast())];
        let d = [_mm512_loadu_ps(d[0].as_ptr()), _mm512_loadu_ps(d[1].as_ptr())];
        (q, d, [_mm512_loadu_ps(m[0].as_ptr()), _mm512_loadu_ps(m[1].as_ptr())])
    }
}
