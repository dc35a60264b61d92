//! Elementwise kernels: one function of one, two or three operands of any layout, to a contiguous output.

use crate::Element;
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::kernels::strided::{BLOCK, Reader, Strided};

/// `out = f(a)`
pub(crate) fn map1<A: Element, R: Element>(a: Strided<'_, A>, out: &mut [R], f: impl Fn(A) -> R + Sync + Copy) {
    let a = Reader::new(a);
    parallel::chunks(out, GRAIN, |start, piece| {
        let mut sa = [A::default(); BLOCK];
        for (i, out) in piece.chunks_mut(BLOCK).enumerate() {
            let (start, n) = (start + i * BLOCK, out.len());
            let a = a.block(start, &mut sa[..n]);
            dispatch(
                #[inline(always)]
                || out.iter_mut().zip(a).for_each(|(o, &a)| *o = f(a)),
            );
        }
    });
}

/// `out = f(a, b)`
pub(crate) fn map2<A: Element, B: Element, R: Element>(
    a: Strided<'_, A>,
    b: Strided<'_, B>,
    out: &mut [R],
    f: impl Fn(A, B) -> R + Sync + Copy,
) {
    let (a, b) = (Reader::new(a), Reader::new(b));
    parallel::chunks(out, GRAIN, |start, piece| {
        let (mut sa, mut sb) = ([A::default(); BLOCK], [B::default(); BLOCK]);
        for (i, out) in piece.chunks_mut(BLOCK).enumerate() {
            let (start, n) = (start + i * BLOCK, out.len());
            let (a, b) = (a.block(start, &mut sa[..n]), b.block(start, &mut sb[..n]));
            dispatch(
                #[inline(always)]
                || out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (&a, &b))| *o = f(a, b)),
            );
        }
    });
}

/// `out = f(a, b, c)`
pub(crate) fn map3<A: Element, B: Element, C: Element, R: Element>(
    a: Strided<'_, A>,
    b: Strided<'_, B>,
    c: Strided<'_, C>,
    out: &mut [R],
    f: impl Fn(A, B, C) -> R + Sync + Copy,
) {
    let (a, b, c) = (Reader::new(a), Reader::new(b), Reader::new(c));
    parallel::chunks(out, GRAIN, |start, piece| {
        let (mut sa, mut sb, mut sc) = ([A::default(); BLOCK], [B::default(); BLOCK], [C::default(); BLOCK]);
        for (i, out) in piece.chunks_mut(BLOCK).enumerate() {
            let (start, n) = (start + i * BLOCK, out.len());
            let (a, b) = (a.block(start, &mut sa[..n]), b.block(start, &mut sb[..n]));
            let c = c.block(start, &mut sc[..n]);
            dispatch(
                #[inline(always)]
                || out.iter_mut().zip(a.iter().zip(b).zip(c)).for_each(|(o, ((&a, &b), &c))| *o = f(a, b, c)),
            );
        }
    });
}

/// `out = f(out, a)`, in place.
pub(crate) fn update<T: Element, A: Element>(out: &mut [T], a: Strided<'_, A>, f: impl Fn(T, A) -> T + Sync + Copy) {
    let a = Reader::new(a);
    parallel::chunks(out, GRAIN, |start, piece| {
        let mut sa = [A::default(); BLOCK];
        for (i, out) in piece.chunks_mut(BLOCK).enumerate() {
            let (start, n) = (start + i * BLOCK, out.len());
            let a = a.block(start, &mut sa[..n]);
            dispatch(
                #[inline(always)]
                || out.iter_mut().zip(a).for_each(|(o, &a)| *o = f(*o, a)),
            );
        }
    });
}
