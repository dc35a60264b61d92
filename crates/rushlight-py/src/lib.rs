//! Rushlight for Python: the Rust half of the package `rushlight`.

mod args;
mod autograd;
mod create;
mod dtype;
mod error;
mod exchange;
mod functional;
mod index;
mod layers;
mod methods;
mod models;
mod ops;
mod optim;
mod reserve;
mod tensor;
mod views;

use pyo3::prelude::*;

#[global_allocator]
static MEMORY: reserve::Reserve = reserve::Reserve;

/// The Rust half of the package; `rushlight` has its names.
#[pymodule]
fn _rushlight(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<tensor::PyTensor>()?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    dtype::register(m)?;
    create::register(m)?;
    ops::register(m)?;
    views::register(m)?;
    autograd::register(m)?;
    functional::register(m)?;
    exchange::register(m)?;
    optim::register(m)?;
    layers::register(m)?;
    models::register(m)
}
