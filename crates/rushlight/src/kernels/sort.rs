//! Sorting rows: `[rows, n]` contiguous, stable, NaN the greatest.

use std::cmp::Ordering;

use std::sync::OnceLock;

use crate::kernels::parallel::{self, GRAIN};
use crate::storage::reserved;
use crate::{Element, Result};

/// The order of two elements, NaN above everything.
#[inline(always)]
#[allow(clippy::eq_op)] // x != x: NaN
fn order<T: Element>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

/// Sorts each row of `x`, of `[rows, n]`, and writes its first `k` values and where in the row they were.
///
/// Equal elements (also NaNs) keep their order. For `k < n` the others are only set apart, not sorted: O(n + k log k).
/// Errors: there is no memory for a row with its places.
pub(crate) fn sort<T: Element>(
    op: &'static str,
    x: &[T],
    (n, k): (usize, usize),
    descending: bool,
    values: &mut [T],
    index: &mut [i64],
) -> Result<()> {
    if k == 0 || values.is_empty() {
        return Ok(());
    }
    assert!(k <= n);
    assert_eq!(values.len() / k * n, x.len());
    assert_eq!(values.len(), index.len());
    let (rows, refused) = ((GRAIN / n).max(1), OnceLock::new());
    parallel::chunks2((values, rows * k), (index, rows * k), |chunk, values, index| {
        let mut pairs: Vec<(T, i64)> = match reserved(op, n) {
            Ok(pairs) => pairs,
            Err(error) => {
                let _ = refused.set(error);
                return;
            }
        };
        for (r, (values, index)) in values.chunks_mut(k).zip(index.chunks_mut(k)).enumerate() {
            let row = &x[(chunk * rows + r) * n..][..n];
            pairs.clear();
            pairs.extend(row.iter().copied().zip(0..));
            // The place decides between equals, so an unstable sort gives the stable order.
            let before = |a: &(T, i64), b: &(T, i64)| {
                let by_value = if descending { order(b.0, a.0) } else { order(a.0, b.0) };
                by_value.then(a.1.cmp(&b.1))
            };
            if k < n {
                pairs.select_nth_unstable_by(k, before);
            }
            pairs[..k].sort_unstable_by(before);
            for ((v, i), pair) in values.iter_mut().zip(index.iter_mut()).zip(&pairs) {
                (*v, *i) = *pair;
            }
        }
    });
    refused.into_inner().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_stably_with_nan_last() {
        let nan = f32::NAN;
        let x = [3.0, nan, 1.0, 3.0, -0.0, 0.0, /* */ nan, f32::INFINITY, nan, -1.0, 2.0, 2.0];
        let (mut v, mut i) = ([0.0; 12], [0; 12]);
        sort("sort", &x, (6, 6), false, &mut v, &mut i).unwrap();
        assert_eq!(i, [4, 5, 2, 0, 3, 1, 3, 4, 5, 1, 0, 2]);
        sort("sort", &x, (6, 6), true, &mut v, &mut i).unwrap();
        assert_eq!(i, [1, 0, 3, 2, 4, 5, 0, 2, 1, 4, 5, 3]);
        assert!(v[0].is_nan() && v[1..6] == [3.0, 3.0, 1.0, 0.0, 0.0]);
        let (mut v, mut i) = ([0.0; 4], [0; 4]);
        sort("sort", &x, (6, 2), false, &mut v, &mut i).unwrap();
        assert_eq!((v, i), ([-0.0, 0.0, -1.0, 2.0], [4, 5, 3, 4]));
    }
}
