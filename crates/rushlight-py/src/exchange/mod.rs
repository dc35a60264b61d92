//! Tensors of other libraries in and out, without a copy where memory allows: the buffer protocol,
//! `__array_interface__` (NumPy), DLPack (PyTorch and others), and bytes for pickling.

mod array;
#[cfg(any(Py_3_11, not(Py_LIMITED_API)))]
mod buffer;
mod dlpack;
mod numpy;

use pyo3::prelude::*;

pub use array::copy_array;

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    numpy::register(m)?;
    dlpack::register(m)
}
