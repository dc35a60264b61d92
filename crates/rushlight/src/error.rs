//! One error type. Every variant names the operation (or file) and what was wrong with its input.

use std::path::{Path, PathBuf};

use crate::{DType, Shape};

/// What every fallible function of Rushlight returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes do not follow NumPy's broadcasting rule.
    #[error("{op}: lhs {} and rhs {} cannot broadcast at dim {dim} ({lhs_size} vs {rhs_size})", .shapes.0, .shapes.1)]
    Broadcast {
        /// The operation.
        op: &'static str,
        /// The shapes on the left and on the right.
        shapes: Box<(Shape, Shape)>,
        /// The dim of the broadcast result where they differ.
        dim: usize,
        /// Size on the left at that dim.
        lhs_size: usize,
        /// Size on the right at that dim.
        rhs_size: usize,
    },
    /// A dim index is outside `-rank..rank`.
    #[error("{op}: dim {dim} is out of range for shape {shape} of rank {}", .shape.rank())]
    Dim {
        /// The operation.
        op: &'static str,
        /// The dim as given.
        dim: i64,
        /// The shape it was used on.
        shape: Box<Shape>,
    },
    /// An index is outside the size of its dim.
    #[error("{op}: index {index} is out of range for dim {dim} of size {size}")]
    Index {
        /// The operation.
        op: &'static str,
        /// The index as given.
        index: i64,
        /// The dim indexed.
        dim: usize,
        /// Its size.
        size: usize,
    },
    /// The dtype is not one this operation takes.
    #[error("{op}: got dtype {got}, {expected}")]
    DType {
        /// The operation.
        op: &'static str,
        /// What was given.
        got: DType,
        /// What is taken, as a phrase: `expected a float dtype`.
        expected: String,
    },
    /// Shapes or arguments that do not fit together.
    #[error("{op}: {message}")]
    Invalid {
        /// The operation.
        op: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// Autodiff was asked for something it has no rule for.
    #[error("{op}: {message}")]
    Gradient {
        /// The operation.
        op: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// Memory was refused.
    #[error("{op}: cannot allocate {bytes} bytes")]
    OutOfMemory {
        /// The operation.
        op: &'static str,
        /// The size asked for.
        bytes: usize,
    },
    /// The operating system refused a file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file's content is not what its format asks for.
    #[error("{}: {message} (at byte {offset})", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        message: String,
    },
    /// A data set failed to give one of its samples.
    #[error("sample {index}: {source}")]
    Sample {
        /// The index of the sample.
        index: usize,
        /// The reason.
        source: Box<Error>,
    },
}

impl Error {
    /// An argument error of operation `op`.
    pub fn invalid(op: &'static str, message: impl Into<String>) -> Error {
        Error::Invalid { op, message: message.into() }
    }

    /// A dtype error of operation `op`.
    pub fn dtype(op: &'static str, got: DType, expected: impl Into<String>) -> Error {
        Error::DType { op, got, expected: expected.into() }
    }

    /// An autodiff error of operation `op`.
    pub fn gradient(op: &'static str, message: impl Into<String>) -> Error {
        Error::Gradient { op, message: message.into() }
    }

    /// A system error on `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Error {
        Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// A format error in `path` at `offset`.
    pub fn format(path: impl AsRef<Path>, offset: u64, message: impl Into<String>) -> Error {
        Error::Format { path: path.as_ref().to_path_buf(), offset, message: message.into() }
    }
}
