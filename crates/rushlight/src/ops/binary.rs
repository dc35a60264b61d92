//! Arithmetic of two operands, broadcast by NumPy's rule and promoted by PyTorch's.
//!
//! The gradient of a broadcast operand is summed over the dims that were repeated.

use crate::autograd::{each_for_the_other, no_gradient, record};
use crate::dtype::each_float;
use crate::kernels::elementwise::{float2, map2, update};
use crate::kernels::simd::dispatch;
use crate::tensor::Arg;
use crate::{DType, Error, Float, Real, Result, Tensor};

/// A function of two numbers, on floats and on integers.
trait Function2: Copy + Send + Sync + 'static {
    fn f<C: Real>(a: C, b: C) -> C;
    fn i(a: i64, b: i64) -> i64;
}

macro_rules! functions2 {
    ($($Name:ident: |$a:ident, $b:ident| $f:expr, $i:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $Name;
        impl Function2 for $Name {
            #[inline(always)]
            fn f<C: Real>($a: C, $b: C) -> C {
                $f
            }
            #[inline(always)]
            fn i($a: i64, $b: i64) -> i64 {
                let _ = ($a, $b);
                $i
            }
        }
    )*};
}

functions2! {
    Add: |a, b| a + b, a.wrapping_add(b);
    Sub: |a, b| a - b, a.wrapping_sub(b);
    Mul: |a, b| a * b, a.wrapping_mul(b);
    Div: |a, b| a / b, a.checked_div(b).unwrap_or(0);
    Pow: |a, b| a.powf(b), integer_pow(a, b);
    Maximum: |a, b| a.maximum(b), a.max(b);
    Minimum: |a, b| a.minimum(b), a.min(b);
    Bce: |x, t| (C::ONE - t) * x - (x.minimum(C::ZERO) - (-x.abs()).exp().ln_1p()), 0;
    // Python's floor division and modulo: the remainder has the sign of the divisor.
    FloorDiv: |a, b| floor_div(a, b), a.checked_div(b).map_or(0, |q| q - ((a % b != 0) && ((a < 0) != (b < 0))) as i64);
    Remainder: |a, b| modulo(a, b), a.checked_rem(b).map_or(0, |r| if r != 0 && ((r < 0) != (b < 0)) { r + b } else { r });
}

/// Python's `a % b`: exact, where `a − ⌊a/b⌋ b` would round, and defined for an infinite `b`.
#[inline(always)]
fn modulo<C: Real>(a: C, b: C) -> C {
    let r = C::of(a.to_f64() % b.to_f64());
    if r != C::ZERO && (r < C::ZERO) != (b < C::ZERO) { r + b } else { r }
}

/// Python's `a // b`: the `q` of `a = q b + a % b`, which `⌊a / b⌋` misses where the division rounds up to an integer.
#[inline(always)]
fn floor_div<C: Real>(a: C, b: C) -> C {
    if b == C::ZERO {
        return a / b;
    }
    let r = C::of(a.to_f64() % b.to_f64());
    // A whole number but for rounding; the sign of a zero is that of the quotient.
    let q = (a - r) / b;
    let q = if q == C::ZERO { (a / b) * C::ZERO } else { (q + C::of(0.5)).floor() };
    if r != C::ZERO && (r < C::ZERO) != (b < C::ZERO) { q - C::ONE } else { q }
}

/// Wrapping power by squaring; a negative exponent leaves only ±1 anything but 0.
#[inline(always)]
fn integer_pow(a: i64, b: i64) -> i64 {
    if b < 0 {
        return if a == 1 || a == -1 { 1 - (1 - a) * (b & 1) } else { 0 };
    }
    let (mut y, mut p, mut n) = (1i64, a, b);
    while n > 0 {
        y = if n & 1 == 1 { y.wrapping_mul(p) } else { y };
        p = p.wrapping_mul(p);
        n >>= 1;
    }
    y
}

/// `out = f(a, b)`; not inlined, so that it is compiled once for f32 and once for f64.
#[inline(never)]
fn apply<F: Function2, C: Real>(out: &mut [C], a: &[C], b: &[C]) {
    dispatch(
        #[inline(always)]
        || out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (&a, &b))| *o = F::f(a, b)),
    );
}

/// Both operands as tensors of one dtype.
pub(super) fn promote(lhs: &Tensor, rhs: impl Arg) -> Result<(Tensor, Tensor)> {
    let rhs = rhs.tensor(lhs.dtype())?;
    // A number (a tensor without dims) does not widen a tensor of the same kind: 2.0 stays what the tensor is.
    let (a, b) = (lhs.dtype(), rhs.dtype());
    let dtype = match (lhs.rank(), rhs.rank()) {
        (0, r) if r > 0 && a.is_float() == b.is_float() && a != DType::Bool && b != DType::Bool => b,
        (l, 0) if l > 0 && a.is_float() == b.is_float() && a != DType::Bool && b != DType::Bool => a,
        _ => a.promote(b),
    };
    Ok((lhs.to_dtype(dtype)?, rhs.to_dtype(dtype)?))
}

/// `f` of two tensors of one dtype, broadcast, outside the graph.
fn forward<F: Function2>(name: &'static str, a: &Tensor, b: &Tensor, _: F) -> Result<Tensor> {
    let shape = a.shape().broadcast(b.shape(), name)?;
    let (a, b) = (a.read_as(&shape, name)?, b.read_as(&shape, name)?);
    match a.dtype() {
        DType::Bool => Err(Error::dtype(name, DType::Bool, "expected numbers (cast with to_dtype)")),
        DType::I64 => {
            let (a, b) = (a.strided::<i64>(name)?, b.strided::<i64>(name)?);
            Tensor::build(name, shape, |out: &mut [i64]| map2(a, b, out, |a, b| F::i(a, b)))
        }
        DType::U8 => {
            let (a, b) = (a.strided::<u8>(name)?, b.strided::<u8>(name)?);
            Tensor::build(name, shape, |out: &mut [u8]| map2(a, b, out, |a, b| F::i(a as i64, b as i64) as u8))
        }
        dtype => each_float!(name, dtype, T => {
            let (a, b) = (a.strided::<T>(name)?, b.strided::<T>(name)?);
            Tensor::build(name, shape, |out: &mut [T]| float2(a, b, out, &|out, a, b| apply::<F, _>(out, a, b)))
        }),
    }
}

/// `Some(f())` if the tensor is tracked: no gradient is computed for one that is not.
pub(super) fn when_tracked(x: &Tensor, f: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
    if x.is_tracked() { f().map(Some) } else { Ok(None) }
}

/// A binary operation whose rule `(a, b, dy) → (da, db)` is given before the sums over broadcast dims.
fn binary<F: Function2>(
    name: &'static str,
    lhs: &Tensor,
    rhs: impl Arg,
    f: F,
    da: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
    db: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let (a, b) = promote(lhs, rhs)?;
    let y = forward(name, &a, &b, f)?;
    if !y.dtype().is_float() {
        return no_gradient(name, y, &[&a, &b]);
    }
    let (x, w) = (a.clone(), b.clone());
    record(name, y, &[&a, &b], move |dy| {
        Ok([
            when_tracked(&x, || da(&x, &w, dy)?.sum_to(x.shape()))?,
            when_tracked(&w, || db(&x, &w, dy)?.sum_to(w.shape()))?,
        ])
    })
}

/// `(1 − t)·x − ln σ(x)` of floats: binary cross-entropy of logits, in one pass.
pub(super) fn bce_with_logits(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    let dx = |x: &Tensor, t: &Tensor, dy: &Tensor| x.sigmoid()?.sub(t)?.mul(dy);
    binary("binary_cross_entropy_with_logits", x, target, Bce, dx, |x, _, dy| dy.mul(x)?.neg())
}

impl Tensor {
    /// `a ± b`. The rule keeps no operand: what is added to may be freed.
    fn sum_of<F: Function2>(&self, name: &'static str, rhs: impl Arg, f: F, negative: bool) -> Result<Tensor> {
        let (a, b) = promote(self, rhs)?;
        let y = forward(name, &a, &b, f)?;
        if !y.dtype().is_float() {
            return no_gradient(name, y, &[&a, &b]);
        }
        let [to_a, to_b] = [&a, &b].map(|x| x.is_tracked().then(|| x.shape().clone()));
        record(name, y, &[&a, &b], move |dy| {
            let da = to_a.as_ref().map(|shape| dy.sum_to(shape));
            let db = to_b.as_ref().map(|shape| if negative { dy.neg()?.sum_to(shape) } else { dy.sum_to(shape) });
            Ok([da.transpose()?, db.transpose()?])
        })
    }

    /// `a + b`. PyTorch: `add`, `+`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let a = Tensor::new([[1.0f32], [2.0]])?;
    /// let b = Tensor::new([10.0f32, 20.0])?;
    /// assert_eq!(a.add(&b)?.to_vec::<f32>()?, [11.0, 21.0, 12.0, 22.0]);
    /// assert_eq!((&a + 1.0).to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: shapes that do not broadcast; bool on both sides.
    pub fn add(&self, rhs: impl Arg) -> Result<Tensor> {
        self.sum_of("add", rhs, Add, false)
    }

    /// `a − b`. PyTorch: `sub`, `-`.
    pub fn sub(&self, rhs: impl Arg) -> Result<Tensor> {
        self.sum_of("sub", rhs, Sub, true)
    }

    /// `a · b`, element by element. PyTorch: `mul`, `*`.
    pub fn mul(&self, rhs: impl Arg) -> Result<Tensor> {
        let (a, b) = promote(self, rhs)?;
        let y = forward("mul", &a, &b, Mul)?;
        if !y.dtype().is_float() {
            return no_gradient("mul", y, &[&a, &b]);
        }
        let shapes = [a.shape().clone(), b.shape().clone()];
        let kept = each_for_the_other(&a, &b);
        record("mul", y, &[&a, &b], move |dy| {
            let to = |i: usize| kept[i].as_ref().map(|other| dy.mul(other)?.sum_to(&shapes[i])).transpose();
            Ok([to(0)?, to(1)?])
        })
    }

    /// `a / b`; of integers, in f32. PyTorch: `div`, `/`.
    pub fn div(&self, rhs: impl Arg) -> Result<Tensor> {
        let (a, b) = promote(self, rhs)?;
        let float = if a.dtype().is_float() { a.dtype() } else { DType::F32 };
        let (a, b) = (a.to_dtype(float)?, b.to_dtype(float)?);
        binary("div", &a, &b, Div, |_, b, dy| dy.div(b), |a, b, dy| dy.mul(a)?.div(&b.square()?)?.neg())
    }

    /// `⌊a / b⌋`; gradient 0. PyTorch: `floor_divide`, `//`. An integer divided by 0 gives 0.
    pub fn floor_divide(&self, rhs: impl Arg) -> Result<Tensor> {
        binary("floor_divide", self, rhs, FloorDiv, |_, _, dy| dy.zeros_like(), |_, _, dy| dy.zeros_like())
    }

    /// `a − ⌊a / b⌋ · b`, with the sign of `b`. PyTorch: `remainder`, `%`. An integer modulo 0 gives 0.
    pub fn remainder(&self, rhs: impl Arg) -> Result<Tensor> {
        let db = |a: &Tensor, b: &Tensor, dy: &Tensor| dy.mul(&a.floor_divide(b)?.neg()?);
        binary("remainder", self, rhs, Remainder, |_, _, dy| Ok(dy.clone()), db)
    }

    /// `aᵇ`: `da = b aᵇ⁻¹ dy`, `db = ln(a) aᵇ dy`. PyTorch: `pow`.
    ///
    /// At `a = 0` with `b ≥ 0` the gradient of `b` is 0, as in PyTorch.
    pub fn pow(&self, rhs: impl Arg) -> Result<Tensor> {
        let da = |a: &Tensor, b: &Tensor, dy: &Tensor| {
            let slope = b.mul(&a.pow(&b.sub(1.0)?)?)?;
            dy.mul(&b.eq(0.0)?.where_cond(&slope.zeros_like()?, &slope)?)
        };
        let db = |a: &Tensor, b: &Tensor, dy: &Tensor| {
            let slope = a.pow(b)?.mul(&a.log()?)?;
            let flat = a.eq(0.0)?.logical_and(&b.ge(0.0)?)?;
            dy.mul(&flat.where_cond(&slope.zeros_like()?, &slope)?)
        };
        binary("pow", self, rhs, Pow, da, db)
    }

    /// The larger of each pair; NaN if either is. At a tie each gets half of the gradient. PyTorch: `maximum`.
    pub fn maximum(&self, rhs: impl Arg) -> Result<Tensor> {
        binary("maximum", self, rhs, Maximum, |a, b, dy| share(dy, a, b), |a, b, dy| share(dy, b, a))
    }

    /// The smaller of each pair; NaN if either is. At a tie each gets half of the gradient. PyTorch: `minimum`.
    pub fn minimum(&self, rhs: impl Arg) -> Result<Tensor> {
        binary("minimum", self, rhs, Minimum, |a, b, dy| share(dy, b, a), |a, b, dy| share(dy, a, b))
    }

    /// `self += rhs` in the memory of `self` where nobody else holds it; outside the graph.
    pub(crate) fn add_in_place(&mut self, rhs: &Tensor) -> Result<()> {
        each_float!("add", self.dtype(), T => {
            let rhs = rhs.read_as(self.shape(), "add")?;
            let out = self.make_mut::<T>("add")?;
            update(out, rhs.strided::<T>("add")?, |o: T, x: T| T::down(o.up() + x.up()));
        });
        Ok(())
    }
}

/// The part of `dy` that goes to `winner`: all where it is larger, half at a tie.
fn share(dy: &Tensor, winner: &Tensor, other: &Tensor) -> Result<Tensor> {
    let (more, tie) = (winner.gt(other)?.to_dtype(dy.dtype())?, winner.eq(other)?.to_dtype(dy.dtype())?);
    dy.mul(&more.add(&tie.mul(0.5)?)?)
}
