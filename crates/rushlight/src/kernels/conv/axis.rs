//! Where the taps of a kernel fall along one dim, and the zero-padded copy ("slab") of the input that they fall in.
//!
//! In a slab, the element that tap `k` brings to place `p` lies at `at[p] + tap[k]`: a sum of two tables, for the
//! convolution as for its transpose. With stride `s` the transpose has `s` classes of places, each met by its own taps:
//! `x[i]` is touched by `y[o]` through tap `k` where `i + padding = s·o + dilation·k`.

use std::ops::Range;

use crate::dtype::Float;

/// The places of a piece of one output dim and the taps, within the slab.
#[derive(Debug)]
pub(super) struct Axis {
    /// Where the slab begins in the input; may lie before it.
    pub origin: isize,
    /// Elements of the slab.
    pub size: usize,
    /// The slab holds every `split`-th element together: 0, s, 2s, …, then 1, s + 1, …
    pub split: usize,
    pub classes: Vec<Class>,
}

/// Places that meet the same taps.
#[derive(Debug, Default)]
pub(super) struct Class {
    /// Of each tap: its index in the kernel and its offset in the slab.
    pub taps: Vec<(usize, usize)>,
    /// Of each place: its offset in the slab and its index in the output.
    pub at: Vec<(usize, usize)>,
}

/// Stride, padding and dilation of a kernel along one dim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dim {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Dim {
    /// The convolution's places `outputs`, a part of a piece `len` long.
    pub(super) fn forward(self, outputs: Range<usize>, len: usize, split: bool) -> Axis {
        let Dim { kernel, stride, padding, dilation } = self;
        let origin = (outputs.start * stride) as isize - padding as isize;
        let reach = (kernel - 1) * dilation;
        let size = (len - 1) * stride + reach + 1;
        let split = if split { stride } else { 1 };
        let (size, part) = (size.next_multiple_of(split), size.div_ceil(split));
        let place = |i: usize| i % split * part + i / split;
        let taps = (0..kernel).map(|k| (k, place(k * dilation))).collect();
        let at = outputs.clone().map(|o| (place((o - outputs.start) * stride), o)).collect();
        Axis { origin, size, split, classes: vec![Class { taps, at }] }
    }

    /// The transpose's places `inputs`, a part of a piece `len` long; pieces start at multiples of the stride.
    pub(super) fn backward(self, inputs: Range<usize>, len: usize) -> Axis {
        let Dim { kernel, stride, padding, dilation } = self;
        let first = (inputs.start + padding) / stride;
        let reach = (kernel - 1) * dilation / stride;
        let mut classes: Vec<Class> = (0..stride).map(|_| Class::default()).collect();
        for k in 0..kernel {
            classes[k * dilation % stride].taps.push((k, reach - k * dilation / stride));
        }
        for i in inputs.clone() {
            classes[(i + padding) % stride].at.push(((i + padding) / stride - first, i));
        }
        let size = (inputs.start + len - 1 + padding) / stride - first + reach + 1;
        Axis { origin: first as isize - reach as isize, size, split: 1, classes }
    }
}

/// Elements of a slab's channel.
pub(super) fn area(axes: &[Axis; 3]) -> usize {
    axes.iter().map(|a| a.size).product()
}

/// Where the taps of each channel lie in the slab, the last dim's fastest.
pub(super) fn taps(axes: &[Axis; 3], classes: [&Class; 3], channels: usize) -> impl Iterator<Item = usize> {
    let [planes, rows, cols] = classes;
    let [depth, height, width] = axes.each_ref().map(|a| a.size);
    (0..channels).flat_map(move |c| {
        planes.taps.iter().flat_map(move |d| {
            let plane = c * depth + d.1;
            rows.taps.iter().flat_map(move |h| {
                let row = (plane * height + h.1) * width;
                cols.taps.iter().map(move |w| row + w.1)
            })
        })
    })
}

/// Fills a slab from `channels` of `x` `[channels, size]`, with zeros around.
pub(super) fn fill<T: Float>(slab: &mut [T::Compute], x: &[T], size: [usize; 3], axes: &[Axis; 3]) {
    let [planes, rows, cols] = axes;
    let zero = <T::Compute as Default>::default();
    let inside = |axis: &Axis, i: usize, size: usize| {
        let i = axis.origin + i as isize;
        (0..size as isize).contains(&i).then_some(i as usize)
    };
    if size.contains(&0) {
        return slab.fill(zero);
    }
    let channels = x.chunks_exact(size[0] * size[1] * size[2]);
    for (slab, x) in slab.chunks_exact_mut(planes.size * rows.size * cols.size).zip(channels) {
        for (d, slab) in slab.chunks_exact_mut(rows.size * cols.size).enumerate() {
            for (h, slab) in slab.chunks_exact_mut(cols.size).enumerate() {
                match (inside(planes, d, size[0]), inside(rows, h, size[1])) {
                    (Some(d), Some(h)) => fill_row(slab, &x[(d * size[1] + h) * size[2]..][..size[2]], cols),
                    _ => slab.fill(zero),
                }
            }
        }
    }
}

fn fill_row<T: Float>(slab: &mut [T::Compute], x: &[T], cols: &Axis) {
    let zero = <T::Compute as Default>::default();
    let split = cols.split as isize;
    for (phase, slab) in slab.chunks_exact_mut(cols.size / cols.split).enumerate() {
        // slab[p] = x[start + p · split], where that lies in the row.
        let start = cols.origin + phase as isize;
        let before = (-start).max(0).cast_unsigned().div_ceil(cols.split).min(slab.len());
        let from = (start + before as isize * split).cast_unsigned();
        let here = x.len().saturating_sub(from).div_ceil(cols.split).min(slab.len() - before);
        let (left, rest) = slab.split_at_mut(before);
        let (middle, right) = rest.split_at_mut(here);
        left.fill(zero);
        if split == 1 {
            middle.iter_mut().zip(&x[from.min(x.len())..]).for_each(|(s, x)| *s = x.up());
        } else {
            middle.iter_mut().zip(x[from.min(x.len())..].iter().step_by(cols.split)).for_each(|(s, x)| *s = x.up());
        }
        right.fill(zero);
    }
}
