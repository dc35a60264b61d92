//! The walk back: from outputs to leaves, newest node first.

use std::collections::BinaryHeap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::gradients::add_into;
use super::interrupt::interrupted;
use super::{Gradients, InPlace, Node, node::Rule, set_grad_enabled};
use crate::{Error, Result, Tensor};

impl Tensor {
    /// The gradients of this scalar with respect to every tracked leaf it was computed from.
    ///
    /// What the operations saved is freed as the walk passes, so a second walk over the same graph is an error; use
    /// [`grad`] to keep it. PyTorch: `loss.backward()`.
    ///
    /// Errors: more than one element (see [`Tensor::backward_with`]); not tracked; walked before.
    pub fn backward(&self) -> Result<Gradients> {
        if self.numel() != 1 {
            let message =
                format!("a loss has one element, this has shape {}; reduce it or use backward_with", self.shape());
            return Err(Error::gradient("backward", message));
        }
        self.backward_with(&self.ones_like()?)
    }

    /// [`Tensor::backward`] of `Σ self · grad`, for an output of any shape. PyTorch: `y.backward(grad)`.
    pub fn backward_with(&self, grad: &Tensor) -> Result<Gradients> {
        backward(&[(self, grad)], false, false)
    }

    /// [`Tensor::backward_with`] that gives each leaf's gradient to `ready`, beside the leaf's [`Tensor::leaf_id`], as
    /// soon as it is whole, while the walk goes on: so that gradients can be sent before backward is over.
    ///
    /// The order is that of the walk: parameters used last come first. PyTorch:
    /// `register_post_accumulate_grad_hook`, on which its `DistributedDataParallel` is built.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let w = Tensor::new([3.0f32])?.requires_grad()?;
    /// let b = Tensor::new([1.0f32])?.requires_grad()?;
    /// let mut order = vec![];
    /// w.square()?.mul(&b)?.backward_each(&Tensor::new([1.0f32])?, |leaf, grad| {
    ///     order.push((leaf, grad.item::<f32>()?));
    ///     Ok(())
    /// })?;
    /// assert_eq!(order, [(b.leaf_id().unwrap(), 9.0), (w.leaf_id().unwrap(), 6.0)]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: as [`Tensor::backward_with`]; what `ready` returns, which ends the walk.
    pub fn backward_each(&self, grad: &Tensor, mut ready: impl FnMut(u64, Tensor) -> Result<()>) -> Result<()> {
        let Some(node) = self.node() else { return self.backward_with(grad).map(drop) };
        let mut walk = Walk { uses: leaf_uses(node), ..Walk::default() };
        walk.reach("backward", node, grad.clone())?;
        walk.run_with(&mut ready)
    }
}

/// How often the graph below `from` uses each leaf.
fn leaf_uses(from: &Arc<Node>) -> FxHashMap<u64, usize> {
    let (mut uses, mut seen, mut rest) = (FxHashMap::default(), FxHashSet::from_iter([from.id]), vec![from]);
    while let Some(node) = rest.pop() {
        for input in node.inputs.iter().flatten() {
            if input.is_leaf() {
                *uses.entry(input.id).or_default() += 1;
            } else if seen.insert(input.id) {
                rest.push(input);
            }
        }
    }
    uses
}

/// The gradients of the sum of `outputs` with respect to `inputs`, in their order; `None` where there is no path.
///
/// The graph stays, so it can be walked again; with `create_graph` the gradients are tracked themselves and can be
/// differentiated once more. PyTorch: `torch.autograd.grad(outputs, inputs, create_graph=…, allow_unused=True)`.
///
/// ```
/// # use rushlight::{Tensor, grad};
/// let x = Tensor::new([2.0f32])?.requires_grad()?;
/// let y = x.powi(3)?;
/// let dy = grad(&[&y], &[&x], true)?.remove(0).unwrap(); // 3x²
/// let ddy = grad(&[&dy], &[&x], false)?.remove(0).unwrap(); // 6x
/// assert_eq!((dy.item::<f32>()?, ddy.item::<f32>()?), (12.0, 12.0));
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: an output that is not tracked; an input that is not tracked; an operation without a second gradient.
pub fn grad(outputs: &[&Tensor], inputs: &[&Tensor], create_graph: bool) -> Result<Vec<Option<Tensor>>> {
    let mut wanted = Vec::with_capacity(inputs.len());
    for input in inputs {
        wanted.push(input.node().ok_or_else(|| Error::gradient("grad", "an input is not tracked"))?.id);
    }
    let mut walk = Walk { keep: true, create_graph, ..Walk::to(wanted.iter().copied()) };
    for output in outputs {
        let node = output.node().ok_or_else(|| Error::gradient("grad", "an output is not tracked"))?;
        walk.reach("grad", node, output.ones_like()?)?;
    }
    let found = walk.run()?;
    Ok(wanted.iter().map(|id| found.get(id).cloned()).collect())
}

/// The gradients of `Σ output · grad` over all pairs, for every tracked leaf. PyTorch: `torch.autograd.backward`.
///
/// `keep` leaves what the operations saved, for another walk over the same graph; with `create_graph` (which keeps too)
/// the gradients are tracked themselves. Errors: as [`Tensor::backward_with`].
pub fn backward(pairs: &[(&Tensor, &Tensor)], keep: bool, create_graph: bool) -> Result<Gradients> {
    let mut walk = Walk { keep: keep || create_graph, create_graph, ..Walk::default() };
    for (output, grad) in pairs {
        let node = output.node().ok_or_else(|| Error::gradient("backward", UNTRACKED))?;
        walk.reach("backward", node, (*grad).clone())?;
    }
    Ok(Gradients { by_leaf: walk.run()? })
}

const UNTRACKED: &str = "the tensor is not tracked: no input had requires_grad(), or it was made under no_grad";

/// One walk. `pending` holds the sum so far of each reached node's gradient.
#[derive(Default)]
pub(super) struct Walk {
    queue: BinaryHeap<ByAge>,
    pending: FxHashMap<u64, Tensor>,
    /// The only ids to find; `None`: all leaves.
    wanted: Option<FxHashSet<u64>>,
    /// Nodes older than every wanted one cannot lead to them.
    oldest: u64,
    /// How many uses of each leaf are still to be passed, where someone waits for its gradient.
    uses: FxHashMap<u64, usize>,
    keep: bool,
    create_graph: bool,
}

impl Walk {
    /// A walk that finds these ids only.
    pub fn to(wanted: impl Iterator<Item = u64>) -> Walk {
        let wanted: FxHashSet<u64> = wanted.collect();
        let oldest = wanted.iter().copied().min().unwrap_or(u64::MAX);
        Walk { oldest, wanted: Some(wanted), ..Walk::default() }
    }

    /// The gradients of `Σ output · grad`, by id.
    pub fn from(mut self, output: &Tensor, grad: &Tensor) -> Result<FxHashMap<u64, Tensor>> {
        if let Some(node) = output.node() {
            self.reach("backward", node, grad.clone())?;
        }
        self.run()
    }

    /// Adds `grad` to what has come to `node`.
    fn reach(&mut self, from: &'static str, node: &Arc<Node>, grad: Tensor) -> Result<()> {
        if node.id < self.oldest {
            return Ok(());
        }
        if *grad.shape() != node.shape || grad.dtype() != node.dtype {
            let (shape, dtype) = (grad.shape(), grad.dtype());
            let message = format!(
                "the gradient of {} has shape {shape} and dtype {dtype}, its value {} and {}",
                node.name, node.shape, node.dtype
            );
            return Err(Error::gradient(from, message));
        }
        let sum = match self.pending.remove(&node.id) {
            None => {
                self.queue.push(ByAge(node.clone()));
                grad
            }
            Some(old) if self.create_graph => old.add(&grad)?,
            Some(old) => add_into(old, &grad)?,
        };
        self.pending.insert(node.id, sum);
        Ok(())
    }

    /// How the gradient of a node may be added in place. What the node saved is freed as by its rule.
    fn in_place(&self, node: &Node) -> Option<InPlace> {
        if self.create_graph {
            return None;
        }
        let mut slot = node.rule.lock().unwrap_or_else(|e| e.into_inner());
        let in_place = slot.as_ref()?.in_place.clone()?;
        let reached = || node.inputs.iter().flatten().any(|input| self.pending.contains_key(&input.id));
        if matches!(in_place, InPlace::Add(_)) && !reached() {
            return None;
        }
        if !self.keep {
            *slot = None;
        }
        Some(in_place)
    }

    /// Adds a node's gradient to what has come to its input, without a tensor of the input's size for each.
    fn reach_in_place(&mut self, node: &Node, how: &InPlace, dy: &Tensor) -> Result<()> {
        let Some(Some(input)) = node.inputs.first() else { return Ok(()) };
        match (self.pending.remove(&input.id), how) {
            (Some(mut sum), how) => {
                match how {
                    InPlace::View(view) => sum.add_through(view, dy)?,
                    InPlace::Add(add) => add(&mut sum, dy)?,
                }
                self.pending.insert(input.id, sum);
                Ok(())
            }
            (None, InPlace::View(view)) if input.id >= self.oldest => {
                self.reach(node.name, input, dy.embed(&input.shape, view.clone())?)
            }
            (None, _) => Ok(()),
        }
    }

    /// The gradients that are wanted, by id.
    fn run(&mut self) -> Result<FxHashMap<u64, Tensor>> {
        let mut found = FxHashMap::default();
        self.run_with(&mut |id, grad| {
            found.insert(id, grad);
            Ok(())
        })?;
        Ok(found)
    }

    /// Gives each gradient that is wanted to `ready`.
    fn run_with(&mut self, ready: &mut dyn FnMut(u64, Tensor) -> Result<()>) -> Result<()> {
        set_grad_enabled(self.create_graph, || {
            while let Some(ByAge(node)) = self.queue.pop() {
                let Some(dy) = self.pending.remove(&node.id) else { continue };
                interrupted()?;
                let dy = node.hooked(dy)?;
                let is_wanted = self.wanted.as_ref().map_or(node.is_leaf(), |w| w.contains(&node.id));
                if is_wanted {
                    ready(node.id, dy.clone())?;
                }
                if let Some(how) = self.in_place(&node) {
                    self.reach_in_place(&node, &how, &dy)?;
                } else if !node.is_leaf() {
                    let grads = self.apply(&node, &dy)?;
                    drop(dy);
                    if grads.len() != node.inputs.len() {
                        let message =
                            format!("its rule gave {} gradients for {} inputs", grads.len(), node.inputs.len());
                        return Err(Error::gradient(node.name, message));
                    }
                    for (input, grad) in node.inputs.iter().zip(grads) {
                        if let (Some(input), Some(grad)) = (input, grad) {
                            self.reach(node.name, input, grad)?;
                        }
                    }
                }
                self.pass(&node, ready)?;
            }
            Ok(())
        })
    }

    /// `node` is done: a leaf that no other uses has its whole gradient. A leaf is older than all that uses it, so the
    /// queue alone would give every one at the end.
    fn pass(&mut self, node: &Node, ready: &mut dyn FnMut(u64, Tensor) -> Result<()>) -> Result<()> {
        if self.uses.is_empty() {
            return Ok(());
        }
        for input in node.inputs.iter().flatten() {
            let Some(left) = self.uses.get_mut(&input.id) else { continue };
            *left -= 1;
            if *left == 0
                && let Some(grad) = self.pending.remove(&input.id)
            {
                ready(input.id, input.hooked(grad)?)?;
            }
        }
        Ok(())
    }

    fn apply(&self, node: &Arc<Node>, dy: &Tensor) -> Result<super::Grads> {
        let call = |rule: &Rule| match &rule.output {
            // The rule sees its output as part of the graph, so that it can be differentiated again.
            Some(y) if self.create_graph => (rule.backward)(&y.with_node(Some(node.clone())), dy),
            Some(y) => (rule.backward)(y, dy),
            None => (rule.backward)(dy, dy),
        };
        let mut slot = node.rule.lock().unwrap_or_else(|e| e.into_inner());
        let freed = || {
            let message = "what it saved was freed by an earlier backward; use grad() to walk a graph more than once";
            Error::gradient(node.name, message)
        };
        if self.keep {
            return call(slot.as_ref().ok_or_else(freed)?);
        }
        let rule = slot.take().ok_or_else(freed)?;
        drop(slot);
        call(&rule)
    }
}

/// Orders nodes by age, the newest first.
struct ByAge(Arc<Node>);

impl PartialEq for ByAge {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for ByAge {}
impl PartialOrd for ByAge {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByAge {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}
