//! Beam search: the likeliest continuation, of a few that are followed side by side.
//!
//! ```text
//! score = Σ log p(token | those before) / ((5 + length) / 6)^α
//! ```
//!
//! Greedy writing cannot take a step back where the likeliest token led astray. A beam keeps the so many likeliest
//! beginnings. A sum of logarithms falls with each token, so that the shortest would win; the penalty of GNMT evens that
//! out. Unlike the plainer `length^α` it hardly rewards the second word of a very short text over the first.
//!
//! A beginning that `eos` ends leaves the beam. A sentence is done as soon as as many have ended as the beam is wide, or
//! as none that is left could score higher than those that are asked for. Source: Wu et al. 2016; the rest as in fairseq.

use std::cmp::Ordering;

use rushlight::{DType, Error, Result, Tensor, no_grad};

const OP: &str = "BeamSearch";

/// How a search goes.
///
/// ```
/// use rushlight::Tensor;
/// use rushlight::nn::Module;
/// use rushlight_models::text::BeamSearch;
/// use rushlight_models::{Gpt, GptConfig};
///
/// let config = GptConfig { vocab_size: 16, block_size: 12, n_layer: 2, n_head: 2, n_embd: 32, ..GptConfig::gpt2() };
/// let mut gpt = Gpt::new(&config)?;
/// gpt.eval();
/// let prompts = Tensor::new([[3i64, 1, 4], [2, 7, 1]])?;
/// let mut cache = gpt.cache();
/// let search = BeamSearch { beams: 3, n_best: 2, max_length: 8, eos: Some(0), ..Default::default() };
/// let found = search.run(&prompts, |tokens, parents| {
///     cache.reorder(parents)?; // each beam goes on where its parent was
///     gpt.next_logits(tokens, &mut cache)
/// })?;
/// assert_eq!((found.len(), found[0].len()), (2, 2));
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamSearch {
    /// How many beginnings are followed; 1 is greedy. Default 4.
    pub beams: usize,
    /// How many continuations of each sentence are asked for, at most `beams`. Default 1.
    pub n_best: usize,
    /// `α`: 0 for none, larger for longer texts. Default 0.6.
    pub length_penalty: f64,
    /// The most tokens that are written, `eos` among them. Default 128.
    pub max_length: usize,
    /// The token that ends a text; without one all are of the greatest length. Default none.
    pub eos: Option<i64>,
}

impl Default for BeamSearch {
    fn default() -> Self {
        BeamSearch { beams: 4, n_best: 1, length_penalty: 0.6, max_length: 128, eos: None }
    }
}

/// A continuation that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// What was written, without the beginning that was given and without `eos`.
    pub tokens: Vec<i64>,
    /// Whether `eos` ended it, and not the greatest length.
    pub finished: bool,
    /// `Σ log p`, of `eos` too.
    pub log_prob: f64,
    /// `log_prob` by the length penalty, whose length counts `eos`: what decides.
    pub score: f64,
}

/// A beginning: its tokens and `Σ log p`.
#[derive(Clone)]
struct Beam {
    row: usize,
    tokens: Vec<i64>,
    log_prob: f64,
}

/// A sentence under way.
#[derive(Default)]
struct Sentence {
    live: Vec<Beam>,
    ended: Vec<Hypothesis>,
}

impl BeamSearch {
    /// Errors: a setting that makes no sense, by name.
    pub fn check(&self) -> Result<()> {
        let BeamSearch { beams, n_best, length_penalty, max_length, .. } = *self;
        let refuse = |message: String| Err(Error::invalid(OP, message));
        match () {
            _ if beams == 0 => refuse("beams 0: expected 1 or more".into()),
            _ if n_best == 0 || n_best > beams => refuse(format!("n_best {n_best}: expected 1 to beams, {beams}")),
            _ if max_length == 0 => refuse("max_length 0: expected 1 or more".into()),
            _ if !(length_penalty >= 0.0 && length_penalty.is_finite()) => {
                refuse(format!("length_penalty {length_penalty}: expected a finite number of 0 or more"))
            }
            _ => Ok(()),
        }
    }

    /// The `n_best` continuations of each sentence, best first; those that `eos` ended before those that grew too long.
    /// Fewer where there are no more.
    ///
    /// `start` is `[B, T]` of i64: what each sentence begins with. `step` is given tokens and parents, and returns the
    /// logits of what follows, `[rows, vocab]`: first for `start` with the parents `0..B`; then for `[rows, 1]` tokens,
    /// row `i` of which continues what was row `parents[i]` at the step before, as
    /// [`KvCache::reorder`](rushlight::nn::KvCache::reorder) takes them. What is known of a row, such as the mask of
    /// what it translates, is to be selected alike. No gradients are recorded.
    ///
    /// Each step costs the model one of up to `B · beams` rows; sentences that are done have none. Among equal scores the
    /// earlier beam comes first, then the lower token.
    ///
    /// Errors: those of [`BeamSearch::check`] and of `step`; logits of another shape, or with NaN or +∞.
    pub fn run(
        &self,
        start: &Tensor,
        mut step: impl FnMut(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.check()?;
        let [batch, _] = start.dims_of(OP)?;
        if batch == 0 {
            return Ok(vec![]);
        }
        let begin = |row| Sentence { live: vec![Beam { row, tokens: vec![], log_prob: 0.0 }], ended: vec![] };
        let mut sentences: Vec<Sentence> = (0..batch).map(begin).collect();
        let mut tokens = start.clone();
        let mut parents = Tensor::arange(0.0, batch as f64, 1.0, DType::I64)?;
        for length in 1..=self.max_length {
            let rows = parents.numel();
            let logits = no_grad(|| step(&tokens, &parents))?;
            let next = Next::of(&logits, rows)?;
            for sentence in &mut sentences {
                self.grow(sentence, &next, length)?;
            }
            let live = || sentences.iter().flat_map(|s| &s.live);
            let last: Vec<i64> = live().filter_map(|beam| beam.tokens.last().copied()).collect();
            if last.is_empty() || length == self.max_length {
                break;
            }
            tokens = Tensor::from_slice(&last, [last.len(), 1])?;
            let rows: Vec<i64> = live().map(|beam| beam.row as i64).collect();
            parents = Tensor::from_slice(&rows, [rows.len()])?;
            // From now on a beam's row is its own.
            sentences.iter_mut().flat_map(|s| &mut s.live).enumerate().for_each(|(row, beam)| beam.row = row);
        }
        Ok(sentences.into_iter().map(|sentence| self.best(sentence)).collect())
    }

    /// One more token.
    fn grow(&self, sentence: &mut Sentence, next: &Next, length: usize) -> Result<()> {
        // Each beam may lead to an end once, so twice as many are enough to fill the beam with others.
        let mut candidates: Vec<(f64, &Beam, i64)> = vec![];
        for beam in &sentence.live {
            let likely = next.likeliest(beam.row, self.beams.saturating_mul(2))?;
            candidates.extend(likely.into_iter().map(|(token, log_p)| (beam.log_prob + log_p, beam, token)));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable: the earlier beam first, then the likelier token
        let mut live = vec![];
        for (rank, (log_prob, beam, token)) in candidates.into_iter().enumerate() {
            if live.len() == self.beams {
                break;
            }
            if Some(token) != self.eos {
                let tokens = beam.tokens.iter().copied().chain([token]).collect();
                live.push(Beam { row: beam.row, tokens, log_prob });
            } else if rank < self.beams {
                let score = log_prob / self.penalty(length);
                sentence.ended.push(Hypothesis { tokens: beam.tokens.clone(), finished: true, log_prob, score });
            }
        }
        sentence.ended.sort_by(by_score);
        // What is left can lose less by the greatest length than by any other, and lose no less than now.
        let most = live.first().map_or(f64::NEG_INFINITY, |beam| beam.log_prob / self.penalty(self.max_length));
        let beaten = sentence.ended.get(self.n_best - 1).is_some_and(|worst| worst.score >= most);
        sentence.live = if beaten || sentence.ended.len() >= self.beams { vec![] } else { live };
        Ok(())
    }

    fn best(&self, sentence: Sentence) -> Vec<Hypothesis> {
        let cut = |beam: Beam| {
            let score = beam.log_prob / self.penalty(beam.tokens.len());
            Hypothesis { tokens: beam.tokens, finished: false, log_prob: beam.log_prob, score }
        };
        let mut all = sentence.ended;
        all.extend(sentence.live.into_iter().map(cut));
        all.sort_by(|a, b| b.finished.cmp(&a.finished).then(by_score(a, b)));
        all.truncate(self.n_best);
        all
    }

    fn penalty(&self, length: usize) -> f64 {
        ((5.0 + length as f64) / 6.0).powf(self.length_penalty)
    }
}

fn by_score(a: &Hypothesis, b: &Hypothesis) -> Ordering {
    b.score.total_cmp(&a.score)
}

/// The logits of a step, with what makes logarithms of probabilities of them.
struct Next {
    logits: Vec<f32>,
    norms: Vec<f32>,
    vocab: usize,
}

impl Next {
    fn of(logits: &Tensor, rows: usize) -> Result<Next> {
        let vocab = logits.dims().last().copied().unwrap_or(0);
        if logits.dims() != [rows, vocab] || vocab == 0 {
            let message = format!("the step gave logits of shape {}, expected [{rows}, vocab]", logits.shape());
            return Err(Error::invalid(OP, message));
        }
        let logits = logits.detach().to_dtype(DType::F32)?;
        Ok(Next { norms: logits.logsumexp(-1)?.to_vec()?, logits: logits.to_vec()?, vocab })
    }

    /// The `n` likeliest tokens of a row and their log p, by logit, then id; tokens of probability 0 are none.
    fn likeliest(&self, row: usize, n: usize) -> Result<Vec<(i64, f64)>> {
        let (logits, norm) = (&self.logits[row * self.vocab..][..self.vocab], self.norms[row]);
        if !norm.is_finite() {
            let message = format!("the logits of row {row} hold NaN or +∞, or only −∞");
            return Err(Error::invalid(OP, message));
        }
        let mut best: Vec<(f32, usize)> = vec![];
        for (id, &logit) in logits.iter().enumerate() {
            let full = best.len() == n;
            if logit == f32::NEG_INFINITY || full && best.last().is_some_and(|(least, _)| logit <= *least) {
                continue;
            }
            let at = best.partition_point(|(other, _)| *other >= logit);
            best.insert(at, (logit, id));
            best.truncate(n);
        }
        Ok(best.into_iter().map(|(logit, id)| (id as i64, f64::from(logit) - f64::from(norm))).collect())
    }
}
