//! The affine layer.

use super::{Description, Kind, Layer, Module, Path, Visitor, VisitorMut, init};
use crate::{Result, Tensor};

/// `y = x Wᵀ + b`: `[.., in] → [.., out]`. PyTorch: `nn.Linear`.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Layer, Linear}};
/// let layer = Linear::new(3, 2)?;
/// assert_eq!(layer.forward(&Tensor::ones([4, 3], DType::F32)?)?.dims(), [4, 2]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// With bias; weight and bias start uniform within ±1/√in, as PyTorch's.
    pub fn new(in_features: usize, out_features: usize) -> Result<Linear> {
        let weight = init::layer([out_features, in_features].into(), in_features)?;
        let bias = Some(init::layer([out_features].into(), in_features)?);
        Ok(Linear { weight, bias })
    }

    /// Without bias.
    pub fn without_bias(in_features: usize, out_features: usize) -> Result<Linear> {
        Ok(Linear { weight: init::layer([out_features, in_features].into(), in_features)?, bias: None })
    }
}

impl Layer for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

impl Module for Linear {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.enter("weight", |p| f(p.name(), Kind::Parameter, &self.weight));
        path.enter("bias", |p| self.bias.visit(p, f));
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        path.enter("weight", |p| f(p.name(), Kind::Parameter, &mut self.weight))?;
        path.enter("bias", |p| self.bias.visit_mut(p, f))
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        let (out, inner) = (self.weight.dims()[0], self.weight.dims()[1]);
        let bias = self.bias.is_some();
        Description::leaf("Linear", format!("in_features={inner}, out_features={out}, bias={bias}"))
    }
}
