//! Sorting along a dim: sort, argsort, topk. Stable; NaN is the greatest.
//!
//! A sort is a permutation that depends on the values, so the gradient goes back to where each value came from:
//! values are `gather(x, indices)`, and `dx = scatter_add(0, indices, dy)`.

use crate::autograd::record;
use crate::dtype::each_dtype;
use crate::kernels;
use crate::storage::Buffer;
use crate::tensor::Dim;
use crate::{Error, Result, Tensor};

impl Tensor {
    /// The elements along `dim` in ascending (or descending) order, and the places they came from (i64).
    ///
    /// Equal elements keep their order; NaN is the greatest. The gradient of each value goes to its place.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([3.0f32, 1.0, 2.0])?;
    /// let (values, indices) = x.sort(0, false)?;
    /// assert_eq!(values.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
    /// assert_eq!(indices.to_vec::<i64>()?, [1, 2, 0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `sort(dim, descending, stable=True)`. Errors: `dim` out of range. Cost: O(n log n) a row.
    pub fn sort(&self, dim: impl Dim, descending: bool) -> Result<(Tensor, Tensor)> {
        if self.rank() == 0 {
            let (values, index) = self.reshape(1)?.sort(dim, descending)?;
            return Ok((values.reshape(())?, index.reshape(())?));
        }
        let dim = dim.index("sort", self.shape())?;
        self.first_sorted("sort", dim, self.dims()[dim], descending)
    }

    /// The places that would sort this along `dim`, i64. PyTorch: `argsort(dim, descending, stable=True)`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// assert_eq!(Tensor::new([3i64, 1, 3])?.argsort(0, true)?.to_vec::<i64>()?, [0, 2, 1]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn argsort(&self, dim: impl Dim, descending: bool) -> Result<Tensor> {
        Ok(self.detach().sort(dim, descending)?.1)
    }

    /// The `k` largest (or smallest) elements along `dim`, the most extreme first, and their places (i64).
    ///
    /// Of equal elements the earlier come first; NaN is the greatest. `[.., n, ..]` becomes `[.., k, ..]`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([[1.0f32, 4.0, 2.0], [9.0, 7.0, 8.0]])?;
    /// let (values, indices) = x.topk(2, 1, true)?;
    /// assert_eq!(values.to_vec::<f32>()?, [4.0, 2.0, 9.0, 8.0]);
    /// assert_eq!(indices.to_vec::<i64>()?, [1, 2, 0, 2]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `topk(k, dim, largest)`. Errors: `k` larger than the dim. Cost: O(n + k log k) a row.
    pub fn topk(&self, k: usize, dim: impl Dim, largest: bool) -> Result<(Tensor, Tensor)> {
        let dim = dim.index("topk", self.shape())?;
        if k > self.dims()[dim] {
            let message = format!("k = {k} is more than dim {dim} of shape {} has", self.shape());
            return Err(Error::invalid("topk", message));
        }
        self.first_sorted("topk", dim, k, largest)
    }

    /// The first `k` of the sorted elements along `dim`, and their places.
    fn first_sorted(&self, op: &'static str, dim: usize, k: usize, descending: bool) -> Result<(Tensor, Tensor)> {
        // Rows lie in the last dim for the kernel.
        let rows = self.detach().transpose(dim, -1)?.packed()?;
        let (n, shape) = (self.dims()[dim], rows.shape().with(rows.rank() - 1, k));
        let mut index = Buffer::<i64>::try_scratch(shape.numel(), op)?;
        let values = each_dtype!(self.dtype(), T => {
            let x = rows.slice::<T>(op)?;
            let mut outcome = Ok(());
            let values = Tensor::build(op, shape.clone(), |out: &mut [T]| {
                outcome = kernels::sort::sort(op, x, (n, k), descending, out, &mut index);
            })?;
            outcome.map(|()| values)?
        });
        let values = values.transpose(dim, -1)?.packed()?;
        let index = Tensor::from_buffer(index, shape).transpose(dim, -1)?.packed()?;
        if !values.dtype().is_float() {
            return Ok((values, index));
        }
        let (whole, at) = (self.shape().clone(), index.clone());
        let values =
            record(op, values, &[self], move |dy| Tensor::zeros(&whole, dy.dtype())?.scatter_add(dim, &at, dy))?;
        Ok((values, index))
    }
}
