//! Reductions of one (merged) dim: `[outer, n, inner]` contiguous to `[outer, inner]`.
//!
//! With `inner == 1` each row is reduced in several lanes, else whole rows of `inner` are combined one below the
//! other. Chunks are fixed by size and combined in order, so the result does not depend on the number of threads.

use std::ops::Range;

use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::{dispatch, prefetch};
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
/// Bytes that are asked for before they are needed: a sum of 16 M numbers went from 980 µs to 830 (Zen 5, two cores).
const AHEAD: usize = 4096;
/// Elements that one partial result of a long row covers.
const PIECE: usize = GRAIN * 2;

#[inline(always)]
fn fold_lanes<T: Copy, F: Fold<T>>(x: &[T], f: F) -> F::Acc {
    let mut lanes = [f.start(); LANES];
    let mut pieces = x.chunks_exact(LANES);
    for piece in pieces.by_ref() {
        prefetch(piece.as_ptr().wrapping_add(AHEAD / size_of::<T>()), LANES);
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
        // Whole rows one below the other, in accumulators that stay in the L1 cache; long columns in pieces of rows.
        let (blocks, pieces, rows) = grid(n, inner);
        let partial = parallel::map_chunks(outer * blocks * pieces, 1, |task| {
            let (o, columns, r) = tile(task.start, (n, inner), (blocks, pieces, rows));
            let mut acc = vec![f.start(); columns.len()];
            dispatch(
                #[inline(always)]
                || {
                    let row = |r: usize| &x[(o * n + r) * inner..][columns.clone()];
                    // Four rows for each time an accumulator is loaded and stored.
                    let mut r = r;
                    while r.len() >= 4 {
                        step_rows(&mut acc, [0, 1, 2, 3].map(|i| row(r.start + i)), f);
                        r.start += 4;
                    }
                    for r in r {
                        step_rows(&mut acc, [row(r)], f);
                    }
                },
            );
            acc
        });
        for (task, parts) in partial.chunks(pieces).enumerate() {
            let (o, columns, _) = tile(task * pieces, (n, inner), (blocks, pieces, rows));
            for (i, out) in out[o * inner..][columns].iter_mut().enumerate() {
                let total = parts[1..].iter().fold(parts[0][i], |a, p| f.join(a, p[i]));
                *out = finish(total);
            }
        }
    }
}

/// Each accumulator takes in the elements of its column. (A function, so that the compiler knows the slices apart.)
#[inline(always)]
fn step_rows<T: Copy, F: Fold<T>, const R: usize>(acc: &mut [F::Acc], rows: [&[T]; R], f: F) {
    let rows = rows.map(
        #[inline(always)]
        |r| &r[..acc.len()],
    );
    for i in 0..acc.len() {
        let mut a = acc[i];
        for row in rows {
            a = f.step(a, row[i]);
        }
        acc[i] = a;
    }
}

/// How `[n, inner]` is cut for a reduction of `n`: blocks of columns, pieces of rows, rows in a piece.
fn grid(n: usize, inner: usize) -> (usize, usize, usize) {
    // At most 32 partial results of a column, which are combined on one thread.
    let rows = (GRAIN * 8 / inner.min(WIDTH)).max(16).max(n.div_ceil(32));
    (inner.div_ceil(WIDTH), n.div_ceil(rows), rows)
}

/// Columns in a block: 8 KiB of f32, so that accumulators, their indices and some rows stay in the L1 cache.
const WIDTH: usize = 2048;

/// What task number `task` covers: which of the outer indices, which columns and which rows.
fn tile(
    task: usize,
    (n, inner): (usize, usize),
    (blocks, pieces, rows): (usize, usize, usize),
) -> (usize, Range<usize>, Range<usize>) {
    let (o, block, piece) = (task / (blocks * pieces), task / pieces % blocks, task % pieces);
    (o, block * WIDTH..((block + 1) * WIDTH).min(inner), piece * rows..((piece + 1) * rows).min(n))
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
    if values.is_empty() {
        return;
    }
    #[allow(clippy::eq_op)] // x != x: NaN
    let wins = move |a: T, b: T| better(a, b) || (a != a && b == b);
    if inner == 1 && n > PIECE {
        for ((row, value), index) in x.chunks(n).zip(values).zip(index) {
            let parts = parallel::map_chunks(n, PIECE, |r| (r.start, first_best(&row[r], better)));
            let (mut start, mut best) = parts[0];
            for &(later, part) in &parts[1..] {
                if wins(part.0, best.0) {
                    (start, best) = (later, part);
                }
            }
            (*value, *index) = (best.0, (start + best.1) as i64);
        }
    } else if inner == 1 {
        let rows = (GRAIN / n).max(1);
        parallel::chunks2((values, rows), (index, rows), |chunk, values, index| {
            for (i, (value, index)) in values.iter_mut().zip(index).enumerate() {
                let (best, at) = first_best(&x[(chunk * rows + i) * n..][..n], better);
                (*value, *index) = (best, at as i64);
            }
        });
    } else {
        let (blocks, pieces, rows) = grid(n, inner);
        let partial = parallel::map_chunks(outer * blocks * pieces, 1, |task| {
            let (o, columns, r) = tile(task.start, (n, inner), (blocks, pieces, rows));
            let row = |r: usize| &x[(o * n + r) * inner..][columns.clone()];
            // Indices within the piece: as narrow as the values, they are compared and chosen alike.
            let (mut value, mut at) = (row(r.start).to_vec(), vec![0u32; columns.len()]);
            dispatch(
                #[inline(always)]
                || {
                    let mut i = 1;
                    while i + 4 <= r.len() {
                        keep_best(&mut value, &mut at, [0, 1, 2, 3].map(|k| row(r.start + i + k)), i as u32, wins);
                        i += 4;
                    }
                    for i in i..r.len() {
                        keep_best(&mut value, &mut at, [row(r.start + i)], i as u32, wins);
                    }
                },
            );
            (value, at)
        });
        for (task, parts) in partial.chunks(pieces).enumerate() {
            let (o, columns, _) = tile(task * pieces, (n, inner), (blocks, pieces, rows));
            for i in 0..columns.len() {
                let place = o * inner + columns.start + i;
                (values[place], index[place]) = (parts[0].0[i], parts[0].1[i] as i64);
                for (piece, (value, at)) in parts.iter().enumerate().skip(1) {
                    if wins(value[i], values[place]) {
                        (values[place], index[place]) = (value[i], (piece * rows) as i64 + at[i] as i64);
                    }
                }
            }
        }
    }
}

/// Takes the values of rows `r`, `r + 1`, … where they win.
#[inline(always)]
fn keep_best<T: Copy, const R: usize>(
    value: &mut [T],
    at: &mut [u32],
    rows: [&[T]; R],
    r: u32,
    wins: impl Fn(T, T) -> bool,
) {
    let at = &mut at[..value.len()];
    let rows = rows.map(
        #[inline(always)]
        |r| &r[..value.len()],
    );
    for i in 0..value.len() {
        let (mut best, mut place) = (value[i], at[i]);
        for (k, row) in rows.iter().enumerate() {
            let win = wins(row[i], best);
            best = if win { row[i] } else { best };
            place = if win { r + k as u32 } else { place };
        }
        (value[i], at[i]) = (best, place);
    }
}

/// The first element of `row` that no other beats, and its index; NaN beats everything.
///
/// Two passes that vectorise, the best value and then where it is, are faster than one that carries indices along.
fn first_best<T: Element>(row: &[T], better: impl Fn(T, T) -> bool + Copy) -> (T, usize) {
    const LANES: usize = 64;
    dispatch(
        #[inline(always)]
        #[allow(clippy::eq_op)] // x != x: NaN
        || {
            let mut lanes = [row[0]; LANES];
            let (pieces, rest) = row.as_chunks::<LANES>();
            for piece in pieces {
                // New lanes, not better ones where they are: that came to be masked stores, slow on AMD with AVX2 (6.6 ms for
                // the maximum of 4096 rows of 4096, now 4.0).
                lanes = std::array::from_fn(
                    #[inline(always)]
                    |i| keep(lanes[i], piece[i], better),
                );
            }
            let best = lanes.iter().chain(rest).fold(row[0], |best, &v| keep(best, v, better));
            if best != best {
                let at = row.iter().position(|v| v != v).unwrap_or(0);
                return (row[at], at);
            }
            (best, first(row, best))
        },
    )
}

/// The better of the two, the first where neither is; a NaN where there is one.
#[inline(always)]
#[allow(clippy::eq_op)] // v != v: NaN
fn keep<T: Element>(best: T, v: T, better: impl Fn(T, T) -> bool) -> T {
    if better(v, best) | (v != v) { v } else { best }
}

/// Where `value` is first.
#[inline(always)]
fn first<T: Element>(row: &[T], value: T) -> usize {
    const LANES: usize = 64;
    for (p, piece) in row.chunks(LANES).enumerate() {
        // Without an early exit in here, the comparison of a whole piece vectorises.
        if piece.iter().fold(false, |found, v| found | (*v == value)) {
            return p * LANES + piece.iter().position(|v| *v == value).unwrap_or(0);
        }
    }
    0
}
