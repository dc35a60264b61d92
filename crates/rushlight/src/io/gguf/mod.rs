//! GGUF, the format of the ggml library: metadata of typed values, and tensors that may be quantised.
//!
//! Layout, little-endian: `GGUF`, the version (2 or 3) as `u32`, the counts of tensors and of values as `u64`; each
//! value as its key, type and content; each tensor as its name, sizes (innermost first), type and place; then, from the
//! next multiple of `general.alignment` (32) on, the elements, each tensor's at a multiple of it. A string is its length
//! as `u64` and its bytes. Reference: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod read;
mod write;

pub(super) use read::read;
pub use write::save_gguf;
pub(super) use write::{representable, write};

use super::stored::Stored;
use crate::DType;
use crate::quant::QuantKind;

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT: u64 = 32;
/// ggml's own limits.
const MAX_RANK: usize = 4;
const MAX_NAME: usize = 63;
/// More than any model has.
const MAX_TENSORS: u64 = 1 << 20;

/// Each kind of element with its number.
const TYPES: [(u32, Stored); 31] = {
    const fn plain(dtype: DType) -> Stored {
        Stored::Plain(dtype)
    }
    const fn quant(kind: QuantKind) -> Stored {
        Stored::Quant(kind)
    }
    const fn other(name: &'static str, block_len: usize, block_size: usize) -> Stored {
        Stored::Other { name, block_len, block_size }
    }
    [
        (0, plain(DType::F32)),
        (1, plain(DType::F16)),
        (2, quant(QuantKind::Q4_0)),
        (3, quant(QuantKind::Q4_1)),
        (6, quant(QuantKind::Q5_0)),
        (7, quant(QuantKind::Q5_1)),
        (8, quant(QuantKind::Q8_0)),
        (10, other("q2_k", 256, 84)),
        (11, other("q3_k", 256, 110)),
        (12, quant(QuantKind::Q4_K)),
        (13, quant(QuantKind::Q5_K)),
        (14, quant(QuantKind::Q6_K)),
        (15, other("q8_k", 256, 292)),
        (16, other("iq2_xxs", 256, 66)),
        (17, other("iq2_xs", 256, 74)),
        (18, other("iq3_xxs", 256, 98)),
        (19, other("iq1_s", 256, 50)),
        (20, other("iq4_nl", 32, 18)),
        (21, other("iq3_s", 256, 110)),
        (22, other("iq2_s", 256, 82)),
        (23, other("iq4_xs", 256, 136)),
        (24, Stored::I8),
        (25, Stored::I16),
        (26, Stored::I32),
        (27, plain(DType::I64)),
        (28, plain(DType::F64)),
        (29, other("iq1_m", 256, 56)),
        (30, plain(DType::BF16)),
        (34, other("tq1_0", 256, 54)),
        (35, other("tq2_0", 256, 66)),
        (39, other("mxfp4", 32, 17)),
    ]
};

/// What a file's number for a type stands for.
fn stored_of(number: u32) -> Option<Stored> {
    TYPES.iter().find(|(n, _)| *n == number).map(|(_, stored)| *stored)
}

/// The number of a type, if the format has it.
fn number_of(stored: Stored) -> Option<u32> {
    TYPES.iter().find(|(_, s)| *s == stored).map(|(number, _)| *number)
}
