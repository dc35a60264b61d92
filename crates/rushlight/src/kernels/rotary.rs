//! Rotary positions: each pair of numbers in a row is turned by an angle, as a point of the plane.
//!
//! ```text
//! (a, b) → (a·cos − b·sin, b·cos + a·sin)
//! ```
//!
//! A row of `2n` numbers is `n` pairs, `(x[i], x[n + i])` or, interleaved, `(x[2i], x[2i + 1])`. The cosines and sines
//! of a row are read from a table, which all heads and samples share. Turning by the negative angles goes back, which is
//! also the gradient. Cost: four multiplications a pair; memory is read and written once.
//! Source: Su et al. 2021, "RoFormer: Enhanced transformer with rotary position embedding".

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Float, Real};

/// The angles of each row: tables of `[places, pairs]`; row `r` has place `r / repeat % places`.
#[derive(Clone, Copy)]
pub(crate) struct Angles<'a, C> {
    pub cos: &'a [C],
    pub sin: &'a [C],
    pub pairs: usize,
    /// Neighbouring rows of one place.
    pub repeat: usize,
    /// Turns by the negative angles.
    pub back: bool,
}

/// Turns rows of `2 · pairs` elements.
pub(crate) fn rotate<T: Float>(x: &[T], angles: Angles<T::Compute>, interleaved: bool, y: &mut [T]) {
    let Angles { cos, sin, pairs, repeat, back } = angles;
    let n = 2 * pairs;
    assert_eq!(x.len(), y.len());
    assert_eq!(cos.len(), sin.len());
    if x.is_empty() {
        return;
    }
    assert!(repeat > 0 && x.len().is_multiple_of(n) && !cos.is_empty() && cos.len().is_multiple_of(pairs));
    let places = cos.len() / pairs;
    let rows = (GRAIN / n).max(1);
    let sign = if back { -T::Compute::ONE } else { T::Compute::ONE };
    parallel::chunks(y, rows * n, |start, y| {
        let x = &x[start..][..y.len()];
        dispatch(
            #[inline(always)]
            || {
                for (i, (x, y)) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)).enumerate() {
                    let place = (start / n + i) / repeat % places;
                    let (cos, sin) = (&cos[place * pairs..][..pairs], &sin[place * pairs..][..pairs]);
                    if interleaved {
                        let (x, _) = x.as_chunks::<2>();
                        let (y, _) = y.as_chunks_mut::<2>();
                        for (((x, y), &c), &s) in x.iter().zip(y).zip(cos).zip(sin) {
                            let s = sign * s;
                            let (a, b) = (x[0].up(), x[1].up());
                            *y = [T::down(a * c - b * s), T::down(b * c + a * s)];
                        }
                    } else {
                        // A loop for each half: the compiler makes vectors of no loop that writes two slices.
                        let (a, b) = x.split_at(pairs);
                        let (ya, yb) = y.split_at_mut(pairs);
                        for ((((y, a), b), &c), &s) in ya.iter_mut().zip(a).zip(b).zip(cos).zip(sin) {
                            *y = T::down(a.up() * c - b.up() * (sign * s));
                        }
                        for ((((y, a), b), &c), &s) in yb.iter_mut().zip(a).zip(b).zip(cos).zip(sin) {
                            *y = T::down(b.up() * c + a.up() * (sign * s));
                        }
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::{Level, force_level, testing::force_levels};
    use crate::random::Generator;
    use crate::{bf16, f16};

    /// As complex numbers, in f64.
    fn naive(x: &[f64], angles: &[f64], pairs: usize, repeat: usize, interleaved: bool) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        let places = angles.len() / pairs;
        for row in 0..x.len() / (2 * pairs) {
            for i in 0..pairs {
                let (a, b) = if interleaved { (2 * i, 2 * i + 1) } else { (i, pairs + i) };
                let (a, b) = (row * 2 * pairs + a, row * 2 * pairs + b);
                let angle = angles[row / repeat % places * pairs + i];
                let (radius, at) = (x[a].hypot(x[b]), x[b].atan2(x[a]));
                (y[a], y[b]) = (radius * (at + angle).cos(), radius * (at + angle).sin());
            }
        }
        y
    }

    fn check<T: Float>(batch: usize, places: usize, pairs: usize, repeat: usize, tolerance: f64) {
        let random = |n: usize| {
            let mut x = vec![0.0f64; n];
            Generator::new(n as u64).fill_normal(&mut x, 0.0, 1.0);
            x
        };
        let x: Vec<T> = random(batch * places * repeat * 2 * pairs).into_iter().map(T::from_f64).collect();
        let angles = random(places * pairs);
        let table = |f: fn(f64) -> f64| angles.iter().map(|&a| T::Compute::of(f(a))).collect::<Vec<_>>();
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        let wide: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
        for interleaved in [false, true] {
            let angle = |back| Angles { cos: &cos, sin: &sin, pairs, repeat, back };
            let (mut y, mut again) = (x.clone(), x.clone());
            rotate(&x, angle(false), interleaved, &mut y);
            rotate(&y, angle(true), interleaved, &mut again);
            let expected = naive(&wide, &angles, pairs, repeat, interleaved);
            for (i, expected) in expected.iter().enumerate() {
                let (y, again, x) = (y[i].to_f64(), again[i].to_f64(), wide[i]);
                assert!((y - expected).abs() <= tolerance * (1.0 + expected.abs()), "element {i}: {y} for {expected}");
                assert!((again - x).abs() <= 3.0 * tolerance * (1.0 + x.abs()), "back: element {i}: {again} for {x}");
            }
        }
    }

    #[test]
    fn pairs_are_turned() {
        let _forced = force_levels();
        for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
            force_level(level);
            for (batch, places, pairs, repeat) in
                [(1, 1, 1, 1), (2, 3, 4, 1), (2, 3, 5, 4), (3, 1, 32, 2), (2, 70, 17, 31), (0, 3, 2, 1)]
            {
                check::<f64>(batch, places, pairs, repeat, 1e-14);
                check::<f32>(batch, places, pairs, repeat, 1e-6);
                check::<f16>(batch, places, pairs, repeat, 2e-3);
                check::<bf16>(batch, places, pairs, repeat, 2e-2);
            }
        }
    }
}
