//! Errors: those of the library as Python's, with the same text, and Python's on their way through the library.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyIndexError, PyMemoryError, PyOSError, PyTypeError, PyValueError, PyZeroDivisionError};
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

thread_local! {
    static ASKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Ends a walk or an operation with Python's exception if a signal came: Ctrl-C's KeyboardInterrupt.
///
/// Asked before every operation, it asks Python only now and then: another thread may hold the GIL for milliseconds.
pub fn signals() -> rushlight::Result<()> {
    let now = Instant::now();
    if ASKED.get().is_some_and(|last| now.duration_since(last) < PATIENCE) {
        return Ok(());
    }
    let found = Python::attach(|py| py.check_signals().map_err(|e| through("backward", py, e)));
    ASKED.set(Some(Instant::now()));
    found
}

/// How long a signal waits at least.
const PATIENCE: Duration = Duration::from_millis(100);

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

/// Why an operation was refused: by the library, or here, for what only Python has an exception for.
pub enum Raised {
    Library(Error),
    ZeroDivision(String),
}

impl From<Error> for Raised {
    fn from(error: Error) -> Raised {
        Raised::Library(error)
    }
}

impl From<Raised> for PyErr {
    fn from(raised: Raised) -> PyErr {
        match raised {
            Raised::Library(error) => python(error),
            Raised::ZeroDivision(text) => PyZeroDivisionError::new_err(text),
        }
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
