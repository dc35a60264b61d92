//! Casts between dtypes.

use crate::autograd::record;
use crate::dtype::each_dtype;
use crate::kernels::elementwise::map1;
use crate::{DType, Element, Result, Tensor};

impl Tensor {
    /// The same values as another dtype, by the rules of [`Element`]. Between float dtypes the gradient is cast back;
    /// to an integer or bool there is none. PyTorch: `to(dtype)`.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        let from = self.dtype();
        if from == dtype {
            return Ok(self.clone());
        }
        // Between integers and to them through i64, which keeps all their values.
        let through_i64 = !(from.is_float() && dtype.is_float()) && (from == DType::I64 || dtype == DType::I64);
        let out = each_dtype!(from, A => each_dtype!(dtype, B => {
            let x = self.strided::<A>("to_dtype")?;
            Tensor::build("to_dtype", self.shape().clone(), |out: &mut [B]| {
                map1(x, out, |x: A| if through_i64 { B::from_i64(x.to_i64()) } else { B::from_f64(x.to_f64()) });
            })?
        }));
        if !dtype.is_float() {
            return Ok(out);
        }
        record("to_dtype", out, &[self], move |dy| dy.to_dtype(from))
    }
}
