//! Low-rank adaptation: a trained network learns more through two thin matrices beside each of its large ones.

use std::collections::HashMap;

use rushlight::nn::{Description, Kind, Module, Path, Visitor, VisitorMut};
use rushlight::{DType, Error, Result, Tensor, no_grad};

const OP: &str = "Lora";

/// Adapters of a network: in place of a matrix `W`, `[out, in]`, that stays as it is, it works with
///
/// `W + α/r · B A`, where `A` is `[r, in]`, `B` is `[out, r]`, and both learn.
///
/// `A` begins normal with deviation `1/√in` and `B` as 0, so that the network begins as it was. The adapters are a
/// [`Module`]: their parameters are all that an optimizer is given, named `….lora_A.weight` and `….lora_B.weight`.
///
/// The sum is a tensor like any other, recorded in the graph. So every network can be adapted, none has to know of it,
/// and a step costs the network's own one and `2 · r · out · in` operations for each matrix; what is saved is the
/// optimizer's memory and the gradients of all other matrices.
///
/// PEFT: `LoraConfig(r, lora_alpha, target_modules)`, `merge_and_unload`. Source: Hu et al. 2021, arXiv 2106.09685.
///
/// ```
/// use rushlight::optim::{AdamW, Optimizer};
/// use rushlight::{Tensor, loss};
/// use rushlight_models::{Gpt, GptConfig, Lora};
///
/// let config = GptConfig { vocab_size: 8, block_size: 4, n_layer: 1, n_head: 1, n_embd: 8, ..GptConfig::gpt2() };
/// let mut gpt = Gpt::new(&config)?;
/// let mut lora = Lora::new(&mut gpt, 2, 4.0, |name| name.ends_with("c_attn.weight"))?;
/// let mut optimizer = Optimizer::new(AdamW::default());
/// let (x, y) = (Tensor::new([[1i64, 2, 3]])?, Tensor::new([2i64, 3, 4])?);
/// for _ in 0..3 {
///     lora.apply(&mut gpt)?; // the matrices of this step
///     let loss = loss::cross_entropy(&gpt.forward(&x)?.reshape([3, 8])?, &y)?;
///     let grads = loss.backward()?;
///     optimizer.step(&mut lora, &grads)?;
/// }
/// lora.merge(&mut gpt)?; // an ordinary Gpt again
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct Lora {
    adapters: Vec<Adapter>,
    scale: f64,
}

struct Adapter {
    /// The matrix's name in the network, without the `.weight` at its end.
    name: String,
    base: Tensor,
    a: Tensor,
    b: Tensor,
}

impl Lora {
    /// Adapters of rank `r` for the matrices of `model` whose names `wanted` picks, with α = `alpha`. No parameter of the
    /// model asks for gradients after that.
    ///
    /// Errors: `r` is 0; no name is picked; one is of no matrix of floats.
    pub fn new(model: &mut dyn Module, r: usize, alpha: f64, wanted: impl Fn(&str) -> bool) -> Result<Lora> {
        if r == 0 || !alpha.is_finite() {
            let message = format!("rank {r} and alpha {alpha}: expected a rank of 1 or more and a finite number");
            return Err(Error::invalid(OP, message));
        }
        let mut adapters = vec![];
        for (name, tensor) in model.named_parameters().into_iter().filter(|(name, _)| wanted(name)) {
            let &[out, inner] = tensor.dims() else {
                let message = format!("{name} has shape {:?}: only matrices can be adapted", tensor.dims());
                return Err(Error::invalid(OP, message));
            };
            let std = 1.0 / (inner.max(1) as f64).sqrt();
            let a = Tensor::normal([r, inner], 0.0, std, DType::F32)?.to_dtype(tensor.dtype())?.requires_grad()?;
            let b = Tensor::zeros([out, r], tensor.dtype())?.requires_grad()?;
            let name = name.strip_suffix(".weight").unwrap_or(&name).to_string();
            adapters.push(Adapter { name, base: tensor.detach(), a, b });
        }
        if adapters.is_empty() {
            return Err(Error::invalid(OP, "no parameter of the model has a name that was asked for"));
        }
        model.visit_mut(&mut Path::default(), &mut |_, kind, t| {
            if kind == Kind::Parameter {
                *t = t.detach();
            }
            Ok(())
        })?;
        Ok(Lora { adapters, scale: alpha / r as f64 })
    }

    /// Gives the model its matrices for the next step, which follow the adapters: after [`Lora::new`], and after every step
    /// of the optimizer. Errors: a model without one of the matrices, or with one of another shape; it is left as it was.
    pub fn apply(&self, model: &mut dyn Module) -> Result<()> {
        let adapted = |adapter: &Adapter| {
            let change = adapter.b.matmul(&adapter.a)?.mul(self.scale)?; // [out, in]
            adapter.base.add(&change)
        };
        let mut new = HashMap::new();
        for adapter in &self.adapters {
            new.insert(adapter.name.as_str(), adapted(adapter)?);
        }
        fn of(name: &str) -> &str {
            name.strip_suffix(".weight").unwrap_or(name)
        }
        let parameters = model.named_parameters();
        let fits = |adapter: &&Adapter| {
            let found = parameters.iter().find(|(name, _)| of(name) == adapter.name);
            found.is_none_or(|(_, tensor)| tensor.dims() != adapter.base.dims())
        };
        if let Some(adapter) = self.adapters.iter().find(fits) {
            let message = format!("the model has no {} of shape {:?}", adapter.name, adapter.base.dims());
            return Err(Error::invalid(OP, message));
        }
        model.visit_mut(&mut Path::default(), &mut |name, _, t| {
            if let Some(tensor) = new.remove(of(name)) {
                *t = tensor;
            }
            Ok(())
        })
    }

    /// Leaves what was learnt in the model's own matrices, all of which ask for gradients again: saved and loaded, it is
    /// a model like the one before. Errors: as of [`Lora::apply`].
    pub fn merge(self, model: &mut dyn Module) -> Result<()> {
        no_grad(|| self.apply(model))?;
        model.visit_mut(&mut Path::default(), &mut |_, kind, t| {
            if kind == Kind::Parameter {
                *t = t.detach().requires_grad()?;
            }
            Ok(())
        })
    }
}

impl Module for Lora {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        for Adapter { name, a, b, .. } in &self.adapters {
            path.enter(&format!("{name}.lora_A.weight"), |p| f(p.name(), Kind::Parameter, a));
            path.enter(&format!("{name}.lora_B.weight"), |p| f(p.name(), Kind::Parameter, b));
        }
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        for Adapter { name, a, b, .. } in &mut self.adapters {
            path.enter(&format!("{name}.lora_A.weight"), |p| f(p.name(), Kind::Parameter, a))?;
            path.enter(&format!("{name}.lora_B.weight"), |p| f(p.name(), Kind::Parameter, b))?;
        }
        Ok(())
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        let r = self.adapters.first().map_or(0, |adapter| adapter.a.dims()[0]);
        Description::leaf("Lora", format!("{} matrices, r={r}, scale={}", self.adapters.len(), self.scale))
    }
}
