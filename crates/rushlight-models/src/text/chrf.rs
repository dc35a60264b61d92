//! chrF: how many of a translation's short strings of characters are in a reference, and the other way around.
//!
//! ```text
//! P_n, R_n = strings of n characters that both have / those of the hypotheses, / those of the references
//! chrF     = (1 + β²)·P·R / (β²·P + R)     P and R: means over n = 1 to 6, β = 2
//! ```
//!
//! Spaces do not count. Word order 2 adds words and pairs of words to the means: chrF++. Unlike BLEU it gives credit for
//! the right stem with a wrong ending. The numbers are sacrebleu's. Source: Popović 2015 and 2017.

use std::collections::HashMap;
use std::fmt;

use rushlight::{Error, Result};

use super::metric::{self, References, check_pairs, words};

/// The options of [`corpus_chrf`] and [`sentence_chrf`]; the defaults are sacrebleu's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChrfOptions {
    /// The longest string of characters. Default 6.
    pub char_order: usize,
    /// The longest string of words. Default 0, and 2 for chrF++.
    pub word_order: usize,
    /// How much more recall counts than precision. Default 2.
    pub beta: f64,
}

impl Default for ChrfOptions {
    fn default() -> Self {
        ChrfOptions { char_order: 6, word_order: 0, beta: 2.0 }
    }
}

/// chrF and how it was computed. Printed as sacrebleu prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chrf {
    /// 0 to 100.
    pub score: f64,
    options: ChrfOptions,
    references: References,
}

/// chrF of a corpus: `hypotheses[i]` beside one or more `references[i]`, of which the one that gives the hypothesis most
/// counts. sacrebleu: `corpus_chrf`, whose references are the other way around, a stream of each.
///
/// ```
/// use rushlight_models::text::{ChrfOptions, corpus_chrf};
///
/// let chrf = corpus_chrf(&["the cat sat on the mat"], &[["the cat sat on a mat"]], &ChrfOptions::default())?;
/// assert_eq!(chrf.to_string(), "chrF2 = 72.08");
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: not as many references as hypotheses; a hypothesis without any; no hypothesis; both orders 0; a β that is
/// negative or not finite.
pub fn corpus_chrf<H, R, T>(hypotheses: &[H], references: &[R], options: &ChrfOptions) -> Result<Chrf>
where
    H: AsRef<str>,
    R: AsRef<[T]>,
    T: AsRef<str>,
{
    options.check()?;
    let number = check_pairs("corpus_chrf", hypotheses.len(), references)?;
    let mut sums = vec![Counts::default(); options.char_order + options.word_order];
    for (hypothesis, references) in hypotheses.iter().zip(references) {
        let best = options.best(hypothesis.as_ref(), references.as_ref());
        for (sum, counts) in sums.iter_mut().zip(best) {
            *sum = Counts {
                hypothesis: sum.hypothesis + counts.hypothesis,
                reference: sum.reference + counts.reference,
                both: sum.both + counts.both,
            };
        }
    }
    Ok(Chrf { score: options.score(&sums), options: *options, references: number })
}

/// chrF of one sentence. sacrebleu: `sentence_chrf`. Errors: no reference; options as in [`corpus_chrf`].
pub fn sentence_chrf<T: AsRef<str>>(hypothesis: &str, references: &[T], options: &ChrfOptions) -> Result<Chrf> {
    corpus_chrf(&[hypothesis], &[references], options)
}

impl Chrf {
    /// `chrF2`, or `chrF2++` with words.
    pub fn name(&self) -> String {
        format!("chrF{}{}", self.options.beta, "+".repeat(self.options.word_order))
    }

    /// How it was computed, in sacrebleu's form.
    pub fn signature(&self) -> String {
        let ChrfOptions { char_order, word_order, .. } = self.options;
        let (n, version) = (self.references, metric::VERSION);
        format!("nrefs:{n}|case:mixed|eff:yes|nc:{char_order}|nw:{word_order}|space:no|version:{version}")
    }
}

impl fmt::Display for Chrf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} = {:.2}", self.name(), self.score)
    }
}

/// Strings of one length.
#[derive(Clone, Copy, Default)]
struct Counts {
    hypothesis: u64,
    reference: u64,
    both: u64,
}

impl ChrfOptions {
    fn check(&self) -> Result<()> {
        if self.char_order + self.word_order == 0 || !(self.beta >= 0.0 && self.beta.is_finite()) {
            let message = format!("{self:?}: expected an order above 0, and a finite beta of 0 or more");
            return Err(Error::invalid("chrf", message));
        }
        Ok(())
    }

    /// The counts with the reference that gives the highest score, the first of equal ones.
    fn best<T: AsRef<str>>(&self, hypothesis: &str, references: &[T]) -> Vec<Counts> {
        let hypothesis = Parts::of(hypothesis);
        let mut best: Option<(f64, Vec<Counts>)> = None;
        for reference in references {
            let reference = Parts::of(reference.as_ref());
            let characters = (1..=self.char_order).map(|n| count(&hypothesis.characters, &reference.characters, n));
            let words = (1..=self.word_order).map(|n| count(&hypothesis.words, &reference.words, n));
            let counts: Vec<Counts> = characters.chain(words).collect();
            let score = self.score(&counts);
            if best.as_ref().is_none_or(|(most, _)| score > *most) {
                best = Some((score, counts));
            }
        }
        best.map(|(_, counts)| counts).unwrap_or_default()
    }

    /// Over the lengths that both sides have strings of.
    fn score(&self, counts: &[Counts]) -> f64 {
        let reached: Vec<&Counts> = counts.iter().filter(|c| c.hypothesis > 0 && c.reference > 0).collect();
        let mean = |of: fn(&Counts) -> u64| {
            let shares = reached.iter().map(|&c| c.both as f64 / of(c) as f64);
            shares.sum::<f64>() / reached.len().max(1) as f64
        };
        let (precision, recall) = (mean(|c| c.hypothesis), mean(|c| c.reference));
        let (factor, both) = (self.beta * self.beta, precision * recall);
        if both > 0.0 { 100.0 * (1.0 + factor) * both / (factor * precision + recall) } else { 0.0 }
    }
}

/// A text in its characters without spaces, and in its words with signs at their ends apart.
struct Parts<'a> {
    characters: Vec<char>,
    words: Vec<&'a str>,
}

impl Parts<'_> {
    fn of(text: &str) -> Parts<'_> {
        let characters = words(text).flat_map(str::chars).collect();
        let mut parts = vec![];
        for word in words(text) {
            // One sign of a word, the last before the first; it may be all there is.
            let at = match (word.strip_suffix(is_sign), word.strip_prefix(is_sign)) {
                (Some(rest), _) => rest.len(),
                (None, Some(rest)) => word.len() - rest.len(),
                (None, None) => 0,
            };
            let (head, tail) = word.split_at(at);
            parts.extend([head, tail].into_iter().filter(|part| !part.is_empty()));
        }
        Parts { characters, words: parts }
    }
}

fn is_sign(c: char) -> bool {
    c.is_ascii_punctuation()
}

fn count<T: Eq + std::hash::Hash>(hypothesis: &[T], reference: &[T], n: usize) -> Counts {
    let mut left: HashMap<&[T], u64> = HashMap::new();
    reference.windows(n).for_each(|gram| *left.entry(gram).or_default() += 1);
    let found = |gram: &&[T]| left.get_mut(*gram).is_some_and(|n| n.checked_sub(1).map(|less| *n = less).is_some());
    let both = hypothesis.windows(n).filter(found).count() as u64;
    let number = |of: &[T]| (of.len() + 1).saturating_sub(n) as u64;
    let reference = number(reference);
    // Where the reference has none, none of the hypothesis count.
    Counts { hypothesis: if reference > 0 { number(hypothesis) } else { 0 }, reference, both }
}
