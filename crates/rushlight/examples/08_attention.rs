//! Attention is softmax gating of every position over all positions.
//!
//! `softmax(q·kᵀ/√d)·v`: row i of the weights is the gate of query i over the keys, a memory of which it reads the values. A
//! causal mask shuts what comes later. Heads are several such gates side by side: here one looks for the same word, the other
//! one place back.
//!
//! ```text
//! head 0, the same word
//!           the   cat  sees   the   new   cat
//!   the    0.46  0.02  0.02  0.46  0.02  0.02  │▒  ▒  │
//!   cat    0.02  0.46  0.02  0.02  0.02  0.46  │ ▒   ▒│
//!   sees   0.03  0.03  0.84  0.03  0.03  0.03  │  ▓   │
//!   the    0.46  0.02  0.02  0.46  0.02  0.02  │▒  ▒  │
//!   new    0.03  0.03  0.03  0.03  0.84  0.03  │    ▓ │
//!   cat    0.02  0.46  0.02  0.02  0.02  0.46  │ ▒   ▒│
//! head 0, causal
//!           the   cat  sees   the   new   cat
//!   the    1.00  0.00  0.00  0.00  0.00  0.00  │█     │
//!   cat    0.04  0.96  0.00  0.00  0.00  0.00  │ █    │
//!   sees   0.04  0.04  0.93  0.00  0.00  0.00  │  █   │
//!   the    0.48  0.02  0.02  0.48  0.00  0.00  │▒  ▒  │
//!   new    0.03  0.03  0.03  0.03  0.87  0.00  │    ▓ │
//!   cat    0.02  0.46  0.02  0.02  0.02  0.46  │ ▒   ▒│
//! head 1, causal: one place back
//!           the   cat  sees   the   new   cat
//!   the    1.00  0.00  0.00  0.00  0.00  0.00  │█     │
//!   cat    0.96  0.04  0.00  0.00  0.00  0.00  │█     │
//!   sees   0.04  0.93  0.04  0.00  0.00  0.00  │ █    │
//!   the    0.03  0.03  0.90  0.03  0.00  0.00  │  █   │
//!   new    0.03  0.03  0.03  0.87  0.03  0.00  │   ▓  │
//!   cat    0.03  0.03  0.03  0.03  0.84  0.03  │    ▓ │
//! ```

mod common;

use common::{Picture, holds, row};
use rushlight::{AttentionOptions, Causal, DType, Result, Tensor};

const WORDS: [&str; 6] = ["the", "cat", "sees", "the", "new", "cat"];

fn show(title: &str, weights: &Tensor) -> Result<()> {
    println!("{title}");
    println!("        {}", WORDS.map(|w| format!("{w:>5}")).join(" "));
    for (i, word) in WORDS.iter().enumerate() {
        let gate = weights.select(0, i as i64)?;
        let shades: String =
            gate.to_f64_vec()?.iter().map(|p| [' ', '░', '▒', '▓', '█'][(p * 4.0).round() as usize]).collect();
        println!("  {word:<5} {}  │{shades}│", row(&gate)?);
    }
    Ok(())
}

fn main() -> Result<()> {
    // What a position is (a place for each word), and where it is (a place for each position).
    let word = Tensor::new([0i64, 1, 2, 0, 3, 1])?.one_hot(6)?.to_dtype(DType::F64)?; // [6, 6]
    let place = Tensor::eye(6, DType::F64)?; // [6, 6]
    // Head 0 asks for its own word; head 1 for the place before its own. Keys are what is there: [heads, positions, dim].
    // (The first has none before it: it asks for the last, which the mask shuts.)
    let before = place.roll(-1, 1)?;
    let query = Tensor::stack(&[&word, &before], 0)?.mul(8.0)?;
    let key = Tensor::stack(&[&word, &place], 0)?;
    let value = Tensor::stack(&[&place, &word], 0)?;

    // The definition, and the library's fused form of it.
    let scale = 1.0 / 6f64.sqrt();
    let weights = query.matmul(&key.transpose(-2, -1)?)?.mul(scale)?.softmax(-1)?; // [2, 6, 6]
    let out = weights.matmul(&value)?;
    let options = AttentionOptions::default();
    holds(&query.scaled_dot_product_attention(&key, &value, &options)?, &out.to_f64_vec()?)?;
    holds(&weights.sum(-1)?, &[1.0; 12])?;

    show("head 0, the same word", &weights.select(0, 0)?)?;
    let p = weights.to_f64_vec()?;
    assert!((p[0] - p[3]).abs() < 1e-9 && p[0] > 0.4, "\"the\" looks at both of its places alike");

    // A causal mask: −∞ on the scores of what comes later, so that softmax gives it 0.
    let later = Tensor::ones([6, 6], DType::Bool)?.triu(1)?;
    let scores = query.matmul(&key.transpose(-2, -1)?)?.mul(scale)?;
    let causal_weights = scores.masked_fill(&later, f64::NEG_INFINITY)?.softmax(-1)?;
    let causal = AttentionOptions { causal: Causal::UpperLeft, ..Default::default() };
    holds(&query.attention_weights(&key, &causal)?, &causal_weights.to_f64_vec()?)?;
    assert!(causal_weights.triu(1)?.sum(..)?.item::<f64>()? == 0.0);
    show("head 0, causal", &causal_weights.select(0, 0)?)?;
    show("head 1, causal: one place back", &causal_weights.select(0, 1)?)?;

    let mut picture = Picture::new(700.0, 270.0);
    let panels = [
        ("head 0: the same word", weights.select(0, 0)?),
        ("head 0, causal", causal_weights.select(0, 0)?),
        ("head 1, causal: one place back", causal_weights.select(0, 1)?),
    ];
    for (i, (title, weights)) in panels.iter().enumerate() {
        let left = 60.0 + 215.0 * i as f64;
        picture.text(left + 96.0, 25.0, title);
        picture.cells(left, 60.0, 32.0, weights, 1.0)?;
        for (j, word) in WORDS.iter().enumerate() {
            picture.text(left + 16.0 + 32.0 * j as f64, 52.0, word);
            if i == 0 {
                picture.text(left - 22.0, 81.0 + 32.0 * j as f64, word);
            }
        }
    }
    picture.save()
}
