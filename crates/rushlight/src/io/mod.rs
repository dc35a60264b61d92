//! Writing what a run leaves behind.

mod atomic;
mod safetensors;

pub use atomic::write_atomic;
pub use safetensors::{FileMetadata, load_safetensors, save_safetensors};
