//! Convolutions of images: the first and two inner layers of a ResNet, and that of a LeNet.

use rushlight::{ConvOptions, Result, Tensor};

use super::{Row, Work, forward_backward, randn, step};

/// A convolution of `[batch, channels, size, size]` by `[out, channels, kernel, kernel]`.
#[derive(Clone, Copy)]
struct Case {
    batch: usize,
    channels: usize,
    out: usize,
    size: usize,
    kernel: usize,
    padding: usize,
    stride: usize,
}

const CASES: [Case; 4] = [
    Case { batch: 32, channels: 3, out: 64, size: 112, kernel: 7, padding: 3, stride: 2 },
    Case { batch: 32, channels: 64, out: 64, size: 56, kernel: 3, padding: 1, stride: 1 },
    Case { batch: 32, channels: 256, out: 256, size: 14, kernel: 3, padding: 1, stride: 1 },
    Case { batch: 64, channels: 1, out: 32, size: 28, kernel: 3, padding: 1, stride: 1 },
];

pub fn rows() -> Vec<Row> {
    CASES.into_iter().flat_map(|case| [case.forward(), case.there_and_back()]).collect()
}

impl Case {
    fn forward(self) -> Row {
        Row::new(self.name("fwd"), Work::Flops(self.flops()), move || {
            let (x, w) = self.inputs()?;
            step(move || x.conv2d(&w, None, self.options()))
        })
    }

    /// Three products of the same size: the output, and the gradients of input and weight.
    fn there_and_back(self) -> Row {
        Row::new(self.name("fb"), Work::Flops(3.0 * self.flops()), move || {
            let (x, w) = self.inputs()?;
            let (x, w) = (x.requires_grad()?, w.requires_grad()?);
            forward_backward(move || x.conv2d(&w, None, self.options()))
        })
    }

    fn name(self, pass: &str) -> String {
        let Case { batch, channels, out, size, kernel, stride, .. } = self;
        format!("conv2d_{pass}_{batch}x{channels}x{size}_k{kernel}s{stride}_co{out}")
    }

    fn inputs(self) -> Result<(Tensor, Tensor)> {
        let Case { batch, channels, out, size, kernel, .. } = self;
        Ok((randn([batch, channels, size, size])?, randn([out, channels, kernel, kernel])?))
    }

    fn options(self) -> ConvOptions<2> {
        ConvOptions { stride: [self.stride; 2], padding: [self.padding; 2], ..ConvOptions::default() }
    }

    fn flops(self) -> f64 {
        let side = (self.size + 2 * self.padding - self.kernel) / self.stride + 1;
        let products = self.batch * self.out * side * side * self.channels * self.kernel * self.kernel;
        2.0 * products as f64
    }
}
