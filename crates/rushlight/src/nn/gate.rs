//! Gates as layers: [`Gate`] chooses between two networks, [`Highway`] between a network and its input.

use super::{Layer, Linear, Module};
use crate::{Error, Result, Tensor};

/// Any layer, as one of several to choose from.
pub type BoxedLayer = Box<dyn Layer + Send + Sync>;

/// A learned choice between two networks: `first(x)·σ(r) + second(x)·(1 − σ(r))`, with the score `r = gate(x)`.
///
/// The gate learns, from the input, which of the two is useful for it, and the gradient goes to the one that is used. With a
/// gate layer of one output there is one choice for each row, with as many as the networks have there is one for each
/// number. See [`Tensor::gate`].
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Gate, Layer, Linear, Relu, Sequential}};
/// let first = Sequential::new().push(Linear::new(3, 8)?).push(Relu).push(Linear::new(8, 2)?);
/// let gate = Gate::new(first, Linear::new(3, 2)?, Linear::new(3, 1)?);
/// let x = Tensor::ones([4, 3], DType::F32)?;
/// assert_eq!(gate.forward(&x)?.dims(), [4, 2]);
/// assert_eq!(gate.openness(&x)?.dims(), [4, 1]);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct Gate {
    /// Whom the gate opens for.
    pub first: BoxedLayer,
    /// Who passes where it is shut.
    pub second: BoxedLayer,
    /// The score.
    pub gate: BoxedLayer,
}

impl Gate {
    /// A gate of these three, which all read the same input.
    pub fn new(
        first: impl Layer + Send + Sync + 'static,
        second: impl Layer + Send + Sync + 'static,
        gate: impl Layer + Send + Sync + 'static,
    ) -> Gate {
        Gate { first: Box::new(first), second: Box::new(second), gate: Box::new(gate) }
    }

    /// How far the gate stands open for the first network: `σ(gate(x))`, from 0 to 1.
    pub fn openness(&self, x: &Tensor) -> Result<Tensor> {
        self.gate.forward(x)?.sigmoid()
    }
}

impl Layer for Gate {
    /// Errors: shapes of the three that do not broadcast.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.first.forward(x)?.gate(&self.second.forward(x)?, &self.gate.forward(x)?)
    }
}

/// What the biases of a [`Highway`]'s gates start as: `σ(−2)` is 0.12, so that at first most of the input is carried.
const SHUT: f64 = -2.0;

/// One layer of a [`Highway`].
#[derive(Module)]
pub struct HighwayLayer {
    /// `[width, width]`: `W_H`, in front of the activation.
    pub transform: Linear,
    /// `[width, width]`: `W_T`, the scores of the gates.
    pub gate: Linear,
}

/// Layers that carry their input past themselves where their gates are shut, so that deep stacks of them can be trained.
///
/// ```text
/// y = H(x)·T(x) + x·(1 − T(x))      H(x) = f(W_H·x + b_H)      T(x) = σ(W_T·x + b_T)
/// ```
/// The biases `b_T` start at −2: at first each layer is nearly the identity, as the paper asks for, which takes −1 to −3
/// by the depth. Source: Srivastava et al. 2015, "Highway networks".
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Highway, Layer, Module, Tanh}};
/// let highway = Highway::new(8, 20, Tanh)?; // 20 layers of 8 numbers
/// let x = Tensor::randn([4, 8], DType::F32)?;
/// assert_eq!(highway.forward(&x)?.dims(), [4, 8]);
/// assert_eq!(highway.num_parameters(), 20 * 2 * (8 * 8 + 8));
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct Highway {
    /// From the first on.
    pub layers: Vec<HighwayLayer>,
    /// `f`, which all layers share.
    pub activation: BoxedLayer,
}

impl Highway {
    /// Layers of `[.., width]` to the same, with an activation such as [`Relu`](super::Relu). Weights start as PyTorch's
    /// linear layers do. Errors: the width is 0.
    pub fn new(width: usize, layers: usize, activation: impl Layer + Send + Sync + 'static) -> Result<Highway> {
        if width == 0 {
            return Err(Error::invalid("Highway", "the width must not be 0"));
        }
        let layer = |_| {
            let (transform, mut gate) = (Linear::new(width, width)?, Linear::new(width, width)?);
            gate.bias = gate.bias.map(|b| b.full_like(SHUT)?.requires_grad()).transpose()?;
            Ok(HighwayLayer { transform, gate })
        };
        Ok(Highway { layers: (0..layers).map(layer).collect::<Result<_>>()?, activation: Box::new(activation) })
    }

    /// How far the gates of each layer stand open, `T(x)`, `[.., width]`: where little, the layer is not needed.
    pub fn openness(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut x = x.clone();
        self.layers
            .iter()
            .map(|layer| {
                let r = layer.gate.forward(&x)?;
                x = self.step(layer, &x, &r)?;
                r.sigmoid()
            })
            .collect()
    }

    fn step(&self, layer: &HighwayLayer, x: &Tensor, r: &Tensor) -> Result<Tensor> {
        self.activation.forward(&layer.transform.forward(x)?)?.gate(x, r)
    }
}

impl Layer for Highway {
    /// Errors: an input that is not `[.., width]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| self.step(layer, &x, &layer.gate.forward(&x)?))
    }
}
