//! The operations, as a table: each row is a method of `Tensor` and a function of the module, with PyTorch's argument
//! names and defaults.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use rushlight::{Arg, DType, Tensor};

use crate::args::{Ints, Operand, Over};
use crate::autograd;
use crate::dtype::AnyDType;
use crate::error::OrRaise;
use crate::tensor::PyTensor;

/// From this many elements on an operation gives the GIL away. Below, it ends sooner than another thread gives it back.
const LONG: usize = 1 << 13;

/// `f` in Python's grad mode, without the GIL if it is long.
#[inline]
pub fn compute(
    py: Python<'_>,
    elements: usize,
    f: impl FnOnce() -> rushlight::Result<Tensor> + Send,
) -> PyResult<PyTensor> {
    let out = if elements < LONG { autograd::run(f) } else { py.detach(|| autograd::run(f)) };
    Ok(PyTensor::from(out.or_raise()?))
}

/// As [`compute`], for any result.
pub fn detached<R: Send>(py: Python<'_>, f: impl FnOnce() -> rushlight::Result<R> + Send) -> PyResult<R> {
    py.detach(|| autograd::run(f)).or_raise()
}

/// As [`compute`], of a product: long if its operands are.
macro_rules! both {
    ($table:ident: $($(#[$doc:meta])* $name:ident($($sig:tt)*)($($arg:ident: $ty:ty),*) = |$x:ident| $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            #[pyo3(signature = ($($sig)*))]
            fn $name(&self, py: Python<'_>, $($arg: $ty),*) -> PyResult<PyTensor> {
                let $x = self.value()?;
                compute(py, $x.numel(), move || $body)
            }
        )*}

        pub mod $table {
            use super::*;
            $(
                $(#[$doc])*
                #[pyfunction]
                #[pyo3(signature = (input, $($sig)*))]
                fn $name(py: Python<'_>, input: &Bound<'_, PyTensor>, $($arg: $ty),*) -> PyResult<PyTensor> {
                    input.get().$name(py, $($arg),*)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}

both! { unary:
    /// `|x|`
    abs()() = |x| x.abs();
    /// `eˣ`
    exp()() = |x| x.exp();
    /// `eˣ − 1`
    expm1()() = |x| x.expm1();
    /// Natural logarithm.
    log()() = |x| x.log();
    /// Logarithm to base 2.
    log2()() = |x| x.log2();
    /// Logarithm to base 10.
    log10()() = |x| x.log10();
    /// `ln(1 + x)`
    log1p()() = |x| x.log1p();
    /// Square root.
    sqrt()() = |x| x.sqrt();
    /// `1/√x`
    rsqrt()() = |x| x.rsqrt();
    /// `1/x`
    reciprocal()() = |x| x.reciprocal();
    /// Sine.
    sin()() = |x| x.sin();
    /// Cosine.
    cos()() = |x| x.cos();
    /// Tangent.
    tan()() = |x| x.tan();
    /// Hyperbolic tangent.
    tanh()() = |x| x.tanh();
    /// `1 / (1 + e⁻ˣ)`
    sigmoid()() = |x| x.sigmoid();
    /// The error function.
    erf()() = |x| x.erf();
    /// `max(x, 0)`
    relu()() = |x| x.relu();
    /// `x²`
    square()() = |x| x.square();
    /// `−x`
    neg()() = |x| x.neg();
    /// −1, 0 or 1 by the sign.
    sign()() = |x| x.sign();
    /// 1 where `x > 0`, else 0: the derivative of relu.
    step()() = |x| x.step();
    /// Largest integer at or below.
    floor()() = |x| x.floor();
    /// Smallest integer at or above.
    ceil()() = |x| x.ceil();
    /// Nearest integer, ties to even.
    round()() = |x| x.round();
    /// Toward zero.
    trunc()() = |x| x.trunc();
    /// Whether it is NaN.
    isnan()() = |x| x.isnan();
    /// Whether it is infinite.
    isinf()() = |x| x.isinf();
    /// Whether it is a number and finite.
    isfinite()() = |x| x.isfinite();
    /// Whether it is 0.
    logical_not()() = |x| x.logical_not();
    /// Cut to `[min, max]`.
    clamp(min=None, max=None)(min: Option<f64>, max: Option<f64>) =
        |x| x.clamp(min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
    /// Cut to `[min, max]`.
    clip(min=None, max=None)(min: Option<f64>, max: Option<f64>) =
        |x| x.clamp(min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
    /// `eˣ` of each over the sum along `dim`: the soft argmax.
    softmax(dim, dtype=None)(dim: i64, dtype: Option<AnyDType>) = |x| cast(x, dtype)?.softmax(dim);
    /// The logarithm of softmax.
    log_softmax(dim, dtype=None)(dim: i64, dtype: Option<AnyDType>) = |x| cast(x, dtype)?.log_softmax(dim);
    /// 1 at the largest along `dim`, else 0.
    argmax_one_hot(dim)(dim: i64) = |x| x.argmax_one_hot(dim);
    /// Running sum along `dim`.
    cumsum(dim, dtype=None)(dim: i64, dtype: Option<AnyDType>) = |x| cast(x, dtype)?.cumsum(dim);
    /// Running product along `dim`.
    cumprod(dim, dtype=None)(dim: i64, dtype: Option<AnyDType>) = |x| cast(x, dtype)?.cumprod(dim);
    /// The lower triangle of the last two dims.
    tril(diagonal=0)(diagonal: i64) = |x| x.tril(diagonal);
    /// The upper triangle of the last two dims.
    triu(diagonal=0)(diagonal: i64) = |x| x.triu(diagonal);
    /// Shifted along `dims`, what falls off one end coming in at the other.
    roll(shifts, dims=None)(shifts: Ints, dims: Option<Ints>) = |x| rolled(&x, &shifts, dims);
    /// The dims backwards.
    flip(*dims)(dims: Variadic) = |x| x.flip(dims.0.as_slice())?.contiguous();
    /// Each element `repeats` times along `dim`.
    repeat_interleave(repeats, dim=None)(repeats: usize, dim: Option<i64>) = |x| match dim {
        Some(dim) => x.repeat_interleave(repeats, dim),
        None => x.reshape(-1)?.repeat_interleave(repeats, 0),
    };
    /// The sum of the diagonal.
    trace()() = |x| x.trace();
    /// The places of the nonzero elements.
    nonzero()() = |x| x.nonzero();
}

/// Ints in `*args`.
pub struct Variadic(pub smallvec::SmallVec<[i64; 6]>);

impl<'a, 'py> FromPyObject<'a, 'py> for Variadic {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Variadic(crate::args::shape_of(&obj.cast::<pyo3::types::PyTuple>()?.to_owned())?))
    }
}

pub fn cast(x: Tensor, dtype: Option<AnyDType>) -> rushlight::Result<Tensor> {
    match dtype {
        Some(dtype) => x.to_dtype(dtype.0),
        None => Ok(x),
    }
}

fn rolled(x: &Tensor, shifts: &Ints, dims: Option<Ints>) -> rushlight::Result<Tensor> {
    let Some(dims) = dims else {
        return x.reshape(-1)?.roll(shifts.0.first().copied().unwrap_or(0), 0)?.reshape(x.shape());
    };
    if dims.0.len() != shifts.0.len() {
        let message = format!("{} shifts for {} dims", shifts.0.len(), dims.0.len());
        return Err(rushlight::Error::invalid("roll", message));
    }
    shifts.0.iter().zip(&dims.0).try_fold(x.clone(), |x, (&shift, &dim)| x.roll(shift, dim))
}

// ---- two operands ----

/// As PyTorch: a tensor without dims counts as a number where it meets one with dims.
fn meet(a: Tensor, b: Operand) -> rushlight::Result<(Tensor, Tensor)> {
    let b = b.tensor(a.dtype())?;
    let class = |d: DType| if d.is_float() { 2 } else { (d != DType::Bool) as u8 };
    let (da, db) = (a.dtype(), b.dtype());
    if da == db || (a.rank() == 0) == (b.rank() == 0) {
        return Ok((a, b));
    }
    if b.rank() == 0 && class(db) <= class(da) {
        let b = b.to_dtype(da)?;
        return Ok((a, b));
    }
    if a.rank() == 0 && class(da) <= class(db) {
        return Ok((a.to_dtype(db)?, b));
    }
    Ok((a, b))
}

macro_rules! pairs {
    ($($(#[$doc:meta])* $name:ident = |$a:ident, $b:ident| $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            fn $name(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
                let a = self.value()?;
                compute(py, a.numel().max(other.numel()), move || {
                    let ($a, $b) = meet(a, other)?;
                    $body
                })
            }
        )*}

        pub mod binary {
            use super::*;
            $(
                $(#[$doc])*
                #[pyfunction]
                fn $name(py: Python<'_>, input: &Bound<'_, PyTensor>, other: Operand) -> PyResult<PyTensor> {
                    input.get().$name(py, other)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}

pairs! {
    /// `input · other`, element by element.
    mul = |a, b| times(&a, &b);
    /// `input · other`, element by element.
    multiply = |a, b| times(&a, &b);
    /// `⌊input / other⌋`
    floor_divide = |a, b| a.floor_divide(&b);
    /// What is left after `floor_divide`, with the sign of `other`.
    remainder = |a, b| a.remainder(&b);
    /// The larger of each pair.
    maximum = |a, b| if are_bools(&a, &b) { a.logical_or(&b) } else { a.maximum(&b) };
    /// The smaller of each pair.
    minimum = |a, b| if are_bools(&a, &b) { a.logical_and(&b) } else { a.minimum(&b) };
    /// Whether `input == other`.
    eq = |a, b| a.eq(&b);
    /// Whether `input != other`.
    ne = |a, b| a.ne(&b);
    /// Whether `input < other`.
    lt = |a, b| a.lt(&b);
    /// Whether `input <= other`.
    le = |a, b| a.le(&b);
    /// Whether `input > other`.
    gt = |a, b| a.gt(&b);
    /// Whether `input >= other`.
    ge = |a, b| a.ge(&b);
    /// Whether both are not 0.
    logical_and = |a, b| a.logical_and(&b);
    /// Whether one or both are not 0.
    logical_or = |a, b| a.logical_or(&b);
    /// Whether just one is not 0.
    logical_xor = |a, b| a.logical_xor(&b);
    /// And, of bools.
    bitwise_and = |a, b| bools("bitwise_and", &a, &b)?.0.logical_and(&b);
    /// Or, of bools.
    bitwise_or = |a, b| bools("bitwise_or", &a, &b)?.0.logical_or(&b);
    /// Exclusive or, of bools.
    bitwise_xor = |a, b| bools("bitwise_xor", &a, &b)?.0.logical_xor(&b);
}

fn bools<'a>(op: &'static str, a: &'a Tensor, b: &'a Tensor) -> rushlight::Result<(&'a Tensor, &'a Tensor)> {
    for t in [a, b] {
        if t.dtype() != DType::Bool {
            return Err(rushlight::Error::dtype(op, t.dtype(), "expected bool"));
        }
    }
    Ok((a, b))
}

fn are_bools(a: &Tensor, b: &Tensor) -> bool {
    a.dtype() == DType::Bool && b.dtype() == DType::Bool
}

/// As in PyTorch, of bools: whether both are.
fn times(a: &Tensor, b: &Tensor) -> rushlight::Result<Tensor> {
    if are_bools(a, b) { a.logical_and(b) } else { a.mul(b) }
}

/// As in PyTorch, of bools: whether one or both are.
fn plus(a: &Tensor, b: &Tensor) -> rushlight::Result<Tensor> {
    if are_bools(a, b) { a.logical_or(b) } else { a.add(b) }
}

/// `alpha · other`, for `add` and `sub`.
fn scaled(b: Tensor, alpha: Option<Operand>) -> rushlight::Result<Tensor> {
    match alpha {
        Some(alpha) => b.mul(&alpha.tensor(b.dtype())?),
        None => Ok(b),
    }
}

fn power(a: Tensor, b: Operand) -> rushlight::Result<Tensor> {
    match b {
        Operand::Int(n) if i32::try_from(n).is_ok() => {
            if n < 0 && !a.dtype().is_float() {
                return Err(rushlight::Error::invalid("pow", "integers to a negative integer power are not integers"));
            }
            a.powi(n as i32)
        }
        Operand::Float(x) if a.dtype().is_float() => a.powf(x),
        b => {
            let (a, b) = meet(a, b)?;
            a.pow(&b)
        }
    }
}

both! { scaling:
    /// `input + alpha · other`
    add(other, *, alpha=None)(other: Operand, alpha: Option<Operand>) = |x| { let (a, b) = meet(x, other)?; plus(&a, &scaled(b, alpha)?) };
    /// `input − alpha · other`
    sub(other, *, alpha=None)(other: Operand, alpha: Option<Operand>) = |x| { let (a, b) = meet(x, other)?; a.sub(&scaled(b, alpha)?) };
    /// `input − alpha · other`
    subtract(other, *, alpha=None)(other: Operand, alpha: Option<Operand>) = |x| { let (a, b) = meet(x, other)?; a.sub(&scaled(b, alpha)?) };
    /// `input / other`; `rounding_mode` is None, "floor" or "trunc".
    div(other, *, rounding_mode=None)(other: Operand, rounding_mode: Option<String>) = |x| divide(x, other, rounding_mode);
    /// `input / other`
    true_divide(other)(other: Operand) = |x| divide(x, other, None);
    /// `inputᵉˣᵖᵒⁿᵉⁿᵗ`
    pow(exponent)(exponent: Operand) = |x| power(x, exponent);
    /// Matrix product; of vectors the inner product; the dims before are batches.
    matmul(other)(other: Tensored) = |x| x.matmul(&other.0);
    /// Matrix product of two matrices.
    mm(mat2)(mat2: Tensored) = |x| ranked("mm", [(&x, 2), (&mat2.0, 2)]).and_then(|_| x.matmul(&mat2.0));
    /// Matrix products of two batches of matrices.
    bmm(mat2)(mat2: Tensored) = |x| ranked("bmm", [(&x, 3), (&mat2.0, 3)]).and_then(|_| x.matmul(&mat2.0));
    /// Matrix and vector.
    mv(vec)(vec: Tensored) = |x| ranked("mv", [(&x, 2), (&vec.0, 1)]).and_then(|_| x.matmul(&vec.0));
    /// Inner product of two vectors.
    dot(tensor)(tensor: Tensored) = |x| x.dot(&tensor.0);
    /// `out[i, j] = input[i] · vec2[j]`
    outer(vec2)(vec2: Tensored) = |x| x.outer(&vec2.0);
}

fn ranked<const N: usize>(op: &'static str, operands: [(&Tensor, usize); N]) -> rushlight::Result<()> {
    match operands.iter().find(|(t, rank)| t.rank() != *rank) {
        Some((t, rank)) => {
            Err(rushlight::Error::invalid(op, format!("expected a tensor of {rank} dims, got shape {}", t.shape())))
        }
        None => Ok(()),
    }
}

fn divide(x: Tensor, other: Operand, rounding: Option<String>) -> rushlight::Result<Tensor> {
    let (a, b) = meet(x, other)?;
    match rounding.as_deref() {
        None => a.div(&b),
        Some("floor") => a.floor_divide(&b),
        Some("trunc") if a.dtype().is_float() || b.dtype().is_float() => a.div(&b)?.trunc(),
        Some("trunc") => {
            // ⌊a/b⌋ plus one where the quotient is negative and not whole.
            let floor = a.floor_divide(&b)?;
            let rest = a.remainder(&b)?;
            let up = floor.lt(0i64)?.logical_and(&rest.ne(0i64)?)?;
            floor.add(&up.to_dtype(floor.dtype())?)
        }
        Some(other) => Err(rushlight::Error::invalid(
            "div",
            format!("rounding_mode is None, \"floor\" or \"trunc\", not {other:?}"),
        )),
    }
}

/// A tensor argument (or a NumPy array).
pub struct Tensored(pub Tensor);

impl<'a, 'py> FromPyObject<'a, 'py> for Tensored {
    type Error = PyErr;

    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(t) = obj.cast::<PyTensor>() {
            return Ok(Tensored(t.get().value()?));
        }
        match crate::create::from_array(&obj, None)? {
            Some(t) => Ok(Tensored(t)),
            None => Err(PyTypeError::new_err(format!("expected a tensor, got {}", obj.get_type()))),
        }
    }
}

/// Puts `new` in the place of the value of `slf`, cast to its dtype.
pub fn store(slf: &Bound<'_, PyTensor>, op: &str, new: Tensor) -> PyResult<()> {
    let old = slf.get().value()?;
    if new.shape() != old.shape() {
        let message = format!("{op}: the result of shape {} does not fit shape {} in place", new.shape(), old.shape());
        return Err(PyValueError::new_err(message));
    }
    if new.dtype().is_float() && !old.dtype().is_float() {
        let message = format!("{op}: a result of dtype {} does not fit dtype {} in place", new.dtype(), old.dtype());
        return Err(PyTypeError::new_err(message));
    }
    let dtype = old.dtype();
    drop(old);
    let new = if new.dtype() == dtype { new } else { autograd::run(|| new.to_dtype(dtype)).or_raise()? };
    slf.get().replace(slf.py(), new)
}

#[pymethods]
impl PyTensor {
    /// Puts `new` in the place of this tensor's value: the end of every `f_()`.
    fn _store<'py>(slf: &Bound<'py, Self>, op: &str, new: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, Self>> {
        store(slf, op, new.get().value()?)?;
        Ok(slf.clone())
    }
    fn __add__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.add(py, other, None)
    }
    fn __radd__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.add(py, other, None)
    }
    fn __mul__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.mul(py, other)
    }
    fn __rmul__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.mul(py, other)
    }
    fn __floordiv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.floor_divide(py, other)
    }
    fn __rfloordiv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel(), move || {
            let (a, b) = meet(a, other)?;
            b.floor_divide(&a)
        })
    }
    fn __mod__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.remainder(py, other)
    }
    fn __rmod__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel(), move || {
            let (a, b) = meet(a, other)?;
            b.remainder(&a)
        })
    }
    fn __and__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_and(py, other)
    }
    fn __rand__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_and(py, other)
    }
    fn __or__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_or(py, other)
    }
    fn __ror__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_or(py, other)
    }
    fn __xor__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_xor(py, other)
    }
    fn __rxor__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.bitwise_xor(py, other)
    }
    fn __sub__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.sub(py, other, None)
    }
    fn __rsub__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel(), move || {
            let (a, b) = meet(a, other)?;
            b.sub(&a)
        })
    }
    fn __truediv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        self.true_divide(py, other)
    }
    fn __rtruediv__(&self, py: Python<'_>, other: Operand) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel(), move || {
            let (a, b) = meet(a, other)?;
            b.div(&a)
        })
    }
    fn __pow__(&self, py: Python<'_>, exponent: Operand, modulo: Option<Py<PyAny>>) -> PyResult<PyTensor> {
        if modulo.is_some() {
            return Err(PyTypeError::new_err("pow: no modulus is taken"));
        }
        self.pow(py, exponent)
    }
    fn __rpow__(&self, py: Python<'_>, base: Operand, _modulo: Option<Py<PyAny>>) -> PyResult<PyTensor> {
        let a = self.value()?;
        compute(py, a.numel(), move || {
            let (a, b) = meet(a, base)?;
            b.pow(&a)
        })
    }
    fn __matmul__(&self, py: Python<'_>, other: Tensored) -> PyResult<PyTensor> {
        self.matmul(py, other)
    }
    fn __rmatmul__(&self, py: Python<'_>, other: Tensored) -> PyResult<PyTensor> {
        let x = self.value()?;
        compute(py, x.numel(), move || other.0.matmul(&x))
    }
    fn __neg__(&self, py: Python<'_>) -> PyResult<PyTensor> {
        self.neg(py)
    }
    fn __pos__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }
    fn __abs__(&self, py: Python<'_>) -> PyResult<PyTensor> {
        self.abs(py)
    }
    fn __invert__(&self, py: Python<'_>) -> PyResult<PyTensor> {
        let x = self.value()?;
        if x.dtype() != DType::Bool {
            return Err(PyTypeError::new_err(format!("~: expected bool, got {}", x.dtype())));
        }
        self.logical_not(py)
    }
    fn __richcmp__(&self, py: Python<'_>, other: Operand, op: pyo3::pyclass::CompareOp) -> PyResult<PyTensor> {
        use pyo3::pyclass::CompareOp::*;
        match op {
            Lt => self.lt(py, other),
            Le => self.le(py, other),
            Eq => self.eq(py, other),
            Ne => self.ne(py, other),
            Gt => self.gt(py, other),
            Ge => self.ge(py, other),
        }
    }
    /// By identity, as torch's.
    fn __hash__(slf: &Bound<'_, Self>) -> usize {
        slf.as_ptr() as usize >> 4
    }
}

// ---- reductions ----

both! { reductions:
    /// The sum over `dim` (None: all).
    sum(dim=None, keepdim=false, *, dtype=None)(dim: Option<Ints>, keepdim: bool, dtype: Option<AnyDType>) = |x| {
        let x = cast(x, dtype)?;
        if keepdim { x.sum_keepdim(Over::of(dim)) } else { x.sum(Over::of(dim)) }
    };
    /// The mean over `dim` (None: all).
    mean(dim=None, keepdim=false, *, dtype=None)(dim: Option<Ints>, keepdim: bool, dtype: Option<AnyDType>) = |x| {
        let x = cast(x, dtype)?;
        if keepdim { x.mean_keepdim(Over::of(dim)) } else { x.mean(Over::of(dim)) }
    };
    /// The product over `dim` (None: all).
    prod(dim=None, keepdim=false, *, dtype=None)(dim: Option<Ints>, keepdim: bool, dtype: Option<AnyDType>) = |x| {
        keep(&cast(x, dtype)?, dim, keepdim, |x, d| x.prod(d))
    };
    /// Whether any over `dim` (None: all) is not 0.
    any(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.any(d));
    /// Whether all over `dim` (None: all) are not 0.
    all(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.all(d));
    /// The largest over `dim`.
    amax(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.amax(d));
    /// The smallest over `dim`.
    amin(dim=None, keepdim=false)(dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.amin(d));
    /// The variance over `dim`, divided by the number less `correction`.
    var(dim=None, *, correction=1.0, keepdim=false)(dim: Option<Ints>, correction: f64, keepdim: bool) =
        |x| if keepdim { x.var_keepdim(Over::of(dim), correction) } else { x.var(Over::of(dim), correction) };
    /// `ln Σ eˣ` over `dim`.
    logsumexp(dim, keepdim=false)(dim: Ints, keepdim: bool) = |x| keep(&x, Some(dim), keepdim, |x, d| x.logsumexp(d));
    /// `(Σ |x|ᵖ)^(1/p)` over `dim`.
    norm(p=2.0, dim=None, keepdim=false)(p: f64, dim: Option<Ints>, keepdim: bool) = |x| keep(&x, dim, keepdim, |x, d| x.norm(p, d));
    /// The index of the largest along `dim` (None: of all, flattened).
    argmax(dim=None, keepdim=false)(dim: Option<i64>, keepdim: bool) = |x| along(&x, dim, keepdim, |x, d| x.argmax(d));
    /// The index of the smallest along `dim` (None: of all, flattened).
    argmin(dim=None, keepdim=false)(dim: Option<i64>, keepdim: bool) = |x| along(&x, dim, keepdim, |x, d| x.argmin(d));
    /// The order that sorts along `dim`.
    argsort(dim=-1, descending=false)(dim: i64, descending: bool) = |x| x.argsort(dim, descending);
    /// How many are not 0.
    count_nonzero(dim=None)(dim: Option<Ints>) = |x| x.to_dtype(DType::Bool)?.sum(Over::of(dim));
}

/// The standard deviation over `dim`.
#[pyfunction]
#[pyo3(name = "std", signature = (input, dim=None, *, correction=1.0, keepdim=false))]
fn deviation(
    py: Python<'_>,
    input: &Bound<'_, PyTensor>,
    dim: Option<Ints>,
    correction: f64,
    keepdim: bool,
) -> PyResult<PyTensor> {
    input.get().deviation(py, dim, correction, keepdim)
}

#[pymethods]
impl PyTensor {
    /// The standard deviation over `dim`.
    #[pyo3(name = "std", signature = (dim=None, *, correction=1.0, keepdim=false))]
    fn deviation(&self, py: Python<'_>, dim: Option<Ints>, correction: f64, keepdim: bool) -> PyResult<PyTensor> {
        let x = self.value()?;
        compute(py, x.numel(), move || keep(&x, dim, keepdim, |x, d| x.std(d, correction)))
    }
}

/// `f` over dims, which keep size 1 if asked for.
fn keep(
    x: &Tensor,
    dim: Option<Ints>,
    keepdim: bool,
    f: impl Fn(&Tensor, Over) -> rushlight::Result<Tensor>,
) -> rushlight::Result<Tensor> {
    let y = f(x, Over::of(dim.clone()))?;
    if !keepdim {
        return Ok(y);
    }
    let dims = rushlight::Dims::indices(&Over::of(dim), "keepdim", x.shape())?;
    let shape: Vec<usize> = x.dims().iter().enumerate().map(|(d, &n)| if dims.contains(&d) { 1 } else { n }).collect();
    y.reshape(shape)
}

fn along(
    x: &Tensor,
    dim: Option<i64>,
    keepdim: bool,
    f: impl Fn(&Tensor, i64) -> rushlight::Result<Tensor>,
) -> rushlight::Result<Tensor> {
    match dim {
        None => {
            let y = f(&x.reshape(-1)?, 0)?;
            if keepdim { y.reshape(vec![1usize; x.rank()]) } else { Ok(y) }
        }
        Some(dim) if x.rank() == 0 => f(&x.reshape(1)?, dim),
        Some(dim) => {
            let y = f(x, dim)?;
            if keepdim { y.unsqueeze(if dim < 0 { dim + x.rank() as i64 } else { dim }) } else { Ok(y) }
        }
    }
}

/// `(values, indices)`, with these names.
fn named_pair<'py>(py: Python<'py>, values: Tensor, indices: Tensor) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        py.import("rushlight._types").and_then(|m| m.getattr("ValuesIndices")).map(Bound::unbind)
    })?;
    class.bind(py).call1((PyTensor::from(values), PyTensor::from(indices)))
}

macro_rules! extremes {
    ($($name:ident, $all:ident, $keep:ident, $pair:ident;)*) => {
        #[pymethods]
        impl PyTensor {$(
            /// The extreme of all; with a dim, `(values, indices)` along it; with a tensor, of each pair.
            #[pyo3(signature = (dim=None, keepdim=false, *, other=None))]
            fn $name<'py>(&self, py: Python<'py>, dim: Option<Bound<'py, PyAny>>, keepdim: bool, other: Option<Operand>) -> PyResult<Bound<'py, PyAny>> {
                let x = self.value()?;
                let wrap = |t: PyTensor| Ok(Bound::new(py, t)?.into_any());
                if let Some(other) = other {
                    return wrap(self.$pair(py, other)?);
                }
                let Some(dim) = dim else {
                    return wrap(compute(py, x.numel(), move || x.$all(..))?);
                };
                if dim.cast::<PyTensor>().is_ok() {
                    return wrap(self.$pair(py, dim.extract()?)?);
                }
                let dim: i64 = dim.extract()?;
                let (values, indices) = detached(py, move || {
                    if x.rank() == 0 {
                        let (v, i) = x.reshape(1)?.$name(dim)?;
                        return Ok((v, i));
                    }
                    if keepdim { x.$keep(dim) } else { x.$name(dim) }
                })?;
                named_pair(py, values, indices)
            }
        )*}
        pub mod extreme {
            use super::*;
            $(
                /// The extreme of all; with a dim, `(values, indices)` along it; with a tensor, of each pair.
                #[pyfunction]
                #[pyo3(signature = (input, dim=None, keepdim=false, *, other=None))]
                fn $name<'py>(py: Python<'py>, input: &Bound<'py, PyTensor>, dim: Option<Bound<'py, PyAny>>, keepdim: bool, other: Option<Operand>) -> PyResult<Bound<'py, PyAny>> {
                    input.get().$name(py, dim, keepdim, other)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}
extremes! {
    max, amax, max_keepdim, maximum;
    min, amin, min_keepdim, minimum;
}

macro_rules! sorts {
    ($($(#[$doc:meta])* $name:ident($($sig:tt)*)($($arg:ident: $ty:ty),*) = |$x:ident| $body:expr;)*) => {
        #[pymethods]
        impl PyTensor {$(
            $(#[$doc])*
            #[pyo3(signature = ($($sig)*))]
            fn $name<'py>(&self, py: Python<'py>, $($arg: $ty),*) -> PyResult<Bound<'py, PyAny>> {
                let $x = self.value()?;
                let (values, indices) = detached(py, move || $body)?;
                named_pair(py, values, indices)
            }
        )*}
        pub mod sorting {
            use super::*;
            $(
                $(#[$doc])*
                #[pyfunction]
                #[pyo3(signature = (input, $($sig)*))]
                fn $name<'py>(py: Python<'py>, input: &Bound<'py, PyTensor>, $($arg: $ty),*) -> PyResult<Bound<'py, PyAny>> {
                    input.get().$name(py, $($arg),*)
                }
            )*
            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
                Ok(())
            }
        }
    };
}
sorts! {
    /// Sorted along `dim`, and where each came from.
    sort(dim=-1, descending=false)(dim: i64, descending: bool) = |x| x.sort(dim, descending);
    /// The `k` largest (or smallest) along `dim`, and where they lie.
    topk(k, dim=-1, largest=true)(k: usize, dim: i64, largest: bool) = |x| x.topk(k, dim, largest);
}

// ---- places ----

both! { places:
    /// The places of `dim` that `index` names.
    index_select(dim, index)(dim: i64, index: Tensored) = |x| x.index_select(dim, &index.0);
    /// `out[i, j] = input[index[i, j], j]` for dim 0, and so on.
    gather(dim, index)(dim: i64, index: Tensored) = |x| x.gather(dim, &index.0);
    /// `gather` with `index` broadcast.
    take_along_dim(indices, dim)(indices: Tensored, dim: i64) = |x| x.take_along_dim(&indices.0, dim);
    /// With `src` written at the places of `dim` that `index` names.
    scatter(dim, index, src)(dim: i64, index: Tensored, src: Operand) = |x| x.scatter(dim, &index.0, &source(&x, &index.0, src)?);
    /// With `src` added at the places of `dim` that `index` names.
    scatter_add(dim, index, src)(dim: i64, index: Tensored, src: Operand) = |x| x.scatter_add(dim, &index.0, &source(&x, &index.0, src)?);
    /// The elements where `mask` is true.
    masked_select(mask)(mask: Tensored) = |x| x.masked_select(&mask.0);
    /// With `value` where `mask` is true.
    masked_fill(mask, value)(mask: Tensored, value: f64) = |x| x.masked_fill(&mask.0, value);
    /// `input` where `condition` holds, else `other`.
    _where(condition, other)(condition: Tensored, other: Operand) = |x| {
        let (a, b) = meet(x, other)?;
        condition.0.where_cond(&a, &b)
    };
    /// `(1 − weight) · input + weight · end`
    lerp(end, weight)(end: Tensored, weight: Operand) = |x| {
        let weight = weight.tensor(x.dtype())?;
        x.add(&end.0.sub(&x)?.mul(&weight)?)
    };
    /// The gate: `r · input + (1 − r) · y`.
    gate(y, r)(y: Tensored, r: Operand) = |x| { let r = r.tensor(x.dtype())?; x.gate(&y.0, &r) };
}

/// A number as a source for `scatter`: one for each index.
fn source(x: &Tensor, index: &Tensor, src: Operand) -> rushlight::Result<Tensor> {
    let src = src.tensor(x.dtype())?;
    if src.rank() == 0 { src.to_dtype(x.dtype())?.expand(index.shape()) } else { Ok(src) }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    unary::register(m)?;
    binary::register(m)?;
    scaling::register(m)?;
    reductions::register(m)?;
    extreme::register(m)?;
    sorting::register(m)?;
    places::register(m)?;
    m.add_function(wrap_pyfunction!(deviation, m)?)
}
