//! Average pooling.
//!
//! PyTorch: `avg_pool1d` to `avg_pool3d`. A window is divided by `divisor_override`; else by the number of places it
//! has in the padded input (`count_include_pad`; the part that `ceil_mode` lets it reach further does not count); else
//! by the number it has in the input.

use super::{PoolShape, Rows, run};
use crate::kernels::parallel::{self, GRAIN};
use crate::kernels::simd::dispatch;
use crate::{Float, Real};

/// What each window is divided by.
struct Divisor {
    fixed: Option<f64>,
    /// For each dim and output, how many places count.
    counts: [Vec<f64>; 3],
}

impl Divisor {
    fn new(s: &PoolShape, count_include_pad: bool, divisor_override: Option<f64>) -> Divisor {
        let counts = std::array::from_fn(|dim| {
            let (input, padding) = (s.input[dim], s.padding[dim]);
            let (from, to) = if count_include_pad { (0, input + 2 * padding) } else { (padding, input + padding) };
            let count = |i: usize| {
                let start = i * s.stride[dim];
                (start + s.kernel[dim]).min(to).saturating_sub(start.max(from)) as f64
            };
            (0..s.output[dim]).map(count).collect()
        });
        Divisor { fixed: divisor_override, counts }
    }

    /// Of the windows of output row `(d, h)`.
    #[inline(always)]
    fn row<C: Real>(&self, d: usize, h: usize) -> impl Iterator<Item = C> {
        let scale = C::of(self.counts[0][d] * self.counts[1][h]);
        let fixed = self.fixed.map(C::of);
        self.counts[2].iter().map(
            #[inline(always)]
            move |&count| fixed.unwrap_or(scale * C::of(count)),
        )
    }
}

/// The average of each window; 0 for one that covers no place of the input.
pub(crate) fn avg_forward<T: Float>(
    s: &PoolShape,
    x: &[T],
    out: &mut [T],
    count_include_pad: bool,
    divisor_override: Option<f64>,
) {
    s.check(x.len(), out.len());
    if out.is_empty() {
        return;
    }
    assert_eq!(s.dilation, [1; 3]);
    let (width, size) = (s.output[2], s.in_size());
    let divisor = Divisor::new(s, count_include_pad, divisor_override);
    let passes = s.passes();
    let below = Rows::of(s);
    let rows = s.rows_per_task();
    parallel::chunks(out, rows * width, |first, out| {
        let mut sums = vec![T::Compute::ZERO; width];
        dispatch(
            #[inline(always)]
            || {
                for (r, out) in out.chunks_mut(width).enumerate() {
                    let (plane, d, h) = s.place(first / width + r);
                    let plane = &x[plane * size..][..size];
                    sums.fill(T::Compute::ZERO);
                    below.each(
                        d,
                        h,
                        #[inline(always)]
                        |start| {
                            let row = &plane[start..][..s.input[2]];
                            for pass in &passes {
                                run(
                                    pass,
                                    s.stride[2],
                                    row,
                                    sums[pass.outputs.clone()].iter_mut(),
                                    #[inline(always)]
                                    |sum, _, inputs| inputs.iter().for_each(|v| *sum += v.up()),
                                );
                            }
                        },
                    );
                    for ((out, &sum), by) in out.iter_mut().zip(&sums).zip(divisor.row(d, h)) {
                        // A window that covers no place may also have a divisor of 0.
                        *out = T::down(if by == T::Compute::ZERO { by } else { sum / by });
                    }
                }
            },
        );
    });
}

/// The gradient of [`avg_forward`]: each place gets `dy / divisor` of every window that covers it.
pub(crate) fn avg_backward<T: Float>(
    s: &PoolShape,
    dy: &[T],
    dx: &mut [T],
    count_include_pad: bool,
    divisor_override: Option<f64>,
) {
    s.check(dx.len(), dy.len());
    if dx.is_empty() {
        return;
    }
    assert_eq!(s.dilation, [1; 3]);
    let (width, size, stride) = (s.output[2], s.in_size(), s.stride[2]);
    let [depth, height, _] = s.output;
    let divisor = Divisor::new(s, count_include_pad, divisor_override);
    let passes = s.passes();
    let below = Rows::of(s);
    let planes = (GRAIN / size.max(1)).max(1);
    // Windows side by side: what a place gets is written and not added.
    let tiled = s.stride == s.kernel && s.padding == [0; 3] && (2..=3).contains(&stride) && passes.len() == 1;
    let covered = tiled && (0..3).all(|d| s.output[d] * s.kernel[d] == s.input[d]);
    parallel::chunks(dx, planes * size, |first, dx| {
        let mut part = vec![T::Compute::ZERO; width];
        dispatch(
            #[inline(always)]
            || {
                for (p, dx) in dx.chunks_mut(size).enumerate() {
                    let dy = &dy[(first / size + p) * s.out_size()..][..s.out_size()];
                    if !covered {
                        dx.fill(T::default());
                    }
                    for row in 0..depth * height {
                        let (d, h) = (row / height, row % height);
                        for ((part, dy), by) in part.iter_mut().zip(&dy[row * width..]).zip(divisor.row(d, h)) {
                            *part = dy.up() / by;
                        }
                        below.each(
                            d,
                            h,
                            #[inline(always)]
                            |start| {
                                let row = &mut dx[start..][..s.input[2]];
                                match stride {
                                    2 if tiled => return repeat::<T, 2>(&part, row),
                                    3 if tiled => return repeat::<T, 3>(&part, row),
                                    _ => {}
                                }
                                for pass in &passes {
                                    let part = &part[pass.outputs.clone()];
                                    match stride {
                                        1 => spread(pass.taps, 1, part, &mut row[pass.first..]),
                                        2 => spread(pass.taps, 2, part, &mut row[pass.first..]),
                                        _ => spread(pass.taps, stride, part, &mut row[pass.first..]),
                                    }
                                }
                            },
                        );
                    }
                }
            },
        );
    });
}

/// `row[j·K + k] = part[j]` for each k below K.
#[inline(always)]
fn repeat<T: Float, const K: usize>(part: &[T::Compute], row: &mut [T]) {
    for (dx, &part) in row.as_chunks_mut::<K>().0.iter_mut().zip(part) {
        *dx = [T::down(part); K];
    }
}

/// `row[j·stride + k] += part[j]` for each of the taps.
#[inline(always)]
fn spread<T: Float>(taps: usize, stride: usize, part: &[T::Compute], row: &mut [T]) {
    for k in 0..taps {
        for (dx, &part) in row[k..].iter_mut().step_by(stride).zip(part) {
            *dx = T::down(dx.up() + part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::f16;

    fn naive(s: &PoolShape, include: bool, by: Option<f64>) -> Vec<(usize, Vec<usize>, f64)> {
        // The padded input's own coordinates: what lies beyond it never counts.
        let count = |dim: usize, i: usize| {
            let places = (0..s.kernel[dim]).map(|k| i * s.stride[dim] + k);
            let inside = |p: &usize| *p >= s.padding[dim] && *p < s.padding[dim] + s.input[dim];
            places.filter(|p| if include { *p < s.input[dim] + 2 * s.padding[dim] } else { inside(p) }).count()
        };
        let [depth, height, width] = s.output;
        let divisor = |i: usize| {
            let i = i % s.out_size();
            count(0, i / width / height % depth) * count(1, i / width % height) * count(2, i % width)
        };
        let places = windows(s).enumerate();
        places.map(|(i, (plane, places))| (plane, places, by.unwrap_or(divisor(i) as f64))).collect()
    }

    fn check<T: Float>(s: &PoolShape, x: &[f64], include: bool, by: Option<f64>, tolerance: f64) {
        let x_t: Vec<T> = x.iter().map(|&v| T::from_f64(v)).collect();
        let mut out = vec![T::default(); s.planes * s.out_size()];
        avg_forward(s, &x_t, &mut out, include, by);
        let dy: Vec<f64> = (0..out.len()).map(|i| (i % 7) as f64 - 2.0).collect();
        let dy_t: Vec<T> = dy.iter().map(|&v| T::from_f64(v)).collect();
        let mut dx = vec![T::from_f64(9.0); x.len()];
        avg_backward(s, &dy_t, &mut dx, include, by);

        let (mut values, mut grads) = (vec![], vec![0.0; x.len()]);
        for ((plane, places, by), dy) in naive(s, include, by).into_iter().zip(dy) {
            let at = plane * s.in_size();
            let sum: f64 = places.iter().map(|p| x_t[at + p].to_f64()).sum();
            values.push(if places.is_empty() { 0.0 } else { sum / by });
            places.iter().for_each(|p| grads[at + p] += dy / by);
        }
        same(&out, &values, tolerance);
        same(&dx, &grads, tolerance);
    }

    #[test]
    fn divides_as_documented() {
        for (s, x) in cases() {
            let s = PoolShape { dilation: [1; 3], ..s };
            for (include, by) in [(true, None), (false, None), (true, Some(3.0))] {
                check::<f64>(&s, &x, include, by, 1e-13);
                check::<f32>(&s, &x, include, by, 1e-5);
                check::<f16>(&s, &x, include, by, 4e-2);
            }
        }
    }

    #[test]
    fn counts_padding_but_not_what_lies_beyond() {
        // torch.nn.functional.avg_pool1d(torch.arange(1., 7)[None], 3, stride=2, padding=1, ceil_mode=True)
        let s = PoolShape {
            planes: 1,
            input: [1, 1, 6],
            output: [1, 1, 4],
            kernel: [1, 1, 3],
            stride: [1, 1, 2],
            padding: [0, 0, 1],
            dilation: [1; 3],
        };
        let mut out = [0f32; 4];
        avg_forward(&s, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut out, true, None);
        assert_eq!(out, [1.0, 3.0, 5.0, 3.0]);
        avg_forward(&s, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut out, false, None);
        assert_eq!(out, [1.5, 3.0, 5.0, 6.0]);
    }

    #[test]
    fn nan_and_infinity_stay() {
        let s = PoolShape {
            planes: 1,
            input: [1, 1, 6],
            output: [1, 1, 3],
            kernel: [1, 1, 2],
            stride: [1, 1, 2],
            padding: [0; 3],
            dilation: [1; 3],
        };
        let mut out = [0f32; 3];
        avg_forward(&s, &[f32::NAN, 1.0, f32::INFINITY, 1.0, f32::INFINITY, f32::NEG_INFINITY], &mut out, true, None);
        assert!(out[0].is_nan() && out[1] == f32::INFINITY && out[2].is_nan());
    }
}
