//! Pooling to a given output size: output `i` of a dim covers the places from `⌊i·in/out⌋` to `⌈(i + 1)·in/out⌉`, so
//! windows may overlap and differ by one in size.
//!
//! PyTorch: `adaptive_avg_pool1d` to `3d`, `adaptive_max_pool1d` to `3d`. The gradient of the maximum is
//! [`scatter`](super::scatter).

use std::ops::Range;

use super::max::{NOWHERE, wins};
use crate::kernels::lanes;
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Float, Real};

fn size(dims: [usize; 3]) -> usize {
    dims.iter().product()
}

/// The window of output `i`, in each dim.
#[inline(always)]
fn window(input: [usize; 3], output: [usize; 3], i: usize) -> [Range<usize>; 3] {
    let [depth, height, width] = output;
    let at = [i / width / height % depth, i / width % height, i % width];
    std::array::from_fn(|d| at[d] * input[d] / output[d]..((at[d] + 1) * input[d]).div_ceil(output[d]))
}

/// The rows of a window, as ranges of the plane; one range where they follow each other without a gap.
#[inline(always)]
fn runs(input: [usize; 3], [d, h, w]: [Range<usize>; 3]) -> impl Iterator<Item = Range<usize>> {
    let [_, height, width] = input;
    let wide = w.len() == width;
    let whole = wide && h.len() == height;
    let (depths, rows) = (if whole { 1 } else { d.len() }, if wide { 1 } else { h.len() });
    let len = if whole {
        d.len() * height * width
    } else if wide {
        h.len() * width
    } else {
        w.len()
    };
    (0..depths).flat_map(move |i| {
        let (d, h, w) = (d.start + i, h.start, w.start);
        (0..rows).map(move |j| {
            let start = (d * height + h + j) * width + w;
            start..start + len
        })
    })
}

/// Inputs that one output sees, about.
fn work(input: [usize; 3], output: [usize; 3]) -> usize {
    (size(input) / size(output).max(1)).max(1)
}

/// The average of each window.
pub(crate) fn adaptive_avg_forward<T: Float>(
    planes: usize,
    input: [usize; 3],
    output: [usize; 3],
    x: &[T],
    out: &mut [T],
) {
    let (in_size, out_size) = (size(input), size(output));
    assert_eq!(x.len(), planes * in_size);
    assert_eq!(out.len(), planes * out_size);
    parallel::chunks(out, GRAIN / work(input, output), |first, out| {
        dispatch(
            #[inline(always)]
            || {
                for (i, out) in out.iter_mut().enumerate() {
                    let i = first + i;
                    let plane = &x[i / out_size * in_size..][..in_size];
                    let window = window(input, output, i % out_size);
                    let count = T::Compute::of(window.iter().map(|r| r.len()).product::<usize>() as f64);
                    let mut total = T::Compute::ZERO;
                    runs(input, window).for_each(|run| total += lanes::sum(&plane[run], |v| v.up()));
                    *out = T::down(total / count);
                }
            },
        );
    });
}

/// The gradient of [`adaptive_avg_forward`]: each place gets `dy / count` of every window that covers it.
pub(crate) fn adaptive_avg_backward<T: Float>(
    planes: usize,
    input: [usize; 3],
    output: [usize; 3],
    dy: &[T],
    dx: &mut [T],
) {
    let (in_size, out_size) = (size(input), size(output));
    assert_eq!(dx.len(), planes * in_size);
    assert_eq!(dy.len(), planes * out_size);
    if in_size == 0 {
        return;
    }
    let per_task = (GRAIN / in_size).max(1) * in_size;
    parallel::chunks(dx, per_task, |first, dx| {
        dispatch(
            #[inline(always)]
            || {
                for (p, dx) in dx.chunks_mut(in_size).enumerate() {
                    dx.fill(T::default());
                    for (i, dy) in dy[(first / in_size + p) * out_size..][..out_size].iter().enumerate() {
                        let window = window(input, output, i);
                        let count = T::Compute::of(window.iter().map(|r| r.len()).product::<usize>() as f64);
                        let part = dy.up() / count;
                        runs(input, window).for_each(|run| {
                            dx[run].iter_mut().for_each(|dx| *dx = T::down(dx.up() + part));
                        });
                    }
                }
            },
        );
    });
}

/// The maximum of each window and its flat place within the plane: the first one; the first NaN where there is one.
pub(crate) fn adaptive_max_forward<T: Float>(
    planes: usize,
    input: [usize; 3],
    output: [usize; 3],
    x: &[T],
    out: &mut [T],
    index: &mut [u32],
) {
    let (in_size, out_size) = (size(input), size(output));
    assert_eq!(x.len(), planes * in_size);
    assert_eq!(out.len(), planes * out_size);
    assert_eq!(index.len(), out.len());
    assert!(in_size < NOWHERE as usize && (in_size > 0 || out.is_empty()));
    let per_task = (GRAIN / work(input, output)).max(1);
    parallel::chunks2((out, per_task), (index, per_task), |task, out, index| {
        dispatch(
            #[inline(always)]
            || {
                for (i, (out, index)) in out.iter_mut().zip(index).enumerate() {
                    let i = task * per_task + i;
                    let plane = &x[i / out_size * in_size..][..in_size];
                    let window = window(input, output, i % out_size);
                    let mut at = (window[0].start * input[1] + window[1].start) * input[2] + window[2].start;
                    runs(input, window).flatten().for_each(|i| at = if wins(plane[i], plane[at]) { i } else { at });
                    (*out, *index) = (plane[at], at as u32);
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::kernels::pool::scatter;

    fn covered(input: [usize; 3], output: [usize; 3]) -> Vec<Vec<usize>> {
        let span = |dim: usize, i: usize| {
            let ratio = |i: usize| (i * input[dim]) as f64 / output[dim] as f64;
            ratio(i).floor() as usize..ratio(i + 1).ceil() as usize
        };
        let mut all = vec![];
        for (d, h, w) in each(output) {
            let mut places = vec![];
            for d in span(0, d) {
                for h in span(1, h) {
                    places.extend(span(2, w).map(|w| (d * input[1] + h) * input[2] + w));
                }
            }
            all.push(places);
        }
        all
    }

    #[test]
    fn windows_are_those_of_the_definition() {
        let sizes = [
            ([1, 1, 7], [1, 1, 3]),
            ([1, 1, 3], [1, 1, 7]),
            ([1, 10, 9], [1, 1, 1]),
            ([1, 10, 9], [1, 4, 1]),
            ([1, 10, 9], [1, 4, 9]),
            ([3, 5, 4], [2, 3, 4]),
            ([3, 5, 4], [1, 1, 1]),
            ([2, 11, 70], [2, 1, 1]),
            ([1, 1, 1], [2, 2, 2]),
            ([1, 4, 4], [1, 0, 2]),
        ];
        // The last has more than one task.
        let large = (40, ([1, 50, 40], [1, 2, 1]));
        for (planes, (input, output)) in sizes.into_iter().enumerate().chain([large]) {
            let (n, m) = (planes * size(input), planes * size(output));
            let mut x = random(n, 3);
            let mut out = vec![0f64; m];
            adaptive_avg_forward(planes, input, output, &x, &mut out);
            let windows = covered(input, output);
            let mean = |(p, places): (usize, &Vec<usize>), x: &[f64]| {
                places.iter().map(|i| x[p * size(input) + i]).sum::<f64>() / places.len() as f64
            };
            let all = || (0..planes).flat_map(|p| windows.iter().map(move |w| (p, w)));
            same(&out, &all().map(|w| mean(w, &x)).collect::<Vec<_>>(), 1e-13);

            let dy = random(m, 4);
            let mut dx = vec![9f64; n];
            adaptive_avg_backward(planes, input, output, &dy, &mut dx);
            let mut expected = vec![0.0; n];
            for ((p, places), dy) in all().zip(&dy) {
                places.iter().for_each(|i| expected[p * size(input) + i] += dy / places.len() as f64);
            }
            same(&dx, &expected, 1e-13);

            x.iter_mut().enumerate().for_each(|(i, v)| *v = if i % 11 == 5 { f64::NAN } else { v.round() });
            let mut index = vec![0; m];
            adaptive_max_forward(planes, input, output, &x, &mut out, &mut index);
            scatter(planes, size(input), size(output), &dy, &index, &mut dx);
            expected.fill(0.0);
            for (i, (p, places)) in all().enumerate() {
                let mut best = places[0];
                for &j in places {
                    let (v, b) = (x[p * size(input) + j], x[p * size(input) + best]);
                    best = if v > b || v.is_nan() && !b.is_nan() { j } else { best };
                }
                assert_eq!(index[i] as usize, best);
                assert!(out[i].to_bits() == x[p * size(input) + best].to_bits());
                expected[p * size(input) + best] += dy[i];
            }
            same(&dx, &expected, 1e-13);
        }
    }
}
