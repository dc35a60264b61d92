//! Sums and maxima of a row in several lanes: as many chains of additions as vector units can hold, and so a smaller
//! rounding error too. Always the same order for a given length.
//!
//! A sum or maximum of a row is a call: inside of a larger loop the compiler kept the lanes of these in memory, where
//! each addition waits for the store of the one before (a row of 1024 in softmax took 590 ns, for 390).

use crate::kernels::simd::dispatch;
use crate::{Float, Real};

/// Four AVX-512 registers of f32, enough to hide the latency of an addition.
const LANES: usize = 64;

/// `Σ f(x)`
#[inline(always)]
pub(crate) fn sum<T: Copy, C: Real>(x: &[T], f: impl Fn(T) -> C) -> C {
    sum2(x, x, |x, _| f(x))
}

/// `Σ f(x, y)`
#[inline(always)]
pub(crate) fn sum2<T: Copy, U: Copy, C: Real>(x: &[T], y: &[U], f: impl Fn(T, U) -> C) -> C {
    #[inline(never)]
    fn long<T: Copy, U: Copy, C: Real>(x: &[T], y: &[U], f: impl Fn(T, U) -> C) -> C {
        dispatch(
            #[inline(always)]
            || here(x, y, f),
        )
    }
    #[inline(always)]
    fn here<T: Copy, U: Copy, C: Real>(x: &[T], y: &[U], f: impl Fn(T, U) -> C) -> C {
        let [total] = sums(
            x,
            y,
            #[inline(always)]
            |x, y| [f(x, y)],
        );
        total
    }
    if x.len() < LANES { here(x, y, f) } else { long(x, y, f) }
}

/// `Σ f(x, y)` of several values at once.
#[inline(always)]
pub(crate) fn sums<T: Copy, U: Copy, C: Real, const N: usize>(x: &[T], y: &[U], f: impl Fn(T, U) -> [C; N]) -> [C; N] {
    sums3(
        x,
        y,
        y,
        #[inline(always)]
        |x, y, _| f(x, y),
    )
}

/// `Σ f(x, y, z)` of several values at once.
#[inline(always)]
pub(crate) fn sums3<T: Copy, U: Copy, V: Copy, C: Real, const N: usize>(
    x: &[T],
    y: &[U],
    z: &[V],
    f: impl Fn(T, U, V) -> [C; N],
) -> [C; N] {
    assert!(x.len() == y.len() && x.len() == z.len());
    let mut lanes = [[C::ZERO; LANES]; N];
    let (xs, ys, zs) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>().0, z.as_chunks::<LANES>().0);
    for ((x, y), z) in xs.iter().zip(ys).zip(zs) {
        for i in 0..LANES {
            let values = f(x[i], y[i], z[i]);
            for k in 0..N {
                lanes[k][i] += values[k];
            }
        }
    }
    let mut totals = [C::ZERO; N];
    if !xs.is_empty() {
        for (total, lanes) in totals.iter_mut().zip(lanes) {
            *total = fold(lanes, |a, b| a + b);
        }
    }
    let rest = x.len() / LANES * LANES;
    for ((&x, &y), &z) in x[rest..].iter().zip(&y[rest..]).zip(&z[rest..]) {
        let values = f(x, y, z);
        for k in 0..N {
            totals[k] += values[k];
        }
    }
    totals
}

/// The largest element that is not NaN; −∞ if there is none.
#[inline(always)]
pub(crate) fn max<T: Float>(x: &[T]) -> T::Compute {
    let most = x[x.len() / LANES * LANES..].iter().fold(T::Compute::NEG_INFINITY, |m, v| larger(m, v.up()));
    if x.len() < LANES { most } else { larger(most, long_max(x)) }
}

#[inline(never)]
fn long_max<T: Float>(x: &[T]) -> T::Compute {
    dispatch(
        #[inline(always)]
        || {
            let mut lanes = [T::Compute::NEG_INFINITY; LANES];
            for x in x.as_chunks::<LANES>().0 {
                for i in 0..LANES {
                    lanes[i] = larger(lanes[i], x[i].up());
                }
            }
            fold(lanes, larger)
        },
    )
}

/// `b` where it is larger than `a`, which it is not where it is NaN.
#[inline(always)]
fn larger<C: Real>(a: C, b: C) -> C {
    if b > a { b } else { a }
}

/// All lanes into one, by halves.
#[inline(always)]
fn fold<C: Real>(mut lanes: [C; LANES], f: impl Fn(C, C) -> C) -> C {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}
