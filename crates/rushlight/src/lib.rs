//! Rushlight: a deep-learning library small enough to read and fast enough to use.

// The derive macro names the library by its path.
extern crate self as rushlight;

mod autograd;
pub mod data;
mod dtype;
mod error;
pub mod io;
pub(crate) mod kernels;
pub mod nn;
mod ops;
pub mod optim;
pub mod random;
mod shape;
mod storage;
mod tensor;

pub use autograd::{
    GradCheck, Gradients, Grads, IntoGrads, checkpoint, grad, gradcheck, gradgradcheck, is_grad_enabled, no_grad,
    record, record_with_output, set_grad_enabled,
};
pub use dtype::{DType, Element, Float, Real, bf16, f16};
pub use error::{Error, Result};
pub use kernels::parallel::{num_threads, set_num_threads};
pub use ops::loss;
pub use ops::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, PoolOptions, einsum};
pub use shape::{Layout, Shape, Strides};
pub use storage::memory;
pub use tensor::{Arg, Dim, Dims, IntoShape, NestedArray, Tensor};
