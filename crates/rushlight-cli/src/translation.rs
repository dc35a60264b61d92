//! Translation: pairs of sentences as tokens and in batches, the trained network, what it writes, and how good that is.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use rushlight::data::csv::{Dialect, read_columns};
use rushlight::loss::CrossEntropy;
use rushlight::nn::Module;
use rushlight::random::Generator;
use rushlight::{Tensor, no_grad};
use rushlight_models::text::{ChrfOptions, Tokenizer, bucketed, corpus_bleu, corpus_chrf, pad};
use rushlight_models::{Translator, TranslatorConfig};

use crate::run::{Run, Task};
use crate::translate::Search;
use crate::{Outcome, data};

/// A source and its translation.
pub type Pair = (String, String);

/// The tokens before all others, in the order of the numbers that [`Translator`] has for them.
const SPECIAL: [&str; 3] = ["<pad>", "<bos>", "<eos>"];
/// Tokens that are measured at a time.
const AT_ONCE: usize = 4096;
/// Translations that are shown.
const SHOWN: usize = 10;

/// The pairs of each row. Errors: no UTF-8, with the place; a row that is no pair, or a half of one; no rows.
pub fn read_pairs(path: &Path) -> Outcome<Vec<Pair>> {
    let table = read_columns(path, Dialect::of(path), false, 2)?;
    let [sources, targets] = [table.column(0)?, table.column(1)?];
    let pair = |(s, t): (&str, &str)| (s.trim().to_string(), t.trim().to_string());
    let pairs: Vec<Pair> = sources.into_iter().zip(targets).map(pair).collect();
    match pairs.iter().position(|(s, t)| s.is_empty() || t.is_empty()) {
        Some(i) => Err(format!("{}: row {}: a source or a translation without words", path.display(), i + 1).into()),
        None => Ok(pairs),
    }
}

/// The pairs of `data` to learn from, and those of `valid`, or a tenth of `data` that `seed` draws, to be measured on.
pub fn read_parts(data: &Path, valid: Option<&Path>, seed: u64) -> Outcome<[Vec<Pair>; 2]> {
    let mut learnt = read_pairs(data)?;
    let measured = match valid {
        Some(valid) => read_pairs(valid)?,
        None => data::split_tenth(&mut learnt, seed),
    };
    if learnt.is_empty() {
        return Err(format!("{}: too few pairs to learn from", data.display()).into());
    }
    Ok([learnt, measured])
}

/// One tokenizer for both languages.
pub fn train_tokenizer(pairs: &[Pair], vocab: usize) -> Outcome<Tokenizer> {
    let lines = pairs.iter().flat_map(|(s, t)| [spaced(s), spaced(t)]);
    Ok(Tokenizer::train_bpe(lines, vocab, &SPECIAL)?)
}

/// With a space before, so that the first word of a sentence is the word it is elsewhere.
fn spaced(text: &str) -> String {
    format!(" {}", text.trim())
}

/// The tokens of sentences, each followed by the end.
pub fn tokens<'a>(tokenizer: &Tokenizer, texts: impl Iterator<Item = &'a str>) -> Outcome<Vec<Vec<i64>>> {
    let mut all = tokenizer.encode_batch(&texts.map(spaced).collect::<Vec<_>>())?;
    all.iter_mut().for_each(|ids| ids.push(Translator::EOS));
    Ok(all)
}

/// Pairs of sentences as tokens, each ending in `EOS`.
pub struct Pairs {
    source: Vec<Vec<i64>>,
    target: Vec<Vec<i64>>,
    /// How long the longer of two is: what batches are made by.
    lengths: Vec<usize>,
}

impl Pairs {
    /// Those with at most `positions` tokens on each side. Errors: none is left.
    pub fn new(tokenizer: &Tokenizer, pairs: &[Pair], positions: usize) -> Outcome<Pairs> {
        let source = tokens(tokenizer, pairs.iter().map(|p| &p.0[..]))?;
        let target = tokens(tokenizer, pairs.iter().map(|p| &p.1[..]))?;
        let fits = |pair: &(Vec<i64>, Vec<i64>)| pair.0.len().max(pair.1.len()) <= positions;
        let (source, target): (Vec<_>, Vec<_>) = source.into_iter().zip(target).filter(fits).unzip();
        let (all, left) = (pairs.len(), source.len());
        if left == 0 {
            return Err(format!("none of {all} pairs has at most {positions} tokens a side; see --positions").into());
        }
        if left < all {
            eprintln!("note: {} of {all} pairs have more than {positions} tokens a side and are left out", all - left);
        }
        let lengths = source.iter().zip(&target).map(|(s, t)| s.len().max(t.len())).collect();
        Ok(Pairs { source, target, lengths })
    }

    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// The tokens to be written.
    pub fn num_tokens(&self) -> usize {
        self.target.iter().map(Vec::len).sum()
    }

    /// Batches of pairs of about the same length, with as many tokens as `batch` pairs of mean length have.
    pub fn batches(&self, batch: usize, generator: &mut Generator) -> Vec<Vec<usize>> {
        let mean = self.lengths.iter().sum::<usize>().div_ceil(self.len().max(1));
        bucketed(&self.lengths, batch.saturating_mul(mean), generator)
    }

    /// What the network sees of these pairs: sources, `[B, S]`; targets one place later, `[B, T]`; the places in those
    /// that are no padding, `[n]`, counted over all rows; and the tokens that follow there, `[n]`.
    pub fn batch(&self, rows: &[usize]) -> rushlight::Result<Vec<Tensor>> {
        let source: Vec<&[i64]> = rows.iter().map(|&i| &self.source[i][..]).collect();
        // The target without its end, behind the beginning.
        let begun = |&i: &usize| [&[Translator::BOS][..], &self.target[i][..self.target[i].len() - 1]].concat();
        let begun: Vec<Vec<i64>> = rows.iter().map(begun).collect();
        let (source, _) = pad(&source, Translator::PAD)?;
        let (begun, _) = pad(&begun, Translator::PAD)?;
        let t = begun.dims()[1];
        let places = rows.iter().enumerate().flat_map(|(row, &i)| (0..self.target[i].len()).map(move |j| row * t + j));
        let places: Vec<i64> = places.map(|at| at as i64).collect();
        let next: Vec<i64> = rows.iter().flat_map(|&i| self.target[i].iter().copied()).collect();
        let n = next.len();
        Ok(vec![source, begun, Tensor::from_vec(places, n)?, Tensor::from_vec(next, n)?])
    }
}

/// Rows of a [`Pairs::batch`], padded as they are there.
pub fn part(batch: &[Tensor], rows: Range<usize>) -> rushlight::Result<Vec<Tensor>> {
    let [source, begun, places, next] = batch else {
        return Err(rushlight::Error::invalid("part", "internal: a batch has four parts"));
    };
    let first = |row: usize| (row * begun.dims()[1]) as i64;
    let places = places.to_vec::<i64>()?;
    let [from, to] = [rows.start, rows.end].map(|row| places.partition_point(|&at| at < first(row)));
    let mine: Vec<i64> = places[from..to].iter().map(|at| at - first(rows.start)).collect();
    let cut = |t: &Tensor| t.narrow(0, rows.start, rows.len());
    Ok(vec![cut(source)?, cut(begun)?, Tensor::from_vec(mine, to - from)?, next.narrow(0, from, to - from)?])
}

/// The mean loss of a batch, a share `smoothing` of each target spread over all tokens, and how many of the likeliest
/// tokens are right.
pub fn score(model: &Translator, batch: &[Tensor], smoothing: f64) -> Outcome<(Tensor, u64)> {
    let [source, begun, places, next] = batch else { return Err("internal: a batch has four parts".into()) };
    let x = model.decode_hidden(begun, &model.encode(source)?)?; // [B, T, C]
    // The output layer is a third of the cost; padding is not asked.
    let logits = model.logits(&x.flatten(0, 1)?.index_select(0, places)?)?; // [n, vocab]
    let right = logits.detach().argmax(-1)?.eq(next)?.sum(..)?.item::<i64>()? as u64;
    let loss = CrossEntropy { label_smoothing: smoothing, ..CrossEntropy::default() };
    Ok((loss.forward(&logits, next)?, right))
}

/// The mean loss over all pairs, and the share of tokens that were the likeliest.
pub fn measure(model: &mut Translator, pairs: &Pairs, smoothing: f64) -> Outcome<[f64; 2]> {
    model.eval();
    let (mut loss, mut right, mut tokens) = (0.0, 0, 0);
    for rows in bucketed(&pairs.lengths, AT_ONCE, &mut Generator::new(0)) {
        let batch = pairs.batch(&rows)?;
        let (value, hits) = no_grad(|| score(model, &batch, smoothing))?;
        let n = batch[3].numel();
        loss += value.item::<f64>()? * n as f64;
        (right, tokens) = (right + hits, tokens + n);
    }
    Ok([loss / tokens.max(1) as f64, right as f64 / tokens.max(1) as f64])
}

/// The sizes of a run of `train translate`.
pub fn sizes(run: &Run) -> Outcome<&TranslatorConfig> {
    match &run.config.task {
        Task::Translate { config, .. } => Ok(config),
        _ => Err(format!("{} is no run of train translate", run.folder.display()).into()),
    }
}

/// The trained network of a run.
pub fn load(run: &Run) -> Outcome<Translator> {
    let mut model = Translator::new(sizes(run)?)?;
    run.load_model(&mut model)?;
    model.eval();
    Ok(model)
}

/// The text of tokens.
pub fn text(tokenizer: &Tokenizer, ids: &[i64]) -> Outcome<String> {
    Ok(tokenizer.decode(ids)?.trim().to_string())
}

/// Sentences beside their translations, and what the metrics say of these.
pub struct Translated<'a> {
    pairs: &'a [Pair],
    ours: Vec<String>,
    pub seconds: f64,
}

impl<'a> Translated<'a> {
    /// Errors: a source of more tokens than the model has positions, by its `name`.
    pub fn of(
        model: &Translator,
        tokenizer: &Tokenizer,
        pairs: &'a [Pair],
        search: &Search,
        name: impl Fn(usize) -> String,
    ) -> Outcome<Translated<'a>> {
        let begin = Instant::now();
        let sources = tokens(tokenizer, pairs.iter().map(|p| &p.0[..]))?;
        let written = search.write(model, &sources, name)?;
        let ours = written.iter().map(|ids| text(tokenizer, ids)).collect::<Outcome<_>>()?;
        Ok(Translated { pairs, ours, seconds: begin.elapsed().as_secs_f64() })
    }

    /// Prints some of them, from all over.
    pub fn show(&self, count: usize) -> Outcome {
        let step = (self.pairs.len() / count.max(1)).max(1);
        for (pair, ours) in self.pairs.iter().zip(&self.ours).step_by(step).take(count) {
            say!("source     {}\nreference  {}\nours       {ours}\n", pair.0, pair.1);
        }
        Ok(())
    }

    /// Prints BLEU and chrF, each with how it is computed.
    pub fn score(&self) -> Outcome {
        let references: Vec<[&str; 1]> = self.pairs.iter().map(|p| [&p.1[..]]).collect();
        let bleu = corpus_bleu(&self.ours, &references)?;
        let chrf = corpus_chrf(&self.ours, &references, &ChrfOptions::default())?;
        say!("{bleu}\n  {}\n{chrf}\n  {}", bleu.signature(), chrf.signature());
        Ok(())
    }
}

/// `rushlight eval`: sample translations, loss, BLEU and chrF over the run's test pairs, or over those of `other`.
pub fn evaluate(run: &Run, other: Option<&Path>, search: &Search) -> Outcome {
    let Task::Translate { data, valid, test, config } = &run.config.task else {
        return Err(format!("{} is no run of train translate", run.folder.display()).into());
    };
    let path = other.or(test.as_deref()).or(valid.as_deref());
    let pairs = match path {
        Some(path) => read_pairs(path)?,
        None => read_parts(data, None, run.config.seed)?[1].clone(),
    };
    let path = path.unwrap_or(data).display();
    let (mut model, tokenizer) = (load(run)?, run.tokenizer()?);
    let translated = Translated::of(&model, tokenizer, &pairs, search, |i| format!("{path}: row {}", i + 1))?;
    let [loss, accuracy] = measure(&mut model, &Pairs::new(tokenizer, &pairs, config.positions)?, 0.0)?;
    translated.show(SHOWN)?;
    let (n, seconds) = (pairs.len(), translated.seconds);
    say!("{n} pairs of {path}, translated in {seconds:.1} s: {:.0} sentences a second", n as f64 / seconds.max(1e-9));
    say!(
        "loss {loss:.4}, perplexity {:.2}, the likeliest token right {:.2}% of the time",
        loss.exp(),
        100.0 * accuracy
    );
    translated.score()
}
