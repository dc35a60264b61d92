//! Layers: structs that hold their parameters and map tensors to tensors.

mod attention;
mod conv;
mod embedding;
mod feed_forward;
mod gate;
pub mod init;
mod kv_cache;
mod linear;
mod mixture;
mod module;
mod norm;
mod position;
mod quantized;
mod recurrent;
mod simple;
mod transformer;

pub use attention::{AttentionMasks, MultiHeadAttention, MultiHeadAttentionOptions, state_from_torch};
pub use conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use embedding::Embedding;
pub use feed_forward::{Activation, FeedForward};
pub use gate::{BoxedLayer, Gate, Highway, HighwayLayer};
pub use kv_cache::{AttentionCache, KvCache, LayerCache};
pub use linear::Linear;
pub use mixture::{ExpertGates, MixtureOfExperts};
pub use module::{Buffer, Description, Kind, Layer, Module, Path, StateDict, Visitor, VisitorMut};
pub use norm::{BatchNorm, GroupNorm, LayerNorm, RmsNorm};
pub use position::{Rotary, sinusoidal_positions};
pub use quantized::{QEmbedding, QLinear};
pub use recurrent::{Gru, GruCell, Lstm, LstmCell, LstmState, Nonlinearity, RecurrentOptions, Rnn, RnnCell};
pub use rushlight_derive::Module;
pub use simple::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d,
    AvgPool1d, AvgPool2d, AvgPool3d, Dropout, Elu, Flatten, Gelu, GeluTanh, LeakyRelu, LogSoftmax, LpPool1d, LpPool2d,
    LpPool3d, MaxPool1d, MaxPool2d, MaxPool3d, Relu, Sequential, Sigmoid, Silu, Softmax, SoftmaxPool1d, SoftmaxPool2d,
    SoftmaxPool3d, Softplus, Tanh,
};
pub use transformer::{
    DecoderMasks, NormKind, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
    TransformerOptions,
};
