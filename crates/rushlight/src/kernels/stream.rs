//! Writing past the caches.
//!
//! A store to a line that is in no cache first reads it, so a large output costs its size twice. Streaming stores do
//! not read; but what they write must come from memory again, so they are for outputs that no cache would keep, of
//! loops that wait for memory: the sum of two tensors of 64 MiB took 6.3 ms and takes 4.9 (Zen 4, two cores), that of a
//! row and a column 4.9 and 3.8 (Zen 3), while functions of one tensor, softmax and cross-entropy lost more by the copy
//! than they gained.

use super::parallel::{self, GRAIN};
use super::strided::BLOCK;
use crate::Element;

/// Bytes from which on an output is far: with an input of its size, more than the caches of a server's core complex.
const FAR: usize = if cfg!(test) { 1 << 12 } else { 24 << 20 };
/// What a streaming store fills at once.
const LINE: usize = 64;

/// Leave to stream. When it is dropped, all that was written can be seen by other threads as if written plainly.
pub(crate) struct Stream(());

impl Stream {
    /// For a thread that writes a part of an output of `len` elements, where that is far.
    pub(crate) fn to<T>(len: usize) -> Option<Stream> {
        // Miri knows no streaming stores.
        let far = cfg!(all(target_arch = "x86_64", not(miri))) && len.saturating_mul(size_of::<T>()) >= FAR;
        // Not `then_some`: a leave that is made and dropped would fence for nothing.
        if far { Some(Stream(())) } else { None }
    }

    /// `out = from`
    pub(crate) fn copy<T: Element>(&self, out: &mut [T], from: &[T]) {
        assert_eq!(out.len(), from.len());
        let start = out.as_ptr().align_offset(LINE).min(out.len());
        let lines = (out.len() - start) * size_of::<T>() / LINE;
        let end = start + lines * (LINE / size_of::<T>());
        out[..start].copy_from_slice(&from[..start]);
        out[end..].copy_from_slice(&from[end..]);
        // SAFETY: elements `start..end` are `lines` whole lines, from an aligned place on in `out`, and are numbers.
        unsafe { copy_lines(out[start..].as_mut_ptr().cast(), from[start..].as_ptr().cast(), lines) };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of x86-64.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
}

/// # Safety
/// `from` and `to` are `lines` of 64 bytes, `to` aligned to them.
unsafe fn copy_lines(to: *mut u8, from: *const u8, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;

        #[target_feature(enable = "avx512f")]
        unsafe fn avx512(to: *mut u8, from: *const u8, lines: usize) {
            for i in 0..lines {
                // SAFETY: within the lines, says the caller.
                unsafe { _mm512_stream_si512(to.add(i * LINE).cast(), _mm512_loadu_si512(from.add(i * LINE).cast())) };
            }
        }
        // SAFETY: the level in use is one that the processor has; SSE2 is part of x86-64.
        unsafe {
            if super::simd::level() == super::simd::Level::Avx512 {
                return avx512(to, from, lines);
            }
            for i in 0..lines * (LINE / 16) {
                _mm_stream_si128(to.add(i * 16).cast(), _mm_loadu_si128(from.add(i * 16).cast()));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller says; two slices, one of them mutable, do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, lines * LINE)
    }
}

/// Runs `f(first element, block)` on the blocks of a piece of an output of `len` elements: where that is far, on a block
/// of the nearest cache, which is then streamed.
#[inline]
pub(crate) fn blocks<T: Element>(len: usize, piece: &mut [T], f: impl FnMut(usize, &mut [T])) {
    by(len, piece, BLOCK, || [T::default(); BLOCK], f);
}

/// [`blocks`] of `n` elements, to be called where the loop is compiled.
#[inline(always)]
pub(crate) fn rows<T: Element>(len: usize, piece: &mut [T], n: usize, f: impl FnMut(usize, &mut [T])) {
    by(len, piece, n, || vec![T::default(); n], f);
}

#[inline(always)]
fn by<T: Element, N: AsMut<[T]>>(
    len: usize,
    piece: &mut [T],
    n: usize,
    near: impl FnOnce() -> N,
    mut f: impl FnMut(usize, &mut [T]),
) {
    match Stream::to::<T>(len) {
        None => piece.chunks_mut(n).enumerate().for_each(|(i, out)| f(i * n, out)),
        Some(stream) => {
            let mut near = near();
            for (i, out) in piece.chunks_mut(n).enumerate() {
                let near = &mut near.as_mut()[..out.len()];
                f(i * n, near);
                stream.copy(out, near);
            }
        }
    }
}

/// `out = value`
pub(crate) fn fill<T: Element>(out: &mut [T], value: T) {
    let len = out.len();
    parallel::chunks(out, GRAIN, |_, piece| match Stream::to::<T>(len) {
        None => piece.fill(value),
        Some(stream) => {
            let near = [value; BLOCK];
            piece.chunks_mut(BLOCK).for_each(|out| stream.copy(out, &near[..out.len()]));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, force_level, testing::force_levels};
    use super::*;
    use crate::f16;

    fn check<T: Element + PartialEq>(of: impl Fn(usize) -> T) {
        let _forced = force_levels();
        for level in [Level::Baseline, Level::Avx512] {
            force_level(level);
            for (start, len) in [(0, 5000), (1, 4999), (3, 40), (5, 0), (17, 16), (15, 2100)] {
                let from: Vec<T> = (0..len).map(&of).collect();
                let mut out = vec![of(7); start + len + 1];
                Stream(()).copy(&mut out[start..start + len], &from);
                assert!(out[start..start + len] == from[..]);
                assert!(out[..start].iter().chain(out.last()).all(|x| *x == of(7)), "written outside");
                blocks(1 << 20, &mut out[start..start + len], |first, block| {
                    block.iter_mut().enumerate().for_each(|(i, x)| *x = of(first + i + 1));
                });
                assert!(out[start..start + len].iter().enumerate().all(|(i, x)| *x == of(i + 1)));
                fill(&mut out[start..], of(3));
                assert!(out[start..].iter().all(|x| *x == of(3)));
            }
        }
    }

    #[test]
    fn writes_what_and_where_it_should() {
        check(|i| i as f32);
        check(|i| i as f64);
        check(|i| f16::from_f64(i as f64));
        check(|i| i as u8);
        check(|i| i % 3 == 0);
    }
}
