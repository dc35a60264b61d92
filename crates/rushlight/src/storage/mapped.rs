//! Files mapped to memory: tensors whose elements the system fetches from a file when they are first read.
//!
//! A mapping is for reading only; a tensor that is to be written to is copied first. The file must not be cut or written
//! to while it is mapped: its tensors would change, or the system would end the program at a read beyond its end.
//! Replacing it by a new file of the same name, as [`crate::io::write_atomic`] does, is safe: the old one lives on until
//! its last tensor is gone.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::{Error, Result};

/// A whole file, mapped. Nothing of it is read yet.
pub(crate) struct Mapping(Option<Mmap>);

impl Mapping {
    /// Errors: what the system refuses; anything but a regular file.
    pub(crate) fn open(path: &Path) -> Result<Arc<Mapping>> {
        let refused = |e| Error::io(path, e);
        let file = File::open(path).map_err(refused)?;
        let about = file.metadata().map_err(refused)?;
        if about.is_dir() {
            return Err(refused(io::ErrorKind::IsADirectory.into()));
        }
        if !about.is_file() {
            return Err(refused(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        if about.len() == 0 {
            return Ok(Arc::new(Mapping(None)));
        }
        // SAFETY: the mapping is read only, and every pattern of its bytes is a valid number. Who changes the file
        // below us changes those numbers; the module's documentation says so.
        let map = unsafe { Mmap::map(&file) }.map_err(refused)?;
        Ok(Arc::new(Mapping(Some(map))))
    }
}

impl Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

/// Bytes that many may hold: of a mapped file, or of memory. A clone or a part is free.
#[derive(Clone)]
pub(crate) struct Bytes {
    of: Source,
    range: Range<usize>,
}

#[derive(Clone)]
enum Source {
    File(Arc<Mapping>),
    Memory(Arc<Vec<u8>>),
}

impl Bytes {
    /// All of a file.
    pub(crate) fn open(path: &Path) -> Result<Bytes> {
        let map = Mapping::open(path)?;
        Ok(Bytes { range: 0..map.len(), of: Source::File(map) })
    }

    /// A part, counted from the start of this; `None` where it reaches outside.
    pub(crate) fn part(&self, range: Range<usize>) -> Option<Bytes> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| Bytes { of: self.of.clone(), range: start..end })
    }

    /// The file they are of, and where in it.
    pub(super) fn file(&self) -> Option<(&Arc<Mapping>, Range<usize>)> {
        match &self.of {
            Source::File(map) => Some((map, self.range.clone())),
            Source::Memory(_) => None,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes { range: 0..bytes.len(), of: Source::Memory(Arc::new(bytes)) }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.of {
            Source::File(map) => &map[self.range.clone()],
            Source::Memory(bytes) => &bytes[self.range.clone()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Shape, Tensor, bf16, storage::Buffer};

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, Bytes) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let bytes = Bytes::open(&path).unwrap();
        (dir, bytes)
    }

    #[test]
    fn parts_stay_inside() {
        let (_dir, whole) = file_of(b"0123456789");
        for whole in [whole, b"0123456789".to_vec().into()] {
            let part = whole.part(2..8).unwrap();
            assert_eq!(&*part, b"234567");
            assert_eq!(&*part.part(1..3).unwrap(), b"34");
            assert_eq!(part.part(6..6).unwrap().len(), 0);
            #[allow(clippy::reversed_empty_ranges)]
            let bad = [0..7, 7..7, 3..2, 0..usize::MAX, usize::MAX..usize::MAX];
            assert!(bad.into_iter().all(|range| part.part(range).is_none()));
        }
        let (_dir, empty) = file_of(b"");
        assert!(empty.is_empty() && empty.part(0..1).is_none());
        assert!(matches!(Bytes::open(Path::new("/absent/file")), Err(Error::Io { .. })));
        assert!(matches!(Bytes::open(&std::env::temp_dir()), Err(Error::Io { .. })));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_tensor_of_a_file_is_copied_before_it_is_written_to() {
        let numbers: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let (dir, bytes) = file_of(&numbers);
        let used = crate::memory::stats().in_use;
        let buffer = Buffer::<f32>::mapped(&bytes).unwrap();
        let mut x = Tensor::from_buffer(buffer, Shape::from([2, 4]));
        assert_eq!(x.to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let whole = x.clone();
        drop(bytes);
        x.make_mut::<f32>("test").unwrap()[3] = 9.0;
        assert_eq!(x.to_vec::<f32>().unwrap()[3], 9.0);
        assert_eq!(whole.to_vec::<f32>().unwrap()[3], 3.0);
        drop(x);
        // Alone again, and still a file's.
        let mut x = whole;
        x.make_mut::<f32>("test").unwrap()[3] = 9.0;
        assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), numbers);
        assert!(crate::memory::stats().in_use >= used);
    }

    #[test]
    fn what_is_not_aligned_or_whole_is_not_mapped() {
        let (_dir, bytes) = file_of(&[0; 32]);
        assert!(Buffer::<f32>::mapped(&bytes.part(1..9).unwrap()).is_none());
        assert!(Buffer::<f32>::mapped(&bytes.part(0..9).unwrap()).is_none());
        assert!(Buffer::<bool>::mapped(&bytes).is_none(), "not every byte is a bool");
        assert!(Buffer::<u8>::mapped(&vec![0; 32].into()).is_none());
        if cfg!(target_endian = "little") {
            assert_eq!(Buffer::<bf16>::mapped(&bytes.part(2..8).unwrap()).unwrap().len(), 3);
            assert_eq!(Buffer::<u8>::mapped(&bytes.part(1..9).unwrap()).unwrap().len(), 8);
            assert_eq!(Buffer::<i64>::mapped(&bytes.part(8..8).unwrap()).unwrap().len(), 0);
        }
        assert_eq!(DType::Bool.size(), 1);
    }
}
