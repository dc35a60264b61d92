//! Bits of integers; a bool is one bit.

use pyo3::prelude::*;
use rushlight::{DType, Result, Tensor};

use super::{compute, meet};
use crate::args::Operand;
use crate::tensor::PyTensor;

both! { table:
    /// The bits moved up by `other` places; of integers. All fall off by a negative number.
    bitwise_left_shift(other)(other: Operand) = |x| { let (a, b) = meet(x, places(other))?; shifted("bitwise_left_shift", &a, &b, left) };
    /// The bits moved down by `other` places, the sign filling up; of integers. All fall off by a negative number.
    bitwise_right_shift(other)(other: Operand) = |x| { let (a, b) = meet(x, places(other))?; shifted("bitwise_right_shift", &a, &b, right) };
}

/// A number that any dtype holds, for one by which all bits fall off.
fn places(other: Operand) -> Operand {
    match other {
        Operand::Int(n) if !(0..64).contains(&n) => Operand::Int(64),
        other => other,
    }
}

/// `f` of each pair, broadcast, in the dtype that the two promote to. Errors: floats; shapes that do not broadcast.
pub fn bitwise(op: &'static str, a: &Tensor, b: &Tensor, f: impl Fn(i64, i64) -> i64) -> Result<Tensor> {
    if let Some(float) = [a, b].into_iter().find(|t| t.dtype().is_float()) {
        return Err(rushlight::Error::dtype(op, float.dtype(), "expected integers or bools"));
    }
    let dtype = a.dtype().promote(b.dtype());
    let shape = a.shape().broadcast(b.shape(), op)?;
    let wide = |t: &Tensor| t.to_dtype(DType::I64)?.expand(&shape)?.to_vec::<i64>();
    // In place: a third copy would be memory that nothing checks.
    let mut out = wide(a)?;
    out.iter_mut().zip(wide(b)?).for_each(|(x, y)| *x = f(*x, y));
    Tensor::from_vec(out, &shape)?.to_dtype(dtype)
}

/// [`bitwise`] that takes no two bools.
pub fn shifted(op: &'static str, a: &Tensor, b: &Tensor, f: impl Fn(i64, i64) -> i64) -> Result<Tensor> {
    if super::arithmetic::are_bools(a, b) {
        return Err(rushlight::Error::dtype(op, DType::Bool, "expected integers"));
    }
    bitwise(op, a, b, f)
}

/// `x << n`: 0 where `n` is no place of 64 bits, as PyTorch's.
pub fn left(x: i64, n: i64) -> i64 {
    if (0..64).contains(&n) { x << n } else { 0 }
}

/// `x >> n`: the sign everywhere where `n` is no place of 64 bits.
pub fn right(x: i64, n: i64) -> i64 {
    x >> if (0..64).contains(&n) { n } else { 63 }
}

/// Every bit turned. Errors: floats.
pub fn inverted(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::Bool => x.logical_not(),
        DType::U8 => Tensor::full(x.shape(), 255.0, DType::U8)?.sub(x),
        DType::I64 => x.add(1i64)?.neg(),
        float => Err(rushlight::Error::dtype("bitwise_not", float, "expected integers or bools")),
    }
}
