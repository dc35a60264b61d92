//! Recurrent layers: a state that goes from step to step, and gates that say what of it stays.
//!
//! ```text
//! Rnn    h ← tanh(W_i·x + W_h·h + b)
//! Gru    h ← gate(h, n, z)                 the old state or a new one, by a gate; a second, r, opens the old to the new
//! Lstm   c ← f·c + i·u,  h ← o·tanh(c)     gates of their own for what is forgotten, let in and shown
//! ```
//!
//! What is here they share: the parameters under PyTorch's names, layers over each other, both directions, lengths. The
//! products with the input are made for all steps at once; the steps are one recorded operation a direction.

mod cells;
mod layers;

pub use cells::{GruCell, LstmCell, RnnCell};
pub use layers::{Gru, Lstm, LstmState, Nonlinearity, Rnn};

use std::sync::Arc;

use super::{Dropout, Kind, Layer, Module, Path, Visitor, VisitorMut, init};
use crate::ops::recurrent::{Cell, Recurrence};
use crate::{Error, Result, Tensor};

/// The options of [`Rnn::new`], [`Lstm::new`] and [`Gru::new`]; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentOptions {
    /// Layers over each other, each reading the one below. Default 1.
    pub num_layers: usize,
    /// Whether the two products of a step have biases. Default true.
    pub bias: bool,
    /// The share of the numbers between the layers that is dropped in training. Default 0.
    pub dropout: f64,
    /// Whether each layer has a second direction, from the last step to the first. Default false.
    pub bidirectional: bool,
}

impl Default for RecurrentOptions {
    fn default() -> Self {
        RecurrentOptions { num_layers: 1, bias: true, dropout: 0.0, bidirectional: false }
    }
}

/// The parameters of one direction of one layer, or of a cell, under PyTorch's names.
struct Direction {
    /// `_l0`, `_l0_reverse`; of a cell empty.
    suffix: String,
    /// `[gates · hidden, in]`
    weight_ih: Tensor,
    /// `[gates · hidden, hidden]`
    weight_hh: Tensor,
    /// Of both products, `[gates · hidden]` each.
    bias: Option<[Tensor; 2]>,
}

impl Direction {
    /// All uniform within ±1/√hidden, as PyTorch's.
    fn new(cell: Cell, input: usize, hidden: usize, bias: bool, suffix: String) -> Result<Direction> {
        let width = cell.gates() * hidden;
        let weight_ih = init::layer([width, input].into(), hidden)?;
        let weight_hh = init::layer([width, hidden].into(), hidden)?;
        let bias = match bias {
            true => Some([init::layer([width].into(), hidden)?, init::layer([width].into(), hidden)?]),
            false => None,
        };
        Ok(Direction { suffix, weight_ih, weight_hh, bias })
    }

    /// `[T, B, in]` to `[T + states, B, hidden]`: see [`Recurrence::run`].
    fn run(&self, steps: &Recurrence, x: &Tensor, state: (&Tensor, Option<&Tensor>)) -> Result<Tensor> {
        let [input, hidden] = self.bias.as_ref().map_or([None, None], |[a, b]| [Some(a), Some(b)]);
        let x = x.linear(&self.weight_ih, input)?; // [T, B, gates · hidden]
        steps.run(&x, state, &self.weight_hh, hidden)
    }
}

impl Module for Direction {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        let mut enter =
            |name: &str, t| path.enter(&format!("{name}{}", self.suffix), |p| f(p.name(), Kind::Parameter, t));
        enter("weight_ih", &self.weight_ih);
        enter("weight_hh", &self.weight_hh);
        if let Some([input, hidden]) = &self.bias {
            enter("bias_ih", input);
            enter("bias_hh", hidden);
        }
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        let suffix = &self.suffix;
        let mut enter = |name: &str, t| path.enter(&format!("{name}{suffix}"), |p| f(p.name(), Kind::Parameter, t));
        enter("weight_ih", &mut self.weight_ih)?;
        enter("weight_hh", &mut self.weight_hh)?;
        if let Some([input, hidden]) = &mut self.bias {
            enter("bias_ih", input)?;
            enter("bias_hh", hidden)?;
        }
        Ok(())
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> super::Description {
        super::Description::hidden()
    }
}

/// Layers and directions of one kind of cell.
struct Stack {
    op: &'static str,
    cell: Cell,
    input_size: usize,
    hidden_size: usize,
    options: RecurrentOptions,
    /// Layer by layer; in a layer forward, then reverse.
    directions: Vec<Direction>,
    dropout: Dropout,
}

/// What a stack computes: the output, and the states at the end.
type Run = (Tensor, Tensor, Option<Tensor>);

impl Stack {
    fn new(op: &'static str, cell: Cell, input: usize, hidden: usize, options: &RecurrentOptions) -> Result<Stack> {
        let layers = options.num_layers;
        if input == 0 || hidden == 0 || layers == 0 {
            let message = format!("input_size {input}, hidden_size {hidden} and num_layers {layers} must not be 0");
            return Err(Error::invalid(op, message));
        }
        let ways = 1 + usize::from(options.bidirectional);
        let mut directions = vec![];
        for layer in 0..layers {
            let width = if layer == 0 { input } else { ways * hidden };
            for suffix in [format!("_l{layer}"), format!("_l{layer}_reverse")].into_iter().take(ways) {
                directions.push(Direction::new(cell, width, hidden, options.bias, suffix)?);
            }
        }
        let (options, dropout) = (*options, Dropout::new(options.dropout)?);
        Ok(Stack { op, cell, input_size: input, hidden_size: hidden, options, directions, dropout })
    }

    /// `x`: `[B, T, in]`; states: `[layers · directions, B, hidden]`.
    fn run(&self, x: &Tensor, lengths: Option<&[usize]>, states: [Option<&Tensor>; 2]) -> Result<Run> {
        let [batch, steps, input] = x.dims_of(self.op)?;
        if input != self.input_size {
            let message = format!("expected [B, T, {}], got input of shape {}", self.input_size, x.shape());
            return Err(Error::invalid(self.op, message));
        }
        let shape = [self.directions.len(), batch, self.hidden_size];
        let start = |state: Option<&Tensor>| start(self.op, x, state, &shape);
        let (h, c) = (start(states[0])?, if self.cell == Cell::Lstm { Some(start(states[1])?) } else { None });
        let mut x = x.transpose(0, 1)?; // [T, B, in]
        if let Some(lengths) = lengths {
            x = self.without_padding(&x, lengths)?;
        }
        let lengths: Option<Arc<[usize]>> = lengths.map(Arc::from);
        let ways = 1 + usize::from(self.options.bidirectional);
        let (mut last_h, mut last_c) = (vec![], vec![]);
        for (layer, directions) in self.directions.chunks(ways).enumerate() {
            if layer > 0 {
                x = self.dropout.forward(&x)?;
            }
            let mut outputs = vec![];
            for (way, direction) in directions.iter().enumerate() {
                let at = (layer * ways + way) as i64;
                let recurrence = Recurrence { cell: self.cell, lengths: lengths.clone(), reverse: way == 1 };
                let (h, c) = (h.select(0, at)?, c.as_ref().map(|c| c.select(0, at)).transpose()?);
                let y = direction.run(&recurrence, &x, (&h, c.as_ref()))?; // [T + states, B, hidden]
                outputs.push(y.narrow(0, 0, steps)?);
                last_h.push(y.narrow(0, steps, 1)?);
                if c.is_some() {
                    last_c.push(y.narrow(0, steps + 1, 1)?);
                }
            }
            x = if ways == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, -1)? }; // [T, B, directions · hidden]
        }
        let c = if c.is_some() { Some(Tensor::cat(&last_c, 0)?) } else { None };
        Ok((x.transpose(0, 1)?, Tensor::cat(&last_h, 0)?, c))
    }

    /// Zeros behind the end of each row: what stands there must not come into the weights' gradients, were it NaN.
    fn without_padding(&self, x: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let [steps, batch, _] = x.dims_of(self.op)?;
        if lengths.len() != batch {
            let message = format!("{} lengths for a batch of {batch} rows", lengths.len());
            return Err(Error::invalid(self.op, message));
        }
        if let Some(row) = lengths.iter().position(|&l| l > steps) {
            let message = format!("row {row} has the length {}, the input has {steps} steps", lengths[row]);
            return Err(Error::invalid(self.op, message));
        }
        let runs: Vec<bool> = (0..steps).flat_map(|t| lengths.iter().map(move |&l| t < l)).collect();
        Tensor::from_vec(runs, [steps, batch, 1])?.where_cond(x, &Tensor::zeros((), x.dtype())?)
    }

    fn settings(&self) -> String {
        let RecurrentOptions { num_layers, bias, dropout, bidirectional } = self.options;
        let (input, hidden) = (self.input_size, self.hidden_size);
        let relu = if self.cell == Cell::Relu { ", nonlinearity=Relu" } else { "" };
        format!(
            "input_size={input}, hidden_size={hidden}, num_layers={num_layers}{relu}, bias={bias}, dropout={dropout}, \
             bidirectional={bidirectional}"
        )
    }
}

/// The given state, or zeros like `x`. Errors: another shape.
fn start(op: &'static str, x: &Tensor, state: Option<&Tensor>, shape: &[usize]) -> Result<Tensor> {
    match state {
        None => Tensor::zeros(shape.to_vec(), x.dtype()),
        Some(state) if state.dims() == shape => Ok(state.clone()),
        Some(state) => {
            Err(Error::invalid(op, format!("expected an initial state of shape {shape:?}, got {}", state.shape())))
        }
    }
}
