//! Files: tensors in the formats of the world, read and written.
//!
//! [`TensorFile`] opens any of them and gives its tensors one at a time, mapped where they can be. Each format has
//! functions of its own beside it, and [`convert`] goes from one to another. A damaged file is refused with
//! [`Error::Format`](crate::Error::Format): the file, what is wrong, and where. What a file claims costs nothing: memory
//! is bounded by what is there.

mod archive;
mod atomic;
mod checked;
mod convert;
mod cursor;
mod file;
mod gguf;
mod index;
mod json;
mod numpy;
mod pickle;
mod safetensors;
mod stored;
mod torch;
mod value;

pub use self::safetensors::{load_safetensors, save_safetensors};
pub use atomic::write_atomic;
pub use checked::{load_checked, save_checked};
pub use convert::{ConvertTo, Converted, convert, convert_sharded};
pub use file::{Format, TensorFile, TensorInfo};
pub use gguf::save_gguf;
pub use json::{JsonError, from_json, from_json_in};
pub use numpy::{load_npy, load_npz, save_npy, save_npz};
pub use stored::{Stored, Weight};
pub use torch::load_torch;
pub use value::{Array, Value};
