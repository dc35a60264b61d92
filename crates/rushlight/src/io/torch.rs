//! PyTorch's state dicts (`.pt`, `.pth`, `.bin`): tensors by name, read without running anything.
//!
//! A file of `torch.save` is a zip archive of a pickle, `data.pkl`, and one member for each storage, `data/KEY`; before
//! PyTorch 1.6 it was five pickles one after the other (a magic number, a version, the machine, the object, the storages'
//! keys) and then the storages, each after its count. Pickles are read by [`super::pickle`], which knows what tensors
//! and plain containers are made of; any other name in them is an error. Dicts within dicts are flattened with dots.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{by_name, members};
use super::cursor::Cursor;
use super::file::{Contents, Data, Entry, Format, TensorFile, TensorInfo, layout_within};
use super::pickle::{Object, Pickle, TensorRef};
use super::value::{Array, Value};
use crate::nn::StateDict;
use crate::storage::Bytes;
use crate::{Error, Result, Shape};

/// `0x1950a86a20f9469cfc6c`, which the old format begins with, as protocol 2 pickles it.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// A pickle of 100,000 tensors takes less.
const MAX_PICKLE: u64 = 32 << 20;
/// Dicts within dicts.
const MAX_DEPTH: usize = 64;
/// Values looked at, and bytes of names, where one dict stands in many places.
const MAX_VISITS: usize = 1 << 20;
const MAX_NAMES: usize = 64 << 20;
/// Elements of a tensor that shows some more than once, as `expand` makes it.
const MAX_EXPANDED: usize = 1 << 24;

/// Reads the tensors of a PyTorch file into memory. [`TensorFile`] uses them where they lie, and has the numbers and
/// texts beside them as metadata.
///
/// `{"model": {"w": …}, "step": 3}` gives a tensor `model.w`; a bare tensor is called `tensor`. Views keep their strides,
/// and those of one storage share memory.
///
/// ```
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/formats/checkpoint.pt");
/// let state = rushlight::io::load_torch(path)?;
/// assert_eq!(state["model.weight"].dims(), [2, 3]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: a name in the pickle that is no part of a tensor or plain container, such as a whole module's class (save
/// `model.state_dict()` instead); a tensor outside of its storage; storages that are cut short; quantised, sparse and
/// complex tensors; what the system refuses.
pub fn load_torch(path: impl AsRef<Path>) -> Result<StateDict> {
    TensorFile::open_as(path.as_ref(), Format::Torch)?.load_owned()
}

/// Whether a zip archive is one of PyTorch's.
pub(super) fn is_archive(file: &Bytes) -> bool {
    members(Path::new(""), file).is_ok_and(|all| all.iter().any(|m| m.name.ends_with("data.pkl")))
}

/// Whether a file begins as the old format does.
pub(super) fn is_legacy(file: &[u8]) -> bool {
    file.starts_with(LEGACY)
}

/// The tensors, and what else stands in the dict.
pub(super) fn read(path: &Path, file: &Bytes) -> Result<Contents> {
    if is_legacy(file) {
        return read_legacy(path, file);
    }
    if !file.starts_with(b"PK") {
        return Err(Error::format(path, 0, "no file of torch.save: neither a zip archive nor the format before 1.6"));
    }
    let all = members(path, file)?;
    let find = |end: &str| all.iter().find(|m| m.name == end || m.name.ends_with(&format!("/{end}")));
    let Some(pickle) = find("data.pkl") else {
        return Err(Error::format(path, 0, "no file of torch.save: the archive has no data.pkl"));
    };
    if find("constants.pkl").is_some() {
        let message = "a TorchScript archive, which holds code; save the state dict with torch.save";
        return Err(Error::format(path, pickle.offset, message));
    }
    if pickle.deflated || pickle.size > MAX_PICKLE {
        let message = format!("data.pkl of {} bytes is deflated or larger than {MAX_PICKLE}", pickle.size);
        return Err(Error::format(path, pickle.offset, message));
    }
    let folder = pickle.name.strip_suffix("data.pkl").unwrap_or("").to_string();
    let big_endian = match find("byteorder").map(|m| &m.packed[..]) {
        None | Some(b"little") => false,
        Some(b"big") => true,
        Some(_) => return Err(Error::format(path, pickle.offset, "byteorder is neither little nor big")),
    };
    let names = by_name(&all);
    let parsed = Pickle::read(path, &pickle.packed, pickle.offset)?;
    flatten(path, &parsed, pickle.offset, big_endian, &mut |key, size| {
        let name = format!("{folder}data/{key}");
        let refuse = |message: String| Err(Error::format(path, pickle.offset, message));
        let Some(member) = names.get(name.as_str()) else {
            return refuse(format!("the archive lacks {name}, which a tensor is in"));
        };
        if member.deflated || member.size < size {
            return refuse(format!("{name} is deflated or has fewer than its {size} bytes"));
        }
        Ok((member.packed.clone(), member.offset))
    })
}

/// The format before PyTorch 1.6.
fn read_legacy(path: &Path, file: &Bytes) -> Result<Contents> {
    let (mut at, mut pickles) = (0, vec![]);
    for _ in 0..5 {
        let pickle = Pickle::read(path, &file[at..], at as u64)?;
        let start = at;
        at += pickle.end;
        pickles.push((pickle, start as u64));
    }
    let (Some((keys, keys_at)), Some((object, object_at))) = (pickles.pop(), pickles.pop()) else {
        return Err(Error::format(path, 0, "fewer than five pickles"));
    };
    let refuse = |message: &str| Error::format(path, keys_at, message);
    let Object::List(list) = keys.root else { return Err(refuse("the storages' keys are no list")) };
    // Element sizes are known from the tensors.
    let units: HashMap<&str, u64> =
        object.storages.iter().map(|s| (object.text(s.key), s.stored.unit() as u64)).collect();
    let mut places = HashMap::new();
    let mut c = Cursor::new(path, &file[at..], at as u64);
    for key in keys.items(list) {
        let Object::Text(key) = *key else { return Err(refuse("a storage's key is no text")) };
        let key = keys.text(key);
        let unit = units.get(key).ok_or_else(|| refuse("a storage that no tensor is in"))?;
        let count = c.u64("a storage's count")?;
        let start = at + c.at();
        let size = count.checked_mul(*unit).ok_or_else(|| refuse("a storage of more bytes than memory can address"))?;
        c.take(size, "a storage")?;
        let bytes = file.part(start..start + size as usize).ok_or_else(|| refuse("a storage outside of the file"))?;
        if places.insert(key, (bytes, start as u64)).is_some() {
            return Err(refuse("two storages have one key"));
        }
    }
    if c.left() > 0 {
        return Err(c.error(c.at(), format!("{} bytes left over after the last storage", c.left())));
    }
    flatten(path, &object, object_at, false, &mut |key, size| match places.get(key) {
        Some((bytes, start)) if bytes.len() as u64 >= size => Ok((bytes.clone(), *start)),
        _ => Err(Error::format(path, object_at, format!("storage {key:?} is missing or has fewer than {size} bytes"))),
    })
}

/// Finds the bytes of a storage by its key, at least as many as asked for, and where they begin.
type Find<'f> = &'f mut dyn FnMut(&str, u64) -> Result<(Bytes, u64)>;

/// The tensors of a pickle by their dotted names.
fn flatten(path: &Path, pickle: &Pickle, start: u64, big_endian: bool, find: Find) -> Result<Contents> {
    let mut walk = Walk {
        path: Arc::new(path.to_path_buf()),
        pickle,
        start,
        big_endian,
        find,
        contents: Contents { entries: vec![], metadata: vec![] },
        visits: 0,
        names: 0,
    };
    walk.visit("", pickle.root, 0)?;
    Ok(walk.contents)
}

struct Walk<'a, 'f> {
    path: Arc<PathBuf>,
    pickle: &'a Pickle<'a>,
    start: u64,
    big_endian: bool,
    find: Find<'f>,
    contents: Contents,
    visits: usize,
    names: usize,
}

impl Walk<'_, '_> {
    fn error(&self, message: String) -> Error {
        Error::format(&*self.path, self.start, message)
    }

    fn visit(&mut self, name: &str, object: Object, depth: usize) -> Result<()> {
        self.visits += 1;
        self.names += name.len();
        if depth > MAX_DEPTH || self.visits > MAX_VISITS || self.names > MAX_NAMES {
            let short: String = name.chars().take(60).collect();
            return Err(self.error(format!("the dicts are nested too deep or too large at {short:?}")));
        }
        let pickle = self.pickle;
        let value = match object {
            Object::None | Object::Storage(_) => return Ok(()),
            Object::Tensor(id) => return self.tensor(name, &pickle.tensors[id as usize]),
            Object::Dict(id) => {
                for [key, value] in pickle.items(id).as_chunks::<2>().0 {
                    let key = match *key {
                        Object::Text(key) => pickle.text(key).to_string(),
                        Object::Int(key) => key.to_string(),
                        other => return Err(self.error(format!("a dict's key is {other:?}, no text or number"))),
                    };
                    self.visit(&joined(name, &key), *value, depth + 1)?;
                }
                return Ok(());
            }
            Object::List(id) | Object::Tuple(id) => match numbers(pickle.items(id)) {
                Some(array) => {
                    self.visits += array.len();
                    Value::Array(array)
                }
                None => {
                    for (i, item) in pickle.items(id).iter().enumerate() {
                        self.visit(&joined(name, &i.to_string()), *item, depth + 1)?;
                    }
                    return Ok(());
                }
            },
            Object::Bool(x) => x.into(),
            Object::Int(x) => x.into(),
            Object::Float(x) => x.into(),
            Object::Text(span) => self.text(pickle.text(span))?.into(),
            Object::Bytes(span) | Object::Long(span) => {
                self.names += span.1 as usize;
                pickle.bytes(span).to_vec().into()
            }
            Object::Global(super::pickle::Global::DType(stored)) => stored.name().into(),
            Object::Global(_) => return Ok(()),
        };
        let name = if name.is_empty() { "value" } else { name };
        self.contents.metadata.push((name.to_string(), value));
        Ok(())
    }

    /// A text, counted: one may stand in many places.
    fn text<'t>(&mut self, text: &'t str) -> Result<&'t str> {
        self.names += text.len();
        if self.names > MAX_NAMES {
            return Err(self.error(format!("more than {MAX_NAMES} bytes of texts")));
        }
        Ok(text)
    }

    fn tensor(&mut self, name: &str, t: &TensorRef) -> Result<()> {
        let name = if name.is_empty() { "tensor" } else { name };
        let at = self.start + t.at as u64;
        let path = self.path.clone();
        let refuse = |message: String| Error::format(&*path, at, format!("tensor {name:?} {message}"));
        let (storage, stored, shape) = (&t.storage, t.stored, Shape::from(&t.size[..]));
        let too_large = || refuse(format!("of shape {shape} is more than memory can address"));
        let bytes = stored.size_of(&shape).ok_or_else(too_large)? as u64;
        let size = storage.count.checked_mul(storage.stored.unit() as u64).ok_or_else(too_large)?;
        let (all, offset) = (self.find)(self.pickle.text(storage.key), size)?;
        let count = size as usize / stored.unit();
        let whole = all.part(0..count * stored.unit()).ok_or_else(too_large)?;
        let layout = layout_within(&shape, &t.strides, t.offset, count).ok_or_else(|| {
            let (offset, strides) = (t.offset, &t.strides);
            refuse(format!("of shape {shape} at {offset} with strides {strides:?} leaves its {count} elements"))
        })?;
        if shape.numel() > count && shape.numel() > MAX_EXPANDED {
            return Err(refuse(format!("of shape {shape} shows {count} elements too often")));
        }
        let info = TensorInfo { name: name.to_string(), shape, stored, bytes };
        let data = Data::At { bytes: whole, layout, big_endian: self.big_endian };
        self.contents.entries.push(Entry { info, data, path: self.path.clone(), offset });
        Ok(())
    }
}

fn joined(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_string() } else { format!("{name}.{key}") }
}

/// A list of integers or of floats only.
fn numbers(items: &[Object]) -> Option<Array> {
    let int = |x: &Object| if let Object::Int(x) = *x { Some(x) } else { None };
    let float = |x: &Object| if let Object::Float(x) = *x { Some(x) } else { None };
    if let Some(all) = items.iter().map(int).collect::<Option<Vec<i64>>>() {
        return Some(Array::I64(all));
    }
    items.iter().map(float).collect::<Option<Vec<f64>>>().map(Array::F64)
}
