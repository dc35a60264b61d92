//! A node of the graph: one recorded operation, or a leaf.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smallvec::SmallVec;

use crate::autograd::Grads;
use crate::{DType, Layout, Shape, Tensor};

/// From the output (if saved, else the gradient again) and its gradient to the gradients of the inputs.
pub(crate) type Backward = Box<dyn Fn(&Tensor, &Tensor) -> crate::Result<Grads> + Send + Sync>;

/// From the layout of a tensor to that of a view of it.
pub(crate) type ViewFn = Arc<dyn Fn(&Layout) -> Layout + Send + Sync>;

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
    leaf: bool,
}

/// A gradient rule and, if it asked for it, the untracked output.
pub(crate) struct Rule {
    pub backward: Backward,
    pub output: Option<Tensor>,
    /// For a view of its only input: the walk adds the gradient to the input's where the view reads.
    pub view: Option<ViewFn>,
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    pub fn leaf(of: &Tensor) -> Node {
        let (shape, dtype) = (of.shape().clone(), of.dtype());
        let (inputs, rule) = (SmallVec::new(), Mutex::new(None));
        Node { id: next_id(), name: "leaf", shape, dtype, inputs, rule, leaf: true }
    }

    pub fn inner(
        name: &'static str,
        of: &Tensor,
        inputs: SmallVec<[Option<Arc<Node>>; 2]>,
        rule: Rule,
    ) -> Node {
        let (shape, dtype) = (of.shape().clone(), of.dtype());
        let rule = Mutex::new(Some(rule));
        Node { id: next_id(), name, shape, dtype, inputs, rule, leaf: false }
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
