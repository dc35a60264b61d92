//! The [`Tensor`]: what it is. How it is made, viewed, indexed and printed is in the files beside this one.

mod arg;
mod create;
mod dim;
mod display;
mod operators;
mod view;

use std::sync::Arc;

pub use arg::Arg;
pub use create::NestedArray;
pub use dim::{Dim, Dims, IntoShape};

use crate::autograd::Node;
use crate::dtype::each_dtype;
use crate::kernels::strided::{self, Strided};
use crate::storage::{Buffer, Storage, reserved};
use crate::{DType, Element, Error, Layout, Result, Shape};

/// An n-dimensional array of one dtype. A clone is free and shares its storage; the value never changes.
///
/// A tensor that came from tracked tensors (see [`Tensor::requires_grad`]) knows how it was computed, so
/// [`Tensor::backward`] can find the gradients.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    storage: Arc<Storage>,
    layout: Layout,
    node: Option<Arc<Node>>,
}

impl Tensor {
    // ---- what it is ----

    /// The sizes of its dims.
    pub fn shape(&self) -> &Shape {
        self.0.layout.shape()
    }

    /// The sizes of its dims, as a slice.
    pub fn dims(&self) -> &[usize] {
        self.0.layout.dims()
    }

    /// The number of dims. PyTorch: `dim()`.
    pub fn rank(&self) -> usize {
        self.0.layout.rank()
    }

    /// The size of one dim.
    pub fn size(&self, dim: impl Dim) -> Result<usize> {
        Ok(self.dims()[dim.index("size", self.shape())?])
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.0.layout.numel()
    }

    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.0.storage.dtype()
    }

    /// Where its elements lie in its storage.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Its strides, in elements. PyTorch: `stride()`.
    pub fn strides(&self) -> &[isize] {
        self.0.layout.strides()
    }

    /// Whether its elements lie one after the other in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.0.layout.is_contiguous()
    }

    /// Whether two tensors share one storage, as a view and its base do.
    pub fn shares_storage(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.0.storage, &other.0.storage)
    }

    /// The sizes, if there are exactly `N` of them: `let [b, c, h, w] = x.dims_of("conv2d")?;`
    pub fn dims_of<const N: usize>(&self, op: &'static str) -> Result<[usize; N]> {
        self.dims()
            .try_into()
            .map_err(|_| Error::invalid(op, format!("expected a tensor of {N} dims, got shape {}", self.shape())))
    }

    // ---- its parts, for the rest of the library ----

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.0.node.as_ref()
    }

    /// The same data with this node.
    pub(crate) fn with_node(&self, node: Option<Arc<Node>>) -> Tensor {
        Tensor(Arc::new(Inner { storage: self.0.storage.clone(), layout: self.0.layout.clone(), node }))
    }

    /// The same storage in another layout, untracked.
    pub(crate) fn with_layout(&self, layout: Layout) -> Tensor {
        Tensor(Arc::new(Inner { storage: self.0.storage.clone(), layout, node: None }))
    }

    /// Its elements to be read in `shape`, which it broadcasts to. In its own shape, as most operands, it is itself,
    /// node and all: small operations feel a second tensor for each.
    pub(crate) fn read_as(&self, shape: &Shape, op: &'static str) -> Result<Tensor> {
        if self.shape() == shape { Ok(self.clone()) } else { Ok(self.with_layout(self.layout().expand(shape, op)?)) }
    }

    /// A new contiguous tensor. `buffer` has as many elements as `shape`.
    #[inline(never)]
    pub(crate) fn from_buffer<T: Element>(buffer: Buffer<T>, shape: Shape) -> Tensor {
        debug_assert_eq!(buffer.len(), shape.numel());
        Tensor(Arc::new(Inner { storage: Arc::new(T::wrap(buffer)), layout: Layout::contiguous(shape), node: None }))
    }

    /// A tensor of one dim that holds all of `buffer`.
    pub(crate) fn from_all<T: Element>(buffer: Buffer<T>) -> Tensor {
        let shape = Shape::from([buffer.len()]);
        Tensor::from_buffer(buffer, shape)
    }

    /// A new contiguous tensor that `write` fills; what `write` gets holds arbitrary values.
    pub(crate) fn build<T: Element>(op: &'static str, shape: Shape, write: impl FnOnce(&mut [T])) -> Result<Tensor> {
        let mut buffer = Tensor::scratch(op, &shape)?;
        write(&mut buffer);
        Ok(Tensor::from_buffer(buffer, shape))
    }

    // The two halves of `build` that do not depend on what writes, compiled once for each dtype.
    #[inline(never)]
    fn scratch<T: Element>(op: &'static str, shape: &Shape) -> Result<Buffer<T>> {
        let len = shape.checked_numel(op)?;
        crate::autograd::interrupted_before(len)?;
        Buffer::try_scratch(len, op)
    }

    /// Its storage as seen through its layout.
    pub(crate) fn strided<T: Element>(&self, op: &'static str) -> Result<Strided<'_, T>> {
        let data = T::buffer(&self.0.storage)
            .ok_or_else(|| Error::dtype(op, self.dtype(), format!("expected dtype {}", T::DTYPE)))?;
        Ok(Strided::new(data, &self.0.layout))
    }

    /// The whole storage, whatever the layout.
    pub(crate) fn raw<T: Element>(&self, op: &'static str) -> Result<&[T]> {
        T::buffer(&self.0.storage)
            .map(|b| &**b)
            .ok_or_else(|| Error::dtype(op, self.dtype(), format!("expected dtype {}", T::DTYPE)))
    }

    /// Its elements in order; an error unless it is contiguous and of this dtype.
    pub(crate) fn slice<T: Element>(&self, op: &'static str) -> Result<&[T]> {
        self.strided(op)?
            .contiguous()
            .ok_or_else(|| Error::invalid(op, "internal: expected a contiguous tensor; please report this"))
    }

    /// Its elements for writing: in place where nobody else (nor a file) holds them, else in a copy that becomes its
    /// storage.
    /// Its place in the graph stays: this is how an optimizer updates a parameter.
    pub(crate) fn make_mut<T: Element>(&mut self, op: &'static str) -> Result<&mut [T]> {
        let whole = self.is_contiguous();
        let own = |i: &mut Inner| Arc::get_mut(&mut i.storage).is_some_and(|s| !s.is_mapped());
        let alone = whole && Arc::get_mut(&mut self.0).is_some_and(own);
        if !alone {
            let copy = self.copy_contiguous::<T>(op)?;
            *self = copy.with_node(self.0.node.clone());
            // `with_node` shared the storage with `copy`, which must go before it can be held alone.
            drop(copy);
        }
        let len = self.numel();
        let unique = "internal: a fresh copy is shared; please report this";
        let inner = Arc::get_mut(&mut self.0).ok_or_else(|| Error::invalid(op, unique))?;
        let offset = if len == 0 { 0 } else { inner.layout.offset() };
        let storage = Arc::get_mut(&mut inner.storage).ok_or_else(|| Error::invalid(op, unique))?;
        let got = storage.dtype();
        let buffer =
            T::buffer_mut(storage).ok_or_else(|| Error::dtype(op, got, format!("expected dtype {}", T::DTYPE)))?;
        Ok(&mut buffer[offset..offset + len])
    }

    fn copy_contiguous<T: Element>(&self, op: &'static str) -> Result<Tensor> {
        let x = self.strided::<T>(op)?;
        Tensor::build(op, self.shape().clone(), |out| strided::copy(x, out))
    }

    /// Contiguous, untracked.
    pub(crate) fn packed(&self) -> Result<Tensor> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        each_dtype!(self.dtype(), T => self.copy_contiguous::<T>("contiguous"))
    }

    /// Untracked, with nothing left that hangs on a mapped file.
    pub(crate) fn owned(&self) -> Result<Tensor> {
        if !self.0.storage.is_mapped() {
            return Ok(self.detach());
        }
        each_dtype!(self.dtype(), T => self.copy_contiguous::<T>("load"))
    }

    // ---- its values ----

    /// The elements in row-major order. `T` must be the tensor's dtype (cast with [`Tensor::to_dtype`]).
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let t = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?.t()?;
    /// assert_eq!(t.to_vec::<f32>()?, [1.0, 3.0, 2.0, 4.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let x = self.strided::<T>("to_vec")?;
        let mut out = reserved("to_vec", self.numel())?;
        match x.contiguous() {
            Some(all) => out.extend_from_slice(all),
            None => {
                out.resize(self.numel(), T::default());
                strided::copy(x, &mut out);
            }
        }
        Ok(out)
    }

    /// The elements in row-major order as f64, whatever the dtype.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        let mut out = reserved("to_f64_vec", self.numel())?;
        each_dtype!(self.dtype(), T => out.extend(self.to_vec::<T>()?.into_iter().map(|x| x.to_f64())));
        Ok(out)
    }

    /// The only element, converted to `T`. PyTorch: `item()`.
    ///
    /// Errors: the tensor has more or less than one element.
    pub fn item<T: Element>(&self) -> Result<T> {
        if self.numel() != 1 {
            let message = format!("expected a tensor of one element, got shape {}", self.shape());
            return Err(Error::invalid("item", message));
        }
        let place = self.layout().offset();
        each_dtype!(self.dtype(), S => {
            let x = self.raw::<S>("item")?[place];
            Ok(if T::DTYPE == DType::I64 { T::from_i64(x.to_i64()) } else { T::from_f64(x.to_f64()) })
        })
    }
}
