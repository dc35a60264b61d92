//! Measuring a classifier: loss, accuracy, and which class is taken for which.

use std::fmt::Write;

use rushlight::loss::nll_loss;
use rushlight::nn::Layer;
use rushlight::{Tensor, no_grad};

use crate::Outcome;

/// Samples that are measured at a time.
const BATCH: usize = 256;

/// How many rows of `output` have their largest value at the label.
pub fn count_right(output: &Tensor, labels: &Tensor) -> Outcome<u64> {
    Ok(output.detach().argmax(-1)?.eq(labels)?.sum(..)?.item::<i64>()? as u64)
}

/// What a classifier does on a set.
pub struct Measured {
    /// Mean negative log-likelihood.
    pub loss: f64,
    /// `[true class][predicted class]`
    pub confusion: Vec<Vec<u64>>,
}

impl Measured {
    /// Runs `model`, in evaluation mode, over all samples.
    pub fn of(model: &mut (impl Layer + ?Sized), x: &Tensor, y: &Tensor, classes: usize) -> Outcome<Measured> {
        model.eval();
        let (n, mut loss, mut confusion) = (y.numel(), 0.0, vec![vec![0; classes]; classes]);
        for start in (0..n).step_by(BATCH) {
            let len = BATCH.min(n - start);
            let (x, y) = (x.narrow(0, start, len)?, y.narrow(0, start, len)?);
            let output = no_grad(|| model.forward(&x))?;
            loss += nll_loss(&output, &y)?.item::<f64>()? * len as f64;
            for (&truth, &guess) in y.to_vec::<i64>()?.iter().zip(&output.argmax(-1)?.to_vec::<i64>()?) {
                confusion[truth as usize][guess as usize] += 1;
            }
        }
        Ok(Measured { loss: loss / n.max(1) as f64, confusion })
    }

    /// The share that is right.
    pub fn accuracy(&self) -> f64 {
        let total: u64 = self.confusion.iter().flatten().sum();
        let right: u64 = (0..self.confusion.len()).map(|c| self.confusion[c][c]).sum();
        right as f64 / total.max(1) as f64
    }

    /// Precision, recall and F1 of each class.
    pub fn table(&self, names: &[String]) -> String {
        let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(5).max(5);
        let mut out = format!("{:<width$}  precision  recall      F1  samples\n", "class");
        for (c, name) in names.iter().enumerate() {
            let right = self.confusion[c][c] as f64;
            let samples: u64 = self.confusion[c].iter().sum();
            let guessed: u64 = self.confusion.iter().map(|row| row[c]).sum();
            let precision = right / guessed.max(1) as f64;
            let recall = right / samples.max(1) as f64;
            let f1 = if right > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
            let _ = writeln!(out, "{name:<width$}  {precision:>9.3}  {recall:>6.3}  {f1:>6.3}  {samples:>7}");
        }
        out
    }
}
