//! Whole steps of training: forward, loss, backward, update.

use rushlight::MatmulPrecision::{self, Highest, Medium};
use rushlight::loss::{self, Reduction};
use rushlight::nn::{Layer, Linear, Relu, Sequential};
use rushlight::optim::{AdamW, Optimizer, Sgd};
use rushlight::{DType, Tensor, with_matmul_precision};
use rushlight_models::{Gpt, GptConfig, LeNet};

use super::{Row, Work, randn};

pub fn rows() -> Vec<Row> {
    let gpt2 = |block_size| GptConfig { block_size, ..GptConfig::gpt2() };
    let tiny = GptConfig { vocab_size: 65, n_layer: 4, n_head: 4, n_embd: 128, ..gpt2(64) };
    let small = GptConfig { vocab_size: 65, n_layer: 6, n_head: 6, n_embd: 384, ..gpt2(256) };
    vec![
        lenet(),
        mlp(),
        gpt("gpt_tiny_train_step_B12_T64", tiny, 12, Highest),
        gpt("gpt_char_train_step_B16_T256", small.clone(), 16, Highest),
        gpt("gpt_124M_train_step_B4_T64", gpt2(64), 4, Highest),
        gpt("gpt_124M_train_step_B4_T256", gpt2(256), 4, Highest),
        gpt("gpt_char_bf16_train_step_B16_T256", small, 16, Medium),
        gpt("gpt_124M_bf16_train_step_B4_T64", gpt2(64), 4, Medium),
    ]
}

/// A GPT without dropout on a batch of random tokens as long as it has places, AdamW. `Medium` is mixed precision.
pub fn gpt(name: &str, config: GptConfig, batch: usize, precision: MatmulPrecision) -> Row {
    let (t, c, layers) = (config.block_size, config.n_embd, config.n_layer);
    // 6 for each parameter in a product and token, and attention's seven products over half of the pairs.
    let products = 12 * layers * c * c + config.vocab_size * c;
    let flops = (batch * t) as f64 * (6.0 * products as f64 + 7.0 * (layers * c * t) as f64);
    let row = Row::new(name, Work::Flops(flops), move || {
        let mut model = Gpt::new(&config)?;
        let mut optimizer = Optimizer::new(AdamW { lr: 1e-3, ..AdamW::default() });
        let x = Tensor::randint(0, config.vocab_size as i64, [batch, t])?;
        let y = Tensor::randint(0, config.vocab_size as i64, [batch, t])?;
        Ok(Box::new(move || {
            let grads = with_matmul_precision(precision, || model.loss(&x, &y)?.backward())?;
            optimizer.step(&mut model, &grads)
        }))
    });
    row.with_memory()
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
