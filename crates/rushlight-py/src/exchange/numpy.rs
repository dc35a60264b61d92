//! NumPy's arrays by their `__array_interface__`, and bytes for pickling.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use rushlight::{DType, Tensor, bf16};

use super::array::{Array, copied, in_order, in_place, parse, read};
use crate::args::Many;
use crate::dtype::{AnyDType, numpy_code};
use crate::error::OrRaise;
use crate::ops::compute;
use crate::tensor::PyTensor;

/// A tensor over an array's memory, or of a copy where it cannot be used in place.
#[pyfunction]
fn _from_array(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let interface = array.getattr_opt("__array_interface__")?;
    let interface = interface
        .ok_or_else(|| PyTypeError::new_err(format!("from_numpy: expected a NumPy array, got {}", array.get_type())))?;
    let parsed = parse(&interface.cast_into::<PyDict>()?)?;
    if let Some(dtype) = crate::dtype::from_numpy_code(&parsed.code)
        && in_order(&parsed.shape, parsed.strides.as_deref(), dtype.size() as isize)
        && let Some(t) = in_place(dtype, parsed.start, &parsed.shape, Box::new(array.clone().unbind()))
    {
        return Ok(t.into());
    }
    Ok(copied(&parsed)?.into())
}

/// Holds a tensor's elements for whoever reads its `__array_interface__`.
#[pyclass(module = "rushlight", frozen)]
struct ArrayView(Tensor);

#[pymethods]
impl ArrayView {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let x = &self.0;
        let code = numpy_code(x.dtype()).ok_or_else(|| PyTypeError::new_err("numpy: NumPy has no bfloat16"))?;
        let order = if cfg!(target_endian = "little") { "<" } else { ">" };
        let order = if x.dtype().size() == 1 { "|" } else { order };
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", format!("{order}{code}"))?;
        interface.set_item("shape", PyTuple::new(py, x.dims())?)?;
        let size = x.dtype().size() as isize;
        interface.set_item("strides", PyTuple::new(py, x.strides().iter().map(|s| s * size))?)?;
        // Read only: others may hold the same elements.
        interface.set_item("data", (x.data_ptr() as usize, true))?;
        Ok(interface)
    }
}

#[pymethods]
impl PyTensor {
    /// What NumPy reads.
    fn _array(&self) -> PyResult<ArrayView> {
        Ok(ArrayView(self.value()?.detach()))
    }

    /// The elements in row-major order as bytes, of any dtype. Without it a whole number would say how many zeros.
    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self._to_bytes(py)
    }

    /// The elements as bytes, for pickling.
    fn _to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let x = self.value()?.detach();
        let x = compute(py, x.numel(), move || x.contiguous())?.value()?;
        let len = x.numel() * x.dtype().size();
        if len == 0 {
            return Ok(PyBytes::new(py, &[]));
        }
        // SAFETY: a contiguous tensor has that many bytes there, and they do not change while it lives.
        let bytes = unsafe { std::slice::from_raw_parts(x.data_ptr(), len) };
        // `PyBytes::new` panics where there is no memory.
        PyBytes::new_with(py, len, |out| {
            out.copy_from_slice(bytes);
            Ok(())
        })
    }
}

/// A tensor of what `_to_bytes` gave.
#[pyfunction]
fn _from_bytes(data: &[u8], dtype: AnyDType, shape: Many<usize>) -> PyResult<PyTensor> {
    let (size, shape) = (dtype.0.size(), shape.0);
    let count = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    if count.and_then(|n| n.checked_mul(size)) != Some(data.len()) {
        return Err(PyValueError::new_err(format!("{} bytes do not fill shape {shape:?}", data.len())));
    }
    let strides = None;
    let code = match dtype.0 {
        DType::BF16 => "u2",
        other => numpy_code(other).unwrap_or(""),
    };
    let array = Array { start: data.as_ptr() as usize, code: code.to_string(), shape, strides };
    if dtype.0 == DType::BF16 {
        return Ok(Tensor::from_vec(read(&array, bf16::from_bits)?, array.shape).or_raise()?.into());
    }
    Ok(copied(&array)?.into())
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ArrayView>()?;
    m.add_function(wrap_pyfunction!(_from_array, m)?)?;
    m.add_function(wrap_pyfunction!(_from_bytes, m)?)
}
