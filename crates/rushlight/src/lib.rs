//! Rushlight: a deep-learning library small enough to read and fast enough to use.

pub mod data;
mod dtype;
mod error;
pub mod io;
pub(crate) mod kernels;
mod shape;
mod storage;

pub use dtype::{DType, Element, Float, Real, bf16, f16};
pub use error::{Error, Result};
pub use kernels::parallel::{num_threads, set_num_threads};
pub use shape::{Layout, Shape, Strides};
pub use storage::memory;
