//! What takes several tensors: `cat`, `stack`, `einsum`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rushlight::Tensor;

use crate::args::Many;
use crate::error::OrRaise;
use crate::ops::{Tensored, detached};
use crate::tensor::PyTensor;

/// One after the other along `dim`.
#[pyfunction]
fn _cat(py: Python<'_>, tensors: Many<Tensored>, dim: i64) -> PyResult<PyTensor> {
    let all = promoted(tensors.0)?;
    Ok(detached(py, || Tensor::cat(&all, dim))?.into())
}

/// Beside each other along a new `dim`.
#[pyfunction]
fn _stack(py: Python<'_>, tensors: Many<Tensored>, dim: i64) -> PyResult<PyTensor> {
    let all = promoted(tensors.0)?;
    Ok(detached(py, || Tensor::stack(&all, dim))?.into())
}

fn promoted(tensors: Vec<Tensored>) -> PyResult<Vec<Tensor>> {
    let dtype = tensors.iter().map(|t| t.0.dtype()).reduce(rushlight::DType::promote);
    let dtype = dtype.ok_or_else(|| PyValueError::new_err("expected at least one tensor"))?;
    tensors
        .iter()
        .map(|t| {
            crate::autograd::run(|| if t.0.dtype() == dtype { Ok(t.0.clone()) } else { t.0.to_dtype(dtype) }).or_raise()
        })
        .collect()
}

/// Einstein's summation.
#[pyfunction]
fn _einsum(py: Python<'_>, equation: &str, operands: Many<Tensored>) -> PyResult<PyTensor> {
    let operands: Vec<&Tensor> = operands.0.iter().map(|t| &t.0).collect();
    Ok(detached(py, || rushlight::einsum(equation, &operands))?.into())
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_cat, m)?)?;
    m.add_function(wrap_pyfunction!(_stack, m)?)?;
    m.add_function(wrap_pyfunction!(_einsum, m)?)
}
