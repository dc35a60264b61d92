//! NumPy's files: `.npy`, one array, and `.npz`, a zip archive of such by name.
//!
//! Layout of an array: `\x93NUMPY`, the version's two bytes, the length of the header as a little-endian `u16`, or `u32`
//! in versions 2 and 3; the header, a Python dict of `descr` (the element type), `fortran_order` and `shape`, padded
//! so that the elements begin at a multiple of 64; the elements in row-major (C) or column-major (Fortran) order, of
//! either byte order. Reference: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. Arrays of
//! Python objects are never read.

use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::DeflateDecoder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::archive::members;
use super::cursor::Cursor;
use super::file::{Contents, Data, Entry, Format, TensorFile, TensorInfo, layout_within};
use super::stored::{Stored, Weight, write_weight};
use super::write_atomic;
use crate::nn::StateDict;
use crate::storage::Bytes;
use crate::{DType, Error, Layout, Result, Shape, Tensor};

/// What every array begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Longer headers belong to no array of numbers.
const MAX_HEADER: usize = 1 << 16;
/// NumPy's own limit.
const MAX_RANK: usize = 64;

/// Reads a `.npy` file into memory. [`TensorFile`] uses it where it lies.
///
/// ```
/// # use rushlight::{Tensor, io::{load_npy, save_npy}};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("x.npy");
/// save_npy(&path, &Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?)?;
/// assert_eq!(load_npy(&path)?.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: not such a file; elements that are not read (Python objects, structures, text, complex numbers, u64;
/// integers of 8 to 32 bits are, as i64); more or fewer bytes than the header asks for; what the system refuses.
pub fn load_npy(path: impl AsRef<Path>) -> Result<Tensor> {
    TensorFile::open_as(path.as_ref(), Format::Npy)?.tensor(NAME)?.owned()
}

/// Reads a `.npz` file, stored or deflated, into memory. [`TensorFile`] gives one array at a time.
///
/// ```
/// # use rushlight::{Tensor, io::{load_npz, save_npz}, nn::StateDict};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("x.npz");
/// save_npz(&path, &StateDict::from([("a".to_string(), Tensor::new([1i64, 2])?)]))?;
/// assert_eq!(load_npz(&path)?["a"].to_vec::<i64>()?, [1, 2]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: those of [`load_npy`] for each member; no zip archive; a wrong checksum; a zip bomb.
pub fn load_npz(path: impl AsRef<Path>) -> Result<StateDict> {
    TensorFile::open_as(path.as_ref(), Format::Npz)?.load_owned()
}

/// Writes a `.npy` file, row-major and little-endian; an old file is replaced whole or not at all.
///
/// Errors: bf16, which NumPy has not; more than 64 dims; what the system refuses.
pub fn save_npy(path: impl AsRef<Path>, tensor: &Tensor) -> Result<()> {
    write_npy(path.as_ref(), &TensorInfo::plain(NAME, tensor.dtype(), tensor.shape()), tensor.clone().into())
}

/// Writes a `.npz` file, not deflated, each array at a multiple of 64 bytes; an old file is replaced whole or not at all.
///
/// Errors: those of [`save_npy`] for each tensor.
pub fn save_npz(path: impl AsRef<Path>, tensors: &StateDict) -> Result<()> {
    let plan: Vec<TensorInfo> = tensors.iter().map(|(name, t)| TensorInfo::plain(name, t.dtype(), t.shape())).collect();
    write_npz(path.as_ref(), &plan, &mut |i| Ok(tensors[&plan[i].name].clone().into()))
}

/// What the one array of a `.npy` file is called.
pub(super) const NAME: &str = "array";

/// A header: elements, their byte order, where they begin, and how they are laid out.
struct Header {
    stored: Stored,
    big_endian: bool,
    start: usize,
    shape: Shape,
    fortran: bool,
}

/// The header of an array that begins with `head` at byte `start` of the file.
fn parse(path: &Path, head: &[u8], start: u64) -> Result<Header> {
    let mut c = Cursor::new(path, head, start);
    if c.take(MAGIC.len() as u64, "the magic number")? != MAGIC {
        return Err(c.error(0, "not a NumPy array: it does not begin with \\x93NUMPY"));
    }
    let [major, minor] = c.array("the version")?;
    let length = match (major, minor) {
        (1, 0) => u16::from_le_bytes(c.array("the header's length")?) as usize,
        (2 | 3, 0) => c.u32("the header's length")? as usize,
        _ => return Err(c.error(6, format!("version {major}.{minor}; 1.0, 2.0 and 3.0 are read"))),
    };
    if length > MAX_HEADER {
        return Err(c.error(8, format!("a header of {length} bytes; at most {MAX_HEADER} are read")));
    }
    let at = c.at();
    let text = c.take(length as u64, "the header")?;
    let mut literal = Literal { text, at: 0 };
    let refuse = |at_text: usize, message: &str| Error::format(path, start + (at + at_text) as u64, message);
    let (mut descr, mut fortran, mut dims) = (None, None, None);
    let fields = literal.dict(|key, literal| {
        match key {
            "descr" => descr = Some((literal.at, literal.text()?)),
            "fortran_order" => fortran = Some(literal.truth()?),
            "shape" => dims = Some((literal.at, literal.sizes()?)),
            _ => return None,
        }
        Some(())
    });
    if fields.is_none() {
        let message =
            "the header is not a dict of a plain descr, fortran_order and shape (structured arrays are not read)";
        return Err(refuse(literal.at, message));
    }
    let (Some((descr_at, descr)), Some(fortran), Some((dims_at, dims))) = (descr, fortran, dims) else {
        return Err(refuse(0, "the header lacks descr, fortran_order or shape"));
    };
    let (stored, big_endian) = element(descr).ok_or_else(|| {
        refuse(descr_at, &format!("elements of type {descr:?} are not read (only plain numbers are)"))
    })?;
    if dims.len() > MAX_RANK || stored.size_of(&dims).is_none() {
        return Err(refuse(dims_at, &format!("the shape {dims:?} of {stored} is more than memory can address")));
    }
    Ok(Header { stored, big_endian, start: at + length, shape: dims.into(), fortran })
}

impl Header {
    /// Where each element lies among `self.shape.numel()`.
    fn layout(&self) -> Option<Layout> {
        if !self.fortran {
            return Some(Layout::contiguous(self.shape.clone()));
        }
        let mut step = 1;
        let mut strides = vec![];
        for d in self.shape.iter() {
            strides.push(step);
            step *= (*d).max(1);
        }
        layout_within(&self.shape, &strides, 0, self.shape.numel())
    }

    fn bytes(&self) -> u64 {
        self.stored.size_of(&self.shape).unwrap_or(0) as u64
    }
}

/// What NumPy's name of an element type stands for, and whether it is big-endian.
fn element(descr: &str) -> Option<(Stored, bool)> {
    let (order, name) = match descr.split_at_checked(1)? {
        (order @ ("<" | ">" | "|" | "="), name) => (order, name),
        _ => ("|", descr),
    };
    let stored = match name {
        "f4" => Stored::Plain(DType::F32),
        "f8" => Stored::Plain(DType::F64),
        "f2" => Stored::Plain(DType::F16),
        "i8" => Stored::Plain(DType::I64),
        "u1" => Stored::Plain(DType::U8),
        "b1" | "?" => Stored::Plain(DType::Bool),
        "i1" => Stored::I8,
        "i2" => Stored::I16,
        "i4" => Stored::I32,
        "u2" => Stored::U16,
        "u4" => Stored::U32,
        "u8" => Stored::other("u64", 8),
        "c8" => Stored::other("c64", 8),
        "c16" => Stored::other("c128", 16),
        "f16" => Stored::other("f128", 16),
        _ => return None,
    };
    Some((stored, order == ">" || order == "=" && cfg!(target_endian = "big")))
}

/// A reader of the few Python literals that headers are of. `None`: something else stands at `at`.
struct Literal<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Literal<'a> {
    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    /// Whether `token` comes next, past white space; then goes behind it.
    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(token.as_bytes());
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn text(&mut self) -> Option<&'a str> {
        let quote = ["'", "\""].into_iter().find(|q| self.eat(q))?.as_bytes()[0];
        let length = self.text[self.at..].iter().position(|b| *b == quote)?;
        let text = std::str::from_utf8(&self.text[self.at..][..length]).ok()?;
        self.at += length + 1;
        (!text.contains('\\')).then_some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        if self.eat("True") {
            return Some(true);
        }
        self.eat("False").then_some(false)
    }

    fn size(&mut self) -> Option<usize> {
        self.space();
        let digits = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&self.text[self.at..][..digits]).ok()?.parse().ok()?;
        self.at += digits;
        // Python 2 wrote its long integers so.
        self.eat("L");
        Some(number)
    }

    fn sizes(&mut self) -> Option<Vec<usize>> {
        let mut sizes = vec![];
        if !self.eat("(") {
            return None;
        }
        while !self.eat(")") {
            sizes.push(self.size()?);
            // `(3)` is no tuple.
            if !self.eat(",") && (sizes.len() < 2 || !self.text[self.at..].starts_with(b")")) {
                return None;
            }
        }
        Some(sizes)
    }

    /// Hands the place of each value to `field`, to the end of the text.
    fn dict(&mut self, mut field: impl FnMut(&str, &mut Literal<'a>) -> Option<()>) -> Option<()> {
        if !self.eat("{") {
            return None;
        }
        let mut closed = self.eat("}");
        while !closed {
            let key = self.text()?;
            if !self.eat(":") {
                return None;
            }
            self.space();
            field(key, self)?;
            let comma = self.eat(",");
            closed = self.eat("}");
            if !comma && !closed {
                return None;
            }
        }
        self.space();
        (self.at == self.text.len()).then_some(())
    }
}

/// A `.npy` file.
pub(super) fn read_npy(path: &Path, file: &Bytes) -> Result<Contents> {
    let header = parse(path, file, 0)?;
    let (there, asked, start) = ((file.len() - header.start) as u64, header.bytes(), header.start as u64);
    let shape = &header.shape;
    if there < asked {
        let message = format!("truncated: {shape} of {} takes {asked} bytes, the file has {there}", header.stored);
        return Err(Error::format(path, start + there, message));
    }
    if there > asked {
        let message = format!("bytes left over after the {asked} that {shape} of {} takes", header.stored);
        return Err(Error::format(path, start + asked, message));
    }
    let outside = || Error::format(path, start, "the elements lie outside of the file");
    let layout = header.layout().ok_or_else(outside)?;
    let bytes = file.part(header.start..file.len()).ok_or_else(outside)?;
    let info = TensorInfo { name: NAME.to_string(), shape: shape.clone(), stored: header.stored, bytes: asked };
    let data = Data::At { bytes, layout, big_endian: header.big_endian };
    Ok(Contents { entries: vec![Entry { info, data, path: Arc::new(path.into()), offset: start }], metadata: vec![] })
}

/// A `.npz` file.
pub(super) fn read_npz(path: &Path, file: &Bytes) -> Result<Contents> {
    let shared = Arc::new(path.to_path_buf());
    let mut entries = vec![];
    for member in members(path, file)? {
        let offset = member.offset;
        let refuse = |message: String| Error::format(path, offset, format!("member {:?} {message}", member.name));
        let Some(name) = member.name.strip_suffix(".npy") else {
            return Err(refuse("is no .npy array".to_string()));
        };
        let mut head = vec![];
        if member.deflated {
            // As much as the longest header.
            let most = MAX_HEADER as u64 + 12;
            let read = DeflateDecoder::new(&member.packed[..]).take(most).read_to_end(&mut head);
            read.map_err(|e| refuse(format!("cannot be unpacked: {e}")))?;
        }
        let header = parse(path, if member.deflated { &head } else { &member.packed }, offset)?;
        let (there, asked) = (member.size.checked_sub(header.start as u64), header.bytes());
        if there != Some(asked) {
            let (shape, there) = (&header.shape, there.unwrap_or(0));
            return Err(refuse(format!("holds {there} bytes, where {shape} of {} takes {asked}", header.stored)));
        }
        let layout = header.layout().ok_or_else(|| refuse("has elements outside of itself".to_string()))?;
        let info = TensorInfo { name: name.to_string(), shape: header.shape, stored: header.stored, bytes: asked };
        let (deflated, skip, sum) = (member.deflated, header.start, member.sum);
        let data = Data::Zipped { packed: member.packed, deflated, skip, sum, layout, big_endian: header.big_endian };
        entries.push(Entry { info, data, path: shared.clone(), offset });
    }
    Ok(Contents { entries, metadata: vec![] })
}

/// The header of an array, padded to a multiple of 64 bytes.
fn header(info: &TensorInfo) -> Result<Vec<u8>> {
    let refuse = |message: String| Err(Error::invalid("save_npy", format!("tensor {:?} {message}", info.name)));
    let descr = match info.stored {
        Stored::Plain(DType::F32) => "<f4",
        Stored::Plain(DType::F64) => "<f8",
        Stored::Plain(DType::F16) => "<f2",
        Stored::Plain(DType::I64) => "<i8",
        Stored::Plain(DType::U8) => "|u1",
        Stored::Plain(DType::Bool) => "|b1",
        other => return refuse(format!("is kept as {other}, which NumPy has not; cast it to f32")),
    };
    if info.shape.rank() > MAX_RANK {
        return refuse(format!("has {} dims; NumPy has at most {MAX_RANK}", info.shape.rank()));
    }
    let mut sizes: Vec<String> = info.shape.iter().map(|d| d.to_string()).collect();
    if sizes.len() == 1 {
        sizes.push(String::new());
    }
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", sizes.join(", ").trim_end());
    let whole = (10 + dict.len() + 1).next_multiple_of(64);
    let mut out = [MAGIC, &[1, 0], &(whole as u16 - 10).to_le_bytes(), dict.as_bytes()].concat();
    out.resize(whole - 1, b' ');
    out.push(b'\n');
    Ok(out)
}

/// Writes one array.
pub(super) fn write_npy(path: &Path, info: &TensorInfo, weight: Weight) -> Result<()> {
    let head = header(info)?;
    let refused = |e| Error::io(path, e);
    write_atomic(path, |file| {
        file.write_all(&head).map_err(refused)?;
        write_weight(&weight, file)?.map_err(refused)
    })
}

/// Writes the arrays of `plan`, asking for each when its turn comes.
pub(super) fn write_npz(
    path: &Path,
    plan: &[TensorInfo],
    fetch: &mut dyn FnMut(usize) -> Result<Weight>,
) -> Result<()> {
    let heads: Vec<Vec<u8>> = plan.iter().map(header).collect::<Result<_>>()?;
    write_atomic(path, |file| write_members(path, file, plan, &heads, fetch))
}

fn write_members<W: Write + Seek>(
    path: &Path,
    file: &mut BufWriter<W>,
    plan: &[TensorInfo],
    heads: &[Vec<u8>],
    fetch: &mut dyn FnMut(usize) -> Result<Weight>,
) -> Result<()> {
    let refused = |e: io::Error| Error::io(path, e);
    let mut zip = ZipWriter::new(file);
    for (i, (info, head)) in plan.iter().zip(heads).enumerate() {
        // Aligned, so that it can be used where it lies.
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .with_alignment(64)
            .large_file(info.bytes > u32::MAX as u64 - (1 << 20));
        zip.start_file(format!("{}.npy", info.name), options).map_err(|e| refused(e.into()))?;
        zip.write_all(head).map_err(refused)?;
        write_weight(&fetch(i)?, &mut zip)?.map_err(refused)?;
    }
    zip.finish().map_err(|e| refused(e.into()))?;
    Ok(())
}
