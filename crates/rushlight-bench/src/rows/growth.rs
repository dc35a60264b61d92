//! How cost grows: training steps of a small GPT over longer contexts and larger batches, and attention over longer ones.
//! They are measured with `--growth` only.

use rushlight::MatmulPrecision::Highest;
use rushlight::{AttentionOptions, Causal, Tensor};
use rushlight_models::GptConfig;

use super::train::gpt;
use super::{Row, Work, forward_backward, randn};

/// Places of a context, at a batch of [`BATCH`].
const PLACES: [usize; 5] = [128, 256, 512, 1024, 2048];
pub const BATCH: usize = 4;
/// Batches, of contexts of 128 places; that of 4 is among the above.
const BATCHES: [usize; 6] = [1, 2, 8, 16, 32, 64];
/// Places that attention sees, and to how many the one that keeps its weights goes.
const SEEN: [usize; 5] = [512, 1024, 2048, 4096, 8192];
const KEPT: usize = 4096;
const HEADS: usize = 6;
const DIM: usize = 64;

pub fn rows() -> Vec<Row> {
    let sizes = PLACES.map(|t| (BATCH, t)).into_iter().chain(BATCHES.map(|b| (b, PLACES[0])));
    let steps = sizes.map(|(batch, t)| {
        let config =
            GptConfig { vocab_size: 65, block_size: t, n_layer: 6, n_head: 6, n_embd: 384, ..GptConfig::gpt2() };
        gpt(&format!("growth_gpt_B{batch}_T{t}"), config, batch, Highest)
    });
    let kept = SEEN.into_iter().filter(|&t| t <= KEPT).map(|t| attention("kept", t, keep));
    steps.chain(SEEN.map(|t| attention("attention", t, attend))).chain(kept).collect()
}

/// There and back over `places`, causal: seven products over half of the pairs.
fn attention(kind: &str, places: usize, f: fn([&Tensor; 3]) -> rushlight::Result<Tensor>) -> Row {
    let flops = 7.0 * (HEADS * places * places * DIM) as f64;
    let row = Row::new(format!("growth_{kind}_T{places}"), Work::Flops(flops), move || {
        let one = || randn([1, HEADS, places, DIM])?.requires_grad();
        let (q, k, v) = (one()?, one()?, one()?);
        forward_backward(move || f([&q, &k, &v]))
    });
    row.with_memory()
}

fn attend([q, k, v]: [&Tensor; 3]) -> rushlight::Result<Tensor> {
    let causal = AttentionOptions { causal: Causal::UpperLeft, ..AttentionOptions::default() };
    q.scaled_dot_product_attention(k, v, &causal)
}

/// The definition, which holds a weight for each pair (no mask: what counts here is memory).
fn keep([q, k, v]: [&Tensor; 3]) -> rushlight::Result<Tensor> {
    q.mul((DIM as f64).sqrt().recip())?.matmul(&k.t()?)?.softmax(-1)?.matmul(v)
}
