//! Reading and writing at indices along one dim: `[outer, n, inner]` and indices `[outer, m, inner]`.
//!
//! Indices are checked by the caller against `n`; slices bound every access here all the same.

use crate::kernels::parallel::{self, GRAIN};
use crate::{Element, Float};

/// `out[o, j, i] = x[o, index[o, j, i], i]`
pub(crate) fn gather<T: Element>(x: &[T], (n, inner): (usize, usize), index: &[i64], m: usize, out: &mut [T]) {
    assert_eq!(index.len(), out.len());
    if out.is_empty() {
        return;
    }
    parallel::chunks(out, GRAIN, |start, piece| {
        for (k, o) in piece.iter_mut().enumerate() {
            let at = start + k;
            let (outer, i) = (at / (m * inner), at % inner);
            *o = x[(outer * n + index[at] as usize) * inner + i];
        }
    });
}

/// `out[o, index[o, j, i], i] = f(that, src[o, j, i])`, in order of the source.
pub(crate) fn scatter<T: Element>(
    out: &mut [T],
    (n, inner): (usize, usize),
    index: &[i64],
    m: usize,
    src: &[T],
    f: impl Fn(T, T) -> T,
) {
    assert_eq!(index.len(), src.len());
    for (at, (&j, &v)) in index.iter().zip(src).enumerate() {
        let (outer, i) = (at / (m * inner), at % inner);
        let place = &mut out[(outer * n + j as usize) * inner + i];
        *place = f(*place, v);
    }
}

/// Whole rows: `out[o, j, :] = x[o, index[j], :]`.
pub(crate) fn select_rows<T: Element>(x: &[T], (n, inner): (usize, usize), index: &[i64], out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let m = index.len();
    let rows = (GRAIN / inner).max(1);
    parallel::chunks(out, rows * inner, |start, piece| {
        for (r, row) in piece.chunks_mut(inner).enumerate() {
            let at = start / inner + r;
            let from = (at / m * n + index[at % m] as usize) * inner;
            row.copy_from_slice(&x[from..from + inner]);
        }
    });
}

/// The adjoint of [`select_rows`]: `out[o, index[j], :] += src[o, j, :]`, in order of `j`.
pub(crate) fn add_rows<T: Float>(out: &mut [T], (n, inner): (usize, usize), index: &[i64], src: &[T]) {
    let m = index.len();
    if src.is_empty() {
        return;
    }
    for (out, src) in out.chunks_mut(n * inner).zip(src.chunks(m * inner)) {
        for (&j, row) in index.iter().zip(src.chunks(inner)) {
            let target = &mut out[j as usize * inner..(j as usize + 1) * inner];
            for (t, &v) in target.iter_mut().zip(row) {
                *t = T::down(t.up() + v.up());
            }
        }
    }
}
