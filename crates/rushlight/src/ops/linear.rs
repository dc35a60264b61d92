//! The linear layer's product: `y = x Wᵀ + b`.

use crate::autograd::{each_for_the_other, record};
use crate::dtype::each_float;
use crate::kernels::gemm::{Mat, MatMul, affine};
use crate::ops::precision::rounds;
use crate::{Error, Result, Tensor, no_grad};

impl Tensor {
    /// `x Wᵀ + b`: `[.., in]`, `[out, in]` and `[out]` to `[.., out]`. PyTorch: `F.linear`.
    ///
    /// `dx = dy W`, `dW = dyᵀ x`, `db = Σ dy`, each over all leading dims as one flat product.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([[1.0f32, 2.0]])?;
    /// let (w, b) = (Tensor::new([[3.0f32, 4.0], [5.0, 6.0], [0.0, 1.0]])?, Tensor::new([0.5f32, 0.0, -1.0])?);
    /// assert_eq!(x.linear(&w, Some(&b))?.to_vec::<f32>()?, [11.5, 17.0, 1.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: sizes that do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let op = "linear";
        let [out, inner] = weight.dims_of(op)?;
        if self.dims().last() != Some(&inner) {
            let message =
                format!("input {} does not end in the {inner} features of weight {}", self.shape(), weight.shape());
            return Err(Error::invalid(op, message));
        }
        if let Some(b) = bias.filter(|b| b.dims() != [out]) {
            return Err(Error::invalid(op, format!("bias of shape {} for {out} outputs", b.shape())));
        }
        let dtype = bias.iter().fold(self.dtype().promote(weight.dtype()), |dtype, b| dtype.promote(b.dtype()));
        let (x, w, b) = (self.to_dtype(dtype)?, weight.to_dtype(dtype)?, bias.map(|b| b.to_dtype(dtype)).transpose()?);
        if !dtype.is_float() {
            let y = x.matmul(&w.t()?)?;
            return b.map_or(Ok(y.clone()), |b| y.add(&b));
        }
        let shape = x.shape().with(x.rank() - 1, out);
        let rows = x.dims()[..x.rank() - 1].iter().product();
        let y = no_grad(|| {
            let (flat, bias) = (x.reshape([rows, inner])?, b.as_ref().map(Tensor::packed).transpose()?);
            each_float!(op, dtype, T => {
                let bias = bias.as_ref().map(|b| b.slice::<T>(op)).transpose()?;
                let (x, w) = (matrix::<T>(&flat)?, matrix::<T>(&w)?);
                Tensor::build(op, shape, |y: &mut [T]| affine(y, x, w.t(), bias, rounds()))
            })
        })?;
        let inputs: smallvec::SmallVec<[&Tensor; 3]> = [Some(&x), Some(&w), b.as_ref()].into_iter().flatten().collect();
        let (from, has_bias, bias_tracked) =
            (x.shape().clone(), b.is_some(), b.as_ref().is_some_and(|b| b.is_tracked()));
        let [for_x, for_w] = each_for_the_other(&x, &w);
        record(op, y, &inputs, move |dy| {
            let flat = dy.reshape([rows, out])?;
            let mut grads = crate::Grads::new();
            grads.push(for_x.as_ref().map(|w| flat.matmul(w)?.reshape(&from)).transpose()?);
            grads.push(for_w.as_ref().map(|x| flat.t()?.matmul(&x.reshape([rows, inner])?)).transpose()?);
            if has_bias {
                grads.push(bias_tracked.then(|| flat.sum(0)).transpose()?);
            }
            Ok(grads)
        })
    }
}

/// A tensor of two dims as the kernel reads it.
pub(super) fn matrix<T: MatMul>(t: &Tensor) -> Result<Mat<'_, T>> {
    let ([rows, cols], [row_stride, col_stride]) = (t.dims_of("linear")?, [t.strides()[0], t.strides()[1]]);
    Ok(Mat { data: t.raw("linear")?, offset: t.layout().offset(), rows, cols, row_stride, col_stride })
}
