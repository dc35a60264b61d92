//! Causal attention, of GPT-2's heads over 1,024 places and of a small model's over 256.

use rushlight::{AttentionOptions, Causal, Tensor};

use super::{Row, Work, forward_backward, randn, step};

pub fn rows() -> Vec<Row> {
    [[4, 12, 1024, 64], [8, 6, 256, 64]].into_iter().flat_map(attention).collect()
}

/// Half of the pairs of places are seen: two products of `dim` operations there, and five more back.
fn attention([batch, heads, places, dim]: [usize; 4]) -> [Row; 2] {
    let name = |pass: &str| format!("sdpa_causal_{pass}_{batch}x{heads}x{places}x{dim}");
    let product = (batch * heads * places * places * dim) as f64;
    let qkv = move || randn([batch, heads, places, dim]);
    let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
        let causal = AttentionOptions { causal: Causal::UpperLeft, ..AttentionOptions::default() };
        q.scaled_dot_product_attention(k, v, &causal)
    };
    [
        Row::new(name("fwd"), Work::Flops(2.0 * product), move || {
            let (q, k, v) = (qkv()?, qkv()?, qkv()?);
            step(move || attend(&q, &k, &v))
        }),
        Row::new(name("fb"), Work::Flops(7.0 * product), move || {
            let (q, k, v) = (qkv()?.requires_grad()?, qkv()?.requires_grad()?, qkv()?.requires_grad()?);
            forward_backward(move || attend(&q, &k, &v))
        }),
    ]
}
