//! WHAT is computed: one file per idea, each holding the method, its forward and its gradient rule side by side.

mod attention;
mod binary;
mod cast;
mod compare;
mod conv;
mod cross_entropy;
mod cumulative;
mod dropout;
mod einsum;
mod embedding;
mod extremum;
mod gate;
mod index;
mod join;
mod linear;
mod linear_cross_entropy;
pub mod loss;
mod matmul;
mod norm;
mod overwrite;
mod pool;
mod precision;
mod product;
pub(crate) mod recurrent;
mod reduce;
mod rotary;
mod softmax;
mod sort;
mod unary;

pub use attention::{AttentionOptions, Causal};
pub use conv::{ConvOptions, ConvTransposeOptions};
pub use einsum::einsum;
pub use pool::{AvgPoolOptions, PoolOptions};
pub use precision::{MatmulPrecision, with_matmul_precision};
pub use rotary::RotaryPairs;
