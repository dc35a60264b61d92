//! Data as it lies in files, read into plain structs: bytes and text, no tensors yet.
//!
//! Every reader takes a file plain or gzipped, told apart by its first two bytes and not by its name, and refuses a
//! damaged one with [`Error::Format`](crate::Error::Format): the file, what is wrong, and where. Offsets count the
//! bytes of the content, that is after unzipping.

pub mod csv;
mod file;
pub mod idx;
pub mod points;
pub mod text;
