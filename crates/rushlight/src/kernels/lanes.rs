//! Sums and maxima of a row in several lanes: as many chains of additions as vector units can hold, and so a smaller
//! rounding error too. Always the same order for a given length.

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
    let [total] = sums(
        x,
        y,
        #[inline(always)]
        |x, y| [f(x, y)],
    );
    total
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
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    let (zs, z_rest) = z.as_chunks::<LANES>();
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
        for (total, mut lanes) in totals.iter_mut().zip(lanes) {
            let mut width = LANES / 2;
            while width > 0 {
                for i in 0..width {
                    lanes[i] += lanes[i + width];
                }
                width /= 2;
            }
            *total = lanes[0];
        }
    }
    for ((&x, &y), &z) in x_rest.iter().zip(y_rest).zip(z_rest) {
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
    let larger = |a: T::Compute, b: T::Compute| if b > a { b } else { a };
    let mut lanes = [T::Compute::NEG_INFINITY; LANES];
    let (pieces, rest) = x.as_chunks::<LANES>();
    for piece in pieces {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], piece[i].up());
        }
    }
    let mut most = rest.iter().fold(T::Compute::NEG_INFINITY, |m, v| larger(m, v.up()));
    if !pieces.is_empty() {
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] = larger(lanes[i], lanes[i + width]);
            }
            width /= 2;
        }
        most = larger(most, lanes[0]);
    }
    most
}
