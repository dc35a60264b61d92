//! Questions about a language model, for `scripts/compare_llama.py`: a line of JSON in, a line of JSON out.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use rushlight::nn::KvCache;
use rushlight::{Result, Tensor, loss, no_grad};
use rushlight_models::{Llama, Network, Pretrained};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Outcome;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Question {
    /// The tokens of a text, without those that are put around one.
    Tokens { text: String },
    /// The `num` most likely tokens after these, one by one, and the `top` best logits at each.
    Greedy { tokens: Vec<i64>, num: usize, top: usize },
    /// The sum over all tokens but the first of −log their probability.
    Loss { tokens: Vec<i64> },
    /// Seconds to read these tokens, and to write as many again as `num` says.
    Speed { tokens: Vec<i64>, num: usize },
    /// The most bytes that the process has held.
    Peak,
}

/// Answers until the input ends.
pub fn serve(model: &Path, threads: usize) -> Outcome {
    rushlight::set_num_threads(threads)?;
    let found = Pretrained::load(model)?;
    let Network::Llama(llama) = &found.network else {
        return Err(format!("{}: expected a Llama, not {}", model.display(), found.network.architecture()).into());
    };
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Question::Tokens { text } => json!(found.tokenizer()?.encode_marked(&text)?),
            Question::Greedy { tokens, num, top } => greedy(llama, tokens, num, top)?,
            Question::Loss { tokens } => json!(negative_log(llama, &tokens)?),
            Question::Speed { tokens, num } => speed(llama, &tokens, num)?,
            Question::Peak => json!(rushlight::memory::resident().map(|(peak, _)| peak)),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn next(llama: &Llama, tokens: &[i64], cache: &mut KvCache) -> Result<Vec<f32>> {
    llama.next_logits(&Tensor::from_slice(tokens, [1, tokens.len()])?, cache)?.to_vec()
}

/// The first of the largest.
fn best(logits: &[f32]) -> i64 {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as i64
}

fn greedy(llama: &Llama, mut new: Vec<i64>, num: usize, top: usize) -> Result<Value> {
    let mut cache = llama.cache(new.len() + num);
    let (mut said, mut tops) = (vec![], vec![]);
    for _ in 0..num {
        let logits = next(llama, &new, &mut cache)?;
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        tops.push(order[..top.min(order.len())].iter().map(|&i| json!([i, logits[i]])).collect::<Vec<_>>());
        new = vec![best(&logits)];
        said.push(new[0]);
    }
    Ok(json!({ "tokens": said, "top": tops }))
}

fn negative_log(llama: &Llama, tokens: &[i64]) -> Result<f32> {
    let (last, n) = (tokens.len() - 1, tokens.len());
    let logits = no_grad(|| llama.forward(&Tensor::from_slice(&tokens[..last], [1, last])?))?;
    let logits = logits.reshape([last, logits.dims()[2]])?;
    Ok(loss::cross_entropy(&logits, &Tensor::from_slice(&tokens[1..], n - 1)?)?.item::<f32>()? * last as f32)
}

fn speed(llama: &Llama, tokens: &[i64], num: usize) -> Result<Value> {
    let mut cache = llama.cache(tokens.len() + num);
    let begin = Instant::now();
    let mut logits = next(llama, tokens, &mut cache)?;
    let prefill = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    for _ in 0..num {
        logits = next(llama, &[best(&logits)], &mut cache)?;
    }
    Ok(json!({ "prefill": prefill, "decode": begin.elapsed().as_secs_f64() }))
}
