//! Layers: structs that hold their parameters and map tensors to tensors.

pub mod init;
mod linear;
mod module;

pub use linear::Linear;
pub use module::{Buffer, Description, Kind, Layer, Module, Path, StateDict, Visitor, VisitorMut};
pub use rushlight_derive::Module;
