//! What a binding to another language needs of the graph: a tensor's place in it, other values there, hooks.

use std::sync::{Arc, Weak};

use super::Node;
use crate::{Error, Result, Tensor};

/// Takes a hook off again; see [`Tensor::register_hook`].
pub struct HookHandle {
    node: Weak<Node>,
    number: u64,
}

impl HookHandle {
    /// The hook is not called any more. PyTorch: `handle.remove()`.
    pub fn remove(&self) {
        if let Some(node) = self.node.upgrade() {
            drop(node.unhook(self.number));
        }
    }
}

impl Tensor {
    /// The number of this tensor's place in the graph, if it is tracked: what [`crate::Gradients::into_ids`] names.
    pub fn graph_id(&self) -> Option<u64> {
        self.node().map(|n| n.id)
    }

    /// `values` in the place of this in the graph, so that gradients found for this are found for it.
    /// PyTorch: `x.data = values`. Errors: another shape or dtype.
    pub fn with_data(&self, values: &Tensor) -> Result<Tensor> {
        if self.is_tracked() && (values.shape() != self.shape() || values.dtype() != self.dtype()) {
            let message = format!(
                "values of shape {} and dtype {} cannot take the place of {} and {} in the graph",
                values.shape(),
                values.dtype(),
                self.shape(),
                self.dtype()
            );
            return Err(Error::gradient("data", message));
        }
        Ok(values.with_node(self.node().cloned()))
    }

    /// Calls `hook` with the gradient of this tensor in every backward walk, once it is complete; what it returns takes
    /// the gradient's place. PyTorch: `register_hook`. Errors: the tensor is not tracked.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([2.0f32])?.requires_grad()?;
    /// let y = x.square()?;
    /// y.register_hook(|dy| Ok(Some(dy.mul(10.0)?)))?;
    /// assert_eq!(y.sum(..)?.backward()?.get(&x).unwrap().to_vec::<f32>()?, [40.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn register_hook(
        &self,
        hook: impl Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync + 'static,
    ) -> Result<HookHandle> {
        let node = self.node().ok_or_else(|| Error::gradient("register_hook", "the tensor is not tracked"))?;
        let number = node.hook(Arc::new(hook));
        Ok(HookHandle { node: Arc::downgrade(node), number })
    }
}
