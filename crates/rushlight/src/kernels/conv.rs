//! Convolution over up to three spatial dims, and its two gradients.
//!
//! ```text
//! y[b, co, o] = bias[co] + Σ over ci and k of  x[b, ci, stride · o + dilation · k − padding] · w[co, ci, k]
//! ```
//!
//! with o and k triples of indices, x zero outside, and ci the channels of co's group. It is linear in x and in w, and
//! [`input_grad`] and [`weight_grad`] are the transposes in each; the transposed convolution is [`input_grad`]. All
//! three cost `2 · batch · c_out · c_in / groups · taps · output` operations.
//!
//! No columns are made of the image (im2col): tiles of sums read a padded copy of a piece of it in place, once for each
//! tap (`tile`), which moves `1 / taps` as much memory. Kernels of one tap that skip nothing are matrix products; 3 × 3
//! taps over many channels of f32 take a quarter of the operations (`winograd`).
//! Halves are computed in f32 and rounded once.

mod axis;
mod gather;
mod plain;
mod plan;
mod rows;
mod tile;
mod weight;
mod winograd;

use axis::Dim;
use plain::{same, same_mut};
use plan::Pass;
pub(crate) use tile::Tiled;

use super::gemm::{Mat, MatMul, MatMut, gemm, gemm_here};
use super::parallel;
use crate::Result;
use crate::dtype::Float;

/// A limit of size; a small one in tests, so that small convolutions are cut into as many pieces.
const fn limit(size: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { size }
}

/// The sizes of a convolution. Those of one and two dims have leading sizes of 1 (padding 0).
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

impl ConvShape {
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Input and output channels of a group.
    fn group_channels(&self) -> [usize; 2] {
        [self.c_in / self.groups, self.c_out / self.groups]
    }

    fn dim(&self, d: usize) -> Dim {
        let (kernel, stride) = (self.kernel[d], self.stride[d]);
        Dim { kernel, stride, padding: self.padding[d], dilation: self.dilation[d] }
    }

    /// Whether each output is a product of the input at its own place.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3] && self.padding == [0; 3] && self.input == self.output
    }

    #[track_caller]
    fn check<T>(&self, x: &[T], w: &[T], y: &[T]) {
        assert!(self.groups > 0 && self.c_in.is_multiple_of(self.groups) && self.c_out.is_multiple_of(self.groups));
        assert!([self.kernel, self.stride, self.dilation].iter().flatten().all(|size| *size > 0));
        assert_eq!(x.len(), self.batch * self.c_in * self.input.iter().product::<usize>());
        assert_eq!(y.len(), self.batch * self.c_out * self.output.iter().product::<usize>());
        assert_eq!(w.len(), self.c_out * (self.c_in / self.groups) * self.taps());
    }
}

/// `out` `[batch, c_out, output]` from `x` `[batch, c_in, input]`, `w` `[c_out, c_in / groups, kernel]`, `bias` `[c_out]`.
pub(crate) fn forward<T>(s: &ConvShape, x: &[T], w: &[T], bias: Option<&[T]>, out: &mut [T]) -> Result<()>
where
    T: MatMul + Float<Compute: Tiled>,
{
    s.check(x, w, out);
    assert!(bias.is_none_or(|b| b.len() == s.c_out));
    if !s.is_pointwise() || s.c_in == 0 {
        if winograd::fits(s)
            && let (Some(x), Some(w), Some(out)) = (same(x), same(w), same_mut(out))
            && winograd::forward(s, x, w, bias.and_then(same), out)?
        {
            return Ok(());
        }
        return Pass::forward(s).run(x, w, bias, out);
    }
    if let Some(bias) = bias {
        let area = s.output.iter().product::<usize>().max(1);
        parallel::chunks(out, area, |at, out| out.fill(bias[at / area % s.c_out]));
    }
    pointwise(s, [s.c_in, s.c_out], x, w, false, out, bias.is_some());
    Ok(())
}

/// `dx` `[batch, c_in, input]` from `dy` `[batch, c_out, output]`.
pub(crate) fn input_grad<T>(s: &ConvShape, dy: &[T], w: &[T], dx: &mut [T]) -> Result<()>
where
    T: MatMul + Float<Compute: Tiled>,
{
    s.check(dx, w, dy);
    if !s.is_pointwise() || s.c_out == 0 {
        if winograd::fits(s)
            && let (Some(dy), Some(w), Some(dx)) = (same(dy), same(w), same_mut(dx))
            && winograd::input_grad(s, dy, w, dx)?
        {
            return Ok(());
        }
        return Pass::transposed(s).run(dy, w, None, dx);
    }
    pointwise(s, [s.c_out, s.c_in], dy, w, true, dx, false);
    Ok(())
}

/// `dw` `[c_out, c_in / groups, kernel]` from `x` and `dy`.
pub(crate) fn weight_grad<T>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()>
where
    T: MatMul + Float<Compute: Tiled>,
{
    s.check(x, dw, dy);
    if winograd::fits(s)
        && let (Some(x), Some(dy), Some(dw)) = (same(x), same(dy), same_mut(dw))
        && winograd::weight_grad(s, x, dy, dw)?
    {
        return Ok(());
    }
    weight::run(s, x, dy, dw)
}

/// `to[b, g] = w[g] · from[b, g]`, or with `w[g]` transposed, added to what is there where `accumulate`.
fn pointwise<T: MatMul>(
    s: &ConvShape,
    channels: [usize; 2],
    from: &[T],
    w: &[T],
    transposed: bool,
    to: &mut [T],
    accumulate: bool,
) {
    let [read, made] = channels.map(|c| c / s.groups);
    let area: usize = s.output.iter().product();
    if to.is_empty() {
        return;
    }
    let product = |i: usize, to: &mut [T], multiply: fn(MatMut<T>, Mat<T>, Mat<T>, bool)| {
        let w = &w[i % s.groups * read * made..][..read * made];
        let w = if transposed { Mat::row_major(w, read, made).t() } else { Mat::row_major(w, made, read) };
        let from = Mat::row_major(&from[i * read * area..][..read * area], read, area);
        multiply(MatMut::row_major(to, made, area), w, from, accumulate);
    };
    // Threads share out the samples, or, of few samples, each product.
    if s.batch * s.groups >= 8 {
        parallel::chunks(to, made * area, |at, to| product(at / (made * area), to, gemm_here));
    } else {
        to.chunks_exact_mut(made * area).enumerate().for_each(|(i, to)| product(i, to, gemm));
    }
}

#[cfg(test)]
mod tests;
