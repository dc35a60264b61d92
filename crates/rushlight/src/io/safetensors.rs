//! Safetensors: tensors by name in one file, and nothing in it that runs.
//!
//! Layout: the length of the header as a little-endian `u64`; the header, a JSON object that gives each tensor its
//! dtype, shape and place, and under `__metadata__` strings by name; then the elements, little-endian and row-major,
//! without gaps. Reference: <https://github.com/huggingface/safetensors>. Loading costs the size of the file, whatever
//! its header claims. The same tensors make the same bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorInfo as Header};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::file::{Contents, Data, Entry, Format, TensorFile, TensorInfo};
use super::stored::{Stored, Weight, write_weight};
use super::write_atomic;
use crate::nn::StateDict;
use crate::storage::Bytes;
use crate::{DType, Error, Layout, Result, Shape};

const METADATA: &str = "__metadata__";
/// The `safetensors` crate's own limit: no reader takes a longer header.
const MAX_HEADER: u64 = 100_000_000;

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
    let plan: Vec<TensorInfo> = tensors.iter().map(|(name, t)| TensorInfo::plain(name, t.dtype(), t.shape())).collect();
    write(path.as_ref(), &plan, metadata, &mut |i| Ok(tensors[&plan[i].name].clone().into()))
}

/// Writes the tensors of `plan`, asking for each when its turn comes.
pub(super) fn write(
    path: &Path,
    plan: &[TensorInfo],
    metadata: &BTreeMap<String, String>,
    fetch: &mut dyn FnMut(usize) -> Result<Weight>,
) -> Result<()> {
    let op = "save_safetensors";
    // The widest elements first: so each tensor starts at a multiple of its element's size.
    let mut order: Vec<usize> = (0..plan.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(plan[i].stored.unit()));

    let bad = |e: serde_json::Error| Error::invalid(op, e.to_string());
    let mut header: BTreeMap<&str, Value> = BTreeMap::new();
    if !metadata.is_empty() {
        header.insert(METADATA, serde_json::to_value(metadata).map_err(bad)?);
    }
    let mut end = 0;
    for &i in &order {
        let TensorInfo { name, shape, stored, bytes } = &plan[i];
        if name == METADATA {
            return Err(Error::invalid(op, format!("no tensor can be named {METADATA}")));
        }
        let Stored::Plain(dtype) = *stored else {
            let message = format!("tensor {name:?} is kept as {stored}, which safetensors has not; dequantise it");
            return Err(Error::invalid(op, message));
        };
        let start = end;
        end += *bytes as usize;
        let info = Header { dtype: written_as(dtype), shape: shape.to_vec(), data_offsets: (start, end) };
        header.insert(name, serde_json::to_value(info).map_err(bad)?);
    }
    let mut header = serde_json::to_vec(&header).map_err(bad)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_HEADER {
        return Err(Error::invalid(op, format!("a header of {} bytes; the format's limit is 100 MB", header.len())));
    }

    write_atomic(path, |file| {
        let refused = |e| Error::io(path, e);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(refused)?;
        file.write_all(&header).map_err(refused)?;
        order.iter().try_for_each(|&i| write_weight(&fetch(i)?, file)?.map_err(refused))
    })
}

/// Reads the tensors and the metadata of `path` into memory. [`TensorFile`] uses them where they lie in the file.
///
/// Errors: a file that is cut short or has bytes left over; a header that is not the format's; tensors that overlap,
/// leave gaps or reach outside; a shape that does not fit its bytes; two tensors of one name; a dtype that is not read
/// (integers of 8 to 32 bits are, as i64); a bool that is neither 0 nor 1; what the system refuses.
pub fn load_safetensors(path: impl AsRef<Path>) -> Result<(StateDict, BTreeMap<String, String>)> {
    owned(&TensorFile::open_as(path.as_ref(), Format::Safetensors)?)
}

/// All of a file, whose metadata are strings.
fn owned(file: &TensorFile) -> Result<(StateDict, BTreeMap<String, String>)> {
    Ok((file.load_owned()?, file.metadata().iter().map(|(k, v)| (k.clone(), v.to_string())).collect()))
}

/// Whether a file begins as the format does: a length, then JSON.
pub(super) fn starts_as(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) <= rest.len() as u64 && rest.first() == Some(&b'{')
}

/// The list of tensors, and the metadata.
pub(super) fn read(path: &Path, file: &Bytes) -> Result<Contents> {
    let size = file.len() as u64;
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(Error::format(path, size, format!("a safetensors file starts with 8 bytes, here are {size}")));
    };
    let length = u64::from_le_bytes(*length);
    // The one number that is trusted is the file's own size.
    if length > size - 8 {
        let message = format!("a header of {length} bytes, where the file has {} left", size - 8);
        return Err(Error::format(path, 0, message));
    }
    if length > MAX_HEADER {
        return Err(Error::format(path, 0, format!("a header of {length} bytes; the format's limit is 100 MB")));
    }
    let (header, data) = rest.split_at(length as usize);
    let (mut found, metadata) = parse(path, header)?;
    let start = 8 + length;
    found.sort_by_key(|t| (t.begin, t.end));
    check_places(path, &found, start, data.len() as u64)?;

    found.sort_by(|a, b| a.name.cmp(&b.name));
    let path = Arc::new(path.to_path_buf());
    let mut entries = vec![];
    for Found { name, stored, shape, begin, end } in found {
        let offset = start + begin;
        let bytes = file.part(offset as usize..(start + end) as usize);
        let bytes = bytes.ok_or_else(|| Error::format(&*path, offset, format!("tensor {name:?} reaches outside")))?;
        let data = Data::At { bytes, layout: Layout::contiguous(shape.clone()), big_endian: false };
        let info = TensorInfo { name, shape, stored, bytes: end - begin };
        entries.push(Entry { info, data, path: path.clone(), offset });
    }
    Ok(Contents { entries, metadata: metadata.into_iter().map(|(k, v)| (k, v.into())).collect() })
}

/// A tensor as the header announces it: bytes `begin..end` of what follows the header.
struct Found {
    name: String,
    stored: Stored,
    shape: Shape,
    begin: u64,
    end: u64,
}

/// The values of a JSON object in their order, with those whose names come twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Pairs, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = vec![];
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// The tensors of a header, and the metadata.
fn parse(path: &Path, header: &[u8]) -> Result<(Vec<Found>, BTreeMap<String, String>)> {
    let refuse = |message: String| Error::format(path, 8, message);
    let Pairs(pairs) = serde_json::from_slice(header).map_err(|e| {
        // JSON's lines and columns count from 1; a header on one line, as all writers make it, has its column in bytes.
        let offset = if e.line() == 1 { 8 + e.column().saturating_sub(1) as u64 } else { 8 };
        Error::format(path, offset, format!("the header is not a JSON object: {e}"))
    })?;
    let mut metadata = None;
    let mut found = vec![];
    for (name, value) in pairs {
        if name == METADATA {
            let strings = serde_path_to_error::deserialize(value).map_err(|e| refuse(format!("{METADATA}: {e}")))?;
            if metadata.replace(strings).is_some() {
                return Err(refuse(format!("{METADATA} comes twice")));
            }
            continue;
        }
        let info: Header =
            serde_path_to_error::deserialize(value).map_err(|e| refuse(format!("tensor {name:?}: {e}")))?;
        let stored = read_as(info.dtype);
        let stored = stored.ok_or_else(|| refuse(format!("tensor {name:?} has dtype {}, not known", info.dtype)))?;
        let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        found.push(Found { name, stored, shape: info.shape.into(), begin, end });
    }
    Ok((found, metadata.unwrap_or_default()))
}

/// Whether the tensors fill the `size` bytes from `start` on, each as its dtype and shape ask.
fn check_places(path: &Path, found: &[Found], start: u64, size: u64) -> Result<()> {
    let mut at = 0;
    for Found { name, stored, shape, begin, end } in found {
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
        if stored.size_of(shape).map(|n| n as u64) != Some(end - begin) {
            return refuse(format!("of dtype {stored} and shape {shape} does not fit its {} bytes", end - begin));
        }
        at = *end;
    }
    if at != size {
        return Err(Error::format(path, start + at, format!("{} bytes left over after the last tensor", size - at)));
    }
    Ok(())
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

fn read_as(dtype: Dtype) -> Option<Stored> {
    if let Some(own) = DType::ALL.into_iter().find(|&d| written_as(d) == dtype) {
        return Some(Stored::Plain(own));
    }
    Some(match dtype {
        Dtype::I8 => Stored::I8,
        Dtype::I16 => Stored::I16,
        Dtype::I32 => Stored::I32,
        Dtype::U16 => Stored::U16,
        Dtype::U32 => Stored::U32,
        Dtype::U64 => Stored::other("u64", 8),
        Dtype::F8_E4M3 => Stored::other("f8_e4m3", 1),
        Dtype::F8_E5M2 => Stored::other("f8_e5m2", 1),
        Dtype::F8_E8M0 => Stored::other("f8_e8m0", 1),
        Dtype::C64 => Stored::other("c64", 8),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::io::stored::bits;

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

    /// A file of this header (its length is put before it) and data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn load(bytes: &[u8]) -> Result<(StateDict, BTreeMap<String, String>)> {
        owned(&TensorFile::read(Path::new("x"), Format::Safetensors, &bytes.to_vec().into())?)
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
        has(&one("F4", "[2]", "[0,1]", &[0; 1]), 8, "tensor \"w\" has dtype F4, not known");
        let bytes = one("U64", "[1]", "[0,8]", &[0; 8]);
        has(&bytes, start(&bytes), "tensor \"w\" is kept as u64, which is not read");
        let twice = r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        has(&file(twice, b""), start(&file(twice, b"")), "two tensors are named \"w\"");
        has(&file(r#"{"__metadata__":{},"__metadata__":{}}"#, b""), 8, "__metadata__ comes twice");
        has(&one("X9", "[1]", "[0,4]", &[0; 4]), 8, "tensor \"w\": dtype: unknown variant `X9`");
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
        let bytes = one("F32", "[0,9223372036854775807,8]", "[0,0]", b"");
        has(&bytes, start(&bytes), "does not fit its 0 bytes");
        let bytes = one("BOOL", "[3]", "[0,3]", &[0, 1, 2]);
        has(&bytes, start(&bytes) + 2, "tensor \"w\" has a byte 2 that is no bool");
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
