//! Safetensors: named tensors and a little text in one file.
//!
//! Eight bytes of header length, a JSON header, then the bytes of the tensors, little-endian. The `safetensors` crate
//! reads and checks the header; the values go through a copy here, so that a tensor never depends on its file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use ::safetensors::{Dtype, SafeTensors, View};

use super::write_atomic;
use crate::dtype::each_dtype;
use crate::nn::StateDict;
use crate::{DType, Element, Error, Result, Shape, Tensor, bf16, f16};

/// The text beside the tensors of a file.
pub type FileMetadata = BTreeMap<String, String>;

/// Writes tensors and metadata, in the place of what was there, whole or not at all.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use rushlight::{Tensor, io::{load_safetensors, save_safetensors}};
/// let path = std::env::temp_dir().join(format!("example-{}.safetensors", std::process::id()));
/// let state = BTreeMap::from([("w".to_string(), Tensor::new([1.0f32, 2.0])?)]);
/// save_safetensors(&path, &state, &BTreeMap::new())?;
/// assert_eq!(load_safetensors(&path)?.0["w"].to_vec::<f32>()?, [1.0, 2.0]);
/// # std::fs::remove_file(&path).ok();
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: the file cannot be written.
pub fn save_safetensors(path: impl AsRef<Path>, state: &StateDict, metadata: &FileMetadata) -> Result<()> {
    let path = path.as_ref();
    let parts: Vec<(&str, Bytes)> =
        state.iter().map(|(name, t)| Ok((name.as_str(), Bytes::of(t)?))).collect::<Result<_>>()?;
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let refused = |e: ::safetensors::SafeTensorError| Error::format(path, 0, e.to_string());
    let bytes = ::safetensors::serialize(parts, (!metadata.is_empty()).then_some(metadata)).map_err(refused)?;
    write_atomic(path, |file| file.write_all(&bytes).map_err(|e| Error::io(path, e)))
}

/// The tensors of a file by name, and its metadata.
///
/// Errors: what the file holds is not what its header says; a dtype that Rushlight does not have.
pub fn load_safetensors(path: impl AsRef<Path>) -> Result<(StateDict, FileMetadata)> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let length = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    let fits = length.is_some_and(|n| n <= bytes.len() as u64 - 8);
    if !fits {
        let claim = length.map_or("no header".to_string(), |n| format!("a header of {n} bytes"));
        let message = format!("not a safetensors file, or cut short: {claim} in a file of {} bytes", bytes.len());
        return Err(Error::format(path, 0, message));
    }
    let header = length.unwrap_or(0) + 8;
    let refused = |e: ::safetensors::SafeTensorError| Error::format(path, 8, format!("bad header: {e}"));
    let file = SafeTensors::deserialize(&bytes).map_err(refused)?;
    let (_, info) = SafeTensors::read_metadata(&bytes).map_err(refused)?;
    let mut state = StateDict::new();
    for (name, view) in file.iter() {
        let start = header + (view.data().as_ptr() as usize - bytes[header as usize..].as_ptr() as usize) as u64;
        let tensor = tensor(view.dtype(), view.shape(), view.data())
            .map_err(|e| Error::format(path, start, format!("tensor {name}: {e}")))?;
        state.insert(name.to_string(), tensor);
    }
    let metadata = info.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok((state, metadata))
}

/// A tensor's values as the file holds them.
struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Bytes {
    fn of(t: &Tensor) -> Result<Bytes> {
        let dtype = match t.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
            DType::Bool => Dtype::BOOL,
        };
        let data = each_dtype!(t.dtype(), T => t.to_vec::<T>()?.into_iter().flat_map(Encode::bytes).collect());
        Ok(Bytes { dtype, shape: t.dims().to_vec(), data })
    }
}

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// A number as little-endian bytes, and back.
trait Encode: Element {
    type Array: IntoIterator<Item = u8> + for<'a> TryFrom<&'a [u8]> + AsRef<[u8]>;
    fn bytes(self) -> Self::Array;
    fn parse(bytes: Self::Array) -> Option<Self>;
}

macro_rules! encode {
    ($($t:ty),*) => {$(
        impl Encode for $t {
            type Array = [u8; size_of::<$t>()];
            fn bytes(self) -> Self::Array {
                self.to_le_bytes()
            }
            fn parse(bytes: Self::Array) -> Option<Self> {
                Some(<$t>::from_le_bytes(bytes))
            }
        }
    )*};
}
encode!(f32, f64, bf16, f16, i64, u8);

impl Encode for bool {
    type Array = [u8; 1];
    fn bytes(self) -> [u8; 1] {
        [self as u8]
    }
    fn parse([byte]: [u8; 1]) -> Option<bool> {
        (byte < 2).then_some(byte == 1)
    }
}

fn tensor(dtype: Dtype, shape: &[usize], data: &[u8]) -> std::result::Result<Tensor, String> {
    fn read<T: Encode>(shape: &[usize], data: &[u8]) -> std::result::Result<Tensor, String> {
        let mut values = Vec::with_capacity(data.len() / size_of::<T>());
        for (i, bytes) in data.chunks_exact(size_of::<T>()).enumerate() {
            let value = T::Array::try_from(bytes).ok().and_then(T::parse);
            values.push(value.ok_or_else(|| format!("element {i} is no {}", T::DTYPE))?);
        }
        Tensor::from_vec(values, Shape::from(shape)).map_err(|e| e.to_string())
    }
    match dtype {
        Dtype::F32 => read::<f32>(shape, data),
        Dtype::F64 => read::<f64>(shape, data),
        Dtype::BF16 => read::<bf16>(shape, data),
        Dtype::F16 => read::<f16>(shape, data),
        Dtype::I64 => read::<i64>(shape, data),
        Dtype::U8 => read::<u8>(shape, data),
        Dtype::BOOL => read::<bool>(shape, data),
        other => Err(format!("dtype {other:?} is none of ours (f32 f64 bf16 f16 i64 u8 bool)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> StateDict {
        let mut state = StateDict::new();
        for dtype in DType::ALL {
            let t = Tensor::new([[0.0f64, 1.0, 2.5], [1.0, 0.0, 100.0]]).unwrap().to_dtype(dtype).unwrap();
            state.insert(dtype.name().to_string(), t.t().unwrap());
        }
        state.insert("scalar".into(), Tensor::full((), f64::NAN, DType::F32).unwrap());
        state.insert("empty".into(), Tensor::zeros([0, 3], DType::F64).unwrap());
        state
    }

    #[test]
    fn every_dtype_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let metadata = FileMetadata::from([("a".to_string(), "ö\"".to_string())]);
        save_safetensors(&path, &sample(), &metadata).unwrap();
        let (loaded, text) = load_safetensors(&path).unwrap();
        assert_eq!(text, metadata);
        assert_eq!(loaded.len(), sample().len());
        for (name, t) in sample() {
            assert_eq!((loaded[&name].dtype(), loaded[&name].shape()), (t.dtype(), t.shape()), "{name}");
            let (a, b) = (loaded[&name].to_f64_vec().unwrap(), t.to_f64_vec().unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())), "{name}");
        }
    }

    #[test]
    fn damage_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        save_safetensors(&path, &sample(), &FileMetadata::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            load_safetensors(&path).err().map(|e| e.to_string())
        };
        for i in 0..16 {
            let e = message(&whole[..whole.len() * i / 16]).expect("a cut file is refused");
            assert!(e.contains("x.safetensors") && e.contains("at byte"), "{e}");
        }
        let mut huge = whole.clone();
        huge[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(message(&huge).expect("refused").contains("1152921504606846976"));
        // Any change to a byte of the header is refused or read; it never panics.
        for i in 0..400.min(whole.len()) {
            let mut bent = whole.clone();
            bent[i] ^= 0x15;
            message(&bent);
        }
        let mut no_bool = whole.clone();
        let at = whole.len() - 8 - u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        assert!(at > 0);
        for b in no_bool.iter_mut().rev().take(at) {
            *b = 7;
        }
        assert!(message(&no_bool).expect("refused").contains("is no bool"));
        assert_eq!(message(&whole), None);
    }
}
