//! Reductions over dims, extremes with their places, and sorting.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use rushlight::{DType, Tensor};

use super::{cast, compute, detached};
use crate::args::{Ints, Operand, Over};
use crate::dtype::AnyDType;
use crate::tensor::PyTensor;

both! { table:
    /// The sum over `dim` (None: all).
    sum(dim=None, keepdim=false, *, dtype=None)(dim: Option<Ints>, keepdim: bool, dtype: Option<AnyDType>) = |x| {
        let x = cast(x, dtype)?;
        if keepdim { x.sum_keepdim(Over::of(dim)) } else { x.sum(Over::of(dim)) }
    };
    /// The mean over `dim` (None: all).
    mean(dim=None, keepdim=false, *, dtype=None)(dim: Option<Ints>, keepdim: bool, dtype: Option<AnyDType>) = |x| {
        let x = cast(x, dtype)?;
        if keepdim { x.mean_keepdim(Over::of(dim)) } else { x.mean(Over::of(dim)) }
    };
    /// The product over `dim` (None: all).
    prod(dim=None, keepdim=false, *, dtype=None)(dim: Option<Ints>, keepdim: bool, dtype: Option<AnyDType>) = |x| {
        keep(&cast(x, dtype)?, dim, keepdim, |x, d| x.prod(d))
    };
    /// Whether any over `dim` (None: all) is not 0.
    any(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.any(d));
    /// Whether all over `dim` (None: all) are not 0.
    all(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.all(d));
    /// The largest over `dim`.
    amax(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.amax(d));
    /// The smallest over `dim`.
    amin(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.amin(d));
    /// The variance over `dim`, divided by the number less `correction`.
    var(dim=None, *, correction=1.0, keepdim=false)(dim: Option<Ints>, correction: f64, keepdim: bool) =
        |x| if keepdim { x.var_keepdim(Over::of(dim), correction) } else { x.var(Over::of(dim), correction) };
    /// `ln Σ eˣ` over `dim`.
    logsumexp(dim, keepdim=false)(dim: Ints, keepdim: bool) = |x| keep(&x, Some(dim), keepdim, |x, d| x.logsumexp(d));
    /// `(Σ |x|ᵖ)^(1/p)` over `dim`.
    norm(p=2.0, dim=None, keepdim=false)(p: f64, dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.norm(p, d));
    /// The index of the largest along `dim` (None: of all, flattened).
    argmax(dim=None, keepdim=false)(dim: Option<i64>, keepdim: bool) = |x| along(&x, dim, keepdim, |x, d| x.argmax(d));
    /// The index of the smallest along `dim` (None: of all, flattened).
    argmin(dim=None, keepdim=false)(dim: Option<i64>, keepdim: bool) = |x| along(&x, dim, keepdim, |x, d| x.argmin(d));
    /// The order that sorts along `dim`.
    argsort(dim=-1, descending=false)(dim: i64, descending: bool) = |x| x.argsort(dim, descending);
    /// How many are not 0.
    count_nonzero(dim=None)(dim: Option<Ints>) = |x| x.to_dtype(DType::Bool)?.sum(Over::of(dim));
}

/// The standard deviation over `dim`.
#[pyfunction]
#[pyo3(name = "std", signature = (input, dim=None, *, correction=1.0, keepdim=false))]
fn deviation(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    dim: Option<Ints>,
    correction: f64,
    keepdim: bool,
) -> PyResult<PyTensor> {
    input.get().deviation(py, dim, correction, keepdim)
}

#[pymethods]
impl PyTensor {
    /// The standard deviation over `dim`.
    #[pyo3(name = "std", signature = (dim=None, *, correction=1.0, keepdim=false))]
    fn deviation(&self, py: Python<'_>, dim: Option<Ints>, correction: f64, keepdim: bool) -> PyResult<PyTensor> {
        let x = self.value()?;
        compute(py, x.numel(), move || keep(&x, dim, keepdim, |x, d| x.std(d, correction)))
    }
}

/// `f` over dims, which keep size 1 if asked for.
fn keep(
    x: &Tensor,
    dim: Option<Ints>,
    keepdim: bool,
    f: impl Fn(&Tensor, Over) -> rushlight::Result<Tensor>,
) -> rushlight::Result<Tensor> {
    let y = f(x, Over::of(dim.clone()))?;
    if !keepdim {
        return Ok(y);
    }
    let dims = rushlight::Dims::indices(&Over::of(dim), "keepdim", x.shape())?;
    let shape: Vec<usize> = x.dims().iter().enumerate().map(|(d, &n)| if dims.contains(&d) { 1 } else { n }).collect();
    y.reshape(shape)
}

fn along(
    x: &Tensor,
    dim: Option<i64>,
    keepdim: bool,
    f: impl Fn(&Tensor, i64) -> rushlight::Result<Tensor>,
) -> rushlight::Result<Tensor> {
    match dim {
        None => {
            let y = f(&x.reshape(-1)?, 0)?;
            if keepdim { y.reshape(vec![1usize; x.rank()]) } else { Ok(y) }
        }
        Some(dim) if x.rank() == 0 => f(&x.reshape(1)?, dim),
        Some(dim) => {
            let y = f(x, dim)?;
            if keepdim { y.unsqueeze(if dim < 0 { dim + x.rank() as i64 } else { dim }) } else { Ok(y) }
        }
    }
}

/// `(values, indices)`, with these names.
fn named_pair<'py>(py: Python<'py>, values: Tensor, indices: Tensor) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        py.import("rushlight._types").and_then(|m| m.getattr("ValuesIndices")).map(Bound::unbind)
    })?;
    class.bind(py).call1((PyTensor::from(values), PyTensor::from(indices)))
}

macro_rules! extremes {
    ($($name:ident, $all:ident, $keep:ident, $pair:ident;)*) => {
        #[pymethods]
        impl PyTensor {$(
            /// The extreme of all; with a dim, `(values, indices)` along it; with a tensor, of each pair.
            #[pyo3(signature = (dim=None, keepdim=false, *, other=None))]
            fn $name<'py>(&self, py: Python<'py>, dim: Option<Bound<'py, PyAny>>, keepdim: bool, other: Option<Operand>) -> PyResult<Bound<'py, PyAny>> {
                let x = self.value()?;
                let wrap = |t: PyTensor| Ok(Bound::new(py, t)?.into_any());
                if let Some(other) = other {
                    return wrap(self.$pair(py, other)?);
                }
                let Some(dim) = dim else {
                    return wrap(compute(py, x.numel(), move || x.$all(..))?);
                };
                if dim.cast::<PyTensor>().is_ok() {
                    return wrap(self.$pair(py, dim.extract()?)?);
                }
                let dim: i64 = dim.extract()?;
                let (values, indices) = detached(py, move || {
                    if x.rank() == 0 {
                        let (v, i) = x.reshape(1)?.$name(dim)?;
                        return Ok((v, i));
                    }
                    if keepdim { x.$keep(dim) } else { x.$name(dim) }
                })?;
                named_pair(py, values, indices)
            }
        )*}
        pub mod extreme {
            use super::*;
            $(
                /// The extreme of all; with a dim, `(values, indices)` along it; with a tensor, of each pair.
                #[pyfunction]
                #[pyo3(signature = (input, dim=None, keepdim=false, *, other=None))]
                fn $name<'py>(py: Python<'py>, input: &Bound<'py, PyTensor>, dim: Option<Bound<'py, PyAny>>, keepdim: bool, other: Option<Operand>) -> PyResult<Bound<'py, PyAny>> {
                    input.get().$name(py, dim, keepdim, other)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}
extremes! {
    max, amax, max_keepdim, maximum;
    min, amin, min_keepdim, minimum;
}

macro_rules! sorts {
    ($($(#[$doc:meta])* $name:ident($($sig:tt)*)($($arg:ident: $ty:ty),*) = |$x:ident| $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            #[pyo3(signature = ($($sig)*))]
            fn $name<'py>(&self, py: Python<'py>, $($arg: $ty),*) -> PyResult<Bound<'py, PyAny>> {
                let $x = self.value()?;
                let (values, indices) = detached(py, move || $body)?;
                named_pair(py, values, indices)
            }
        )*}
        pub mod sorting {
            use super::*;
            $(
                $(#[$doc])*
                #[pyfunction]
                #[pyo3(signature = (input, $($sig)*))]
                fn $name<'py>(py: Python<'py>, input: &Bound<'py, PyTensor>, $($arg: $ty),*) -> PyResult<Bound<'py, PyAny>> {
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
sorts! {
    /// Sorted along `dim`, and where each came from.
    sort(dim=-1, descending=false)(dim: i64, descending: bool) = |x| x.sort(dim, descending);
    /// The `k` largest (or smallest) along `dim`, and where they lie.
    topk(k, dim=-1, largest=true)(k: usize, dim: i64, largest: bool) = |x| x.topk(k, dim, largest);
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    table::register(m)?;
    extreme::register(m)?;
    sorting::register(m)?;
    m.add_function(wrap_pyfunction!(deviation, m)?)
}
