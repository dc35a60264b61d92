//! Views: the same storage in another layout. No element is copied, forward; each rule is beside its view.
//!
//! A view is a function from the layout of its input to that of its output. Reading through it is linear, so its
//! gradient writes (adds) through it: zeros in the shape of the input, plus `dy` at the places the view reads. That
//! adjoint, `embed`, serves every view that leaves places out or reads them twice; and its own gradient is the view.

use std::sync::Arc;

use crate::autograd::{InPlace, ViewFn, record, record_in_place, tracks};
use crate::dtype::{each_dtype, each_float};
use crate::kernels::{stream, strided};
use crate::shape::Window;
use crate::tensor::{Dim, Dims, IntoShape};
use crate::{Error, Layout, Result, Shape, Tensor};

impl Tensor {
    /// The view `f`, with `embed` as its gradient.
    fn view_by(&self, name: &'static str, f: ViewFn) -> Result<Tensor> {
        let out = self.with_layout(f(self.layout()));
        if !tracks(&[self]) {
            return Ok(out);
        }
        let shape = self.shape().clone();
        record_in_place(name, out, self, InPlace::View(f.clone()), move |dy| dy.embed(&shape, f.clone()))
    }

    /// Zeros of `shape`, with the elements of this added where the view `f` of such a tensor reads.
    pub(crate) fn embed(&self, shape: &Shape, f: ViewFn) -> Result<Tensor> {
        let to = f(&Layout::contiguous(shape.clone()));
        let dy = self.detach().packed()?;
        let out = each_float!("embed", self.dtype(), T => {
            let dy = dy.slice::<T>("embed")?;
            Tensor::build("embed", shape.clone(), |out: &mut [T]| {
                stream::fill(out, T::default());
                if to.may_overlap() { strided::add_at(out, &to, dy) } else { strided::write_at(out, &to, dy) }
            })?
        });
        record("embed", out, &[self], move |g| g.view_by("embed_backward", f.clone()))
    }

    /// Adds the elements of `dy` where the view `f` of this reads; in place where nobody else holds them.
    pub(crate) fn add_through(&mut self, f: &ViewFn, dy: &Tensor) -> Result<()> {
        let to = f(&Layout::contiguous(self.shape().clone()));
        let dy = dy.packed()?;
        each_float!("embed", self.dtype(), T => {
            strided::add_at(self.make_mut::<T>("embed")?, &to, dy.slice::<T>("embed")?);
        });
        Ok(())
    }

    /// The same elements in another shape; one size may be −1. A view where the layout allows it, else a copy.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor};
    /// let t = Tensor::arange(0.0, 6.0, 1.0, DType::F32)?;
    /// assert_eq!(t.reshape([2, -1])?.dims(), [2, 3]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `reshape`. Errors: another number of elements.
    pub fn reshape(&self, shape: impl IntoShape) -> Result<Tensor> {
        let shape = shape.infer("reshape", self.numel())?;
        let out = match self.layout().reshape(&shape) {
            Some(layout) => self.with_layout(layout),
            None => self.packed()?.with_layout(Layout::contiguous(shape)),
        };
        let before = self.shape().clone();
        record("reshape", out, &[self], move |dy| dy.reshape(&before))
    }

    /// [`Tensor::reshape`] that never copies. PyTorch: `view`. Errors: the layout would need a copy.
    pub fn view(&self, shape: impl IntoShape) -> Result<Tensor> {
        let shape = shape.infer("view", self.numel())?;
        if self.layout().reshape(&shape).is_none() {
            let message = format!(
                "shape {} with strides {:?} cannot be viewed as {shape} without a copy; use reshape",
                self.shape(),
                self.strides()
            );
            return Err(Error::invalid("view", message));
        }
        self.reshape(shape)
    }

    /// This tensor with its elements one after the other, copied if they are not.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        record("contiguous", self.detach().packed()?, &[self], |dy| Ok(dy.clone()))
    }

    /// The elements at `offset + Σ index · stride` of this, its elements counted in row-major order. A view where this is
    /// contiguous. PyTorch: `as_strided`, for a contiguous tensor; strides may be negative here.
    ///
    /// Errors: shape and strides of different lengths; places outside.
    pub fn as_strided(&self, shape: impl IntoShape, strides: &[isize], offset: usize) -> Result<Tensor> {
        let layout = self.inside("as_strided", shape.shape("as_strided")?, strides, offset)?;
        self.contiguous()?.view_by(
            "as_strided",
            Arc::new(move |l| {
                Layout::new(layout.shape().clone(), layout.strides().into(), l.offset() + layout.offset())
            }),
        )
    }

    /// This, with `src` at the places that [`Tensor::as_strided`] reads; outside the graph, in place where nobody else
    /// holds the elements. PyTorch: `x.as_strided(…).copy_(src)`. `src` is broadcast and cast. Errors: as `as_strided`.
    pub fn assign_strided(
        &mut self,
        shape: impl IntoShape,
        strides: &[isize],
        offset: usize,
        src: &Tensor,
    ) -> Result<()> {
        let op = "assign";
        let to = self.inside(op, shape.shape(op)?, strides, offset)?;
        let src = src.detach().to_dtype(self.dtype())?.broadcast_to(op, to.shape())?.packed()?;
        each_dtype!(self.dtype(), T => strided::write_at(self.make_mut::<T>(op)?, &to, src.slice::<T>(op)?));
        Ok(())
    }

    /// A layout over the elements of this in row-major order; an error if it reaches outside.
    fn inside(&self, op: &'static str, shape: Shape, strides: &[isize], offset: usize) -> Result<Layout> {
        let reach = |strides: &[isize], up: bool| -> Option<i128> {
            let steps = shape.iter().zip(strides).filter(|(_, s)| (**s > 0) == up);
            steps.map(|(&n, &s)| (n as i128 - 1).checked_mul(s as i128)).try_fold(0i128, |a, b| a.checked_add(b?))
        };
        let fits = || {
            let (low, high) = (
                reach(strides, false)?.checked_add(offset as i128)?,
                reach(strides, true)?.checked_add(offset as i128)?,
            );
            (low >= 0 && high < self.numel() as i128).then_some(())
        };
        if shape.rank() != strides.len() || (shape.numel() > 0 && fits().is_none()) {
            let message = format!(
                "shape {shape} with strides {strides:?} from {offset} reaches outside {} elements",
                self.numel()
            );
            return Err(Error::invalid(op, message));
        }
        if shape.numel() == 0 {
            return Ok(Layout::contiguous(shape));
        }
        // The step of a single place is never taken, and arithmetic on a huge one would overflow.
        let most = self.numel() as isize;
        let strides = shape.iter().zip(strides).map(|(&n, &s)| if n == 1 { s.clamp(-most, most) } else { s });
        let strides = strides.collect();
        Ok(Layout::new(shape, strides, offset))
    }

    /// The dims in another order: dim `d` of the result is dim `order[d]` of this. PyTorch: `permute`.
    ///
    /// Errors: not every dim named exactly once.
    pub fn permute<D: Dim>(&self, order: impl AsRef<[D]>) -> Result<Tensor> {
        let order: Vec<usize> =
            order.as_ref().iter().map(|d| d.index("permute", self.shape())).collect::<Result<_>>()?;
        let mut inverse = vec![usize::MAX; self.rank()];
        order.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
        if order.len() != self.rank() || inverse.contains(&usize::MAX) {
            let message = format!("order {order:?} does not name each dim of shape {} once", self.shape());
            return Err(Error::invalid("permute", message));
        }
        let out = self.with_layout(self.layout().permute(&order));
        record("permute", out, &[self], move |dy| dy.permute(&inverse))
    }

    /// Two dims exchanged. PyTorch: `transpose`.
    pub fn transpose(&self, a: impl Dim, b: impl Dim) -> Result<Tensor> {
        let (a, b) = (a.index("transpose", self.shape())?, b.index("transpose", self.shape())?);
        let mut order: smallvec::SmallVec<[usize; 6]> = (0..self.rank()).collect();
        order.swap(a, b);
        let out = self.with_layout(self.layout().permute(&order));
        record("transpose", out, &[self], move |dy| dy.transpose(a, b))
    }

    /// The last two dims exchanged. PyTorch: `t()`, `mT`. Errors: fewer than two dims.
    pub fn t(&self) -> Result<Tensor> {
        self.transpose(-2, -1)
    }

    /// Dims of size 1 repeated to the sizes of `shape` without a copy; −1 keeps a size. PyTorch: `expand`.
    ///
    /// Errors: a dim of another size than 1 that would have to change.
    pub fn expand(&self, shape: impl IntoShape) -> Result<Tensor> {
        let mut sizes = shape.sizes();
        let lead = sizes.len().saturating_sub(self.rank());
        for (dim, size) in sizes.iter_mut().enumerate() {
            if *size == -1 && dim >= lead {
                *size = self.dims()[dim - lead] as i64;
            }
        }
        self.broadcast_to("expand", &sizes.as_slice().shape("expand")?)
    }

    /// As [`Tensor::expand`], to a known shape, for `op`.
    pub(crate) fn broadcast_to(&self, op: &'static str, shape: &Shape) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let out = self.with_layout(self.layout().expand(shape, op)?);
        let before = self.shape().clone();
        record("expand", out, &[self], move |dy| dy.sum_to(&before))
    }

    /// The sum over the dims that broadcasting to this tensor's shape would have repeated: the adjoint of expanding.
    pub(crate) fn sum_to(&self, shape: &Shape) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let lead = self.rank() - shape.rank();
        let dims: Vec<usize> =
            (0..self.rank()).filter(|&d| d < lead || (shape[d - lead] == 1 && self.dims()[d] != 1)).collect();
        self.sum_keepdim(dims)?.reshape(shape)
    }

    /// `length` places of `dim` from `start` on. PyTorch: `narrow`. Errors: they reach outside.
    pub fn narrow(&self, dim: impl Dim, start: usize, length: usize) -> Result<Tensor> {
        let dim = dim.index("narrow", self.shape())?;
        let size = self.dims()[dim];
        if start.checked_add(length).is_none_or(|end| end > size) {
            let message = format!("{length} places from {start} on reach outside dim {dim} of size {size}");
            return Err(Error::invalid("narrow", message));
        }
        self.view_by("narrow", Arc::new(move |l| l.slice(dim, start, length, 1)))
    }

    /// Python's `x[start:end:step]` along `dim`: negative numbers count from the end, and what lies outside is cut.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor};
    /// let t = Tensor::arange(0.0, 10.0, 1.0, DType::F32)?;
    /// assert_eq!(t.slice_step(0, 1, -1, 3)?.to_vec::<f32>()?, [1.0, 4.0, 7.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// A negative step walks backwards, as NumPy's. Errors: a step of 0.
    pub fn slice_step(&self, dim: impl Dim, start: i64, end: i64, step: i64) -> Result<Tensor> {
        let dim = dim.index("slice", self.shape())?;
        if step == 0 {
            return Err(Error::invalid("slice", "the step is 0"));
        }
        let size = self.dims()[dim] as i64;
        let wrap = |i: i64| if i < 0 { i.saturating_add(size) } else { i };
        // For a negative step the walk starts at most at the last place and ends at the earliest before the first.
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let first = wrap(start).clamp(low, high);
        let last = if step < 0 && end < -size { -1 } else { wrap(end).clamp(low, high) };
        let length = if step > 0 {
            (last - first).max(0).unsigned_abs().div_ceil(step.unsigned_abs())
        } else {
            (first - last).max(0).unsigned_abs().div_ceil(step.unsigned_abs())
        } as usize;
        let every = step.unsigned_abs() as usize;
        if step > 0 {
            return self.view_by("slice", Arc::new(move |l| l.slice(dim, first as usize, length, every)));
        }
        let from_end = (size - 1 - first).max(0) as usize;
        self.view_by("slice", Arc::new(move |l| l.flip(dim).slice(dim, from_end, length, every)))
    }

    /// The place `index` of `dim` (negative from the end); the dim goes away. PyTorch: `select`, `x[i]`.
    pub fn select(&self, dim: impl Dim, index: i64) -> Result<Tensor> {
        let dim = dim.index("select", self.shape())?;
        let size = self.dims()[dim];
        let i = if index < 0 { index + size as i64 } else { index };
        if i < 0 || i >= size as i64 {
            return Err(Error::Index { op: "select", index, dim, size });
        }
        self.view_by("select", Arc::new(move |l| l.select(dim, i as usize)))
    }

    /// The given dims backwards. PyTorch: `flip` (which copies; this does not).
    pub fn flip(&self, dims: impl Dims) -> Result<Tensor> {
        let dims = dims.indices("flip", self.shape())?;
        self.view_by("flip", Arc::new(move |l| dims.iter().fold(l.clone(), |l, &d| l.flip(d))))
    }

    /// The diagonal of two dims, `offset` above (below if negative) the main one, as a new last dim.
    /// PyTorch: `diagonal`. Errors: the same dim twice.
    pub fn diagonal(&self, offset: i64, dim1: impl Dim, dim2: impl Dim) -> Result<Tensor> {
        let (a, b) = (dim1.index("diagonal", self.shape())?, dim2.index("diagonal", self.shape())?);
        if a == b {
            return Err(Error::invalid("diagonal", format!("both dims are {a}")));
        }
        self.view_by("diagonal", Arc::new(move |l| l.diagonal(offset, a, b)))
    }

    /// The fold: the last `kernel.len()` dims become window positions, followed by the places within each window.
    ///
    /// `[.., h, w]` becomes `[.., oh, ow, kh, kw]`, where `oh = (h − dilation·(kh − 1) − 1) / stride + 1`, and
    /// `windows[.., i, j, u, v] = x[.., i·stride + u·dilation, j·stride + v·dilation]`. It is a view: with overlapping
    /// windows one element is seen many times, and its gradient is the sum over them. Pooling is this and a reduction:
    ///
    /// ```
    /// # use rushlight::{DType, Tensor};
    /// let image = Tensor::arange(0.0, 16.0, 1.0, DType::F32)?.reshape([1, 1, 4, 4])?;
    /// let pooled = image.windows([2, 2], [2, 2], [1, 1])?.mean([-2, -1])?;
    /// assert_eq!(pooled.to_vec::<f32>()?, [2.5, 4.5, 10.5, 12.5]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `unfold` along each dim in turn. Errors: a kernel, stride or dilation of 0; a window larger than its
    /// dim.
    pub fn windows<const N: usize>(
        &self,
        kernel: [usize; N],
        stride: [usize; N],
        dilation: [usize; N],
    ) -> Result<Tensor> {
        if self.rank() < N {
            return Err(Error::invalid("windows", format!("{N} window dims on shape {}", self.shape())));
        }
        let lead = self.rank() - N;
        for d in 0..N {
            if kernel[d] == 0 || stride[d] == 0 || dilation[d] == 0 {
                return Err(Error::invalid("windows", "kernel, stride and dilation must be at least 1"));
            }
            let span = dilation[d].checked_mul(kernel[d] - 1).and_then(|s| s.checked_add(1));
            if span.is_none_or(|s| s > self.dims()[lead + d]) {
                let message = format!(
                    "a window of {} elements spaced {} does not fit in dim {} of size {}",
                    kernel[d],
                    dilation[d],
                    lead + d,
                    self.dims()[lead + d]
                );
                return Err(Error::invalid("windows", message));
            }
        }
        let windows: [Window; N] =
            std::array::from_fn(|d| Window { kernel: kernel[d], stride: stride[d], dilation: dilation[d] });
        // Windows see an element many times: more elements than memory would be an overflow further on.
        self.layout().windows(&windows).shape().checked_numel("windows")?;
        self.view_by("windows", Arc::new(move |l| l.windows(&windows)))
    }

    /// A dim of size 1 before `dim` (−1: at the end). PyTorch: `unsqueeze`.
    pub fn unsqueeze(&self, dim: impl Dim) -> Result<Tensor> {
        let dim = dim.gap("unsqueeze", self.shape())?;
        let before = self.shape().clone();
        let out = self.with_layout(self.layout().unsqueeze(dim));
        record("unsqueeze", out, &[self], move |dy| dy.reshape(&before))
    }

    /// Without those of the given dims (`..`: of all dims) that have size 1. PyTorch: `squeeze`.
    pub fn squeeze(&self, dims: impl Dims) -> Result<Tensor> {
        let dims = dims.indices("squeeze", self.shape())?;
        let out = self.with_layout(self.layout().squeeze(|d| self.dims()[d] == 1 && dims.contains(&d)));
        let before = self.shape().clone();
        record("squeeze", out, &[self], move |dy| dy.reshape(&before))
    }

    /// Dims `start` to `end`, both included, merged into one. PyTorch: `flatten`. Errors: `start` behind `end`.
    pub fn flatten(&self, start: impl Dim, end: impl Dim) -> Result<Tensor> {
        if self.rank() == 0 {
            return self.reshape(1);
        }
        let (a, b) = (start.index("flatten", self.shape())?, end.index("flatten", self.shape())?);
        if a > b {
            return Err(Error::invalid("flatten", format!("start dim {a} is behind end dim {b}")));
        }
        let merged = self.dims()[a..=b].iter().product();
        let shape: Shape =
            self.dims()[..a].iter().copied().chain([merged]).chain(self.dims()[b + 1..].iter().copied()).collect();
        self.reshape(shape)
    }

    /// Dim `dim` split into `sizes` (one may be −1). PyTorch: `unflatten`.
    pub fn unflatten(&self, dim: impl Dim, sizes: impl IntoShape) -> Result<Tensor> {
        let dim = dim.index("unflatten", self.shape())?;
        let inner = sizes.infer("unflatten", self.dims()[dim])?;
        let (before, after) = (&self.dims()[..dim], &self.dims()[dim + 1..]);
        self.reshape(before.iter().chain(inner.iter()).chain(after).copied().collect::<Shape>())
    }
}
