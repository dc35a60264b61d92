//! Matrix products: `matmul`, batched and broadcast.

use crate::autograd::{each_for_the_other, no_gradient, record};
use crate::kernels::gemm::{Batch, Mat, MatMul, MatMut, gemm, gemm_batched, gemm_rounded};
use crate::ops::precision::rounds;
use crate::{DType, Error, Result, Shape, Tensor, bf16, f16};

/// Runs `$body` with `$T` the Rust type of a dtype that has matrix products.
macro_rules! each_matmul {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            DType::BF16 => {
                type $T = bf16;
                $body
            }
            DType::F16 => {
                type $T = f16;
                $body
            }
            DType::I64 => {
                type $T = i64;
                $body
            }
            other => return Err(Error::dtype($op, other, "expected a float dtype or i64 (cast with to_dtype)")),
        }
    };
}

impl Tensor {
    /// The matrix product of the last two dims; the dims before them are broadcast. PyTorch: `matmul`, `@`.
    ///
    /// `[.., m, k] · [.., k, n] → [.., m, n]`; a 1-d operand is a row on the left, a column on the right, and that dim
    /// goes away. `da = dy · bᵀ`, `db = aᵀ · dy`. Transposed and other strided operands are read where they lie.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let a = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?;
    /// let x = Tensor::new([1.0f32, -1.0])?;
    /// assert_eq!(a.matmul(&x)?.to_vec::<f32>()?, [-1.0, -1.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: inner sizes that differ; leading dims that do not broadcast; different dtypes; a 0-d operand.
    pub fn matmul(&self, rhs: &Tensor) -> Result<Tensor> {
        let op = "matmul";
        let dtype = self.dtype().promote(rhs.dtype());
        let (a, b) = (self.to_dtype(dtype)?, rhs.to_dtype(dtype)?);
        match (a.rank(), b.rank()) {
            (0, _) | (_, 0) => {
                let message = format!("expected at least one dim on both sides, got {} and {}", a.shape(), b.shape());
                Err(Error::invalid(op, message))
            }
            (1, 1) => a.unsqueeze(0)?.matmul(&b.unsqueeze(1)?)?.reshape(()),
            (1, _) => a.unsqueeze(0)?.matmul(&b)?.squeeze(-2),
            (_, 1) => a.matmul(&b.unsqueeze(1)?)?.squeeze(-1),
            _ => batched(&a, &b),
        }
    }
}

/// The product of two tensors of one dtype with at least two dims each.
fn batched(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let op = "matmul";
    let (m, k) = (a.dims()[a.rank() - 2], a.dims()[a.rank() - 1]);
    let (k2, n) = (b.dims()[b.rank() - 2], b.dims()[b.rank() - 1]);
    if k != k2 {
        let message = format!("lhs {} and rhs {} differ in the inner size ({k} vs {k2})", a.shape(), b.shape());
        return Err(Error::invalid(op, message));
    }
    // One matrix for all rows of the batch is one flat product: [batch · m, k] · [k, n].
    if b.rank() == 2 && a.rank() > 2 {
        let shape = a.shape().with(a.rank() - 1, n);
        let rows = a.numel().checked_div(k).unwrap_or(shape.numel() / n.max(1));
        return batched(&a.reshape([rows, k])?, b)?.reshape(shape);
    }
    let lead = |t: &Tensor| Shape::from(&t.dims()[..t.rank() - 2]);
    let batch = lead(a).broadcast(&lead(b), op)?;
    let shape = batch.inserted(batch.rank(), m).inserted(batch.rank() + 1, n);
    let expand = |t: &Tensor, r: usize, c: usize| {
        let to = batch.inserted(batch.rank(), r).inserted(batch.rank() + 1, c);
        Ok::<_, Error>(t.with_layout(t.layout().expand(&to, op)?))
    };
    let (x, y) = (expand(a, m, k)?, expand(b, k, n)?);
    let out =
        each_matmul!(op, a.dtype(), T => Tensor::build(op, shape, |out: &mut [T]| multiply(out, &x, &y, (m, n, k)))?);
    if !out.dtype().is_float() {
        return no_gradient(op, out, &[a, b]);
    }
    let shapes = [a.shape().clone(), b.shape().clone()];
    let kept = each_for_the_other(a, b);
    record(op, out, &[a, b], move |dy| {
        let [for_a, for_b] = kept.each_ref().map(Option::as_ref);
        let da = for_a.map(|b| dy.matmul(&b.t()?)?.sum_to(&shapes[0]));
        let db = for_b.map(|a| a.t()?.matmul(dy)?.sum_to(&shapes[1]));
        Ok([da.transpose()?, db.transpose()?])
    })
}

/// `out = x · y` for tensors expanded to one batch shape; `out` is contiguous.
fn multiply<T: MatMul>(out: &mut [T], x: &Tensor, y: &Tensor, (m, n, k): (usize, usize, usize)) {
    let (Ok(dx), Ok(dy)) = (x.raw::<T>("matmul"), y.raw::<T>("matmul")) else { return };
    let lead = x.rank() - 2;
    let strides = |t: &Tensor| (t.strides()[lead], t.strides()[lead + 1]);
    let ((xr, xc), (yr, yc)) = (strides(x), strides(y));
    if lead == 0 {
        let lhs = Mat { data: dx, offset: x.layout().offset(), rows: m, cols: k, row_stride: xr, col_stride: xc };
        let rhs = Mat { data: dy, offset: y.layout().offset(), rows: k, cols: n, row_stride: yr, col_stride: yc };
        let gemm = if rounds() { gemm_rounded } else { gemm };
        return gemm(MatMut::row_major(out, m, n), lhs, rhs, false);
    }
    // Of empty matrices there may be more than memory holds numbers for.
    if out.is_empty() {
        return;
    }
    let (ox, oy) = (batch_offsets(x), batch_offsets(y));
    let lhs = Batch { data: dx, offsets: &ox, row_stride: xr, col_stride: xc };
    let rhs = Batch { data: dy, offsets: &oy, row_stride: yr, col_stride: yc };
    gemm_batched(out, (m, n, k), lhs, rhs, rounds());
}

/// Where each matrix of the batch starts.
fn batch_offsets(t: &Tensor) -> Vec<usize> {
    let lead = t.rank() - 2;
    let mut offsets = vec![t.layout().offset()];
    for d in 0..lead {
        let (size, stride) = (t.dims()[d], t.strides()[d]);
        offsets =
            offsets.iter().flat_map(|&o| (0..size).map(move |i| (o as isize + i as isize * stride) as usize)).collect();
    }
    offsets
}
