//! Max, min and their arguments. The gradient of a maximum goes to the argmax alone; of several, to the first.

use crate::autograd::record;
use crate::dtype::each_dtype;
use crate::kernels::reduce;
use crate::ops::reduce::{cut, kept};
use crate::tensor::{Dim, Dims};
use crate::{Error, Result, Shape, Tensor};

impl Tensor {
    /// Values and indices of the extreme along `dim`, which keeps size 1; outside the graph.
    #[allow(clippy::bool_comparison)] // expanded for bool too, where false < true
    fn extreme(&self, op: &'static str, dim: usize, largest: bool) -> Result<(Tensor, Tensor)> {
        if self.dims()[dim] == 0 {
            let message = format!("dim {dim} of shape {} is empty: there is no largest or smallest", self.shape());
            return Err(Error::invalid(op, message));
        }
        let (x, shape) = (self.detach().packed()?, self.shape().with(dim, 1));
        let cut = cut(self.shape(), dim, dim + 1);
        each_dtype!(self.dtype(), T => {
            let x = x.slice::<T>(op)?;
            let mut index = crate::storage::Buffer::<i64>::try_scratch(shape.numel(), op)?;
            let values = Tensor::build(op, shape.clone(), |out: &mut [T]| {
                if largest {
                    reduce::extremum(x, cut, out, &mut index, |a, b| a > b);
                } else {
                    reduce::extremum(x, cut, out, &mut index, |a, b| a < b);
                }
            })?;
            Ok((values, Tensor::from_buffer(index, shape)))
        })
    }

    /// Values (tracked) and indices of the extreme along `dim`, which keeps size 1.
    fn extreme_keepdim(&self, op: &'static str, dim: impl Dim, largest: bool) -> Result<(Tensor, Tensor)> {
        if self.rank() == 0 {
            let (values, index) = self.reshape(1)?.extreme_keepdim(op, 0, largest)?;
            return Ok((values.reshape(())?, index.reshape(())?));
        }
        let dim = dim.index(op, self.shape())?;
        let (values, index) = self.extreme(op, dim, largest)?;
        if !values.dtype().is_float() {
            return Ok((values, index));
        }
        let (shape, at) = (self.shape().clone(), index.clone());
        let values =
            record(op, values, &[self], move |dy| Tensor::zeros(&shape, dy.dtype())?.scatter_add(dim, &at, dy))?;
        Ok((values, index))
    }

    fn extreme_dim(&self, op: &'static str, dim: impl Dim, largest: bool) -> Result<(Tensor, Tensor)> {
        let (values, index) = self.extreme_keepdim(op, dim, largest)?;
        if self.rank() == 0 {
            return Ok((values, index));
        }
        let shape = self.shape().without(dim.index(op, self.shape())?);
        Ok((values.reshape(&shape)?, index.reshape(shape)?))
    }

    /// The extreme over several dims, which keep size 1.
    fn extreme_dims(&self, op: &'static str, dims: &[usize], largest: bool) -> Result<Tensor> {
        let shape = kept(self.shape(), dims);
        if dims.is_empty() {
            return Ok(self.clone());
        }
        if let [dim] = dims {
            return Ok(self.extreme_keepdim(op, *dim, largest)?.0);
        }
        let order: Vec<usize> = (0..self.rank()).filter(|d| !dims.contains(d)).chain(dims.iter().copied()).collect();
        let lead = self.rank() - dims.len();
        let rows = self.permute(&order)?.flatten(lead, -1)?;
        rows.extreme_dim(op, lead, largest)?.0.reshape(shape)
    }

    fn amaxmin(&self, op: &'static str, dims: impl Dims, largest: bool) -> Result<Tensor> {
        let dims = dims.indices(op, self.shape())?;
        let shape: Shape = (0..self.rank()).filter(|d| !dims.contains(d)).map(|d| self.dims()[d]).collect();
        self.extreme_dims(op, &dims, largest)?.reshape(shape)
    }

    /// The largest element along `dim` and its index (the first of several); NaN is larger than everything.
    ///
    /// The gradient goes to that element alone. PyTorch: `max(dim)`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([[1.0f32, 5.0, 5.0]])?.requires_grad()?;
    /// let (value, index) = x.max(1)?;
    /// assert_eq!((value.item::<f32>()?, index.item::<i64>()?), (5.0, 1));
    /// let dx = value.sum(..)?.backward()?.remove(&x).unwrap();
    /// assert_eq!(dx.to_vec::<f32>()?, [0.0, 1.0, 0.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: an empty dim.
    pub fn max(&self, dim: impl Dim) -> Result<(Tensor, Tensor)> {
        self.extreme_dim("max", dim, true)
    }

    /// The smallest element along `dim` and its index; see [`Tensor::max`]. PyTorch: `min(dim)`.
    pub fn min(&self, dim: impl Dim) -> Result<(Tensor, Tensor)> {
        self.extreme_dim("min", dim, false)
    }

    /// [`Tensor::max`], the dim kept with size 1.
    pub fn max_keepdim(&self, dim: impl Dim) -> Result<(Tensor, Tensor)> {
        self.extreme_keepdim("max", dim, true)
    }

    /// [`Tensor::min`], the dim kept with size 1.
    pub fn min_keepdim(&self, dim: impl Dim) -> Result<(Tensor, Tensor)> {
        self.extreme_keepdim("min", dim, false)
    }

    /// The largest element over `dims`. PyTorch: `amax`, but at a tie the gradient goes to the first.
    pub fn amax(&self, dims: impl Dims) -> Result<Tensor> {
        self.amaxmin("amax", dims, true)
    }

    /// The smallest element over `dims`. PyTorch: `amin`, but at a tie the gradient goes to the first.
    pub fn amin(&self, dims: impl Dims) -> Result<Tensor> {
        self.amaxmin("amin", dims, false)
    }

    /// [`Tensor::amax`], the dims kept with size 1.
    pub fn amax_keepdim(&self, dims: impl Dims) -> Result<Tensor> {
        self.extreme_dims("amax", &dims.indices("amax", self.shape())?, true)
    }

    /// [`Tensor::amin`], the dims kept with size 1.
    pub fn amin_keepdim(&self, dims: impl Dims) -> Result<Tensor> {
        self.extreme_dims("amin", &dims.indices("amin", self.shape())?, false)
    }

    /// The index of the largest element along `dim`, i64. PyTorch: `argmax(dim)`.
    pub fn argmax(&self, dim: impl Dim) -> Result<Tensor> {
        Ok(self.detach().extreme_dim("argmax", dim, true)?.1)
    }

    /// The index of the smallest element along `dim`, i64. PyTorch: `argmin(dim)`.
    pub fn argmin(&self, dim: impl Dim) -> Result<Tensor> {
        Ok(self.detach().extreme_dim("argmin", dim, false)?.1)
    }

    /// The lecture's argmax: 1 at the (first) largest element along `dim`, 0 elsewhere; the derivative of max.
    ///
    /// Its own gradient is 0. [`Tensor::softmax`] is its soft form, [`Tensor::step`] its two-way case:
    /// `argmax_one_hot([0, x])[1] = step(x)`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([2.0f32, 7.0, 7.0])?;
    /// assert_eq!(x.argmax_one_hot(0)?.to_vec::<f32>()?, [0.0, 1.0, 0.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn argmax_one_hot(&self, dim: impl Dim) -> Result<Tensor> {
        let dim = dim.index("argmax_one_hot", self.shape())?;
        let index = self.extreme("argmax_one_hot", dim, true)?.1;
        let one = Tensor::ones(index.shape(), self.dtype())?;
        let hot = Tensor::zeros(self.shape(), self.dtype())?.scatter(dim, &index, &one)?;
        if !self.dtype().is_float() {
            return Ok(hot);
        }
        record("argmax_one_hot", hot, &[self], |dy| dy.zeros_like())
    }
}
