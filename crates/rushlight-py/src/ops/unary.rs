//! Operations of one tensor, element by element or along a dim.

use pyo3::prelude::*;
use rushlight::{DType, Tensor};

use super::{Variadic, bits, cast, compute};
use crate::args::Ints;
use crate::dtype::AnyDType;
use crate::tensor::PyTensor;

both! { table:
    /// `|x|`. TypeError: bools.
    abs()() = |x| if x.dtype() == DType::Bool {
        Err(rushlight::Error::dtype("abs", DType::Bool, "expected numbers; a bool has no sign"))
    } else {
        x.abs()
    };
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
    /// `−x`. TypeError: bools.
    neg()() = |x| if x.dtype() == DType::Bool {
        Err(rushlight::Error::dtype("neg", DType::Bool, "expected numbers; ~ is the opposite"))
    } else {
        x.neg()
    };
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
    /// Every bit turned; of integers and bools.
    bitwise_not()() = |x| bits::inverted(&x);
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
