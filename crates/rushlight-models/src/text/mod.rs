//! Text for models: tokens of it, batches of them, and text of the tokens that a model gives.
//!
//! Token ids are `i64`, as tensors index by them.

pub mod batch;
pub mod sample;
pub mod tokenizer;

pub use batch::{LmBatches, bucketed, pad};
pub use sample::Sampling;
pub use tokenizer::{TokenStream, Tokenizer};
