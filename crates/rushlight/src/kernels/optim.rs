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
            let mut states = states.iter_mut().map(|s| &mut **s);
            let [a, b, c]: [&mut [T]; MOST] = std::array::from_fn(|_| states.next().unwrap_or_default());
            dispatch(
                #[inline(always)]
                || sweep::<T, S>(param, grad, a, b, c, f),
            );
        }
    });
}

/// The most states that an algorithm keeps.
const MOST: usize = 3;

/// Slices one by one, not an array of them: of parameters the compiler knows that they do not overlap, and takes whole
/// vectors. Those from the `S`th on are empty.
#[inline(always)]
fn sweep<T: Float, const S: usize>(
    param: &mut [T],
    grad: &[T],
    a: &mut [T],
    b: &mut [T],
    c: &mut [T],
    f: impl Fn(T::Compute, T::Compute, [T::Compute; S]) -> (T::Compute, [T::Compute; S]),
) {
    let n = param.len();
    let length = |k: usize| if k < S { n } else { 0 };
    let (grad, a, b, c) = (&grad[..n], &mut a[..length(0)], &mut b[..length(1)], &mut c[..length(2)]);
    for i in 0..n {
        let mut old = [T::Compute::ZERO; S];
        if S > 0 {
            old[0] = a[i].up();
        }
        if S > 1 {
            old[1] = b[i].up();
        }
        if S > 2 {
            old[2] = c[i].up();
        }
        let (new, states) = f(param[i].up(), grad[i].up(), old);
        param[i] = T::down(new);
        if S > 0 {
            a[i] = T::down(states[0]);
        }
        if S > 1 {
            b[i] = T::down(states[1]);
        }
        if S > 2 {
            c[i] = T::down(states[2]);
        }
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
