//! Gates: the soft gate of two numbers with its three gradients, and the softmax gate of many.

use rushlight::{DType, Result, Tensor, grad};
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    x: f64,
    y: f64,
    r: f64,
    /// What the many-way gate mixes, and the score of each.
    values: Vec<f64>,
    scores: Vec<f64>,
}

#[derive(Serialize)]
pub struct Answer {
    /// σ(r), and `x·σ(r) + y·(1 − σ(r))`.
    open: f64,
    gate: f64,
    /// Of the gate, by x, y and r.
    gradients: [f64; 3],
    curve: Curve,
    /// The softmax of the scores, what they mix, and its gradients by values and scores.
    weights: Vec<f64>,
    mixed: f64,
    value_gradients: Vec<f64>,
    score_gradients: Vec<f64>,
}

/// The gate over a line of scores, and its gradient by the score: where it learns.
#[derive(Serialize)]
struct Curve {
    r: Vec<f64>,
    gate: Vec<f64>,
    slope: Vec<f64>,
}

const MOST: usize = 8;

pub fn answer(ask: Ask) -> Outcome<Answer> {
    let numbers = [ask.x, ask.y, ask.r].into_iter().chain(ask.values.iter().chain(&ask.scores).copied());
    if !(2..=MOST).contains(&ask.values.len()) || ask.values.len() != ask.scores.len() {
        return Err(format!("values and scores: expected 2 to {MOST} of each").into());
    }
    if numbers.into_iter().any(|v| v.abs() > 100.0) {
        return Err("expected numbers between -100 and 100".into());
    }
    let leaf = |v: &[f64]| Tensor::from_vec(v.to_vec(), v.len())?.requires_grad();
    let (x, y, r) = (leaf(&[ask.x])?, leaf(&[ask.y])?, leaf(&[ask.r])?);
    let gate = x.gate(&y, &r)?;
    let by = |output: &Tensor, inputs: &[&Tensor]| -> Result<Vec<Vec<f64>>> {
        let found = grad(&[output], inputs, false)?;
        let zeros = |i: usize| inputs[i].zeros_like()?.to_vec::<f64>();
        found.iter().enumerate().map(|(i, g)| g.as_ref().map_or_else(|| zeros(i), Tensor::to_vec::<f64>)).collect()
    };
    let gradients = by(&gate, &[&x, &y, &r])?;

    let line = Tensor::linspace(-8.0, 8.0, 121, DType::F64)?.requires_grad()?;
    let over = x.detach().gate(y.detach(), &line)?;
    let slope = by(&over.sum(..)?, &[&line])?.remove(0);

    let (values, scores) = (leaf(&ask.values)?, leaf(&ask.scores)?);
    let weights = scores.softmax(0)?;
    let mixed = weights.mul(&values)?.sum(..)?;
    let mut many = by(&mixed, &[&values, &scores])?;
    let (value_gradients, score_gradients) = (many.remove(0), many.remove(0));
    Ok(Answer {
        open: r.sigmoid()?.item()?,
        gate: gate.item()?,
        gradients: [gradients[0][0], gradients[1][0], gradients[2][0]],
        curve: Curve { r: line.to_vec()?, gate: over.to_vec()?, slope },
        weights: weights.to_vec()?,
        mixed: mixed.item()?,
        value_gradients,
        score_gradients,
    })
}
