//! Operations that read or write at places: indices and masks.

use pyo3::prelude::*;
use rushlight::{Arg, Tensor};

use super::{Tensored, compute, meet};
use crate::args::Operand;
use crate::tensor::PyTensor;

both! { table:
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
    /// The gate of a score: `σ(r) · input + (1 − σ(r)) · y`.
    gate(y, r)(y: Tensored, r: Operand) = |x| { let r = r.tensor(x.dtype())?; x.gate(&y.0, &r) };
}

/// A number as a source for `scatter`: one for each index.
fn source(x: &Tensor, index: &Tensor, src: Operand) -> rushlight::Result<Tensor> {
    let src = src.tensor(x.dtype())?;
    if src.rank() == 0 { src.to_dtype(x.dtype())?.expand(index.shape()) } else { Ok(src) }
}
