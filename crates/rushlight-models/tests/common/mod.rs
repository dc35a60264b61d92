//! What the tests share.
#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};

/// A file of the bundled data.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}

/// `text` in a file of a folder that goes when the first value is dropped.
pub fn file_of(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}
