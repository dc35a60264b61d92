//! Whole steps of training: forward, loss, backward, update.

use rushlight::loss::{self, Reduction};
use rushlight::nn::{Layer, Linear, Relu, Sequential};
use rushlight::optim::{Optimizer, Sgd};
use rushlight::{DType, Tensor};
use rushlight_models::LeNet;

use super::{Row, Work, randn};

pub fn rows() -> Vec<Row> {
    vec![lenet(), mlp()]
}

/// A LeNet of 32 and 64 channels with dropout on a batch of 64 grey images of 28 × 28.
fn lenet() -> Row {
    // Per image: the first convolution needs no gradient of its input, so two products; the rest three.
    let (conv1, conv2) = (32 * 9 * 28 * 28, 64 * 32 * 9 * 14 * 14);
    let (dense, out) = (64 * 7 * 7 * 128, 128 * 10);
    let flops = 2.0 * 64.0 * f64::from(2 * conv1 + 3 * (conv2 + dense + out));
    let row = Row::new("lenet_train_step_b64", Work::Flops(flops), || {
        let mut model = LeNet::new(28, 28, 10, 0.25)?;
        let mut optimizer = Optimizer::new(Sgd { lr: 0.01, momentum: 0.9, ..Sgd::default() });
        let (x, y) = (randn([64, 1, 28, 28])?, Tensor::randint(0, 10, [64])?);
        Ok(Box::new(move || {
            let grads = loss::nll_loss(&model.forward(&x)?, &y)?.backward()?;
            optimizer.step(&mut model, &grads)
        }))
    });
    row.with_memory()
}

/// 50 points of a plane through two layers of 64: the overhead of a call, about thirty times.
fn mlp() -> Row {
    let row = Row::new("mlp_tiny_train_step", Work::Calls, || {
        let mut model = Sequential::new()
            .push(Linear::new(2, 64)?)
            .push(Relu)
            .push(Linear::new(64, 64)?)
            .push(Relu)
            .push(Linear::new(64, 1)?);
        let mut optimizer = Optimizer::new(Sgd { lr: 0.5, ..Sgd::default() });
        let (x, y) = (randn([50, 2])?, Tensor::rand([50, 1], DType::F32)?.round()?);
        Ok(Box::new(move || {
            let logits = model.forward(&x)?;
            let loss = loss::binary_cross_entropy_with_logits(&logits, &y, None, None, Reduction::Mean)?;
            optimizer.step(&mut model, &loss.backward()?)
        }))
    });
    row.with_memory()
}
