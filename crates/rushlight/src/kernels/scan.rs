//! Scans: a running value along one dim, `[outer, n, inner]` contiguous.
//!
//! Each step needs the one before it, so threads share the outer dims only, and the columns of `inner` advance side
//! by side.

use crate::Element;
use crate::kernels::parallel::{self, GRAIN};

/// `out[o, j, i] = finish(a_j)` where `a_j = step(a_{j−1}, place of [o, j, i])` and `a_{−1} = start`.
pub(crate) fn scan<R: Element, A: Copy + Send + Sync>(
    out: &mut [R],
    (n, inner): (usize, usize),
    start: A,
    step: impl Fn(A, usize) -> A + Sync,
    finish: impl Fn(A) -> R + Sync,
) {
    let row = n * inner;
    if row == 0 {
        return;
    }
    assert_eq!(out.len() % row, 0);
    let rows = (GRAIN / row).max(1);
    parallel::chunks(out, rows * row, |first, piece| {
        let mut running = vec![start; inner];
        for (r, piece) in piece.chunks_mut(row).enumerate() {
            running.fill(start);
            for (j, line) in piece.chunks_mut(inner).enumerate() {
                let place = first + r * row + j * inner;
                for (i, (o, a)) in line.iter_mut().zip(&mut running).enumerate() {
                    *a = step(*a, place + i);
                    *o = finish(*a);
                }
            }
        }
    });
}
