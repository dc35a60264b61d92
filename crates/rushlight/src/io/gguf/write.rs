//! Writing GGUF files, version 3.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::{ALIGNMENT, MAGIC, MAX_NAME, MAX_RANK, number_of};
use crate::io::file::TensorInfo;
use crate::io::stored::{Stored, Weight, write_weight};
use crate::io::value::{Array, Value};
use crate::io::write_atomic;
use crate::{Error, Result};

/// Writes tensors and metadata as GGUF 3; an old file is replaced whole or not at all.
///
/// `general.alignment` is written only where `metadata` has it.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use rushlight::{DType, Tensor, quant::{QTensor, QuantKind}};
/// # use rushlight::io::{TensorFile, Value, Weight, save_gguf};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("model.gguf");
/// let w = Tensor::ones([2, 32], DType::F32)?;
/// let tensors = BTreeMap::from([
///     ("plain".to_string(), Weight::from(w.clone())),
///     ("small".to_string(), QTensor::quantize(&w, QuantKind::Q8_0)?.into()),
/// ]);
/// save_gguf(&path, &tensors, &[("general.architecture".to_string(), Value::from("llama"))])?;
/// let file = TensorFile::open(&path)?;
/// assert_eq!(file.value("general.architecture").and_then(Value::as_str), Some("llama"));
/// assert_eq!(file.info("small").map(|i| (i.stored.name(), i.bytes)), Some(("q8_0", 68)));
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: u8 and bool, which GGUF has not; more than 4 dims; names of more than 63 bytes; what the
/// system refuses.
pub fn save_gguf(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Weight>,
    metadata: &[(String, Value)],
) -> Result<()> {
    let info = |(name, w): (&String, &Weight)| {
        let bytes = w.stored().size_of(w.shape()).unwrap_or(0) as u64;
        TensorInfo { name: name.clone(), shape: w.shape().clone(), stored: w.stored(), bytes }
    };
    let plan: Vec<TensorInfo> = tensors.iter().map(info).collect();
    write(path.as_ref(), &plan, metadata, &mut |i| Ok(tensors[&plan[i].name].clone()))
}

/// Whether the format has elements kept so.
pub(in crate::io) fn representable(stored: Stored) -> bool {
    number_of(stored).is_some()
}

/// Writes the tensors of `plan`, asking for each when its turn comes.
pub(in crate::io) fn write(
    path: &Path,
    plan: &[TensorInfo],
    metadata: &[(String, Value)],
    fetch: &mut dyn FnMut(usize) -> Result<Weight>,
) -> Result<()> {
    let alignment = metadata.iter().find(|(key, _)| key == "general.alignment");
    let alignment = alignment.and_then(|(_, value)| value.as_i64()).map_or(ALIGNMENT, |a| a as u64);
    if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
        let message = format!("general.alignment is {alignment}, no power of two from 8 on");
        return Err(Error::invalid("save_gguf", message));
    }
    let mut head = MAGIC.to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((plan.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut head, key);
        put_value(&mut head, value);
    }
    let mut place = 0u64;
    for TensorInfo { name, shape, stored, bytes } in plan {
        let refuse = |message: String| Err(Error::invalid("save_gguf", format!("tensor {name:?} {message}")));
        let Some(number) = number_of(*stored) else {
            return refuse(format!("is kept as {stored}, which GGUF has not"));
        };
        if name.len() > MAX_NAME {
            return refuse(format!("has a name of {} bytes; GGUF's readers take at most {MAX_NAME}", name.len()));
        }
        if shape.rank() > MAX_RANK {
            return refuse(format!("of shape {shape} has more than GGUF's {MAX_RANK} dims"));
        }
        put_text(&mut head, name);
        head.extend((shape.rank() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&d| head.extend((d as u64).to_le_bytes()));
        head.extend(number.to_le_bytes());
        head.extend(place.to_le_bytes());
        place = (place + bytes).next_multiple_of(alignment);
    }
    head.resize(head.len().next_multiple_of(alignment as usize), 0);

    write_atomic(path, |file| {
        let refused = |e| Error::io(path, e);
        file.write_all(&head).map_err(refused)?;
        for (i, info) in plan.iter().enumerate() {
            write_weight(&fetch(i)?, file)?.map_err(refused)?;
            let padding = info.bytes.next_multiple_of(alignment) - info.bytes;
            file.write_all(&vec![0; padding as usize]).map_err(refused)?;
        }
        Ok(())
    })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    macro_rules! number {
        ($type:expr, $x:expr) => {{
            out.extend(($type as u32).to_le_bytes());
            out.extend($x.to_le_bytes());
        }};
    }
    match value {
        Value::U8(x) => number!(0, x),
        Value::I8(x) => number!(1, x),
        Value::U16(x) => number!(2, x),
        Value::I16(x) => number!(3, x),
        Value::U32(x) => number!(4, x),
        Value::I32(x) => number!(5, x),
        Value::F32(x) => number!(6, x),
        Value::Bool(x) => number!(7, (*x as u8)),
        Value::String(text) => {
            out.extend(8u32.to_le_bytes());
            put_text(out, text);
        }
        Value::Array(array) => {
            out.extend(9u32.to_le_bytes());
            put_array(out, array);
        }
        Value::U64(x) => number!(10, x),
        Value::I64(x) => number!(11, x),
        Value::F64(x) => number!(12, x),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    macro_rules! numbers {
        ($type:expr, $all:expr) => {{
            out.extend(($type as u32).to_le_bytes());
            out.extend(($all.len() as u64).to_le_bytes());
            $all.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }};
    }
    let mut head = |kind: u32, len: usize| {
        out.extend(kind.to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    };
    match array {
        Array::U8(all) => numbers!(0, all),
        Array::I8(all) => numbers!(1, all),
        Array::U16(all) => numbers!(2, all),
        Array::I16(all) => numbers!(3, all),
        Array::U32(all) => numbers!(4, all),
        Array::I32(all) => numbers!(5, all),
        Array::F32(all) => numbers!(6, all),
        Array::Bool(all) => {
            head(7, all.len());
            out.extend(all.iter().map(|b| *b as u8));
        }
        Array::String(all) => {
            head(8, all.len());
            all.iter().for_each(|text| put_text(out, text));
        }
        Array::Array(all) => {
            head(9, all.len());
            all.iter().for_each(|array| put_array(out, array));
        }
        Array::U64(all) => numbers!(10, all),
        Array::I64(all) => numbers!(11, all),
        Array::F64(all) => numbers!(12, all),
    }
}
