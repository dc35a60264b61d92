//! Text for models: tokens of it, batches of them, and text of the tokens that a model gives.
//!
//! Token ids are `i64`, as tensors index by them.

pub mod tokenizer;

pub use tokenizer::{TokenStream, Tokenizer};
