//! One step of a recurrent layer: for loops of one's own, as in a decoder that reads what it has written.

use super::{Direction, LstmState, Nonlinearity, start};
use crate::nn::{Description, Module, Path, Visitor, VisitorMut};
use crate::ops::recurrent::{Cell, Recurrence};
use crate::{Error, Result, Tensor};

/// One step of an [`Rnn`](super::Rnn). PyTorch: `nn.RNNCell`.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Nonlinearity, RnnCell}};
/// let cell = RnnCell::new(3, 5, Nonlinearity::Relu, true)?;
/// assert_eq!(cell.forward(&Tensor::ones([4, 3], DType::F32)?, None)?.dims(), [4, 5]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct RnnCell(Step);

/// One step of a [`Gru`](super::Gru). PyTorch: `nn.GRUCell`.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::GruCell};
/// let cell = GruCell::new(3, 5, true)?;
/// let x = Tensor::ones([4, 3], DType::F32)?;
/// let h = cell.forward(&x, None)?;
/// assert_eq!(cell.forward(&x, Some(&h))?.dims(), [4, 5]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct GruCell(Step);

/// One step of an [`Lstm`](super::Lstm). PyTorch: `nn.LSTMCell`.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::LstmCell};
/// let cell = LstmCell::new(3, 5, true)?;
/// let x = Tensor::ones([4, 3], DType::F32)?;
/// let state = cell.forward(&x, None)?;
/// assert_eq!(cell.forward(&x, Some(&state))?.c.dims(), [4, 5]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct LstmCell(Step);

/// The parameters and the sizes.
struct Step {
    op: &'static str,
    cell: Cell,
    input_size: usize,
    hidden_size: usize,
    direction: Direction,
}

impl Step {
    fn new(op: &'static str, cell: Cell, input: usize, hidden: usize, bias: bool) -> Result<Step> {
        if input == 0 || hidden == 0 {
            let message = format!("input_size {input} and hidden_size {hidden} must not be 0");
            return Err(Error::invalid(op, message));
        }
        let direction = Direction::new(cell, input, hidden, bias, String::new())?;
        Ok(Step { op, cell, input_size: input, hidden_size: hidden, direction })
    }

    /// `[B, in]` and states of `[B, hidden]` to the states behind the step.
    fn run(&self, x: &Tensor, states: [Option<&Tensor>; 2]) -> Result<(Tensor, Option<Tensor>)> {
        let [batch, input] = x.dims_of(self.op)?;
        if input != self.input_size {
            let message = format!("expected [B, {}], got input of shape {}", self.input_size, x.shape());
            return Err(Error::invalid(self.op, message));
        }
        let start = |state: Option<&Tensor>| start(self.op, x, state, &[batch, self.hidden_size]);
        let (h, c) = (start(states[0])?, if self.cell == Cell::Lstm { Some(start(states[1])?) } else { None });
        let once = Recurrence { cell: self.cell, lengths: None, reverse: false };
        let y = self.direction.run(&once, &x.unsqueeze(0)?, (&h, c.as_ref()))?; // [1 + states, B, hidden]
        Ok((y.select(0, 1)?, c.map(|_| y.select(0, 2)).transpose()?))
    }
}

impl RnnCell {
    /// Parameters as [`Rnn`](super::Rnn)'s. Errors: a size is 0.
    pub fn new(input_size: usize, hidden_size: usize, f: Nonlinearity, bias: bool) -> Result<RnnCell> {
        Ok(RnnCell(Step::new("RnnCell", f.cell(), input_size, hidden_size, bias)?))
    }

    /// `[B, input]` and a state `[B, hidden]`, else zeros, to the next state. Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, state: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.0.run(x, [state, None])?.0)
    }
}

impl GruCell {
    /// Parameters as [`Gru`](super::Gru)'s. Errors: a size is 0.
    pub fn new(input_size: usize, hidden_size: usize, bias: bool) -> Result<GruCell> {
        Ok(GruCell(Step::new("GruCell", Cell::Gru, input_size, hidden_size, bias)?))
    }

    /// `[B, input]` and a state `[B, hidden]`, else zeros, to the next state. Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, state: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.0.run(x, [state, None])?.0)
    }
}

impl LstmCell {
    /// Parameters as [`Lstm`](super::Lstm)'s. Errors: a size is 0.
    pub fn new(input_size: usize, hidden_size: usize, bias: bool) -> Result<LstmCell> {
        Ok(LstmCell(Step::new("LstmCell", Cell::Lstm, input_size, hidden_size, bias)?))
    }

    /// `[B, input]` and a state of `[B, hidden]` each, else zeros, to the next state. Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, state: Option<&LstmState>) -> Result<LstmState> {
        let (h, c) = self.0.run(x, [state.map(|s| &s.h), state.map(|s| &s.c)])?;
        Ok(LstmState { c: c.unwrap_or_else(|| h.clone()), h })
    }
}

macro_rules! modules {
    ($($Name:ident)*) => {$(
        impl Module for $Name {
            fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
                self.0.direction.visit(path, f);
            }

            fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
                self.0.direction.visit_mut(path, f)
            }

            fn set_training(&mut self, _: bool) {}

            fn describe(&self) -> Description {
                let (input, hidden, bias) = (self.0.input_size, self.0.hidden_size, self.0.direction.bias.is_some());
                Description::leaf(stringify!($Name), format!("input_size={input}, hidden_size={hidden}, bias={bias}"))
            }
        }
    )*};
}

modules!(RnnCell GruCell LstmCell);
