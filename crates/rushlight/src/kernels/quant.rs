//! Blocks of quantised weights, as GGUF files hold them: a few bits for each number, and scales that a block shares.
//!
//! ```text
//! Q8_0    32 numbers   34 bytes: d, 32 × i8                        d·q
//! Q4_0    32 numbers   18 bytes: d, 16 bytes                       d·(q − 8)
//! Q4_1    32 numbers   20 bytes: d, m, 16 bytes                    d·q + m
//! Q5_0    32 numbers   22 bytes: d, u32 of fifth bits, 16 bytes    d·(q − 16)
//! Q5_1    32 numbers   24 bytes: d, m, u32, 16 bytes               d·q + m
//! Q4_K   256 numbers  144 bytes: d, dm, 12 of scales, 128 bytes    d·s·q − dm·t
//! Q5_K   256 numbers  176 bytes: d, dm, 12, 32 of fifth bits, 128  d·s·q − dm·t
//! Q6_K   256 numbers  210 bytes: 128 of low four bits, 64 of high two, 16 × i8 of scales s, d    d·s·(q − 32)
//! ```
//!
//! `d`, `m` and `dm` are f16; everything is little-endian. Of a byte with two numbers of four bits, the lower is the
//! number in the first half of its group (of 32; in a K block of 64), the upper the one as far into the second half.
//! A K block has a scale `s` and a step below zero `t`, of six bits each, for every 32 numbers ([`k_scale`]).
//!
//! Each `decode_*` and `encode_*` here does one block, `#[inline(always)]`, to be used inside of other kernels' loops.
//! Source: the ggml library's formats, <https://github.com/ggml-org/ggml>.

use crate::f16;
use crate::kernels::parallel;
use crate::kernels::simd::dispatch;

/// Numbers that a thread decodes at a time; a multiple of every block's.
const CHUNK: usize = 1 << 14;

/// The f16 at byte `at`.
#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The lower and the upper four bits of 16 bytes: numbers 0 to 15 and 16 to 31.
#[inline(always)]
fn nibbles(bytes: &[u8; 16], out: &mut [f32; 32], f: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for (i, (&b, (low, high))) in bytes.iter().zip(low.iter_mut().zip(high)).enumerate() {
        *low = f(i, b & 15);
        *high = f(i + 16, b >> 4);
    }
}

/// `N` bytes from `at` on; every caller's block is long enough.
#[inline(always)]
fn bytes<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    let (first, _) = block[at..].as_chunks::<N>();
    &first[0]
}

/// `d·q`
#[inline(always)]
pub(crate) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (y, &q) in out.iter_mut().zip(&block[2..]) {
        *y = d * (q as i8) as f32;
    }
}

/// `d·(q − 8)`
#[inline(always)]
pub(crate) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    nibbles(bytes(block, 2), out, |_, q| d * (q as i8 - 8) as f32);
}

/// `d·q + m`
#[inline(always)]
pub(crate) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    nibbles(bytes(block, 4), out, |_, q| d * q as f32 + m);
}

/// `d·(q − 16)`, where `q`'s fifth bit is bit `i` of a u32.
#[inline(always)]
pub(crate) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, fifth) = (half(block, 0), u32::from_le_bytes(*bytes(block, 2)));
    nibbles(bytes(block, 6), out, |i, q| d * ((q | fifth_bit(fifth, i)) as i8 - 16) as f32);
}

/// `d·q + m`, with fifth bits as those of [`decode_q5_0`].
#[inline(always)]
pub(crate) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, fifth) = (half(block, 0), half(block, 2), u32::from_le_bytes(*bytes(block, 4)));
    nibbles(bytes(block, 8), out, |i, q| d * (q | fifth_bit(fifth, i)) as f32 + m);
}

#[inline(always)]
fn fifth_bit(bits: u32, i: usize) -> u8 {
    ((bits >> i) as u8 & 1) << 4
}

/// Scale and minimum of the 32 numbers `j` (0 to 7) of a K block, six bits each, from its 12 bytes: those of 0 to 3 are
/// the low six bits of bytes 0 to 3 and 4 to 7; those of 4 to 7 have four bits in bytes 8 to 11 (the scale's below) and
/// their upper two atop the former.
#[inline(always)]
pub(crate) fn k_scale(s: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        ((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4), (s[j + 4] >> 4) | ((s[j] >> 6) << 4))
    }
}

/// `d·s·q − dm·t`
#[inline(always)]
pub(crate) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dm, scales) = (half(block, 0), half(block, 2), bytes::<12>(block, 4));
    let (groups, _) = block[16..].as_chunks::<32>();
    for (g, (q, out)) in groups.iter().zip(out.chunks_exact_mut(64)).enumerate() {
        let (low, high) = out.split_at_mut(32);
        let (s, t) = k_scale(scales, 2 * g);
        let (s, t) = (d * s as f32, dm * t as f32);
        low.iter_mut().zip(q).for_each(|(y, q)| *y = s * (q & 15) as f32 - t);
        let (s, t) = k_scale(scales, 2 * g + 1);
        let (s, t) = (d * s as f32, dm * t as f32);
        high.iter_mut().zip(q).for_each(|(y, q)| *y = s * (q >> 4) as f32 - t);
    }
}

/// `d·s·q − dm·t`: as Q4_K, with `q`'s fifth bit for number `i` of its 32 in byte `i`, at the bit of its number of 32.
#[inline(always)]
pub(crate) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dm, scales, fifth) = (half(block, 0), half(block, 2), bytes::<12>(block, 4), bytes::<32>(block, 16));
    let (groups, _) = block[48..].as_chunks::<32>();
    for (g, (q, out)) in groups.iter().zip(out.chunks_exact_mut(64)).enumerate() {
        let (low, high) = out.split_at_mut(32);
        let (s, t) = k_scale(scales, 2 * g);
        let (s, t) = (d * s as f32, dm * t as f32);
        for ((y, q), bits) in low.iter_mut().zip(q).zip(fifth) {
            *y = s * ((q & 15) | ((bits >> (2 * g)) & 1) << 4) as f32 - t;
        }
        let (s, t) = k_scale(scales, 2 * g + 1);
        let (s, t) = (d * s as f32, dm * t as f32);
        for ((y, q), bits) in high.iter_mut().zip(q).zip(fifth) {
            *y = s * ((q >> 4) | ((bits >> (2 * g + 1)) & 1) << 4) as f32 - t;
        }
    }
}

/// `d·s·(q − 32)`: in each half of 128, number `32k + i` has its low bits in byte `i` (k = 0, 2: lower, upper four) or
/// `32 + i` (k = 1, 3) of 64, its high two at bits `2k` of byte `i` of 32, and a scale for every 16.
#[inline(always)]
pub(crate) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block, 208);
    let scales = bytes::<16>(block, 192);
    for (h, out) in out.chunks_exact_mut(128).enumerate() {
        let (low, high, scales) = (bytes::<64>(block, 64 * h), bytes::<32>(block, 128 + 32 * h), &scales[8 * h..]);
        for (k, out) in out.chunks_exact_mut(32).enumerate() {
            let low = &low[32 * (k % 2)..][..32];
            for (i, (y, (low, high))) in out.iter_mut().zip(low.iter().zip(high)).enumerate() {
                let q = ((low >> (4 * (k / 2))) & 15) | (((high >> (2 * k)) & 3) << 4);
                let s = d * scales[2 * k + i / 16] as i8 as f32;
                *y = s * (q as i8 - 32) as f32;
            }
        }
    }
}

/// A way of keeping numbers in blocks, for the products of `quant_matmul`.
pub(crate) trait Blocks {
    /// Numbers of a block.
    const LEN: usize;
    /// Bytes of a block.
    const SIZE: usize;
    /// Whether every 16 numbers have a scale of their own, rather than every 32.
    const SIXTEENS: bool = false;

    /// The numbers of one block.
    fn decode(block: &[u8], out: &mut [f32]);

    /// Of the 32 numbers `j` of a block what is kept, as bytes `q` from 0 up, and for each half of them `(d, m)`, by which
    /// they are `d·q + m`.
    fn bytes(block: &[u8], j: usize, q: &mut [u8; 32]) -> [(f32, f32); 2];
}

macro_rules! blocks {
    ($name:ident, $len:literal, $size:literal, $decode:ident, $sixteens:literal, $bytes:expr) => {
        #[allow(non_camel_case_types)]
        pub(crate) struct $name;

        impl Blocks for $name {
            const LEN: usize = $len;
            const SIZE: usize = $size;
            const SIXTEENS: bool = $sixteens;
            #[inline(always)]
            fn decode(block: &[u8], out: &mut [f32]) {
                $decode(bytes(block, 0), &mut out.as_chunks_mut::<$len>().0[0]);
            }
            #[inline(always)]
            fn bytes(block: &[u8], j: usize, q: &mut [u8; 32]) -> [(f32, f32); 2] {
                let f: fn(&[u8; $size], usize, &mut [u8; 32]) -> [(f32, f32); 2] = $bytes;
                f(bytes(block, 0), j, q)
            }
        }
    };
}

/// The same scale and minimum for both halves.
#[inline(always)]
fn both(d: f32, m: f32) -> [(f32, f32); 2] {
    [(d, m); 2]
}

#[inline(always)]
fn split(nibbles: &[u8; 16], q: &mut [u8; 32]) {
    let (low, high) = q.split_at_mut(16);
    for (i, b) in nibbles.iter().enumerate() {
        (low[i], high[i]) = (b & 15, b >> 4);
    }
}

#[inline(always)]
fn split_fifth(nibbles: &[u8; 16], fifth: &[u8; 4], q: &mut [u8; 32]) {
    split(nibbles, q);
    let fifth = u32::from_le_bytes(*fifth);
    q.iter_mut().enumerate().for_each(|(i, q)| *q |= fifth_bit(fifth, i));
}

/// Four bits of each of 32 bytes: the lower for even `j`.
#[inline(always)]
fn of_64(groups: &[u8], j: usize, q: &mut [u8; 32]) {
    let from = bytes::<32>(groups, j / 2 * 32);
    q.iter_mut().zip(from).for_each(|(q, b)| *q = (b >> (4 * (j % 2))) & 15);
}

/// Scale and minimum of the 32 numbers `j` of a K block.
#[inline(always)]
fn k_pair(block: &[u8], j: usize) -> (f32, f32) {
    let (s, t) = k_scale(bytes(block, 4), j);
    (half(block, 0) * s as f32, -(half(block, 2) * t as f32))
}

blocks!(Q8_0, 32, 34, decode_q8_0, false, |block, _, q| {
    // From −128 up.
    q.iter_mut().zip(&block[2..]).for_each(|(q, b)| *q = b ^ 0x80);
    let d = half(block, 0);
    both(d, -128.0 * d)
});
blocks!(Q4_0, 32, 18, decode_q4_0, false, |block, _, q| {
    split(bytes(block, 2), q);
    let d = half(block, 0);
    both(d, -8.0 * d)
});
blocks!(Q4_1, 32, 20, decode_q4_1, false, |block, _, q| {
    split(bytes(block, 4), q);
    both(half(block, 0), half(block, 2))
});
blocks!(Q5_0, 32, 22, decode_q5_0, false, |block, _, q| {
    split_fifth(bytes(block, 6), bytes(block, 2), q);
    let d = half(block, 0);
    both(d, -16.0 * d)
});
blocks!(Q5_1, 32, 24, decode_q5_1, false, |block, _, q| {
    split_fifth(bytes(block, 8), bytes(block, 4), q);
    both(half(block, 0), half(block, 2))
});
blocks!(Q4_K, 256, 144, decode_q4_k, false, |block, j, q| {
    of_64(&block[16..], j, q);
    let (d, m) = k_pair(block, j);
    both(d, m)
});
blocks!(Q5_K, 256, 176, decode_q5_k, false, |block, j, q| {
    of_64(&block[48..], j, q);
    q.iter_mut().zip(bytes::<32>(block, 16)).for_each(|(q, bits)| *q |= ((bits >> j) & 1) << 4);
    let (d, m) = k_pair(block, j);
    both(d, m)
});
blocks!(Q6_K, 256, 210, decode_q6_k, true, |block, j, q| {
    let (h, k) = (j / 4, j % 4);
    let (low, high) = (bytes::<32>(block, 64 * h + 32 * (k % 2)), bytes::<32>(block, 128 + 32 * h));
    for (q, (low, high)) in q.iter_mut().zip(low.iter().zip(high)) {
        *q = ((low >> (4 * (k / 2))) & 15) | (((high >> (2 * k)) & 3) << 4);
    }
    let scale = |i: usize| half(block, 208) * block[192 + 2 * j + i] as i8 as f32;
    [0, 1].map(|i| (scale(i), -32.0 * scale(i)))
});

/// The nearest of 255 multiples of the largest magnitude over 127. Halves go away from zero.
#[inline(always)]
pub(crate) fn encode_q8_0(x: &[f32; 32], block: &mut [u8; 34]) {
    let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, x) in block[2..].iter_mut().zip(x) {
        *q = (x * inverse).round() as i8 as u8;
    }
}

/// 16 levels, the lowest of which is the number of the largest magnitude (the first of them).
#[inline(always)]
pub(crate) fn encode_q4_0(x: &[f32; 32], block: &mut [u8; 18]) {
    let extreme = x.iter().fold(x[0], |m, &x| if x.abs() > m.abs() { x } else { m });
    let d = extreme / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    // In f64, where the product is exact: the sum must not be rounded up to the next level.
    let level = |x: f32| (x as f64 * inverse as f64 + 8.5).clamp(0.0, 15.0) as u8;
    for (i, q) in block[2..].iter_mut().enumerate() {
        *q = level(x[i]) | (level(x[i + 16]) << 4);
    }
}

/// 16 levels from the smallest number to the largest.
#[inline(always)]
pub(crate) fn encode_q4_1(x: &[f32; 32], block: &mut [u8; 20]) {
    // Of two zeros, the positive one.
    let least = x.iter().fold(f32::INFINITY, |m, &x| m.min(x)) + 0.0;
    let most = x.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    let d = (most - least) / 15.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    block[2..4].copy_from_slice(&f16::from_f32(least).to_le_bytes());
    let level = |x: f32| ((x - least) * inverse + 0.5).clamp(0.0, 15.0) as u8;
    for (i, q) in block[4..].iter_mut().enumerate() {
        *q = level(x[i]) | (level(x[i + 16]) << 4);
    }
}

/// Decodes blocks of `BYTES` to `NUMBERS` each, on all threads. `x` and `out` hold the same number of blocks.
pub(crate) fn decode<const BYTES: usize, const NUMBERS: usize>(
    x: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; NUMBERS]) + Sync,
) {
    let (x, rest) = x.as_chunks::<BYTES>();
    assert!(rest.is_empty() && x.len() * NUMBERS == out.len());
    parallel::chunks(out, CHUNK, |start, out| {
        let (out, _) = out.as_chunks_mut::<NUMBERS>();
        let x = &x[start / NUMBERS..][..out.len()];
        dispatch(
            #[inline(always)]
            || x.iter().zip(out).for_each(|(x, out)| block(x, out)),
        );
    });
}

/// Encodes `NUMBERS` to each block of `BYTES`, on all threads. `x` and `out` hold the same number of blocks.
pub(crate) fn encode<const BYTES: usize, const NUMBERS: usize>(
    x: &[f32],
    out: &mut [u8],
    block: impl Fn(&[f32; NUMBERS], &mut [u8; BYTES]) + Sync,
) {
    let (x, rest) = x.as_chunks::<NUMBERS>();
    assert!(rest.is_empty() && x.len() * BYTES == out.len());
    parallel::chunks(out, CHUNK / NUMBERS * BYTES, |start, out| {
        let (out, _) = out.as_chunks_mut::<BYTES>();
        let x = &x[start / BYTES..][..out.len()];
        dispatch(
            #[inline(always)]
            || x.iter().zip(out).for_each(|(x, out)| block(x, out)),
        );
    });
}
