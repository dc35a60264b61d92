//! What the tests of this folder share: shapes, windows by their definition, comparison.

use super::PoolShape;
use crate::Element;
use crate::random::Generator;

pub fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut x = vec![0.0; n];
    Generator::new(seed).fill_uniform(&mut x, -3.0, 3.0);
    x
}

/// Equal, or as near as `tolerance`; NaN where NaN is expected.
#[track_caller]
pub fn same<T: Element>(got: &[T], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, &e)) in got.iter().zip(expected).enumerate() {
        let g = g.to_f64();
        let near = g == e || (g - e).abs() <= tolerance * (1.0 + e.abs()) || g.is_nan() && e.is_nan();
        assert!(near, "at {i}: {g} instead of {e}");
    }
}

pub fn each([depth, height, width]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..depth * height * width).map(move |i| (i / width / height, i / width % height, i % width))
}

/// For each output the plane and the places that its window covers, in order.
pub fn windows(s: &PoolShape) -> impl Iterator<Item = (usize, Vec<usize>)> {
    (0..s.planes).flat_map(move |plane| {
        each(s.output).map(move |(d, h, w)| {
            let place = |dim: usize, i: usize, k: usize| {
                let p = (i * s.stride[dim] + k * s.dilation[dim]) as isize - s.padding[dim] as isize;
                (0..s.input[dim] as isize).contains(&p).then_some(p as usize)
            };
            let inside = each(s.kernel).filter_map(|(a, b, c)| {
                let (d, h, w) = (place(0, d, a)?, place(1, h, b)?, place(2, w, c)?);
                Some((d * s.input[1] + h) * s.input[2] + w)
            });
            (plane, inside.collect())
        })
    })
}

/// Shapes of every kind, and an input for each.
pub fn cases() -> Vec<(PoolShape, Vec<f64>)> {
    let mut random_shape = Generator::new(5);
    let mut below = |n: u64| (random_shape.next_u64() % n) as usize;
    let mut cases = vec![];
    for case in 0..60 {
        let dims = case % 3;
        let (mut input, mut kernel, mut stride) = ([1; 3], [1; 3], [1; 3]);
        let (mut output, mut padding, mut dilation) = ([1; 3], [0; 3], [1; 3]);
        for d in 2 - dims..3 {
            kernel[d] = 1 + below(4);
            stride[d] = 1 + below(3);
            dilation[d] = 1 + below(2);
            padding[d] = below(kernel[d] as u64 / 2 + 1);
            let span = dilation[d] * (kernel[d] - 1) + 1;
            input[d] = span.saturating_sub(2 * padding[d]).max(1) + below(if dims == 0 { 60 } else { 12 });
            let room = input[d] + 2 * padding[d] - span;
            let ceil = below(2) == 1;
            output[d] = if ceil { room.div_ceil(stride[d]) } else { room / stride[d] } + 1;
            // PyTorch's rule: the last window starts inside the input or the padding before it.
            if ceil && (output[d] - 1) * stride[d] >= input[d] + padding[d] {
                output[d] -= 1;
            }
        }
        let s = PoolShape { planes: case % 4, input, output, kernel, stride, padding, dilation };
        let x = random(s.planes * s.in_size(), case as u64);
        cases.push((s, x));
    }
    for (i, (height, width)) in [(6, 16), (5, 19), (4, 32), (7, 57), (2, 94), (14, 14), (5, 8)].into_iter().enumerate()
    {
        let input = [1 + i % 2, height, width];
        // With `ceil_mode` the last row or column may be half outside.
        let output = [input[0], height.div_ceil(2), if i == 3 { width.div_ceil(2) } else { width / 2 }];
        let (kernel, stride) = ([1, 2, 2], [1, 2, 2]);
        let s = PoolShape { planes: 3, input, output, kernel, stride, padding: [0; 3], dilation: [1; 3] };
        cases.push((s, random(s.planes * s.in_size(), i as u64)));
    }
    // More than one task each, which begin within a plane.
    for (planes, kernel, padding) in [(5, [1, 3, 3], [0, 1, 1]), (6, [1, 2, 2], [0; 3])] {
        let (input, output) = ([1, 80, 90], [1, 40, 45]);
        let s = PoolShape { planes, input, output, kernel, stride: [1, 2, 2], padding, dilation: [1; 3] };
        cases.push((s, random(s.planes * s.in_size(), 8)));
    }
    cases
}
