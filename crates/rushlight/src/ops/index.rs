//! Reading and writing at computed places: index_select, gather, scatter, masked_select, nonzero.
//!
//! Reading at indices and adding at indices are each other's gradients.

use crate::autograd::{no_gradient, record};
use crate::dtype::{each_dtype, each_float};
use crate::kernels::{index, stream};
use crate::ops::binary::when_tracked;
use crate::ops::reduce::cut;
use crate::storage::reserved;
use crate::tensor::Dim;
use crate::{DType, Element, Error, Result, Shape, Tensor};

/// The indices as a contiguous i64 tensor, negative ones counted from the end; an error names the first bad one.
fn checked(op: &'static str, index: &Tensor, dim: usize, size: usize) -> Result<Tensor> {
    if index.dtype() != DType::I64 {
        return Err(Error::dtype(op, index.dtype(), "expected i64 indices"));
    }
    let index = index.packed()?;
    let values = index.slice::<i64>(op)?;
    if let Some(&bad) = values.iter().find(|i| **i < -(size as i64) || **i >= size as i64) {
        return Err(Error::Index { op, index: bad, dim, size });
    }
    if values.iter().all(|i| *i >= 0) {
        return Ok(index);
    }
    Tensor::build(op, index.shape().clone(), |out: &mut [i64]| {
        out.iter_mut().zip(values).for_each(|(o, &i)| *o = if i < 0 { i + size as i64 } else { i });
    })
}

/// Whether each place of `index` is the last to write where it does, in a target of `shape`.
fn last_writes(dim: usize, index: &Tensor, shape: &Shape) -> Result<Tensor> {
    let own = Tensor::build("scatter", index.shape().clone(), |out: &mut [i64]| {
        out.iter_mut().zip(0..).for_each(|(o, i)| *o = i);
    })?;
    Tensor::zeros(shape, DType::I64)?.scatter(dim, index, &own)?.gather(dim, index)?.eq(&own)
}

impl Tensor {
    /// The places of `dim` that a 1-d i64 `index` names, in its order. PyTorch: `index_select`.
    ///
    /// Negative indices count from the end. Errors: an index out of range; `index` not 1-d i64.
    pub fn index_select(&self, dim: impl Dim, index: &Tensor) -> Result<Tensor> {
        let op = "index_select";
        let dim = dim.index(op, self.shape())?;
        let [m] = index.dims_of(op)?;
        let index = checked(op, index, dim, self.dims()[dim])?;
        let (x, (_, n, inner)) = (self.detach().packed()?, cut(self.shape(), dim, dim + 1));
        let out = each_dtype!(self.dtype(), T => {
            let (x, index) = (x.slice::<T>(op)?, index.slice::<i64>(op)?);
            Tensor::build(op, self.shape().with(dim, m), |out: &mut [T]| index::select_rows(x, (n, inner), index, out))?
        });
        if !out.dtype().is_float() {
            return Ok(out);
        }
        record(op, out, &[self], move |dy| dy.index_add_into(dim, &index, n))
    }

    /// Zeros with `n` places at `dim`, plus this at the places `index` names: the adjoint of index_select.
    pub(super) fn index_add_into(&self, dim: usize, index: &Tensor, n: usize) -> Result<Tensor> {
        let op = "index_add";
        let shape = self.shape().with(dim, n);
        let (dy, (_, _, inner)) = (self.detach().packed()?, cut(&shape, dim, dim + 1));
        let out = each_float!(op, self.dtype(), T => {
            let (dy, index) = (dy.slice::<T>(op)?, index.slice::<i64>(op)?);
            Tensor::build(op, shape, |out: &mut [T]| {
                stream::fill(out, T::default());
                index::add_rows(out, (n, inner), index, dy);
            })?
        });
        let index = index.clone();
        record(op, out, &[self], move |g| g.index_select(dim, &index))
    }

    /// `out[i, j, …] = self[index[i, j, …], j, …]` for dim 0, and so on. PyTorch: `gather`.
    ///
    /// `index` is i64 of the same rank, in the other dims no larger than this. Errors: an index out of range.
    pub fn gather(&self, dim: impl Dim, index: &Tensor) -> Result<Tensor> {
        let op = "gather";
        let dim = dim.index(op, self.shape())?;
        let x = self.fit_to_index(op, dim, index)?;
        let index = checked(op, index, dim, self.dims()[dim])?;
        let (m, (_, n, inner)) = (index.dims()[dim], cut(x.shape(), dim, dim + 1));
        let data = x.detach().packed()?;
        let out = each_dtype!(self.dtype(), T => {
            let (x, index_data) = (data.slice::<T>(op)?, index.slice::<i64>(op)?);
            Tensor::build(op, index.shape().clone(), |out: &mut [T]| index::gather(x, (n, inner), index_data, m, out))?
        });
        if !out.dtype().is_float() {
            return Ok(out);
        }
        let shape = x.shape().clone();
        record(op, out, &[&x], move |dy| Tensor::zeros(&shape, dy.dtype())?.scatter_add(dim, &index, dy))
    }

    /// This tensor cut to the size of `index` in every dim but `dim`, as gather and scatter read and write it.
    fn fit_to_index(&self, op: &'static str, dim: usize, index: &Tensor) -> Result<Tensor> {
        let fits =
            index.rank() == self.rank() && (0..self.rank()).all(|d| d == dim || index.dims()[d] <= self.dims()[d]);
        if !fits {
            let message =
                format!("index of shape {} does not fit shape {} beside dim {dim}", index.shape(), self.shape());
            return Err(Error::invalid(op, message));
        }
        (0..self.rank())
            .filter(|&d| d != dim && index.dims()[d] != self.dims()[d])
            .try_fold(self.clone(), |x, d| x.narrow(d, 0, index.dims()[d]))
    }

    /// [`Tensor::index_add_into`], to this tensor; in place where nobody else holds its elements. Outside the graph.
    pub(super) fn index_add_in_place(&mut self, dim: usize, index: &Tensor, dy: &Tensor) -> Result<()> {
        let op = "index_add";
        let (dy, (_, n, inner)) = (dy.packed()?, cut(self.shape(), dim, dim + 1));
        each_float!(op, self.dtype(), T => {
            index::add_rows(self.make_mut::<T>(op)?, (n, inner), index.slice::<i64>(op)?, dy.slice::<T>(op)?);
        });
        Ok(())
    }

    /// [`Tensor::gather`] with `index` broadcast to this shape beside `dim`. PyTorch: `take_along_dim`.
    pub fn take_along_dim(&self, index: &Tensor, dim: impl Dim) -> Result<Tensor> {
        let op = "take_along_dim";
        let dim = dim.index(op, self.shape())?;
        if index.rank() != self.rank() {
            let message =
                format!("index of shape {} and tensor of shape {} differ in rank", index.shape(), self.shape());
            return Err(Error::invalid(op, message));
        }
        let beside = |t: &Tensor| t.shape().with(dim, 1);
        let shape = beside(self).broadcast(&beside(index), op)?;
        let x = self.broadcast_to(op, &shape.with(dim, self.dims()[dim]))?;
        x.gather(dim, &index.broadcast_to(op, &shape.with(dim, index.dims()[dim]))?)
    }

    /// This, with `src` written at the places of `dim` that `index` names; of several to one place the last stays.
    /// PyTorch: `scatter`. Errors: an index out of range; `index` and `src` of different shapes.
    pub fn scatter(&self, dim: impl Dim, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        let dim = dim.index("scatter", self.shape())?;
        let index = self.scatter_index("scatter", dim, index, src)?;
        let out = self.scattered("scatter", dim, &index, src, false)?;
        if !out.dtype().is_float() {
            return no_gradient("scatter", out, &[]);
        }
        let (x, s) = (self.clone(), src.clone());
        record("scatter", out, &[self, src], move |dy| {
            Ok([
                when_tracked(&x, || dy.scatter(dim, &index, &Tensor::zeros(index.shape(), dy.dtype())?))?,
                when_tracked(&s, || last_writes(dim, &index, x.shape())?.where_cond(&dy.gather(dim, &index)?, 0.0))?,
            ])
        })
    }

    /// This, plus `src` at the places of `dim` that `index` names. PyTorch: `scatter_add`.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor};
    /// let counts = Tensor::zeros(3, DType::F32)?;
    /// let index = Tensor::new([0i64, 2, 2])?;
    /// let ones = Tensor::ones(3, DType::F32)?;
    /// assert_eq!(counts.scatter_add(0, &index, &ones)?.to_vec::<f32>()?, [1.0, 0.0, 2.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: an index out of range; `index` and `src` of different shapes.
    pub fn scatter_add(&self, dim: impl Dim, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        let dim = dim.index("scatter_add", self.shape())?;
        let index = self.scatter_index("scatter_add", dim, index, src)?;
        let out = self.scattered("scatter_add", dim, &index, src, true)?;
        if !out.dtype().is_float() {
            return no_gradient("scatter_add", out, &[]);
        }
        let s = src.clone();
        record("scatter_add", out, &[self, src], move |dy| {
            Ok([Some(dy.clone()), when_tracked(&s, || dy.gather(dim, &index))?])
        })
    }

    fn scatter_index(&self, op: &'static str, dim: usize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        if index.shape() != src.shape() {
            let message = format!("index of shape {} and source of shape {} differ", index.shape(), src.shape());
            return Err(Error::invalid(op, message));
        }
        if src.dtype() != self.dtype() {
            return Err(Error::dtype(
                op,
                src.dtype(),
                format!("expected the source as {}, like the target", self.dtype()),
            ));
        }
        self.fit_to_index(op, dim, index)?;
        checked(op, index, dim, self.dims()[dim])
    }

    fn scattered(&self, op: &'static str, dim: usize, index: &Tensor, src: &Tensor, add: bool) -> Result<Tensor> {
        let (m, (_, n, inner)) = (index.dims()[dim], cut(&index.shape().with(dim, self.dims()[dim]), dim, dim + 1));
        let whole = *self.shape() == index.shape().with(dim, n);
        let (mut out, src) = (self.detach(), src.detach().packed()?);
        let places = index.slice::<i64>(op)?;
        each_dtype!(self.dtype(), T => {
            let src = src.slice::<T>(op)?;
            let sum = |a: T, b: T| match T::DTYPE.is_float() {
                true => T::from_f64(a.to_f64() + b.to_f64()),
                false => T::from_i64(a.to_i64().wrapping_add(b.to_i64())),
            };
            if whole {
                let data = out.make_mut::<T>(op)?;
                index::scatter(data, (n, inner), places, m, src, |a, b| if add { sum(a, b) } else { b });
            } else {
                // The part that the index covers is cut out, written, and put back.
                let part = out.fit_to_index(op, dim, index)?;
                let mut part = part.with_layout(part.layout().clone());
                let data = part.make_mut::<T>(op)?;
                index::scatter(data, (n, inner), places, m, src, |a, b| if add { sum(a, b) } else { b });
                let mut to = crate::Layout::contiguous(self.shape().clone());
                for d in (0..self.rank()).filter(|&d| d != dim) {
                    to = to.slice(d, 0, index.dims()[d], 1);
                }
                crate::kernels::strided::write_at(out.make_mut::<T>(op)?, &to, part.slice::<T>(op)?);
            }
        });
        Ok(out)
    }

    /// The elements where `mask` (broadcast to this shape) is true, as a 1-d tensor. PyTorch: `masked_select`.
    pub fn masked_select(&self, mask: &Tensor) -> Result<Tensor> {
        let op = "masked_select";
        let shape = self.shape().broadcast(mask.shape(), op)?;
        if mask.dtype() != DType::Bool {
            return Err(Error::dtype(op, mask.dtype(), "expected a bool mask"));
        }
        let mask = mask.broadcast_to(op, &shape)?.to_vec::<bool>()?;
        let count = mask.iter().filter(|m| **m).count();
        let mut places = reserved(op, count)?;
        places.extend((0i64..).zip(&mask).filter(|(_, m)| **m).map(|(i, _)| i));
        self.broadcast_to(op, &shape)?.reshape(-1)?.index_select(0, &Tensor::from_vec(places, count)?)
    }

    /// The indices of the nonzero elements, `[count, rank]`, i64, in row-major order. PyTorch: `nonzero`.
    pub fn nonzero(&self) -> Result<Tensor> {
        let nonzero = self.detach().to_dtype(DType::Bool)?.to_vec::<bool>()?;
        let strides = self.shape().contiguous_strides();
        let count = nonzero.iter().filter(|b| **b).count();
        let mut out = reserved("nonzero", count.saturating_mul(self.rank()))?;
        for i in (0..nonzero.len()).filter(|&i| nonzero[i]) {
            out.extend((0..self.rank()).map(|d| (i / strides[d] as usize % self.dims()[d]) as i64));
        }
        Tensor::from_vec(out, [count, self.rank()])
    }
}
