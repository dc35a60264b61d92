//! What a tensor tells about itself, and how it becomes Python's numbers.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use rushlight::{DType, Tensor};

use crate::args::Many;
use crate::autograd::{self, RemovableHandle};
use crate::dtype::{AnyDType, PyDType, object};
use crate::error::OrRaise;
use crate::ops::compute;
use crate::tensor::PyTensor;

#[pymethods]
impl PyTensor {
    /// `Tensor(data)`: float32 values of lists, or the tensor itself again.
    #[new]
    #[pyo3(signature = (data=None, requires_grad=false))]
    fn new(data: Option<&Bound<'_, PyAny>>, requires_grad: bool) -> PyResult<PyTensor> {
        let value = match data {
            None => Tensor::zeros(0, crate::dtype::default_float()).or_raise()?,
            Some(data) => {
                let t = crate::create::from_data(data, None)?;
                if data.cast::<PyTensor>().is_ok() {
                    t
                } else {
                    t.to_dtype(if t.dtype().is_float() { t.dtype() } else { crate::dtype::default_float() })
                        .or_raise()?
                }
            }
        };
        crate::create::finish(value, requires_grad)
    }

    /// The sizes of its dims.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.value()?.dims())
    }

    /// The sizes of its dims, or of one.
    #[pyo3(signature = (dim=None))]
    fn size(&self, py: Python<'_>, dim: Option<i64>) -> PyResult<Py<PyAny>> {
        use pyo3::IntoPyObjectExt;
        match dim {
            None => Ok(self.shape(py)?.into_any().unbind()),
            Some(dim) => self.value()?.size(dim).or_raise()?.into_py_any(py),
        }
    }

    /// The type of its elements.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> PyResult<Py<PyDType>> {
        object(py, self.value()?.dtype())
    }

    /// Where it is: always the CPU.
    #[getter]
    fn device(&self) -> &'static str {
        "cpu"
    }

    /// The number of dims.
    #[getter]
    fn ndim(&self) -> PyResult<usize> {
        Ok(self.value()?.rank())
    }

    /// The number of dims.
    fn dim(&self) -> PyResult<usize> {
        self.ndim()
    }

    /// The number of elements.
    fn numel(&self) -> PyResult<usize> {
        Ok(self.value()?.numel())
    }

    /// The number of elements.
    fn nelement(&self) -> PyResult<usize> {
        self.numel()
    }

    /// Bytes of an element.
    #[getter]
    fn itemsize(&self) -> PyResult<usize> {
        Ok(self.value()?.dtype().size())
    }

    /// Bytes of all elements.
    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        let x = self.value()?;
        Ok(x.numel() * x.dtype().size())
    }

    /// Bytes of an element.
    fn element_size(&self) -> PyResult<usize> {
        self.itemsize()
    }

    /// Its strides in elements, or one of them.
    #[pyo3(signature = (dim=None))]
    fn stride(&self, py: Python<'_>, dim: Option<i64>) -> PyResult<Py<PyAny>> {
        use pyo3::IntoPyObjectExt;
        let x = self.value()?;
        match dim {
            None => Ok(PyTuple::new(py, x.strides())?.into_any().unbind()),
            Some(dim) => x.strides()[rushlight::Dim::index(dim, "stride", x.shape()).or_raise()?].into_py_any(py),
        }
    }

    /// Whether its elements lie one after the other.
    fn is_contiguous(&self) -> PyResult<bool> {
        Ok(self.value()?.is_contiguous())
    }

    /// Whether it is of a float dtype.
    fn is_floating_point(&self) -> PyResult<bool> {
        Ok(self.value()?.dtype().is_float())
    }

    /// With its elements one after the other: itself, or a copy.
    fn contiguous(slf: &Bound<'_, Self>) -> PyResult<Py<PyTensor>> {
        let x = slf.get().value()?;
        if x.is_contiguous() {
            return Ok(slf.clone().unbind());
        }
        Py::new(slf.py(), compute(slf.py(), x.numel(), move || x.contiguous())?)
    }

    /// A copy that gradients flow through.
    fn clone(&self) -> PyResult<PyTensor> {
        // Values never change, so the elements can be shared until one of both is written to.
        let x = self.value()?;
        let y = autograd::run(|| {
            if x.is_tracked() {
                rushlight::record("clone", x.detach(), &[&x], |dy| Ok(dy.clone()))
            } else {
                Ok(x.clone())
            }
        });
        Ok(PyTensor::from(y.or_raise()?))
    }

    /// The tensor this is a view of, or None.
    #[getter]
    fn _base(&self, py: Python<'_>) -> Option<Py<PyTensor>> {
        self.base_of(py)
    }

    /// Whether `other` lies in the same memory.
    fn _shares_memory(&self, other: &Bound<'_, PyTensor>) -> PyResult<bool> {
        Ok(self.value()?.shares_storage(&other.get().value()?))
    }

    // ---- values ----

    /// The only element, as a Python number.
    fn item(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        use pyo3::IntoPyObjectExt;
        let x = self.value()?;
        match x.dtype() {
            DType::Bool => x.item::<bool>().or_raise()?.into_py_any(py),
            d if d.is_float() => x.item::<f64>().or_raise()?.into_py_any(py),
            _ => x.item::<i64>().or_raise()?.into_py_any(py),
        }
    }

    /// Nested lists of Python's numbers.
    fn tolist(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        crate::create::to_list(py, &self.value()?)
    }

    fn __bool__(&self) -> PyResult<bool> {
        let x = self.value()?;
        if x.numel() != 1 {
            let message = format!("the truth of a tensor of shape {} is ambiguous; use any() or all()", x.shape());
            return Err(PyValueError::new_err(message));
        }
        x.item::<f64>().map(|v| v != 0.0).or_raise()
    }

    fn __float__(&self) -> PyResult<f64> {
        self.value()?.item().or_raise()
    }

    fn __int__(&self) -> PyResult<i64> {
        self.value()?.item().or_raise()
    }

    fn __index__(&self) -> PyResult<i64> {
        let x = self.value()?;
        if x.dtype().is_float() || x.numel() != 1 {
            return Err(PyTypeError::new_err("only a whole number in a tensor of one element is an index"));
        }
        x.item().or_raise()
    }

    fn __repr__(&self) -> PyResult<String> {
        Ok(self.value()?.to_string())
    }

    fn __format__(&self, py: Python<'_>, spec: &str) -> PyResult<String> {
        let x = self.value()?;
        if spec.is_empty() || x.rank() > 0 {
            return Ok(x.to_string());
        }
        self.item(py)?.call_method1(py, "__format__", (spec,))?.extract(py)
    }

    // ---- dtypes ----

    /// Cast to a dtype (a device is taken and says nothing: there is only the CPU).
    #[pyo3(signature = (*args, dtype=None, device=None, copy=false, non_blocking=false))]
    fn to(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        dtype: Option<AnyDType>,
        device: Option<&Bound<'_, PyAny>>,
        copy: bool,
        non_blocking: bool,
    ) -> PyResult<Py<PyTensor>> {
        let _ = non_blocking;
        let mut dtype = dtype.map(|d| d.0);
        for arg in args.iter().chain(device.cloned()) {
            if let Ok(t) = arg.cast::<PyTensor>() {
                dtype = Some(t.get().value()?.dtype());
            } else if arg.str()? != "cpu" {
                dtype = Some(arg.extract::<AnyDType>()?.0);
            }
        }
        let x = slf.get().value()?;
        match dtype {
            Some(dtype) if dtype != x.dtype() => {
                Py::new(slf.py(), compute(slf.py(), x.numel(), move || x.to_dtype(dtype))?)
            }
            _ if copy => Py::new(slf.py(), slf.get().clone()?),
            _ => Ok(slf.clone().unbind()),
        }
    }

    /// This leaf with values of another dtype: what `Module.to` does to a parameter.
    fn _recast(&self, new: &Bound<'_, PyTensor>) -> PyResult<()> {
        self.recast(new.get().value()?.detach())
    }

    // ---- autograd ----

    /// Whether gradients flow to it.
    #[getter(requires_grad)]
    fn get_requires_grad(&self) -> PyResult<bool> {
        Ok(self.value()?.is_tracked())
    }

    #[setter(requires_grad)]
    fn assign_requires_grad(&self, on: bool) -> PyResult<()> {
        self.set_requires_grad(on)
    }

    /// Sets whether gradients are computed for this leaf.
    #[pyo3(signature = (requires_grad=true))]
    fn requires_grad_<'py>(slf: &Bound<'py, Self>, requires_grad: bool) -> PyResult<Bound<'py, Self>> {
        slf.get().set_requires_grad(requires_grad)?;
        Ok(slf.clone())
    }

    /// Whether no recorded operation made it.
    #[getter]
    fn is_leaf(&self) -> PyResult<bool> {
        let x = self.value()?;
        Ok(!x.is_tracked() || x.is_leaf())
    }

    /// The name of the operation that made it, or None.
    #[getter]
    fn grad_fn(&self) -> PyResult<Option<&'static str>> {
        Ok(self.value()?.grad_fn())
    }

    /// The gradient that `backward` has added up.
    #[getter(grad)]
    fn get_grad(&self, py: Python<'_>) -> Option<Py<PyTensor>> {
        self.leaf().and_then(|l| l.grad(py))
    }

    #[setter(grad)]
    fn assign_grad(&self, grad: Option<Py<PyTensor>>) -> PyResult<()> {
        if let Some(g) = &grad {
            let (g, x) = (g.get().value()?, self.value()?);
            if g.shape() != x.shape() {
                return Err(PyValueError::new_err(format!(
                    "grad: shape {} for a tensor of shape {}",
                    g.shape(),
                    x.shape()
                )));
            }
            if g.dtype() != x.dtype() {
                let message = format!("grad: a gradient of {} for a tensor of {}; cast it", g.dtype(), x.dtype());
                return Err(PyTypeError::new_err(message));
            }
        }
        match self.leaf() {
            Some(leaf) => leaf.set_grad(grad),
            None if grad.is_none() => {}
            None => return Err(PyValueError::new_err("grad: the tensor is no leaf that requires grad")),
        }
        Ok(())
    }

    /// The values outside the graph; writing to them writes to this.
    #[getter(data)]
    fn get_data(slf: &Bound<'_, Self>) -> PyResult<PyTensor> {
        PyTensor::view_or_detached(slf, true, |x| Ok(x.detach()))
    }

    #[setter(data)]
    fn assign_data(&self, data: &Bound<'_, PyTensor>) -> PyResult<()> {
        self.put_data(data.get().value()?.detach())
    }

    /// The gradients of this by every leaf it came from, added to their `.grad`.
    #[pyo3(signature = (gradient=None, retain_graph=None, create_graph=false, inputs=None))]
    fn backward(
        slf: &Bound<'_, Self>,
        gradient: Option<Py<PyTensor>>,
        retain_graph: Option<bool>,
        create_graph: bool,
        inputs: Option<Many<Py<PyTensor>>>,
    ) -> PyResult<()> {
        autograd::backward(
            slf.py(),
            Many(vec![slf.clone().unbind()]),
            Some(Many(vec![gradient])),
            retain_graph,
            create_graph,
            inputs,
        )
    }

    /// Calls `hook(grad)` in every backward walk; what it returns takes the gradient's place.
    fn register_hook(&self, hook: Py<PyAny>) -> PyResult<RemovableHandle> {
        autograd::register_hook(&self.value()?, hook)
    }

    /// Keeps the gradient of a tensor that is no leaf in its `.grad` too.
    fn retain_grad(&self) -> PyResult<()> {
        let value = self.value()?;
        if self.leaf().is_none() {
            self.keep_grad(&value)?;
        }
        Ok(())
    }

    /// `Tensor[…]` in annotations is the class itself.
    #[classmethod]
    fn __class_getitem__(cls: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        cls.clone().unbind()
    }
}
