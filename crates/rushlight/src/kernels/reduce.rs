//! Reductions of one (merged) dim: `[outer, n, inner]` contiguous to `[outer, inner]`.
//!
//! With `inner == 1` each row is reduced in several lanes, else whole rows of `inner` are combined one below the
//! other. Chunks are fixed by size and combined in order, so the result does not depend on the number of threads.

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Element, Float, Real};

/// A reduction: start value, one step, and how two partial results combine (for sums the same).
pub(crate) trait Fold<T>: Copy + Sync {
    /// The running value.
    type Acc: Copy + Send + Sync;
    /// Start.
    fn start(self) -> Self::Acc;
    /// One more element.
    fn step(self, acc: Self::Acc, x: T) -> Self::Acc;
    /// Two partial results, the first from earlier elements.
    fn join(self, a: Self::Acc, b: Self::Acc) -> Self::Acc;
}

const LANES: usize = 64;
/// Elements that one partial result of a long row covers.
const PIECE: usize = GRAIN * 2;

#[inline(always)]
fn fold_lanes<T: Copy, F: Fold<T>>(x: &[T], f: F) -> F::Acc {
    let mut lanes = [f.start(); LANES];
    let mut pieces = x.chunks_exact(LANES);
    for piece in pieces.by_ref() {
        for (lane, &v) in lanes.iter_mut().zip(piece) {
            *lane = f.step(*lane, v);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(pieces.remainder()) {
        *lane = f.step(*lane, v);
    }
    // Halve again and again: the same tree at every length.
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f.join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Reduces `x`, of `[outer, n, inner]`, over `n`; `finish` turns the running value into the result.
pub(crate) fn fold<T: Element, R: Element, F: Fold<T>>(
    x: &[T],
    (outer, n, inner): (usize, usize, usize),
    out: &mut [R],
    f: F,
    finish: impl Fn(F::Acc) -> R + Sync,
) {
    assert_eq!(x.len(), outer * n * inner);
    assert_eq!(out.len(), outer * inner);
    if out.is_empty() {
        return;
    }
    if n == 0 {
        out.fill(finish(f.start()));
    } else if inner == 1 && n > PIECE {
        for (row, out) in x.chunks(n).zip(out) {
            let parts = parallel::map_chunks(n, PIECE, |r| {
                let piece = &row[r];
                dispatch(
                    #[inline(always)]
                    || fold_lanes(piece, f),
                )
            });
            let total = parts.into_iter().reduce(|a, b| f.join(a, b));
            *out = finish(total.unwrap_or(f.start()));
        }
    } else if inner == 1 {
        parallel::chunks(out, (GRAIN / n).max(1), |first, out| {
            for (i, o) in out.iter_mut().enumerate() {
                let row = &x[(first + i) * n..(first + i + 1) * n];
                *o = finish(dispatch(
                    #[inline(always)]
                    || fold_lanes(row, f),
                ));
            }
        });
    } else {
        // Columns in blocks that stay in cache while the rows pass over them; long columns also in pieces of rows.
        const WIDTH: usize = 512;
        let rows = (GRAIN * 4 / inner.min(WIDTH)).max(16);
        let (blocks, pieces) = (inner.div_ceil(WIDTH), n.div_ceil(rows));
        let partial = parallel::map_chunks(outer * blocks * pieces, 1, |task| {
            let task = task.start;
            let (o, block, piece) = (task / (blocks * pieces), task / pieces % blocks, task % pieces);
            let columns = block * WIDTH..((block + 1) * WIDTH).min(inner);
            let mut acc = [f.start(); WIDTH];
            dispatch(
                #[inline(always)]
                || {
                    for r in piece * rows..((piece + 1) * rows).min(n) {
                        let row = &x[(o * n + r) * inner..][columns.clone()];
                        for (a, &v) in acc.iter_mut().zip(row) {
                            *a = f.step(*a, v);
                        }
                    }
                },
            );
            smallvec::SmallVec::<[F::Acc; 0]>::from_slice(&acc[..columns.len()])
        });
        for (task, parts) in partial.chunks(pieces).enumerate() {
            let (o, block) = (task / blocks, task % blocks);
            for i in 0..parts[0].len() {
                let total = parts[1..].iter().fold(parts[0][i], |a, p| f.join(a, p[i]));
                out[o * inner + block * WIDTH + i] = finish(total);
            }
        }
    }
}

/// Σ x, in the type that T is computed in.
#[derive(Clone, Copy)]
pub(crate) struct Sum;

impl<T: Float> Fold<T> for Sum {
    type Acc = T::Compute;
    #[inline(always)]
    fn start(self) -> T::Compute {
        T::Compute::ZERO
    }
    #[inline(always)]
    fn step(self, acc: T::Compute, x: T) -> T::Compute {
        acc + x.up()
    }
    #[inline(always)]
    fn join(self, a: T::Compute, b: T::Compute) -> T::Compute {
        a + b
    }
}

/// Π x
#[derive(Clone, Copy)]
pub(crate) struct Product;

impl<T: Float> Fold<T> for Product {
    type Acc = T::Compute;
    #[inline(always)]
    fn start(self) -> T::Compute {
        T::Compute::ONE
    }
    #[inline(always)]
    fn step(self, acc: T::Compute, x: T) -> T::Compute {
        acc * x.up()
    }
    #[inline(always)]
    fn join(self, a: T::Compute, b: T::Compute) -> T::Compute {
        a * b
    }
}

/// Any fold given by a start value and one function, for integers and booleans.
#[derive(Clone, Copy)]
pub(crate) struct With<A, S, J> {
    pub start: A,
    pub step: S,
    pub join: J,
}

impl<T: Copy, A: Copy + Send + Sync, S, J> Fold<T> for With<A, S, J>
where
    S: Fn(A, T) -> A + Copy + Sync,
    J: Fn(A, A) -> A + Copy + Sync,
{
    type Acc = A;
    #[inline(always)]
    fn start(self) -> A {
        self.start
    }
    #[inline(always)]
    fn step(self, acc: A, x: T) -> A {
        (self.step)(acc, x)
    }
    #[inline(always)]
    fn join(self, a: A, b: A) -> A {
        (self.join)(a, b)
    }
}

/// The first extreme value along `n` and its index; NaN beats everything. `better(a, b)`: a is strictly better than b.
pub(crate) fn extremum<T: Element>(
    x: &[T],
    (outer, n, inner): (usize, usize, usize),
    values: &mut [T],
    index: &mut [i64],
    better: impl Fn(T, T) -> bool + Sync + Copy,
) {
    assert_eq!(x.len(), outer * n * inner);
    assert_eq!(values.len(), outer * inner);
    assert_eq!(index.len(), outer * inner);
    assert!(n > 0);
    #[allow(clippy::eq_op)] // x != x: NaN
    let wins = move |a: T, b: T| better(a, b) || (a != a && b == b);
    if inner == 1 {
        let rows = (GRAIN / n).max(1);
        parallel::chunks2((values, rows), (index, rows), |chunk, values, index| {
            for (i, (value, index)) in values.iter_mut().zip(index).enumerate() {
                let row = &x[(chunk * rows + i) * n..][..n];
                (*value, *index) = dispatch(
                    #[inline(always)]
                    || first_best(row, wins),
                );
            }
        });
    } else {
        parallel::chunks2((values, inner), (index, inner), |o, values, index| {
            values.copy_from_slice(&x[o * n * inner..][..inner]);
            index.fill(0);
            dispatch(
                #[inline(always)]
                || {
                    for r in 1..n {
                        let row = &x[(o * n + r) * inner..][..inner];
                        for ((value, index), &v) in values.iter_mut().zip(index.iter_mut()).zip(row) {
                            let win = wins(v, *value);
                            *value = if win { v } else { *value };
                            *index = if win { r as i64 } else { *index };
                        }
                    }
                },
            );
        });
    }
}

/// The first element of `row` that no other beats, and its index. Lanes keep their own first best.
#[inline(always)]
fn first_best<T: Element>(row: &[T], wins: impl Fn(T, T) -> bool + Copy) -> (T, i64) {
    const LANES: usize = 16;
    if row.len() < 2 * LANES {
        let mut best = 0;
        for i in 1..row.len() {
            if wins(row[i], row[best]) {
                best = i;
            }
        }
        return (row[best], best as i64);
    }
    let mut value: [T; LANES] = [T::default(); LANES];
    value.copy_from_slice(&row[..LANES]);
    let mut at = [0i64; LANES]; // the piece, not the element: lane l of piece p is element p·LANES + l
    let pieces = row.chunks_exact(LANES);
    let rest = row.len() - pieces.remainder().len();
    for (p, piece) in pieces.enumerate().skip(1) {
        for l in 0..LANES {
            let win = wins(piece[l], value[l]);
            value[l] = if win { piece[l] } else { value[l] };
            at[l] = if win { p as i64 } else { at[l] };
        }
    }
    let (mut best, mut index) = (value[0], at[0] * LANES as i64);
    for l in 1..LANES {
        let i = at[l] * LANES as i64 + l as i64;
        // Equal values (and two NaNs) go to the earlier element.
        if wins(value[l], best) || (!wins(best, value[l]) && i < index) {
            (best, index) = (value[l], i);
        }
    }
    for (i, &v) in row.iter().enumerate().skip(rest) {
        if wins(v, best) {
            (best, index) = (v, i as i64);
        }
    }
    (best, index)
}
