//! A small fully connected network: what learns the point sets.

use rushlight::nn::{Layer, Linear, Module};
use rushlight::{Result, Tensor};

/// `[B, in]` to `[B, classes]` log-probabilities, through hidden layers with relu.
#[derive(Module)]
pub struct Mlp {
    /// The hidden layers, then the output layer.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// Layers of the given widths, from the input to the classes: `[2, 64, 64, 2]`.
    pub fn new(widths: &[usize]) -> Result<Mlp> {
        Ok(Mlp { layers: widths.windows(2).map(|w| Linear::new(w[0], w[1])).collect::<Result<_>>()? })
    }
}

impl Layer for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?;
            if i + 1 < self.layers.len() {
                x = x.relu()?;
            }
        }
        x.log_softmax(-1)
    }
}
