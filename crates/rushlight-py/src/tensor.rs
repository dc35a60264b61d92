//! [`PyTensor`]: a place that holds a tensor, and what torch users expect of one.
//!
//! The library's tensors are values: they never change, and what the graph saved stays right whatever happens later.
//! Python's tensors can be written to. So a Python tensor is a place whose value is replaced, and a view (`x[0]`, `x.T`)
//! is a layout over its base's value: it is read again after the base has changed, and writing to it writes to the base.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rushlight::{DType, Tensor};
use smallvec::SmallVec;

use crate::autograd::{self, Leaf};
use crate::error::OrRaise;
use crate::ops::{self, LONG};

/// An n-dimensional array of one dtype, as PyTorch's.
#[pyclass(name = "Tensor", module = "rushlight", subclass, frozen, weakref)]
pub struct PyTensor {
    state: Mutex<State>,
    /// Counts the changes of the value, so that views know when to read it again.
    version: AtomicU64,
}

struct State {
    value: Tensor,
    leaf: Option<Arc<Leaf>>,
    /// For `retain_grad()` of a tensor that is no leaf.
    kept: Option<Arc<Leaf>>,
    view: Option<Box<View>>,
}

/// Where a view's elements are among those of its base in row-major order.
struct View {
    base: Py<PyTensor>,
    seen: u64,
    shape: SmallVec<[usize; 6]>,
    strides: SmallVec<[isize; 6]>,
    offset: usize,
    /// Outside the graph, whatever the base is: `detach()` and `.data`.
    detached: bool,
}

impl From<Tensor> for PyTensor {
    #[inline]
    fn from(value: Tensor) -> PyTensor {
        PyTensor { state: Mutex::new(State { value, leaf: None, kept: None, view: None }), version: AtomicU64::new(0) }
    }
}

impl PyTensor {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The value now.
    #[inline]
    pub fn value(&self) -> PyResult<Tensor> {
        let mut state = self.state();
        if state.view.is_some() {
            refresh(&mut state)?;
        }
        Ok(state.value.clone())
    }

    /// The gradient's place, if this is a leaf.
    pub fn leaf(&self) -> Option<Arc<Leaf>> {
        let state = self.state();
        state.leaf.clone().or_else(|| state.kept.clone())
    }

    /// Makes this a leaf, or takes it out of the graph.
    pub fn set_requires_grad(&self, on: bool) -> PyResult<()> {
        let value = self.value()?;
        let mut state = self.state();
        match (on, value.is_tracked()) {
            (true, false) => {
                state.value = value.requires_grad().or_raise()?;
                state.leaf = Some(Leaf::of(&state.value));
            }
            (false, true) if state.leaf.is_none() => {
                return Err(PyValueError::new_err(
                    "requires_grad: only a leaf can be taken out of the graph; use detach()",
                ));
            }
            (false, true) => {
                state.value = value.detach();
                state.leaf = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Another value in this place. A leaf stays the leaf it is, and what is bound to the graph by an operation takes the
    /// operation's place there.
    pub fn replace(&self, py: Python<'_>, new: Tensor) -> PyResult<()> {
        self.value()?;
        let mut state = self.state();
        let tracked = state.value.is_tracked() && autograd::enabled();
        if state.leaf.is_some() {
            if tracked {
                return Err(PyValueError::new_err(
                    "a leaf that requires grad is changed in place only under no_grad(), or through .data",
                ));
            }
            let new = new.detach().to_dtype(state.value.dtype()).or_raise()?;
            state.value = state.value.with_data(&new).or_raise()?;
        } else if let Some(view) = &mut state.view {
            let base = view.base.get();
            if !view.detached && base.value()?.is_tracked() && autograd::enabled() {
                return Err(PyValueError::new_err(
                    "a view of a tensor in the graph is changed in place only under no_grad(), or through detach()",
                ));
            }
            let (shape, strides, offset) = (view.shape.to_vec(), view.strides.clone(), view.offset);
            let base = view.base.clone_ref(py);
            // The base can be written to in place only if this no longer holds its elements.
            state.value = new.detach();
            drop(state);
            base.get().assign(shape, &strides, offset, &new)?;
            return Ok(());
        } else {
            state.value = new;
        }
        self.version.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes `src` at the places of a layout over the elements in row-major order, outside the graph.
    pub fn assign(&self, shape: Vec<usize>, strides: &[isize], offset: usize, src: &Tensor) -> PyResult<()> {
        let mut state = self.state();
        // Taken out of its place, so that nobody else holds the elements and they are written to in place.
        let mut value = std::mem::replace(&mut state.value, empty()?);
        let result = value.assign_strided(shape, strides, offset, src);
        state.value = value;
        self.version.fetch_add(1, Ordering::Relaxed);
        result.or_raise()
    }

    /// Writes `src` to all of this, outside the graph: what `x[index] = src` does to the view `x[index]`.
    pub fn overwrite(self, src: &Tensor) -> PyResult<()> {
        let state = self.state.into_inner().unwrap_or_else(|e| e.into_inner());
        let Some(view) = state.view else { return Ok(()) };
        let base = view.base.get();
        if !view.detached && autograd::enabled() && base.value()?.is_tracked() {
            return Err(PyValueError::new_err(
                "a tensor in the graph is assigned to only under no_grad(), or through detach(); where() is recorded",
            ));
        }
        drop(state.value);
        base.assign(view.shape.to_vec(), &view.strides, view.offset, src)
    }

    /// Whether this is a view of another tensor.
    pub fn is_view(&self) -> bool {
        self.state().view.is_some()
    }

    /// The base that a view of this is a view of, made contiguous; and the offset of its first element in its storage.
    fn base(slf: &Bound<'_, PyTensor>) -> PyResult<(Py<PyTensor>, bool, Tensor)> {
        let this = slf.get();
        let value = this.value()?;
        let mut state = this.state();
        if let Some(view) = &state.view {
            return Ok((view.base.clone_ref(slf.py()), view.detached, value));
        }
        if !value.is_contiguous() {
            // A value that nobody has viewed yet may be laid out anew.
            state.value = value.with_data(&value.detach().contiguous().or_raise()?).or_raise()?;
        }
        Ok((slf.clone().unbind(), false, state.value.clone()))
    }

    /// `f` of this: as a view where it shares its elements, else as a tensor of its own.
    pub fn view_of(
        slf: &Bound<'_, PyTensor>,
        f: impl FnOnce(&Tensor) -> rushlight::Result<Tensor> + Send,
    ) -> PyResult<PyTensor> {
        PyTensor::view_or_detached(slf, false, f)
    }

    /// As [`PyTensor::view_of`]; `detached`: the result is outside the graph.
    pub fn view_or_detached(
        slf: &Bound<'_, PyTensor>,
        detached: bool,
        f: impl FnOnce(&Tensor) -> rushlight::Result<Tensor> + Send,
    ) -> PyResult<PyTensor> {
        let (base, was_detached, value) = PyTensor::base(slf)?;
        // Most views take no time; the elements are copied where no layout can reach them.
        let copied = !value.is_contiguous() && value.numel() >= LONG;
        let out =
            if copied { ops::detached(slf.py(), || f(&value))? } else { autograd::run(|| f(&value)).or_raise()? };
        if !out.shares_storage(&value) {
            return Ok(out.into());
        }
        let seen = base.get().version.load(Ordering::Relaxed);
        let start = base.get().state().value.layout().offset();
        let layout = out.layout();
        let view = View {
            seen,
            shape: layout.dims().into(),
            strides: layout.strides().into(),
            offset: layout.offset().saturating_sub(start),
            detached: detached || was_detached,
            base,
        };
        let state = State { value: out, leaf: None, kept: None, view: Some(Box::new(view)) };
        Ok(PyTensor { state: Mutex::new(state), version: AtomicU64::new(0) })
    }

    /// Other values for a tensor outside the graph, whatever the mode: a gradient that grows.
    pub fn put(&self, value: Tensor) {
        self.state().value = value;
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Values of any dtype and shape; a leaf becomes another leaf.
    pub fn recast(&self, new: Tensor) -> PyResult<()> {
        let tracked = self.value()?.is_tracked();
        let mut state = self.state();
        state.view = None;
        state.leaf = None;
        state.value = if tracked { new.requires_grad().or_raise()? } else { new };
        if tracked {
            state.leaf = Some(Leaf::of(&state.value));
        }
        self.version.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the value out, to be put back: so that nobody else holds its elements.
    pub fn take(&self) -> PyResult<Tensor> {
        let mut state = self.state();
        if state.view.is_some() {
            refresh(&mut state)?;
        }
        Ok(std::mem::replace(&mut state.value, empty()?))
    }

    /// Other values, of any shape, in place of these; a leaf stays one. PyTorch: `x.data = …`.
    pub fn put_data(&self, new: Tensor) -> PyResult<()> {
        let old = self.value()?;
        if self.leaf().is_some() && new.shape() != old.shape() {
            // A leaf of another shape is another leaf.
            let mut state = self.state();
            state.value = new.requires_grad().or_raise()?;
            state.leaf = Some(Leaf::of(&state.value));
            return Ok(());
        }
        self.put(old.with_data(&new).or_raise()?);
        Ok(())
    }

    /// The tensor this is a view of.
    pub fn base_of(&self, py: Python<'_>) -> Option<Py<PyTensor>> {
        self.state().view.as_ref().map(|v| v.base.clone_ref(py))
    }

    /// From now on a walk adds the gradient of this (no leaf) to its `.grad`, through a hook.
    pub fn keep_grad(&self, value: &Tensor) -> PyResult<()> {
        let leaf = Leaf::of(value);
        let kept = Arc::downgrade(&leaf);
        let add = move |grad: &Tensor| {
            if let Some(leaf) = kept.upgrade() {
                Python::attach(|py| {
                    leaf.add(py, grad.clone()).map_err(|e| crate::error::through("retain_grad", py, e))
                })?;
            }
            Ok(None)
        };
        value.register_hook(add).or_raise()?;
        self.state().kept = Some(leaf);
        Ok(())
    }

    /// A leaf with these values, as `nn.Parameter` makes one.
    pub fn new_leaf(value: &Tensor) -> PyResult<PyTensor> {
        let out = PyTensor::from(value.detach());
        out.set_requires_grad(true)?;
        Ok(out)
    }
}

fn empty() -> PyResult<Tensor> {
    Tensor::zeros(0, DType::U8).or_raise()
}

/// Reads a view's value again if its base has changed.
#[cold]
fn refresh(state: &mut State) -> PyResult<()> {
    let Some(view) = &mut state.view else { return Ok(()) };
    let base = view.base.get();
    let version = base.version.load(Ordering::Relaxed);
    if version == view.seen {
        return Ok(());
    }
    let value = base.value()?;
    let value = if view.detached || state.leaf.is_some() { value.detach() } else { value };
    let new = autograd::run(|| value.as_strided(view.shape.to_vec(), &view.strides, view.offset)).or_raise()?;
    view.seen = version;
    state.value = if state.leaf.is_some() { state.value.with_data(&new).or_raise()? } else { new };
    Ok(())
}
