//! A file opened for reading, unzipped on the way if it is gzip.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result};

/// The first two bytes of every gzip stream (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The content of a file, read from its start.
pub(crate) struct Content {
    path: PathBuf,
    reader: Box<dyn Read>,
    gzip: bool,
    offset: u64,
}

impl Content {
    /// Opens `path`; it is gzip if it starts as gzip does.
    pub(crate) fn open(path: &Path) -> Result<Content> {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let mut head = Vec::with_capacity(2);
        (&mut file).take(2).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
        let gzip = head == GZIP_MAGIC;
        let plain = BufReader::with_capacity(1 << 16, Cursor::new(head).chain(file));
        let reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
        Ok(Content { path: path.to_path_buf(), reader, gzip, offset: 0 })
    }

    /// Reads until `limit` bytes or the end. Memory grows with what is there, never with `limit`.
    pub(crate) fn read_up_to(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        let read = self.reader.by_ref().take(limit).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        match read {
            Ok(_) => Ok(bytes),
            Err(e) => Err(self.error(e)),
        }
    }

    /// What the decoder itself complains about is the file's format; what the system refuses is not.
    fn error(&self, e: io::Error) -> Error {
        if self.gzip && e.raw_os_error().is_none() {
            Error::format(&self.path, self.offset, format!("corrupt gzip stream: {e}"))
        } else {
            Error::io(&self.path, e)
        }
    }
}

/// The whole content of `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    Content::open(path)?.read_up_to(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use super::*;

    /// `bytes` as a gzip stream.
    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A file with `bytes` in a folder that goes when the first value is dropped.
    pub(crate) fn file_of(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes() {
        for text in [&b""[..], b"a", b"ab", b"\x1f", &[7; 100_000]] {
            let (_dir, path) = file_of("plain.gz", text);
            assert_eq!(read(&path).unwrap(), text);
            let (_dir, path) = file_of("zipped.txt", &gzip(text));
            assert_eq!(read(&path).unwrap(), text);
        }
        // Concatenated gzip files are one gzip file.
        let (_dir, path) = file_of("two", &[gzip(b"one, "), gzip(b"two")].concat());
        assert_eq!(read(&path).unwrap(), b"one, two");
    }

    #[test]
    fn a_damaged_stream_is_a_format_error() {
        let noise: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let whole = gzip(&noise);
        for cut in [2, 5, 10, whole.len() / 2, whole.len() - 1] {
            let (_dir, path) = file_of("cut.gz", &whole[..cut]);
            let error = read(&path).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "{error}");
            assert!(error.to_string().contains("corrupt gzip stream"), "{error}");
        }
        let mut wrong_sum = whole.clone();
        wrong_sum[whole.len() - 8] ^= 1;
        let (_dir, path) = file_of("sum.gz", &wrong_sum);
        assert!(matches!(read(&path), Err(Error::Format { offset: 5000, .. })));
    }

    #[test]
    fn the_systems_refusals_stay_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(&dir.path().join("absent")), Err(Error::Io { .. })));
        assert!(matches!(read(dir.path()), Err(Error::Io { .. })));
    }
}
