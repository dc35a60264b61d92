//! Reading the list of a GGUF file: values and tensors.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::{ALIGNMENT, MAGIC, MAX_RANK, MAX_TENSORS, stored_of};
use crate::io::cursor::Cursor;
use crate::io::file::{Contents, Data, Entry, TensorInfo};
use crate::io::value::{Array, Value};
use crate::storage::Bytes;
use crate::{Error, Layout, Result, Shape};

/// Lists within lists.
const MAX_DEPTH: usize = 8;

/// The values and the tensors of a file.
pub(in crate::io) fn read(path: &Path, file: &Bytes) -> Result<Contents> {
    let mut c = Cursor::new(path, file, 0);
    if c.array::<4>("the magic number")? != *MAGIC {
        return Err(c.error(0, "not a GGUF file: it does not begin with GGUF"));
    }
    let version = c.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(c.error(4, "big-endian; only little-endian is read")),
        _ => return Err(c.error(4, format!("version {version}; 2 and 3 are read"))),
    }
    let (tensors, values) = (c.u64("the number of tensors")?, c.u64("the number of values")?);

    if tensors > MAX_TENSORS {
        return Err(c.error(8, format!("{tensors} tensors; at most {MAX_TENSORS} are read")));
    }
    // Counts are not trusted: each round needs bytes of the file.
    let (mut metadata, mut keys) = (vec![], HashSet::new());
    for _ in 0..values {
        let at = c.at();
        let key = string(&mut c, "a key")?;
        if !keys.insert(key.clone()) {
            return Err(c.error(at, format!("two values are named {key:?}")));
        }
        let kind = c.u32("a value's type")?;
        let value = value(&mut c, kind, &key)?;
        metadata.push((key, value));
    }
    let alignment = match metadata.iter().find(|(key, _)| key == "general.alignment") {
        None => ALIGNMENT,
        Some((_, value)) => match value.as_i64() {
            Some(a) if (8..=1 << 20).contains(&a) && (a as u64).is_power_of_two() => a as u64,
            _ => return Err(c.error(0, format!("general.alignment is {value}, no power of two from 8 on"))),
        },
    };

    let mut found = vec![];
    for _ in 0..tensors {
        found.push(tensor(&mut c)?);
    }
    let start = (c.at() as u64).next_multiple_of(alignment);
    check_places(path, &found, start, file.len() as u64, alignment)?;
    let path = Arc::new(path.to_path_buf());
    let mut entries = vec![];
    for (info, place) in found {
        let offset = start + place;
        let bytes = file.part(offset as usize..(offset + info.bytes) as usize);
        // An empty tensor may stand behind the end of a file that is not padded.
        let bytes = bytes.or_else(|| (info.bytes == 0).then(|| vec![].into()));
        let outside = || Error::format(&*path, offset, format!("tensor {:?} lies outside", info.name));
        let layout = Layout::contiguous(info.shape.clone());
        let data = Data::At { bytes: bytes.ok_or_else(outside)?, layout, big_endian: false };
        entries.push(Entry { info, data, path: path.clone(), offset });
    }
    Ok(Contents { entries, metadata })
}

/// A tensor's name, sizes and type, and where it begins in the data.
fn tensor(c: &mut Cursor) -> Result<(TensorInfo, u64)> {
    let at = c.at();
    let name = string(c, "a tensor's name")?;
    let rank = c.u32("a tensor's rank")? as usize;
    if rank > MAX_RANK {
        return Err(c.error(at, format!("tensor {name:?} has {rank} dims; the format has at most {MAX_RANK}")));
    }
    let mut dims = vec![];
    for _ in 0..rank {
        dims.push(usize::try_from(c.u64("a tensor's size")?).unwrap_or(usize::MAX));
    }
    dims.reverse();
    let shape = Shape::from(dims);
    let number = c.u32("a tensor's type")?;
    let stored = stored_of(number);
    let stored = stored.ok_or_else(|| c.error(c.at() - 4, format!("tensor {name:?} has type {number}, not known")))?;
    let bytes = stored.size_of(&shape);
    let bytes = bytes.ok_or_else(|| {
        c.error(at, format!("tensor {name:?} of shape {shape} is no whole number of {stored} blocks in memory"))
    })?;
    let place = c.u64("a tensor's place")?;
    Ok((TensorInfo { name, shape, stored, bytes: bytes as u64 }, place))
}

/// Whether each tensor lies in the file, at a multiple of `alignment`, and on no other.
fn check_places(path: &Path, found: &[(TensorInfo, u64)], start: u64, size: u64, alignment: u64) -> Result<()> {
    let mut order: Vec<&(TensorInfo, u64)> = found.iter().collect();
    order.sort_by_key(|(info, place)| (*place, info.bytes));
    let mut free = 0;
    for (info, place) in order {
        let refuse = |message: String| {
            Err(Error::format(path, start.saturating_add(*place), format!("tensor {:?} {message}", info.name)))
        };
        if !place.is_multiple_of(alignment) {
            return refuse(format!("begins at {place}, no multiple of {alignment}"));
        }
        let end = place.checked_add(info.bytes).and_then(|end| end.checked_add(start));
        if info.bytes > 0 && end.is_none_or(|end| end > size) {
            let there = size.saturating_sub(start);
            return refuse(format!("takes {} bytes from {place} on, but the data has {there}", info.bytes));
        }
        if *place < free {
            return refuse(format!("overlaps the one before it, which ends at {free}"));
        }
        free = free.max(place.saturating_add(info.bytes));
    }
    Ok(())
}

fn string(c: &mut Cursor, what: &str) -> Result<String> {
    let length = c.u64(what)?;
    Ok(c.text(length, what)?.to_string())
}

fn truth(c: &mut Cursor, what: &str) -> Result<bool> {
    match c.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(c.error(c.at() - 1, format!("{what} is {other}, neither 0 nor 1"))),
    }
}

/// A value of the type of this number.
fn value(c: &mut Cursor, kind: u32, key: &str) -> Result<Value> {
    let what = &format!("value {key:?}")[..];
    Ok(match kind {
        0 => Value::U8(c.u8(what)?),
        1 => Value::I8(i8::from_le_bytes(c.array(what)?)),
        2 => Value::U16(u16::from_le_bytes(c.array(what)?)),
        3 => Value::I16(i16::from_le_bytes(c.array(what)?)),
        4 => Value::U32(c.u32(what)?),
        5 => Value::I32(i32::from_le_bytes(c.array(what)?)),
        6 => Value::F32(f32::from_le_bytes(c.array(what)?)),
        7 => Value::Bool(truth(c, what)?),
        8 => Value::String(string(c, what)?),
        9 => Value::Array(array(c, what, 0)?),
        10 => Value::U64(c.u64(what)?),
        11 => Value::I64(i64::from_le_bytes(c.array(what)?)),
        12 => Value::F64(f64::from_le_bytes(c.array(what)?)),
        _ => return Err(c.error(c.at() - 4, format!("{what} has type {kind}, not known"))),
    })
}

/// The type, the count, and so many values.
fn array(c: &mut Cursor, what: &str, depth: usize) -> Result<Array> {
    let at = c.at();
    let (kind, count) = (c.u32(what)?, c.u64(what)?);
    fn all<const N: usize, T>(c: &mut Cursor, n: u64, what: &str, f: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = c.take(n.saturating_mul(N as u64), what)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&b| f(b)).collect())
    }
    Ok(match kind {
        0 => Array::U8(all(c, count, what, u8::from_le_bytes)?),
        1 => Array::I8(all(c, count, what, i8::from_le_bytes)?),
        2 => Array::U16(all(c, count, what, u16::from_le_bytes)?),
        3 => Array::I16(all(c, count, what, i16::from_le_bytes)?),
        4 => Array::U32(all(c, count, what, u32::from_le_bytes)?),
        5 => Array::I32(all(c, count, what, i32::from_le_bytes)?),
        6 => Array::F32(all(c, count, what, f32::from_le_bytes)?),
        10 => Array::U64(all(c, count, what, u64::from_le_bytes)?),
        11 => Array::I64(all(c, count, what, i64::from_le_bytes)?),
        12 => Array::F64(all(c, count, what, f64::from_le_bytes)?),
        7 => {
            let mut items = vec![];
            for _ in 0..count {
                items.push(truth(c, what)?);
            }
            Array::Bool(items)
        }
        8 => {
            let mut items = vec![];
            for _ in 0..count {
                items.push(string(c, what)?);
            }
            Array::String(items)
        }
        9 if depth < MAX_DEPTH => {
            let mut items = vec![];
            for _ in 0..count {
                items.push(array(c, what, depth + 1)?);
            }
            Array::Array(items)
        }
        9 => return Err(c.error(at, format!("{what} has lists in lists more than {MAX_DEPTH} deep"))),
        _ => return Err(c.error(at, format!("{what} is a list of type {kind}, not known"))),
    })
}
