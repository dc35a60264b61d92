//! The network that a Transformer applies to each place alone.
//!
//! ```text
//! y = W₂·dropout(f(W₁·x))                     f: ReLU or GELU
//! y = W₂·dropout(silu(W_g·x) ∘ (W₁·x))        SwiGLU: a gate, which says how much of each number passes
//! ```
//! Source: Vaswani et al. 2017; Shazeer 2020, "GLU variants improve Transformer".

use super::simple::plain_module;
use super::{Description, Dropout, Layer, Linear, Module, Path, Visitor, VisitorMut};
use crate::{Error, Result, Tensor};

/// What a [`FeedForward`] does between its products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// [`Tensor::relu`]
    #[default]
    Relu,
    /// [`Tensor::gelu`]
    Gelu,
    /// [`Tensor::gelu_tanh`], as GPT-2's.
    GeluTanh,
    /// A gate of its own: `silu(gate) ∘ up`, as Llama's.
    SwiGlu,
}

plain_module!(Activation, |s| format!("{s:?}"));

/// `[.., width]` to `[.., width]` by way of `hidden` numbers.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Activation, FeedForward, Layer, Module}};
/// let network = FeedForward::new(8, 32, Activation::SwiGlu, false, 0.0)?; // as Llama's
/// assert_eq!(network.num_parameters(), 3 * 8 * 32);
/// assert_eq!(network.forward(&Tensor::ones([2, 5, 8], DType::F32)?)?.dims(), [2, 5, 8]);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct FeedForward {
    activation: Activation,
    /// `[hidden, width]`, for [`Activation::SwiGlu`].
    pub gate_proj: Option<Linear>,
    /// `[hidden, width]`
    pub up_proj: Linear,
    /// `[width, hidden]`
    pub down_proj: Linear,
    /// Of the hidden numbers.
    pub dropout: Dropout,
}

impl FeedForward {
    /// Starts as PyTorch's linear layers do. Errors: `dropout` is no probability.
    pub fn new(width: usize, hidden: usize, activation: Activation, bias: bool, dropout: f64) -> Result<FeedForward> {
        let linear = |from, to| if bias { Linear::new(from, to) } else { Linear::without_bias(from, to) };
        Ok(FeedForward {
            activation,
            gate_proj: (activation == Activation::SwiGlu).then(|| linear(width, hidden)).transpose()?,
            up_proj: linear(width, hidden)?,
            down_proj: linear(hidden, width)?,
            dropout: Dropout::new(dropout)?,
        })
    }
}

impl Layer for FeedForward {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let up = self.up_proj.forward(x)?; // [.., hidden]
        let hidden = match (self.activation, &self.gate_proj) {
            (Activation::Relu, _) => up.relu()?,
            (Activation::Gelu, _) => up.gelu()?,
            (Activation::GeluTanh, _) => up.gelu_tanh()?,
            (Activation::SwiGlu, Some(gate)) => gate.forward(x)?.silu()?.mul(&up)?,
            (Activation::SwiGlu, None) => return Err(Error::invalid("FeedForward", "SwiGlu needs its gate_proj")),
        };
        self.down_proj.forward(&self.dropout.forward(&hidden)?) // [.., width]
    }
}
