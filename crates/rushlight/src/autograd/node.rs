//! A node of the graph: one recorded operation, or a leaf.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use smallvec::SmallVec;

use crate::autograd::Grads;
use crate::{DType, Layout, Shape, Tensor};

/// From the output (if saved, else the gradient again) and its gradient to the gradients of the inputs.
pub(crate) type Backward = Box<dyn Fn(&Tensor, &Tensor) -> crate::Result<Grads> + Send + Sync>;

/// From the layout of a tensor to that of a view of it.
pub(crate) type ViewFn = Arc<dyn Fn(&Layout) -> Layout + Send + Sync>;

/// Adds what a gradient is to an operation's only input to what has come to that input before.
pub(crate) type AddFn = Arc<dyn Fn(&mut Tensor, &Tensor) -> crate::Result<()> + Send + Sync>;

/// Two rules that need no tensor of the input's size where the walk can add to one.
#[derive(Clone)]
pub(crate) enum InPlace {
    /// A view of its input: the gradient is added where the view reads.
    View(ViewFn),
    /// Any other, where something has come to the input already.
    Add(AddFn),
}

/// What a hook does with a gradient: a new one in its place, or `None` to leave it.
pub(crate) type Hook = Arc<dyn Fn(&Tensor) -> crate::Result<Option<Tensor>> + Send + Sync>;

/// How a tracked tensor was computed.
///
/// Nodes hold nodes, never the tensors they belong to: what a gradient rule needs, its closure holds, and that is
/// dropped as soon as a backward walk has used it.
pub(crate) struct Node {
    /// Ascending by age: an operation's inputs have smaller ids than its output.
    pub id: u64,
    pub name: &'static str,
    pub shape: Shape,
    pub dtype: DType,
    pub inputs: SmallVec<[Option<Arc<Node>>; 2]>,
    /// `None` for a leaf, and after a backward walk that freed it.
    pub rule: Mutex<Option<Rule>>,
    /// Called with the gradient, by their numbers; set by the first [`Tensor::register_hook`].
    hooks: OnceLock<Box<Mutex<BTreeMap<u64, Hook>>>>,
    leaf: bool,
}

/// A gradient rule and, if it asked for it, the untracked output.
pub(crate) struct Rule {
    pub backward: Backward,
    pub output: Option<Tensor>,
    /// How the walk adds the gradient to that of the only input.
    pub in_place: Option<InPlace>,
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    pub fn leaf(of: &Tensor) -> Node {
        let (shape, dtype) = (of.shape().clone(), of.dtype());
        let (inputs, rule) = (SmallVec::new(), Mutex::new(None));
        Node { id: next_id(), name: "leaf", shape, dtype, inputs, rule, hooks: OnceLock::new(), leaf: true }
    }

    pub fn inner(name: &'static str, of: &Tensor, inputs: SmallVec<[Option<Arc<Node>>; 2]>, rule: Rule) -> Node {
        let (shape, dtype) = (of.shape().clone(), of.dtype());
        let rule = Mutex::new(Some(rule));
        Node { id: next_id(), name, shape, dtype, inputs, rule, hooks: OnceLock::new(), leaf: false }
    }

    /// Adds a hook and returns its number, for [`Node::unhook`].
    pub fn hook(&self, hook: Hook) -> u64 {
        let number = next_id();
        let hooks = self.hooks.get_or_init(Box::default);
        hooks.lock().unwrap_or_else(|e| e.into_inner()).insert(number, hook);
        number
    }

    pub fn unhook(&self, number: u64) -> Option<Hook> {
        self.hooks.get()?.lock().unwrap_or_else(|e| e.into_inner()).remove(&number)
    }

    /// The gradient after all hooks, the oldest first. None of them runs under the lock.
    pub fn hooked(&self, grad: Tensor) -> crate::Result<Tensor> {
        let Some(hooks) = self.hooks.get() else { return Ok(grad) };
        let hooks: Vec<Hook> = hooks.lock().unwrap_or_else(|e| e.into_inner()).values().cloned().collect();
        hooks.iter().try_fold(grad, |grad, hook| {
            let Some(new) = hook(&grad)? else { return Ok(grad) };
            if *new.shape() != self.shape || new.dtype() != self.dtype {
                let message = format!(
                    "a hook made a gradient of {} and {} into one of {} and {}",
                    self.shape,
                    self.dtype,
                    new.shape(),
                    new.dtype()
                );
                return Err(crate::Error::gradient("register_hook", message));
            }
            Ok(new)
        })
    }

    pub fn is_leaf(&self) -> bool {
        self.leaf
    }
}

/// A long chain of nodes is taken apart in a loop: dropping it by recursion would overflow the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut rest: Vec<Arc<Node>> = self.inputs.drain(..).flatten().collect();
        // The closure may hold the last tensor of an input; with the input still in `rest`, dropping it ends here.
        if let Ok(rule) = self.rule.get_mut() {
            *rule = None;
        }
        while let Some(node) = rest.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                rest.extend(node.inputs.drain(..).flatten());
            }
        }
    }
}
