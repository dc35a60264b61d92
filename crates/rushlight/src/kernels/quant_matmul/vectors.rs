//! Few rows of x by AVX512-VNNI: each row of W is read once, four runs of 32 numbers at a time.
//!
//! A register has 16 numbers of each of the four runs, so that of the sixteen sums of a product of bytes, four belong to
//! each run, and its scale. Where a row ends within four runs, its last run stands in for those that are missing, and
//! meets zeros of x.

use std::arch::x86_64::*;

use super::{OP, each_row, whole};
use crate::kernels::quant::Blocks;
use crate::kernels::simd::{Level, dispatch, level};
use crate::{Error, Result};

/// Rows of W at a time.
const ROWS: usize = 4;

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
    let mut out = vec![];
    out.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { op: OP, bytes: count * size_of::<Four>() })?;
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

/// # Safety
/// The instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi1,bmi2,f16c")]
unsafe fn some<K: Blocks>(x: &[Four], w: &[u8], row: usize, out: &mut [f32]) {
    let (out, rest) = out.as_chunks_mut::<ROWS>();
    let (w, w_rest) = w.split_at(out.len() * ROWS * row);
    for (w, out) in w.chunks_exact(ROWS * row).zip(out) {
        *out = rows::<K, ROWS>(x, w, row);
    }
    for (w, out) in w_rest.chunks_exact(row).zip(rest) {
        [*out] = rows::<K, 1>(x, w, row);
    }
}

/// `R` rows of W.
#[inline(always)]
fn rows<K: Blocks, const R: usize>(x: &[Four], w: &[u8], row: usize) -> [f32; R] {
    let w: [&[u8]; R] = std::array::from_fn(|r| &w[r * row..][..row]);
    // SAFETY: inlined into what has the features; loads are of whole arrays.
    unsafe {
        let mut sums = [_mm512_setzero_ps(); R];
        for (i, x) in x.iter().enumerate() {
            let bytes = |b: &[i8; 64]| _mm512_load_si512(b.as_ptr().cast());
            let floats = |f: &[f32; 16]| _mm512_load_ps(f.as_ptr());
            let (high, low) = ([bytes(&x.high[0]), bytes(&x.high[1])], [bytes(&x.low[0]), bytes(&x.low[1])]);
            let (scale, sum) = (floats(&x.scale), floats(&x.sum[0]));
            for r in 0..R {
                let ([q0, q1], d, m) = four::<K>(w[r], i);
                let zero = _mm512_setzero_si512();
                let join = |high, low| _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high), low));
                if K::SIXTEENS {
                    for (h, q) in [q0, q1].into_iter().enumerate() {
                        let both = join(_mm512_dpbusd_epi32(zero, q, high[h]), _mm512_dpbusd_epi32(zero, q, low[h]));
                        sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(d[h], scale), both, sums[r]);
                        sums[r] = _mm512_fmadd_ps(m[h], floats(&x.sum[h]), sums[r]);
                    }
                } else {
                    let twice = |x: [__m512i; 2]| _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(zero, q0, x[0]), q1, x[1]);
                    let both = join(twice(high), twice(low));
                    sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(d[0], scale), both, sums[r]);
                    sums[r] = _mm512_fmadd_ps(m[0], sum, sums[r]);
                }
            }
        }
        sums.map(|s| _mm512_reduce_add_ps(s))
    }
}

/// Four runs of a row from run `4·i` on: their bytes, and scales and minima for all lanes, of the first 16 numbers of each
/// run and of the others.
#[inline(always)]
unsafe fn four<K: Blocks>(row: &[u8], i: usize) -> ([__m512i; 2], [__m512; 2], [__m512; 2]) {
    // SAFETY: the caller's features.
    unsafe { if K::LEN == 32 { of_blocks::<K>(row, i) } else { of_half::<K>(row, i) } }
}

/// Of four blocks of 32 numbers, whose parts their size tells apart: scale, minimum (20 and 24 bytes), fifth bits (22 and
/// 24), and sixteen bytes of four bits or 32 of eight.
#[inline(always)]
unsafe fn of_blocks<K: Blocks>(row: &[u8], i: usize) -> ([__m512i; 2], [__m512; 2], [__m512; 2]) {
    let last = row.len() / K::SIZE - 1;
    let block: [&[u8]; 4] = std::array::from_fn(|b| &row[(4 * i + b).min(last) * K::SIZE..][..K::SIZE]);
    let number = |b: usize, at: usize| u16::from_le_bytes([block[b][at], block[b][at + 1]]) as u64;
    let word = |b: usize, at: usize| number(b, at) | (number(b, at + 2) << 16);
    // SAFETY: the caller's features; each load is of 16 bytes of a slice.
    unsafe {
        let load = |at: usize| {
            let part = |b: usize| _mm_loadu_si128(block[b][at..at + 16].as_ptr().cast());
            let two = |b: usize| _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(b)), part(b + 1));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(two(0)), two(2))
        };
        let spread = |halves: __m128i, places: __m512i| {
            let floats = _mm512_castps256_ps512(_mm256_cvtph_ps(halves));
            _mm512_permutexvar_ps(places, floats)
        };
        let (d, m) = if matches!(K::SIZE, 20 | 24) {
            let halves = _mm_set_epi64x((word(2, 0) | word(3, 0) << 32) as i64, (word(0, 0) | word(1, 0) << 32) as i64);
            let d = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
            (spread(halves, d), spread(halves, _mm512_add_epi32(d, _mm512_set1_epi32(1))))
        } else {
            let halves = number(0, 0) | number(1, 0) << 16 | number(2, 0) << 32 | number(3, 0) << 48;
            let places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let d = spread(_mm_set_epi64x(0, halves as i64), places);
            let below = match K::SIZE {
                34 => -128.0,
                18 => -8.0,
                _ => -16.0,
            };
            (d, _mm512_mul_ps(d, _mm512_set1_ps(below)))
        };
        if K::SIZE == 34 {
            let flip = _mm512_set1_epi8(-128);
            return ([load(2), load(18)].map(|q| _mm512_xor_si512(q, flip)), [d; 2], [m; 2]);
        }
        let (q, four_bits) = (load(K::SIZE - 16), _mm512_set1_epi8(15));
        let mut q = [_mm512_and_si512(q, four_bits), _mm512_and_si512(_mm512_srli_epi16::<4>(q), four_bits)];
        if matches!(K::SIZE, 22 | 24) {
            for (h, q) in q.iter_mut().enumerate() {
                let bits = |b: usize| number(b, K::SIZE - 20 + 2 * h) << (16 * b);
                let fifth = bits(0) | bits(1) | bits(2) | bits(3);
                *q = _mm512_mask_add_epi8(*q, fifth, *q, _mm512_set1_epi8(16));
            }
        }
        (q, [d; 2], [m; 2])
    }
}

/// Of half a block of 256 numbers.
#[inline(always)]
unsafe fn of_half<K: Blocks>(row: &[u8], i: usize) -> ([__m512i; 2], [__m512; 2], [__m512; 2]) {
    let block = &row[i / 2 * K::SIZE..][..K::SIZE];
    let (mut q, mut d, mut m) = ([[0u8; 64]; 2], [[0.0f32; 16]; 2], [[0.0f32; 16]; 2]);
    for run in 0..4 {
        let mut bytes = [0; 32];
        let pairs = K::bytes(block, i % 2 * 4 + run, &mut bytes);
        for h in 0..2 {
            q[h][16 * run..][..16].copy_from_slice(&bytes[16 * h..][..16]);
            d[h][4 * run..][..4].fill(pairs[h].0);
            m[h][4 * run..][..4].fill(pairs[h].1);
        }
    }
    // SAFETY: the caller's features; loads are of whole arrays.
    unsafe {
        let floats = |f: [f32; 16]| _mm512_loadu_ps(f.as_ptr());
        (q.map(|q| _mm512_loadu_si512(q.as_ptr().cast())), d.map(floats), m.map(floats))
    }
}
