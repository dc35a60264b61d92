//! Rushlight: a deep-learning library small enough to read and fast enough to use.
//!
//! A [`Tensor`] is an n-dimensional array of one [`DType`]. Operations are methods; on a tensor that came from one with
//! [`Tensor::requires_grad`] they record how to differentiate them, and [`Tensor::backward`] returns the
//! [`Gradients`]. Layers are in [`nn`], optimizers in [`optim`], losses in [`loss`], data sets in [`data`], files in
//! [`io`], weights of few bits in [`quant`].
//!
//! ```
//! use rushlight::nn::{Layer, Linear, Module, Relu, Sequential};
//! use rushlight::optim::{AdamW, Optimizer};
//! use rushlight::{Tensor, loss, random};
//!
//! random::manual_seed(0);
//! // Learn XOR.
//! let x = Tensor::new([[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])?;
//! let y = Tensor::new([0i64, 1, 1, 0])?;
//! let mut model = Sequential::new().push(Linear::new(2, 16)?).push(Relu).push(Linear::new(16, 2)?);
//! let mut optimizer = Optimizer::new(AdamW { lr: 0.05, ..AdamW::default() });
//! for _ in 0..200 {
//!     let loss = loss::cross_entropy(&model.forward(&x)?, &y)?;
//!     let grads = loss.backward()?;
//!     optimizer.step(&mut model, &grads)?;
//! }
//! assert_eq!(model.forward(&x)?.argmax(1)?.to_vec::<i64>()?, [0, 1, 1, 0]);
//! # Ok::<(), rushlight::Error>(())
//! ```

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
pub mod quant;
pub mod random;
mod shape;
mod storage;
mod tensor;

pub use autograd::{
    GradCheck, Gradients, Grads, HookHandle, IntoGrads, backward, checkpoint, grad, gradcheck, gradgradcheck,
    is_grad_enabled, no_grad, record, record_with_output, set_grad_enabled, with_interrupt,
};
pub use dtype::{DType, Element, Float, Real, bf16, f16};
pub use error::{Error, Result};
pub use kernels::parallel::{num_threads, set_num_threads};
pub use ops::loss;
pub use ops::{
    AttentionOptions, AvgPoolOptions, Causal, ConvOptions, ConvTransposeOptions, MatmulPrecision, PoolOptions,
    RotaryPairs, einsum, with_matmul_precision,
};
pub use shape::{Layout, Shape, Strides};
pub use storage::memory;
pub use tensor::{Arg, Dim, Dims, IntoShape, NestedArray, Tensor};
