//! Dropout: each element is set to 0 with probability p, and the others are divided by 1 − p.
//!
//! Element `i` is kept if word `i % 4` of Philox block `offset + i / 4`, as a fraction of 2³², is at least p. The mask
//! is thus a function of its place in the stream: nothing is stored for the gradient, which draws it again.
//! Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::random::philox;
use crate::kernels::simd::dispatch;
use crate::random::Place;
use crate::{Float, Real};

/// Elements that one block of random bits decides: 32 bits each.
pub(crate) const PER_BLOCK: usize = 4;

/// `y = keep(i) · x / (1 − p)`; applied to `dy` at the same place of the stream it gives `dx`.
///
/// What is dropped is 0, even where `x` is infinite or NaN.
pub(crate) fn apply<T: Float>(x: &[T], p: f64, place: Place, y: &mut [T]) {
    assert_eq!(x.len(), y.len());
    let Place { seed, block: offset, skip } = place;
    let threshold = (p * 2f64.powi(32)).round();
    if threshold > u32::MAX as f64 {
        return y.fill(T::default());
    }
    let (threshold, scale) = (threshold as u32, T::Compute::of(1.0 / (1.0 - p)));
    // To the next block's begin one by one; rows of a batch seldom begin within one.
    let skipped = if skip == 0 { 0 } else { (PER_BLOCK - skip).min(y.len()) };
    let (begun, y) = y.split_at_mut(skipped);
    let bits = philox(seed, offset);
    for ((y, x), bits) in begun.iter_mut().zip(x).zip(&bits[skip % PER_BLOCK..]) {
        *y = keep(*bits >= threshold, *x, scale);
    }
    let (x, offset) = (&x[skipped..], if skip == 0 { offset } else { offset.wrapping_add(1) });
    // GRAIN is a multiple of 4, so pieces start at a block.
    parallel::chunks(y, GRAIN, |start, y| {
        dispatch(
            #[inline(always)]
            || {
                let first = offset.wrapping_add((start / PER_BLOCK) as u64);
                // Whole blocks apart from the rest, which the compiler makes a vector of blocks at a time.
                let (blocks, rest) = y.as_chunks_mut::<PER_BLOCK>();
                let (x, x_rest) = x[start..].as_chunks::<PER_BLOCK>();
                for (b, (y, x)) in blocks.iter_mut().zip(x).enumerate() {
                    let bits = philox(seed, first.wrapping_add(b as u64));
                    for i in 0..PER_BLOCK {
                        y[i] = keep(bits[i] >= threshold, x[i], scale);
                    }
                }
                let bits = philox(seed, first.wrapping_add(blocks.len() as u64));
                for ((y, x), bits) in rest.iter_mut().zip(x_rest).zip(bits) {
                    *y = keep(bits >= threshold, *x, scale);
                }
            },
        );
    });
}

#[inline(always)]
fn keep<T: Float>(kept: bool, x: T, scale: T::Compute) -> T {
    let y = x.up() * scale;
    T::down(if kept { y } else { T::Compute::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16;

    fn place(seed: u64, block: u64, skip: usize) -> Place {
        Place { seed, block, skip }
    }

    fn check<T: Float>(n: usize, p: f64, offset: u64, skip: usize) {
        let x: Vec<T> = (0..n).map(|i| T::from_f64(i as f64 % 97.0 - 48.0)).collect();
        let mut y = vec![T::from_f64(7.0); n];
        apply(&x, p, place(11, offset, skip), &mut y);
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            let at = skip + i;
            let u = philox(11, offset + at as u64 / 4)[at % 4] as f64 / 2f64.powi(32);
            let expected = if u >= p { T::from_f64(x.to_f64() * (1.0 / (1.0 - p))) } else { T::from_f64(0.0) };
            // One rounding of the scale before that of the product: at most a unit in the last place apart.
            let error = (y.to_f64() - expected.to_f64()).abs();
            let last_place = match T::DTYPE {
                crate::DType::BF16 => 2f64.powi(-7),
                _ => 1e-6,
            };
            assert!(error <= expected.to_f64().abs() * last_place, "{i}: {x:?} -> {y:?}, not {expected:?}");
        }
    }

    #[test]
    fn drops_what_the_numbers_say() {
        for n in [0, 1, 3, 4, 5, 100, 2 * GRAIN + 3] {
            for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
                (0..4).for_each(|skip| check::<f32>(n, p, 0, skip));
            }
            check::<f64>(n, 0.3, 5, 0);
            check::<bf16>(n, 0.3, u32::MAX as u64 - 1, 3);
        }
    }

    #[test]
    fn keeps_its_share_and_its_mean() {
        let ones = vec![1.0f32; 200_000];
        let mut y = ones.clone();
        apply(&ones, 0.2, place(1, 0, 0), &mut y);
        let kept = y.iter().filter(|y| **y != 0.0).count() as f64 / y.len() as f64;
        assert!((kept - 0.8).abs() < 0.004, "{kept}");
        assert!((y.iter().map(|y| *y as f64).sum::<f64>() / y.len() as f64 - 1.0).abs() < 0.005);
    }

    #[test]
    fn the_ends_are_exact() {
        let x = [f32::NAN, f32::INFINITY, -0.0, f32::MAX, 1e-45];
        let mut y = [7.0; 5];
        apply(&x, 0.0, place(1, 0, 0), &mut y);
        assert_eq!(x.map(f32::to_bits), y.map(f32::to_bits));
        for p in [1.0, 1.0 - 1e-16] {
            apply(&x, p, place(1, 0, 0), &mut y);
            assert_eq!(y, [0.0; 5]);
        }
    }
}
