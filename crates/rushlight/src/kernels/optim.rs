//! One pass over a parameter, its gradient and the optimizer's state: what each would be read and written for apart
//! is read and written once.

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Float, Real};

/// `(p, states) = f(p, g, states)`, element by element, computed in `T::Compute`.
pub(crate) fn update<T: Float, const S: usize>(
    param: &mut [T],
    grad: &[T],
    states: [&mut [T]; S],
    f: impl Fn(T::Compute, T::Compute, [T::Compute; S]) -> (T::Compute, [T::Compute; S]) + Sync + Copy,
) {
    assert_eq!(param.len(), grad.len());
    states.iter().for_each(|s| assert_eq!(s.len(), param.len()));
    let mut state_chunks = states.map(|s| s.chunks_mut(GRAIN));
    let mut pieces: Vec<_> = param
        .chunks_mut(GRAIN)
        .zip(grad.chunks(GRAIN))
        .map(|(p, g)| {
            let s: [&mut [T]; S] = std::array::from_fn(|i| state_chunks[i].next().unwrap_or_default());
            (p, g, s)
        })
        .collect();
    parallel::chunks(&mut pieces, 1, |_, pieces| {
        for (param, grad, states) in pieces {
            dispatch(
                #[inline(always)]
                || {
                    let n = param.len();
                    for at in (0..n).step_by(LANES) {
                        let here = at..(at + LANES).min(n);
                        let states: [&mut [T]; S] = states.each_mut().map(
                            #[inline(always)]
                            |s| &mut s[here.clone()],
                        );
                        lanes(&mut param[here.clone()], &grad[here], states, f);
                    }
                },
            );
        }
    });
}

/// Elements that go through local arrays at a time. The compiler cannot know that the slices do not overlap, and would
/// take one element after the other; of local arrays it knows.
const LANES: usize = 32;

#[inline(always)]
fn lanes<T: Float, const S: usize>(
    param: &mut [T],
    grad: &[T],
    states: [&mut [T]; S],
    f: impl Fn(T::Compute, T::Compute, [T::Compute; S]) -> (T::Compute, [T::Compute; S]),
) {
    let zero = [T::Compute::ZERO; LANES];
    let (mut p, mut g, mut s) = (zero, zero, [zero; S]);
    load(&mut p, param);
    load(&mut g, grad);
    for k in 0..S {
        load(&mut s[k], states[k]);
    }
    for i in 0..LANES {
        let mut old = [T::Compute::ZERO; S];
        for k in 0..S {
            old[k] = s[k][i];
        }
        let (new, states) = f(p[i], g[i], old);
        p[i] = new;
        for k in 0..S {
            s[k][i] = states[k];
        }
    }
    store(&p, param);
    for (s, to) in s.iter().zip(states) {
        store(s, to);
    }
}

// A whole block is a few moves; a part of one, of a length the compiler does not know, would be a call for each.

#[inline(always)]
fn load<T: Float>(to: &mut [T::Compute; LANES], from: &[T]) {
    match <&[T; LANES]>::try_from(from) {
        Ok(whole) => (0..LANES).for_each(|i| to[i] = whole[i].up()),
        Err(_) => to.iter_mut().zip(from).for_each(|(t, f)| *t = f.up()),
    }
}

#[inline(always)]
fn store<T: Float>(from: &[T::Compute; LANES], to: &mut [T]) {
    match <&mut [T; LANES]>::try_from(&mut *to) {
        Ok(whole) => (0..LANES).for_each(|i| whole[i] = T::down(from[i])),
        Err(_) => to.iter_mut().zip(from).for_each(|(t, f)| *t = T::down(*f)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16;

    /// Momentum and a running square, as every algorithm has: against the same formula in f64, one step at a time.
    fn check<T: Float>(n: usize, tolerance: f64) {
        let value = |i: usize, k: usize| T::from_f64(((i * 7 + k * 3) % 11) as f64 / 4.0 - 1.0);
        let mut slices: [Vec<T>; 3] = std::array::from_fn(|k| (0..n).map(|i| value(i, k)).collect());
        let grad: Vec<T> = (0..n).map(|i| value(i, 5)).collect();
        let mut expected: Vec<[f64; 3]> = (0..n).map(|i| [0, 1, 2].map(|k| value(i, k).to_f64())).collect();
        for _ in 0..3 {
            let [p, m, v] = &mut slices;
            let (half, tenth) = (T::Compute::of(0.5), T::Compute::of(0.125));
            update(p, &grad, [m, v], |p, g, [m, v]| {
                let (m, v) = (m * half + g, v * half + g * g);
                (p - tenth * m * v, [m, v])
            });
            for ([p, m, v], g) in expected.iter_mut().zip(&grad) {
                let g = g.to_f64();
                (*m, *v) = (*m * 0.5 + g, *v * 0.5 + g * g);
                *p -= 0.125 * *m * *v;
            }
        }
        for (i, e) in expected.iter().enumerate() {
            for (k, &e) in e.iter().enumerate() {
                let got = slices[k][i].to_f64();
                assert!((got - e).abs() <= tolerance * (1.0 + e.abs()), "slice {k} at {i}: {got} for {e}");
            }
        }
    }

    #[test]
    fn every_element_and_state_is_updated_once() {
        for n in [0, 1, 17, GRAIN, 2 * GRAIN + 5] {
            check::<f64>(n, 1e-14);
            check::<f32>(n, 1e-6);
            check::<bf16>(n, 5e-2);
        }
    }
}
