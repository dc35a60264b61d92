//! A small network that learns points of the unit square, and what there is to see of it.

use rushlight::data::points::{PointSet, points};
use rushlight::nn::{BoxedLayer, Gate, Gelu, Linear, MixtureOfExperts, Relu, Sequential, Sigmoid, Tanh};
use rushlight::optim::flow::{FlowRecord, FlowRecorder};
use rushlight::optim::{Adagrad, Adam, AdamW, Algorithm, Optimizer, RmsProp, Sgd};
use rushlight::{DType, Tensor, loss, no_grad, random};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What is learned, by what.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One of the six, or none for `points`.
    set: Option<PointSetName>,
    /// `[x, y, label]` of one's own points.
    #[serde(default)]
    points: Vec<(f32, f32, bool)>,
    /// Points of the set.
    count: usize,
    /// Widths of the hidden layers.
    hidden: Vec<usize>,
    activation: Activation,
    kind: Kind,
    /// Experts of a mixture.
    experts: usize,
    optimizer: Rule,
    pub lr: f64,
    seed: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum PointSetName {
    Simple,
    Diag,
    Split,
    Xor,
    Circle,
    Spiral,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    Gelu,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// One network
    Plain,
    /// A soft gate between two
    Gate,
    /// A dense mixture of experts
    Mixture,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Rule {
    Sgd,
    Adam,
    AdamW,
    RmsProp,
    Adagrad,
}

impl Config {
    pub fn check(&self) -> Outcome {
        let within = |name: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} {value}: expected {least} to {most}")),
        };
        if self.set.is_some() {
            within("count", self.count, 2, 1000)?;
        } else {
            within("points drawn", self.points.len(), 2, 1000)?;
        }
        within("hidden layers", self.hidden.len(), 0, 5)?;
        self.hidden.iter().try_for_each(|&w| within("width", w, 1, 64))?;
        within("experts", self.experts, 2, 8)?;
        if !self.points.iter().all(|(x, y, _)| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y)) {
            return Err("a point lies outside of the unit square".into());
        }
        if !(0.0..=10.0).contains(&self.lr) {
            return Err(format!("lr {}: expected 0 to 10", self.lr).into());
        }
        Ok(())
    }

    fn network(&self) -> rushlight::Result<Sequential> {
        let widths: Vec<usize> = [&[2][..], &self.hidden, &[2]].concat();
        let mut net = Sequential::new();
        for (i, w) in widths.windows(2).enumerate() {
            net = net.push(Linear::new(w[0], w[1])?);
            if i + 2 < widths.len() {
                net = match self.activation {
                    Activation::Relu => net.push(Relu),
                    Activation::Tanh => net.push(Tanh),
                    Activation::Sigmoid => net.push(Sigmoid),
                    Activation::Gelu => net.push(Gelu),
                };
            }
        }
        Ok(net)
    }

    fn model(&self) -> rushlight::Result<BoxedLayer> {
        Ok(match self.kind {
            Kind::Plain => Box::new(self.network()?),
            Kind::Gate => Box::new(Gate::new(self.network()?, self.network()?, Linear::new(2, 1)?)),
            Kind::Mixture => {
                let expert = |_| Ok(Box::new(self.network()?) as BoxedLayer);
                let experts = (0..self.experts).map(expert).collect::<rushlight::Result<_>>()?;
                Box::new(MixtureOfExperts::new(experts, Linear::new(2, self.experts)?, None)?)
            }
        })
    }

    fn algorithm(&self) -> Algorithm {
        let lr = self.lr;
        match self.optimizer {
            Rule::Sgd => Sgd { lr, momentum: 0.9, ..Sgd::default() }.into(),
            Rule::Adam => Adam { lr, ..Adam::default() }.into(),
            Rule::AdamW => AdamW { lr, ..AdamW::default() }.into(),
            Rule::RmsProp => RmsProp { lr, ..RmsProp::default() }.into(),
            Rule::Adagrad => Adagrad { lr, ..Adagrad::default() }.into(),
        }
    }

    fn data(&self) -> Vec<(f32, f32, bool)> {
        let set = match self.set {
            None => return self.points.clone(),
            Some(PointSetName::Simple) => PointSet::Simple,
            Some(PointSetName::Diag) => PointSet::Diag,
            Some(PointSetName::Split) => PointSet::Split,
            Some(PointSetName::Xor) => PointSet::Xor,
            Some(PointSetName::Circle) => PointSet::Circle,
            Some(PointSetName::Spiral) => PointSet::Spiral,
        };
        let p = points(set, self.count, self.seed);
        p.xy.iter().zip(&p.labels).map(|(&[x, y], &l)| (x, y, l)).collect()
    }
}

/// A network in training, on all points at each step.
pub struct Learner {
    points: Vec<(f32, f32, bool)>,
    x: Tensor,
    y: Tensor,
    grid: Tensor,
    model: BoxedLayer,
    optimizer: Optimizer,
    flow: Option<FlowRecord>,
    step: u64,
    loss: Option<f64>,
    /// Step, loss and accuracy before it, thinned.
    history: Vec<(u64, f64, f64)>,
    every: u64,
}

/// What a page shows of it.
#[derive(Serialize)]
pub struct Shown<'a> {
    step: u64,
    /// Of the last step.
    loss: Option<f64>,
    /// Of the network as it is.
    accuracy: f64,
    points: &'a [(f32, f32, bool)],
    history: &'a [(u64, f64, f64)],
    flow: Option<&'a FlowRecord>,
    side: usize,
    /// The probability of class 1 in hundredths over the unit square, row by row from y = 0.
    boundary: Vec<u8>,
}

const SIDE: usize = 40;
/// Points of the history.
const THINNED: usize = 300;

/// Moved to be centred on 0.
fn centred(x: &Tensor) -> rushlight::Result<Tensor> {
    x.mul(2.0)?.sub(1.0)
}

impl Learner {
    pub fn new(config: &Config) -> Outcome<Learner> {
        config.check()?;
        random::manual_seed(config.seed);
        let points = config.data();
        let n = points.len();
        let x = centred(&Tensor::from_vec(points.iter().flat_map(|&(x, y, _)| [x, y]).collect(), [n, 2])?)?;
        let y = Tensor::from_vec(points.iter().map(|p| p.2 as i64).collect(), n)?;
        let axis = Tensor::linspace(0.5 / SIDE as f64, 1.0 - 0.5 / SIDE as f64, SIDE, DType::F32)?;
        let axes = [axis.unsqueeze(0)?.expand([SIDE, SIDE])?, axis.unsqueeze(1)?.expand([SIDE, SIDE])?];
        let grid = centred(&Tensor::stack(&axes, -1)?.reshape([SIDE * SIDE, 2])?)?;
        let (model, optimizer) = (config.model()?, Optimizer::new(config.algorithm()));
        let (flow, loss, history) = (None, None, vec![]);
        Ok(Learner { points, x, y, grid, model, optimizer, flow, step: 0, loss, history, every: 1 })
    }

    pub fn set_lr(&mut self, lr: f64) {
        self.optimizer.set_lr(lr);
    }

    fn accuracy(&self, output: &Tensor) -> rushlight::Result<f64> {
        let right = output.detach().argmax(-1)?.eq(&self.y)?.sum(..)?.item::<i64>()?;
        Ok(right as f64 / self.points.len() as f64)
    }

    /// Errors: a loss that is no number; the network stays as it was.
    pub fn step(&mut self) -> Outcome {
        let output = self.model.forward(&self.x)?;
        let loss = loss::cross_entropy(&output, &self.y)?;
        let value = loss.item::<f64>()?;
        if !value.is_finite() {
            return Err(format!("the loss is {value} at step {}; a lower rate may help", self.step).into());
        }
        let accuracy = self.accuracy(&output)?;
        let grads = loss.backward()?;
        let mut recorder = FlowRecorder::new();
        recorder.before(&self.model);
        self.optimizer.step(&mut self.model, &grads)?;
        self.flow = Some(recorder.after(self.step, &self.model, &grads)?);
        self.loss = Some(value);
        if self.step.is_multiple_of(self.every) {
            self.history.push((self.step, value, accuracy));
            if self.history.len() > THINNED {
                self.every *= 2;
                let every = self.every;
                self.history.retain(|h| h.0.is_multiple_of(every));
            }
        }
        self.step += 1;
        Ok(())
    }

    pub fn shown(&self) -> Outcome<Shown<'_>> {
        let accuracy = self.accuracy(&no_grad(|| self.model.forward(&self.x))?)?;
        let p = no_grad(|| self.model.forward(&self.grid)?.softmax(-1)?.select(1, 1))?.to_vec::<f32>()?;
        Ok(Shown {
            step: self.step,
            loss: self.loss,
            accuracy,
            points: &self.points,
            history: &self.history,
            flow: self.flow.as_ref(),
            side: SIDE,
            boundary: p.iter().map(|p| (100.0 * p).round() as u8).collect(),
        })
    }
}
