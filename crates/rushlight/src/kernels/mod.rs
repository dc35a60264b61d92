//! HOW it is computed here: slices in, slices out. SIMD and threads live only in this folder; it knows no Tensor.

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod elementwise;
pub(crate) mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_bf16;
mod gemm_half;
pub(crate) mod index;
mod lanes;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod optim;
pub mod parallel;
pub(crate) mod pool;
pub(crate) mod quant;
pub(crate) mod quant_matmul;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod rotary;
pub(crate) mod scan;
pub mod simd;
pub(crate) mod softmax;
pub(crate) mod sort;
pub(crate) mod stream;
pub(crate) mod strided;
mod turn;
