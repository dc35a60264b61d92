//! One pass over a parameter, its gradient and the optimizer's state: what each would be read and written for apart
//! is read and written once.

use crate::Float;
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;

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
                    // Slices of one length each, so that the loop needs no bounds checks.
                    let mut s: [&mut [T]; S] = std::array::from_fn(|_| Default::default());
                    for (to, from) in s.iter_mut().zip(states.iter_mut()) {
                        *to = &mut from[..n];
                    }
                    let grad = &grad[..n];
                    for i in 0..n {
                        let old: [T::Compute; S] = std::array::from_fn(|k| s[k][i].up());
                        let (p, new) = f(param[i].up(), grad[i].up(), old);
                        param[i] = T::down(p);
                        for k in 0..S {
                            s[k][i] = T::down(new[k]);
                        }
                    }
                },
            );
        }
    });
}
