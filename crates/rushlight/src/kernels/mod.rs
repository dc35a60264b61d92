//! HOW it is computed here: slices in, slices out. SIMD and threads live only in this folder; it knows no Tensor.

pub(crate) mod math;
pub mod parallel;
pub mod simd;
