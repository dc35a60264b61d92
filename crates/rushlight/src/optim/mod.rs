//! Optimizers: SGD, Adam, AdamW, RMSprop and Adagrad, by PyTorch's formulas; schedules, gradient clipping, gradient
//! flow.

mod algorithm;
mod clip;
pub mod flow;
mod schedule;
mod shard;

use std::collections::BTreeMap;

pub use algorithm::{Adagrad, Adam, AdamW, Algorithm, RmsProp, Sgd};
pub use schedule::{Anneal, ReduceOnPlateau, Schedule};
pub use shard::Shard;

use crate::dtype::each_float;
use crate::nn::{Kind, Module, Path, StateDict};
use crate::{Error, Gradients, Result, Tensor, no_grad};

/// Settings for some of the parameters, instead of the algorithm's.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Group {
    /// Which parameters: dotted names, where `*` stands for any characters, as in `*.bias`.
    pub names: Vec<String>,
    /// Multiplies the learning rate.
    pub lr_scale: Option<f64>,
    /// Takes the place of the weight decay.
    pub weight_decay: Option<f64>,
}

/// Updates the parameters of a model by their gradients.
///
/// ```
/// use rushlight::nn::{Layer, Linear, Module};
/// use rushlight::optim::{AdamW, Optimizer};
/// use rushlight::{DType, Tensor};
///
/// let mut model = Linear::new(2, 1)?;
/// let mut optimizer = Optimizer::new(AdamW { lr: 0.1, ..AdamW::default() });
/// let (x, y) = (Tensor::randn([16, 2], DType::F32)?, Tensor::ones([16, 1], DType::F32)?);
/// let loss = |m: &Linear| m.forward(&x)?.sub(&y)?.square()?.mean(..);
/// let before = loss(&model)?.item::<f32>()?;
/// for _ in 0..20 {
///     let grads = loss(&model)?.backward()?;
///     optimizer.step(&mut model, &grads)?;
/// }
/// assert!(loss(&model)?.item::<f32>()? < before);
/// # Ok::<(), rushlight::Error>(())
/// ```
///
/// State is kept by the parameter's dotted name. A parameter that is tracked but has no gradient is an error (the loss
/// does not depend on it, or it was replaced), unless [`Optimizer::allow_missing`] says that this is meant.
pub struct Optimizer {
    algorithm: Algorithm,
    groups: Vec<Group>,
    states: BTreeMap<String, State>,
    allow_missing: bool,
    shard: Shard,
}

#[derive(Default)]
struct State {
    step: i64,
    buffers: Vec<Tensor>,
}

impl Optimizer {
    /// With the same settings for all parameters.
    pub fn new(algorithm: impl Into<Algorithm>) -> Optimizer {
        Optimizer {
            algorithm: algorithm.into(),
            groups: vec![],
            states: BTreeMap::new(),
            allow_missing: false,
            shard: Shard::default(),
        }
    }

    /// Other settings for the parameters that `group` names; of several groups the first that fits counts.
    pub fn with_group(mut self, group: Group) -> Optimizer {
        self.groups.push(group);
        self
    }

    /// Whether [`Optimizer::step`] leaves a tracked parameter without a gradient as it is, instead of refusing.
    pub fn allow_missing(mut self, allow: bool) -> Optimizer {
        self.allow_missing = allow;
        self
    }

    /// Has it keep states of, and update, one part of each parameter's elements: the first stage of ZeRO, where as many
    /// machines each keep a part and give each other what they updated.
    ///
    /// Its states are then vectors, one part each; [`Optimizer::load_state_dict`] takes whole ones and keeps its part.
    /// To be called before the first step. Source: Rajbhandari et al. 2019, "ZeRO". PyTorch:
    /// `ZeroRedundancyOptimizer`, which gives whole parameters to each.
    pub fn with_shard(mut self, shard: Shard) -> Optimizer {
        self.shard = shard;
        self
    }

    /// The algorithm and its settings.
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.algorithm.lr()
    }

    /// Sets the learning rate, as a schedule does before each step.
    pub fn set_lr(&mut self, lr: f64) {
        self.algorithm.set_lr(lr);
    }

    /// One update of every parameter of `model`, in its own memory where nobody else holds it.
    ///
    /// Frozen parameters stay. Errors (and nothing is changed): a tracked parameter without a gradient, all of them
    /// named; a gradient of another shape.
    pub fn step(&mut self, model: &mut (impl Module + ?Sized), grads: &Gradients) -> Result<()> {
        let mut missing = vec![];
        model.visit(&mut Path::default(), &mut |name, kind, t| {
            if kind == Kind::Parameter && t.is_tracked() && grads.get(t).is_none() {
                missing.push(name.to_string());
            }
        });
        if !missing.is_empty() && !self.allow_missing {
            let message = format!(
                "no gradient for {}: the loss does not depend on them; freeze them with set_requires_grad(false), or \
                 build the optimizer with allow_missing(true)",
                missing.join(", ")
            );
            return Err(Error::invalid("step", message));
        }
        no_grad(|| {
            model.visit_mut(&mut Path::default(), &mut |name, kind, t| match (kind, grads.get(t)) {
                (Kind::Parameter, Some(grad)) => self.update(name, t, grad),
                _ => Ok(()),
            })
        })
    }

    fn update(&mut self, name: &str, param: &mut Tensor, grad: &Tensor) -> Result<()> {
        let group = self.groups.iter().find(|g| g.names.iter().any(|p| matches(p, name)));
        let algorithm = match group {
            Some(group) => &self.algorithm.with(group),
            None => &self.algorithm,
        };
        // Two searches, but a new name for the first step alone.
        if !self.states.contains_key(name) {
            self.states.insert(name.to_string(), Default::default());
        }
        let Some(state) = self.states.get_mut(name) else { return Ok(()) };
        state.step += 1;
        if state.buffers.is_empty() {
            let start = |&v: &f64| match self.shard.is_whole() {
                true => param.full_like(v),
                false => Tensor::full(self.shard.range(param.numel()).len(), v, param.dtype()),
            };
            state.buffers = algorithm.start().iter().map(start).collect::<Result<_>>()?;
        }
        let (grad, part) = (grad.packed()?, self.shard.range(param.numel()));
        each_float!("step", param.dtype(), T => {
            let buffers = state.buffers.iter_mut().map(|b| b.make_mut::<T>("step")).collect::<Result<Vec<_>>>()?;
            let (param, grad) = (param.make_mut::<T>("step")?, grad.slice::<T>("step")?);
            if param.len() != grad.len() {
                let message = format!("{name} has {} elements, its gradient {}", param.len(), grad.len());
                return Err(Error::invalid("step", message));
            }
            algorithm.apply(state.step, &mut param[part.clone()], &grad[part], buffers)
        })
    }

    /// The optimizer's state by `parameter.buffer`, to be saved beside the model. PyTorch: `state_dict()`.
    pub fn state_dict(&self) -> Result<StateDict> {
        let names = self.algorithm.buffers();
        let mut out = StateDict::new();
        for (param, state) in &self.states {
            out.insert(format!("{param}.step"), Tensor::from_vec(vec![state.step], ())?);
            for (buffer, value) in names.iter().zip(&state.buffers) {
                out.insert(format!("{param}.{buffer}"), value.clone());
            }
        }
        Ok(out)
    }

    /// Takes up a saved state. Errors: a name that this algorithm does not use; a buffer that is missing.
    pub fn load_state_dict(&mut self, saved: &StateDict) -> Result<()> {
        let op = "load_state_dict";
        let names = self.algorithm.buffers();
        let mut states = BTreeMap::new();
        for (key, value) in saved {
            let (param, buffer) = key.rsplit_once('.').unwrap_or(("", key));
            if buffer == "step" {
                let find = |b: &&str| {
                    let missing = || Error::invalid(op, format!("the optimizer's state lacks {param}.{b}"));
                    self.shard.of(saved.get(&format!("{param}.{b}")).ok_or_else(missing)?)
                };
                let buffers = names.iter().map(find).collect::<Result<_>>()?;
                states.insert(param.to_string(), State { step: value.item()?, buffers });
            } else if !names.contains(&buffer) || !saved.contains_key(&format!("{param}.step")) {
                return Err(Error::invalid(op, format!("the optimizer has no state named {key}")));
            }
        }
        self.states = states;
        Ok(())
    }
}

/// Whether `name` fits `pattern`, where `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name
            .strip_prefix(head)
            .is_some_and(|tail| (0..=tail.len()).any(|i| tail.is_char_boundary(i) && matches(rest, &tail[i..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_names() {
        assert!(matches("*.bias", "conv1.bias") && matches("ln*", "ln1.weight") && matches("*norm*", "a.norm.b"));
        assert!(matches("a.b", "a.b") && !matches("a.b", "a.bc") && !matches("*.bias", "bias"));
    }
}
