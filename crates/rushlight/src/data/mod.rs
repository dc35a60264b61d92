//! Data: files read into plain structs of bytes and text, data sets of samples, and batches of them.
//!
//! Every reader takes a file plain or gzipped, told apart by its first two bytes and not by its name, and refuses a
//! damaged one with [`Error::Format`](crate::Error::Format): the file, what is wrong, and where. Offsets count the
//! bytes of the content, that is after unzipping.

pub mod csv;
mod dataset;
mod file;
pub mod idx;
pub mod images;
mod loader;
pub mod points;
pub mod text;

pub use dataset::{Dataset, TensorDataset, stack};
pub use loader::{DataLoader, Epoch, epoch_generator};
