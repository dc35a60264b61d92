//! The functions of `nn.functional`, as a table like [`crate::ops`]: activations, layers, pools, losses.

use pyo3::prelude::*;
use rushlight::loss::{self, CrossEntropy, Reduction};
use rushlight::{AttentionOptions, Causal, Result, Tensor};

use crate::args::Ints;
use crate::error::OrRaise;
use crate::ops::{Tensored, compute, detached};
use crate::tensor::PyTensor;

mod joins;
mod spatial;

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident($($sig:tt)*)($($arg:ident: $ty:ty),*) = |$x:ident| $body:expr;)*) => {
        $(
            $(#[$doc])*
            #[pyfunction]
            #[pyo3(signature = (input, $($sig)*))]
            fn $name(py: Python<'_>, input: Tensored, $($arg: $ty),*) -> PyResult<PyTensor> {
                let $x = input.0;
                let load = $x.numel()$(.max(crate::ops::Load::load(&$arg, &$x)))*;
                compute(py, load, move || $body)
            }
        )*
        fn register_table(m: &Bound<'_, PyModule>) -> PyResult<()> {
            $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
            Ok(())
        }
    };
}

type Maybe = Option<Tensored>;

fn inner(t: &Maybe) -> Option<&Tensor> {
    t.as_ref().map(|t| &t.0)
}

fn reduction(name: &str) -> Result<Reduction> {
    match name {
        "mean" => Ok(Reduction::Mean),
        "sum" => Ok(Reduction::Sum),
        "none" => Ok(Reduction::None),
        other => Err(rushlight::Error::invalid(
            "reduction",
            format!("reduction is \"mean\", \"sum\" or \"none\", not {other:?}"),
        )),
    }
}

functions! {
    /// `x · Φ(x)`; `approximate` is "none" or "tanh".
    gelu(approximate="none")(approximate: &str) = |x| match approximate {
        "none" => x.gelu(),
        "tanh" => x.gelu_tanh(),
        other => Err(rushlight::Error::invalid("gelu", format!("approximate is \"none\" or \"tanh\", not {other:?}"))),
    };
    /// `x · σ(x)`
    silu()() = |x| x.silu();
    /// `x · tanh(softplus(x))`
    mish()() = |x| x.mish();
    /// `ln(1 + e^(βx)) / β`
    softplus(beta=1.0)(beta: f64) = |x| if beta == 1.0 { x.softplus() } else { x.mul(beta)?.softplus()?.div(beta) };
    /// `ln σ(x)`
    logsigmoid()() = |x| x.log_sigmoid();
    /// `x` above 0, `negative_slope · x` below.
    leaky_relu(negative_slope=0.01)(negative_slope: f64) = |x| x.leaky_relu(negative_slope);
    /// `x` above 0, `α (eˣ − 1)` below.
    elu(alpha=1.0)(alpha: f64) = |x| x.elu(alpha);
    /// Each element 0 with probability `p`, the others larger by `1 / (1 − p)`.
    dropout(p=0.5, training=true)(p: f64, training: bool) = |x| {
        if !(0.0..=1.0).contains(&p) {
            return Err(rushlight::Error::invalid("dropout", format!("{p} is no probability")));
        }
        if training { x.dropout(p) } else { Ok(x) }
    };
    /// `x Wᵀ + b`
    linear(weight, bias=None)(weight: Tensored, bias: Maybe) = |x| x.linear(&weight.0, inner(&bias));
    /// The rows of `weight` that `input` names.
    embedding(weight, padding_idx=None)(weight: Tensored, padding_idx: Option<i64>) = |x| weight.0.embedding(&x, padding_idx);
    /// Over the last dims: mean 0, variance 1; then weight and bias.
    layer_norm(normalized_shape, weight=None, bias=None, eps=1e-5)(normalized_shape: Ints, weight: Maybe, bias: Maybe, eps: f64) =
        |x| x.layer_norm(normalized_shape.0.as_slice(), inner(&weight), inner(&bias), eps);
    /// Over the last dims: mean square 1; then weight.
    rms_norm(normalized_shape, weight=None, eps=None)(normalized_shape: Ints, weight: Maybe, eps: Option<f64>) =
        |x| x.rms_norm(normalized_shape.0.as_slice(), inner(&weight), eps.unwrap_or(1e-6));
    /// Over each group of channels: mean 0, variance 1; then weight and bias.
    group_norm(num_groups, weight=None, bias=None, eps=1e-5)(num_groups: usize, weight: Maybe, bias: Maybe, eps: f64) =
        |x| x.group_norm(num_groups, inner(&weight), inner(&bias), eps);
    /// Class numbers as rows of 0 and 1.
    one_hot(num_classes=-1)(num_classes: i64) = |x| {
        let classes = match usize::try_from(num_classes) {
            Ok(n) => n,
            Err(_) if x.numel() == 0 => return Err(rushlight::Error::invalid("one_hot", "give num_classes for an empty tensor")),
            Err(_) => usize::try_from(x.amax(..)?.item::<i64>()?.saturating_add(1)).unwrap_or(0),
        };
        x.one_hot(classes)
    };
    /// `value` around the last dims: `(left, right, top, bottom, …)`.
    pad(pad, mode="constant", value=None)(pad: Ints, mode: &str, value: Option<f64>) = |x| {
        if mode != "constant" {
            return Err(rushlight::Error::invalid("pad", format!("mode is \"constant\", not {mode:?}")));
        }
        if !pad.0.len().is_multiple_of(2) || pad.0.len() / 2 > x.rank() {
            return Err(rushlight::Error::invalid("pad", format!("{} amounts for shape {}", pad.0.len(), x.shape())));
        }
        let amounts: Vec<(i64, i64)> = pad.0.chunks(2).map(|p| (p[0], p[1])).collect();
        x.pad(&amounts, value.unwrap_or(0.0))
    };
    /// Mean of `(input − target)²`.
    mse_loss(target, reduction="mean")(target: Tensored, reduction: &str) = |x| loss::mse_loss(&x, &target.0, self::reduction(reduction)?);
    /// Mean of `|input − target|`.
    l1_loss(target, reduction="mean")(target: Tensored, reduction: &str) = |x| loss::l1_loss(&x, &target.0, self::reduction(reduction)?);
    /// Squared below `beta`, absolute above.
    smooth_l1_loss(target, reduction="mean", beta=1.0)(target: Tensored, reduction: &str, beta: f64) =
        |x| loss::smooth_l1_loss(&x, &target.0, beta, self::reduction(reduction)?);
    /// Squared below `delta`, absolute above.
    huber_loss(target, reduction="mean", delta=1.0)(target: Tensored, reduction: &str, delta: f64) =
        |x| loss::huber_loss(&x, &target.0, delta, self::reduction(reduction)?);
    /// `Σ t (ln t − input)`; `reduction` may be "batchmean" too.
    kl_div(target, reduction="mean", log_target=false)(target: Tensored, reduction: &str, log_target: bool) = |x| {
        let batch_mean = reduction == "batchmean";
        let reduction = if batch_mean { Reduction::Sum } else { self::reduction(reduction)? };
        loss::kl_div(&x, &target.0, log_target, batch_mean, reduction)
    };
    /// Of logits and class numbers (or probabilities).
    cross_entropy(target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0)
        (target: Tensored, weight: Maybe, ignore_index: i64, reduction: &str, label_smoothing: f64) = |x| {
            let reduction = self::reduction(reduction)?;
            CrossEntropy { weight: weight.map(|w| w.0), ignore_index, label_smoothing, reduction }.forward(&x, &target.0)
        };
    /// `cross_entropy` of `linear(input, linear_weight, linear_bias)`, without holding all of its logits.
    linear_cross_entropy(linear_weight, target, *, linear_bias=None, weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0)
        (linear_weight: Tensored, target: Tensored, linear_bias: Maybe, weight: Maybe, reduction: &str, ignore_index: i64,
        label_smoothing: f64) = |x| {
            let reduction = self::reduction(reduction)?;
            CrossEntropy { weight: weight.map(|w| w.0), ignore_index, label_smoothing, reduction }
                .linear(&x, &linear_weight.0, inner(&linear_bias), &target.0)
        };
    /// Of log probabilities and class numbers.
    nll_loss(target, weight=None, ignore_index=-100, reduction="mean")
        (target: Tensored, weight: Maybe, ignore_index: i64, reduction: &str) = |x| {
            let reduction = self::reduction(reduction)?;
            CrossEntropy { weight: weight.map(|w| w.0), ignore_index, label_smoothing: 0.0, reduction }.forward_log(&x, &target.0)
        };
    /// Of probabilities.
    binary_cross_entropy(target, weight=None, reduction="mean")(target: Tensored, weight: Maybe, reduction: &str) =
        |x| loss::binary_cross_entropy(&x, &target.0, inner(&weight), self::reduction(reduction)?);
    /// Of logits.
    binary_cross_entropy_with_logits(target, weight=None, reduction="mean", pos_weight=None)
        (target: Tensored, weight: Maybe, reduction: &str, pos_weight: Maybe) =
        |x| loss::binary_cross_entropy_with_logits(&x, &target.0, inner(&weight), inner(&pos_weight), self::reduction(reduction)?);
    /// `softmax(q kᵀ · scale + mask) v`, without holding the weights.
    scaled_dot_product_attention(key, value, attn_mask=None, dropout_p=0.0, is_causal=false, scale=None)
        (key: Tensored, value: Tensored, attn_mask: Maybe, dropout_p: f64, is_causal: bool, scale: Option<f64>) =
        |x| x.scaled_dot_product_attention(&key.0, &value.0, &attention(attn_mask, dropout_p, is_causal, scale));
    /// The weights of that attention.
    attention_weights(key, attn_mask=None, is_causal=false, scale=None)(key: Tensored, attn_mask: Maybe, is_causal: bool, scale: Option<f64>) =
        |x| x.attention_weights(&key.0, &attention(attn_mask, 0.0, is_causal, scale));
}

fn attention(attn_mask: Maybe, dropout_p: f64, is_causal: bool, scale: Option<f64>) -> AttentionOptions {
    // PyTorch's causal mask starts at the upper left corner.
    let causal = if is_causal { Causal::UpperLeft } else { Causal::No };
    AttentionOptions { attn_mask: attn_mask.map(|m| m.0), dropout_p, causal, scale }
}

/// Normalised by the batch (and the statistics of it), or by running statistics.
#[pyfunction]
#[pyo3(signature = (input, weight=None, bias=None, eps=1e-5))]
fn _batch_norm_train(
    py: Python<'_>,
    input: Tensored,
    weight: Maybe,
    bias: Maybe,
    eps: f64,
) -> PyResult<(PyTensor, PyTensor, PyTensor)> {
    let (y, mean, var) = detached(py, || input.0.batch_norm_train(inner(&weight), inner(&bias), eps))?;
    Ok((y.into(), mean.into(), var.into()))
}

/// Normalised by these statistics.
#[pyfunction]
#[pyo3(signature = (input, mean, var, weight=None, bias=None, eps=1e-5))]
fn _batch_norm(
    py: Python<'_>,
    input: Tensored,
    mean: Tensored,
    var: Tensored,
    weight: Maybe,
    bias: Maybe,
    eps: f64,
) -> PyResult<PyTensor> {
    Ok(detached(py, || input.0.batch_norm(&mean.0, &var.0, inner(&weight), inner(&bias), eps))?.into())
}

/// Uses as many threads from now on.
#[pyfunction]
fn _set_num_threads(num: usize) -> PyResult<()> {
    rushlight::set_num_threads(num).or_raise()
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    register_table(m)?;
    spatial::register(m)?;
    joins::register(m)?;
    m.add_function(wrap_pyfunction!(_batch_norm_train, m)?)?;
    m.add_function(wrap_pyfunction!(_batch_norm, m)?)?;
    m.add_function(wrap_pyfunction!(_set_num_threads, m)?)
}
