//! From one format to another, a tensor at a time.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use super::checked::CRC32;
use super::file::{TensorFile, TensorInfo};
use super::stored::{Stored, Weight};
use super::value::Value;
use super::{gguf, index, numpy, safetensors};
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
    let end = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if !["safetensors", "gguf", "npz", "npy"].contains(&end.as_str()) {
        return refuse(format!("{} must end in .safetensors, .gguf, .npz or .npy", path.display()));
    }
    let mut work = Work::new(from, to, &end)?;
    match &end[..] {
        "safetensors" => work.shard(path, 0..work.plan.len(), &text_metadata(from))?,
        "gguf" => {
            let plan = work.plan.clone();
            gguf::write(path, &plan, &gguf_metadata(from, to), &mut |i| work.fetch(i))?;
        }
        "npz" => {
            let plan = work.plan.clone();
            numpy::write_npz(path, &plan, &mut |i| work.fetch(i))?;
        }
        _ => {
            if work.plan.len() != 1 {
                let n = work.plan.len();
                return refuse(format!("a .npy holds one tensor, {} has {n}", from.path().display()));
            }
            let weight = work.fetch(0)?;
            numpy::write_npy(path, &work.plan[0], weight)?;
        }
    }
    let dropped = if end.starts_with("np") { from.metadata().len() } else { 0 };
    Ok(work.done(dropped))
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::invalid("convert", message))
}

/// Tensors on their way, one at a time.
struct Work<'a> {
    from: &'a TensorFile,
    /// What becomes of each.
    plan: Vec<TensorInfo>,
    not_finite: Vec<(String, usize)>,
}

impl<'a> Work<'a> {
    /// For a file whose name ends in `end`. Errors: as of [`convert`].
    fn new(from: &'a TensorFile, to: ConvertTo, end: &str) -> Result<Work<'a>> {
        let gguf = end == "gguf";
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
        Ok(Work { from, plan, not_finite: vec![] })
    }

    fn fetch(&mut self, i: usize) -> Result<Weight> {
        let info = &self.plan[i];
        let weight = self.from.weight(&info.name)?;
        if weight.stored() == info.stored && matches!(weight, Weight::Quant(_)) {
            return Ok(weight);
        }
        let t = weight.tensor()?;
        let bad = if t.dtype().is_float() { count_not_finite(&t)? } else { 0 };
        if bad > 0 {
            self.not_finite.push((info.name.clone(), bad));
        }
        let named = |e: Error| Error::invalid("convert", format!("tensor {:?}: {e}", info.name));
        match info.stored {
            Stored::Quant(kind) => QTensor::quantize(&t, kind).map(Weight::from).map_err(named),
            stored => Ok(t.to_dtype(stored.dtype().unwrap_or(t.dtype()))?.into()),
        }
    }

    /// Some of the tensors as one safetensors file.
    fn shard(&mut self, path: &Path, range: Range<usize>, metadata: &BTreeMap<String, String>) -> Result<()> {
        let plan = self.plan[range.clone()].to_vec();
        safetensors::write(path, &plan, metadata, &mut |i| self.fetch(range.start + i))
    }

    fn done(self, dropped: usize) -> Converted {
        let bytes = self.plan.iter().map(|i| i.bytes).sum();
        Converted { tensors: self.plan.len(), bytes, not_finite: self.not_finite, dropped }
    }
}

/// As [`convert`], to a folder of safetensors files with at most `shard` bytes of tensors each, of which a larger tensor
/// has one to itself: `model-00001-of-00003.safetensors` and so on, and `model.safetensors.index.json`, as Hugging Face
/// keeps large models. [`TensorFile::open`] of the folder reads them.
///
/// The index is written last, and without it the folder is no model; after an error what was written is removed.
///
/// ```
/// # use rushlight::{Tensor, nn::StateDict};
/// use rushlight::io::{ConvertTo, TensorFile, convert_sharded, save_npz};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = |name: &str| dir.path().join(name);
/// let two = [("a", [1.0f32, 2.0]), ("b", [3.0, 4.0])].map(|(name, x)| Ok((name.to_string(), Tensor::new(x)?)));
/// save_npz(path("two.npz"), &two.into_iter().collect::<Result<StateDict, rushlight::Error>>()?)?;
/// convert_sharded(&TensorFile::open(path("two.npz"))?, path("folder"), ConvertTo::Same, 8)?;
/// assert!(path("folder/model-00002-of-00002.safetensors").is_file());
/// assert_eq!(TensorFile::open(path("folder"))?.tensor("b")?.to_vec::<f32>()?, [3.0, 4.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: those of `convert`; a size of 0; a folder that holds a model already.
pub fn convert_sharded(from: &TensorFile, folder: impl AsRef<Path>, to: ConvertTo, shard: u64) -> Result<Converted> {
    let folder = folder.as_ref();
    let refused = |e| Error::io(folder, e);
    if shard == 0 {
        return refuse("shards of 0 bytes: expected 1 or more".to_string());
    }
    let mut work = Work::new(from, to, "safetensors")?;
    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(refused)?;
    for entry in fs::read_dir(folder).map_err(refused)? {
        let name = entry.map_err(refused)?.file_name().to_string_lossy().to_string();
        // A mixture of two models would be read as one.
        if name.ends_with(".safetensors") || name.ends_with(".index.json") {
            return refuse(format!("{} holds {name} already; name another folder", folder.display()));
        }
    }
    let mut ranges: Vec<Range<usize>> = vec![];
    let mut room = 0;
    for (i, info) in work.plan.iter().enumerate() {
        match ranges.last_mut().filter(|_| info.bytes <= room) {
            Some(range) => range.end = i + 1,
            None => {
                ranges.push(i..i + 1);
                room = shard;
            }
        }
        room = room.saturating_sub(info.bytes);
    }
    let mut metadata = text_metadata(from);
    // transformers refuses a file that does not say so.
    metadata.entry("format".to_string()).or_insert_with(|| "pt".to_string());
    let name = |i: usize| format!("model-{:05}-of-{:05}.safetensors", i + 1, ranges.len());
    let mut write = || {
        let mut map = BTreeMap::new();
        for (i, range) in ranges.iter().enumerate() {
            work.shard(&folder.join(name(i)), range.clone(), &metadata)?;
            map.extend(work.plan[range.clone()].iter().map(|info| (info.name.clone(), name(i))));
        }
        let total: u64 = work.plan.iter().map(|info| info.bytes).sum();
        index::write(&folder.join("model.safetensors.index.json"), total, &map)
    };
    if let Err(e) = write() {
        (0..ranges.len()).for_each(|i| _ = fs::remove_file(folder.join(name(i))));
        if made {
            let _ = fs::remove_dir(folder);
        }
        return Err(e);
    }
    Ok(work.done(0))
}

/// The values as safetensors has them. The checksum of what it was says nothing of what it becomes.
fn text_metadata(from: &TensorFile) -> BTreeMap<String, String> {
    let kept = from.metadata().iter().filter(|(key, _)| key != CRC32);
    kept.map(|(key, value)| (key.clone(), value.to_string())).collect()
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
