//! Layers: structs that hold their parameters and map tensors to tensors.

mod conv;
mod embedding;
pub mod init;
mod linear;
mod module;
mod norm;
mod simple;

pub use conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use embedding::Embedding;
pub use linear::Linear;
pub use module::{Buffer, Description, Kind, Layer, Module, Path, StateDict, Visitor, VisitorMut};
pub use norm::{BatchNorm, GroupNorm, LayerNorm, RmsNorm};
pub use rushlight_derive::Module;
pub use simple::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d,
    AvgPool1d, AvgPool2d, AvgPool3d, Dropout, Elu, Flatten, Gelu, GeluTanh, LeakyRelu, LogSoftmax, LpPool1d, LpPool2d,
    LpPool3d, MaxPool1d, MaxPool2d, MaxPool3d, Relu, Sequential, Sigmoid, Silu, Softmax, SoftmaxPool1d, SoftmaxPool2d,
    SoftmaxPool3d, Softplus, Tanh,
};
