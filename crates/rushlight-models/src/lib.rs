//! Networks built from Rushlight's layers, each one readable file with shapes in comments.

mod lenet;
mod mlp;

pub use lenet::LeNet;
pub use mlp::Mlp;
