//! Safetensors with a checksum, so that a flipped bit is an error and not another good number.
//!
//! The CRC-32 of all metadata, names, dtypes, shapes and elements is kept as text under `crc32` in the metadata: other
//! readers see one more string. It lies in the file itself, so that no crash can part the two.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::stored::write_weight;
use super::{load_safetensors, save_safetensors};
use crate::nn::StateDict;
use crate::{Error, Result};

/// The checksum's name among the metadata.
pub(super) const CRC32: &str = "crc32";

/// [`save_safetensors`](super::save_safetensors) with a checksum over all of it.
///
/// Errors: metadata named `crc32`; those of `save_safetensors`.
pub fn save_checked(path: impl AsRef<Path>, tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    if metadata.contains_key(CRC32) {
        return Err(Error::invalid("save_checked", format!("{CRC32} is the checksum's name")));
    }
    let mut metadata = metadata.clone();
    metadata.insert(CRC32.to_string(), checksum(tensors, &metadata)?);
    save_safetensors(path, tensors, &metadata)
}

/// What [`save_checked`] has written.
///
/// Errors: a file without a checksum, or with another than its content's; those of
/// [`load_safetensors`](super::load_safetensors).
pub fn load_checked(path: impl AsRef<Path>) -> Result<(StateDict, BTreeMap<String, String>)> {
    let path = path.as_ref();
    let (tensors, mut metadata) = load_safetensors(path)?;
    let Some(kept) = metadata.remove(CRC32) else {
        return Err(Error::format(path, 8, "no checksum in it"));
    };
    let found = checksum(&tensors, &metadata)?;
    if kept != found {
        let message = format!("its content is damaged: the checksum is {found}, where {kept} was written");
        return Err(Error::format(path, 0, message));
    }
    Ok((tensors, metadata))
}

struct Hash(crc32fast::Hasher);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Hash {
    /// Bytes with their number before them, so that no two lists look alike.
    fn put(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

fn checksum(tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<String> {
    let mut hash = Hash(crc32fast::Hasher::new());
    for (key, value) in metadata {
        hash.put(key.as_bytes());
        hash.put(value.as_bytes());
    }
    for (name, t) in tensors {
        hash.put(name.as_bytes());
        hash.put(format!("{} {}", t.dtype(), t.shape()).as_bytes());
        write_weight(&t.clone().into(), &mut hash)?.map_err(|e| Error::invalid("checksum", e.to_string()))?;
    }
    Ok(format!("{:08x}", hash.0.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn any_other_content_has_another_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let w = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]).unwrap();
        let tensors = StateDict::from([("w".into(), w.clone()), ("wide".into(), w.t().unwrap())]);
        let metadata = BTreeMap::from([("step".to_string(), "7".to_string())]);
        save_checked(&path, &tensors, &metadata).unwrap();
        let (back, about) = load_checked(&path).unwrap();
        assert_eq!(about, metadata);
        assert_eq!(back["wide"].to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);

        let whole = std::fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            // To another letter of the same kind, or another number.
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            match load_checked(&path) {
                // A space after the header's end can be any white space, and is no content.
                Ok(_) => assert!(at < header && whole[at] == b' ', "byte {at} can be another"),
                Err(e) => assert!(matches!(e, Error::Format { .. }), "{e}"),
            }
        }
        let error = save_checked(&path, &tensors, &[(CRC32.to_string(), String::new())].into()).unwrap_err();
        assert!(error.to_string().contains("crc32"), "{error}");
    }
}
