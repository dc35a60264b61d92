//! Gradient flow: how much of the gradient reaches each layer, and what a step makes of it.
//!
//! For each layer, with its parameters w and their gradients g taken as one vector each:
//! - ‖g‖ and ‖w‖. A ‖g‖ that shrinks from the last layer to the first is a vanishing gradient.
//! - the share of dead units: rows of a weight `[out, ..]` whose gradient is exactly 0, as behind a relu that is off
//!   for the whole batch, or of an embedding whose words the batch lacks.
//! - ‖Δw‖ / ‖w‖, the update-to-weight ratio of a step, measured on the parameters: it holds for every optimizer.
//!   About 1e-3 is healthy.
//!
//! Sums are in f64, in the order of the elements. Cost: one pass over parameters and gradients.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::dtype::each_float;
use crate::nn::Module;
use crate::{Error, Gradients, Result, Tensor};

/// The gradient flow through one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerFlow {
    /// The dotted name of its parameters without the last part: `conv1` for `conv1.weight` and `conv1.bias`.
    pub name: String,
    /// The number of trained elements.
    pub elements: usize,
    /// The 2-norm of its gradients. As JSON has no NaN and no infinity, they become null, which is read as NaN.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// The 2-norm of its parameters, for a step of those before it.
    #[serde(deserialize_with = "null_is_nan")]
    pub weight_norm: f64,
    /// The share, 0 to 1, of the rows of its weights (parameters of 2 dims and more) whose gradient is all exactly 0;
    /// `None` where it has no such rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_units: Option<f64>,
    /// ‖Δw‖ / ‖w‖ of the step; `None` outside of a [`FlowRecorder`], and where ‖w‖ is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_ratio: Option<f64>,
}

/// The gradient flow of one step, as a line of metrics.jsonl holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// The number of the step.
    pub step: u64,
    /// The layers, in the model's order.
    pub layers: Vec<LayerFlow>,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Gradients {
    /// What reaches each layer of `model`, in its order.
    ///
    /// Frozen parameters are left out. A tracked one without a gradient has the gradient 0.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor, nn::{Layer, Linear}};
    /// let model = Linear::new(3, 2)?;
    /// let x = Tensor::ones([4, 3], DType::F32)?;
    /// let grads = model.forward(&x)?.narrow(1, 0, 1)?.sum(..)?.backward()?;
    /// let flow = grads.flow(&model)?;
    /// assert_eq!((flow[0].elements, flow[0].dead_units), (8, Some(0.5)));
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn flow(&self, model: &(impl Module + ?Sized)) -> Result<Vec<LayerFlow>> {
        Ok(layers(&tracked(model), self)?.into_iter().map(|sums| sums.finish(None)).collect())
    }
}

/// Measures what an optimizer's step does to each layer.
///
/// Between [`FlowRecorder::before`] and [`FlowRecorder::after`] it holds the old parameters, so the optimizer makes
/// copies instead of updating in place: a step costs the memory of all parameters once more. Record one step in many.
///
/// ```
/// use rushlight::nn::{Layer, Linear};
/// use rushlight::optim::{Optimizer, Sgd, flow::FlowRecorder};
/// use rushlight::{DType, Tensor};
///
/// let mut model = Linear::new(2, 1)?;
/// let mut optimizer = Optimizer::new(Sgd { lr: 0.1, ..Sgd::default() });
/// let mut recorder = FlowRecorder::new();
/// let x = Tensor::ones([4, 2], DType::F32)?;
/// for step in 0..10 {
///     let grads = model.forward(&x)?.square()?.mean(..)?.backward()?;
///     if step % 5 == 0 {
///         recorder.before(&model);
///     }
///     optimizer.step(&mut model, &grads)?;
///     if step % 5 == 0 {
///         let record = recorder.after(step, &model, &grads)?;
///         assert!(record.layers[0].update_ratio > Some(0.0));
///     }
/// }
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Default)]
pub struct FlowRecorder {
    before: Option<Vec<(String, Tensor)>>,
}

impl FlowRecorder {
    /// Holding nothing yet.
    pub fn new() -> FlowRecorder {
        FlowRecorder::default()
    }

    /// Takes hold of the parameters before a step.
    pub fn before(&mut self, model: &(impl Module + ?Sized)) {
        self.before = Some(tracked(model));
    }

    /// Compares the parameters with those before the step, by `grads`, and lets go of them.
    ///
    /// Errors: no [`FlowRecorder::before`] since the last call; a parameter that is gone or has another shape.
    pub fn after(&mut self, step: u64, model: &(impl Module + ?Sized), grads: &Gradients) -> Result<FlowRecord> {
        let op = "FlowRecorder";
        let before = self.before.take().ok_or_else(|| Error::invalid(op, "after() without before()"))?;
        let now: BTreeMap<String, Tensor> = model.named_parameters().into_iter().collect();
        let mut moved: BTreeMap<&str, f64> = BTreeMap::new();
        for (name, old) in &before {
            let gone = || Error::invalid(op, format!("parameter {name} is not what it was before the step"));
            let new =
                now.get(name).filter(|n| n.shape() == old.shape() && n.dtype() == old.dtype()).ok_or_else(gone)?;
            *moved.entry(layer_of(name)).or_default() += squares_of_difference(new, old)?;
        }
        let layers = layers(&before, grads)?;
        let finish = |sums: Sums| {
            let moved = moved.get(sums.name.as_str()).copied();
            sums.finish(moved)
        };
        Ok(FlowRecord { step, layers: layers.into_iter().map(finish).collect() })
    }
}

/// The name of the layer a parameter belongs to.
fn layer_of(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or("", |(layer, _)| layer)
}

fn tracked(model: &(impl Module + ?Sized)) -> Vec<(String, Tensor)> {
    model.named_parameters().into_iter().filter(|(_, p)| p.is_tracked()).collect()
}

/// What is added up over the parameters of a layer.
#[derive(Default)]
struct Sums {
    name: String,
    elements: usize,
    grad: f64,
    weight: f64,
    units: usize,
    dead: usize,
}

impl Sums {
    /// `moved` is ‖Δw‖².
    fn finish(self, moved: Option<f64>) -> LayerFlow {
        let weight_norm = self.weight.sqrt();
        LayerFlow {
            name: self.name,
            elements: self.elements,
            grad_norm: self.grad.sqrt(),
            weight_norm,
            dead_units: (self.units > 0).then(|| self.dead as f64 / self.units as f64),
            update_ratio: moved.filter(|_| weight_norm != 0.0).map(|m| m.sqrt() / weight_norm),
        }
    }
}

fn layers(parameters: &[(String, Tensor)], grads: &Gradients) -> Result<Vec<Sums>> {
    let mut out: Vec<Sums> = vec![];
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, p) in parameters {
        let layer = layer_of(name);
        let place = *places.entry(layer).or_insert_with(|| {
            out.push(Sums { name: layer.to_string(), ..Sums::default() });
            out.len() - 1
        });
        let sums = &mut out[place];
        sums.elements += p.numel();
        sums.weight += squares(p)?;
        let grad = grads.get(p);
        if let Some(grad) = grad {
            sums.grad += squares(grad)?;
        }
        if p.rank() >= 2 && p.numel() > 0 {
            sums.units += p.dims()[0];
            sums.dead += grad.map_or(Ok(p.dims()[0]), zero_rows)?;
        }
    }
    Ok(out)
}

/// Σ x²
fn squares(x: &Tensor) -> Result<f64> {
    let (op, x) = ("flow", x.packed()?);
    each_float!(op, x.dtype(), T => Ok(x.slice::<T>(op)?.iter().map(|v| crate::Element::to_f64(*v).powi(2)).sum()))
}

/// Σ (a − b)², of one shape and dtype
fn squares_of_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (op, a, b) = ("flow", a.packed()?, b.packed()?);
    each_float!(op, a.dtype(), T => {
        let (a, b) = (a.slice::<T>(op)?, b.slice::<T>(op)?);
        let f64 = |x: &T| crate::Element::to_f64(*x);
        Ok(a.iter().zip(b).map(|(a, b)| (f64(a) - f64(b)).powi(2)).sum())
    })
}

/// How many rows of a gradient `[out, ..]` are all 0. It has elements.
fn zero_rows(grad: &Tensor) -> Result<usize> {
    let (op, grad) = ("flow", grad.packed()?);
    let row = grad.numel() / grad.dims()[0];
    each_float!(op, grad.dtype(), T => {
        let zero = |row: &&[T]| row.iter().all(|v| crate::Element::to_f64(*v) == 0.0);
        Ok(grad.slice::<T>(op)?.chunks_exact(row).filter(zero).count())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::nn::{Layer, Linear};
    use crate::optim::{Optimizer, Sgd};

    /// `first` is alive in one of its four units, `dead` behind a relu that is off.
    #[derive(Module)]
    struct Mlp {
        first: Linear,
        dead: Linear,
        out: Linear,
        scale: Tensor,
    }

    fn linear(weight: Tensor, bias: Vec<f32>) -> Linear {
        let track = |t: Tensor| t.requires_grad().unwrap();
        Linear { weight: track(weight), bias: Some(track(Tensor::new(bias).unwrap())) }
    }

    impl Mlp {
        fn new() -> Mlp {
            let rows = Tensor::new([[1.0f32, 2.0], [-1.0, -1.0], [-1.0, -2.0], [0.0, -3.0]]).unwrap();
            let ones = |shape: [usize; 2]| Tensor::ones(shape, DType::F32).unwrap();
            Mlp {
                first: linear(rows, vec![0.0; 4]),
                dead: linear(ones([3, 2]), vec![-10.0; 3]),
                out: linear(ones([1, 7]), vec![0.0]),
                scale: Tensor::new([2.0f32]).unwrap().requires_grad().unwrap(),
            }
        }

        fn loss(&self, x: &Tensor) -> Tensor {
            let parts = [&self.first, &self.dead].map(|l| l.forward(x).unwrap().relu().unwrap());
            let y = self.out.forward(&Tensor::cat(&parts, 1).unwrap()).unwrap();
            y.mul(&self.scale).unwrap().sum(..).unwrap()
        }
    }

    fn input() -> Tensor {
        Tensor::new([[1.0f32, 1.0], [2.0, 0.5]]).unwrap()
    }

    #[test]
    fn flow_by_layer() {
        let model = Mlp::new();
        let flow = model.loss(&input()).backward().unwrap().flow(&model).unwrap();
        let names: Vec<&str> = flow.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["first", "dead", "out", ""]);
        assert_eq!(flow.iter().map(|l| l.elements).collect::<Vec<_>>(), [12, 9, 8, 1]);
        assert_eq!(flow.iter().map(|l| l.dead_units).collect::<Vec<_>>(), [Some(0.75), Some(1.0), Some(0.0), None]);
        // first: only unit 0 is on, for both inputs: dW = 2 (x₁ + x₂) = (6, 3), db = 4.
        assert!((flow[0].grad_norm - (36f64 + 9.0 + 16.0).sqrt()).abs() < 1e-12);
        assert_eq!(flow[1].grad_norm, 0.0);
        // out: h = (3, 0, …) and (3, 0, …): dW = 2 (3 + 3), db = 4.
        assert!((flow[2].grad_norm - (144f64 + 16.0).sqrt()).abs() < 1e-12);
        // scale: y = 3 + 3.
        assert_eq!((flow[3].grad_norm, flow[3].weight_norm), (6.0, 2.0));
        assert!((flow[1].weight_norm - 306f64.sqrt()).abs() < 1e-12);
        assert!(flow.iter().all(|l| l.update_ratio.is_none()));
    }

    #[test]
    fn what_has_no_gradient() {
        let mut model = Mlp::new();
        // Tracked, but the loss does not depend on it.
        let grads = model.out.forward(&Tensor::ones([1, 7], DType::F32).unwrap()).unwrap().sum(..).unwrap();
        let grads = grads.backward().unwrap();
        let flow = grads.flow(&model).unwrap();
        assert_eq!((flow[0].grad_norm, flow[0].dead_units), (0.0, Some(1.0)));
        assert_eq!(flow[2].dead_units, Some(0.0));
        // Frozen: left out.
        model.first.set_requires_grad(false).unwrap();
        assert_eq!(grads.flow(&model).unwrap().len(), 3);
    }

    #[test]
    fn a_row_of_nan_is_not_dead_and_halves_do_not_overflow() {
        let model = linear(Tensor::full([2, 2], 300.0, DType::F16).unwrap(), vec![]);
        let mut grads = Gradients::new();
        let grad = Tensor::new([[f32::NAN, 0.0], [0.0, -0.0]]).unwrap().to_dtype(DType::F16).unwrap();
        grads.insert(&model.weight, grad).unwrap();
        let flow = grads.flow(&model).unwrap();
        assert_eq!((flow[0].dead_units, flow[0].weight_norm), (Some(0.5), 600.0));
        assert!(flow[0].grad_norm.is_nan());
        let read: LayerFlow = serde_json::from_str(&serde_json::to_string(&flow[0]).unwrap()).unwrap();
        assert!(read.grad_norm.is_nan() && read.weight_norm == 600.0);
    }

    #[test]
    fn the_update_ratio_is_that_of_the_step() {
        let mut model = Mlp::new();
        let mut optimizer = Optimizer::new(Sgd { lr: 0.5, ..Sgd::default() });
        let mut recorder = FlowRecorder::new();
        let grads = model.loss(&input()).backward().unwrap();
        let flow = grads.flow(&model).unwrap();
        recorder.before(&model);
        optimizer.step(&mut model, &grads).unwrap();
        let record = recorder.after(7, &model, &grads).unwrap();
        assert_eq!(record.step, 7);
        for (layer, before) in record.layers.iter().zip(&flow) {
            // Plain SGD: Δw = lr g.
            let expected = 0.5 * before.grad_norm / before.weight_norm;
            assert!((layer.update_ratio.unwrap() - expected).abs() < 1e-6, "{layer:?}");
            assert_eq!(LayerFlow { update_ratio: None, ..layer.clone() }, *before);
        }
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<FlowRecord>(&line).unwrap(), record);
        assert!(
            !line.contains('\n') && line.contains(r#"{"step":7,"layers":[{"name":"first","elements":12,"#),
            "{line}"
        );

        assert!(recorder.after(8, &model, &grads).is_err());
        recorder.before(&model);
        let error = recorder.after(8, &model.dead, &grads).unwrap_err().to_string();
        assert!(error.contains("first.weight is not what it was"), "{error}");
    }

    #[test]
    fn a_layer_of_zeros_has_no_ratio() {
        let mut model = linear(Tensor::zeros([2, 2], DType::F32).unwrap(), vec![0.0; 2]);
        let grads = model.forward(&input()).unwrap().sum(..).unwrap().backward().unwrap();
        let mut recorder = FlowRecorder::new();
        recorder.before(&model);
        Optimizer::new(Sgd { lr: 0.5, ..Sgd::default() }).step(&mut model, &grads).unwrap();
        assert_eq!(recorder.after(0, &model, &grads).unwrap().layers[0].update_ratio, None);
    }
}
