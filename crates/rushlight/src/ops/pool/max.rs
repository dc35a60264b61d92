//! Max pooling: the largest of each window. Its gradient goes to the first place that holds it.

use std::sync::Arc;

use super::{PoolOptions, plan};
use crate::autograd::{record, tracks};
use crate::dtype::each_float;
use crate::kernels::pool::{self, PoolShape};
use crate::storage::Buffer;
use crate::{Error, Result, Shape, Tensor};

/// Where in its input plane each output comes from, and the shapes of both sides.
struct Places {
    op: &'static str,
    index: Buffer<u32>,
    planes: usize,
    /// Places of an input plane and of an output plane.
    sizes: [usize; 2],
    x: Shape,
    y: Shape,
}

impl Places {
    /// Outputs added to the places they come from.
    fn scatter(self: &Arc<Self>, y: &Tensor) -> Result<Tensor> {
        let (op, [n, m]) = (self.op, self.sizes);
        let data = y.detach().packed()?;
        let x = each_float!(op, y.dtype(), T => {
            let data = data.slice::<T>(op)?;
            Tensor::build(op, self.x.clone(), |x: &mut [T]| pool::scatter(self.planes, n, m, data, &self.index, x))?
        });
        let places = self.clone();
        record(op, x, &[y], move |dx| places.gather(dx))
    }

    /// What lies at the places: the adjoint of [`Places::scatter`].
    fn gather(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        let (op, [n, m]) = (self.op, self.sizes);
        let data = x.detach().packed()?;
        let y = each_float!(op, x.dtype(), T => {
            let data = data.slice::<T>(op)?;
            Tensor::build(op, self.y.clone(), |y: &mut [T]| pool::gather(self.planes, n, m, data, &self.index, y))?
        });
        let places = self.clone();
        record(op, y, &[x], move |dy| places.scatter(dy))
    }

    /// As i64, −1 where a window covers no place of the input.
    fn tensor(&self) -> Result<Tensor> {
        let mut out = Buffer::<i64>::try_scratch(self.index.len(), self.op)?;
        let signed = |i: u32| if (i as usize) < self.sizes[0] { i as i64 } else { -1 };
        out.iter_mut().zip(&*self.index).for_each(|(o, &i)| *o = signed(i));
        Ok(Tensor::from_buffer(out, self.y.clone()))
    }
}

/// `y` with its gradient, and the places its elements come from.
fn recorded(x: &Tensor, y: Tensor, places: Places) -> Result<(Tensor, Arc<Places>)> {
    let places = Arc::new(places);
    let kept = places.clone();
    Ok((record(places.op, y, &[x], move |dy| kept.scatter(dy))?, places))
}

/// An error where an index within a plane does not fit in u32.
fn addressable(op: &'static str, input: [usize; 3]) -> Result<usize> {
    let size: usize = input.iter().product();
    if size >= u32::MAX as usize {
        return Err(Error::invalid(op, format!("planes of {size} elements are too large to be indexed")));
    }
    Ok(size)
}

fn values(op: &'static str, x: &Tensor, s: &PoolShape, y: &Shape, index: Option<&mut [u32]>) -> Result<Tensor> {
    let data = x.detach().packed()?;
    each_float!(op, x.dtype(), T => {
        let data = data.slice::<T>(op)?;
        Tensor::build(op, y.clone(), |y: &mut [T]| pool::max_forward(s, data, y, index))
    })
}

fn max_pool<const N: usize>(
    op: &'static str,
    x: &Tensor,
    kernel: [usize; N],
    options: PoolOptions<N>,
) -> Result<Tensor> {
    if tracks(&[x]) {
        return Ok(max_pool_indexed(op, x, kernel, options)?.0);
    }
    let (s, y) = plan(op, x, kernel, options)?;
    addressable(op, s.input)?;
    values(op, x, &s, &y, None)
}

fn max_pool_indexed<const N: usize>(
    op: &'static str,
    x: &Tensor,
    kernel: [usize; N],
    options: PoolOptions<N>,
) -> Result<(Tensor, Arc<Places>)> {
    let (s, shape) = plan(op, x, kernel, options)?;
    let sizes = [addressable(op, s.input)?, s.output.iter().product()];
    let mut index = Buffer::try_indices(shape.checked_numel(op)?, op)?;
    let y = values(op, x, &s, &shape, Some(&mut index))?;
    recorded(x, y, Places { op, index, planes: s.planes, sizes, x: x.shape().clone(), y: shape })
}

fn adaptive<const N: usize>(op: &'static str, x: &Tensor, output: [usize; N]) -> Result<(Tensor, Arc<Places>)> {
    let (lead, input) = super::adaptive::check(op, x, output)?;
    let (input, out3) = (super::last(input, 1), super::last(output, 1));
    let sizes = [addressable(op, input)?, out3.iter().product()];
    let shape: Shape = lead.iter().copied().chain(output).collect();
    let mut index = Buffer::try_indices(shape.checked_numel(op)?, op)?;
    let data = x.detach().packed()?;
    let planes = lead.numel();
    let y = each_float!(op, x.dtype(), T => {
        let data = data.slice::<T>(op)?;
        Tensor::build(op, shape.clone(), |y: &mut [T]| {
            pool::adaptive_max_forward(planes, input, out3, data, y, &mut index);
        })?
    });
    recorded(x, y, Places { op, index, planes, sizes, x: x.shape().clone(), y: shape })
}

/// The methods of one number of dims.
macro_rules! methods {
    ($n:literal, $max:ident, $with:ident, $adaptive:ident, $adaptive_with:ident, $(#[$more:meta])*) => {
        impl Tensor {
            #[doc = concat!("The largest of each window over the last ", stringify!($n), " dims of `[batch, channels, ..]`.")]
            ///
            /// The batch may be missing. At a tie the gradient goes to the first of the largest; NaN wins. The soft
            /// form is softmax pooling.
            ///
            $(#[$more])*
            #[doc = concat!("PyTorch: `F.", stringify!($max), "`. ")]
            /// Errors: a window larger than the padded input; a padding of more than half the kernel; not a float
            /// dtype.
            pub fn $max(&self, kernel: [usize; $n], options: PoolOptions<$n>) -> Result<Tensor> {
                max_pool(stringify!($max), self, kernel, options)
            }

            #[doc = concat!("[`Tensor::", stringify!($max), "`] and where each largest lies, as a flat i64 index in its plane.")]
            ///
            /// The index is −1 where dilation leaves a window no place of the input (and the largest is −∞).
            ///
            #[doc = concat!("PyTorch: `F.", stringify!($max), "(return_indices=True)`.")]
            pub fn $with(&self, kernel: [usize; $n], options: PoolOptions<$n>) -> Result<(Tensor, Tensor)> {
                let (y, places) = max_pool_indexed(stringify!($max), self, kernel, options)?;
                Ok((y, places.tensor()?))
            }

            /// The largest of windows that cut each dim into the given number of parts.
            ///
            /// Output `i` of a dim covers the places from `⌊i·size/output⌋` to `⌈(i + 1)·size/output⌉`.
            ///
            #[doc = concat!("PyTorch: `F.", stringify!($adaptive), "`. ")]
            /// Errors: an empty dim to pool; not a float dtype.
            pub fn $adaptive(&self, output: [usize; $n]) -> Result<Tensor> {
                Ok(adaptive(stringify!($adaptive), self, output)?.0)
            }

            #[doc = concat!("[`Tensor::", stringify!($adaptive), "`] and where each largest lies, as a flat i64 index in its plane.")]
            ///
            #[doc = concat!("PyTorch: `F.", stringify!($adaptive), "(return_indices=True)`.")]
            pub fn $adaptive_with(&self, output: [usize; $n]) -> Result<(Tensor, Tensor)> {
                let (y, places) = adaptive(stringify!($adaptive), self, output)?;
                Ok((y, places.tensor()?))
            }
        }
    };
}

methods!(1, max_pool1d, max_pool1d_with_indices, adaptive_max_pool1d, adaptive_max_pool1d_with_indices,);
methods!(
    2, max_pool2d, max_pool2d_with_indices, adaptive_max_pool2d, adaptive_max_pool2d_with_indices,
    /// ```
    /// # use rushlight::Tensor;
    /// let image = Tensor::new([[[1.0f32, 5.0, 2.0, 0.0], [3.0, 4.0, 0.0, 9.0]]])?; // [channels, height, width]
    /// let y = image.max_pool2d([2, 2], Default::default())?;
    /// assert_eq!(y.to_vec::<f32>()?, [5.0, 9.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
);
methods!(3, max_pool3d, max_pool3d_with_indices, adaptive_max_pool3d, adaptive_max_pool3d_with_indices,);
