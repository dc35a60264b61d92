//! Text for models: tokens of it, batches of them, text of the tokens that a model gives, and how good that is.
//!
//! Token ids are `i64`, as tensors index by them.

pub mod batch;
pub mod beam;
pub mod bleu;
pub mod chat;
pub mod chrf;
mod gguf;
mod metric;
pub mod sample;
pub mod tokenizer;

pub use batch::{LmBatches, bucketed, pad};
pub use beam::{BeamSearch, Hypothesis};
pub use bleu::{Bleu, corpus_bleu, sentence_bleu};
pub use chat::{ChatTemplate, Message};
pub use chrf::{Chrf, ChrfOptions, corpus_chrf, sentence_chrf};
pub use sample::Sampling;
pub use tokenizer::{TokenStream, Tokenizer};
