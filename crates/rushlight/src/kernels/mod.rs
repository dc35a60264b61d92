//! HOW it is computed here: slices in, slices out. SIMD and threads live only in this folder; it knows no Tensor.

pub(crate) mod conv;
pub(crate) mod gemm;
mod gemm_half;
pub(crate) mod math;
pub mod parallel;
pub mod simd;
mod turn;
