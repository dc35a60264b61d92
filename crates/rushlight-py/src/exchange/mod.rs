//! Tensors of other libraries in and out, without a copy where memory allows: `__array_interface__` (NumPy), DLPack
//! (PyTorch and others), and bytes for pickling.

mod array;
mod dlpack;
mod numpy;

use pyo3::prelude::*;

pub use array::copy_array;

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    numpy::register(m)?;
    dlpack::register(m)
}
