//! Language models: the text of a run as tokens, the trained network, and how well it foretells a text.

use std::path::{Path, PathBuf};

use rushlight::data::text::read_text;
use rushlight::nn::Module;
use rushlight::{Tensor, loss, no_grad};
use rushlight_models::text::{LmBatches, Tokenizer};
use rushlight_models::{Gpt, GptConfig};

use crate::Outcome;
use crate::run::{Run, Task};

/// Tokens that are measured at a time.
const AT_ONCE: usize = 4096;

/// A text in its two parts.
pub struct Text {
    pub path: PathBuf,
    /// The first nine tenths, to learn from.
    pub train: String,
    /// The rest, to be measured on.
    pub valid: String,
}

impl Text {
    /// Errors: no UTF-8, with the place; a text of a character or less.
    pub fn read(path: &Path) -> Outcome<Text> {
        let mut train = read_text(path)?;
        let tenth = train.len().div_ceil(10);
        let cut = (0..=train.len() - tenth).rev().find(|&i| train.is_char_boundary(i)).unwrap_or(0);
        let valid = train.split_off(cut);
        if train.is_empty() || valid.is_empty() {
            return Err(format!("{}: empty, or too short to learn from and be measured on", path.display()).into());
        }
        Ok(Text { path: path.to_path_buf(), train, valid })
    }
}

/// The data and the sizes of a run of `train gpt`.
pub fn task(run: &Run) -> Outcome<(&Path, &GptConfig)> {
    match &run.config.task {
        Task::Gpt { data, config, .. } => Ok((data, config)),
        _ => Err(format!("{} is no run of train gpt", run.folder.display()).into()),
    }
}

/// The trained network of a run.
pub fn load(run: &Run) -> Outcome<Gpt> {
    let mut model = Gpt::new(task(run)?.1)?;
    run.load_model(&mut model)?;
    model.eval();
    Ok(model)
}

/// A text's tokens in blocks, or why they cannot be had, with the file.
pub fn batches(tokenizer: &Tokenizer, text: &str, path: &Path, block: usize) -> Outcome<LmBatches> {
    let in_file = |e: rushlight::Error| format!("{}: {e}", path.display());
    Ok(LmBatches::new(tokenizer.encode(text).map_err(in_file)?, block).map_err(in_file)?)
}

/// How a model foretells the tokens of a text.
pub struct Foretold {
    /// Mean negative log-likelihood of a token, in nats.
    pub loss: f64,
    /// The share of tokens that were the likeliest.
    pub accuracy: f64,
    pub tokens: usize,
}

impl Foretold {
    /// Of every `stride`th batch of the text, each token seeing what comes before it in its block.
    pub fn of(model: &mut Gpt, text: &LmBatches, block: usize, stride: usize) -> Outcome<Foretold> {
        model.eval();
        let batches = text.in_order((AT_ONCE / block).max(1)).step_by(stride.max(1));
        Foretold::by(|x| model.forward(x), batches)
    }

    /// Of tokens `[B, T]` with those that follow, by the logits that `forward` gives, `[B, T, vocab]`.
    pub fn by(
        forward: impl Fn(&Tensor) -> rushlight::Result<Tensor>,
        batches: impl Iterator<Item = rushlight::Result<[Tensor; 2]>>,
    ) -> Outcome<Foretold> {
        let (mut loss, mut right, mut tokens) = (0.0, 0, 0);
        for batch in batches {
            let [x, y] = batch?;
            let (value, hits) = no_grad(|| score(&forward(&x)?, &y))?;
            let n = count(&y)?;
            loss += value.item::<f64>()? * n as f64;
            (right, tokens) = (right + hits, tokens + n);
        }
        let all = tokens.max(1) as f64;
        Ok(Foretold { loss: loss / all, accuracy: right as f64 / all, tokens: tokens as usize })
    }

    /// Which share of the batches gives about so many tokens.
    pub fn stride(text: &LmBatches, tokens: usize) -> usize {
        (text.num_tokens() / tokens).max(1)
    }
}

/// In place of a token that is not to be foretold.
pub const IGNORED: i64 = -100;

/// How many tokens are to be foretold.
pub fn count(y: &Tensor) -> rushlight::Result<u64> {
    Ok(y.ne(IGNORED)?.sum(..)?.item::<i64>()? as u64)
}

/// The mean loss of logits `[B, T, vocab]` for the tokens `[B, T]`, and how many of the likeliest are right.
pub fn score(logits: &Tensor, y: &Tensor) -> rushlight::Result<(Tensor, u64)> {
    let (logits, y) = (logits.flatten(0, 1)?, y.flatten(0, 1)?); // [B · T, vocab], [B · T]
    let right = logits.detach().argmax(-1)?.eq(&y)?.sum(..)?.item::<i64>()? as u64;
    Ok((loss::cross_entropy(&logits, &y)?, right))
}

/// `rushlight eval`: loss, perplexity and bits per byte, over the part of the run's text that it did not learn from, or
/// over all of another.
pub fn evaluate(run: &Run, other: Option<&Path>) -> Outcome {
    let (data, config) = task(run)?;
    let text = match other {
        Some(path) => read_text(path)?,
        None => Text::read(data)?.valid,
    };
    let path = other.unwrap_or(data);
    let tokens = batches(run.tokenizer()?, &text, path, config.block_size)?;
    let mut model = load(run)?;
    let found = Foretold::of(&mut model, &tokens, config.block_size, 1)?;
    let bits = found.loss / std::f64::consts::LN_2 * found.tokens as f64 / text.len() as f64;
    say!("{} tokens of {} ({} bytes)", found.tokens, path.display(), text.len());
    say!("loss {:.4}, perplexity {:.2}, bits per byte {bits:.3}", found.loss, found.loss.exp());
    say!("the likeliest token was right {:.2}% of the time", 100.0 * found.accuracy);
    Ok(())
}
