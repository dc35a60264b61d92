//! Elementwise kernels: one function of one, two or three operands of any layout, to a contiguous output.
//!
//! Each function is compiled into a loop over one block of contiguous operands, once per instruction set. What is
//! around it (chunks, threads, reading strided operands) is compiled once per element type: the loop is called
//! through `dyn`, a block at a time.

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::kernels::stream;
use crate::kernels::strided::{BLOCK, Reader, Scratch, Source, Strided};
use crate::{Element, Float, Real};

/// `out = f(a)`
pub(crate) fn map1<A: Element, R: Element>(a: Strided<'_, A>, out: &mut [R], f: impl Fn(A) -> R + Sync + Copy) {
    blocks1(a, out, &|out, a| {
        dispatch(
            #[inline(always)]
            || out.iter_mut().zip(a).for_each(|(o, &a)| *o = f(a)),
        );
    });
}

/// `out = f(out, a)`, in place.
pub(crate) fn update<T: Element, A: Element>(out: &mut [T], a: Strided<'_, A>, f: impl Fn(T, A) -> T + Sync + Copy) {
    let a = Reader::new(a);
    parallel::chunks(out, GRAIN, |start, piece| {
        let mut sa = Scratch::none();
        for (i, out) in piece.chunks_mut(BLOCK).enumerate() {
            let a = a.block(start + i * BLOCK, out.len(), &mut sa);
            dispatch(
                #[inline(always)]
                || out.iter_mut().zip(a).for_each(|(o, &a)| *o = f(*o, a)),
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
    blocks2(a, b, out, &|out, a, b| {
        dispatch(
            #[inline(always)]
            || out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (&a, &b))| *o = f(a, b)),
        );
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
    blocks3(a, b, c, out, &|out, a, b, c| {
        dispatch(
            #[inline(always)]
            || out.iter_mut().zip(a.iter().zip(b).zip(c)).for_each(|(o, ((&a, &b), &c))| *o = f(a, b, c)),
        );
    });
}

/// `out = f(a)` for a function of floats, which is given as its loop over a block, in the type it is computed in.
///
/// Halves are widened a block at a time, so no loop is compiled for them.
pub(crate) fn float1<T: Float>(
    a: Strided<'_, T>,
    out: &mut [T],
    f: &(dyn Fn(&mut [T::Compute], &[T::Compute]) + Sync),
) {
    blocks1(a, out, &|out, a| match (T::computed(a), T::computed_mut(out)) {
        (Some(a), Some(out)) => f(out, a),
        _ => {
            let (mut wide, mut result) = ([T::Compute::ZERO; BLOCK], [T::Compute::ZERO; BLOCK]);
            let (wide, result) = (&mut wide[..a.len()], &mut result[..a.len()]);
            widen(a, wide);
            f(result, wide);
            out.iter_mut().zip(result).for_each(|(o, r)| *o = T::down(*r));
        }
    });
}

/// `out = f(a, b)`, as [`float1`].
pub(crate) fn float2<T: Float>(
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
    f: &(dyn Fn(&mut [T::Compute], &[T::Compute], &[T::Compute]) + Sync),
) {
    blocks2(a, b, out, &|out, a, b| match (T::computed(a), T::computed(b), T::computed_mut(out)) {
        (Some(a), Some(b), Some(out)) => f(out, a, b),
        _ => {
            let zero = [T::Compute::ZERO; BLOCK];
            let (mut wide_a, mut wide_b, mut result) = (zero, zero, zero);
            let n = a.len();
            widen(a, &mut wide_a[..n]);
            widen(b, &mut wide_b[..n]);
            f(&mut result[..n], &wide_a[..n], &wide_b[..n]);
            out.iter_mut().zip(result).for_each(|(o, r)| *o = T::down(r));
        }
    });
}

/// `out = f(a, b, c)`, as [`float1`].
pub(crate) fn float3<T: Float>(
    [a, b, c]: [Strided<'_, T>; 3],
    out: &mut [T],
    f: &(dyn Fn(&mut [T::Compute], [&[T::Compute]; 3]) + Sync),
) {
    blocks3(
        a,
        b,
        c,
        out,
        &|out, a, b, c| match (T::computed(a), T::computed(b), T::computed(c), T::computed_mut(out)) {
            (Some(a), Some(b), Some(c), Some(out)) => f(out, [a, b, c]),
            _ => {
                let n = a.len();
                let mut wide = [[T::Compute::ZERO; BLOCK]; 4];
                let [wide_a, wide_b, wide_c, result] = &mut wide;
                widen(a, &mut wide_a[..n]);
                widen(b, &mut wide_b[..n]);
                widen(c, &mut wide_c[..n]);
                f(&mut result[..n], [&wide_a[..n], &wide_b[..n], &wide_c[..n]]);
                out.iter_mut().zip(result).for_each(|(o, r)| *o = T::down(*r));
            }
        },
    );
}

fn widen<T: Float>(x: &[T], out: &mut [T::Compute]) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o = x.up());
}

/// Runs `f(out, a)` on blocks of the output and the same elements of `a`.
fn blocks1<A: Element, R: Element>(a: Strided<'_, A>, out: &mut [R], f: &(dyn Fn(&mut [R], &[A]) + Sync)) {
    let a = Reader::new(a);
    parallel::chunks(out, GRAIN, |start, piece| {
        let mut sa = Scratch::none();
        // Not streamed: of one operand most functions are slower than memory.
        for (i, out) in piece.chunks_mut(BLOCK).enumerate() {
            let a = a.block(start + i * BLOCK, out.len(), &mut sa);
            f(out, a);
        }
    });
}

/// Runs `f(out, a, b)` on blocks of the output and the same elements of `a` and `b`.
fn blocks2<A: Element, B: Element, R: Element>(
    a: Strided<'_, A>,
    b: Strided<'_, B>,
    out: &mut [R],
    f: &(dyn Fn(&mut [R], &[A], &[B]) + Sync),
) {
    let (a, b) = (Reader::new(a), Reader::new(b));
    let len = if streamed(&[a.source(), b.source()]) { out.len() } else { 0 };
    parallel::chunks(out, GRAIN, |start, piece| {
        let (mut sa, mut sb) = (Scratch::none(), Scratch::none());
        stream::blocks(len, piece, |first, out| {
            let (start, n) = (start + first, out.len());
            let (a, b) = (a.block(start, n, &mut sa), b.block(start, n, &mut sb));
            f(out, a, b);
        });
    });
}

/// Runs `f(out, a, b, c)` on blocks of the output and the same elements of the operands.
fn blocks3<A: Element, B: Element, C: Element, R: Element>(
    a: Strided<'_, A>,
    b: Strided<'_, B>,
    c: Strided<'_, C>,
    out: &mut [R],
    f: &(dyn Fn(&mut [R], &[A], &[B], &[C]) + Sync),
) {
    let (a, b, c) = (Reader::new(a), Reader::new(b), Reader::new(c));
    let len = if streamed(&[a.source(), b.source(), c.source()]) { out.len() } else { 0 };
    parallel::chunks(out, GRAIN, |start, piece| {
        let (mut sa, mut sb, mut sc) = (Scratch::none(), Scratch::none(), Scratch::none());
        stream::blocks(len, piece, |first, out| {
            let (start, n) = (start + first, out.len());
            let (a, b, c) = (a.block(start, n, &mut sa), b.block(start, n, &mut sb), c.block(start, n, &mut sc));
            f(out, a, b, c);
        });
    });
}

/// Whether an output is streamed: where two operands are read as they lie or are near, so that memory is what the loop
/// waits for. Functions of one operand (`x + x` is one) and gathering take longer than memory, and the copy would be lost.
fn streamed(sources: &[Source]) -> bool {
    let counts = |i: usize| match sources[i] {
        Source::Stretch(_) => !sources[..i].contains(&sources[i]),
        Source::Near => true,
        Source::Gathered => false,
    };
    (0..sources.len()).filter(|&i| counts(i)).count() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, Shape};

    #[test]
    fn outputs_of_two_operands_are_streamed() {
        let (x, y) = ([1.5f32; 3000], [2.0f32; 3000]);
        let layout =
            |dims: [usize; 2], strides: [isize; 2]| Layout::new(Shape::from(dims), strides.into_iter().collect(), 0);
        let whole = Layout::contiguous(Shape::from(&[3000][..]));
        let source = |data, layout: &Layout| Reader::<f32>::new(Strided::new(data, layout)).source();
        let (a, b) = (source(&x, &whole), source(&y, &whole));
        let row = source(&x, &layout([30, 100], [0, 1]));
        let [few, turned] = [layout([2, 1500], [0, 1]), layout([30, 100], [1, 30])].map(|l| source(&x, &l));
        assert_eq!([row, few, turned], [Source::Near, Source::Gathered, Source::Gathered]);
        assert!(streamed(&[a, b]) && streamed(&[a, row]) && streamed(&[row, row]));
        assert!(!streamed(&[a, a]) && !streamed(&[a, turned]) && !streamed(&[row, few]));
        assert!(
            streamed(&[a, b, a]) && streamed(&[a, turned, row]) && !streamed(&[a, a, a]) && !streamed(&[few, a, few])
        );
        let sum = |out: &mut [f32], of: &[&[f32]]| {
            out.iter_mut().enumerate().for_each(|(i, o)| *o = of.iter().map(|x| x[i]).sum());
        };
        let (x, mut out) = (Strided::new(&x, &whole), [f32::NAN; 3000]);
        float2(x, x, &mut out, &|out, a, b| sum(out, &[a, b]));
        assert!(out.iter().all(|o| *o == 3.0));
        float3([x, x, x], &mut out, &|out, of| sum(out, &of));
        assert!(out.iter().all(|o| *o == 4.5));
    }

    /// Of rows, columns and broadcasts, below and above a block.
    #[test]
    fn sums_of_any_layout_and_size_are_right() {
        for (rows, cols) in [(3, 5), (1, 1025), (70, 130), (5, 4096), (4096, 5)] {
            let shape = Shape::from([rows, cols]);
            let (a, b): (Vec<f32>, Vec<f32>) = (0..rows * cols).map(|i| (i as f32, -2.0 * (i % 17) as f32)).unzip();
            let layouts = [
                Layout::contiguous(shape.clone()),
                Layout::new(shape.clone(), [1, rows as isize].into_iter().collect(), 0),
                Layout::new(shape.clone(), [1, 0].into_iter().collect(), 0),
                Layout::new(shape.clone(), [0, 1].into_iter().collect(), 0),
                Layout::new(shape.clone(), [0, 0].into_iter().collect(), 0),
            ];
            for (la, lb) in layouts.iter().flat_map(|a| layouts.iter().map(move |b| (a, b))) {
                let mut out = vec![f32::NAN; rows * cols];
                let add = |out: &mut [f32], a: &[f32], b: &[f32]| {
                    out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (a, b))| *o = a + b);
                };
                float2(Strided::new(&a, la), Strided::new(&b, lb), &mut out, &add);
                let at = |l: &Layout, i: usize, j: usize| i * l.strides()[0] as usize + j * l.strides()[1] as usize;
                for (index, sum) in out.iter().enumerate() {
                    let (i, j) = (index / cols, index % cols);
                    assert_eq!(*sum, a[at(la, i, j)] + b[at(lb, i, j)], "{index} of {rows} x {cols}, {la:?}, {lb:?}");
                }
            }
        }
    }
}
