//! Initial values of parameters, by PyTorch's formulas.

use crate::{DType, Error, Result, Shape, Tensor};

/// The inputs and outputs that one unit of a weight `[out, in, kernel…]` is connected to.
///
/// Errors: fewer than two dims.
pub fn fans(shape: &Shape) -> Result<(usize, usize)> {
    let [out, inner, kernel @ ..] = shape.dims() else {
        return Err(Error::invalid("init", format!("fan in and out need at least two dims, got shape {shape}")));
    };
    let field: usize = kernel.iter().product();
    Ok((inner * field, out * field))
}

/// The factor that keeps the variance of activations behind a nonlinearity. PyTorch: `calculate_gain`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gain {
    /// 1
    Linear,
    /// 1
    Sigmoid,
    /// 5/3
    Tanh,
    /// √2
    Relu,
    /// √(2 / (1 + slope²))
    LeakyRelu(f64),
    /// 3/4
    Selu,
}

impl Gain {
    /// Its value.
    pub fn value(self) -> f64 {
        match self {
            Gain::Linear | Gain::Sigmoid => 1.0,
            Gain::Tanh => 5.0 / 3.0,
            Gain::Relu => 2f64.sqrt(),
            Gain::LeakyRelu(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
            Gain::Selu => 0.75,
        }
    }
}

/// Uniform within ±gain·√(3 / fan_in). PyTorch: `kaiming_uniform_`. Source: He et al. 2015.
pub fn kaiming_uniform(shape: impl Into<Shape>, gain: Gain) -> Result<Tensor> {
    let shape = shape.into();
    let bound = gain.value() * (3.0 / fans(&shape)?.0.max(1) as f64).sqrt();
    Tensor::uniform(&shape, -bound, bound, DType::F32)
}

/// Normal with standard deviation gain/√fan_in. PyTorch: `kaiming_normal_`. Source: He et al. 2015.
pub fn kaiming_normal(shape: impl Into<Shape>, gain: Gain) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::normal(&shape, 0.0, gain.value() / (fans(&shape)?.0.max(1) as f64).sqrt(), DType::F32)
}

/// Uniform within ±gain·√(6 / (fan_in + fan_out)). PyTorch: `xavier_uniform_`. Source: Glorot & Bengio 2010.
pub fn xavier_uniform(shape: impl Into<Shape>, gain: Gain) -> Result<Tensor> {
    let shape = shape.into();
    let (fan_in, fan_out) = fans(&shape)?;
    let bound = gain.value() * (6.0 / (fan_in + fan_out).max(1) as f64).sqrt();
    Tensor::uniform(&shape, -bound, bound, DType::F32)
}

/// Normal with standard deviation gain·√(2 / (fan_in + fan_out)). PyTorch: `xavier_normal_`.
pub fn xavier_normal(shape: impl Into<Shape>, gain: Gain) -> Result<Tensor> {
    let shape = shape.into();
    let (fan_in, fan_out) = fans(&shape)?;
    Tensor::normal(&shape, 0.0, gain.value() * (2.0 / (fan_in + fan_out).max(1) as f64).sqrt(), DType::F32)
}

/// Normal, cut to within `cut` standard deviations by drawing again. PyTorch: `trunc_normal_`.
pub fn trunc_normal(shape: impl Into<Shape>, std: f64, cut: f64) -> Result<Tensor> {
    let shape = shape.into();
    if cut.is_nan() || cut < 0.1 {
        return Err(Error::invalid(
            "trunc_normal",
            format!("a cut at {cut} deviations leaves too little to draw from"),
        ));
    }
    let mut t = Tensor::normal(&shape, 0.0, std, DType::F32)?;
    loop {
        let outside = t.abs()?.gt(cut * std)?;
        if !outside.any(..)?.item::<bool>()? {
            return Ok(t);
        }
        t = outside.where_cond(&Tensor::normal(&shape, 0.0, std, DType::F32)?, &t)?;
    }
}

/// What PyTorch's Linear and Conv layers start from: weight and bias uniform within ±1/√fan_in.
pub(super) fn layer(shape: Shape, fan_in: usize) -> Result<Tensor> {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Tensor::uniform(&shape, -bound, bound, DType::F32)?.requires_grad()
}
