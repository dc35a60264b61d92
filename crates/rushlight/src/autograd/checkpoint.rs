//! Gradient checkpointing: memory for time.

use std::sync::Arc;

use super::backward::Walk;
use super::node::Rule;
use super::{Grads, Node, is_grad_enabled, no_grad, set_grad_enabled, watch};
use crate::{Error, Result, Tensor, random};

/// Runs `f` without saving what its operations need for backward, and runs it again when the gradients are asked for.
///
/// The second run starts from the same state of this thread's generator, so dropout drops the same. Tracked tensors
/// that `f` captures, such as a layer's weights, get their gradients too. There are no second gradients.
/// PyTorch: `torch.utils.checkpoint.checkpoint`. Source: Chen et al. 2016, "Training Deep Nets with Sublinear
/// Memory Cost".
///
/// ```
/// # use rushlight::{Tensor, checkpoint};
/// let x = Tensor::new([0.5f32])?.requires_grad()?;
/// let w = Tensor::new([2.0f32])?.requires_grad()?;
/// let captured = w.clone();
/// let y = checkpoint(&[&x], move |x| x[0].mul(&captured)?.sin())?;
/// let grads = y.sum(..)?.backward()?;
/// assert_eq!(grads.get(&w).unwrap().item::<f32>()?, 1f32.cos() * 0.5);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn checkpoint(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !is_grad_enabled() {
        return f(&inputs.iter().map(|t| (*t).clone()).collect::<Vec<_>>());
    }
    let saved: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let tracked: Vec<bool> = inputs.iter().map(|t| t.is_tracked()).collect();
    let before = random::state();
    let (output, captured) = watch(|| no_grad(|| f(&saved)));
    let output = output?.detach();
    if captured.is_empty() && !tracked.contains(&true) {
        return Ok(output);
    }
    let nodes = inputs.iter().map(|t| t.node().cloned()).chain(captured.iter().cloned().map(Some)).collect();
    let ids: Vec<u64> = captured.iter().map(|n| n.id).collect();
    let rule = move |_: &Tensor, dy: &Tensor| {
        if is_grad_enabled() {
            return Err(Error::gradient("checkpoint", "has no second gradient; run the function without checkpoint"));
        }
        let after = random::state();
        random::set_state(before.clone());
        let again = set_grad_enabled(true, || -> Result<_> {
            let fresh = saved.iter().zip(&tracked).map(|(t, &on)| if on { t.requires_grad() } else { Ok(t.clone()) });
            let leaves: Vec<Tensor> = fresh.collect::<Result<_>>()?;
            Ok((f(&leaves)?, leaves))
        });
        random::set_state(after);
        let (y, leaves) = again?;
        // One walk to the fresh leaves and to the captured tensors, and no further.
        let wanted: Vec<Option<u64>> =
            leaves.iter().map(|l| l.node().map(|n| n.id)).chain(ids.iter().copied().map(Some)).collect();
        let found = Walk::to(wanted.iter().flatten().copied()).from(&y, dy)?;
        Ok(wanted.iter().map(|id| found.get(&(*id)?).cloned()).collect::<Grads>())
    };
    let node =
        Node::inner("checkpoint", &output, nodes, Rule { backward: Box::new(rule), output: None, in_place: None });
    Ok(output.with_node(Some(Arc::new(node))))
}
