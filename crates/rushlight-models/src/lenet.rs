//! A LeNet-like network for 28 × 28 grey images: conv, relu, max pool, twice; dense, dropout, log-softmax.
//!
//! Source: LeCun et al. 1998, with the widths and the relu of today; MiniTorch's Module 4 trains its like.

use rushlight::nn::{Conv2d, Dropout, Layer, Linear, Module};
use rushlight::{ConvOptions, Error, PoolOptions, Result, Tensor};

/// `[B, 1, H, W]` grey images to `[B, classes]` log-probabilities.
#[derive(Module)]
pub struct LeNet {
    /// 1 → 32 channels, 3 × 3.
    pub conv1: Conv2d,
    /// 32 → 64 channels, 3 × 3.
    pub conv2: Conv2d,
    /// All pooled features → 128.
    pub dense: Linear,
    /// Before the last layer.
    pub dropout: Dropout,
    /// 128 → classes.
    pub out: Linear,
}

impl LeNet {
    /// For images of `height` × `width`, each at least 4.
    pub fn new(height: usize, width: usize, classes: usize, dropout: f64) -> Result<LeNet> {
        if height < 4 || width < 4 || classes == 0 {
            let message = format!("images of {height} x {width} in {classes} classes are too few or too small");
            return Err(Error::invalid("LeNet", message));
        }
        let same = ConvOptions { padding: [1, 1], ..ConvOptions::default() };
        Ok(LeNet {
            conv1: Conv2d::new(1, 32, [3, 3], same)?,
            conv2: Conv2d::new(32, 64, [3, 3], same)?,
            dense: Linear::new(64 * (height / 4) * (width / 4), 128)?,
            dropout: Dropout::new(dropout)?,
            out: Linear::new(128, classes)?,
        })
    }

    /// The maps of the first layer before and after pooling, as the pictures show them: `[B, 32, H, W]` and half.
    pub fn first_maps(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let maps = self.conv1.forward(x)?.relu()?;
        let pooled = maps.max_pool2d([2, 2], PoolOptions::default())?;
        Ok((maps, pooled))
    }
}

impl Layer for LeNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv1.forward(x)?.relu()?.max_pool2d([2, 2], PoolOptions::default())?; // [B, 32, H/2, W/2]
        let x = self.conv2.forward(&x)?.relu()?.max_pool2d([2, 2], PoolOptions::default())?; // [B, 64, H/4, W/4]
        let x = self.dense.forward(&x.flatten(1, -1)?)?.relu()?; // [B, 128]
        self.out.forward(&self.dropout.forward(&x)?)?.log_softmax(-1) // [B, classes]
    }
}
