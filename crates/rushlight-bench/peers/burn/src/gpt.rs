//! Attention, and a GPT, as a user of burn writes them: its layers, its `attention`, its AdamW.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::gelu_approximate;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor};

use crate::rows::{Row, Step, labels, randn, row, step, tracked, updating};

pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for shape @ [b, h, t, d] in [[4, 12, 1024, 64], [8, 6, 256, 64]] {
        rows.push(row(format!("sdpa_causal_fwd_{b}x{h}x{t}x{d}"), move || {
            let (q, k, v) = (randn(shape), randn(shape), randn(shape));
            step(move || causal(q.clone(), k.clone(), v.clone()))
        }));
        rows.push(row(format!("sdpa_causal_fb_{b}x{h}x{t}x{d}"), move || {
            let (q, k, v) = (tracked(shape), tracked(shape), tracked(shape));
            step(move || causal(q.clone(), k.clone(), v.clone()).backward())
        }));
    }
    rows.push(row("gpt_tiny_train_step_B12_T64", || train([12, 64], Sizes { layers: 4, heads: 4, width: 128 })));
    rows.push(row("gpt_char_train_step_B16_T256", || train([16, 256], Sizes { layers: 6, heads: 6, width: 384 })));
    rows
}

fn causal(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    attention(q, k, v, None, None, AttentionModuleOptions { is_causal: true, ..AttentionModuleOptions::default() })
}

struct Sizes {
    layers: usize,
    heads: usize,
    width: usize,
}

#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    heads: usize,
}

impl Block {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, c] = x.dims();
        let qkv = self.qkv.forward(self.norm1.forward(x.clone()));
        let mut heads =
            qkv.chunk(3, 2).into_iter().map(|z| z.reshape([b, t, self.heads, c / self.heads]).swap_dims(1, 2));
        let [q, k, v] = std::array::from_fn(|_| heads.next().expect("three pieces"));
        let y = causal(q, k, v).swap_dims(1, 2).reshape([b, t, c]);
        let x = x + self.out.forward(y);
        let h = gelu_approximate(self.up.forward(self.norm2.forward(x.clone())));
        x + self.down.forward(h)
    }
}

#[derive(Module, Debug)]
struct Gpt {
    tokens: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

const TOKENS: usize = 65;

impl Gpt {
    fn new(places: usize, sizes: &Sizes, device: &Device) -> Gpt {
        let width = sizes.width;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = || LayerNormConfig::new(width).init(device);
        let block = |_| Block {
            norm1: norm(),
            qkv: linear(width, 3 * width),
            out: linear(width, width),
            norm2: norm(),
            up: linear(width, 4 * width),
            down: linear(4 * width, width),
            heads: sizes.heads,
        };
        Gpt {
            tokens: EmbeddingConfig::new(TOKENS, width).init(device),
            places: EmbeddingConfig::new(places, width).init(device),
            blocks: (0..sizes.layers).map(block).collect(),
            norm: norm(),
        }
    }

    /// Logits, by the weights of the tokens: `[B · T, TOKENS]`.
    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let [_, t] = ids.dims();
        let places = Tensor::<1, Int>::arange(0..t as i64, &ids.device()).unsqueeze();
        let x = self.tokens.forward(ids) + self.places.forward(places);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.norm.forward(x).flatten::<2>(0, 1).matmul(self.tokens.weight.val().transpose())
    }
}

fn train([batch, places]: [usize; 2], sizes: Sizes) -> Step {
    let device = Device::flex().autodiff();
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.01).init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let (ids, targets) = (labels([batch, places], TOKENS), labels([batch * places], TOKENS));
    updating(Gpt::new(places, &sizes, &device), move |model| {
        let grads = loss.forward(model.forward(ids.clone()), targets.clone()).backward();
        let grads = GradientsParams::from_grads(grads, &model);
        optimizer.step(1e-3, model, grads)
    })
}
