//! Data: readers of files, point sets, and [`DataLoader`], which makes batches of tensors.
//!
//! The readers give plain structs, bytes and text. Each takes a file plain or gzipped, told apart by its first two bytes and not by its name, and refuses a
//! damaged one with [`Error::Format`](crate::Error::Format): the file, what is wrong, and where. Offsets count the
//! bytes of the content, that is after unzipping.

pub mod csv;
mod file;
pub mod idx;
mod loader;
pub mod points;
pub mod text;

pub use loader::{Batches, DataLoader, Dataset, TensorDataset};
