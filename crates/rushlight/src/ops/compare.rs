//! Comparisons, logic and choice: bool tensors and `where`.

use crate::autograd::record;
use crate::dtype::each_dtype;
use crate::kernels::elementwise::{map1, map2, map3};
use crate::ops::binary::{promote, when_tracked};
use crate::tensor::Arg;
use crate::{DType, Element, Error, Result, Tensor};

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident: |$a:ident, $b:ident| $f:expr;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            #[allow(clippy::bool_comparison)] // the macro is also expanded for bool, where false < true
            pub fn $name(&self, rhs: impl Arg) -> Result<Tensor> {
                let name = stringify!($name);
                let (a, b) = promote(self, rhs)?;
                let shape = a.shape().broadcast(b.shape(), name)?;
                let (la, lb) = (a.layout().expand(&shape, name)?, b.layout().expand(&shape, name)?);
                let (a, b) = (a.with_layout(la), b.with_layout(lb));
                each_dtype!(a.dtype(), T => {
                    let (x, y) = (a.strided::<T>(name)?, b.strided::<T>(name)?);
                    Tensor::build(name, shape, |out: &mut [bool]| map2(x, y, out, |$a: T, $b: T| $f))
                })
            }
        )*}
    };
}

comparisons! {
    /// Whether `a = b`, as bool. PyTorch: `eq`.
    eq: |a, b| a == b;
    /// Whether `a ≠ b`, as bool; NaN differs from everything. PyTorch: `ne`.
    ne: |a, b| a != b;
    /// Whether `a < b`, as bool. PyTorch: `lt`.
    lt: |a, b| a < b;
    /// Whether `a ≤ b`, as bool. PyTorch: `le`.
    le: |a, b| a <= b;
    /// Whether `a > b`, as bool. PyTorch: `gt`.
    gt: |a, b| a > b;
    /// Whether `a ≥ b`, as bool. PyTorch: `ge`.
    ge: |a, b| a >= b;
}

impl Tensor {
    fn test(&self, name: &'static str, f: impl Fn(f64) -> bool + Sync + Copy) -> Result<Tensor> {
        each_dtype!(self.dtype(), T => {
            let x = self.strided::<T>(name)?;
            Tensor::build(name, self.shape().clone(), |out: &mut [bool]| map1(x, out, |x: T| f(x.to_f64())))
        })
    }

    fn logic(&self, name: &'static str, rhs: &Tensor, f: impl Fn(bool, bool) -> bool + Sync + Copy) -> Result<Tensor> {
        let shape = self.shape().broadcast(rhs.shape(), name)?;
        let (a, b) = (self.detach().to_dtype(DType::Bool)?, rhs.detach().to_dtype(DType::Bool)?);
        let (a, b) = (a.read_as(&shape, name)?, b.read_as(&shape, name)?);
        let (a, b) = (a.strided::<bool>(name)?, b.strided::<bool>(name)?);
        Tensor::build(name, shape, |out: &mut [bool]| map2(a, b, out, f))
    }

    /// Whether each element is NaN. PyTorch: `isnan`.
    pub fn isnan(&self) -> Result<Tensor> {
        self.test("isnan", f64::is_nan)
    }

    /// Whether each element is infinite. PyTorch: `isinf`.
    pub fn isinf(&self) -> Result<Tensor> {
        self.test("isinf", f64::is_infinite)
    }

    /// Whether each element is neither NaN nor infinite. PyTorch: `isfinite`.
    pub fn isfinite(&self) -> Result<Tensor> {
        self.test("isfinite", f64::is_finite)
    }

    /// Whether each element is zero (false). PyTorch: `logical_not`.
    pub fn logical_not(&self) -> Result<Tensor> {
        self.test("logical_not", |x| x == 0.0)
    }

    /// Whether both are nonzero. PyTorch: `logical_and`.
    pub fn logical_and(&self, rhs: &Tensor) -> Result<Tensor> {
        self.logic("logical_and", rhs, |a, b| a & b)
    }

    /// Whether either is nonzero. PyTorch: `logical_or`.
    pub fn logical_or(&self, rhs: &Tensor) -> Result<Tensor> {
        self.logic("logical_or", rhs, |a, b| a | b)
    }

    /// Whether exactly one is nonzero. PyTorch: `logical_xor`.
    pub fn logical_xor(&self, rhs: &Tensor) -> Result<Tensor> {
        self.logic("logical_xor", rhs, |a, b| a ^ b)
    }

    /// `a` where this is true, else `b`; all three broadcast. PyTorch: `torch.where(condition, a, b)`.
    ///
    /// Each gradient passes where its operand was chosen. Errors: this is not bool; shapes that do not broadcast.
    pub fn where_cond(&self, a: &Tensor, b: impl Arg) -> Result<Tensor> {
        let name = "where";
        if self.dtype() != DType::Bool {
            return Err(Error::dtype(name, self.dtype(), "expected a bool condition (compare, or cast with to_dtype)"));
        }
        let (a, b) = promote(a, b)?;
        let shape = a.shape().broadcast(b.shape(), name)?.broadcast(self.shape(), name)?;
        let (c, x, y) = (self.read_as(&shape, name)?, a.read_as(&shape, name)?, b.read_as(&shape, name)?);
        let out = each_dtype!(a.dtype(), T => {
            let (c, x, y) = (c.strided::<bool>(name)?, x.strided::<T>(name)?, y.strided::<T>(name)?);
            Tensor::build(name, shape, |out: &mut [T]| map3(c, x, y, out, |c, x: T, y: T| if c { x } else { y }))?
        });
        if !out.dtype().is_float() {
            return Ok(out);
        }
        let (c, x, y) = (self.clone(), a.clone(), b.clone());
        record(name, out, &[&a, &b], move |dy| {
            let zero = Tensor::zeros((), dy.dtype())?;
            Ok([
                when_tracked(&x, || c.where_cond(dy, &zero)?.sum_to(x.shape()))?,
                when_tracked(&y, || c.where_cond(&zero, dy)?.sum_to(y.shape()))?,
            ])
        })
    }

    /// `value` where `mask` is true (it broadcasts to this shape), else this. PyTorch: `masked_fill`.
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Result<Tensor> {
        let fill = Tensor::full((), value, self.dtype())?;
        let mask = mask.broadcast_to("masked_fill", self.shape())?;
        mask.logical_not()?.where_cond(self, &fill)
    }
}
