//! Gradient flow: which layers the gradient reaches, and how much of it they use.
//!
//! The gradient flows to the parts of a network that are used: a closed gate, a saturated sigmoid or a dead relu shows
//! as a layer whose gradient norm is small or whose units get none at all.

use std::collections::BTreeMap;

use crate::nn::{Kind, Module, Path};
use crate::{DType, Gradients, Result, Tensor, no_grad};

/// What came to one layer in one step.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerFlow {
    /// The dotted name of the layer: that of its parameters without the last part.
    pub name: String,
    /// The 2-norm of the gradients of all its parameters.
    pub grad_norm: f64,
    /// The 2-norm of its parameters.
    pub weight_norm: f64,
    /// The norm of the step taken over the norm of the parameters; about 1e-3 is usual. 0 where no step was measured.
    pub update_ratio: f64,
    /// The share of its units (rows of a weight `[out, …]`) whose gradient is exactly 0.
    pub dead_units: f64,
}

/// All layers in one step, in the order of the model's fields.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FlowRecord {
    /// The step.
    pub step: u64,
    /// The layers.
    pub layers: Vec<LayerFlow>,
}

impl Gradients {
    /// The gradient norm and the share of dead units of each layer of `model`, whose loss these are the gradients of.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor, nn::{Layer, Linear, Relu, Sequential}};
    /// let model = Sequential::new().push(Linear::new(2, 4)?).push(Relu).push(Linear::new(4, 1)?);
    /// let grads = model.forward(&Tensor::ones([3, 2], DType::F32)?)?.sum(..)?.backward()?;
    /// let flow = grads.flow(&model)?;
    /// assert_eq!((flow[0].name.as_str(), flow[1].name.as_str()), ("0", "2"));
    /// assert!(flow[1].grad_norm > 0.0);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn flow(&self, model: &(impl Module + ?Sized)) -> Result<Vec<LayerFlow>> {
        Ok(measure(model, self, &BTreeMap::new())?.layers)
    }
}

/// Measures a step: the parameters are remembered before it and compared after it.
///
/// While this lives it holds the old parameters, so the optimizer writes the new ones beside them instead of in place:
/// measure some steps, not every one.
pub struct FlowRecorder {
    before: BTreeMap<String, Tensor>,
}

impl FlowRecorder {
    /// Remembers the parameters of `model`.
    pub fn before(model: &(impl Module + ?Sized)) -> FlowRecorder {
        FlowRecorder { before: model.named_parameters().into_iter().map(|(n, t)| (n, t.detach())).collect() }
    }

    /// What flowed in the step that was taken since, by these gradients.
    pub fn after(self, step: u64, model: &(impl Module + ?Sized), grads: &Gradients) -> Result<FlowRecord> {
        Ok(FlowRecord { step, ..measure(model, grads, &self.before)? })
    }
}

/// Sums of squares, and units, of one layer.
#[derive(Default)]
struct Sums {
    grad: f64,
    weight: f64,
    change: f64,
    dead: usize,
    units: usize,
}

fn measure(model: &(impl Module + ?Sized), grads: &Gradients, before: &BTreeMap<String, Tensor>) -> Result<FlowRecord> {
    let mut parameters = vec![];
    model.visit(&mut Path::default(), &mut |name, kind, t| {
        if kind == Kind::Parameter {
            parameters.push((name.to_string(), t.clone()));
        }
    });
    let mut layers: Vec<(String, Sums)> = vec![];
    no_grad(|| -> Result<()> {
        for (name, t) in &parameters {
            let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
            if layers.last().is_none_or(|(last, _)| last != layer) {
                layers.push((layer.to_string(), Sums::default()));
            }
            let Some((_, sums)) = layers.last_mut() else { continue };
            sums.weight += squares(t)?;
            if let Some(old) = before.get(name) {
                sums.change += squares(&t.sub(old)?)?;
            }
            let Some(grad) = grads.get(t) else { continue };
            sums.grad += squares(grad)?;
            if t.rank() >= 2 {
                let used = grad.flatten(1, -1)?.any(1)?;
                sums.units += t.dims()[0];
                sums.dead += used.logical_not()?.sum(..)?.item::<i64>()? as usize;
            }
        }
        Ok(())
    })?;
    let flow = |(name, s): (String, Sums)| LayerFlow {
        name,
        grad_norm: s.grad.sqrt(),
        weight_norm: s.weight.sqrt(),
        update_ratio: if s.weight > 0.0 { (s.change / s.weight).sqrt() } else { 0.0 },
        dead_units: s.dead as f64 / s.units.max(1) as f64,
    };
    Ok(FlowRecord { step: 0, layers: layers.into_iter().map(flow).collect() })
}

fn squares(t: &Tensor) -> Result<f64> {
    t.to_dtype(DType::F64)?.square()?.sum(..)?.item()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Layer, Linear, Relu, Sequential};
    use crate::optim::{Optimizer, Sgd};

    #[test]
    fn a_dead_layer_shows() -> Result<()> {
        let mut first = Linear::new(2, 4)?;
        // Two of four units never fire: their inputs are far below 0.
        first.weight = Tensor::ones([4, 2], DType::F32)?.requires_grad()?;
        first.bias = Some(Tensor::new([0.0f32, -100.0, 0.0, -100.0])?.requires_grad()?);
        let mut model = Sequential::new().push(first).push(Relu).push(Linear::new(4, 1)?);
        let x = Tensor::ones([3, 2], DType::F32)?;
        let grads = model.forward(&x)?.sum(..)?.backward()?;
        let recorder = FlowRecorder::before(&model);
        Optimizer::new(Sgd { lr: 0.1, ..Sgd::default() }).step(&mut model, &grads)?;
        let record = recorder.after(7, &model, &grads)?;
        assert_eq!((record.step, record.layers.len()), (7, 2));
        assert_eq!((record.layers[0].dead_units, record.layers[1].dead_units), (0.5, 0.0));
        // The step of SGD is lr · gradient.
        let l = &record.layers[1];
        assert!((l.update_ratio * l.weight_norm - 0.1 * l.grad_norm).abs() < 1e-5 * l.grad_norm, "{l:?}");
        Ok(())
    }
}
