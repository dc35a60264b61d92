//! Python's pickles, as far as state dicts go: a stack machine that makes plain values and executes nothing.
//!
//! A pickle is a program; Python's reader would import and call whatever it names. This one knows a handful of names
//! ([`global`]) that it understands as data: how PyTorch rebuilds a tensor, ordered dicts, dtypes. Any other name is an
//! error. Lists, tuples and dicts live in one table and refer to each other by number, so no nesting is too deep to be
//! dropped. Reference: Python's `pickletools`, protocols 0 to 5.

mod machine;

use std::path::Path;

use machine::Machine;

use super::cursor::Cursor;
use super::stored::Stored;
use crate::{DType, Result};

/// A place in the pickle's bytes.
pub(super) type Span = (u32, u32);

/// A value; containers by their number in [`Pickle::heap`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An integer too large for i64, little-endian.
    Long(Span),
    Text(Span),
    Bytes(Span),
    List(u32),
    Tuple(u32),
    /// Keys and values in turn.
    Dict(u32),
    Global(Global),
    Storage(u32),
    Tensor(u32),
}

/// The names that are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    Set,
    Size,
    RebuildTensor,
    RebuildParameter,
    /// The type of a storage; untyped ones are of bytes.
    Storage(Stored),
    DType(Stored),
}

/// What stands for `module.name`, if it is known.
fn global(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("builtins" | "__builtin__", "set" | "frozenset") => Global::Set,
        ("torch", "Size") => Global::Size,
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch.storage", "UntypedStorage") => Global::Storage(Stored::Plain(DType::U8)),
        ("torch", _) => {
            let (name, of) = match name.strip_suffix("Storage") {
                Some(name) => (name, Global::Storage as fn(Stored) -> Global),
                None => (name, Global::DType as fn(Stored) -> Global),
            };
            of(match name {
                "Float" | "float32" => Stored::Plain(DType::F32),
                "Double" | "float64" => Stored::Plain(DType::F64),
                "BFloat16" | "bfloat16" => Stored::Plain(DType::BF16),
                "Half" | "float16" => Stored::Plain(DType::F16),
                "Long" | "int64" => Stored::Plain(DType::I64),
                "Byte" | "uint8" => Stored::Plain(DType::U8),
                "Bool" | "bool" => Stored::Plain(DType::Bool),
                "Char" | "int8" => Stored::I8,
                "Short" | "int16" => Stored::I16,
                "Int" | "int32" => Stored::I32,
                "uint16" => Stored::U16,
                "uint32" => Stored::U32,
                "uint64" => Stored::other("u64", 8),
                "ComplexFloat" | "complex64" => Stored::other("c64", 8),
                "ComplexDouble" | "complex128" => Stored::other("c128", 16),
                "float8_e4m3fn" => Stored::other("f8_e4m3", 1),
                "float8_e5m2" => Stored::other("f8_e5m2", 1),
                _ => return None,
            })
        }
        _ => return None,
    })
}

/// The elements of many tensors, by the key of their place in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct StorageRef {
    pub stored: Stored,
    pub key: Span,
    pub count: u64,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub(super) struct TensorRef {
    pub storage: StorageRef,
    pub stored: Stored,
    /// Where in the pickle it was made.
    pub at: usize,
    /// Elements; `size` and `strides` of one length.
    pub offset: usize,
    pub size: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A pickle, read.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    pub heap: Vec<Vec<Object>>,
    pub storages: Vec<StorageRef>,
    pub tensors: Vec<TensorRef>,
    /// What it is a pickle of.
    pub root: Object,
    /// Its length.
    pub end: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`, which begin at `start` of the file.
    pub fn read(path: &'a Path, bytes: &'a [u8], start: u64) -> Result<Pickle<'a>> {
        let pickle = Pickle { bytes, heap: vec![], storages: vec![], tensors: vec![], root: Object::None, end: 0 };
        let cursor = Cursor::new(path, bytes, start);
        if u32::try_from(bytes.len()).is_err() {
            return Err(cursor.error(0, "a pickle of more than 4 GiB"));
        }
        Machine::new(cursor, pickle).run()
    }

    pub fn bytes(&self, (start, len): Span) -> &'a [u8] {
        self.bytes.get(start as usize..).and_then(|b| b.get(..len as usize)).unwrap_or(&[])
    }

    /// Text was seen to be UTF-8 when it was read.
    pub fn text(&self, span: Span) -> &'a str {
        std::str::from_utf8(self.bytes(span)).unwrap_or("")
    }

    /// The contents of a container.
    pub fn items(&self, id: u32) -> &[Object] {
        self.heap.get(id as usize).map_or(&[], |items| items)
    }
}
