//! Layers whose weight may stay in blocks of few bits: [`QLinear`] and [`QEmbedding`].
//!
//! As a [`Module`], such a layer shows its weight decoded, so that all that is done to networks can be done to these:
//! printed, saved, adapted, trained. A weight stays in its blocks until somebody changes it or asks for its gradient;
//! from then on it is a tensor of f32.

use super::{Description, Kind, Layer, Module, Path, Visitor, VisitorMut};
use crate::io::Weight;
use crate::{Error, Result, Tensor, is_grad_enabled};

impl Weight {
    /// `x · Wᵀ + b` with this as W, `[out, in]`: see [`QTensor::linear`](crate::quant::QTensor::linear). Where `x` asks for
    /// gradients, by way of the decoded weight, which the graph then holds.
    fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match (self, bias) {
            (Weight::Plain(w), _) => x.linear(w, bias),
            (Weight::Quant(w), _) if x.is_tracked() && is_grad_enabled() => x.linear(&w.dequantize()?, bias),
            (Weight::Quant(w), None) => w.linear(&x.detach()),
            (Weight::Quant(w), Some(bias)) => w.linear(&x.detach())?.add(bias),
        }
    }
}

/// What is visited is f32. Where memory for that is refused, a weight in blocks is left out.
impl Module for Weight {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        if let Ok(t) = self.tensor() {
            f(path.name(), Kind::Parameter, &t);
        }
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        let before = match self {
            Weight::Plain(t) => return f(path.name(), Kind::Parameter, t),
            Weight::Quant(q) => q.dequantize()?,
        };
        let mut after = before.clone();
        f(path.name(), Kind::Parameter, &mut after)?;
        let place = |t: &Tensor| Ok::<_, Error>(t.raw::<f32>("visit")?.as_ptr());
        // What was written to is elsewhere, as `before` still holds the old place.
        if after.is_tracked()
            || after.layout() != before.layout()
            || after.dtype() != before.dtype()
            || place(&after)? != place(&before)?
        {
            *self = Weight::Plain(after);
        }
        Ok(())
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        Description::hidden()
    }
}

/// `y = x Wᵀ + b`: `[.., in] → [.., out]`, as [`Linear`](super::Linear).
///
/// ```
/// use rushlight::nn::{Layer, Module, QLinear};
/// use rushlight::quant::{QTensor, QuantKind};
/// use rushlight::{DType, Tensor};
///
/// let w = Tensor::randn([8, 32], DType::F32)?;
/// let layer = QLinear { weight: QTensor::quantize(&w, QuantKind::Q4_0)?.into(), bias: None };
/// assert_eq!(layer.forward(&Tensor::ones([4, 32], DType::F32)?)?.dims(), [4, 8]);
/// assert_eq!(layer.describe().to_string(), "QLinear(in_features=32, out_features=8, bias=false, q4_0)");
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct QLinear {
    /// `[out, in]`
    pub weight: Weight,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Layer for QLinear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.weight.linear(x, self.bias.as_ref())
    }
}

/// Indices `[..]` to rows of a table, `[.., width]`, of which only those are decoded; as [`Embedding`](super::Embedding).
pub struct QEmbedding {
    /// `[rows, width]`
    pub weight: Weight,
}

impl QEmbedding {
    /// `[.., width]` to `[.., rows]`, the products with all rows: an output layer that is the table of tokens.
    pub fn unembed(&self, x: &Tensor) -> Result<Tensor> {
        self.weight.linear(x, None)
    }
}

impl Layer for QEmbedding {
    fn forward(&self, index: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Plain(table) => table.embedding(index, None),
            Weight::Quant(table) => table.embedding(index),
        }
    }
}

/// Of the weight's sizes and kind: `Linear(…)`, or `QLinear(…, q4_0)` where it is in blocks.
fn described([plain, quantised]: [&str; 2], weight: &Weight, settings: String) -> Description {
    match weight {
        Weight::Plain(_) => Description::leaf(plain, settings),
        Weight::Quant(q) => Description::leaf(quantised, format!("{settings}, {}", q.kind())),
    }
}

impl Module for QLinear {
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
        let settings = match self.weight.shape().dims() {
            [out, inner] => format!("in_features={inner}, out_features={out}, bias={}", self.bias.is_some()),
            dims => format!("{dims:?}"),
        };
        described(["Linear", "QLinear"], &self.weight, settings)
    }
}

impl Module for QEmbedding {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.enter("weight", |p| self.weight.visit(p, f));
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        path.enter("weight", |p| self.weight.visit_mut(p, f))
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        described(["Embedding", "QEmbedding"], &self.weight, format!("{:?}", self.weight.shape().dims()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::quant::{QTensor, QuantKind};

    #[test]
    fn a_weight_stays_in_blocks_until_it_is_changed() -> Result<()> {
        let quantized = QTensor::quantize(&Tensor::randn([5, 64], DType::F32)?, QuantKind::Q4_1)?;
        let decoded = quantized.dequantize()?;
        let mut layer = QLinear { weight: quantized.clone().into(), bias: None };
        let table = QEmbedding { weight: quantized.into() };
        let x = Tensor::randn([3, 64], DType::F32)?;
        let apart = |a: &Tensor, b: &Tensor| a.detach().sub(b.detach())?.abs()?.amax(..)?.item::<f32>();
        let y = x.linear(&decoded, None)?;
        assert!(apart(&layer.forward(&x)?, &y)? < 1e-3 && apart(&table.unembed(&x)?, &y)? < 1e-3);
        let index = Tensor::new([4i64, 0])?;
        assert_eq!(apart(&table.forward(&index)?, &decoded.index_select(0, &index)?)?, 0.0);

        // Looking, freezing and taking what is there change nothing.
        assert_eq!((layer.num_parameters(), layer.state_dict()["weight"].dims()), (320, &[5, 64][..]));
        layer.set_requires_grad(false)?;
        assert!(matches!(layer.weight, Weight::Quant(_)));
        // Gradients flow through it.
        let x = x.requires_grad()?;
        let grads = layer.forward(&x)?.sum(..)?.backward()?;
        let expected = decoded.sum(0)?.unsqueeze(0)?.expand([3, 64])?;
        assert!(apart(grads.get(&x).unwrap(), &expected)? < 1e-4);
        // To ask for its own is to change it.
        layer.set_requires_grad(true)?;
        assert!(matches!(&layer.weight, Weight::Plain(w) if w.is_tracked()));
        assert_eq!(apart(&layer.parameters()[0], &decoded)?, 0.0);
        assert_eq!(layer.describe().to_string(), "Linear(in_features=64, out_features=5, bias=false)");
        // A bias is added either way, and is a parameter.
        let bias = Tensor::randn([5], DType::F32)?;
        for weight in [layer.weight.clone(), table.weight.clone()] {
            let layer = QLinear { weight, bias: Some(bias.clone()) };
            assert!(apart(&layer.forward(&x)?, &y.add(&bias)?)? < 1e-3);
            assert_eq!(layer.named_parameters()[1].0, "bias");
        }
        Ok(())
    }
}
