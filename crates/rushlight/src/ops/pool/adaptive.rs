//! Adaptive average pooling: the output size is given, the windows follow.

use std::sync::Arc;

use super::{cut, last};
use crate::autograd::record;
use crate::dtype::each_float;
use crate::kernels::pool;
use crate::{Error, Result, Shape, Tensor};

/// The dims before the last `N`, and those: none may be empty, unless no output asks for it.
pub(super) fn check<const N: usize>(op: &'static str, x: &Tensor, output: [usize; N]) -> Result<(Shape, [usize; N])> {
    let (lead, input) = cut::<N>(op, x)?;
    if input.contains(&0) {
        return Err(Error::invalid(op, format!("shape {} has no places to pool", x.shape())));
    }
    let fits = output.iter().zip(input).all(|(o, n)| o.checked_add(1).and_then(|o| o.checked_mul(n)).is_some());
    if !fits {
        return Err(Error::invalid(op, format!("output size {output:?} is too large")));
    }
    Ok((lead, input))
}

struct Adaptive {
    op: &'static str,
    planes: usize,
    input: [usize; 3],
    output: [usize; 3],
    x: Shape,
    y: Shape,
}

impl Adaptive {
    /// The mean of each window.
    fn mean(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        let op = self.op;
        let data = x.detach().packed()?;
        let y = each_float!(op, x.dtype(), T => {
            let data = data.slice::<T>(op)?;
            Tensor::build(op, self.y.clone(), |y: &mut [T]| {
                pool::adaptive_avg_forward(self.planes, self.input, self.output, data, y);
            })?
        });
        let plan = self.clone();
        record(op, y, &[x], move |dy| plan.spread(dy))
    }

    /// Each output, divided, added to the places of its window.
    fn spread(self: &Arc<Self>, y: &Tensor) -> Result<Tensor> {
        let op = self.op;
        let data = y.detach().packed()?;
        let x = each_float!(op, y.dtype(), T => {
            let data = data.slice::<T>(op)?;
            Tensor::build(op, self.x.clone(), |x: &mut [T]| {
                pool::adaptive_avg_backward(self.planes, self.input, self.output, data, x);
            })?
        });
        let plan = self.clone();
        record(op, x, &[y], move |dx| plan.mean(dx))
    }
}

fn adaptive<const N: usize>(op: &'static str, x: &Tensor, output: [usize; N]) -> Result<Tensor> {
    let (lead, input) = check(op, x, output)?;
    let y: Shape = lead.iter().copied().chain(output).collect();
    y.checked_numel(op)?;
    let (input, output) = (last(input, 1), last(output, 1));
    Arc::new(Adaptive { op, planes: lead.numel(), input, output, x: x.shape().clone(), y }).mean(x)
}

/// The methods of one number of dims.
macro_rules! methods {
    ($n:literal, $avg:ident, $(#[$more:meta])*) => {
        impl Tensor {
            /// The mean of windows that cut each dim into the given number of parts.
            ///
            /// Output `i` of a dim covers the places from `⌊i·size/output⌋` to `⌈(i + 1)·size/output⌉`, so windows may
            /// overlap and differ by one in size.
            ///
            $(#[$more])*
            #[doc = concat!("PyTorch: `F.", stringify!($avg), "`. ")]
            /// Errors: an empty dim to pool; not a float dtype.
            pub fn $avg(&self, output: [usize; $n]) -> Result<Tensor> {
                adaptive(stringify!($avg), self, output)
            }
        }
    };
}

methods!(
    1, adaptive_avg_pool1d,
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([[1.0f32, 2.0, 3.0]])?; // [channels, length]
    /// assert_eq!(x.adaptive_avg_pool1d([2])?.to_vec::<f32>()?, [1.5, 2.5]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
);
methods!(2, adaptive_avg_pool2d,);
methods!(3, adaptive_avg_pool3d,);
