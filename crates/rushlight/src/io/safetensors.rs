//! Safetensors: tensors by name in one file, and nothing in it that runs.
//!
//! Layout: the length of the header as a little-endian `u64`; the header, a JSON object that gives each tensor its
//! dtype, shape and place, and under `__metadata__` strings by name; then the elements, little-endian and row-major,
//! without gaps. Reference: <https://github.com/huggingface/safetensors>. Loading costs the size of the file, whatever
//! its header claims. The same tensors make the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use serde_json::Value;

use super::write_atomic;
use crate::dtype::each_dtype;
use crate::nn::StateDict;
use crate::{DType, Element, Error, Result, Shape, Tensor, bf16, f16};

const METADATA: &str = "__metadata__";
/// The `safetensors` crate's own limit: no reader takes a longer header.
const MAX_HEADER: u64 = 100_000_000;
/// Elements that go through memory at a time.
const CHUNK: usize = 1 << 14;

/// Writes `tensors` and `metadata` to `path`; an old file is replaced whole or not at all.
///
/// Errors: a tensor named `__metadata__`; a header of more than 100 MB; what the system refuses.
///
/// ```
/// # use rushlight::{Tensor, io::{load_safetensors, save_safetensors}, nn::StateDict};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.safetensors");
/// let state = StateDict::from([("weight".to_string(), Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?)]);
/// let about = [("step".to_string(), "100".to_string())].into();
/// save_safetensors(&path, &state, &about)?;
/// let (loaded, metadata) = load_safetensors(&path)?;
/// assert_eq!(loaded["weight"].to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// assert_eq!(metadata, about);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn save_safetensors(
    path: impl AsRef<Path>,
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let (path, op) = (path.as_ref(), "save_safetensors");
    if tensors.contains_key(METADATA) {
        return Err(Error::invalid(op, format!("no tensor can be named {METADATA}")));
    }
    // The widest elements first: so each tensor starts at a multiple of its element's size.
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().size()));

    let bad = |e: serde_json::Error| Error::invalid(op, e.to_string());
    let mut header: BTreeMap<&str, Value> = BTreeMap::new();
    if !metadata.is_empty() {
        header.insert(METADATA, serde_json::to_value(metadata).map_err(bad)?);
    }
    let mut end = 0;
    for (name, t) in &order {
        let start = end;
        end += t.numel() * t.dtype().size();
        let info = TensorInfo { dtype: written_as(t.dtype()), shape: t.dims().to_vec(), data_offsets: (start, end) };
        header.insert(name, serde_json::to_value(info).map_err(bad)?);
    }
    let mut header = serde_json::to_vec(&header).map_err(bad)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_HEADER {
        return Err(Error::invalid(op, format!("a header of {} bytes; the format's limit is 100 MB", header.len())));
    }

    write_atomic(path, |file| {
        let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(|e| Error::io(path, e));
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        let mut bytes = vec![];
        for (_, t) in &order {
            let t = t.packed()?;
            each_dtype!(t.dtype(), T => {
                for chunk in t.slice::<T>(op)?.chunks(CHUNK) {
                    bytes.clear();
                    chunk.iter().for_each(|x| x.append(&mut bytes));
                    put(&bytes)?;
                }
            });
        }
        Ok(())
    })
}

/// Reads the tensors and the metadata of `path`.
///
/// Errors: a file that is cut short or has bytes left over; a header that is not the format's; tensors that overlap,
/// leave gaps or reach outside; a shape that does not fit its bytes; a dtype Rushlight has not; a bool that is neither
/// 0 nor 1; what the system refuses.
pub fn load_safetensors(path: impl AsRef<Path>) -> Result<(StateDict, BTreeMap<String, String>)> {
    let path = path.as_ref();
    let refused = |e| Error::io(path, e);
    let file = File::open(path).map_err(refused)?;
    let size = file.metadata().map_err(refused)?.len();
    read_from(path, BufReader::with_capacity(1 << 16, file), size)
}

/// [`load_safetensors`] of a file of `size` bytes.
fn read_from(path: &Path, mut reader: impl Read, size: u64) -> Result<(StateDict, BTreeMap<String, String>)> {
    let refused = |e| Error::io(path, e);
    // The one number that is trusted is the file's own size.
    let mut length = [0; 8];
    if size < 8 {
        return Err(Error::format(path, size, format!("a safetensors file starts with 8 bytes, here are {size}")));
    }
    reader.read_exact(&mut length).map_err(refused)?;
    let length = u64::from_le_bytes(length);
    if length > size - 8 {
        let message = format!("a header of {length} bytes, where the file has {} left", size - 8);
        return Err(Error::format(path, 0, message));
    }
    if length > MAX_HEADER {
        return Err(Error::format(path, 0, format!("a header of {length} bytes; the format's limit is 100 MB")));
    }
    let mut header = vec![0; length as usize];
    reader.read_exact(&mut header).map_err(refused)?;
    let (entries, metadata) = parse(path, &header)?;
    let start = 8 + length;
    check_places(path, &entries, start, size - start)?;

    let mut tensors = StateDict::new();
    for entry in entries {
        let tensor = each_dtype!(entry.dtype, T => read_tensor::<T>(path, &mut reader, &entry, start)?);
        tensors.insert(entry.name, tensor);
    }
    Ok((tensors, metadata))
}

/// A tensor as the header announces it: bytes `begin..end` of what follows the header.
struct Entry {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    begin: u64,
    end: u64,
}

/// The tensors of a header in the order of their places, and the metadata.
fn parse(path: &Path, header: &[u8]) -> Result<(Vec<Entry>, BTreeMap<String, String>)> {
    let refuse = |message: String| Error::format(path, 8, message);
    let mut header: BTreeMap<String, Value> = serde_json::from_slice(header).map_err(|e| {
        // JSON's lines and columns count from 1; a header on one line, as all writers make it, has its column in bytes.
        let offset = if e.line() == 1 { 8 + e.column().saturating_sub(1) as u64 } else { 8 };
        Error::format(path, offset, format!("the header is not a JSON object: {e}"))
    })?;
    let metadata = match header.remove(METADATA) {
        Some(value) => serde_json::from_value(value).map_err(|e| refuse(format!("{METADATA}: {e}")))?,
        None => BTreeMap::new(),
    };
    let mut entries = vec![];
    for (name, value) in header {
        let info: TensorInfo = serde_json::from_value(value).map_err(|e| refuse(format!("tensor {name:?}: {e}")))?;
        let Some(dtype) = DType::ALL.into_iter().find(|&d| written_as(d) == info.dtype) else {
            let known = DType::ALL.map(|d| written_as(d).to_string()).join(", ");
            return Err(refuse(format!("tensor {name:?} has dtype {}; only {known} are read", info.dtype)));
        };
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        entries.push(Entry { name, dtype, shape: info.shape, begin, end });
    }
    entries.sort_by_key(|e| (e.begin, e.end));
    Ok((entries, metadata))
}

/// Whether the tensors fill the `size` bytes from `start` on, each as its dtype and shape ask.
fn check_places(path: &Path, entries: &[Entry], start: u64, size: u64) -> Result<()> {
    let mut at = 0;
    for Entry { name, dtype, shape, begin, end } in entries {
        let refuse = |message: String| {
            Err(Error::format(path, start.saturating_add(*begin), format!("tensor {name:?} {message}")))
        };
        if end < begin {
            return refuse(format!("ends at {end}, before its start at {begin}"));
        }
        if *end > size {
            return refuse(format!("takes the data's bytes {begin} to {end}, but there are {size}"));
        }
        if *begin != at {
            let what = if *begin < at { "overlaps the one before it" } else { "leaves a gap before it" };
            return refuse(format!("{what}: it starts at {begin}, not at {at}"));
        }
        let asked = shape.iter().try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d as u64));
        if asked != Some(end - begin) {
            return refuse(format!("of dtype {dtype} and shape {shape:?} does not fit its {} bytes", end - begin));
        }
        at = *end;
    }
    if at != size {
        return Err(Error::format(path, start + at, format!("{} bytes left over after the last tensor", size - at)));
    }
    Ok(())
}

fn read_tensor<T: Bytes>(path: &Path, reader: &mut impl Read, entry: &Entry, start: u64) -> Result<Tensor> {
    let mut at = start + entry.begin;
    let mut bytes = vec![0; CHUNK * size_of::<T>()];
    let mut read = Ok(());
    let mut fill = |out: &mut [T]| {
        for chunk in out.chunks_mut(CHUNK) {
            let bytes = &mut bytes[..size_of_val(chunk)];
            reader.read_exact(bytes).map_err(|e| Error::io(path, e))?;
            for (x, raw) in chunk.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
                *x = T::parse(raw).ok_or_else(|| {
                    let message = format!("tensor {:?}: bytes {raw:?} are no {}", entry.name, T::DTYPE);
                    Error::format(path, at, message)
                })?;
                at += size_of::<T>() as u64;
            }
        }
        Ok(())
    };
    let shape: Shape = entry.shape.iter().copied().collect();
    let tensor = Tensor::build("load_safetensors", shape, |out: &mut [T]| read = fill(out)).map_err(|e| match e {
        // An empty tensor whose other sizes are absurd.
        Error::Invalid { message, .. } => Error::format(path, 8, format!("tensor {:?}: {message}", entry.name)),
        other => other,
    })?;
    read.map(|()| tensor)
}

fn written_as(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

/// An element to and from its little-endian bytes.
trait Bytes: Element {
    fn append(self, out: &mut Vec<u8>);
    /// `raw` is as long as the element.
    fn parse(raw: &[u8]) -> Option<Self>;
}

macro_rules! bytes {
    ($($t:ty),*) => {$(
        impl Bytes for $t {
            fn append(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn parse(raw: &[u8]) -> Option<$t> {
                Some(<$t>::from_le_bytes(raw.try_into().ok()?))
            }
        }
    )*};
}

bytes!(f32, f64, bf16, f16, i64, u8);

impl Bytes for bool {
    fn append(self, out: &mut Vec<u8>) {
        out.push(self as u8);
    }
    fn parse(raw: &[u8]) -> Option<bool> {
        match raw {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> StateDict {
        let mut state = StateDict::new();
        let values = [0.0, 1.0, 2.5, 7.0, 100.0, 0.1];
        for dtype in DType::ALL {
            let x = Tensor::from_vec(values.to_vec(), [2, 3]).unwrap().to_dtype(dtype).unwrap();
            state.insert(format!("{dtype}.matrix"), x.clone());
            state.insert(format!("{dtype}.turned"), x.t().unwrap());
            state.insert(format!("{dtype}.scalar"), Tensor::full((), 1.0, dtype).unwrap());
            state.insert(format!("{dtype}.empty"), Tensor::zeros([3, 0, 2], dtype).unwrap());
        }
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE / 2.0];
        state.insert("odd \"näme\"\n".to_string(), Tensor::new(odd).unwrap());
        // More than one chunk.
        state.insert("long".to_string(), Tensor::arange(0.0, 40_000.0, 1.0, DType::I64).unwrap());
        state
    }

    fn bits(t: &Tensor) -> Vec<u8> {
        let mut out = vec![];
        each_dtype!(t.dtype(), T => t.to_vec::<T>().unwrap().into_iter().for_each(|x| x.append(&mut out)));
        out
    }

    /// A file of this header (its length is put before it) and data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn load(bytes: &[u8]) -> Result<(StateDict, BTreeMap<String, String>)> {
        read_from(Path::new("x"), bytes, bytes.len() as u64)
    }

    #[test]
    fn every_dtype_and_shape_comes_back_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let state = state();
        let about = BTreeMap::from([("epoch".to_string(), "3".to_string()), ("a".to_string(), "ü".to_string())]);
        save_safetensors(&path, &state, &about).unwrap();
        let (loaded, metadata) = load_safetensors(&path).unwrap();
        assert_eq!(metadata, about);
        assert_eq!(loaded.keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>());
        for (name, t) in &state {
            let l = &loaded[name];
            assert_eq!((l.dtype(), l.shape()), (t.dtype(), t.shape()), "{name}");
            assert_eq!(bits(l), bits(t), "{name}");
        }
        let first = std::fs::read(&path).unwrap();
        save_safetensors(&path, &loaded, &about).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        // The other implementation agrees.
        let theirs = safetensors::SafeTensors::deserialize(&first).unwrap();
        assert_eq!(theirs.len(), state.len());
        assert!(theirs.iter().all(|(name, view)| view.data() == bits(&state[name])));
    }

    #[test]
    fn nothing_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        save_safetensors(&path, &StateDict::new(), &BTreeMap::new()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), file("{}      ", b""));
        assert!(load_safetensors(&path).unwrap().0.is_empty());
        let state = StateDict::from([(METADATA.to_string(), Tensor::new(1.0f32).unwrap())]);
        assert!(save_safetensors(&path, &state, &BTreeMap::new()).is_err());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let has = |bytes: &[u8], at: u64, part: &str| match load(bytes) {
            Err(Error::Format { offset, message, .. }) => {
                assert!(message.contains(part), "{message}");
                assert_eq!(offset, at, "{message}");
            }
            Err(other) => panic!("{part}: {other}"),
            Ok(_) => panic!("{part}: accepted"),
        };
        let one = |dtype: &str, shape: &str, place: &str, data: &[u8]| {
            file(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{place}}}}}"#), data)
        };
        let start = |bytes: &[u8]| 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());
        has(b"", 0, "starts with 8 bytes, here are 0");
        has(b"1234567", 7, "here are 7");
        has(&[&(1u64 << 60).to_le_bytes()[..], b"{}"].concat(), 0, "header of 1152921504606846976 bytes, where");
        has(&[0xff; 16], 0, "where the file has 8 left");
        has(&file("", b""), 8, "not a JSON object");
        has(&file("[1]", b""), 8, "not a JSON object");
        has(&file(r#"{"a":x}"#, b""), 8 + 5, "expected value");
        has(&file("{\"\u{0}\":1}", b""), 8 + 2, "control character");
        has(&file(r#"{"w":3}"#, b""), 8, "tensor \"w\"");
        has(&file(r#"{"__metadata__":{"a":1}}"#, b""), 8, "__metadata__");
        has(&one("I32", "[1]", "[0,4]", &[0; 4]), 8, "tensor \"w\" has dtype I32; only F32, F64, BF16");
        has(&one("X9", "[1]", "[0,4]", &[0; 4]), 8, "tensor \"w\": unknown variant `X9`");
        has(&one("F32", "[-1]", "[0,4]", &[0; 4]), 8, "tensor \"w\"");
        has(&one("F32", "[1.5]", "[0,4]", &[0; 4]), 8, "tensor \"w\"");
        let place = |shape: &str, place: &str, at: u64, part: &str| {
            let bytes = one("F32", shape, place, &[0; 8]);
            has(&bytes, start(&bytes).saturating_add(at), part);
        };
        place("[1]", "[8,4]", 8, "ends at 4, before its start at 8");
        place("[3]", "[0,12]", 0, "takes the data's bytes 0 to 12, but there are 8");
        place("[1]", "[18446744073709551600,18446744073709551604]", u64::MAX, "but there are 8");
        place("[1]", "[4,8]", 4, "leaves a gap before it: it starts at 4, not at 0");
        place("[3]", "[0,8]", 0, "of dtype f32 and shape [3] does not fit its 8 bytes");
        place("[4611686018427387904,2]", "[0,0]", 0, "does not fit its 0 bytes");
        place("[1]", "[0,4]", 4, "4 bytes left over");
        let two = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
        let bytes = file(two, &[0; 6]);
        has(&bytes, start(&bytes) + 2, "tensor \"b\" overlaps the one before it: it starts at 2, not at 4");
        has(&one("F32", "[0,9223372036854775807,8]", "[0,0]", b""), 8, "more elements than memory");
        let bytes = one("BOOL", "[3]", "[0,3]", &[0, 1, 2]);
        has(&bytes, start(&bytes) + 2, "tensor \"w\": bytes [2] are no bool");
        assert!(matches!(load_safetensors("/absent/file"), Err(Error::Io { .. })));
    }

    #[test]
    fn no_damage_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let mut state = state();
        state.remove("long");
        save_safetensors(&path, &state, &BTreeMap::from([("k".to_string(), "v".to_string())])).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for sixteenth in 0..16 {
            let error = load(&whole[..whole.len() * sixteenth / 16]).err().unwrap();
            assert!(matches!(error, Error::Format { .. }), "{error}");
        }
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for i in 0..header {
            for value in [whole[i] ^ 1, b'9', 0xff] {
                let mut changed = whole.clone();
                changed[i] = value;
                let _ = load(&changed);
            }
        }
    }
}
