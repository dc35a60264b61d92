//! Views, as methods and functions: the same elements in another layout.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use rushlight::Tensor;

use crate::args::{Ints, Many, reserve, shape_of};
use crate::error::OrRaise;
use crate::ops::Tensored;
use crate::tensor::PyTensor;

/// Rows of a name, the arguments, and the view.
macro_rules! views {
    ($($(#[$doc:meta])* $name:ident($($sig:tt)*)($($arg:ident: $ty:ty),*) = |$x:ident| $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            #[pyo3(signature = ($($sig)*))]
            fn $name(slf: &Bound<'_, Self>, $($arg: $ty),*) -> PyResult<PyTensor> {
                PyTensor::view_of(slf, |$x| $body)
            }
        )*}

        pub mod functions {
            use super::*;
            $(
                $(#[$doc])*
                #[pyfunction]
                #[pyo3(signature = (input, $($sig)*))]
                fn $name(input: &Bound<'_, PyTensor>, $($arg: $ty),*) -> PyResult<PyTensor> {
                    PyTensor::view_of(input, |$x| $body)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}

views! {
    /// Two dims exchanged.
    transpose(dim0, dim1)(dim0: i64, dim1: i64) = |x| x.transpose(dim0, dim1);
    /// Two dims exchanged.
    swapaxes(axis0, axis1)(axis0: i64, axis1: i64) = |x| x.transpose(axis0, axis1);
    /// The two dims of a matrix exchanged.
    t()() = |x| match x.rank() {
        0 | 1 => Ok(x.clone()),
        2 => x.t(),
        _ => Err(rushlight::Error::invalid("t", format!("expected at most 2 dims, got shape {}; use mT", x.shape()))),
    };
    /// A dim of size 1 before `dim`.
    unsqueeze(dim)(dim: i64) = |x| x.unsqueeze(dim);
    /// Without dims of size 1: all, or those of `dim`.
    squeeze(dim=None)(dim: Option<Ints>) = |x| match &dim {
        None => x.squeeze(..),
        Some(dim) => x.squeeze(dim.0.as_slice()),
    };
    /// Dims `start_dim` to `end_dim` merged into one.
    flatten(start_dim=0, end_dim=-1)(start_dim: i64, end_dim: i64) = |x| x.flatten(start_dim, end_dim);
    /// `dim` split into `sizes`.
    unflatten(dim, sizes)(dim: i64, sizes: Ints) = |x| x.unflatten(dim, sizes.0.as_slice());
    /// All elements in one dim.
    ravel()() = |x| x.reshape(-1);
    /// `length` places of `dim` from `start` on.
    narrow(dim, start, length)(dim: i64, start: i64, length: usize) = |x| {
        let start = if start < 0 { start + x.size(dim)? as i64 } else { start };
        x.narrow(dim, usize::try_from(start).unwrap_or(usize::MAX), length)
    };
    /// The place `index` of `dim`.
    select(dim, index)(dim: i64, index: i64) = |x| x.select(dim, index);
    /// The diagonal of two dims as a new last dim.
    diagonal(offset=0, dim1=0, dim2=1)(offset: i64, dim1: i64, dim2: i64) = |x| x.diagonal(offset, dim1, dim2);
    /// Dims of `source` moved to `destination`.
    movedim(source, destination)(source: Ints, destination: Ints) = |x| moved(x, &source, &destination);
    /// Dims of size 1 repeated to the sizes of another tensor.
    broadcast_to(size)(size: Ints) = |x| x.expand(size.0.as_slice());
    /// Windows of `size` places along `dimension`, every `step`, as a new last dim.
    unfold(dimension, size, step)(dimension: i64, size: usize, step: usize) = |x| windows(x, dimension, size, step);
    /// The elements at `storage_offset + Σ index · stride` of a contiguous tensor.
    as_strided(size, stride, storage_offset=0)(size: Ints, stride: Ints, storage_offset: usize) = |x| {
        let stride: Vec<isize> = stride.0.iter().map(|&s| s as isize).collect();
        x.as_strided(size.0.as_slice(), &stride, storage_offset)
    };
}

fn windows(x: &Tensor, dimension: i64, size: usize, step: usize) -> rushlight::Result<Tensor> {
    let last = x.rank().saturating_sub(1);
    let d = rushlight::Dim::index(dimension, "unfold", x.shape())?;
    let windows = x.transpose(d, last)?.windows([size], [step], [1])?;
    // [.., windows, size], with the windows back in the place of the dim.
    windows.transpose(d, last)
}

fn moved(x: &Tensor, source: &Ints, destination: &Ints) -> rushlight::Result<Tensor> {
    let index = |dims: &Ints| {
        dims.0.iter().map(|&d| rushlight::Dim::index(d, "movedim", x.shape())).collect::<rushlight::Result<Vec<_>>>()
    };
    let (source, destination) = (index(source)?, index(destination)?);
    if source.len() != destination.len() {
        let message = format!("{} dims cannot move to {} places", source.len(), destination.len());
        return Err(rushlight::Error::invalid("movedim", message));
    }
    let mut rest = (0..x.rank()).filter(|d| !source.contains(d));
    let order: Vec<usize> = (0..x.rank())
        .filter_map(|to| match destination.iter().position(|&d| d == to) {
            Some(i) => Some(source[i]),
            None => rest.next(),
        })
        .collect();
    x.permute(&order)
}

/// `count` views. MemoryError: there is no room for so many. (A list from the first on: for each tensor Python is asked for
/// memory as well, and can say no.)
fn pieces<'py>(
    x: &Bound<'py, PyTensor>,
    count: usize,
    mut piece: impl FnMut(&Tensor, usize) -> rushlight::Result<Tensor> + Send,
) -> PyResult<Bound<'py, PyList>> {
    reserve(&mut Vec::<PyTensor>::new(), count)?;
    let all = PyList::empty(x.py());
    for i in 0..count {
        all.append(Bound::new(x.py(), PyTensor::view_of(x, |x| piece(x, i))?)?)?;
    }
    Ok(all)
}

/// Pieces of `size` of the `n` places of `dim`; the last may be smaller.
fn even<'py>(x: &Bound<'py, PyTensor>, dim: i64, n: usize, size: usize) -> PyResult<Bound<'py, PyList>> {
    pieces(x, n.div_ceil(size).max(1), |x, i| x.narrow(dim, i * size, size.min(n - i * size)))
}

#[pymethods]
impl PyTensor {
    /// The same elements in another shape without a copy; one size may be -1.
    #[pyo3(signature = (*shape))]
    fn view<'py>(slf: &Bound<'py, Self>, shape: &Bound<'py, PyTuple>) -> PyResult<PyTensor> {
        let shape = shape_of(shape)?;
        PyTensor::view_of(slf, |x| x.view(shape.as_slice()))
    }

    /// The same elements in another shape; one size may be -1.
    #[pyo3(signature = (*shape))]
    fn reshape<'py>(slf: &Bound<'py, Self>, shape: &Bound<'py, PyTuple>) -> PyResult<PyTensor> {
        let shape = shape_of(shape)?;
        PyTensor::view_of(slf, |x| x.reshape(shape.as_slice()))
    }

    /// The shape of another tensor.
    fn view_as(slf: &Bound<'_, Self>, other: Tensored) -> PyResult<PyTensor> {
        PyTensor::view_of(slf, |x| x.view(other.0.shape()))
    }

    /// The shape of another tensor.
    fn reshape_as(slf: &Bound<'_, Self>, other: Tensored) -> PyResult<PyTensor> {
        PyTensor::view_of(slf, |x| x.reshape(other.0.shape()))
    }

    /// The dims in another order.
    #[pyo3(signature = (*dims))]
    fn permute<'py>(slf: &Bound<'py, Self>, dims: &Bound<'py, PyTuple>) -> PyResult<PyTensor> {
        let dims = shape_of(dims)?;
        PyTensor::view_of(slf, |x| x.permute(dims.as_slice()))
    }

    /// Dims of size 1 repeated without a copy; -1 keeps a size.
    #[pyo3(signature = (*size))]
    fn expand<'py>(slf: &Bound<'py, Self>, size: &Bound<'py, PyTuple>) -> PyResult<PyTensor> {
        let size = shape_of(size)?;
        PyTensor::view_of(slf, |x| x.expand(size.as_slice()))
    }

    /// `expand` to the shape of another tensor.
    fn expand_as(slf: &Bound<'_, Self>, other: Tensored) -> PyResult<PyTensor> {
        PyTensor::view_of(slf, |x| x.expand(other.0.shape()))
    }

    /// Copies one after the other along each dim.
    #[pyo3(signature = (*repeats))]
    fn repeat<'py>(&self, py: Python<'py>, repeats: &Bound<'py, PyTuple>) -> PyResult<PyTensor> {
        let (x, repeats) = (self.value()?, shape_of(repeats)?);
        let copies = repeats.iter().fold(1, |all: usize, &n| all.saturating_mul(n.max(0) as usize));
        crate::ops::compute(py, x.numel().saturating_mul(copies), move || x.repeat(repeats.as_slice()))
    }

    /// All dims reversed; of a matrix the transpose.
    #[getter(T)]
    fn reversed(slf: &Bound<'_, Self>) -> PyResult<PyTensor> {
        PyTensor::view_of(slf, |x| x.permute((0..x.rank()).rev().collect::<Vec<_>>()))
    }

    /// The last two dims exchanged.
    #[getter(mT)]
    fn matrix_transposed(slf: &Bound<'_, Self>) -> PyResult<PyTensor> {
        PyTensor::view_of(slf, |x| x.t())
    }

    /// Pieces of `split_size` places of `dim`, or of the sizes given.
    #[pyo3(signature = (split_size, dim=0))]
    fn split<'py>(slf: &Bound<'py, Self>, split_size: &Bound<'_, PyAny>, dim: i64) -> PyResult<Bound<'py, PyList>> {
        let n = slf.get().value()?.size(dim).or_raise()?;
        let sizes = match split_size.extract::<usize>() {
            Ok(0) if n > 0 => return Err(PyValueError::new_err("split: the size of a piece is at least 1")),
            Ok(size) => return even(slf, dim, n, size.max(1)),
            Err(_) => split_size.extract::<Many<usize>>()?.0,
        };
        if sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(n) {
            return Err(PyValueError::new_err(format!("split: sizes {sizes:?} do not add up to {n} places")));
        }
        let mut start = 0;
        pieces(slf, sizes.len(), |x, i| {
            start += sizes[i];
            x.narrow(dim, start - sizes[i], sizes[i])
        })
    }

    /// At most `chunks` pieces of equal size along `dim`.
    #[pyo3(signature = (chunks, dim=0))]
    fn chunk<'py>(slf: &Bound<'py, Self>, chunks: usize, dim: i64) -> PyResult<Bound<'py, PyList>> {
        let n = slf.get().value()?.size(dim).or_raise()?;
        if chunks == 0 {
            return Err(PyValueError::new_err("chunk: at least 1 piece"));
        }
        even(slf, dim, n, n.div_ceil(chunks).max(1))
    }

    /// A tensor for each place of `dim`.
    #[pyo3(signature = (dim=0))]
    fn unbind<'py>(slf: &Bound<'py, Self>, dim: i64) -> PyResult<Bound<'py, PyList>> {
        let n = slf.get().value()?.size(dim).or_raise()?;
        pieces(slf, n, |x, i| x.select(dim, i as i64))
    }

    /// The same values outside the graph, in the same place: writing to it writes to this.
    fn detach(slf: &Bound<'_, Self>) -> PyResult<PyTensor> {
        PyTensor::view_or_detached(slf, true, |x| Ok(x.detach()))
    }
}

/// The dims in another order.
#[pyfunction]
fn permute(input: &Bound<'_, PyTensor>, dims: Ints) -> PyResult<PyTensor> {
    PyTensor::view_of(input, |x| x.permute(dims.0.as_slice()))
}

/// The same elements in another shape; one size may be -1.
#[pyfunction]
fn reshape(input: &Bound<'_, PyTensor>, shape: Ints) -> PyResult<PyTensor> {
    PyTensor::view_of(input, |x| x.reshape(shape.0.as_slice()))
}

/// Pieces of `split_size_or_sections` places of `dim`, or of the sizes given.
#[pyfunction]
#[pyo3(signature = (tensor, split_size_or_sections, dim=0))]
fn split<'py>(
    tensor: &Bound<'py, PyTensor>,
    split_size_or_sections: &Bound<'_, PyAny>,
    dim: i64,
) -> PyResult<Bound<'py, PyList>> {
    PyTensor::split(tensor, split_size_or_sections, dim)
}

/// At most `chunks` pieces of equal size along `dim`.
#[pyfunction]
#[pyo3(signature = (input, chunks, dim=0))]
fn chunk<'py>(input: &Bound<'py, PyTensor>, chunks: usize, dim: i64) -> PyResult<Bound<'py, PyList>> {
    PyTensor::chunk(input, chunks, dim)
}

/// A tensor for each place of `dim`.
#[pyfunction]
#[pyo3(signature = (input, dim=0))]
fn unbind<'py>(input: &Bound<'py, PyTensor>, dim: i64) -> PyResult<Bound<'py, PyList>> {
    PyTensor::unbind(input, dim)
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    functions::register(m)?;
    m.add_function(wrap_pyfunction!(permute, m)?)?;
    m.add_function(wrap_pyfunction!(reshape, m)?)?;
    m.add_function(wrap_pyfunction!(split, m)?)?;
    m.add_function(wrap_pyfunction!(chunk, m)?)?;
    m.add_function(wrap_pyfunction!(unbind, m)?)
}
