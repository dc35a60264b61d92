//! `+`, `@`, `==` and the other operators of Python, and what every `f_()` ends with.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use rushlight::Tensor;

use super::{Load, Tensored, arithmetic, bits, compute, meet};
use crate::args::Operand;
use crate::tensor::PyTensor;

/// Puts `new` in the place of the value of `slf`, cast to its dtype.
pub fn store(slf: &Bound<'_, PyTensor>, op: &str, new: Tensor) -> PyResult<()> {
    let old = slf.get().value()?;
    if new.shape() != old.shape() {
        let message = format!("{op}: the result of shape {} does not fit shape {} in place", new.shape(), old.shape());
        return Err(PyValueError::new_err(message));
    }
    if new.dtype().is_float() && !old.dtype().is_float() {
        let message = format!("{op}: a result of dtype {} does not fit dtype {} in place", new.dtype(), old.dtype());
        return Err(PyTypeError::new_err(message));
    }
    let dtype = old.dtype();
    drop(old);
    let new = if new.dtype() == dtype {
        new
    } else {
        compute(slf.py(), new.numel(), move || new.to_dtype(dtype))?.value()?
    };
    slf.get().replace(slf.py(), new)
}

#[pymethods]
impl PyTensor {
    /// Puts `new` in the place of this tensor's value: the end of every `f_()`.
    fn _store<'py>(slf: &Bound<'py, Self>, op: &str, new: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, Self>> {
        store(slf, op, new.get().value()?)?;
        Ok(slf.clone())
    }
    fn __add__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.add(py, other, None)
    }
    fn __radd__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.add(py, other, None)
    }
    fn __mul__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.mul(py, other)
    }
    fn __rmul__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.mul(py, other)
    }
    fn __floordiv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.floor_divide(py, other)
    }
    fn __rfloordiv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel().max(other.load(&a)), move || {
            let (a, b) = meet(a, other)?;
            arithmetic::floored(&b, &a)
        })
    }
    fn __mod__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.remainder(py, other)
    }
    fn __rmod__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel().max(other.load(&a)), move || {
            let (a, b) = meet(a, other)?;
            arithmetic::rest(&b, &a)
        })
    }
    fn __and__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_and(py, other)
    }
    fn __rand__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_and(py, other)
    }
    fn __or__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_or(py, other)
    }
    fn __ror__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_or(py, other)
    }
    fn __xor__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_xor(py, other)
    }
    fn __rxor__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_xor(py, other)
    }
    fn __lshift__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_left_shift(py, other)
    }
    fn __rlshift__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel().max(other.load(&a)), move || {
            let (a, b) = meet(a, other)?;
            bits::shifted("bitwise_left_shift", &b, &a, bits::left)
        })
    }
    fn __rshift__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_right_shift(py, other)
    }
    fn __rrshift__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel().max(other.load(&a)), move || {
            let (a, b) = meet(a, other)?;
            bits::shifted("bitwise_right_shift", &b, &a, bits::right)
        })
    }
    fn __sub__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.sub(py, other, None)
    }
    fn __rsub__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel().max(other.load(&a)), move || {
            arithmetic::no_bools("sub", &a, &other)?;
            let (a, b) = meet(a, other)?;
            b.sub(&a)
        })
    }
    fn __truediv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.true_divide(py, other)
    }
    fn __rtruediv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel().max(other.load(&a)), move || {
            let (a, b) = meet(a, other)?;
            b.div(&a)
        })
    }
    fn __pow__(&self, py: Python<'_>, exponent: Operand, modulo: Option<Py<PyAny>>) -> PyResult<PyTensor> {
        if modulo.is_some() {
            return Err(PyTypeError::new_err("pow: no modulus is taken"));
        }
        self.pow(py, exponent)
    }
    fn __rpow__(&self, py: Python<'_>, base: Operand, _modulo: Option<Py<PyAny>>) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel().max(base.load(&a)), move || {
            let (a, b) = meet(a, base)?;
            arithmetic::raised(&b, &a)
        })
    }
    fn __matmul__(&self, py: Python<'_>, other: Tensored) -> PyResult<PyTensor> {
        self.matmul(py, other)
    }
    fn __rmatmul__(&self, py: Python<'_>, other: Tensored) -> PyResult<PyTensor> {
        let x = self.value()?;
        compute(py, x.numel().max(other.load(&x)), move || other.0.matmul(&x))
    }
    fn __neg__(&self, py: Python<'_>) -> PyResult<PyTensor> {
        self.neg(py)
    }
    fn __pos__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }
    fn __abs__(&self, py: Python<'_>) -> PyResult<PyTensor> {
        self.abs(py)
    }
    fn __invert__(&self, py: Python<'_>) -> PyResult<PyTensor> {
        self.bitwise_not(py)
    }
    fn __richcmp__(&self, py: Python<'_>, other: Operand, op: pyo3::pyclass::CompareOp) -> PyResult<PyTensor> {
        use pyo3::pyclass::CompareOp::*;
        match op {
            Lt => self.lt(py, other),
            Le => self.le(py, other),
            Eq => self.eq(py, other),
            Ne => self.ne(py, other),
            Gt => self.gt(py, other),
            Ge => self.ge(py, other),
        }
    }
    /// By identity, as torch's.
    fn __hash__(slf: &Bound<'_, Self>) -> usize {
        slf.as_ptr() as usize >> 4
    }
}
