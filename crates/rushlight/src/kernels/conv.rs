//! Convolution by its definition: the three products of `x`, `w` and `dy`, one multiplication at a time.
//!
//! `y[b, co, o] = bias[co] + Σ x[b, ci, o·stride − padding + k·dilation] · w[co, ci, k]` over the channels `ci` of the
//! group of `co` and the places `k` of the kernel. The two gradients are the same sum, collected elsewhere.

use crate::{Float, Real, Result};

/// The sizes of a convolution; with fewer than three dims the leading ones are 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvShape {
    pub batch: usize,
    pub groups: usize,
    pub c_in: usize,
    pub c_out: usize,
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub padding: [usize; 3],
    pub dilation: [usize; 3],
}

fn size(dims: [usize; 3]) -> usize {
    dims.iter().product()
}

fn each(dims: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..size(dims)).map(move |i| [i / dims[2] / dims[1], i / dims[2] % dims[1], i % dims[2]])
}

fn place(at: [usize; 3], dims: [usize; 3]) -> usize {
    (at[0] * dims[1] + at[1]) * dims[2] + at[2]
}

impl ConvShape {
    /// Calls `f(place in x, place in w, place in y)` for each product of the sum.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (ins, outs) = (self.c_in / self.groups, self.c_out / self.groups);
        for o in each(self.output) {
            for k in each(self.kernel) {
                let at: [usize; 3] = std::array::from_fn(|d| {
                    (o[d] * self.stride[d] + k[d] * self.dilation[d]).wrapping_sub(self.padding[d])
                });
                if (0..3).any(|d| at[d] >= self.input[d]) {
                    continue;
                }
                for (b, co, ci) in each([self.batch, self.c_out, ins]).map(|[b, co, ci]| (b, co, ci)) {
                    f(
                        (b * self.c_in + co / outs * ins + ci) * size(self.input) + place(at, self.input),
                        (co * ins + ci) * size(self.kernel) + place(k, self.kernel),
                        (b * self.c_out + co) * size(self.output) + place(o, self.output),
                    );
                }
            }
        }
    }
}

fn write<T: Float>(sums: Vec<T::Compute>, out: &mut [T]) {
    assert_eq!(sums.len(), out.len());
    out.iter_mut().zip(sums).for_each(|(o, s)| *o = T::down(s));
}

/// `out = conv(x, w) + bias`
pub(crate) fn forward<T: Float>(s: &ConvShape, x: &[T], w: &[T], bias: Option<&[T]>, out: &mut [T]) -> Result<()> {
    let area = size(s.output);
    let start = |i: usize| bias.map_or(T::Compute::ZERO, |b| b[i / area % s.c_out].up());
    let mut sums: Vec<T::Compute> = (0..out.len()).map(start).collect();
    s.products(|i, j, k| sums[k] += x[i].up() * w[j].up());
    write(sums, out);
    Ok(())
}

/// `dx`, the gradient by `x`: the transposed convolution of `dy`
pub(crate) fn input_grad<T: Float>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T]) -> Result<()> {
    let mut sums = vec![T::Compute::ZERO; dx.len()];
    s.products(|i, j, k| sums[i] += dy[k].up() * w[j].up());
    write(sums, dx);
    Ok(())
}

/// `dw`, the gradient by `w`
pub(crate) fn weight_grad<T: Float>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()> {
    let mut sums = vec![T::Compute::ZERO; dw.len()];
    s.products(|i, j, k| sums[j] += dy[k].up() * x[i].up());
    write(sums, dw);
    Ok(())
}
