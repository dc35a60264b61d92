//! Average pooling: the mean of each window. It is linear, so its gradient, spread over the window, has it as its own.

use std::sync::Arc;

use super::{AvgPoolOptions, PoolOptions, plan};
use crate::autograd::record;
use crate::dtype::each_float;
use crate::kernels::pool::{self, PoolShape};
use crate::{Error, Result, Shape, Tensor};

/// Average pooling whose sizes are checked.
struct Average {
    op: &'static str,
    s: PoolShape,
    count_include_pad: bool,
    divisor: Option<f64>,
    x: Shape,
    y: Shape,
}

impl Average {
    /// The mean of each window.
    fn mean(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        let (op, include) = (self.op, self.count_include_pad);
        let data = x.detach().packed()?;
        let y = each_float!(op, x.dtype(), T => {
            let data = data.slice::<T>(op)?;
            Tensor::build(op, self.y.clone(), |y: &mut [T]| pool::avg_forward(&self.s, data, y, include, self.divisor))?
        });
        let plan = self.clone();
        record(op, y, &[x], move |dy| plan.spread(dy))
    }

    /// Each output, divided, added to the places of its window.
    fn spread(self: &Arc<Self>, y: &Tensor) -> Result<Tensor> {
        let (op, include) = (self.op, self.count_include_pad);
        let data = y.detach().packed()?;
        let x = each_float!(op, y.dtype(), T => {
            let data = data.slice::<T>(op)?;
            Tensor::build(op, self.x.clone(), |x: &mut [T]| pool::avg_backward(&self.s, data, x, include, self.divisor))?
        });
        let plan = self.clone();
        record(op, x, &[y], move |dx| plan.mean(dx))
    }
}

pub(super) fn avg_pool<const N: usize>(
    op: &'static str,
    x: &Tensor,
    kernel: [usize; N],
    options: AvgPoolOptions<N>,
) -> Result<Tensor> {
    let AvgPoolOptions { stride, padding, ceil_mode, count_include_pad, divisor_override } = options;
    if divisor_override == Some(0) {
        return Err(Error::invalid(op, "divisor_override is 0"));
    }
    let (s, y) = plan(op, x, kernel, PoolOptions { stride, padding, dilation: [1; N], ceil_mode })?;
    let divisor = divisor_override.map(|d| d as f64);
    Arc::new(Average { op, s, count_include_pad, divisor, x: x.shape().clone(), y }).mean(x)
}

/// The methods of one number of dims.
macro_rules! methods {
    ($n:literal, $avg:ident, $(#[$more:meta])*) => {
        impl Tensor {
            #[doc = concat!("The mean of each window over the last ", stringify!($n), " dims of `[batch, channels, ..]`.")]
            ///
            /// The batch may be missing. A window is divided by `divisor_override`, else by the number of its places in
            /// the padded input, or in the input itself without `count_include_pad`.
            ///
            $(#[$more])*
            #[doc = concat!("PyTorch: `F.", stringify!($avg), "`. ")]
            /// Errors: a window larger than the padded input; a padding of more than half the kernel; a divisor of 0;
            /// not a float dtype.
            pub fn $avg(&self, kernel: [usize; $n], options: AvgPoolOptions<$n>) -> Result<Tensor> {
                avg_pool(stringify!($avg), self, kernel, options)
            }
        }
    };
}

methods!(1, avg_pool1d,);
methods!(
    2, avg_pool2d,
    /// ```
    /// # use rushlight::Tensor;
    /// let image = Tensor::new([[[1.0f32, 5.0, 2.0, 0.0], [3.0, 3.0, 0.0, 10.0]]])?; // [channels, height, width]
    /// let y = image.avg_pool2d([2, 2], Default::default())?;
    /// assert_eq!(y.to_vec::<f32>()?, [3.0, 3.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
);
methods!(3, avg_pool3d,);
