//! `+ − · / **` and their rules for bools and integers, which are PyTorch's.

use pyo3::prelude::*;
use rushlight::{Arg, DType, Tensor};

use super::{compute, meet};
use crate::args::Operand;
use crate::error::Raised;
use crate::tensor::PyTensor;

both! { table:
    /// `input + alpha · other`
    add(other, *, alpha=None)(other: Operand, alpha: Option<Operand>) = |x| { let (a, b) = meet(x, other)?; plus(&a, &scaled(b, alpha)?) };
    /// `input − alpha · other`. TypeError: bools.
    sub(other, *, alpha=None)(other: Operand, alpha: Option<Operand>) = |x| minus(x, other, alpha);
    /// `input − alpha · other`
    subtract(other, *, alpha=None)(other: Operand, alpha: Option<Operand>) = |x| minus(x, other, alpha);
    /// `input / other`; `rounding_mode` is None, "floor" or "trunc".
    div(other, *, rounding_mode=None)(other: Operand, rounding_mode: Option<String>) = |x| divide(x, other, rounding_mode);
    /// `input / other`
    true_divide(other)(other: Operand) = |x| divide(x, other, None);
    /// `inputᵉˣᵖᵒⁿᵉⁿᵗ`
    pow(exponent)(exponent: Operand) = |x| power(x, exponent);
}

pub fn are_bools(a: &Tensor, b: &Tensor) -> bool {
    a.dtype() == DType::Bool && b.dtype() == DType::Bool
}

/// As in PyTorch, of bools: whether both are.
pub fn times(a: &Tensor, b: &Tensor) -> rushlight::Result<Tensor> {
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

/// `x − alpha · other`, not of bools, as in PyTorch.
fn minus(x: Tensor, other: Operand, alpha: Option<Operand>) -> rushlight::Result<Tensor> {
    no_bools("sub", &x, &other)?;
    let (a, b) = meet(x, other)?;
    a.sub(&scaled(b, alpha)?)
}

/// Subtraction takes no bools.
pub fn no_bools(op: &'static str, x: &Tensor, other: &Operand) -> rushlight::Result<()> {
    if x.dtype() == DType::Bool || other.is_bool() {
        return Err(rushlight::Error::dtype(op, DType::Bool, "expected numbers; ^ is what differs, ~ the opposite"));
    }
    Ok(())
}

/// Whether two are whole numbers, of which a quotient is asked: then the divisor must not be 0.
fn whole(op: &'static str, a: &Tensor, b: &Tensor) -> Result<bool, Raised> {
    if are_bools(a, b) {
        return Err(rushlight::Error::dtype(op, DType::Bool, "expected numbers").into());
    }
    if a.dtype().is_float() || b.dtype().is_float() {
        return Ok(false);
    }
    // Nothing is divided where there are no elements.
    if a.numel() > 0 && b.eq(0i64)?.any(..)?.item::<bool>()? {
        return Err(Raised::ZeroDivision(format!("{op}: an integer is divided by 0")));
    }
    Ok(true)
}

/// `⌊a / b⌋`
pub fn floored(a: &Tensor, b: &Tensor) -> Result<Tensor, Raised> {
    whole("floor_divide", a, b)?;
    Ok(a.floor_divide(b)?)
}

/// `a − ⌊a / b⌋ · b`
pub fn rest(a: &Tensor, b: &Tensor) -> Result<Tensor, Raised> {
    whole("remainder", a, b)?;
    Ok(a.remainder(b)?)
}

fn power(a: Tensor, b: Operand) -> rushlight::Result<Tensor> {
    // A bool to the power of a bool stays one, to that of a number it is a number.
    let a = match (&b, a.dtype()) {
        (Operand::Bool(true), DType::Bool) => return Ok(a),
        (Operand::Bool(false), DType::Bool) => return a.ones_like(),
        (Operand::Int(_), DType::Bool) => a.to_dtype(DType::I64)?,
        _ => a,
    };
    match b {
        Operand::Int(n) if n < 0 && !a.dtype().is_float() => {
            Err(rushlight::Error::invalid("pow", "integers to a negative integer power are not integers; use float()"))
        }
        Operand::Int(n) if i32::try_from(n).is_ok() => a.powi(n as i32),
        Operand::Float(x) if a.dtype().is_float() => a.powf(x),
        b => {
            let (a, b) = meet(a, b)?;
            raised(&a, &b)
        }
    }
}

/// `aᵇ`, not of two bools.
pub fn raised(a: &Tensor, b: &Tensor) -> rushlight::Result<Tensor> {
    if are_bools(a, b) {
        return Err(rushlight::Error::dtype("pow", DType::Bool, "expected numbers; of bools a | ~b is the power"));
    }
    a.pow(b)
}

fn divide(x: Tensor, other: Operand, rounding: Option<String>) -> Result<Tensor, Raised> {
    let (a, b) = meet(x, other)?;
    match rounding.as_deref() {
        None => Ok(a.div(&b)?),
        Some("floor") => floored(&a, &b),
        Some("trunc") if !whole("div", &a, &b)? => Ok(a.div(&b)?.trunc()?),
        Some("trunc") => {
            // ⌊a/b⌋ plus one where the quotient is negative and not whole.
            let floor = a.floor_divide(&b)?;
            let rest = a.remainder(&b)?;
            let up = floor.lt(0i64)?.logical_and(&rest.ne(0i64)?)?;
            Ok(floor.add(&up.to_dtype(floor.dtype())?)?)
        }
        Some(other) => Err(rushlight::Error::invalid(
            "div",
            format!("rounding_mode is None, \"floor\" or \"trunc\", not {other:?}"),
        )
        .into()),
    }
}
