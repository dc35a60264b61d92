//! How files keep the elements of a tensor, and their way to and from Rushlight's.

use std::fmt;
use std::io::Write;

use crate::dtype::each_dtype;
use crate::quant::{QTensor, QuantKind};
use crate::storage::Buffer;
use crate::{DType, Element, Error, Result, Shape, Tensor, bf16, f16};

/// How a file keeps the elements of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// As one of Rushlight's own dtypes.
    Plain(DType),
    /// 8-bit signed integers, read as i64.
    I8,
    /// 16-bit signed integers, read as i64.
    I16,
    /// 32-bit signed integers, read as i64.
    I32,
    /// 16-bit unsigned integers, read as i64.
    U16,
    /// 32-bit unsigned integers, read as i64.
    U32,
    /// In blocks of few bits, read as f32 or as a [`QTensor`].
    Quant(QuantKind),
    /// In a way that is listed but not read.
    Other {
        /// What the format calls it, in lower case.
        name: &'static str,
        /// Elements of a block, of which the last dim holds a whole number.
        block_len: usize,
        /// Bytes of a block.
        block_size: usize,
    },
}

impl Stored {
    /// One that is not read, of `size` bytes an element.
    pub(super) const fn other(name: &'static str, size: usize) -> Stored {
        Stored::Other { name, block_len: 1, block_size: size }
    }

    /// What it is read as, if it is.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Stored::Plain(dtype) => Some(dtype),
            Stored::I8 | Stored::I16 | Stored::I32 | Stored::U16 | Stored::U32 => Some(DType::I64),
            Stored::Quant(_) => Some(DType::F32),
            Stored::Other { .. } => None,
        }
    }

    /// The name in lower case: `f32`, `i16`, `q4_k`.
    pub fn name(self) -> &'static str {
        match self {
            Stored::Plain(dtype) => dtype.name(),
            Stored::I8 => "i8",
            Stored::I16 => "i16",
            Stored::I32 => "i32",
            Stored::U16 => "u16",
            Stored::U32 => "u32",
            Stored::Quant(kind) => kind.name(),
            Stored::Other { name, .. } => name,
        }
    }

    /// Bytes of an element, or of a block.
    pub(super) fn unit(self) -> usize {
        match self {
            Stored::Plain(dtype) => dtype.size(),
            Stored::I8 => 1,
            Stored::I16 | Stored::U16 => 2,
            Stored::I32 | Stored::U32 => 4,
            Stored::Quant(kind) => kind.block_size(),
            Stored::Other { block_size, .. } => block_size,
        }
    }

    /// The bytes that a tensor of these sizes takes, or `None` where they are no whole number of blocks, or are too
    /// many to count. A size of zero does not hide that the others are too large.
    pub(super) fn size_of(self, dims: &[usize]) -> Option<usize> {
        let block = match self {
            Stored::Quant(kind) => kind.block_len(),
            Stored::Other { block_len, .. } => block_len,
            _ => 1,
        };
        if block > 1 && !dims.last()?.is_multiple_of(block) {
            return None;
        }
        let most = dims.iter().try_fold(16usize, |n, &d| n.checked_mul(d.max(1)))?;
        if most > isize::MAX as usize {
            return None;
        }
        (dims.iter().product::<usize>() / block).checked_mul(self.unit())
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of `bytes` one after the other, as a tensor of one dim. `Err(i)`: element `i` is none of the dtype.
pub(super) fn decode(stored: Stored, bytes: &[u8], big_endian: bool) -> Result<Result<Tensor, usize>> {
    let big = big_endian;
    let tensor = match stored {
        Stored::Plain(DType::F32) => numbers(bytes, big, f32::from_le_bytes),
        Stored::Plain(DType::F64) => numbers(bytes, big, f64::from_le_bytes),
        Stored::Plain(DType::BF16) => numbers(bytes, big, bf16::from_le_bytes),
        Stored::Plain(DType::F16) => numbers(bytes, big, f16::from_le_bytes),
        Stored::Plain(DType::I64) => numbers(bytes, big, i64::from_le_bytes),
        Stored::Plain(DType::U8) => numbers(bytes, big, u8::from_le_bytes),
        Stored::Plain(DType::Bool) => match bytes.iter().position(|b| *b > 1) {
            Some(i) => return Ok(Err(i)),
            None => numbers(bytes, big, |[b]| b == 1),
        },
        Stored::I8 => numbers(bytes, big, |b| i8::from_le_bytes(b) as i64),
        Stored::I16 => numbers(bytes, big, |b| i16::from_le_bytes(b) as i64),
        Stored::I32 => numbers(bytes, big, |b| i32::from_le_bytes(b) as i64),
        Stored::U16 => numbers(bytes, big, |b| u16::from_le_bytes(b) as i64),
        Stored::U32 => numbers(bytes, big, |b| u32::from_le_bytes(b) as i64),
        Stored::Quant(_) | Stored::Other { .. } => {
            return Err(Error::invalid("decode", format!("internal: {stored} has no elements; please report this")));
        }
    };
    tensor.map(Ok)
}

fn numbers<T: Element, const N: usize>(bytes: &[u8], big_endian: bool, f: impl Fn([u8; N]) -> T) -> Result<Tensor> {
    let (numbers, _) = bytes.as_chunks::<N>();
    let mut out = Buffer::try_scratch(numbers.len(), "load")?;
    for (y, &(mut x)) in out.iter_mut().zip(numbers) {
        if big_endian {
            x.reverse();
        }
        *y = f(x);
    }
    Ok(Tensor::from_all(out))
}

/// A tensor as files hold it: of plain numbers, or quantised.
#[derive(Clone)]
pub enum Weight {
    /// Of one of Rushlight's dtypes.
    Plain(Tensor),
    /// In blocks.
    Quant(QTensor),
}

impl Weight {
    /// How it is kept.
    pub fn stored(&self) -> Stored {
        match self {
            Weight::Plain(t) => Stored::Plain(t.dtype()),
            Weight::Quant(q) => Stored::Quant(q.kind()),
        }
    }

    /// The sizes of its dims.
    pub fn shape(&self) -> &Shape {
        match self {
            Weight::Plain(t) => t.shape(),
            Weight::Quant(q) => q.shape(),
        }
    }

    /// Its numbers; quantised ones as f32.
    pub fn tensor(&self) -> Result<Tensor> {
        match self {
            Weight::Plain(t) => Ok(t.clone()),
            Weight::Quant(q) => q.dequantize(),
        }
    }
}

impl From<Tensor> for Weight {
    fn from(t: Tensor) -> Weight {
        Weight::Plain(t)
    }
}

impl From<QTensor> for Weight {
    fn from(q: QTensor) -> Weight {
        Weight::Quant(q)
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight({}, {})", self.stored(), self.shape())
    }
}

/// Elements that go through memory at a time.
const CHUNK: usize = 1 << 14;

/// Writes the elements in row-major order, little-endian, or the blocks.
pub(super) fn write_weight(weight: &Weight, file: &mut impl Write) -> Result<std::io::Result<()>> {
    let t = match weight {
        Weight::Quant(q) => return Ok(file.write_all(q.bytes())),
        Weight::Plain(t) => t.packed()?,
    };
    let mut bytes = vec![];
    each_dtype!(t.dtype(), T => {
        for chunk in t.slice::<T>("save")?.chunks(CHUNK) {
            bytes.clear();
            chunk.iter().for_each(|x| x.append(&mut bytes));
            if let Err(e) = file.write_all(&bytes) {
                return Ok(Err(e));
            }
        }
    });
    Ok(Ok(()))
}

/// An element to its little-endian bytes.
trait Append {
    fn append(self, out: &mut Vec<u8>);
}

macro_rules! append {
    ($($t:ty),*) => {$(
        impl Append for $t {
            fn append(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

append!(f32, f64, bf16, f16, i64, u8);

impl Append for bool {
    fn append(self, out: &mut Vec<u8>) {
        out.push(self as u8);
    }
}

/// The bytes of a tensor's elements, for tests.
#[cfg(test)]
pub(super) fn bits(t: &Tensor) -> Vec<u8> {
    let mut out = vec![];
    write_weight(&t.clone().into(), &mut out).unwrap().unwrap();
    out
}
