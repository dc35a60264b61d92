//! Operations of two operands, element by element.

use pyo3::prelude::*;

use super::arithmetic::{are_bools, floored, rest, times};
use super::{Load, bits, compute, meet};
use crate::args::Operand;
use crate::tensor::PyTensor;

macro_rules! pairs {
    ($($(#[$doc:meta])* $name:ident = |$a:ident, $b:ident| $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            pub fn $name(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
                let a = self.value()?;
                compute(py, a.numel().max(other.load(&a)), move || {
                    let ($a, $b) = meet(a, other)?;
                    $body
                })
            }
        )*}

        pub mod table {
            use super::*;
            $(
                $(#[$doc])*
                #[pyfunction]
                fn $name(py: Python<'_>, input: &Bound<'_, PyTensor>, other: Operand) -> PyResult<PyTensor> {
                    input.get().$name(py, other)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}

pairs! {
    /// `input · other`, element by element.
    mul = |a, b| times(&a, &b);
    /// `input · other`, element by element.
    multiply = |a, b| times(&a, &b);
    /// `⌊input / other⌋`. ZeroDivisionError: an integer by 0.
    floor_divide = |a, b| floored(&a, &b);
    /// What is left after `floor_divide`, with the sign of `other`. ZeroDivisionError: an integer by 0.
    remainder = |a, b| rest(&a, &b);
    /// The larger of each pair.
    maximum = |a, b| if are_bools(&a, &b) { a.logical_or(&b) } else { a.maximum(&b) };
    /// The smaller of each pair.
    minimum = |a, b| if are_bools(&a, &b) { a.logical_and(&b) } else { a.minimum(&b) };
    /// Whether `input == other`.
    eq = |a, b| a.eq(&b);
    /// Whether `input != other`.
    ne = |a, b| a.ne(&b);
    /// Whether `input < other`.
    lt = |a, b| a.lt(&b);
    /// Whether `input <= other`.
    le = |a, b| a.le(&b);
    /// Whether `input > other`.
    gt = |a, b| a.gt(&b);
    /// Whether `input >= other`.
    ge = |a, b| a.ge(&b);
    /// Whether both are not 0.
    logical_and = |a, b| a.logical_and(&b);
    /// Whether one or both are not 0.
    logical_or = |a, b| a.logical_or(&b);
    /// Whether just one is not 0.
    logical_xor = |a, b| a.logical_xor(&b);
    /// The bits that both have; of integers and bools.
    bitwise_and = |a, b| bits::bitwise("bitwise_and", &a, &b, |x, y| x & y);
    /// The bits that one or both have; of integers and bools.
    bitwise_or = |a, b| bits::bitwise("bitwise_or", &a, &b, |x, y| x | y);
    /// The bits that just one has; of integers and bools.
    bitwise_xor = |a, b| bits::bitwise("bitwise_xor", &a, &b, |x, y| x ^ y);
}
