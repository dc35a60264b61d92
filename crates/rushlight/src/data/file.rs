//! A file opened for reading, unzipped on the way if it is gzip.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result};

/// The first two bytes of every gzip stream (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Deflate packs at most 1,032 times; what unzips to more than 64 MiB should be no more than 100 times its size.
const FREE: u64 = 64 << 20;
const RATIO: u64 = 100;
/// What is no file has no size, and may have no end, as `/dev/zero`: more than this is not read of it.
const MOST_OF_A_DEVICE: u64 = 1 << 30;

/// The content of a file, read from its start.
pub(crate) struct Content {
    path: PathBuf,
    reader: Box<dyn Read>,
    gzip: bool,
    /// Bytes given so far, and those taken from the file for them.
    offset: u64,
    taken: Rc<Cell<u64>>,
    /// Whether it is a file, not a pipe or a device.
    file: bool,
}

/// Counts what is read.
struct Counted<R>(R, Rc<Cell<u64>>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.set(self.1.get() + read as u64);
        Ok(read)
    }
}

impl Content {
    /// Opens `path`; it is gzip if it starts as gzip does.
    pub(crate) fn open(path: &Path) -> Result<Content> {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let is_file = file.metadata().is_ok_and(|m| m.is_file());
        let mut head = Vec::with_capacity(2);
        (&mut file).take(2).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
        let gzip = head == GZIP_MAGIC;
        let taken = Rc::new(Cell::new(0));
        let counted = Counted(Cursor::new(head).chain(file), taken.clone());
        let plain = BufReader::with_capacity(1 << 16, counted);
        let reader: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
        Ok(Content { path: path.to_path_buf(), reader, gzip, offset: 0, taken, file: is_file })
    }

    /// Reads until `limit` bytes or the end. Memory grows with what is there, never with `limit`.
    ///
    /// Errors: more unzipped bytes than an honest file of this size holds; a device that does not end.
    pub(crate) fn read_up_to(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        while (bytes.len() as u64) < limit {
            let piece = (limit - bytes.len() as u64).min(1 << 20);
            let begin = bytes.len();
            let read = self.reader.by_ref().take(piece).read_to_end(&mut bytes);
            self.offset += (bytes.len() - begin) as u64;
            match read {
                Ok(0) => break,
                Ok(_) => self.check_size()?,
                Err(e) => return Err(self.error(e)),
            }
        }
        Ok(bytes)
    }

    fn check_size(&self) -> Result<()> {
        let (given, taken) = (self.offset, self.taken.get());
        if self.gzip && given > FREE + RATIO.saturating_mul(taken) {
            let message =
                format!("{taken} bytes unzip to {given} and more: this looks like a gzip bomb; unzip it yourself");
            return Err(Error::format(&self.path, given, message));
        }
        if !self.file && given > MOST_OF_A_DEVICE {
            return Err(Error::format(&self.path, given, "no file, and it does not end: put it into one"));
        }
        Ok(())
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

    /// A gzip stream of so many MiB of zeros, made in no time: one MiB's instructions over and over, without a sum.
    pub(crate) fn zeros(mib: usize) -> Vec<u8> {
        let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
        let mut piece = Vec::with_capacity(1 << 16);
        deflate.compress_vec(&[0; 1 << 20], &mut piece, flate2::FlushCompress::Sync).unwrap();
        let end = [3, 0]; // an empty last block
        [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], &piece.repeat(mib)[..], &end].concat()
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
    fn bombs_are_not_unzipped() {
        // 200 MB in 200 KB, and of honest size; two members are one stream.
        let bomb = gzip(&vec![0; 200 << 20]);
        assert!(bomb.len() < 1 << 20);
        let (_dir, path) = file_of("bomb.gz", &bomb);
        let error = read(&path).unwrap_err();
        let Error::Format { offset, message, .. } = &error else { panic!("{error}") };
        assert!(*offset < 100 << 20 && message.contains("gzip bomb"), "{error}");
        let (_dir, path) = file_of("two.gz", &[gzip(b"x"), bomb].concat());
        assert!(read(&path).is_err());
        let (_dir, path) = file_of("small.gz", &gzip(&vec![0; 60 << 20]));
        assert_eq!(read(&path).unwrap().len(), 60 << 20);
        // 40 GB in 40 MB: more is unzipped before it is refused, but as little of it.
        let (_dir, path) = file_of("large.gz", &zeros(40 << 10));
        let Err(Error::Format { offset, .. }) = read(&path) else { panic!("a large bomb was read") };
        assert!(offset < 100 << 20, "{offset}");
    }

    /// What is zipped twice is unzipped once: what then comes is no text, and no IDX file.
    #[test]
    fn gzip_in_gzip_stays_zipped() {
        let inner = zeros(1 << 10);
        let (_dir, path) = file_of("nested.gz", &gzip(&inner));
        assert_eq!(read(&path).unwrap(), inner);
        assert!(crate::data::text::read_text(&path).unwrap_err().to_string().contains("is not UTF-8"));
        assert!(crate::data::idx::read_idx(&path).unwrap_err().to_string().contains("not an IDX file"));
    }

    #[cfg(unix)]
    #[test]
    fn a_device_without_end_is_refused() {
        let read = Content::open(Path::new("/dev/zero")).unwrap().read_up_to(5 << 20).unwrap();
        assert_eq!(read.len(), 5 << 20);
        let mut content = Content::open(Path::new("/dev/zero")).unwrap();
        content.offset = MOST_OF_A_DEVICE;
        assert!(content.read_up_to(u64::MAX).unwrap_err().to_string().contains("does not end"));
    }

    #[test]
    fn the_systems_refusals_stay_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(&dir.path().join("absent")), Err(Error::Io { .. })));
        assert!(matches!(read(dir.path()), Err(Error::Io { .. })));
    }
}
