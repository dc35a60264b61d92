//! [`Rnn`], [`Lstm`] and [`Gru`] over whole sequences.

use super::{RecurrentOptions, Stack};
use crate::nn::{Description, Module, Path, Visitor, VisitorMut};
use crate::ops::recurrent::Cell;
use crate::{Result, Tensor};

/// What an [`Rnn`] does to its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nonlinearity {
    /// [`Tensor::tanh`]
    #[default]
    Tanh,
    /// [`Tensor::relu`]
    Relu,
}

impl Nonlinearity {
    pub(super) fn cell(self) -> Cell {
        match self {
            Nonlinearity::Tanh => Cell::Tanh,
            Nonlinearity::Relu => Cell::Relu,
        }
    }
}

/// What an [`Lstm`] or [`LstmCell`](super::LstmCell) carries from step to step.
#[derive(Clone, Debug)]
pub struct LstmState {
    /// What it shows: its last output.
    pub h: Tensor,
    /// What it remembers.
    pub c: Tensor,
}

/// The plain recurrent network: `h ← tanh(W_i·x + b_i + W_h·h + b_h)`, or ReLU. PyTorch: `nn.RNN(batch_first=True)`, whose
/// state dicts it loads as they are. Source: Elman 1990.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Nonlinearity, RecurrentOptions, Rnn}};
/// let rnn = Rnn::new(3, 5, Nonlinearity::Tanh, &RecurrentOptions { num_layers: 2, ..Default::default() })?;
/// let (y, h) = rnn.forward(&Tensor::ones([4, 7, 3], DType::F32)?, None)?;
/// assert_eq!((y.dims(), h.dims()), (&[4, 7, 5][..], &[2, 4, 5][..]));
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct Rnn(Stack);

/// The gated recurrent unit: a gate `z` between the old state and a new one, and a gate `r` that opens the old state to the
/// new. PyTorch: `nn.GRU(batch_first=True)`, whose state dicts it loads as they are. Source: Cho et al. 2014.
///
/// ```text
/// r = σ(W_ir·x + b_ir + W_hr·h + b_hr)          z = σ(W_iz·x + b_iz + W_hz·h + b_hz)
/// n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn))   h ← (1 − z)·n + z·h = gate(h, n, z)
/// ```
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Gru, RecurrentOptions}};
/// let gru = Gru::new(3, 5, &RecurrentOptions::default())?;
/// let x = Tensor::randn([4, 7, 3], DType::F32)?;
/// let (y, h) = gru.forward(&x, None)?;
/// // In two parts, the second from where the first ended.
/// let (_, half) = gru.forward(&x.narrow(1, 0, 3)?, None)?;
/// let (rest, end) = gru.forward(&x.narrow(1, 3, 4)?, Some(&half))?;
/// assert!(rest.sub(&y.narrow(1, 3, 4)?)?.abs()?.amax(..)?.item::<f32>()? < 1e-6);
/// assert!(end.sub(&h)?.abs()?.amax(..)?.item::<f32>()? < 1e-6);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct Gru(Stack);

/// Long short-term memory: a cell `c` that three gates write, keep and show. Where `f` is open the gradient goes back
/// through the steps as it is. PyTorch: `nn.LSTM(batch_first=True)`, whose state dicts it loads as they are. Source:
/// Hochreiter & Schmidhuber 1997; Gers et al. 2000 for `f`.
///
/// ```text
/// i, f, o = σ(W_i·x + b_i + W_h·h + b_h)        u = tanh(W_iu·x + b_iu + W_hu·h + b_hu)
/// c ← f·c + i·u                                 h ← o·tanh(c)
/// ```
/// In the parameters the order is i, f, u (PyTorch's g), o.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Lstm, RecurrentOptions}};
/// let options = RecurrentOptions { bidirectional: true, ..Default::default() };
/// let lstm = Lstm::new(3, 5, &options)?;
/// let x = Tensor::randn([2, 7, 3], DType::F32)?;
/// let (y, state) = lstm.forward_padded(&x, &[7, 4], None)?; // the second row has four steps
/// assert_eq!((y.dims(), state.c.dims()), (&[2, 7, 10][..], &[2, 2, 5][..]));
/// assert_eq!(y.select(0, 1)?.narrow(0, 4, 3)?.abs()?.sum(..)?.item::<f32>()?, 0.0);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct Lstm(Stack);

impl Rnn {
    /// From `input_size` numbers a step to `hidden_size`; parameters uniform within ±1/√hidden, as PyTorch's.
    ///
    /// Errors: a size is 0; `dropout` is no probability.
    pub fn new(input_size: usize, hidden_size: usize, f: Nonlinearity, options: &RecurrentOptions) -> Result<Rnn> {
        Ok(Rnn(Stack::new("Rnn", f.cell(), input_size, hidden_size, options)?))
    }
}

impl Gru {
    /// From `input_size` numbers a step to `hidden_size`; parameters uniform within ±1/√hidden, as PyTorch's.
    ///
    /// Errors: a size is 0; `dropout` is no probability.
    pub fn new(input_size: usize, hidden_size: usize, options: &RecurrentOptions) -> Result<Gru> {
        Ok(Gru(Stack::new("Gru", Cell::Gru, input_size, hidden_size, options)?))
    }
}

macro_rules! one_state {
    ($($Name:ident)*) => {$(
        impl $Name {
            /// `[B, T, input]` to the output of each step, `[B, T, directions · hidden]`, and the state at the end,
            /// `[layers · directions, B, hidden]`. It begins with `state`, of that shape, or with zeros.
            ///
            /// Errors: shapes that do not fit.
            pub fn forward(&self, x: &Tensor, state: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
                let (y, h, _) = self.0.run(x, None, [state, None])?;
                Ok((y, h))
            }

            #[doc = concat!("[`", stringify!($Name), "::forward`] of rows of several lengths: the state stops where its")]
            /// row ends, which is where the reverse direction begins, and behind that the output is 0. PyTorch:
            /// `pack_padded_sequence(enforce_sorted=False)`, and back with `total_length=T`.
            ///
            /// Errors: not one length a row; one above T. A length of 0 leaves the state as it is.
            pub fn forward_padded(
                &self,
                x: &Tensor,
                lengths: &[usize],
                state: Option<&Tensor>,
            ) -> Result<(Tensor, Tensor)> {
                let (y, h, _) = self.0.run(x, Some(lengths), [state, None])?;
                Ok((y, h))
            }
        }
    )*};
}

one_state!(Rnn Gru);

impl Lstm {
    /// From `input_size` numbers a step to `hidden_size`; parameters uniform within ±1/√hidden, as PyTorch's.
    ///
    /// Errors: a size is 0; `dropout` is no probability.
    pub fn new(input_size: usize, hidden_size: usize, options: &RecurrentOptions) -> Result<Lstm> {
        Ok(Lstm(Stack::new("Lstm", Cell::Lstm, input_size, hidden_size, options)?))
    }

    /// `[B, T, input]` to the output of each step, `[B, T, directions · hidden]`, and the state at the end, whose parts are
    /// `[layers · directions, B, hidden]`. It begins with `state`, of those shapes, or with zeros.
    ///
    /// Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, state: Option<&LstmState>) -> Result<(Tensor, LstmState)> {
        self.run(x, None, state)
    }

    /// [`Lstm::forward`] of rows of several lengths: the state stops where its row ends, which is where the reverse direction
    /// begins, and behind that the output is 0. PyTorch: `pack_padded_sequence(enforce_sorted=False)`, and back with
    /// `total_length=T`.
    ///
    /// Errors: not one length a row; one above T. A length of 0 leaves the state as it is.
    pub fn forward_padded(
        &self,
        x: &Tensor,
        lengths: &[usize],
        state: Option<&LstmState>,
    ) -> Result<(Tensor, LstmState)> {
        self.run(x, Some(lengths), state)
    }

    fn run(&self, x: &Tensor, lengths: Option<&[usize]>, state: Option<&LstmState>) -> Result<(Tensor, LstmState)> {
        let (y, h, c) = self.0.run(x, lengths, [state.map(|s| &s.h), state.map(|s| &s.c)])?;
        Ok((y, LstmState { c: c.unwrap_or_else(|| h.clone()), h }))
    }
}

macro_rules! modules {
    ($($Name:ident)*) => {$(
        impl Module for $Name {
            fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
                self.0.directions.iter().for_each(|d| d.visit(path, f));
            }

            fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
                self.0.directions.iter_mut().try_for_each(|d| d.visit_mut(path, f))
            }

            fn set_training(&mut self, training: bool) {
                self.0.dropout.set_training(training);
            }

            fn describe(&self) -> Description {
                Description::leaf(stringify!($Name), self.0.settings())
            }
        }
    )*};
}

modules!(Rnn Gru Lstm);
