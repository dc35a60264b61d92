//! Normalisation layers.

use super::{Buffer, Description, Kind, Layer, Module, Path, Visitor, VisitorMut};
use crate::{DType, Error, Result, Shape, Tensor};

fn ones(shape: impl Into<Shape>) -> Result<Option<Tensor>> {
    Tensor::ones(shape.into(), DType::F32)?.requires_grad().map(Some)
}

fn zeros(shape: impl Into<Shape>) -> Result<Option<Tensor>> {
    Tensor::zeros(shape.into(), DType::F32)?.requires_grad().map(Some)
}

/// Visits the optional fields `weight` and `bias`.
macro_rules! affine_module {
    ($Name:ident, |$s:ident| $settings:expr) => {
        impl Module for $Name {
            fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
                path.enter("weight", |p| self.weight.visit(p, f));
                path.enter("bias", |p| self.bias.visit(p, f));
            }

            fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
                path.enter("weight", |p| self.weight.visit_mut(p, f))?;
                path.enter("bias", |p| self.bias.visit_mut(p, f))
            }

            fn set_training(&mut self, _: bool) {}

            fn describe(&self) -> Description {
                let $s = self;
                Description::leaf(stringify!($Name), $settings)
            }
        }
    };
}

/// [`Tensor::layer_norm`] with a weight and a bias, over the last dims. PyTorch: `nn.LayerNorm`.
pub struct LayerNorm {
    /// Starts as 1.
    pub weight: Option<Tensor>,
    /// Starts as 0.
    pub bias: Option<Tensor>,
    /// The sizes of the dims that are normalised together.
    pub normalized_shape: Shape,
    /// Keeps the division finite.
    pub eps: f64,
}

impl LayerNorm {
    /// Over the last dims, which have this shape; ε is 1e-5.
    pub fn new(normalized_shape: impl Into<Shape>) -> Result<LayerNorm> {
        let shape = normalized_shape.into();
        Ok(LayerNorm { weight: ones(shape.clone())?, bias: zeros(shape.clone())?, normalized_shape: shape, eps: 1e-5 })
    }
}

affine_module!(LayerNorm, |s| format!("{}, eps={:e}", s.normalized_shape, s.eps));

impl Layer for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.layer_norm(&self.normalized_shape, self.weight.as_ref(), self.bias.as_ref(), self.eps)
    }
}

/// [`Tensor::rms_norm`] with a weight, over the last dims. PyTorch: `nn.RMSNorm`. Source: Zhang & Sennrich 2019.
pub struct RmsNorm {
    /// Starts as 1.
    pub weight: Option<Tensor>,
    /// The sizes of the dims that are normalised together.
    pub normalized_shape: Shape,
    /// Keeps the division finite.
    pub eps: f64,
}

impl RmsNorm {
    /// Over the last dims, which have this shape; ε is that of f32, as PyTorch's.
    pub fn new(normalized_shape: impl Into<Shape>) -> Result<RmsNorm> {
        let shape = normalized_shape.into();
        Ok(RmsNorm { weight: ones(shape.clone())?, normalized_shape: shape, eps: f32::EPSILON as f64 })
    }
}

impl Module for RmsNorm {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.enter("weight", |p| self.weight.visit(p, f));
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        path.enter("weight", |p| self.weight.visit_mut(p, f))
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        Description::leaf("RmsNorm", format!("{}, eps={:e}", self.normalized_shape, self.eps))
    }
}

impl Layer for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.rms_norm(&self.normalized_shape, self.weight.as_ref(), self.eps)
    }
}

/// [`Tensor::group_norm`] with a weight and a bias per channel. PyTorch: `nn.GroupNorm`.
pub struct GroupNorm {
    /// `[channels]`, starts as 1.
    pub weight: Option<Tensor>,
    /// `[channels]`, starts as 0.
    pub bias: Option<Tensor>,
    /// The channels are cut into so many groups.
    pub groups: usize,
    /// Keeps the division finite.
    pub eps: f64,
}

impl GroupNorm {
    /// ε is 1e-5. Errors: groups that do not divide the channels.
    pub fn new(groups: usize, channels: usize) -> Result<GroupNorm> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::invalid("group_norm", format!("{groups} groups do not divide {channels} channels")));
        }
        Ok(GroupNorm { weight: ones([channels])?, bias: zeros([channels])?, groups, eps: 1e-5 })
    }
}

affine_module!(GroupNorm, |s| format!("groups={}, eps={:e}", s.groups, s.eps));

impl Layer for GroupNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.group_norm(self.groups, self.weight.as_ref(), self.bias.as_ref(), self.eps)
    }
}

/// Batch norm over `[N, C]` or `[N, C, …]`: by the batch in training, by running statistics in evaluation.
///
/// PyTorch: `nn.BatchNorm1d`, `2d` and `3d`. Source: Ioffe & Szegedy 2015.
pub struct BatchNorm {
    /// `[C]`, starts as 1.
    pub weight: Option<Tensor>,
    /// `[C]`, starts as 0.
    pub bias: Option<Tensor>,
    /// `[C]`, starts as 0.
    pub running_mean: Buffer,
    /// `[C]`, starts as 1; unbiased.
    pub running_var: Buffer,
    /// Keeps the division finite.
    pub eps: f64,
    /// How much a batch changes the running statistics.
    pub momentum: f64,
    training: bool,
}

impl BatchNorm {
    /// ε is 1e-5, the momentum 0.1.
    pub fn new(channels: usize) -> Result<BatchNorm> {
        Ok(BatchNorm {
            weight: ones([channels])?,
            bias: zeros([channels])?,
            running_mean: Buffer::new(Tensor::zeros(channels, DType::F32)?),
            running_var: Buffer::new(Tensor::ones(channels, DType::F32)?),
            eps: 1e-5,
            momentum: 0.1,
            training: true,
        })
    }
}

impl Layer for BatchNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.as_ref(), self.bias.as_ref());
        if !self.training {
            return x.batch_norm(&self.running_mean.get(), &self.running_var.get(), weight, bias, self.eps);
        }
        let (y, mean, var) = x.batch_norm_train(weight, bias, self.eps)?;
        let blend = |running: &Buffer, new: &Tensor| -> Result<()> {
            let old = running.get();
            let new = new.to_dtype(old.dtype())?.mul(self.momentum)?;
            running.set(&old.mul(1.0 - self.momentum)?.add(&new)?);
            Ok(())
        };
        blend(&self.running_mean, &mean)?;
        blend(&self.running_var, &var)?;
        Ok(y)
    }
}

impl Module for BatchNorm {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.enter("weight", |p| self.weight.visit(p, f));
        path.enter("bias", |p| self.bias.visit(p, f));
        path.enter("running_mean", |p| f(p.name(), Kind::Buffer, &self.running_mean.get()));
        path.enter("running_var", |p| f(p.name(), Kind::Buffer, &self.running_var.get()));
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        path.enter("weight", |p| self.weight.visit_mut(p, f))?;
        path.enter("bias", |p| self.bias.visit_mut(p, f))?;
        path.enter("running_mean", |p| self.running_mean.visit_mut(p, f))?;
        path.enter("running_var", |p| self.running_var.visit_mut(p, f))
    }

    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn describe(&self) -> Description {
        let channels = self.running_mean.get().numel();
        Description::leaf("BatchNorm", format!("{channels}, eps={:e}, momentum={}", self.eps, self.momentum))
    }
}
