//! WHAT is computed: one file per idea, each holding the method, its forward and its gradient rule side by side.

mod binary;
mod cast;
mod compare;
mod conv;
mod extremum;
mod index;
mod join;
mod matmul;
mod pool;
mod reduce;
mod unary;

pub use conv::{ConvOptions, ConvTransposeOptions};
pub use pool::{AvgPoolOptions, PoolOptions};
