//! Convolutions and pools, of one, two and three dims.

use pyo3::prelude::*;
use rushlight::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, PoolOptions};

use super::{Maybe, inner};
use crate::args::Ints;
use crate::ops::{Tensored, detached};
use crate::tensor::PyTensor;

fn stride<const N: usize>(stride: Option<Ints>) -> PyResult<Option<[usize; N]>> {
    stride.map(|s| s.sizes("stride")).transpose()
}

/// The functions of one number of dims.
macro_rules! spatial {
    ($n:literal, $conv:ident, $conv_t:ident, $max:ident, $max_with:ident, $avg:ident, $lp:ident, $soft:ident, $a_avg:ident, $a_max:ident, $dims:ident) => {
        mod $dims {
            use super::*;

            /// Convolution of `[batch, channels, …]`; `padding` may be "same" or "valid".
            #[pyfunction]
            #[pyo3(signature = (input, weight, bias=None, stride=None, padding=None, dilation=None, groups=1))]
            fn $conv(
                py: Python<'_>,
                input: Tensored,
                weight: Tensored,
                bias: Maybe,
                stride: Option<Ints>,
                padding: Option<Ints>,
                dilation: Option<Ints>,
                groups: usize,
            ) -> PyResult<PyTensor> {
                let options = ConvOptions::<$n> {
                    stride: super::stride(stride)?.unwrap_or([1; $n]),
                    padding: padding.unwrap_or_else(|| one(0)).sizes("padding")?,
                    dilation: dilation.unwrap_or_else(|| one(1)).sizes("dilation")?,
                    groups,
                };
                Ok(detached(py, || input.0.$conv(&weight.0, inner(&bias), options))?.into())
            }

            /// Transposed convolution: the gradient of the convolution by its input.
            #[pyfunction]
            #[pyo3(signature = (input, weight, bias=None, stride=None, padding=None, output_padding=None, groups=1, dilation=None))]
            fn $conv_t(
                py: Python<'_>,
                input: Tensored,
                weight: Tensored,
                bias: Maybe,
                stride: Option<Ints>,
                padding: Option<Ints>,
                output_padding: Option<Ints>,
                groups: usize,
                dilation: Option<Ints>,
            ) -> PyResult<PyTensor> {
                let options = ConvTransposeOptions::<$n> {
                    stride: super::stride(stride)?.unwrap_or([1; $n]),
                    padding: padding.unwrap_or_else(|| one(0)).sizes("padding")?,
                    output_padding: output_padding.unwrap_or_else(|| one(0)).sizes("output_padding")?,
                    dilation: dilation.unwrap_or_else(|| one(1)).sizes("dilation")?,
                    groups,
                };
                Ok(detached(py, || input.0.$conv_t(&weight.0, inner(&bias), options))?.into())
            }

            fn pool(stride: Option<Ints>, padding: Option<Ints>, dilation: Option<Ints>, ceil_mode: bool) -> PyResult<PoolOptions<$n>> {
                Ok(PoolOptions {
                    stride: super::stride(stride)?,
                    padding: padding.unwrap_or_else(|| one(0)).sizes("padding")?,
                    dilation: dilation.unwrap_or_else(|| one(1)).sizes("dilation")?,
                    ceil_mode,
                })
            }

            /// The largest of each window.
            #[pyfunction]
            #[pyo3(signature = (input, kernel_size, stride=None, padding=None, dilation=None, ceil_mode=false))]
            fn $max(py: Python<'_>, input: Tensored, kernel_size: Ints, stride: Option<Ints>, padding: Option<Ints>, dilation: Option<Ints>, ceil_mode: bool) -> PyResult<PyTensor> {
                let (kernel, options) = (kernel_size.sizes("kernel_size")?, pool(stride, padding, dilation, ceil_mode)?);
                Ok(detached(py, || input.0.$max(kernel, options))?.into())
            }

            /// The largest of each window and where it lies.
            #[pyfunction]
            #[pyo3(signature = (input, kernel_size, stride=None, padding=None, dilation=None, ceil_mode=false))]
            fn $max_with(py: Python<'_>, input: Tensored, kernel_size: Ints, stride: Option<Ints>, padding: Option<Ints>, dilation: Option<Ints>, ceil_mode: bool) -> PyResult<(PyTensor, PyTensor)> {
                let (kernel, options) = (kernel_size.sizes("kernel_size")?, pool(stride, padding, dilation, ceil_mode)?);
                let (y, i) = detached(py, || input.0.$max_with(kernel, options))?;
                Ok((y.into(), i.into()))
            }

            /// The softmax of each window as weights of its mean.
            #[pyfunction]
            #[pyo3(signature = (input, kernel_size, stride=None, padding=None, dilation=None, ceil_mode=false))]
            fn $soft(py: Python<'_>, input: Tensored, kernel_size: Ints, stride: Option<Ints>, padding: Option<Ints>, dilation: Option<Ints>, ceil_mode: bool) -> PyResult<PyTensor> {
                let (kernel, options) = (kernel_size.sizes("kernel_size")?, pool(stride, padding, dilation, ceil_mode)?);
                Ok(detached(py, || input.0.$soft(kernel, options))?.into())
            }

            /// The mean of each window.
            #[pyfunction]
            #[pyo3(signature = (input, kernel_size, stride=None, padding=None, ceil_mode=false, count_include_pad=true, divisor_override=None))]
            fn $avg(py: Python<'_>, input: Tensored, kernel_size: Ints, stride: Option<Ints>, padding: Option<Ints>, ceil_mode: bool, count_include_pad: bool, divisor_override: Option<usize>) -> PyResult<PyTensor> {
                let kernel = kernel_size.sizes("kernel_size")?;
                let options = AvgPoolOptions::<$n> {
                    stride: super::stride(stride)?,
                    padding: padding.unwrap_or_else(|| one(0)).sizes("padding")?,
                    ceil_mode,
                    count_include_pad,
                    divisor_override,
                };
                Ok(detached(py, || input.0.$avg(kernel, options))?.into())
            }

            /// `(Σ xᵖ)^(1/p)` of each window.
            #[pyfunction]
            #[pyo3(signature = (input, norm_type, kernel_size, stride=None, ceil_mode=false))]
            fn $lp(py: Python<'_>, input: Tensored, norm_type: f64, kernel_size: Ints, stride: Option<Ints>, ceil_mode: bool) -> PyResult<PyTensor> {
                let (kernel, stride) = (kernel_size.sizes("kernel_size")?, super::stride(stride)?);
                Ok(detached(py, || input.0.$lp(norm_type, kernel, stride, ceil_mode))?.into())
            }

            /// Means over as many windows as `output_size` says.
            #[pyfunction]
            fn $a_avg(py: Python<'_>, input: Tensored, output_size: Ints) -> PyResult<PyTensor> {
                let size = output_size.sizes("output_size")?;
                Ok(detached(py, || input.0.$a_avg(size))?.into())
            }

            /// The largest of as many windows as `output_size` says.
            #[pyfunction]
            fn $a_max(py: Python<'_>, input: Tensored, output_size: Ints) -> PyResult<PyTensor> {
                let size = output_size.sizes("output_size")?;
                Ok(detached(py, || input.0.$a_max(size))?.into())
            }

            pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
                m.add_function(wrap_pyfunction!($conv, m)?)?;
                m.add_function(wrap_pyfunction!($conv_t, m)?)?;
                m.add_function(wrap_pyfunction!($max, m)?)?;
                m.add_function(wrap_pyfunction!($max_with, m)?)?;
                m.add_function(wrap_pyfunction!($soft, m)?)?;
                m.add_function(wrap_pyfunction!($avg, m)?)?;
                m.add_function(wrap_pyfunction!($lp, m)?)?;
                m.add_function(wrap_pyfunction!($a_avg, m)?)?;
                m.add_function(wrap_pyfunction!($a_max, m)?)
            }
        }
    };
}

fn one(n: i64) -> Ints {
    Ints(smallvec::smallvec![n])
}

spatial!(
    1,
    conv1d,
    conv_transpose1d,
    max_pool1d,
    max_pool1d_with_indices,
    avg_pool1d,
    lp_pool1d,
    softmax_pool1d,
    adaptive_avg_pool1d,
    adaptive_max_pool1d,
    one_dim
);
spatial!(
    2,
    conv2d,
    conv_transpose2d,
    max_pool2d,
    max_pool2d_with_indices,
    avg_pool2d,
    lp_pool2d,
    softmax_pool2d,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    two_dims
);
spatial!(
    3,
    conv3d,
    conv_transpose3d,
    max_pool3d,
    max_pool3d_with_indices,
    avg_pool3d,
    lp_pool3d,
    softmax_pool3d,
    adaptive_avg_pool3d,
    adaptive_max_pool3d,
    three_dims
);

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    one_dim::register(m)?;
    two_dims::register(m)?;
    three_dims::register(m)
}
