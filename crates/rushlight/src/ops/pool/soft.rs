//! Between the mean and the maximum: Lp pooling and softmax pooling, made of other operations.

use super::average::avg_pool;
use super::{AvgPoolOptions, PoolOptions, plan};
use crate::ops::reduce::float_only;
use crate::{Error, Result, Tensor};

/// `(Σ xᵖ)^(1/p)` of each window, by the mean of `xᵖ`.
fn lp_pool<const N: usize>(
    op: &'static str,
    x: &Tensor,
    p: f64,
    kernel: [usize; N],
    stride: Option<[usize; N]>,
    ceil_mode: bool,
) -> Result<Tensor> {
    float_only(op, x)?;
    if !(p > 0.0 && p.is_finite()) {
        return Err(Error::invalid(op, format!("p = {p} is not a positive number (for p = ∞ use max pooling)")));
    }
    let places: f64 = kernel.iter().map(|&k| k as f64).product();
    let options = AvgPoolOptions { stride, ceil_mode, ..Default::default() };
    let sum = avg_pool(op, &x.powf(p)?, kernel, options)?.mul(places)?;
    if p == 1.0 {
        return Ok(sum);
    }
    // The root is infinitely steep at 0; a window of zeros gets the gradient 0, not ∞ · 0.
    let flat = sum.detach().eq(0.0)?;
    let root = flat.where_cond(&sum.ones_like()?, &sum)?.powf(1.0 / p)?;
    flat.where_cond(&sum.zeros_like()?, &root)
}

/// `Σ softmax(x) · x` over each window.
fn softmax_pool<const N: usize>(
    op: &'static str,
    x: &Tensor,
    kernel: [usize; N],
    options: PoolOptions<N>,
) -> Result<Tensor> {
    float_only(op, x)?;
    let (s, shape) = plan(op, x, kernel, options)?;
    let stride = options.stride.unwrap_or(kernel);
    // What the last window needs behind the input; less than nothing where it ends before.
    let amounts: Vec<(i64, i64)> = (0..N)
        .rev()
        .map(|d| {
            let (before, size) = (options.padding[d], x.dims()[x.rank() - N + d]);
            let end = (shape[shape.rank() - N + d] - 1) * stride[d] + options.dilation[d] * (kernel[d] - 1) + 1;
            (before as i64, end as i64 - (before + size) as i64)
        })
        .collect();
    debug_assert_eq!(s.planes, shape[..shape.rank() - N].iter().product::<usize>());
    let windows = |outside: f64| x.pad(&amounts, outside)?.windows(kernel, stride, options.dilation);
    // Outside, the weight is e^−∞ = 0 and the value 0, for 0 · ∞ has none.
    let (logits, values) = (windows(f64::NEG_INFINITY)?, windows(0.0)?);
    let dims: Vec<i64> = (-(N as i64)..0).collect();
    let total = logits.logsumexp(dims.clone())?;
    let total = (0..N).try_fold(total, |t, _| t.unsqueeze(-1))?;
    logits.sub(&total)?.exp()?.mul(&values)?.sum(dims)
}

/// The methods of one number of dims.
macro_rules! methods {
    ($n:literal, $lp:ident, $softmax:ident, $(#[$more:meta])*) => {
        impl Tensor {
            #[doc = concat!("`(Σ xᵖ)^(1/p)` of each window over the last ", stringify!($n), " dims of `[batch, channels, ..]`.")]
            ///
            /// `p = 1` sums, and a larger p comes nearer to the maximum. The batch may be missing, and the stride, which
            /// is then the kernel. A window that `ceil_mode` lets reach outside is scaled up to a whole one. The
            /// gradient at a window of zeros is 0.
            ///
            #[doc = concat!("PyTorch: `F.", stringify!($lp), "`. ")]
            /// Errors: a window larger than the input; p not positive; not a float dtype.
            pub fn $lp(&self, p: f64, kernel: [usize; $n], stride: Option<[usize; $n]>, ceil_mode: bool) -> Result<Tensor> {
                lp_pool(stringify!($lp), self, p, kernel, stride, ceil_mode)
            }

            #[doc = concat!("`Σ softmax(x)·x` of each window over the last ", stringify!($n), " dims of `[batch, channels, ..]`: the soft max pooling.")]
            ///
            /// Every place of a window gets a part of the gradient, the larger the more. Of `t·x`, divided by `t`, it
            /// comes to max pooling as t grows, and to the mean as t goes to 0. The batch may be missing.
            ///
            $(#[$more])*
            /// PyTorch: none. Errors: as max pooling.
            pub fn $softmax(&self, kernel: [usize; $n], options: PoolOptions<$n>) -> Result<Tensor> {
                softmax_pool(stringify!($softmax), self, kernel, options)
            }
        }
    };
}

methods!(1, lp_pool1d, softmax_pool1d,);
methods!(
    2, lp_pool2d, softmax_pool2d,
    /// ```
    /// # use rushlight::Tensor;
    /// let image = Tensor::new([[[0.0f32, 0.0, -50.0, 50.0], [0.0, 0.0, 0.0, 0.0]]])?; // [channels, height, width]
    /// let y = image.softmax_pool2d([2, 2], Default::default())?;
    /// assert_eq!(y.to_vec::<f32>()?, [0.0, 50.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
);
methods!(3, lp_pool3d, softmax_pool3d,);
