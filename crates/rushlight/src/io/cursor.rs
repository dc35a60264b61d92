//! Reading numbers and strings from bytes one after the other; what is missing is an error that says where.

use std::path::Path;

use crate::{Error, Result};

/// A place in the bytes of a file.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
    /// Where the bytes begin in the file.
    start: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(path: &'a Path, bytes: &'a [u8], start: u64) -> Cursor<'a> {
        Cursor { path, bytes, at: 0, start }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at the place of byte `at`.
    pub fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::format(self.path, self.start.saturating_add(at as u64), message)
    }

    /// The next `n` bytes, which are called `what` where they are missing.
    pub fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        let left = self.left();
        if n > left as u64 {
            return Err(self.error(self.at, format!("{what} takes {n} bytes, but only {left} are left")));
        }
        let taken = &self.bytes[self.at..][..n as usize];
        self.at += n as usize;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    pub fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The next `n` bytes as UTF-8.
    pub fn text(&mut self, n: u64, what: &str) -> Result<&'a str> {
        let at = self.at;
        let bytes = self.take(n, what)?;
        std::str::from_utf8(bytes).map_err(|e| self.error(at + e.valid_up_to(), format!("{what} is not UTF-8")))
    }
}
