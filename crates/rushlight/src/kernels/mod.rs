//! HOW it is computed here: slices in, slices out. SIMD and threads live only in this folder; it knows no Tensor.

pub(crate) mod dropout;
pub(crate) mod elementwise;
pub(crate) mod gemm;
mod gemm_half;
pub(crate) mod index;
pub(crate) mod math;
pub(crate) mod optim;
pub mod parallel;
pub(crate) mod random;
pub(crate) mod reduce;
pub mod simd;
pub(crate) mod strided;
