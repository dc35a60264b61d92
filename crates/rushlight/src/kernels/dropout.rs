//! Dropout by a mask that is a function of its place in the random stream, and so need not be stored.

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::random::philox;
use crate::kernels::simd::dispatch;
use crate::{Float, Real};

/// Elements that one block of random bits decides: 32 bits each.
pub(crate) const PER_BLOCK: usize = 4;

/// `y = x / (1 − p)` where the random number of the element is at least `p`, else 0.
pub(crate) fn apply<T: Float>(x: &[T], p: f64, (seed, offset): (u64, u64), y: &mut [T]) {
    assert_eq!(x.len(), y.len());
    // Kept if `bits ≥ p · 2³²`; with p = 1 nothing is, also not the largest number.
    let threshold = (p * 4_294_967_296.0).round() as u64;
    let scale = T::Compute::of(if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 });
    parallel::chunks(y, GRAIN, |start, y| {
        let x = &x[start..start + y.len()];
        dispatch(
            #[inline(always)]
            || {
                let first = offset.wrapping_add((start / PER_BLOCK) as u64);
                for (b, (y, x)) in y.chunks_mut(PER_BLOCK).zip(x.chunks(PER_BLOCK)).enumerate() {
                    let bits = philox(seed, first.wrapping_add(b as u64));
                    for ((y, x), bits) in y.iter_mut().zip(x).zip(bits) {
                        let kept = bits as u64 >= threshold;
                        *y = if kept { T::down(x.up() * scale) } else { T::default() };
                    }
                }
            },
        );
    });
}
