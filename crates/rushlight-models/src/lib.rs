//! Networks built from Rushlight's layers, each one readable file with shapes in comments.

mod bert;
mod gpt;
mod lenet;
mod llama;
mod lora;
mod mlp;
mod pretrained;
mod sentence;
pub mod text;
mod text_classifier;
mod translator;

pub use bert::{Bert, BertAttention, BertConfig, BertEmbeddings, BertLayer};
pub use gpt::{Block, CausalSelfAttention, FeedForward, Gpt, GptConfig};
pub use lenet::LeNet;
pub use llama::{Llama, LlamaAttention, LlamaConfig, LlamaLayer, LlamaMlp, RopeScaling};
pub use lora::Lora;
pub use mlp::Mlp;
pub use pretrained::{Network, Pretrained};
pub use sentence::SentenceEncoder;
pub use text_classifier::{TextAttention, TextClassifier, TextCnn};
pub use translator::{Memory, Translator, TranslatorConfig};
