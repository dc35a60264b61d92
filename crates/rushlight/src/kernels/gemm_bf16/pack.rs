//! Operands of a product, rounded to bf16 and laid out as its tiles read them.

use std::arch::x86_64::*;

use super::LANES;
use crate::dtype::{Float, bf16};
use crate::kernels::simd::prefetch;

/// An element type that is rounded to bf16, or is bf16.
pub(in crate::kernels) trait Source: Float<Compute = f32> {
    /// Pairs of the elements at `even` and `odd`, of sixteen lines that lie side by side; 0 where the mask has none.
    ///
    /// # Safety
    /// AVX512-BF16; what the masks name can be read. The same for the others.
    unsafe fn pairs_across(even: (*const Self, u16), odd: (*const Self, u16)) -> __m512i;
    /// The sixteen pairs of 32 elements that lie side by side.
    unsafe fn pairs_along(from: *const Self, mask: u32) -> __m512i;
    /// Sixteen elements.
    unsafe fn load(from: *const Self, mask: u16) -> __m512;
    /// Rounds and stores sixteen elements.
    unsafe fn store(to: *mut Self, x: __m512, mask: u16);
}

// SAFETY, of every block in these two: `Source`'s callers see to it.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Source for f32 {
    #[inline(always)]
    unsafe fn pairs_across(even: (*const f32, u16), odd: (*const f32, u16)) -> __m512i {
        unsafe { interleave(rounded(Self::load(even.0, even.1), Self::load(odd.0, odd.1))) }
    }
    #[inline(always)]
    unsafe fn pairs_along(from: *const f32, mask: u32) -> __m512i {
        unsafe { rounded(Self::load(from, mask as u16), Self::load(from.wrapping_add(LANES), (mask >> LANES) as u16)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32, mask: u16) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m512, mask: u16) {
        unsafe { _mm512_mask_storeu_ps(to, mask, x) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
impl Source for bf16 {
    #[inline(always)]
    unsafe fn pairs_across(even: (*const bf16, u16), odd: (*const bf16, u16)) -> __m512i {
        unsafe {
            let half = |(from, mask): (*const bf16, u16)| _mm256_maskz_loadu_epi16(mask, from.cast());
            interleave(_mm512_inserti64x4(_mm512_castsi256_si512(half(even)), half(odd), 1))
        }
    }
    #[inline(always)]
    unsafe fn pairs_along(from: *const bf16, mask: u32) -> __m512i {
        unsafe { _mm512_maskz_loadu_epi16(mask, from.cast()) }
    }
    #[inline(always)]
    unsafe fn load(from: *const bf16, mask: u16) -> __m512 {
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32(
                _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.cast())),
                16,
            ))
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut bf16, x: __m512, mask: u16) {
        unsafe {
            _mm256_mask_storeu_epi16(to.cast(), mask, std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)))
        }
    }
}

/// Two registers of f32, rounded into one.
#[inline(always)]
unsafe fn rounded(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the caller's; both types are 64 bytes of plain data.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Element `i` of the low half beside element `i` of the high half.
#[inline(always)]
unsafe fn interleave(halves: __m512i) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + 16 * (i % 2)) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: the caller's; `ORDER` is 64 bytes.
    unsafe { _mm512_permutexvar_epi16(_mm512_loadu_si512(ORDER.as_ptr().cast()), halves) }
}

/// Lines of an operand: element `d` of line `l` is at `start + l * line + d * step`.
#[derive(Clone, Copy)]
pub(super) struct Lines<S> {
    pub start: *const S,
    pub count: usize,
    pub line: isize,
    pub step: isize,
}

// SAFETY: it is only read through, within a slice that outlives the tasks.
unsafe impl<S: Sync> Sync for Lines<S> {}

impl<S> Lines<S> {
    pub(super) fn part(self, from: usize, count: usize) -> Lines<S> {
        Lines { start: self.start.wrapping_offset(from as isize * self.line), count, ..self }
    }
    pub(super) fn deep(self, depth: usize) -> Lines<S> {
        Lines { start: self.start.wrapping_offset(depth as isize * self.step), ..self }
    }
}

/// The lowest `count` bits, at most 32.
#[inline(always)]
pub(super) fn mask(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}

/// Panels of the first `depth` elements of the lines, rounded; places without a line or element are 0.
///
/// # Safety
/// AVX512-BF16; the lines lie within their slice, and the panels fit `to`.
#[inline(always)]
pub(super) unsafe fn pack<S: Source>(lines: Lines<S>, depth: usize, to: *mut u32) {
    let pairs = depth.div_ceil(2);
    // Lines side by side are read through whole cache lines: steps lie far apart, often a power of two, and what is left
    // of a cache line is gone before the next panel comes by.
    let strip = if lines.line == 1 { STRIP } else { LANES };
    for l in (0..lines.count).step_by(strip) {
        let (part, to) = (lines.part(l, strip.min(lines.count - l)), to.wrapping_add(l * pairs));
        // SAFETY: the caller's.
        unsafe {
            if lines.line == 1 {
                across(part, depth, to);
            } else if lines.step == 1 {
                along(part, depth, to);
            } else {
                one_by_one(part, depth, to);
            }
        }
    }
}

/// Lines that are read together where they lie side by side.
const STRIP: usize = 4 * LANES;
/// Steps that are asked for before they are needed, as the processor does not foresee strides this long.
const AHEAD: usize = 16;

/// Panels of lines that lie side by side.
#[inline(always)]
unsafe fn across<S: Source>(lines: Lines<S>, depth: usize, to: *mut u32) {
    let pairs = depth.div_ceil(2);
    for p in 0..pairs {
        for step in [2 * p, 2 * p + 1] {
            prefetch(lines.deep(step + AHEAD).start, lines.count);
        }
        for l in (0..lines.count).step_by(LANES) {
            let panel = lines.part(l, LANES.min(lines.count - l));
            let here = |d: usize| (panel.deep(d).start, if d < depth { mask(panel.count) as u16 } else { 0 });
            // SAFETY: the caller's.
            unsafe {
                let pairs_across = S::pairs_across(here(2 * p), here(2 * p + 1));
                _mm512_storeu_si512(to.add(l * pairs + p * LANES).cast(), pairs_across)
            };
        }
    }
}

/// A panel of lines whose elements lie side by side: sixteen pairs of sixteen lines at a time, turned.
#[inline(always)]
unsafe fn along<S: Source>(panel: Lines<S>, depth: usize, to: *mut u32) {
    for d in (0..depth).step_by(2 * LANES) {
        let deep = (2 * LANES).min(depth - d);
        // SAFETY: the caller's.
        unsafe {
            let mut x = [_mm512_setzero_si512(); LANES];
            for (l, x) in x.iter_mut().enumerate() {
                if l < panel.count {
                    *x = S::pairs_along(panel.part(l, 1).deep(d).start, mask(deep));
                }
            }
            let x = turned(x);
            for p in 0..deep.div_ceil(2) {
                _mm512_storeu_si512(to.add((d / 2 + p) * LANES).cast(), x[p]);
            }
        }
    }
}

/// Rows become columns.
#[inline(always)]
unsafe fn turned(x: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the caller's.
    unsafe {
        // Within 128 bits: pairs of rows, then fours. `fours[4 * i + c]` has column `4 * lane + c` of rows 4i to 4i + 3.
        let mut fours = x;
        for i in 0..4 {
            let [a, b, c, d] = [x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]];
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            fours[4 * i] = _mm512_unpacklo_epi64(ab, cd);
            fours[4 * i + 1] = _mm512_unpackhi_epi64(ab, cd);
            fours[4 * i + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
            fours[4 * i + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
        }
        // Then the lanes of 128 bits: 0x88 takes the even ones of both, 0xdd the odd ones.
        let mut out = x;
        for c in 0..4 {
            let [a, b, c2, d] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
            let (even, even2) = (_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(c2, d, 0x88));
            let (odd, odd2) = (_mm512_shuffle_i32x4(a, b, 0xdd), _mm512_shuffle_i32x4(c2, d, 0xdd));
            out[c] = _mm512_shuffle_i32x4(even, even2, 0x88);
            out[4 + c] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
            out[8 + c] = _mm512_shuffle_i32x4(even, even2, 0xdd);
            out[12 + c] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
        }
        out
    }
}

/// A panel of lines with gaps in both directions, as an expanded or flipped operand has.
#[inline(always)]
unsafe fn one_by_one<S: Source>(panel: Lines<S>, depth: usize, to: *mut u32) {
    for p in 0..depth.div_ceil(2) {
        for l in 0..LANES {
            let bits = |d: usize| match l < panel.count && d < depth {
                // SAFETY: the caller's.
                true => bf16::from_f32(unsafe { *panel.part(l, 1).deep(d).start }.up()).to_bits() as u32,
                false => 0,
            };
            // SAFETY: the caller's.
            unsafe { *to.add(p * LANES + l) = bits(2 * p) | bits(2 * p + 1) << 16 };
        }
    }
}
