//! Writing what a run leaves behind, and reading it again.

mod atomic;
mod safetensors;

pub use self::safetensors::{load_safetensors, save_safetensors};
pub use atomic::write_atomic;
