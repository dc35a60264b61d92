//! A file of tensors of any format: what it holds, and each tensor when it is asked for.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::stored::{Stored, Weight, decode};
use super::value::Value;
use super::{gguf, index, numpy, safetensors, torch};
use crate::dtype::each_dtype;
use crate::nn::StateDict;
use crate::quant::QTensor;
use crate::shape::Strides;
use crate::storage::{Buffer, Bytes};
use crate::{DType, Error, Layout, Result, Shape, Tensor};

/// The formats that are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `.safetensors`
    Safetensors,
    /// `.gguf`
    Gguf,
    /// `.npy`: one NumPy array
    Npy,
    /// `.npz`: NumPy arrays by name
    Npz,
    /// `.pt`, `.pth`, `.bin`: a PyTorch state dict
    Torch,
    /// A folder, or an `.index.json`, that says which file holds which tensor
    Sharded,
}

impl Format {
    /// The format that a file's first bytes are of, else that its name says.
    fn of(path: &Path, bytes: &Bytes) -> Option<Format> {
        if bytes.starts_with(b"GGUF") {
            return Some(Format::Gguf);
        }
        if bytes.starts_with(numpy::MAGIC) {
            return Some(Format::Npy);
        }
        if bytes.starts_with(b"PK") {
            return Some(if torch::is_archive(bytes) { Format::Torch } else { Format::Npz });
        }
        if torch::is_legacy(bytes) {
            return Some(Format::Torch);
        }
        if safetensors::starts_as(bytes) {
            return Some(Format::Safetensors);
        }
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        [
            (".safetensors", Format::Safetensors),
            (".gguf", Format::Gguf),
            (".npy", Format::Npy),
            (".npz", Format::Npz),
            (".pt", Format::Torch),
            (".pth", Format::Torch),
            (".index.json", Format::Sharded),
        ]
        .into_iter()
        .find_map(|(end, format)| name.ends_with(end).then_some(format))
    }

    /// The name in words.
    pub fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Gguf => "GGUF",
            Format::Npy => "NumPy array",
            Format::Npz => "NumPy archive",
            Format::Torch => "PyTorch state dict",
            Format::Sharded => "index of shards",
        }
    }
}

/// What a file says of one of its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name, unique in the file.
    pub name: String,
    /// The sizes of its dims.
    pub shape: Shape,
    /// How its elements are kept.
    pub stored: Stored,
    /// The bytes of its elements, unpacked.
    pub bytes: u64,
}

impl TensorInfo {
    /// A tensor of Rushlight's.
    pub(super) fn plain(name: &str, dtype: DType, shape: &Shape) -> TensorInfo {
        let bytes = (shape.numel() * dtype.size()) as u64;
        TensorInfo { name: name.to_string(), shape: shape.clone(), stored: Stored::Plain(dtype), bytes }
    }
}

/// A tensor in a file: what it is and where.
pub(super) struct Entry {
    pub info: TensorInfo,
    pub data: Data,
    /// The file, and where in it the elements begin.
    pub path: Arc<PathBuf>,
    pub offset: u64,
}

pub(super) enum Data {
    /// Elements (or blocks) at places of `bytes`, which hold a whole number of them.
    At { bytes: Bytes, layout: Layout, big_endian: bool },
    /// An array in a zip archive: the packed bytes, those before the elements when unpacked, and the checksum of all.
    Zipped { packed: Bytes, deflated: bool, skip: usize, sum: u32, layout: Layout, big_endian: bool },
}

/// Elements from `offset` on at these strides, if they lie within `len` elements. Strides are not negative.
pub(super) fn layout_within(shape: &Shape, strides: &[usize], offset: usize, len: usize) -> Option<Layout> {
    if strides.len() != shape.rank() || offset > len {
        return None;
    }
    if shape.contains(&0) {
        return Some(Layout::contiguous(shape.clone()));
    }
    let reach = |at: usize, (d, s): (&usize, &usize)| (d - 1).checked_mul(*s)?.checked_add(at);
    if shape.iter().zip(strides).try_fold(offset, reach)? >= len {
        return None;
    }
    // That of a dim of size 1 may be any number.
    let strides = strides.iter().zip(shape.iter()).map(|(&s, &d)| if d == 1 { 1 } else { s });
    let strides: Option<Strides> = strides.map(|s| isize::try_from(s).ok()).collect();
    Some(Layout::new(shape.clone(), strides?, offset))
}

/// A file of tensors, open: its list is read, its tensors are where they lie until they are asked for.
///
/// Reads safetensors, GGUF, NumPy's `.npy` and `.npz`, PyTorch's state dicts, and folders or index files of shards; the
/// format is told by the content, then by the name. The file is mapped to memory, and a tensor's elements are used
/// in place where they are aligned and of a dtype of Rushlight's; then they cost nothing to load, and no memory but
/// the system's cache. So the file must not be cut or overwritten while its tensors live (replacing it by another, as
/// [`write_atomic`](super::write_atomic) does, is safe). Integers of 8, 16 and 32 bits are read as i64.
///
/// ```
/// # use rushlight::{Tensor, io::{TensorFile, save_npz}, nn::StateDict};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("arrays.npz");
/// # save_npz(&path, &StateDict::from([("a".to_string(), Tensor::new([1.0f32, 2.0])?)]))?;
/// let file = TensorFile::open(&path)?;
/// for info in file.infos() {
///     println!("{} {} {} {}", info.name, info.stored, info.shape, info.bytes);
/// }
/// assert_eq!(file.tensor("a")?.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct TensorFile {
    path: PathBuf,
    format: Format,
    infos: Vec<TensorInfo>,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    metadata: Vec<(String, Value)>,
}

/// What a format's reader finds.
pub(super) struct Contents {
    pub entries: Vec<Entry>,
    pub metadata: Vec<(String, Value)>,
}

impl TensorFile {
    /// Opens a file, or a folder with an index of shards or one `model.safetensors`.
    ///
    /// Errors, each with the file and the offset: a format that is not known; whatever is damaged in the list of
    /// tensors or leads outside of the file; two tensors of one name; what the system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<TensorFile> {
        let path = path.as_ref();
        if path.is_dir() {
            return TensorFile::read(path, Format::Sharded, &Bytes::from(vec![]));
        }
        let bytes = Bytes::open(path)?;
        let Some(format) = Format::of(path, &bytes) else {
            let first = &bytes[..bytes.len().min(8)];
            let known = "safetensors, GGUF, NumPy array or archive, PyTorch state dict";
            return Err(Error::format(path, 0, format!("not a tensor file ({known}): it begins with {first:02x?}")));
        };
        TensorFile::read(path, format, &bytes)
    }

    /// Opens `path` as a file of `format`, whatever its bytes look like.
    pub(super) fn open_as(path: &Path, format: Format) -> Result<TensorFile> {
        TensorFile::read(path, format, &Bytes::open(path)?)
    }

    pub(super) fn read(path: &Path, format: Format, bytes: &Bytes) -> Result<TensorFile> {
        let contents = match format {
            Format::Safetensors => safetensors::read(path, bytes),
            Format::Gguf => gguf::read(path, bytes),
            Format::Npy => numpy::read_npy(path, bytes),
            Format::Npz => numpy::read_npz(path, bytes),
            Format::Torch => torch::read(path, bytes),
            Format::Sharded => index::read(path),
        }?;
        let mut by_name = HashMap::new();
        for (i, entry) in contents.entries.iter().enumerate() {
            if by_name.insert(entry.info.name.clone(), i).is_some() {
                let message = format!("two tensors are named {:?}", entry.info.name);
                return Err(Error::format(path, entry.offset, message));
            }
        }
        let infos = contents.entries.iter().map(|e| e.info.clone()).collect();
        let Contents { entries, metadata } = contents;
        Ok(TensorFile { path: path.to_path_buf(), format, infos, entries, by_name, metadata })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What kind of file it is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Its tensors, in its order (safetensors: by name).
    pub fn infos(&self) -> &[TensorInfo] {
        &self.infos
    }

    /// What it says of one tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.infos[i])
    }

    /// What else it says, in its order: GGUF's keys and values, safetensors' strings, a state dict's numbers and texts.
    pub fn metadata(&self) -> &[(String, Value)] {
        &self.metadata
    }

    /// One of the values of [`TensorFile::metadata`].
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// A tensor by name, quantised ones as f32.
    ///
    /// Errors: no such tensor; a way to keep elements that is not read; a bool that is neither 0 nor 1; in an archive, a
    /// wrong checksum.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.weight(name)?.tensor()
    }

    /// A tensor by name, quantised ones as they are.
    ///
    /// Errors: as [`TensorFile::tensor`].
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let Some(&i) = self.by_name.get(name) else {
            let message = format!("{} holds no tensor {name:?}", self.path.display());
            return Err(Error::invalid("tensor", message));
        };
        self.entries[i].weight(&mut Cache::default())
    }

    /// All tensors by name, quantised ones as f32. Those that share memory in the file (views of one PyTorch storage)
    /// share it here, where it is used in place.
    ///
    /// Errors: as [`TensorFile::tensor`], for any of them.
    pub fn load(&self) -> Result<StateDict> {
        self.load_with(Cache { share: true, ..Cache::default() })
    }

    /// [`TensorFile::load`], with nothing left that hangs on the file.
    pub(super) fn load_owned(&self) -> Result<StateDict> {
        self.load_with(Cache { share: true, own: true, ..Cache::default() })
    }

    pub(super) fn into_contents(self) -> Contents {
        Contents { entries: self.entries, metadata: self.metadata }
    }

    fn load_with(&self, mut cache: Cache) -> Result<StateDict> {
        self.entries.iter().map(|e| Ok((e.info.name.clone(), e.weight(&mut cache)?.tensor()?))).collect()
    }
}

/// Pieces of the file that were read: those that many tensors are views of are read once.
#[derive(Default)]
struct Cache {
    /// Read whole pieces, for the next tensor.
    share: bool,
    /// Copy the pieces to memory.
    own: bool,
    /// By where they begin, their length and elements.
    whole: BTreeMap<(usize, usize, &'static str), Tensor>,
}

impl Entry {
    fn weight(&self, cache: &mut Cache) -> Result<Weight> {
        match &self.data {
            Data::At { bytes, layout, big_endian } => self.elements(bytes, layout, *big_endian, self.offset, cache),
            Data::Zipped { packed, deflated, skip, sum, layout, big_endian } => {
                let unpacked = if *deflated { self.inflate(packed, *skip)? } else { packed.clone() };
                let mut crc = Crc::new();
                crc.update(&unpacked);
                if crc.sum() != *sum {
                    return Err(self.error(self.offset, "has a wrong checksum; the archive is damaged"));
                }
                let elements = unpacked.part(*skip..unpacked.len());
                let elements = elements.ok_or_else(|| self.error(self.offset, "is shorter than its header"))?;
                // No other tensor has these elements.
                let alone = &mut Cache { own: cache.own, ..Cache::default() };
                self.elements(&elements, layout, *big_endian, self.offset + *skip as u64, alone)
            }
        }
    }

    /// An error of this tensor.
    fn error(&self, offset: u64, message: &str) -> Error {
        Error::format(&*self.path, offset, format!("tensor {:?} {message}", self.info.name))
    }

    /// The tensor of elements that begin at `offset` of the file.
    fn elements(&self, bytes: &Bytes, layout: &Layout, big: bool, offset: u64, cache: &mut Cache) -> Result<Weight> {
        let (stored, shape) = (self.info.stored, &self.info.shape);
        let dtype = match (stored, stored.dtype()) {
            (Stored::Quant(kind), _) => {
                return Ok(QTensor::of_bytes("load", kind, shape.clone(), bytes.clone())?.into());
            }
            (_, None) => return Err(self.error(offset, &format!("is kept as {stored}, which is not read"))),
            (_, Some(dtype)) => dtype,
        };
        let Some((low, high)) = layout.bounds() else { return Ok(Tensor::zeros(shape, dtype)?.into()) };
        let little = !big || stored.unit() == 1;
        if little && stored == Stored::Plain(dtype) && dtype != DType::Bool {
            let key = (bytes.as_ptr() as usize, bytes.len(), stored.name());
            if let Some(whole) = cache.whole.get(&key) {
                return Ok(whole.with_layout(layout.clone()).into());
            }
            let whole = match each_dtype!(dtype, T => Buffer::<T>::mapped(bytes).map(Tensor::from_all)) {
                Some(mapped) if cache.own => Some(mapped.owned()?),
                None if cache.share => decode(stored, bytes, false)?.ok(),
                mapped => mapped,
            };
            if let Some(whole) = whole {
                let tensor = whole.with_layout(layout.clone());
                cache.whole.insert(key, whole);
                return Ok(tensor.into());
            }
        }
        let unit = stored.unit();
        let part = bytes.get(low * unit..(high + 1) * unit);
        let part = part.ok_or_else(|| self.error(offset, "reaches outside of its bytes"))?;
        let all = decode(stored, part, !little)?.map_err(|i| {
            self.error(
                offset + ((low + i) * unit) as u64,
                &format!("has a byte {} that is no {stored}", part[i * unit]),
            )
        })?;
        let layout = Layout::new(layout.shape().clone(), layout.strides().into(), layout.offset() - low);
        Ok(all.with_layout(layout).into())
    }

    /// What `packed` unpacks to, which must be as long as the elements and what is before them.
    fn inflate(&self, packed: &[u8], skip: usize) -> Result<Bytes> {
        use std::io::Read;
        let asked = skip as u64 + self.info.bytes;
        let mut out = vec![];
        // The archive was seen not to be a bomb.
        if out.try_reserve_exact(asked as usize + 1).is_err() {
            return Err(Error::OutOfMemory { op: "load", bytes: asked as usize });
        }
        let read = DeflateDecoder::new(packed).take(asked + 1).read_to_end(&mut out);
        match read {
            Err(e) => Err(self.error(self.offset, &format!("cannot be unpacked: {e}"))),
            Ok(n) if n as u64 != asked => Err(self.error(self.offset, &format!("does not unpack to {asked} bytes"))),
            Ok(_) => Ok(out.into()),
        }
    }
}
