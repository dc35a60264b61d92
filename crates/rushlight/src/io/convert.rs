//! From one format to another, a tensor at a time.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::checked::CRC32;
use super::file::{TensorFile, TensorInfo};
use super::stored::{Stored, Weight};
use super::value::Value;
use super::{gguf, numpy, safetensors};
use crate::dtype::each_float;
use crate::quant::{QTensor, QuantKind};
use crate::{DType, Error, Result, Tensor};

/// What [`convert`] makes of float and quantised tensors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConvertTo {
    /// What they are, where the format has it; quantised ones become f32 outside of GGUF.
    Same,
    /// A float dtype. In GGUF files, tensors of one dim become f32, as the programs that run them expect.
    Float(DType),
    /// Blocks, in GGUF files only. Tensors of one dim become f32.
    Quant(QuantKind),
}

/// What [`convert`] has written.
#[derive(Clone, Debug, Default)]
pub struct Converted {
    /// How many tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Those with numbers that are not finite, and how many each has.
    pub not_finite: Vec<(String, usize)>,
    /// Values of the metadata that the format has no place for.
    pub dropped: usize,
}

/// Writes the tensors of `from` to `path`, in the format that its name ends in: `.safetensors`, `.npz`, `.gguf`, or
/// `.npy` for one tensor. An old file is replaced whole or not at all.
///
/// One tensor is in memory at a time. Metadata goes along: to GGUF as it is, to safetensors as text (lists as JSON), to
/// NumPy's files not at all. To a GGUF file of another type, `general.file_type` is brought up to date.
///
/// ```
/// # use rushlight::{Tensor, nn::StateDict};
/// use rushlight::io::{ConvertTo, TensorFile, convert, save_npz};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = |name: &str| dir.path().join(name);
/// save_npz(path("a.npz"), &StateDict::from([("w".to_string(), Tensor::new([1.0f32, 2.0])?)]))?;
/// convert(&TensorFile::open(path("a.npz"))?, path("a.safetensors"), ConvertTo::Same)?;
/// assert_eq!(TensorFile::open(path("a.safetensors"))?.tensor("w")?.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: a name with another ending; a tensor that the format cannot hold or that is not read, by name; what the
/// system refuses.
pub fn convert(from: &TensorFile, path: impl AsRef<Path>, to: ConvertTo) -> Result<Converted> {
    let path = path.as_ref();
    let refuse = |message: String| Err(Error::invalid("convert", message));
    let end = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let gguf = end == "gguf";
    if !["safetensors", "gguf", "npz", "npy"].contains(&end.as_str()) {
        return refuse(format!("{} must end in .safetensors, .gguf, .npz or .npy", path.display()));
    }
    match to {
        ConvertTo::Float(dtype) if !dtype.is_float() => return refuse(format!("{dtype} is no float dtype")),
        ConvertTo::Quant(kind) if !gguf => return refuse(format!("only .gguf holds {kind}, not .{end}")),
        _ => {}
    }
    let mut plan = vec![];
    for info in from.infos() {
        let stored = target(info, to, gguf)?;
        let named = |message: String| Error::invalid("convert", format!("tensor {:?} {message}", info.name));
        if gguf && !super::gguf::representable(stored) {
            return Err(named(format!("is kept as {stored}, which GGUF has not")));
        }
        let bytes = stored.size_of(&info.shape);
        let bytes =
            bytes.ok_or_else(|| named(format!("of shape {} has rows of no whole {stored} blocks", info.shape)))?;
        plan.push(TensorInfo { stored, bytes: bytes as u64, ..info.clone() });
    }

    let mut done = Converted { tensors: plan.len(), bytes: plan.iter().map(|i| i.bytes).sum(), ..Converted::default() };
    let mut not_finite = vec![];
    let mut fetch = |i: usize| {
        let info = &plan[i];
        let weight = from.weight(&info.name)?;
        if weight.stored() == info.stored && matches!(weight, Weight::Quant(_)) {
            return Ok(weight);
        }
        let t = weight.tensor()?;
        let bad = if t.dtype().is_float() { count_not_finite(&t)? } else { 0 };
        if bad > 0 {
            not_finite.push((info.name.clone(), bad));
        }
        let named = |e: Error| Error::invalid("convert", format!("tensor {:?}: {e}", info.name));
        match info.stored {
            Stored::Quant(kind) => QTensor::quantize(&t, kind).map(Weight::from).map_err(named),
            stored => Ok(t.to_dtype(stored.dtype().unwrap_or(t.dtype()))?.into()),
        }
    };
    match &end[..] {
        "safetensors" => {
            // The checksum of what it was says nothing of what it becomes.
            let kept = from.metadata().iter().filter(|(key, _)| key != CRC32);
            let metadata = kept.map(|(key, value)| (key.clone(), value.to_string()));
            safetensors::write(path, &plan, &metadata.collect::<BTreeMap<_, _>>(), &mut fetch)?;
        }
        "gguf" => gguf::write(path, &plan, &gguf_metadata(from, to), &mut fetch)?,
        "npz" => numpy::write_npz(path, &plan, &mut fetch)?,
        _ => {
            let [info] = &plan[..] else {
                return refuse(format!("a .npy holds one tensor, {} has {}", from.path().display(), plan.len()));
            };
            numpy::write_npy(path, info, fetch(0)?)?;
        }
    }
    done.not_finite = not_finite;
    done.dropped = if end.starts_with("np") { from.metadata().len() } else { 0 };
    Ok(done)
}

/// What becomes of a tensor.
fn target(info: &TensorInfo, to: ConvertTo, gguf: bool) -> Result<Stored> {
    let Some(dtype) = info.stored.dtype() else {
        let message = format!("tensor {:?} is kept as {}, which is not read", info.name, info.stored);
        return Err(Error::invalid("convert", message));
    };
    let quantised = matches!(info.stored, Stored::Quant(_));
    Ok(match to {
        ConvertTo::Same if quantised && gguf => info.stored,
        ConvertTo::Same => Stored::Plain(dtype),
        _ if !dtype.is_float() => Stored::Plain(dtype),
        _ if gguf && info.shape.rank() < 2 => Stored::Plain(DType::F32),
        ConvertTo::Float(dtype) => Stored::Plain(dtype),
        ConvertTo::Quant(kind) => Stored::Quant(kind),
    })
}

/// The values, with the number of the file's type set anew. Keys that came twice, of shards, were merged by their reader.
fn gguf_metadata(from: &TensorFile, to: ConvertTo) -> Vec<(String, Value)> {
    let file_type = match to {
        ConvertTo::Float(DType::F32) => Some(0u32),
        ConvertTo::Float(DType::F16) => Some(1),
        ConvertTo::Float(DType::BF16) => Some(32),
        ConvertTo::Quant(QuantKind::Q4_0) => Some(2),
        ConvertTo::Quant(QuantKind::Q4_1) => Some(3),
        ConvertTo::Quant(QuantKind::Q8_0) => Some(7),
        _ => None,
    };
    let mut seen = HashSet::new();
    let metadata = from.metadata().iter().filter(|(key, _)| key != CRC32 && seen.insert(key.as_str()));
    let fresh = |(key, value): &(String, Value)| match file_type {
        Some(number) if key == "general.file_type" => (key.clone(), Value::U32(number)),
        _ => (key.clone(), value.clone()),
    };
    metadata.map(fresh).collect()
}

fn count_not_finite(t: &Tensor) -> Result<usize> {
    let t = t.packed()?;
    each_float!("convert", t.dtype(), T => {
        Ok(t.slice::<T>("convert")?.iter().filter(|x| !crate::Element::to_f64(**x).is_finite()).count())
    })
}
