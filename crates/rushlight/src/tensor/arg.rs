//! The other operand of a binary operation: a tensor or a number.

use crate::{DType, Result, Tensor};

/// A tensor, a reference to one, or a plain number, which takes the dtype of the tensor it meets (as in PyTorch: a
/// float number makes an integer tensor f32).
pub trait Arg {
    /// As a tensor to combine with one of dtype `dtype`.
    fn tensor(&self, dtype: DType) -> Result<Tensor>;
}

impl Arg for Tensor {
    fn tensor(&self, _: DType) -> Result<Tensor> {
        Ok(self.clone())
    }
}

impl Arg for &Tensor {
    fn tensor(&self, _: DType) -> Result<Tensor> {
        Ok((*self).clone())
    }
}

macro_rules! float {
    ($($t:ty),*) => {$(
        impl Arg for $t {
            fn tensor(&self, dtype: DType) -> Result<Tensor> {
                let dtype = if dtype.is_float() { dtype } else { DType::F32 };
                Tensor::full((), *self as f64, dtype)
            }
        }
    )*};
}

macro_rules! integer {
    ($($t:ty),*) => {$(
        impl Arg for $t {
            fn tensor(&self, dtype: DType) -> Result<Tensor> {
                let dtype = if dtype == DType::Bool { DType::I64 } else { dtype };
                if dtype == DType::I64 {
                    return Tensor::from_vec(vec![*self as i64], ());
                }
                Tensor::full((), *self as f64, dtype)
            }
        }
    )*};
}

float!(f32, f64);
integer!(i32, i64, usize);

impl Arg for bool {
    fn tensor(&self, _: DType) -> Result<Tensor> {
        Tensor::from_vec(vec![*self], ())
    }
}
