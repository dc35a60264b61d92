//! Pooling: windows, then a reduction over each window.
//!
//! The definition, for max: pad with −∞, [`Tensor::windows`], maximum over the window dims. Here are the fused forms of
//! it, which never make the padded input; a test holds them equal to the definition, values and gradients. Shapes:
//! `[.., size..]` to `[.., (size + 2·padding − dilation·(kernel − 1) − 1) / stride + 1 ..]`, rounded up with
//! `ceil_mode`, where a last window that would start behind the input is dropped. Cost: one read of each window.

mod adaptive;
mod average;
mod max;
mod soft;

use super::conv::{last, padded, reach};
use crate::kernels::pool::PoolShape;
use crate::{Error, Result, Shape, Tensor};

/// How the windows of max and softmax pooling lie: the arguments of PyTorch's `max_pool1d` to `max_pool3d`.
///
/// ```
/// # use rushlight::PoolOptions;
/// let overlapping = PoolOptions { stride: Some([2, 2]), padding: [1, 1], ..Default::default() };
/// assert!(!overlapping.ceil_mode);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions<const N: usize> {
    /// The step from window to window. Default: the kernel, so that windows lie side by side.
    pub stride: Option<[usize; N]>,
    /// Places of −∞ at both ends, at most half the kernel. Default 0.
    pub padding: [usize; N],
    /// The distance of neighbouring places in a window. Default 1.
    pub dilation: [usize; N],
    /// Whether a last window that is only partly inside counts. Default no.
    pub ceil_mode: bool,
}

impl<const N: usize> Default for PoolOptions<N> {
    fn default() -> Self {
        PoolOptions { stride: None, padding: [0; N], dilation: [1; N], ceil_mode: false }
    }
}

/// How the windows of average pooling lie and what they are divided by: the arguments of PyTorch's `avg_pool1d` to `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPoolOptions<const N: usize> {
    /// The step from window to window. Default: the kernel, so that windows lie side by side.
    pub stride: Option<[usize; N]>,
    /// Zeros at both ends, at most half the kernel. Default 0.
    pub padding: [usize; N],
    /// Whether a last window that is only partly inside counts. Default no.
    pub ceil_mode: bool,
    /// Whether the zeros of the padding count as places to divide by. Default yes.
    pub count_include_pad: bool,
    /// What to divide by, instead of the number of places.
    pub divisor_override: Option<usize>,
}

impl<const N: usize> Default for AvgPoolOptions<N> {
    fn default() -> Self {
        AvgPoolOptions {
            stride: None,
            padding: [0; N],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }
}

/// The dims before the last `N`, and those.
fn cut<const N: usize>(op: &'static str, x: &Tensor) -> Result<(Shape, [usize; N])> {
    match x.rank().checked_sub(N) {
        Some(lead @ 1..=2) => Ok((Shape::from(&x.dims()[..lead]), std::array::from_fn(|d| x.dims()[lead + d]))),
        _ => {
            let message =
                format!("expected an input of {} dims, or {} without a batch, got shape {}", N + 2, N + 1, x.shape());
            Err(Error::invalid(op, message))
        }
    }
}

/// The windows over `x`, checked, and the shape of the output.
fn plan<const N: usize>(
    op: &'static str,
    x: &Tensor,
    kernel: [usize; N],
    options: PoolOptions<N>,
) -> Result<(PoolShape, Shape)> {
    let PoolOptions { stride, padding, dilation, ceil_mode } = options;
    let stride = stride.unwrap_or(kernel);
    let (lead, input) = cut::<N>(op, x)?;
    if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
        return Err(Error::invalid(op, "kernel, stride and dilation must be at least 1"));
    }
    let mut output = [0; N];
    for d in 0..N {
        if padding[d] > kernel[d] / 2 {
            let message = format!("padding {} is more than half the kernel {}", padding[d], kernel[d]);
            return Err(Error::invalid(op, message));
        }
        // Below 0 where the window is larger than the padded input, which ceil_mode forgives up to the stride.
        let more = if ceil_mode { stride[d] as i128 - 1 } else { 0 };
        let room = padded(input[d], padding[d]).zip(reach(kernel[d], dilation[d]).and_then(|r| padded(r, 0)));
        let room = room.map(|(size, reach)| size as i128 - reach as i128 + more);
        let Some(room) = room.filter(|&room| room >= 0 && input[d] > 0) else {
            let message = format!(
                "a window of {} places spaced {} does not fit in dim {} of shape {} with padding {}",
                kernel[d],
                dilation[d],
                x.rank() - N + d,
                x.shape(),
                padding[d]
            );
            return Err(Error::invalid(op, message));
        };
        let steps = (room / stride[d] as i128) as usize;
        // A last window that would start behind the input is left out.
        let behind = ceil_mode && steps.saturating_mul(stride[d]) >= input[d] + padding[d];
        output[d] = if behind { steps } else { steps + 1 };
    }
    let s = PoolShape {
        planes: lead.numel(),
        input: last(input, 1),
        output: last(output, 1),
        // Places behind the padded input are never seen: ceil_mode may let a kernel be much larger.
        kernel: last(std::array::from_fn::<_, N, _>(|d| kernel[d].min(input[d] + 2 * padding[d])), 1),
        stride: last(stride, 1),
        padding: last(padding, 0),
        dilation: last(dilation, 1),
    };
    let shape: Shape = lead.iter().copied().chain(output).collect();
    shape.checked_numel(op)?;
    Ok((s, shape))
}
