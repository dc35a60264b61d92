//! Networks built from Rushlight's layers, each one readable file with shapes in comments.

mod gpt;
mod lenet;
mod mlp;
pub mod text;
mod text_classifier;
mod translator;

pub use gpt::{Block, CausalSelfAttention, FeedForward, Gpt, GptConfig};
pub use lenet::LeNet;
pub use mlp::Mlp;
pub use text_classifier::{TextAttention, TextClassifier, TextCnn};
pub use translator::{Memory, Translator, TranslatorConfig};
