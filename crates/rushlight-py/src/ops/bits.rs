//! Bits of integers; a bool is one bit.

use rushlight::{DType, Result, Tensor};

/// `f` of each pair, broadcast, in the dtype that the two promote to. Errors: floats; shapes that do not broadcast.
pub fn bitwise(op: &'static str, a: &Tensor, b: &Tensor, f: impl Fn(i64, i64) -> i64) -> Result<Tensor> {
    if let Some(float) = [a, b].into_iter().find(|t| t.dtype().is_float()) {
        return Err(rushlight::Error::dtype(op, float.dtype(), "expected integers or bools"));
    }
    let dtype = a.dtype().promote(b.dtype());
    let shape = a.shape().broadcast(b.shape(), op)?;
    let wide = |t: &Tensor| t.to_dtype(DType::I64)?.expand(&shape)?.to_vec::<i64>();
    let out: Vec<i64> = wide(a)?.into_iter().zip(wide(b)?).map(|(x, y)| f(x, y)).collect();
    Tensor::from_vec(out, &shape)?.to_dtype(dtype)
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
