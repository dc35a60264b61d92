//! Max pooling, with the place of each maximum for the gradient: the first maximum; the first NaN where there is one.
//!
//! PyTorch: `max_pool1d` to `max_pool3d` (which, of several NaN, name the last).

use super::{Pass, PoolShape, Rows, run};
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Float, Real};

/// Marks a window that covers no place of the input.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Whether `v` takes the place of `best`, which came before it.
#[inline(always)]
#[allow(clippy::neg_cmp_op_on_partial_ord, clippy::eq_op)] // not `v > best`: a NaN wins, once
pub(super) fn wins<T: Float>(v: T, best: T) -> bool {
    let (v, best) = (v.up(), best.up());
    !(v <= best) & (best == best)
}

/// An output and the place of its value take further inputs, the first of which lies at `place`.
#[inline(always)]
fn take<T: Float>(value: &mut T, index: &mut u32, place: u32, inputs: &[T]) {
    let (mut best, mut at) = (*value, *index);
    for (k, &v) in inputs.iter().enumerate() {
        let win = wins(v, best);
        best = if win { v } else { best };
        at = if win { place + k as u32 } else { at };
    }
    (*value, *index) = (best, at);
}

/// The maximum of each window, and its flat place within the plane if that is asked for. A window that covers no place
/// gives −∞.
pub(crate) fn max_forward<T: Float>(s: &PoolShape, x: &[T], out: &mut [T], index: Option<&mut [u32]>) {
    s.check(x.len(), out.len());
    if out.is_empty() {
        return;
    }
    assert!(index.as_ref().is_none_or(|index| index.len() == out.len()));
    assert!(s.in_size() < NOWHERE as usize);
    let (width, rows) = (s.output[2], s.rows_per_task());
    // Where an output's first place is if all are −∞.
    let columns = s.spans(2).iter().map(|&(c, n)| if n == 0 { NOWHERE } else { c as u32 }).collect();
    let windows = Windows { s, x, passes: s.passes(), below: Rows::of(s), columns };
    match index {
        Some(index) => parallel::chunks2((out, rows * width), (index, rows * width), |task, out, index| {
            windows.rows::<true>(task * rows, out, index);
        }),
        None => parallel::chunks(out, rows * width, |at, out| windows.rows::<false>(at / width, out, &mut [])),
    }
}

struct Windows<'a, T> {
    s: &'a PoolShape,
    x: &'a [T],
    passes: Vec<Pass>,
    below: Rows,
    columns: Vec<u32>,
}

impl<T: Float> Windows<'_, T> {
    /// Output rows from row `first` on, and their places or nothing.
    fn rows<const PLACED: bool>(&self, first: usize, out: &mut [T], index: &mut [u32]) {
        let Windows { s, x, passes, below, columns } = self;
        let (width, size) = (s.output[2], s.in_size());
        // Rows of 2×2 windows side by side, in the input wholly: what most networks pool with.
        let squares = s.kernel == [1, 2, 2] && s.stride == [1, 2, 2] && s.padding == [0; 3] && s.dilation == [1; 3];
        let squares = squares && width >= 4 && 2 * width <= s.input[2];
        let mut nowhere = vec![0; if PLACED { 0 } else { width }];
        dispatch(
            #[inline(always)]
            || {
                for (r, value) in out.chunks_mut(width).enumerate() {
                    let (plane, d, h) = s.place(first + r);
                    let index = if PLACED { &mut index[r * width..][..width] } else { &mut nowhere };
                    let plane = &x[plane * size..][..size];
                    let first = below.first_below(d, h).map_or(NOWHERE, |start| start as u32);
                    if squares && (below.depth[d].1, below.height[h].1) == (1, 2) {
                        let (top, bottom) = plane[first as usize..][..2 * s.input[2]].split_at(s.input[2]);
                        match width {
                            16.. => squares_of::<T, 16, PLACED>(top, bottom, value, index, first),
                            8.. => squares_of::<T, 8, PLACED>(top, bottom, value, index, first),
                            _ => squares_of::<T, 4, PLACED>(top, bottom, value, index, first),
                        }
                        continue;
                    }
                    value.fill(T::down(T::Compute::NEG_INFINITY));
                    index.iter_mut().zip(columns).for_each(|(i, c)| *i = first.saturating_add(*c));
                    below.each(
                        d,
                        h,
                        #[inline(always)]
                        |start| row_below(s, passes, &plane[start..][..s.input[2]], value, index, start as u32),
                    );
                }
            },
        );
    }
}

/// The outputs above an input row, which starts at `start`, take what their windows see of it.
#[inline(always)]
fn row_below<T: Float>(s: &PoolShape, passes: &[Pass], row: &[T], value: &mut [T], index: &mut [u32], start: u32) {
    for pass in passes {
        let outputs = pass.outputs.clone();
        run(
            pass,
            s.stride[2],
            row,
            value[outputs.clone()].iter_mut().zip(&mut index[outputs]),
            #[inline(always)]
            |(value, index), column, inputs| take(value, index, start + column as u32, inputs),
        );
    }
}

/// A row of 2×2 windows side by side, `N` at a time. What is left over at the end is done as the last `N`, some of
/// them again, so that all are done in full vectors.
#[inline(always)]
fn squares_of<T: Float, const N: usize, const PLACED: bool>(
    top: &[T],
    bottom: &[T],
    value: &mut [T],
    index: &mut [u32],
    place: u32,
) {
    let n = value.len();
    let width = top.len() as u32;
    for i in (0..n).step_by(N) {
        let i = i.min(n - N);
        let (top, bottom) = (&top[2 * i..][..2 * N], &bottom[2 * i..][..2 * N]);
        let (value, index) = (&mut value[i..][..N], &mut index[i..][..N]);
        let place = place + 2 * i as u32;
        for j in 0..N {
            let (a, b, c, d) = (top[2 * j], top[2 * j + 1], bottom[2 * j], bottom[2 * j + 1]);
            let place = place + 2 * j as u32;
            let (win_b, win_d) = (wins(b, a), wins(d, c));
            let (above, at_above) = (if win_b { b } else { a }, if win_b { place + 1 } else { place });
            let (under, at_under) = (if win_d { d } else { c }, if win_d { place + 1 } else { place } + width);
            let win = wins(under, above);
            value[j] = if win { under } else { above };
            if PLACED {
                index[j] = if win { at_under } else { at_above };
            }
        }
    }
}

/// The gradient of a maximum: `dx = 0`, then `dx[index] += dy` in each plane.
pub(crate) fn scatter<T: Float>(planes: usize, in_size: usize, out_size: usize, dy: &[T], index: &[u32], dx: &mut [T]) {
    assert_eq!(dx.len(), planes * in_size);
    assert_eq!(dy.len(), planes * out_size);
    assert_eq!(index.len(), dy.len());
    if in_size == 0 {
        return;
    }
    let per_task = (GRAIN / in_size).max(1);
    parallel::chunks(dx, per_task * in_size, |first, dx| {
        for (p, dx) in dx.chunks_mut(in_size).enumerate() {
            let at = (first / in_size + p) * out_size;
            dx.fill(T::default());
            for (&dy, &i) in dy[at..][..out_size].iter().zip(&index[at..][..out_size]) {
                if let Some(dx) = dx.get_mut(i as usize) {
                    *dx = T::down(dx.up() + dy.up());
                }
            }
        }
    });
}

/// `out = x[index]` in each plane: the gradient of [`scatter`]. 0 for a window that covers no place.
pub(crate) fn gather<T: Float>(planes: usize, in_size: usize, out_size: usize, x: &[T], index: &[u32], out: &mut [T]) {
    assert_eq!(x.len(), planes * in_size);
    assert_eq!(out.len(), planes * out_size);
    assert_eq!(index.len(), out.len());
    if out_size == 0 {
        return;
    }
    let per_task = (GRAIN / out_size).max(1);
    parallel::chunks(out, per_task * out_size, |first, out| {
        for (p, out) in out.chunks_mut(out_size).enumerate() {
            let p = first / out_size + p;
            let x = &x[p * in_size..][..in_size];
            for (out, &i) in out.iter_mut().zip(&index[p * out_size..]) {
                *out = x.get(i as usize).copied().unwrap_or_default();
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::bf16;

    /// Each window by its definition.
    fn naive(s: &PoolShape, x: &[f64]) -> (Vec<f64>, Vec<u32>) {
        windows(s)
            .map(|(plane, places)| {
                let mut best = (f64::NEG_INFINITY, NOWHERE);
                for &p in &places {
                    let v = x[plane * s.in_size() + p];
                    if best.1 == NOWHERE || v > best.0 || (v.is_nan() && !best.0.is_nan()) {
                        best = (v, p as u32);
                    }
                }
                best
            })
            .unzip()
    }

    fn check<T: Float>(s: &PoolShape, x: &[f64]) {
        let x: Vec<T> = x.iter().map(|&v| T::from_f64(v)).collect();
        let n = s.planes * s.out_size();
        let (mut out, mut index) = (vec![T::default(); n], vec![7; n]);
        max_forward(s, &x, &mut out, Some(&mut index));
        let wide: Vec<f64> = x.iter().map(|v| v.to_f64()).collect();
        let (values, places) = naive(s, &wide);
        same(&out, &values, 0.0);
        assert_eq!(index, places, "{s:?}");
        out.fill(T::from_f64(7.0));
        max_forward(s, &x, &mut out, None);
        same(&out, &values, 0.0);

        let dy: Vec<f64> = (0..n).map(|i| (i % 5) as f64 - 1.0).collect();
        let mut dx = vec![T::from_f64(9.0); x.len()];
        let dy_t: Vec<T> = dy.iter().map(|&v| T::from_f64(v)).collect();
        scatter(s.planes, s.in_size(), s.out_size(), &dy_t, &index, &mut dx);
        let mut expected = vec![0.0; x.len()];
        for (i, (&g, &p)) in dy.iter().zip(&places).enumerate().filter(|(_, (_, p))| **p != NOWHERE) {
            expected[i / s.out_size() * s.in_size() + p as usize] += g;
        }
        same(&dx, &expected, 0.0);

        gather(s.planes, s.in_size(), s.out_size(), &x, &index, &mut out);
        let expected: Vec<f64> =
            values.iter().zip(&places).map(|(&v, &p)| if p == NOWHERE { 0.0 } else { v }).collect();
        same(&out, &expected, 0.0);
    }

    #[test]
    fn is_the_first_maximum_of_each_window() {
        for (s, mut x) in cases() {
            check::<f32>(&s, &x);
            // Ties, and then what has no order.
            x.iter_mut().for_each(|v| *v = v.round());
            check::<f64>(&s, &x);
            check::<bf16>(&s, &x);
            for (i, v) in x.iter_mut().enumerate() {
                *v = [*v, f64::NAN, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY][i * i % 13 % 5];
            }
            check::<f32>(&s, &x);
            x.fill(f64::NEG_INFINITY);
            check::<f32>(&s, &x);
        }
    }

    #[test]
    fn a_window_beside_the_input_is_empty() {
        let s = PoolShape {
            planes: 1,
            input: [1, 1, 1],
            output: [1, 1, 1],
            kernel: [1, 1, 2],
            stride: [1, 1, 2],
            padding: [0, 0, 1],
            dilation: [1, 1, 2],
        };
        check::<f32>(&s, &[3.0]);
    }
}
