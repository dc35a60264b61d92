//! Gradients as a value: what a backward walk returns.

use rustc_hash::FxHashMap;

use crate::{Error, Result, Tensor, no_grad};

/// The gradient of each leaf that a backward walk reached.
///
/// ```
/// # use rushlight::Tensor;
/// let w = Tensor::new([3.0f32, 4.0])?.requires_grad()?;
/// let grads = w.square()?.sum(..)?.backward()?;
/// assert_eq!(grads.get(&w).unwrap().to_vec::<f32>()?, [6.0, 8.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Default, Clone)]
pub struct Gradients {
    pub(super) by_leaf: FxHashMap<u64, Tensor>,
}

impl Gradients {
    /// No gradients yet.
    pub fn new() -> Gradients {
        Gradients::default()
    }

    /// The gradient of `leaf`, or `None` if the loss did not depend on it (or it is not tracked).
    pub fn get(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.by_leaf.get(&leaf.node()?.id)
    }

    /// Puts `grad` in the place of the gradient of `leaf`. Errors: `leaf` is not tracked, or the shapes differ.
    pub fn insert(&mut self, leaf: &Tensor, grad: Tensor) -> Result<()> {
        let node = leaf.node().ok_or_else(|| Error::gradient("insert", "the tensor is not tracked"))?;
        if grad.shape() != leaf.shape() {
            let message = format!("the gradient has shape {}, its tensor {}", grad.shape(), leaf.shape());
            return Err(Error::gradient("insert", message));
        }
        self.by_leaf.insert(node.id, grad);
        Ok(())
    }

    /// Takes the gradient of `leaf` out.
    pub fn remove(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.by_leaf.remove(&leaf.node()?.id)
    }

    /// Every gradient with the [`Tensor::graph_id`] of its leaf.
    pub fn into_ids(self) -> impl Iterator<Item = (u64, Tensor)> {
        self.by_leaf.into_iter()
    }

    /// How many leaves have a gradient.
    pub fn len(&self) -> usize {
        self.by_leaf.len()
    }

    /// Whether no leaf has a gradient.
    pub fn is_empty(&self) -> bool {
        self.by_leaf.is_empty()
    }

    /// Adds the gradients of another backward walk: gradient accumulation over several small batches.
    pub fn accumulate(&mut self, other: Gradients) -> Result<()> {
        for (id, grad) in other.by_leaf {
            let sum = match self.by_leaf.remove(&id) {
                Some(old) => add_into(old, &grad)?,
                None => grad,
            };
            self.by_leaf.insert(id, sum);
        }
        Ok(())
    }

    /// Multiplies every gradient by `factor`: 1/n makes an accumulated sum over n batches their mean.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        self.update(|g| g.mul(factor))
    }

    /// The gradients, that of the oldest leaf first.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Tensor> {
        let mut all: Vec<_> = self.by_leaf.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all.into_iter().map(|(_, grad)| grad)
    }

    /// Replaces every gradient by `f` of it.
    pub(crate) fn update(&mut self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        no_grad(|| {
            for grad in self.by_leaf.values_mut() {
                *grad = f(grad)?;
            }
            Ok(())
        })
    }
}

/// `a + b`, in the memory of `a` where nobody else holds it.
pub(super) fn add_into(mut a: Tensor, b: &Tensor) -> Result<Tensor> {
    a.add_in_place(b)?;
    Ok(a)
}
