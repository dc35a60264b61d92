//! Choosing the next token from a model's logits.
//!
//! In the order of Hugging Face's `generate`: the penalty of repetition, then temperature, top-k, top-p, min-p; of what
//! is left one token is drawn by its probability. Temperature 0 takes the likeliest.
//!
//! Sources: Keskar et al. 2019 (penalty), Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p), Nguyen et al. 2024
//! (min-p).

use rushlight::random::Generator;
use rushlight::{Error, Result};

/// How the next token is chosen.
///
/// ```
/// use rushlight::random::Generator;
/// use rushlight_models::text::Sampling;
///
/// let logits = [2.0, 1.0, 0.0, -1.0];
/// let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
/// assert_eq!(greedy.choose(&logits, &[], &mut Generator::new(0))?, 0);
///
/// // The two likeliest, and less of what was said already: e⁻² for token 0 is now less than token 1's.
/// let sampling = Sampling { top_k: Some(2), repetition_penalty: 4.0, ..Sampling::default() };
/// let p = sampling.probabilities(&logits, &[0])?;
/// assert!(p[1] > p[0] && p[2] == 0.0 && p[3] == 0.0);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// Logits are divided by it: below 1 for safer, above 1 for bolder text; 0 for the likeliest token always.
    pub temperature: f64,
    /// Only the so many likeliest.
    pub top_k: Option<usize>,
    /// Only the likeliest whose probabilities together reach this.
    pub top_p: Option<f64>,
    /// Only those at least this share as likely as the likeliest.
    pub min_p: Option<f64>,
    /// Logits of tokens said already are divided (or, below 0, multiplied) by it; 1 for no penalty.
    pub repetition_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 1.0, top_k: None, top_p: None, min_p: None, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Errors: a setting that makes no sense, by name.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::invalid("Sampling", what.to_string()));
        let share = |p: Option<f64>, least: f64| p.is_none_or(|p| p > least && p <= 1.0);
        match self {
            s if !(s.temperature >= 0.0 && s.temperature.is_finite()) => {
                refuse(&format!("temperature {}: expected a finite number of 0 or more", s.temperature))
            }
            s if s.top_k == Some(0) => refuse("top_k 0: expected 1 or more"),
            s if !share(s.top_p, 0.0) => refuse("top_p: expected more than 0 and at most 1"),
            s if !share(s.min_p, -f64::MIN_POSITIVE) => refuse("min_p: expected 0 to 1"),
            s if !(s.repetition_penalty > 0.0 && s.repetition_penalty.is_finite()) => {
                refuse(&format!("repetition_penalty {}: expected a finite number above 0", s.repetition_penalty))
            }
            _ => Ok(()),
        }
    }

    /// The probability of each token after `said`; at least one is above 0. Among equal ones the lower id comes first.
    ///
    /// Errors: settings as in [`Sampling::check`]; no logits; a NaN or +∞ among them, or only −∞.
    pub fn probabilities(&self, logits: &[f32], said: &[i64]) -> Result<Vec<f64>> {
        self.check()?;
        let refuse = |what: String| Err(Error::invalid("Sampling", what));
        if let Some(bad) = logits.iter().find(|l| l.is_nan() || **l == f32::INFINITY) {
            return refuse(format!("a logit is {bad}"));
        }
        let mut scores: Vec<f64> = logits.iter().map(|&l| l.into()).collect();
        let mut seen = vec![false; scores.len()];
        for &id in said {
            let Some(first) = usize::try_from(id).ok().and_then(|i| seen.get_mut(i)).filter(|s| !**s) else { continue };
            *first = true;
            let score = &mut scores[id as usize];
            *score = if *score > 0.0 { *score / self.repetition_penalty } else { *score * self.repetition_penalty };
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a])); // stable: the lower id first
        let Some(best) = order.first().map(|&i| scores[i]).filter(|s| s.is_finite()) else {
            return refuse(format!("{} logits, and none is finite", logits.len()));
        };
        let greedy = self.temperature == 0.0;
        let keep = if greedy { 1 } else { self.top_k.unwrap_or(usize::MAX) };
        order.truncate(keep);
        let divide = if greedy { 1.0 } else { self.temperature };
        let weights =
            |order: &[usize]| -> Vec<f64> { order.iter().map(|&i| ((scores[i] - best) / divide).exp()).collect() };
        if let Some(p) = self.top_p {
            let w = weights(&order);
            let (total, mut sum) = (w.iter().sum::<f64>(), 0.0);
            // A token stays if those before it do not reach p yet.
            let before = w.iter().take_while(|&&w| {
                let stays = sum < p * total;
                sum += w;
                stays
            });
            let stay = before.count();
            order.truncate(stay.max(1));
        }
        if let Some(p) = self.min_p {
            // The weight of the likeliest is 1.
            let stay = weights(&order).iter().take_while(|&&w| w >= p).count();
            order.truncate(stay.max(1));
        }
        let w = weights(&order);
        let total: f64 = w.iter().sum();
        let mut out = vec![0.0; logits.len()];
        order.iter().zip(w).for_each(|(&i, w)| out[i] = w / total);
        Ok(out)
    }

    /// The next token after `said`, drawn by the generator: the same on every machine. Errors: those of
    /// [`Sampling::probabilities`].
    pub fn choose(&self, logits: &[f32], said: &[i64], generator: &mut Generator) -> Result<i64> {
        let p = self.probabilities(logits, said)?;
        let at = generator.next_f64();
        let mut sum = 0.0;
        let reached = p.iter().position(|p| {
            sum += p;
            sum > at
        });
        // Rounding can leave the sum of all a little below 1.
        let last = || p.iter().rposition(|&p| p > 0.0).unwrap_or(0);
        Ok(reached.unwrap_or_else(last) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 0.5, 2.0, -1.0];

    fn kept(s: Sampling) -> Vec<usize> {
        let p = s.probabilities(&LOGITS, &[]).unwrap();
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        (0..5).filter(|&i| p[i] > 0.0).collect()
    }

    #[test]
    fn each_filter_keeps_what_it_says() {
        let s = Sampling::default();
        assert_eq!(kept(s), [0, 1, 2, 3, 4]);
        assert_eq!(kept(Sampling { temperature: 0.0, ..s }), [1]);
        assert_eq!(kept(Sampling { top_k: Some(2), ..s }), [1, 3]);
        assert_eq!(kept(Sampling { top_k: Some(9), ..s }), [0, 1, 2, 3, 4]);
        // softmax: 0.085, 0.626, 0.051, 0.230, 0.011
        assert_eq!(kept(Sampling { top_p: Some(0.6), ..s }), [1]);
        assert_eq!(kept(Sampling { top_p: Some(0.7), ..s }), [1, 3]);
        assert_eq!(kept(Sampling { top_p: Some(1.0), ..s }), [0, 1, 2, 3, 4]);
        assert_eq!(kept(Sampling { top_p: Some(1e-9), ..s }), [1]);
        assert_eq!(kept(Sampling { min_p: Some(0.3), ..s }), [1, 3]);
        assert_eq!(kept(Sampling { min_p: Some(1.0), ..s }), [1]);
        // After top-k the two have 0.731 and 0.269 of what is left.
        assert_eq!(kept(Sampling { top_k: Some(2), top_p: Some(0.72), ..s }), [1]);
        assert_eq!(kept(Sampling { temperature: 100.0, min_p: Some(0.97), ..s }), [0, 1, 2, 3]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let s = Sampling { temperature: 0.7, ..Default::default() };
        let p = s.probabilities(&LOGITS, &[]).unwrap();
        let mut counts = [0.0; 5];
        let mut generator = Generator::new(0);
        for _ in 0..20_000 {
            counts[s.choose(&LOGITS, &[], &mut generator).unwrap() as usize] += 1.0 / 20_000.0;
        }
        for (c, p) in counts.iter().zip(&p) {
            assert!((c - p).abs() < 0.015, "{counts:?} for {p:?}");
        }
    }

    #[test]
    fn a_penalty_makes_what_was_said_less_likely_once() {
        let s = Sampling { repetition_penalty: 2.0, ..Default::default() };
        let plain = Sampling::default().probabilities(&[1.5, 2.0, -0.5], &[]).unwrap();
        // Above and below 0, and twice said as once; ids outside of the vocabulary are nobody's.
        let p = s.probabilities(&[3.0, 2.0, -0.25], &[0, 0, 2, 77, -1]).unwrap();
        assert!(p.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn ties_and_extremes() {
        let mut g = Generator::new(0);
        let greedy = Sampling { temperature: 0.0, ..Default::default() };
        assert_eq!(greedy.choose(&[1.0, 2.0, 2.0], &[], &mut g).unwrap(), 1);
        assert_eq!(greedy.choose(&[f32::NEG_INFINITY, -5.0], &[], &mut g).unwrap(), 1);
        assert_eq!(greedy.choose(&[f32::MAX, -f32::MAX], &[], &mut g).unwrap(), 0);
        for bad in [&[f32::NAN, 1.0][..], &[], &[f32::NEG_INFINITY], &[f32::INFINITY, 0.0]] {
            assert!(greedy.choose(bad, &[], &mut g).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bad_settings_are_errors_that_name_them() {
        let s = Sampling::default();
        let error = |s: Sampling| s.check().unwrap_err().to_string();
        for t in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(error(Sampling { temperature: t, ..s }).contains("temperature"));
            assert!(error(Sampling { repetition_penalty: t, ..s }).contains("repetition_penalty"));
        }
        assert!(error(Sampling { top_k: Some(0), ..s }).contains("top_k"));
        for p in [0.0, 1.1, f64::NAN] {
            assert!(error(Sampling { top_p: Some(p), ..s }).contains("top_p"));
        }
        assert!(error(Sampling { min_p: Some(-0.1), ..s }).contains("min_p"));
        assert!(Sampling { min_p: Some(0.0), ..s }.check().is_ok());
    }
}
