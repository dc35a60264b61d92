//! Errors: those of the library as Python's, with the same text, and Python's on their way through the library.

use std::cell::RefCell;

use pyo3::exceptions::{PyIndexError, PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use rushlight::Error;

thread_local! {
    /// What a Python callback raised inside a gradient rule or hook; the library's error only carries its text.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Keeps `raised` to be raised again by [`python`], and gives the error that the library carries there.
pub fn through(op: &'static str, py: Python<'_>, raised: PyErr) -> Error {
    let text = raised.value(py).to_string();
    RAISED.set(Some(raised));
    Error::gradient(op, text)
}

/// The exception for an error of the library.
pub fn python(error: Error) -> PyErr {
    if let (Error::Gradient { .. }, Some(raised)) = (&error, RAISED.take()) {
        return raised;
    }
    let text = error.to_string();
    match error {
        Error::Dim { .. } | Error::Index { .. } => PyIndexError::new_err(text),
        Error::DType { .. } => PyTypeError::new_err(text),
        Error::OutOfMemory { .. } => PyMemoryError::new_err(text),
        // With the system's number Python picks FileNotFoundError and the like.
        Error::Io { source, .. } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, text)),
            None => PyOSError::new_err(text),
        },
        Error::Sample { source, .. } => python(*source),
        _ => PyValueError::new_err(text),
    }
}

/// `?` for a result of the library.
pub trait OrRaise<T> {
    /// The value, or the error as Python's.
    fn or_raise(self) -> PyResult<T>;
}

impl<T> OrRaise<T> for rushlight::Result<T> {
    #[inline]
    fn or_raise(self) -> PyResult<T> {
        self.map_err(python)
    }
}
