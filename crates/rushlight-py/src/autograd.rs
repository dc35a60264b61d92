//! Autograd as torch's, on top of gradients as a value: `.grad`, `backward`, `grad`, modes, hooks and functions of one's
//! own.
//!
//! A leaf of the library's graph has a number; [`LEAVES`] finds its [`Leaf`] here, whose gradient `backward` adds to.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rushlight::{Tensor, record, with_interrupt};

use crate::args::Many;
use crate::error::{OrRaise, signals, through};
use crate::tensor::PyTensor;

/// Where the gradient of a leaf is kept.
pub struct Leaf {
    id: u64,
    grad: Mutex<Option<Py<PyTensor>>>,
}

/// A tree, as it grows by small pieces: a table that doubles may be refused memory, which would end the process.
static LEAVES: Mutex<BTreeMap<u64, Weak<Leaf>>> = Mutex::new(BTreeMap::new());

fn leaves() -> std::sync::MutexGuard<'static, BTreeMap<u64, Weak<Leaf>>> {
    LEAVES.lock().unwrap_or_else(|e| e.into_inner())
}

impl Leaf {
    /// Of a tensor that is a leaf of the graph.
    pub fn of(value: &Tensor) -> Arc<Leaf> {
        let id = value.graph_id().unwrap_or(0);
        let leaf = Arc::new(Leaf { id, grad: Mutex::new(None) });
        leaves().insert(id, Arc::downgrade(&leaf));
        leaf
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<Py<PyTensor>>> {
        self.grad.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The gradient.
    pub fn grad(&self, py: Python<'_>) -> Option<Py<PyTensor>> {
        self.place().as_ref().map(|g| g.clone_ref(py))
    }

    /// Sets the gradient.
    pub fn set_grad(&self, grad: Option<Py<PyTensor>>) {
        let old = std::mem::replace(&mut *self.place(), grad);
        drop(old);
    }

    /// Adds to the gradient.
    pub fn add(&self, py: Python<'_>, grad: Tensor) -> PyResult<()> {
        let old = self.grad(py);
        match old {
            None => self.set_grad(Some(Py::new(py, PyTensor::from(grad))?)),
            Some(old) => {
                let sum = old.get().value()?.add(&grad).or_raise()?;
                old.get().put(sum);
            }
        }
        Ok(())
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        leaves().remove(&self.id);
    }
}

// ---- modes ----

thread_local! {
    /// What `no_grad()`, `enable_grad()` and the like say; `None`: as the library has it.
    static MODE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether operations on this thread are recorded now.
pub fn enabled() -> bool {
    MODE.get().unwrap_or_else(rushlight::is_grad_enabled)
}

/// Runs `f` in the mode that Python is in.
#[inline]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    match MODE.get() {
        None => f(),
        Some(on) => rushlight::set_grad_enabled(on, f),
    }
}

/// Runs `f` in the library's own mode: a callback from inside a backward walk.
pub fn callback<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(Option<bool>);
    impl Drop for Restore {
        fn drop(&mut self) {
            MODE.set(self.0);
        }
    }
    let _restore = Restore(MODE.replace(None));
    f()
}

/// Whether operations are recorded now.
#[pyfunction]
fn is_grad_enabled() -> bool {
    enabled()
}

/// Sets the mode and returns the one before, to be given back later.
#[pyfunction]
fn _set_grad_mode(mode: Option<bool>) -> Option<bool> {
    MODE.replace(mode)
}

// ---- walks ----

fn tensors(list: &[Py<PyTensor>]) -> PyResult<Vec<Tensor>> {
    list.iter().map(|t| t.get().value()).collect()
}

/// A gradient for each output: the one given, or 1 for an output of one element.
fn seeds(op: &str, outputs: &[Tensor], grads: Option<Vec<Option<Py<PyTensor>>>>) -> PyResult<Vec<Tensor>> {
    let grads = grads.unwrap_or_else(|| outputs.iter().map(|_| None).collect());
    if grads.len() != outputs.len() {
        let message = format!("{op}: {} gradients for {} outputs", grads.len(), outputs.len());
        return Err(PyValueError::new_err(message));
    }
    outputs
        .iter()
        .zip(grads)
        .map(|(y, g)| match g {
            Some(g) => {
                let g = g.get().value()?;
                if g.shape() != y.shape() {
                    let message = format!("{op}: the gradient has shape {}, its output {}", g.shape(), y.shape());
                    return Err(PyValueError::new_err(message));
                }
                g.to_dtype(y.dtype()).or_raise()
            }
            None if y.numel() == 1 => y.ones_like().or_raise(),
            None => Err(PyValueError::new_err(format!(
                "{op}: a loss has one element, this has shape {}; reduce it or give its gradient",
                y.shape()
            ))),
        })
        .collect()
}

/// Adds to `.grad` of every leaf (or of `inputs` only) the gradient of the sum of `tensors`.
#[pyfunction]
#[pyo3(signature = (tensors, grad_tensors=None, retain_graph=None, create_graph=false, inputs=None))]
pub fn backward(
    py: Python<'_>,
    tensors: Many<Py<PyTensor>>,
    grad_tensors: Option<Many<Option<Py<PyTensor>>>>,
    retain_graph: Option<bool>,
    create_graph: bool,
    inputs: Option<Many<Py<PyTensor>>>,
) -> PyResult<()> {
    let outputs = self::tensors(&tensors.0)?;
    let grads = seeds("backward", &outputs, grad_tensors.map(|g| g.0))?;
    let keep = retain_graph.unwrap_or(create_graph);
    let found = py.detach(|| {
        let pairs: Vec<_> = outputs.iter().zip(&grads).collect();
        callback(|| with_interrupt(signals, || rushlight::backward(&pairs, keep, create_graph)))
    });
    let wanted: Option<Vec<u64>> = match inputs {
        Some(inputs) => Some(self::tensors(&inputs.0)?.iter().filter_map(Tensor::graph_id).collect()),
        None => None,
    };
    drop(outputs);
    for (id, grad) in found.or_raise()?.into_ids() {
        if wanted.as_ref().is_none_or(|w| w.contains(&id)) {
            let leaf = leaves().get(&id).and_then(Weak::upgrade);
            if let Some(leaf) = leaf {
                leaf.add(py, grad)?;
            }
        }
    }
    Ok(())
}

/// The gradients of the sum of `outputs` by each of `inputs`, none of which changes.
#[pyfunction]
#[pyo3(name = "_grad")]
fn grad(
    py: Python<'_>,
    outputs: Many<Py<PyTensor>>,
    inputs: Many<Py<PyTensor>>,
    grad_outputs: Option<Many<Option<Py<PyTensor>>>>,
    create_graph: bool,
    allow_unused: bool,
) -> PyResult<Vec<Option<PyTensor>>> {
    let (outputs, inputs) = (tensors(&outputs.0)?, tensors(&inputs.0)?);
    let grads = seeds("grad", &outputs, grad_outputs.map(|g| g.0))?;
    let found = py.detach(|| {
        // The sum of output · grad: the library's own starts from ones.
        let weighted = rushlight::set_grad_enabled(true, || {
            outputs.iter().zip(&grads).map(|(y, g)| y.mul(g)).collect::<rushlight::Result<Vec<_>>>()
        })?;
        let (weighted, inputs): (Vec<_>, Vec<_>) = (weighted.iter().collect(), inputs.iter().collect());
        callback(|| with_interrupt(signals, || rushlight::grad(&weighted, &inputs, create_graph)))
    });
    let found = found.or_raise()?;
    if !allow_unused && let Some(unused) = found.iter().position(Option::is_none) {
        let message = format!("grad: the outputs do not depend on input {unused}; give allow_unused=True to get None");
        return Err(PyValueError::new_err(message));
    }
    Ok(found.into_iter().map(|g| g.map(PyTensor::from)).collect())
}

// ---- what Python computes inside a walk ----

/// Taken off by `remove()`.
#[pyclass(module = "rushlight", frozen)]
pub struct RemovableHandle(rushlight::HookHandle);

#[pymethods]
impl RemovableHandle {
    /// The hook is not called any more.
    fn remove(&self) {
        self.0.remove();
    }
}

/// `hook(grad)` is called in every backward walk.
pub fn register_hook(value: &Tensor, hook: Py<PyAny>) -> PyResult<RemovableHandle> {
    let call = move |grad: &Tensor| {
        Python::attach(|py| {
            let called = callback(|| -> PyResult<Option<Tensor>> {
                let new = hook.bind(py).call1((PyTensor::from(grad.clone()),))?;
                if new.is_none() {
                    return Ok(None);
                }
                new.cast::<PyTensor>()?.get().value().map(Some)
            });
            called.map_err(|e| through("register_hook", py, e))
        })
    };
    Ok(RemovableHandle(value.register_hook(call).or_raise()?))
}

/// `outputs` (which Python's `forward` computed outside the graph) with `backward(*grads)` as their gradient rule.
///
/// The library's operations have one output each. Several become one, flat and one after the other, that is cut again.
#[pyfunction]
fn _record(
    name: String,
    inputs: Many<Option<Py<PyTensor>>>,
    outputs: Many<Py<PyTensor>>,
    backward: Py<PyAny>,
) -> PyResult<Vec<PyTensor>> {
    let inputs: Vec<Option<Tensor>> =
        inputs.0.iter().map(|t| t.as_ref().map(|t| t.get().value()).transpose()).collect::<PyResult<_>>()?;
    let outputs: Vec<Tensor> = tensors(&outputs.0)?.iter().map(Tensor::detach).collect();
    let tracked: Vec<Tensor> = inputs.iter().flatten().filter(|t| t.is_tracked()).cloned().collect();
    let float = outputs.iter().position(|y| y.dtype().is_float());
    let Some(float) = float.filter(|_| !tracked.is_empty() && enabled()) else {
        return Ok(outputs.into_iter().map(PyTensor::from).collect());
    };
    let dtype = outputs[float].dtype();
    if let Some(other) = outputs.iter().find(|y| y.dtype().is_float() && y.dtype() != dtype) {
        let message =
            format!("{name}: outputs of {dtype} and of {}; a function gives floats of one dtype", other.dtype());
        return Err(PyTypeError::new_err(message));
    }
    let shapes: Vec<(rushlight::Shape, bool)> =
        outputs.iter().map(|y| (y.shape().clone(), y.dtype().is_float())).collect();
    let places: Vec<usize> =
        inputs.iter().enumerate().filter(|(_, t)| t.as_ref().is_some_and(Tensor::is_tracked)).map(|(i, _)| i).collect();
    let flat: Vec<Tensor> = outputs
        .iter()
        .filter(|y| y.dtype().is_float())
        .map(|y| y.reshape(-1))
        .collect::<rushlight::Result<_>>()
        .or_raise()?;
    let all = if flat.len() == 1 { flat[0].clone() } else { Tensor::cat(&flat, 0).or_raise()? };
    let rule = {
        let (shapes, inputs): (Vec<_>, Vec<_>) =
            (shapes.clone(), tracked.iter().map(|t| (t.shape().clone(), t.dtype())).collect());
        let count = self::input_count(&places);
        move |dy: &Tensor| -> rushlight::Result<Vec<Option<Tensor>>> {
            let grads = cut(dy, &shapes)?;
            Python::attach(|py| {
                let called = callback(|| -> PyResult<Vec<Option<Tensor>>> {
                    let grads: Vec<Option<PyTensor>> = grads.into_iter().map(|g| g.map(PyTensor::from)).collect();
                    let result = backward.bind(py).call1(PyTuple::new(py, grads)?)?;
                    let result: Vec<Bound<'_, PyAny>> = match result.cast::<PyTuple>() {
                        Ok(all) => all.iter().collect(),
                        Err(_) => vec![result],
                    };
                    if result.len() < count {
                        return Err(PyValueError::new_err(format!(
                            "backward gave {} gradients for {count} inputs",
                            result.len()
                        )));
                    }
                    places
                        .iter()
                        .zip(&inputs)
                        .map(|(&i, (shape, dtype))| {
                            let g = &result[i];
                            if g.is_none() {
                                return Ok(None);
                            }
                            let g = g
                                .cast::<PyTensor>()
                                .map_err(|_| PyTypeError::new_err(format!("backward: gradient {i} is no tensor")))?;
                            let g = g.get().value()?;
                            // As torch does, a gradient that broadcast to more than its input's shape is refused.
                            if g.shape() != shape {
                                return Err(PyValueError::new_err(format!(
                                    "backward: gradient {i} has shape {}, its input {shape}",
                                    g.shape()
                                )));
                            }
                            g.to_dtype(*dtype).or_raise().map(Some)
                        })
                        .collect()
                });
                called.map_err(|e| through("Function", py, e))
            })
        }
    };
    let refs: Vec<&Tensor> = tracked.iter().collect();
    let recorded =
        rushlight::set_grad_enabled(true, || record("Function", all, &refs, rule).and_then(|all| cut(&all, &shapes)))
            .or_raise()?;
    Ok(recorded.into_iter().zip(outputs).map(|(new, old)| PyTensor::from(new.unwrap_or(old))).collect())
}

/// The floats among the outputs, in their shapes again.
fn cut(all: &Tensor, shapes: &[(rushlight::Shape, bool)]) -> rushlight::Result<Vec<Option<Tensor>>> {
    let mut start = 0;
    let piece = |(shape, float): &(rushlight::Shape, bool)| {
        if !float {
            return Ok(None);
        }
        start += shape.numel();
        all.narrow(0, start - shape.numel(), shape.numel())?.reshape(shape).map(Some)
    };
    shapes.iter().map(piece).collect()
}

fn input_count(places: &[usize]) -> usize {
    places.last().map_or(0, |p| p + 1)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<RemovableHandle>()?;
    m.add_function(wrap_pyfunction!(is_grad_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(_set_grad_mode, m)?)?;
    m.add_function(wrap_pyfunction!(backward, m)?)?;
    m.add_function(wrap_pyfunction!(grad, m)?)?;
    m.add_function(wrap_pyfunction!(_record, m)?)
}
