//! BLEU: how many of a translation's words, pairs, triples and fours of words are in a reference.
//!
//! ```text
//! p_n  = n-grams of the hypotheses that a reference has, each as often as there at most / n-grams of the hypotheses
//! BLEU = min(1, e^(1 − reference length / length)) · (p₁·p₂·p₃·p₄)^¼
//! ```
//!
//! Counts are summed over the corpus before they are divided. The numbers are sacrebleu's with its defaults: its
//! tokenizer 13a, case as it is, and exponential smoothing, by which the k-th order without a match counts as `2^−k`
//! matches. Sources: Papineni et al. 2002; Post 2018; Chen and Cherry 2014, method 3.

use std::collections::HashMap;
use std::fmt;

use rushlight::Result;

use super::metric::{self, References, check_pairs, is_space, words};

/// The longest n-gram.
const ORDER: usize = 4;

/// BLEU with what it is made of. Printed as sacrebleu prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bleu {
    /// 0 to 100.
    pub score: f64,
    /// `p₁` to `p₄`, 0 to 100.
    pub precisions: [f64; ORDER],
    /// 1 unless the hypotheses are shorter than the references.
    pub brevity_penalty: f64,
    /// Words of the hypotheses.
    pub hyp_len: u64,
    /// Words of the references, of several the one of the closest length.
    pub ref_len: u64,
    references: References,
    effective_order: bool,
}

/// BLEU of a corpus: `hypotheses[i]` beside one or more `references[i]`. sacrebleu: `corpus_bleu`, whose references are
/// the other way around, a stream of each.
///
/// ```
/// use rushlight_models::text::corpus_bleu;
///
/// let bleu = corpus_bleu(&["the cat sat on the mat"], &[["the cat sat on a mat"]])?;
/// assert_eq!(format!("{:.2}", bleu.score), "53.73");
/// assert!(bleu.signature().starts_with("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:rushlight-"));
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: not as many references as hypotheses; a hypothesis without any; no hypothesis.
pub fn corpus_bleu<H, R, T>(hypotheses: &[H], references: &[R]) -> Result<Bleu>
where
    H: AsRef<str>,
    R: AsRef<[T]>,
    T: AsRef<str>,
{
    let number = check_pairs("corpus_bleu", hypotheses.len(), references)?;
    let mut counts = Counts::default();
    for (hypothesis, references) in hypotheses.iter().zip(references) {
        counts.add(hypothesis.as_ref(), references.as_ref());
    }
    Ok(counts.bleu(number, false))
}

/// BLEU of one sentence, over the orders that the hypothesis is long enough for. sacrebleu: `sentence_bleu`.
///
/// Errors: no reference.
pub fn sentence_bleu<T: AsRef<str>>(hypothesis: &str, references: &[T]) -> Result<Bleu> {
    let number = check_pairs("sentence_bleu", 1, &[references])?;
    let mut counts = Counts::default();
    counts.add(hypothesis, references);
    Ok(counts.bleu(number, true))
}

impl Bleu {
    /// How it was computed, in sacrebleu's form.
    pub fn signature(&self) -> String {
        let eff = if self.effective_order { "yes" } else { "no" };
        format!("nrefs:{}|case:mixed|eff:{eff}|tok:13a|smooth:exp|version:{}", self.references, metric::VERSION)
    }
}

impl fmt::Display for Bleu {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let p = self.precisions.map(|p| format!("{p:.1}")).join("/");
        let ratio = if self.ref_len > 0 { self.hyp_len as f64 / self.ref_len as f64 } else { 0.0 };
        write!(f, "BLEU = {:.2} {p} (BP = {:.3} ratio = {ratio:.3} ", self.score, self.brevity_penalty)?;
        write!(f, "hyp_len = {} ref_len = {})", self.hyp_len, self.ref_len)
    }
}

/// The sums that BLEU is computed of.
#[derive(Default)]
struct Counts {
    matched: [u64; ORDER],
    total: [u64; ORDER],
    hyp_len: u64,
    ref_len: u64,
}

impl Counts {
    fn add<T: AsRef<str>>(&mut self, hypothesis: &str, references: &[T]) {
        let hypothesis = tokenize_13a(hypothesis);
        let references: Vec<Vec<String>> = references.iter().map(|r| tokenize_13a(r.as_ref())).collect();
        for n in 1..=ORDER {
            let mut most: HashMap<&[String], u64> = HashMap::new();
            for reference in &references {
                for (gram, count) in grams(reference, n) {
                    let most = most.entry(gram).or_default();
                    *most = count.max(*most);
                }
            }
            for (gram, count) in grams(&hypothesis, n) {
                self.matched[n - 1] += count.min(most.get(gram).copied().unwrap_or(0));
                self.total[n - 1] += count;
            }
        }
        let len = hypothesis.len();
        // Of two that are as close, the shorter.
        let closest = references.iter().map(Vec::len).min_by_key(|r| (r.abs_diff(len), *r));
        self.hyp_len += len as u64;
        self.ref_len += closest.unwrap_or(0) as u64;
    }

    fn bleu(&self, references: References, effective_order: bool) -> Bleu {
        let (hyp_len, ref_len) = (self.hyp_len, self.ref_len);
        let brevity_penalty = match hyp_len {
            _ if hyp_len >= ref_len => 1.0,
            0 => 0.0,
            _ => (1.0 - ref_len as f64 / hyp_len as f64).exp(),
        };
        let mut precisions = [0.0; ORDER];
        let mut score = 0.0;
        if self.matched.iter().any(|m| *m > 0) {
            // Hypotheses of four words have n-grams of all orders, shorter ones of the first few.
            let reached = self.total.iter().take_while(|t| **t > 0).count();
            let mut share = 1.0;
            for n in 0..reached {
                let matched = match self.matched[n] {
                    0 => {
                        share /= 2.0;
                        share
                    }
                    matched => matched as f64,
                };
                precisions[n] = 100.0 * matched / self.total[n] as f64;
            }
            let order = if effective_order { reached } else { ORDER };
            // An order that is not reached makes it 0.
            let mean = precisions[..order].iter().map(|p| p.ln()).sum::<f64>() / order as f64;
            score = brevity_penalty * mean.exp();
        }
        Bleu { score, precisions, brevity_penalty, hyp_len, ref_len, references, effective_order }
    }
}

fn grams(words: &[String], n: usize) -> HashMap<&[String], u64> {
    let mut counts = HashMap::new();
    words.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    counts
}

/// The words and signs of a text as the tokenizer 13a of WMT's evaluations cuts them: ASCII signs apart, but for
/// apostrophes and hyphens; dots and commas inside of a number stay, and a hyphen behind one is apart.
pub fn tokenize_13a(text: &str) -> Vec<String> {
    let text = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut spaced = String::from(" ");
    for c in text.chars() {
        if matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let is_point = |c: char| c == '.' || c == ',';
    let spaced = each_pair(&spaced, |a, b| !a.is_ascii_digit() && is_point(b), |a, b| [a, ' ', b, ' ']);
    let spaced = each_pair(&spaced, |a, b| is_point(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let spaced = each_pair(&spaced, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' ']);
    words(&spaced).map(String::from).collect()
}

/// Puts what `made` gives in place of neighbours that are `such`, from the left, none of them twice.
fn each_pair(text: &str, such: impl Fn(char, char) -> bool, made: impl Fn(char, char) -> [char; 4]) -> String {
    let mut out = String::with_capacity(2 * text.len());
    let mut chars = text.chars().peekable();
    while let Some(a) = chars.next() {
        match chars.next_if(|&b| such(a, b)) {
            Some(b) => out.extend(made(a, b)),
            None => out.push(a),
        }
    }
    out
}
