//! Autodiff: recording how a tensor was computed, and walking back for the gradients.
//!
//! Every differentiable operation ends in [`record`], with its gradient rule as a closure beside its forward. A
//! tracked tensor holds a node; a node holds the nodes of the operation's inputs and that closure. [`Tensor::backward`]
//! walks the nodes from the newest to the oldest, so each is reached after everything that used it.

mod backward;
mod checkpoint;
mod gradcheck;
mod gradients;
mod handle;
mod interrupt;
mod node;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

pub use backward::{backward, grad};
pub use checkpoint::checkpoint;
pub use gradcheck::{GradCheck, gradcheck, gradgradcheck};
pub use gradients::Gradients;
pub use handle::HookHandle;
pub(crate) use interrupt::interrupted_before;
pub use interrupt::with_interrupt;
use node::{Backward, Rule};
pub(crate) use node::{InPlace, Node, ViewFn};

use crate::{Error, Result, Tensor};

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(true) };
    /// The tracked tensors that operations met while recording was off, if [`watch`] wants to know.
    static WATCHED: RefCell<Option<Vec<Arc<Node>>>> = const { RefCell::new(None) };
}

/// Whether operations on this thread record gradients.
pub fn is_grad_enabled() -> bool {
    ENABLED.get()
}

/// Runs `f` with recording on or off on this thread, and restores what was before, also on panic.
pub fn set_grad_enabled<R>(enabled: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ENABLED.set(self.0);
        }
    }
    let _restore = Restore(ENABLED.replace(enabled));
    f()
}

/// Runs `f` without recording: for evaluation. PyTorch: `with torch.no_grad():`.
///
/// ```
/// # use rushlight::{Tensor, no_grad};
/// let w = Tensor::new([2.0f32])?.requires_grad()?;
/// assert!(!no_grad(|| w.mul(3.0))?.is_tracked());
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    set_grad_enabled(false, f)
}

/// What the rule of a product keeps: each operand for the gradient of the other alone, so that the input of a layer that
/// does not learn may be freed. `[b if a is tracked, a if b is]`.
pub(crate) fn each_for_the_other(a: &Tensor, b: &Tensor) -> [Option<Tensor>; 2] {
    [a.is_tracked().then(|| b.clone()), b.is_tracked().then(|| a.clone())]
}

/// What a gradient rule returns: one gradient per input, or `None` for an input that gets none.
pub trait IntoGrads {
    /// As a list in the order of the inputs.
    fn into_grads(self) -> Grads;
}

/// Gradients in the order of an operation's inputs.
pub type Grads = smallvec::SmallVec<[Option<Tensor>; 3]>;

impl IntoGrads for Tensor {
    fn into_grads(self) -> Grads {
        smallvec::smallvec![Some(self)]
    }
}

impl<const N: usize> IntoGrads for [Tensor; N] {
    fn into_grads(self) -> Grads {
        self.into_iter().map(Some).collect()
    }
}

impl<const N: usize> IntoGrads for [Option<Tensor>; N] {
    fn into_grads(self) -> Grads {
        self.into_iter().collect()
    }
}

impl IntoGrads for Grads {
    fn into_grads(self) -> Grads {
        self
    }
}

impl IntoGrads for Vec<Option<Tensor>> {
    fn into_grads(self) -> Grads {
        Grads::from_vec(self)
    }
}

/// Gives `output` its gradient rule: the last line of every differentiable operation, ours or yours.
///
/// `backward` gets the gradient of the output, which has the output's shape and dtype, and returns the gradient of
/// each input in the same order, each of its input's shape and dtype. If no input is tracked, or inside [`no_grad`],
/// nothing is recorded. Write the rule with tensor operations and it can be differentiated again.
///
/// ```
/// use rushlight::{Result, Tensor, record};
///
/// /// y = x³, dx = 3 x² dy
/// fn cube(x: &Tensor) -> Result<Tensor> {
///     let y = x.detach().powi(3)?;
///     let x2 = x.clone();
///     record("cube", y, &[x], move |dy| dy.mul(&x2.square()?.mul(3.0)?))
/// }
///
/// let x = Tensor::new([2.0f32, -1.0])?.requires_grad()?;
/// let grads = cube(&x)?.sum(..)?.backward()?;
/// assert_eq!(grads.get(&x).unwrap().to_vec::<f32>()?, [12.0, 3.0]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: `output` is tracked already, or is of a dtype that has no gradients.
pub fn record<G: IntoGrads>(
    name: &'static str,
    output: Tensor,
    inputs: &[&Tensor],
    backward: impl Fn(&Tensor) -> Result<G> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !tracks(inputs) {
        return Ok(output);
    }
    attach(name, output, inputs, None, Box::new(move |_, dy| Ok(backward(dy)?.into_grads())), None)
}

/// [`record`] for an operation of one input whose gradient can be added in place; `backward` is the rule where it
/// cannot, as for one that is differentiated again.
pub(crate) fn record_in_place(
    name: &'static str,
    output: Tensor,
    input: &Tensor,
    in_place: InPlace,
    backward: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !tracks(&[input]) {
        return Ok(output);
    }
    let rule = Box::new(move |_: &Tensor, dy: &Tensor| Ok(backward(dy)?.into_grads()));
    attach(name, output, &[input], None, rule, Some(in_place))
}

/// [`record`] for a rule that is simplest in terms of the output: `backward(y, dy)`.
///
/// The rule must not capture the output itself: a node that owns its own tensor would never be freed.
pub fn record_with_output<G: IntoGrads>(
    name: &'static str,
    output: Tensor,
    inputs: &[&Tensor],
    backward: impl Fn(&Tensor, &Tensor) -> Result<G> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !tracks(inputs) {
        return Ok(output);
    }
    let saved = Some(output.clone());
    attach(name, output, inputs, saved, Box::new(move |y, dy| Ok(backward(y, dy)?.into_grads())), None)
}

/// Whether an operation on these inputs has to be recorded.
pub(crate) fn tracks(inputs: &[&Tensor]) -> bool {
    let tracked = inputs.iter().any(|t| t.is_tracked());
    if tracked && !is_grad_enabled() {
        WATCHED.with_borrow_mut(|seen| {
            if let Some(seen) = seen {
                seen.extend(inputs.iter().filter_map(|t| t.node()).cloned());
            }
        });
        return false;
    }
    tracked
}

/// Runs `f`, which does not record, and tells which tracked tensors its operations took in.
fn watch<R>(f: impl FnOnce() -> R) -> (R, Vec<Arc<Node>>) {
    struct Restore(Option<Vec<Arc<Node>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            WATCHED.set(self.0.take());
        }
    }
    let _restore = Restore(WATCHED.replace(Some(vec![])));
    let result = f();
    let mut seen = WATCHED.take().unwrap_or_default();
    seen.sort_by_key(|n| n.id);
    seen.dedup_by_key(|n| n.id);
    (result, seen)
}

/// The result of an operation that has no gradient: an error if it would silently drop one.
pub(crate) fn no_gradient(name: &'static str, output: Tensor, inputs: &[&Tensor]) -> Result<Tensor> {
    if tracks(inputs) && output.dtype().is_float() {
        return Err(Error::gradient(name, "has no gradient; detach() its input or use no_grad"));
    }
    Ok(output)
}

fn attach(
    name: &'static str,
    output: Tensor,
    inputs: &[&Tensor],
    saved: Option<Tensor>,
    backward: Backward,
    in_place: Option<InPlace>,
) -> Result<Tensor> {
    if !output.dtype().is_float() {
        return Err(Error::dtype(name, output.dtype(), "only float tensors have gradients"));
    }
    if output.is_tracked() {
        let message = "the output given to record is tracked already; compute it from detach()ed inputs";
        return Err(Error::gradient(name, message));
    }
    let nodes = inputs.iter().map(|t| t.node().cloned()).collect();
    let node = Node::inner(name, &output, nodes, Rule { backward, output: saved, in_place });
    Ok(output.with_node(Some(Arc::new(node))))
}

impl Tensor {
    /// This tensor as a leaf that gradients are computed for: a new variable with the same values.
    ///
    /// PyTorch: `x.detach().requires_grad_()`. Errors: not a float dtype.
    pub fn requires_grad(&self) -> Result<Tensor> {
        if !self.dtype().is_float() {
            return Err(Error::dtype("requires_grad", self.dtype(), "only float tensors have gradients"));
        }
        Ok(self.with_node(Some(Arc::new(Node::leaf(self)))))
    }

    /// The same values outside the graph. PyTorch: `detach()`.
    pub fn detach(&self) -> Tensor {
        if self.is_tracked() { self.with_node(None) } else { self.clone() }
    }

    /// Whether gradients flow to this tensor. PyTorch: `requires_grad`.
    pub fn is_tracked(&self) -> bool {
        self.node().is_some()
    }

    /// Whether this is a tracked tensor that no operation made: a parameter. PyTorch: `is_leaf`.
    pub fn is_leaf(&self) -> bool {
        self.node().is_some_and(|n| n.is_leaf())
    }

    /// What [`Tensor::backward_each`] calls this leaf by; `None` for what is no leaf.
    pub fn leaf_id(&self) -> Option<u64> {
        self.node().filter(|n| n.is_leaf()).map(|n| n.id)
    }

    /// The operation that made this tensor, if it is tracked. PyTorch: `grad_fn.name()`.
    pub fn grad_fn(&self) -> Option<&'static str> {
        self.node().filter(|n| !n.is_leaf()).map(|n| n.name)
    }
}
