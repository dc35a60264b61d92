//! A GPT as a user of candle writes it. Attention is composed, as candle's fused one is for other devices or has no
//! gradient; so is the layer norm.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{
    AdamW, Embedding, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, embedding, linear, loss, ops,
};

use crate::rows::{Row, Step, labels, row};

pub fn rows() -> Vec<Row> {
    vec![
        row("gpt_tiny_train_step_B12_T64", || train((12, 64), &Sizes { layers: 4, heads: 4, width: 128 })),
        row("gpt_char_train_step_B16_T256", || train((16, 256), &Sizes { layers: 6, heads: 6, width: 384 })),
    ]
}

struct Sizes {
    layers: usize,
    heads: usize,
    width: usize,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(width: usize, vb: VarBuilder) -> Result<Norm> {
        let (one, zero) = (candle_nn::Init::Const(1.0), candle_nn::Init::Const(0.0));
        Ok(Norm { weight: vb.get_with_hints(width, "weight", one)?, bias: vb.get_with_hints(width, "bias", zero)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm_slow(x, &self.weight, &self.bias, 1e-5)
    }
}

struct Block {
    norm1: Norm,
    qkv: Linear,
    out: Linear,
    norm2: Norm,
    up: Linear,
    down: Linear,
    heads: usize,
}

impl Block {
    fn new(&Sizes { heads, width, .. }: &Sizes, vb: &VarBuilder) -> Result<Block> {
        Ok(Block {
            norm1: Norm::new(width, vb.pp("norm1"))?,
            qkv: linear(width, 3 * width, vb.pp("qkv"))?,
            out: linear(width, width, vb.pp("out"))?,
            norm2: Norm::new(width, vb.pp("norm2"))?,
            up: linear(width, 4 * width, vb.pp("up"))?,
            down: linear(4 * width, width, vb.pp("down"))?,
            heads,
        })
    }

    /// `mask` is 0 or −∞, `[T, T]`.
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let part = |i: usize| {
            qkv.narrow(2, i * c, c)?.reshape((b, t, self.heads, c / self.heads))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores = (q.matmul(&k.t()?)? * ((c / self.heads) as f64).powf(-0.5))?.broadcast_add(mask)?;
        let y = ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        let x = (x + self.out.forward(&y.transpose(1, 2)?.reshape((b, t, c))?)?)?;
        let h = self.up.forward(&self.norm2.forward(&x)?)?.gelu()?;
        &x + self.down.forward(&h)?
    }
}

const TOKENS: usize = 65;

struct Gpt {
    tokens: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: Norm,
    mask: Tensor,
    ids: Tensor,
}

impl Gpt {
    fn new(places: usize, sizes: &Sizes, vb: &VarBuilder) -> Result<Gpt> {
        let hidden = |i: usize| (0..places).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 });
        Ok(Gpt {
            tokens: embedding(TOKENS, sizes.width, vb.pp("tokens"))?,
            places: embedding(places, sizes.width, vb.pp("places"))?,
            blocks: (0..sizes.layers).map(|i| Block::new(sizes, &vb.pp(i))).collect::<Result<_>>()?,
            norm: Norm::new(sizes.width, vb.pp("norm"))?,
            mask: Tensor::from_iter((0..places).flat_map(hidden), &Device::Cpu)?.reshape((places, places))?,
            ids: Tensor::arange(0u32, places as u32, &Device::Cpu)?,
        })
    }

    /// Logits, by the weights of the tokens: `[B · T, TOKENS]`.
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut x = self.tokens.forward(ids)?.broadcast_add(&self.places.forward(&self.ids)?)?;
        for block in &self.blocks {
            x = block.forward(&x, &self.mask)?;
        }
        self.norm.forward(&x)?.flatten(0, 1)?.matmul(&self.tokens.embeddings().t()?)
    }
}

fn train((batch, places): (usize, usize), sizes: &Sizes) -> Result<Step> {
    let variables = VarMap::new();
    let model = Gpt::new(places, sizes, &VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    let mut optimizer = AdamW::new(variables.all_vars(), ParamsAdamW { lr: 1e-3, ..ParamsAdamW::default() })?;
    let ids = labels(batch * places, TOKENS)?.reshape((batch, places))?;
    let targets = labels(batch * places, TOKENS)?;
    Ok(Box::new(move || optimizer.backward_step(&loss::cross_entropy(&model.forward(&ids)?, &targets)?)))
}
