//! Convolution and transposed convolution, in one, two and three dims.
//!
//! `y[b, co, o] = bias[co] + Σ_{ci, k} x[b, ci, o·stride − padding + k·dilation] · w[co, ci, k]`, where `o` and `k` run
//! over one to three dims, `ci` over the channels of the group of `co`, and `x` is 0 outside.
//!
//! Without its bias this is linear in `x` and linear in `w`. So there are three products: y of (x, w), dx of (dy, w),
//! which is the transposed convolution, and dw of (x, dy); the gradients of each are the other two, to any order.
//! Cost: `2 · numel(y) · channels/groups · numel(kernel)` operations each.

use std::sync::Arc;

use crate::autograd::record;
use crate::dtype::each_float;
use crate::kernels::conv::{self, ConvShape};
use crate::ops::binary::when_tracked;
use crate::{Error, Result, Shape, Tensor};

/// How a convolution in `N` dims moves: the arguments of PyTorch's `conv1d` to `conv3d`.
///
/// ```
/// # use rushlight::ConvOptions;
/// let halving = ConvOptions { stride: [2, 2], padding: [1, 1], ..Default::default() };
/// assert_eq!((halving.dilation, halving.groups), ([1, 1], 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions<const N: usize> {
    /// The step from one output to the next, in the input. Default 1.
    pub stride: [usize; N],
    /// Zeros added at both ends. Default 0.
    pub padding: [usize; N],
    /// The distance of neighbouring kernel places, in the input. Default 1.
    pub dilation: [usize; N],
    /// The channels are cut into so many groups, each convolved by itself. Default 1.
    pub groups: usize,
}

impl<const N: usize> Default for ConvOptions<N> {
    fn default() -> Self {
        ConvOptions { stride: [1; N], padding: [0; N], dilation: [1; N], groups: 1 }
    }
}

/// How a transposed convolution in `N` dims moves: the arguments of PyTorch's `conv_transpose1d` to `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTransposeOptions<const N: usize> {
    /// The step from one input to the next, in the output. Default 1.
    pub stride: [usize; N],
    /// Places cut from both ends of the output. Default 0.
    pub padding: [usize; N],
    /// Places added to the far end of the output: several input sizes of a strided convolution have one output size.
    /// Default 0.
    pub output_padding: [usize; N],
    /// The distance of neighbouring kernel places, in the output. Default 1.
    pub dilation: [usize; N],
    /// The channels are cut into so many groups, each convolved by itself. Default 1.
    pub groups: usize,
}

impl<const N: usize> Default for ConvTransposeOptions<N> {
    fn default() -> Self {
        ConvTransposeOptions { stride: [1; N], padding: [0; N], output_padding: [0; N], dilation: [1; N], groups: 1 }
    }
}

/// A convolution whose sizes are checked: what the three products share.
struct Plan {
    op: &'static str,
    s: ConvShape,
    x: Shape,
    w: Shape,
    y: Shape,
}

impl Plan {
    /// y of (x, w)
    fn output(self: &Arc<Self>, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let op = self.op;
        let parts = [x.detach().packed()?, w.detach().packed()?];
        let packed_bias = bias.map(|b| b.detach().packed()).transpose()?;
        let y = each_float!(op, x.dtype(), T => {
            let (x, w) = (parts[0].slice::<T>(op)?, parts[1].slice::<T>(op)?);
            let bias = packed_bias.as_ref().map(|b| b.slice::<T>(op)).transpose()?;
            fill(op, &self.y, |y: &mut [T]| conv::forward(&self.s, x, w, bias, y))?
        });
        let inputs = [Some(x), Some(w), bias];
        let inputs: Vec<&Tensor> = inputs.into_iter().flatten().collect();
        let saved: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
        let (plan, spatial) = (self.clone(), self.w.rank() - 2);
        record(op, y, &inputs, move |dy| {
            let [x, w] = [&saved[0], &saved[1]];
            let mut grads = vec![when_tracked(x, || plan.input(dy, w))?, when_tracked(w, || plan.weight(x, dy))?];
            if let Some(bias) = saved.get(2) {
                let channel = dy.rank() - 1 - spatial;
                let others: Vec<usize> = (0..dy.rank()).filter(|&d| d != channel).collect();
                grads.push(when_tracked(bias, || dy.sum(others))?);
            }
            Ok(grads)
        })
    }

    /// x of (y, w): the transposed convolution, and the gradient by x
    fn input(self: &Arc<Self>, y: &Tensor, w: &Tensor) -> Result<Tensor> {
        let op = self.op;
        let parts = [y.detach().packed()?, w.detach().packed()?];
        let x = each_float!(op, y.dtype(), T => {
            let (y, w) = (parts[0].slice::<T>(op)?, parts[1].slice::<T>(op)?);
            fill(op, &self.x, |x: &mut [T]| conv::input_grad(&self.s, y, w, x))?
        });
        let (plan, y, w) = (self.clone(), y.clone(), w.clone());
        record(op, x, &[&y.clone(), &w.clone()], move |dx| {
            Ok([when_tracked(&y, || plan.output(dx, &w, None))?, when_tracked(&w, || plan.weight(dx, &y))?])
        })
    }

    /// w of (x, y): the gradient by w
    fn weight(self: &Arc<Self>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let op = self.op;
        let parts = [x.detach().packed()?, y.detach().packed()?];
        let w = each_float!(op, x.dtype(), T => {
            let (x, y) = (parts[0].slice::<T>(op)?, parts[1].slice::<T>(op)?);
            fill(op, &self.w, |w: &mut [T]| conv::weight_grad(&self.s, x, y, w))?
        });
        let (plan, x, y) = (self.clone(), x.clone(), y.clone());
        record(op, w, &[&x.clone(), &y.clone()], move |dw| {
            Ok([when_tracked(&x, || plan.input(&y, dw))?, when_tracked(&y, || plan.output(&x, dw, None))?])
        })
    }
}

/// [`Tensor::build`] with a kernel that may be refused memory.
fn fill<T: crate::Element>(
    op: &'static str,
    shape: &Shape,
    write: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<Tensor> {
    let mut outcome = Ok(());
    let out = Tensor::build(op, shape.clone(), |out| outcome = write(out))?;
    outcome.map(|()| out)
}

/// `N` sizes as the last of three.
pub(super) fn last<const N: usize>(sizes: [usize; N], before: usize) -> [usize; 3] {
    std::array::from_fn(|d| if d + N < 3 { before } else { sizes[d + N - 3] })
}

/// The spatial sizes of an input `[batch, channels, ..]` or `[channels, ..]`, the lead before the channels, and those.
fn cut<const N: usize>(op: &'static str, x: &Tensor) -> Result<(Shape, usize, [usize; N])> {
    match (x.rank().checked_sub(N + 1), x.dims()) {
        (Some(lead @ 0..=1), dims) => {
            Ok((Shape::from(&dims[..lead]), dims[lead], std::array::from_fn(|d| dims[lead + 1 + d])))
        }
        _ => {
            let message =
                format!("expected an input of {} dims, or {} without a batch, got shape {}", N + 2, N + 1, x.shape());
            Err(Error::invalid(op, message))
        }
    }
}

/// What both directions ask of weight, groups and options; gives the kernel sizes.
fn check<const N: usize>(
    op: &'static str,
    w: &Tensor,
    stride: [usize; N],
    dilation: [usize; N],
    groups: usize,
) -> Result<[usize; N]> {
    if stride.contains(&0) || dilation.contains(&0) || groups == 0 {
        return Err(Error::invalid(op, "stride, dilation and groups must be at least 1"));
    }
    if w.rank() != N + 2 {
        return Err(Error::invalid(op, format!("expected a weight of {} dims, got shape {}", N + 2, w.shape())));
    }
    let kernel = std::array::from_fn(|d| w.dims()[2 + d]);
    if kernel.contains(&0) {
        return Err(Error::invalid(op, format!("the kernel of weight {} is empty", w.shape())));
    }
    if !w.dims()[0].is_multiple_of(groups) {
        let message = format!("{groups} groups do not divide the {} channels of weight {}", w.dims()[0], w.shape());
        return Err(Error::invalid(op, message));
    }
    Ok(kernel)
}

fn check_bias(op: &'static str, bias: Option<&Tensor>, channels: usize) -> Result<()> {
    match bias {
        Some(b) if b.dims() != [channels] => {
            let message = format!("expected a bias of shape [{channels}], one per output channel, got {}", b.shape());
            Err(Error::invalid(op, message))
        }
        _ => Ok(()),
    }
}

/// `dilation · (kernel − 1) + 1`, the places of the input from the first to the last that a window sees.
pub(super) fn reach(kernel: usize, dilation: usize) -> Option<usize> {
    dilation.checked_mul(kernel - 1)?.checked_add(1)
}

/// The input with zeros at both ends.
pub(super) fn padded(size: usize, padding: usize) -> Option<usize> {
    padding.checked_mul(2)?.checked_add(size).filter(|&s| s <= isize::MAX as usize / 16)
}

/// The lead (batch or nothing), channels and spatial sizes as one shape.
fn joined<const N: usize>(lead: &Shape, channels: usize, sizes: [usize; N]) -> Shape {
    lead.iter().copied().chain([channels]).chain(sizes).collect()
}

fn convolve<const N: usize>(
    op: &'static str,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    options: ConvOptions<N>,
) -> Result<Tensor> {
    let ConvOptions { mut stride, padding, dilation, groups } = options;
    let kernel = check(op, w, stride, dilation, groups)?;
    let (lead, c_in, input) = cut::<N>(op, x)?;
    if w.dims()[1].checked_mul(groups) != Some(c_in) {
        let message = format!(
            "input {} has {c_in} channels, weight {} with {groups} groups takes {}",
            x.shape(),
            w.shape(),
            w.dims()[1].saturating_mul(groups)
        );
        return Err(Error::invalid(op, message));
    }
    let mut output = [0; N];
    for d in 0..N {
        let room = padded(input[d], padding[d]).zip(reach(kernel[d], dilation[d])).and_then(|(p, r)| p.checked_sub(r));
        let room = room.ok_or_else(|| {
            let message = format!(
                "a kernel of {} places spaced {} is larger than spatial dim {d} of input {} with {} zeros at both ends",
                kernel[d],
                dilation[d],
                x.shape(),
                padding[d]
            );
            Error::invalid(op, message)
        })?;
        // A step that is never taken may be any number: one that just leaves the input will do.
        stride[d] = stride[d].min(room + 1);
        output[d] = room / stride[d] + 1;
    }
    let c_out = w.dims()[0];
    check_bias(op, bias, c_out)?;
    let dtype = x.dtype().promote(w.dtype());
    let plan = Plan {
        op,
        s: ConvShape {
            batch: lead.numel(),
            groups,
            c_in,
            c_out,
            input: last(input, 1),
            output: last(output, 1),
            kernel: last(kernel, 1),
            stride: last(stride, 1),
            padding: last(padding, 0),
            dilation: last(dilation, 1),
        },
        x: x.shape().clone(),
        w: w.shape().clone(),
        y: joined(&lead, c_out, output),
    };
    plan.y.checked_numel(op)?;
    let bias = bias.map(|b| b.to_dtype(dtype)).transpose()?;
    Arc::new(plan).output(&x.to_dtype(dtype)?, &w.to_dtype(dtype)?, bias.as_ref())
}

fn transposed<const N: usize>(
    op: &'static str,
    y: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    options: ConvTransposeOptions<N>,
) -> Result<Tensor> {
    let ConvTransposeOptions { mut stride, padding, output_padding, dilation, groups } = options;
    let kernel = check(op, w, stride, dilation, groups)?;
    let (lead, channels, input) = cut::<N>(op, y)?;
    if channels != w.dims()[0] {
        let message =
            format!("input {} has {channels} channels, weight {} takes {}", y.shape(), w.shape(), w.dims()[0]);
        return Err(Error::invalid(op, message));
    }
    let (mut output, mut wanted) = ([0; N], [0; N]);
    for d in 0..N {
        if output_padding[d] >= stride[d].max(dilation[d]) {
            let message = format!(
                "output_padding {} must be smaller than stride {} or dilation {}",
                output_padding[d], stride[d], dilation[d]
            );
            return Err(Error::invalid(op, message));
        }
        // (input − 1) · stride + reach + output_padding − 2 · padding
        let reach = reach(kernel[d], dilation[d]);
        let whole = input[d].checked_sub(1).and_then(|n| n.checked_mul(stride[d])).zip(reach);
        let whole = whole.and_then(|(a, b)| a.checked_add(b)?.checked_add(output_padding[d]));
        let size = whole.zip(padding[d].checked_mul(2)).and_then(|(a, b)| a.checked_sub(b)).filter(|&s| s > 0);
        output[d] = size.ok_or_else(|| {
            let message = format!(
                "spatial dim {d} of the output would have no places: input {}, kernel {}, stride {}, padding {}",
                y.shape(),
                kernel[d],
                stride[d],
                padding[d]
            );
            Error::invalid(op, message)
        })?;
        // The size that the convolution of such an output has: that of the input, or more if output_padding ≥ stride.
        wanted[d] = input[d] + output_padding[d] / stride[d];
        if wanted[d] == 1 {
            stride[d] = stride[d].min(output_padding[d] + 1);
        }
    }
    let c_out = w.dims()[1].checked_mul(groups).ok_or_else(|| Error::invalid(op, "too many channels"))?;
    check_bias(op, bias, c_out)?;
    let dtype = y.dtype().promote(w.dtype());
    // Zeros behind the input add nothing to the output.
    let behind: Vec<(i64, i64)> = (0..N).rev().map(|d| (0, (wanted[d] - input[d]) as i64)).collect();
    let y = if wanted == input { y.to_dtype(dtype)? } else { y.to_dtype(dtype)?.pad(&behind, 0.0)? };
    let plan = Plan {
        op,
        s: ConvShape {
            batch: lead.numel(),
            groups,
            c_in: c_out,
            c_out: channels,
            input: last(output, 1),
            output: last(wanted, 1),
            kernel: last(kernel, 1),
            stride: last(stride, 1),
            padding: last(padding, 0),
            dilation: last(dilation, 1),
        },
        x: joined(&lead, c_out, output),
        w: w.shape().clone(),
        y: y.shape().clone(),
    };
    plan.x.checked_numel(op)?;
    let x = Arc::new(plan).input(&y, &w.to_dtype(dtype)?)?;
    match bias {
        Some(bias) => x.add(&bias.to_dtype(dtype)?.reshape(joined(&Shape::from(&[][..]), c_out, [1; N]))?),
        None => Ok(x),
    }
}

/// The methods of one number of dims.
macro_rules! methods {
    ($n:literal, $conv:ident, $transpose:ident, $(#[$more:meta])*) => {
        impl Tensor {
            #[doc = concat!("Convolution over the last ", stringify!($n), " dims of `[batch, channels, ..]`.")]
            ///
            /// `weight` is `[out channels, channels / groups, kernel..]`, `bias` `[out channels]`, and the output
            /// `[batch, out channels, ..]` of `(size + 2·padding − dilation·(kernel − 1) − 1) / stride + 1` places in
            /// each dim. The batch may be missing. `y = bias + Σ x·w` over each window (no kernel is turned round);
            /// `dx` is the transposed convolution of `dy`.
            ///
            $(#[$more])*
            #[doc = concat!("PyTorch: `F.", stringify!($conv), "`. ")]
            /// Errors: a kernel larger than the padded input; channels that do not match; groups that do not divide
            /// the channels; not a float dtype.
            pub fn $conv(&self, weight: &Tensor, bias: Option<&Tensor>, options: ConvOptions<$n>) -> Result<Tensor> {
                convolve(stringify!($conv), self, weight, bias, options)
            }

            #[doc = concat!("Transposed convolution: the gradient of [`Tensor::", stringify!($conv), "`] by its input.")]
            ///
            /// `weight` is `[channels, out channels / groups, kernel..]`; each input adds the kernel times its value to
            /// the output, of `(size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1` places in
            /// each dim. The batch may be missing.
            ///
            #[doc = concat!("PyTorch: `F.", stringify!($transpose), "`. ")]
            /// Errors: channels that do not match; an `output_padding` of stride and dilation or more; an output
            /// without places; not a float dtype.
            pub fn $transpose(
                &self,
                weight: &Tensor,
                bias: Option<&Tensor>,
                options: ConvTransposeOptions<$n>,
            ) -> Result<Tensor> {
                transposed(stringify!($transpose), self, weight, bias, options)
            }
        }
    };
}

methods!(1, conv1d, conv_transpose1d,);
methods!(
    2, conv2d, conv_transpose2d,
    /// ```
    /// # use rushlight::{ConvOptions, DType, Tensor};
    /// let image = Tensor::arange(0.0, 9.0, 1.0, DType::F32)?.reshape([1, 1, 3, 3])?;
    /// let edge = Tensor::new([[[[-1.0f32, 1.0]]]])?; // what changes from left to right
    /// let y = image.conv2d(&edge, None, ConvOptions::default())?;
    /// assert_eq!(y.dims(), [1, 1, 3, 2]);
    /// assert_eq!(y.to_vec::<f32>()?, [1.0; 6]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
);
methods!(3, conv3d, conv_transpose3d,);
