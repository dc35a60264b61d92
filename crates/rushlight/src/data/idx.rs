//! IDX, the file format of MNIST and its successors: a shape and its bytes.
//!
//! Layout: two zero bytes, the element type (0x08 for `u8`, the only one read here), the rank, each size as a
//! big-endian `u32`, then the elements in row-major order. Reference: Y. LeCun, "The MNIST database of handwritten
//! digits". Reading costs the size of the content, whatever the header claims.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;

use super::file::Content;
use crate::io::write_atomic;
use crate::{Error, Result};

/// An array of bytes of any rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// The sizes, outermost first.
    pub dims: Vec<usize>,
    /// The elements, row-major: as many as the product of `dims`.
    pub data: Vec<u8>,
}

/// Grey pictures of one size, each with its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// The pictures one after the other, each row by row.
    pub pixels: Vec<u8>,
    /// One class for each picture.
    pub labels: Vec<u8>,
}

/// The four files of a data set laid out as MNIST is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxFolder {
    /// `train-images-idx3-ubyte`
    pub train_images: PathBuf,
    /// `train-labels-idx1-ubyte`
    pub train_labels: PathBuf,
    /// `t10k-images-idx3-ubyte`
    pub test_images: PathBuf,
    /// `t10k-labels-idx1-ubyte`
    pub test_labels: PathBuf,
}

/// Reads an IDX file of `u8`.
///
/// Errors: not an IDX file; elements other than `u8`; fewer or more bytes than the header asks for; a corrupt gzip
/// stream; what the system refuses.
pub fn read_idx(path: impl AsRef<Path>) -> Result<Idx> {
    let path = path.as_ref();
    let refuse = |offset: usize, message: String| Err(Error::format(path, offset as u64, message));
    let mut content = Content::open(path)?;

    let start = content.read_up_to(4)?;
    let &[zero0, zero1, element, rank] = &start[..] else {
        return refuse(start.len(), format!("an IDX file starts with 4 bytes, here are {}", start.len()));
    };
    if [zero0, zero1] != [0, 0] {
        return refuse(0, format!("not an IDX file: it starts with {zero0:02x} {zero1:02x} instead of 00 00"));
    }
    if element != 0x08 {
        let name = match element {
            0x09 => "i8",
            0x0b => "i16",
            0x0c => "i32",
            0x0d => "f32",
            0x0e => "f64",
            _ => "unknown",
        };
        return refuse(2, format!("element type 0x{element:02x} ({name}); only 0x08 (u8) is read"));
    }

    let header = 4 + 4 * rank as usize;
    let sizes = content.read_up_to(4 * rank as u64)?;
    if sizes.len() < 4 * rank as usize {
        let there = 4 + sizes.len();
        return refuse(there, format!("a header of rank {rank} takes {header} bytes, the file has {there}"));
    }
    let dims: Vec<usize> = sizes.as_chunks().0.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
    // A size of zero must not hide that the others overflow.
    if dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1) as u64)).is_none_or(|n| n > isize::MAX as u64) {
        return refuse(4, format!("the sizes {dims:?} multiply to more bytes than memory can address"));
    }
    let asked: usize = dims.iter().product();

    // One byte more than asked for shows whether the file ends where it should.
    let data = content.read_up_to(asked as u64 + 1)?;
    if data.len() < asked {
        let there = data.len();
        let message = format!("truncated: the sizes {dims:?} ask for {asked} bytes of data, the file has {there}");
        return refuse(header + there, message);
    }
    if data.len() > asked {
        return refuse(header + asked, format!("bytes left over after the {asked} that the sizes {dims:?} ask for"));
    }
    Ok(Idx { dims, data })
}

/// Writes an IDX file, gzipped if its name ends in `.gz`; an old file is replaced whole or not at all.
///
/// Errors: `data` is not what `dims` ask for; a rank above 255 or a size above `u32`; what the system refuses.
pub fn write_idx(path: impl AsRef<Path>, idx: &Idx) -> Result<()> {
    let path = path.as_ref();
    let refuse = |message: String| Err(Error::invalid("write_idx", message));
    let Idx { dims, data } = idx;
    if dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(data.len()) {
        return refuse(format!("{} bytes of data do not fill the sizes {dims:?}", data.len()));
    }
    let Ok(rank) = u8::try_from(dims.len()) else {
        return refuse(format!("rank {} is above the format's 255", dims.len()));
    };
    let mut header = vec![0, 0, 0x08, rank];
    for &d in dims {
        let Ok(size) = u32::try_from(d) else {
            return refuse(format!("size {d} is above the format's {}", u32::MAX));
        };
        header.extend(size.to_be_bytes());
    }
    write_atomic(path, |file| {
        let written = if path.extension().is_some_and(|e| e == "gz") {
            let mut encoder = GzEncoder::new(file, flate2::Compression::default());
            encoder.write_all(&header).and_then(|()| encoder.write_all(data)).and_then(|()| encoder.try_finish())
        } else {
            file.write_all(&header).and_then(|()| file.write_all(data))
        };
        written.map_err(|e| Error::io(path, e))
    })
}

/// Finds the four files in `dir`, each plain or with `.gz` added; plain goes first.
///
/// Errors: those which are missing, all of them in one message.
pub fn find_idx_folder(dir: impl AsRef<Path>) -> Result<IdxFolder> {
    let dir = dir.as_ref();
    fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    let mut missing = vec![];
    let mut find = |name: &'static str| {
        let found = [name.to_string(), format!("{name}.gz")].map(|n| dir.join(n)).into_iter().find(|p| p.is_file());
        found.unwrap_or_else(|| {
            missing.push(name);
            PathBuf::new()
        })
    };
    let folder = IdxFolder {
        train_images: find("train-images-idx3-ubyte"),
        train_labels: find("train-labels-idx1-ubyte"),
        test_images: find("t10k-images-idx3-ubyte"),
        test_labels: find("t10k-labels-idx1-ubyte"),
    };
    if missing.is_empty() {
        return Ok(folder);
    }
    let message = format!("missing {} (neither plain nor .gz)", missing.join(", "));
    Err(Error::io(dir, io::Error::new(io::ErrorKind::NotFound, message)))
}

/// Reads pictures of shape `[n, height, width]` and their `n` labels, each below `classes`.
///
/// Errors: those of [`read_idx`]; other ranks; unequal counts; a label that is not below `classes`.
pub fn images_and_labels(images: impl AsRef<Path>, labels: impl AsRef<Path>, classes: usize) -> Result<Images> {
    let (images_path, labels_path) = (images.as_ref(), labels.as_ref());
    let (images, labels) = (read_idx(images_path)?, read_idx(labels_path)?);
    let &[count, height, width] = &images.dims[..] else {
        let message = format!("sizes {:?}; images have three: count, height, width", images.dims);
        return Err(Error::format(images_path, 3, message));
    };
    let &[label_count] = &labels.dims[..] else {
        return Err(Error::format(labels_path, 3, format!("sizes {:?}; labels have one: count", labels.dims)));
    };
    if label_count != count {
        let message = format!("{label_count} labels for the {count} images of {}", images_path.display());
        return Err(Error::format(labels_path, 4, message));
    }
    if let Some((i, label)) = labels.data.iter().enumerate().find(|&(_, &l)| l as usize >= classes) {
        let message = format!("label {i} is {label}, but there are {classes} classes");
        return Err(Error::format(labels_path, 8 + i as u64, message));
    }
    Ok(Images { height, width, pixels: images.data, labels: labels.data })
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::{file_of, gzip, zeros};
    use super::*;

    fn bytes_of(dims: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    /// What reading `bytes` plain and gzipped complains about: its offset and message, the same for both.
    fn complaint(bytes: &[u8]) -> (u64, String) {
        let [plain, zipped] = [bytes.to_vec(), gzip(bytes)].map(|bytes| {
            let (_dir, file) = file_of("images", &bytes);
            match read_idx(&file).unwrap_err() {
                Error::Format { path, offset, message } => {
                    assert_eq!(path, file);
                    (offset, message)
                }
                other => panic!("{other}"),
            }
        });
        assert_eq!(plain, zipped);
        plain
    }

    #[test]
    fn reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        for dims in [&[2usize, 3, 4][..], &[5], &[0], &[3, 0, 2], &[], &[1; 255]] {
            let idx = Idx { dims: dims.to_vec(), data: (0..dims.iter().product::<usize>() as u8).collect() };
            for name in ["a", "a.gz"] {
                let path = dir.path().join(name);
                write_idx(&path, &idx).unwrap();
                assert_eq!(fs::read(&path).unwrap().starts_with(&[0x1f, 0x8b]), name.ends_with("gz"));
                assert_eq!(read_idx(&path).unwrap(), idx);
            }
        }
        let (_dir, path) = file_of("x", &bytes_of(&[2, 2], &[1, 2, 3, 4]));
        assert_eq!(read_idx(path).unwrap(), Idx { dims: vec![2, 2], data: vec![1, 2, 3, 4] });
    }

    #[test]
    fn refuses_to_write_what_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for (dims, n) in [(vec![2, 3], 5), (vec![], 0), (vec![1; 256], 1), (vec![1 << 33, 0], 0)] {
            let error = write_idx(&path, &Idx { dims, data: vec![0; n] }).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let has = |bytes: &[u8], at: u64, part: &str| {
            let (offset, message) = complaint(bytes);
            assert_eq!(offset, at, "{message}");
            assert!(message.contains(part), "{message}");
        };
        has(b"", 0, "starts with 4 bytes, here are 0");
        has(&[0, 0, 8], 3, "here are 3");
        has(b"\x89PNG", 0, "not an IDX file: it starts with 89 50");
        has(&[0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0], 2, "0x0d (f32); only 0x08 (u8)");
        has(&[0, 0, 0x0a, 1], 2, "0x0a (unknown)");
        has(&[0, 0, 8, 3, 0, 0], 6, "rank 3 takes 16 bytes, the file has 6");
        has(&bytes_of(&[2, 3], &[0; 5]), 17, "[2, 3] ask for 6 bytes of data, the file has 5");
        has(&bytes_of(&[2, 3], &[0; 7]), 18, "left over after the 6");
        has(&bytes_of(&[0, 3], &[0]), 12, "left over after the 0");
    }

    #[test]
    fn a_header_of_claims_allocates_nothing() {
        let (offset, message) = complaint(&bytes_of(&[1 << 30, 1 << 30], &[1, 2, 3]));
        assert_eq!(offset, 15);
        assert!(message.contains("ask for 1152921504606846976 bytes of data, the file has 3"), "{message}");
        let (_, message) = complaint(&bytes_of(&[u32::MAX, u32::MAX, u32::MAX, 0], &[]));
        assert!(message.contains("more bytes than memory"), "{message}");
    }

    /// 4 GiB that are there, in 4 MiB.
    #[test]
    fn a_bomb_is_refused() {
        let (_dir, path) = file_of("images.gz", &[gzip(&bytes_of(&[1 << 16, 256, 256], &[])), zeros(4 << 10)].concat());
        let error = read_idx(&path).unwrap_err().to_string();
        assert!(error.contains("looks like a gzip bomb"), "{error}");
    }

    #[test]
    fn no_damage_panics() {
        let whole = bytes_of(&[3, 2, 2], &[9; 12]);
        for bytes in [whole.clone(), gzip(&whole)] {
            for i in 0..bytes.len() {
                let (_dir, path) = file_of("cut", &bytes[..i]);
                read_idx(&path).unwrap_err();
                for value in [0, 0x7f, 0xff] {
                    let mut changed = bytes.clone();
                    changed[i] = value;
                    fs::write(&path, changed).unwrap();
                    let _ = read_idx(&path);
                }
            }
        }
    }

    #[test]
    fn a_folder_lists_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| fs::write(dir.path().join(name), []).unwrap();
        touch("train-images-idx3-ubyte.gz");
        touch("t10k-labels-idx1-ubyte");
        let error = find_idx_folder(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with(&dir.path().display().to_string()), "{error}");
        assert!(error.contains("missing train-labels-idx1-ubyte, t10k-images-idx3-ubyte ("), "{error}");
        touch("train-labels-idx1-ubyte");
        touch("train-labels-idx1-ubyte.gz");
        touch("t10k-images-idx3-ubyte");
        let found = find_idx_folder(dir.path()).unwrap();
        assert_eq!(found.train_images, dir.path().join("train-images-idx3-ubyte.gz"));
        assert_eq!(found.train_labels, dir.path().join("train-labels-idx1-ubyte"));
        assert!(matches!(find_idx_folder(dir.path().join("absent")), Err(Error::Io { .. })));
    }

    #[test]
    fn images_and_labels_agree() {
        let (dir, images) = file_of("images", &bytes_of(&[3, 1, 2], &[1, 2, 3, 4, 5, 6]));
        let labels = dir.path().join("labels");
        let with = |dims: &[u32], data: &[u8]| {
            fs::write(&labels, bytes_of(dims, data)).unwrap();
            images_and_labels(&images, &labels, 10).map_err(|e| e.to_string())
        };
        let good = with(&[3], &[0, 9, 4]).unwrap();
        assert_eq!((good.height, good.width, good.labels), (1, 2, vec![0, 9, 4]));
        assert_eq!(good.pixels, [1, 2, 3, 4, 5, 6]);
        let error = with(&[3], &[0, 4, 10]).unwrap_err();
        assert!(error.contains("labels: label 2 is 10, but there are 10 classes (at byte 10)"), "{error}");
        let error = with(&[2], &[0, 4]).unwrap_err();
        assert!(error.contains("labels: 2 labels for the 3 images of"), "{error}");
        assert!(with(&[3, 1], &[0, 1, 2]).unwrap_err().contains("labels have one"));
        assert!(images_and_labels(&labels, &labels, 10).unwrap_err().to_string().contains("images have three"));
    }
}
