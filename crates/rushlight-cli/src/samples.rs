//! What a language model is tuned on: windows of a text, or prompts with their answers.

use std::path::Path;

use rushlight::Tensor;
use rushlight::data::csv::{Dialect, read_columns};
use rushlight::data::epoch_generator;
use rushlight::data::text::read_text;
use rushlight::io::from_json;
use rushlight_models::text::{LmBatches, Message, Tokenizer, pad};

use crate::gpt::{IGNORED, Text};
use crate::language::Base;
use crate::{Outcome, data};

/// Tokens that are measured at a time.
const AT_ONCE: usize = 1024;

/// A prompt and the answer to be learnt.
pub struct Pair {
    prompt: String,
    answer: String,
}

/// Text that was read, in the parts to learn from and to be measured on.
pub enum Read {
    Text([String; 2]),
    Pairs([Vec<Pair>; 2]),
}

/// A line of JSON.
#[derive(serde::Deserialize)]
struct Line {
    prompt: String,
    answer: String,
}

/// What the end of a file's name says it holds.
fn is_pairs(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".tsv", ".csv", ".jsonl", ".ndjson"].iter().any(|end| name.ends_with(end))
}

/// Errors: no UTF-8; a line that is no pair, by its number; an empty answer; nothing in it.
fn read_pairs(path: &Path) -> Outcome<Vec<Pair>> {
    let shown = path.display();
    let name = path.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let mut pairs = vec![];
    if name.ends_with("sv") {
        let table = read_columns(path, Dialect::of(path), false, 2)?;
        let [prompts, answers] = [table.column(0)?, table.column(1)?];
        let pair = |(p, a): (&str, &str)| Pair { prompt: p.to_string(), answer: a.to_string() };
        pairs.extend(prompts.into_iter().zip(answers).map(pair));
    } else {
        for (i, line) in read_text(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let Line { prompt, answer } = from_json(line).map_err(|e| {
                format!("{shown}: line {}: {e}; expected {{\"prompt\": \"…\", \"answer\": \"…\"}}", i + 1)
            })?;
            pairs.push(Pair { prompt, answer });
        }
    }
    if let Some(i) = pairs.iter().position(|pair| pair.answer.trim().is_empty()) {
        return Err(format!("{shown}: pair {}: an answer without words", i + 1).into());
    }
    if pairs.is_empty() {
        return Err(format!("{shown}: no pair of a prompt and an answer in it").into());
    }
    Ok(pairs)
}

impl Read {
    /// `data` to learn from and `valid` to be measured on, or a tenth of `data`: the end of a text, or pairs that `seed`
    /// draws.
    pub fn open(data: &Path, valid: Option<&Path>, seed: u64) -> Outcome<Read> {
        if is_pairs(data) {
            let mut learnt = read_pairs(data)?;
            let measured = match valid {
                Some(valid) => read_pairs(valid)?,
                None => data::split_tenth(&mut learnt, seed),
            };
            if learnt.is_empty() {
                return Err(format!("{}: too few pairs to learn from", data.display()).into());
            }
            return Ok(Read::Pairs([learnt, measured]));
        }
        Ok(Read::Text(match valid {
            Some(valid) => [read_text(data)?, read_text(valid)?],
            None => {
                let Text { train, valid, .. } = Text::read(data)?;
                [train, valid]
            }
        }))
    }

    /// The samples of both parts, of at most `length` tokens. Errors: nothing is left of one.
    pub fn samples(&self, base: &Base, length: usize) -> Outcome<[Samples; 2]> {
        Ok(match self {
            Read::Text([learnt, measured]) => {
                let learnt = windows(&base.tokenizer, learnt, length)
                    .map_err(|e| format!("the text to learn from: {e}; see --length"))?;
                let tokens = base.tokenizer.encode(measured)?;
                let block = length.min(tokens.len().saturating_sub(1));
                let measured = LmBatches::new(tokens, block).map_err(|e| format!("the text to be measured on: {e}"))?;
                [Samples::Text(learnt, length), Samples::Text(measured, block)]
            }
            Read::Pairs([learnt, measured]) => [
                Samples::Pairs(answers(base, learnt, length, "to learn from")?),
                Samples::Pairs(answers(base, measured, length, "to be measured on")?),
            ],
        })
    }
}

fn windows(tokenizer: &Tokenizer, text: &str, length: usize) -> rushlight::Result<LmBatches> {
    LmBatches::new(tokenizer.encode(text)?, length)
}

/// A prompt with its answer as tokens, and where the answer begins.
pub struct Answer {
    tokens: Vec<i64>,
    from: usize,
}

/// Through the model's chat template, where it has one, and else with a line feed between; followed by the token that
/// ends a text, where it has one.
fn answers(base: &Base, pairs: &[Pair], length: usize, what: &str) -> Outcome<Vec<Answer>> {
    let mut out = vec![];
    for Pair { prompt, answer } in pairs {
        let mut tokens = match &base.chat {
            Some(chat) => base.tokenizer.encode_marked(&chat.render(&[Message::new("user", prompt)])?)?,
            None => base.prompt(&format!("{prompt}\n"))?,
        };
        let from = tokens.len();
        tokens.extend(base.tokenizer.encode(answer)?);
        tokens.extend(base.eos.first());
        // A window of `length` tokens, each with the one that follows.
        if from > 0 && tokens.len() > from && tokens.len() <= length + 1 {
            out.push(Answer { tokens, from });
        }
    }
    let (all, left) = (pairs.len(), out.len());
    if left == 0 {
        return Err(format!("none of the {all} pairs {what} has at most {length} tokens; see --length").into());
    }
    if left < all {
        eprintln!("note: {} of the {all} pairs {what} have more than {length} tokens and are left out", all - left);
    }
    Ok(out)
}

/// What batches are made of.
pub enum Samples {
    /// A text, and the length of its windows.
    Text(LmBatches, usize),
    Pairs(Vec<Answer>),
}

impl Samples {
    /// Tokens to be foretold.
    pub fn num_tokens(&self) -> usize {
        match self {
            Samples::Text(text, _) => text.num_tokens() - 1,
            Samples::Pairs(all) => all.iter().map(|a| a.tokens.len() - a.from).sum(),
        }
    }

    /// Steps after which each sample has come once, or as many tokens as there are.
    pub fn steps(&self, batch: usize) -> usize {
        match self {
            Samples::Text(text, length) => (text.num_tokens() / batch.saturating_mul(*length).max(1)).max(1),
            Samples::Pairs(all) => all.len().div_ceil(batch.max(1)),
        }
    }

    /// The batch of a step: tokens `[B, T]` and those that follow, `[B, T]`, `IGNORED` where they are not to be learnt.
    /// Windows are drawn; pairs come once in a pass, in an order that is drawn. All by `seed` and the step alone.
    pub fn batch(&self, batch: usize, seed: u64, step: usize) -> rushlight::Result<Vec<Tensor>> {
        match self {
            Samples::Text(text, _) => Ok(text.random(batch, &mut epoch_generator(seed, step as u64))?.to_vec()),
            Samples::Pairs(all) => {
                let (pass, place) = (step / self.steps(batch), step % self.steps(batch));
                let order = epoch_generator(seed, pass as u64).permutation(all.len());
                let rows: Vec<&Answer> =
                    order.iter().skip(place * batch).take(batch).map(|&i| &all[i as usize]).collect();
                Ok(padded(&rows)?.to_vec())
            }
        }
    }

    /// Every sample once, or so many of them that about `most` tokens are foretold.
    pub fn in_order(&self, most: usize) -> Box<dyn Iterator<Item = rushlight::Result<[Tensor; 2]>> + '_> {
        let stride = (self.num_tokens() / most.max(1)).max(1);
        match self {
            Samples::Text(text, length) => Box::new(text.in_order((AT_ONCE / length).max(1)).step_by(stride)),
            Samples::Pairs(all) => {
                let longest = all.iter().map(|a| a.tokens.len()).max().unwrap_or(1);
                let rows: Vec<&Answer> = all.iter().collect();
                let chunks: Vec<Vec<&Answer>> =
                    rows.chunks((AT_ONCE / longest).max(1)).step_by(stride).map(<[_]>::to_vec).collect();
                Box::new(chunks.into_iter().map(|rows| padded(&rows)))
            }
        }
    }
}

/// Rows of different lengths, padded at the end, where nothing before looks.
fn padded(rows: &[&Answer]) -> rushlight::Result<[Tensor; 2]> {
    let x: Vec<&[i64]> = rows.iter().map(|a| &a.tokens[..a.tokens.len() - 1]).collect();
    let followed = |a: &&Answer| [&vec![IGNORED; a.from - 1], &a.tokens[a.from..]].concat();
    let y: Vec<Vec<i64>> = rows.iter().map(followed).collect();
    Ok([pad(&x, 0)?.0, pad(&y, IGNORED)?.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(n: usize) -> Samples {
        let answer = |i| Answer { tokens: (0..3 + i as i64 % 4).collect(), from: 2 };
        Samples::Pairs((0..n).map(answer).collect())
    }

    #[test]
    fn only_answers_are_foretold() {
        let (a, b) = (Answer { tokens: vec![5, 6, 7, 8], from: 3 }, Answer { tokens: vec![5, 9, 2], from: 1 });
        let [x, y] = padded(&[&a, &b]).unwrap();
        assert_eq!(x.to_vec::<i64>().unwrap(), [5, 6, 7, 5, 9, 0]);
        assert_eq!(y.to_vec::<i64>().unwrap(), [IGNORED, IGNORED, 8, 9, 2, IGNORED]);
    }

    #[test]
    fn pairs_come_once_in_a_pass() {
        let samples = pairs(10);
        assert_eq!(samples.steps(4), 3);
        for pass in 0..2 {
            let rows = (0..3).map(|i| samples.batch(4, 7, 3 * pass + i).unwrap());
            let counts: Vec<(usize, u64)> = rows.map(|b| (b[0].dims()[0], crate::gpt::count(&b[1]).unwrap())).collect();
            assert_eq!(counts.iter().map(|c| c.0).collect::<Vec<_>>(), [4, 4, 2]);
            assert_eq!(counts.iter().map(|c| c.1).sum::<u64>() as usize, samples.num_tokens());
        }
        assert_ne!(
            samples.batch(10, 7, 0).unwrap()[0].to_vec::<i64>().unwrap(),
            samples.batch(10, 7, 1).unwrap()[0].to_vec::<i64>().unwrap()
        );
        let all: usize = samples.in_order(usize::MAX).map(|b| b.unwrap()[0].dims()[0]).sum();
        assert_eq!(all, 10);
    }
}
