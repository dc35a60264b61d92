//! Products of matrices and vectors.

use pyo3::prelude::*;
use rushlight::Tensor;

use super::{Tensored, compute};
use crate::tensor::PyTensor;

both! { table:
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
