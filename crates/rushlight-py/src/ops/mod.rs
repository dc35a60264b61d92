//! The operations, as tables: each row is a method of `Tensor` and a function of the module, with PyTorch's argument
//! names and defaults.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use rushlight::{Arg, DType, Tensor, with_interrupt};

use crate::args::Operand;
use crate::autograd;
use crate::dtype::AnyDType;
use crate::error::{OrRaise, Raised, signals};
use crate::tensor::PyTensor;
pub use load::Load;

/// A table of operations of one tensor and arguments.
macro_rules! both {
    ($table:ident: $($(#[$doc:meta])* $name:ident($($sig:tt)*)($($arg:ident: $ty:ty),*) = |$x:ident| $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            #[pyo3(signature = ($($sig)*))]
            pub fn $name(&self, py: Python<'_>, $($arg: $ty),*) -> PyResult<PyTensor> {
                let $x = self.value()?;
                let load = $x.numel()$(.max(crate::ops::Load::load(&$arg, &$x)))*;
                compute(py, load, move || $body)
            }
        )*}

        pub mod $table {
            use super::*;
            $(
                $(#[$doc])*
                #[pyfunction]
                #[pyo3(signature = (input, $($sig)*))]
                fn $name(py: Python<'_>, input: &Bound<'_, PyTensor>, $($arg: $ty),*) -> PyResult<PyTensor> {
                    input.get().$name(py, $($arg),*)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}

mod arithmetic;
mod bits;
mod load;
mod operators;
mod pairs;
mod places;
mod products;
mod reductions;
mod unary;

/// From this many elements on an operation gives the GIL away. Below, it ends sooner than another thread gives it back.
pub const LONG: usize = 1 << 13;

/// `f` in Python's grad mode; where it touches many elements without the GIL, and ended by Ctrl-C between two kernels.
#[inline]
pub fn compute<E: Into<Raised> + Send>(
    py: Python<'_>,
    elements: usize,
    f: impl FnOnce() -> Result<Tensor, E> + Send,
) -> PyResult<PyTensor> {
    let out = if elements < LONG { autograd::run(f) } else { apart(py, f) };
    out.map(PyTensor::from).map_err(|e| e.into().into())
}

/// As [`compute`] of many elements, for any result.
pub fn detached<R: Send>(py: Python<'_>, f: impl FnOnce() -> rushlight::Result<R> + Send) -> PyResult<R> {
    apart(py, f).or_raise()
}

fn apart<R: Send>(py: Python<'_>, f: impl FnOnce() -> R + Send) -> R {
    py.detach(|| with_interrupt(signals, || autograd::run(f)))
}

/// Ints in `*args`.
pub struct Variadic(pub smallvec::SmallVec<[i64; 6]>);

impl<'a, 'py> FromPyObject<'a, 'py> for Variadic {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Variadic(crate::args::shape_of(&obj.cast::<pyo3::types::PyTuple>()?.to_owned())?))
    }
}

pub fn cast(x: Tensor, dtype: Option<AnyDType>) -> rushlight::Result<Tensor> {
    match dtype {
        Some(dtype) => x.to_dtype(dtype.0),
        None => Ok(x),
    }
}

/// As PyTorch: a tensor without dims counts as a number where it meets one with dims.
fn meet(a: Tensor, b: Operand) -> rushlight::Result<(Tensor, Tensor)> {
    let b = b.tensor(a.dtype())?;
    let class = |d: DType| if d.is_float() { 2 } else { (d != DType::Bool) as u8 };
    let (da, db) = (a.dtype(), b.dtype());
    if da == db || (a.rank() == 0) == (b.rank() == 0) {
        return Ok((a, b));
    }
    if b.rank() == 0 && class(db) <= class(da) {
        let b = b.to_dtype(da)?;
        return Ok((a, b));
    }
    if a.rank() == 0 && class(da) <= class(db) {
        return Ok((a.to_dtype(db)?, b));
    }
    Ok((a, b))
}

/// A tensor argument (or a NumPy array).
pub struct Tensored(pub Tensor);

impl<'a, 'py> FromPyObject<'a, 'py> for Tensored {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(t) = obj.cast::<PyTensor>() {
            return Ok(Tensored(t.get().value()?));
        }
        match crate::create::from_array(&obj, None)? {
            Some(t) => Ok(Tensored(t)),
            None => Err(PyTypeError::new_err(format!("expected a tensor, got {}", obj.get_type()))),
        }
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    unary::table::register(m)?;
    pairs::table::register(m)?;
    arithmetic::table::register(m)?;
    bits::table::register(m)?;
    products::table::register(m)?;
    reductions::register(m)?;
    places::table::register(m)
}
