//! Writing what a run leaves behind.

mod atomic;

pub use atomic::write_atomic;
