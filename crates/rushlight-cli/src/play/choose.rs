//! Max, argmax and softmax of a handful of numbers, beside their relatives of one number: relu, step and sigmoid.

use rushlight::{DType, Result, Tensor, grad};
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    values: Vec<f64>,
    temperature: f64,
}

#[derive(Serialize)]
pub struct Answer {
    max: f64,
    /// Of `max`: all of it goes to the first maximum.
    max_gradient: Vec<f64>,
    argmax: i64,
    one_hot: Vec<f64>,
    /// Of the argmax, by any input: a step that is flat.
    one_hot_gradient: Vec<f64>,
    softmax: Vec<f64>,
    /// Of the softmax at the argmax.
    softmax_gradient: Vec<f64>,
    /// The soft maximum: the inputs weighed by the softmax.
    weighed: f64,
    /// The places of the largest input, where there are several.
    ties: Vec<usize>,
    curves: Curves,
}

/// Functions of the first input `x` against 0, over a line.
#[derive(Serialize)]
struct Curves {
    x: Vec<f64>,
    pairs: Vec<Pair>,
}

#[derive(Serialize)]
struct Pair {
    names: [&'static str; 2],
    /// Of both, and the gradient of each.
    values: [Vec<f64>; 2],
    gradients: [Vec<f64>; 2],
    /// At the first input.
    here: [f64; 2],
    slope: [f64; 2],
}

const MOST: usize = 8;

fn gradient(y: &Tensor, x: &Tensor) -> Result<Vec<f64>> {
    if !y.is_tracked() {
        return x.zeros_like()?.to_vec::<f64>();
    }
    // Not backward(), which would free what several of these share.
    let found = grad(&[&y.sum(..)?], &[x], false)?;
    found[0].as_ref().map_or_else(|| x.zeros_like()?.to_vec::<f64>(), |g| g.to_vec::<f64>())
}

pub fn answer(ask: Ask) -> Outcome<Answer> {
    let t = ask.temperature;
    if !(2..=MOST).contains(&ask.values.len()) || ask.values.iter().any(|v| v.abs() > 100.0) {
        return Err(format!("expected 2 to {MOST} numbers between -100 and 100").into());
    }
    if !(0.01..=100.0).contains(&t) {
        return Err(format!("temperature {t}: expected 0.01 to 100").into());
    }
    let x = Tensor::from_vec(ask.values.clone(), ask.values.len())?.requires_grad()?;
    let (max, at) = x.max(0)?;
    let at = at.item::<i64>()?;
    let one_hot = x.argmax_one_hot(0)?.to_dtype(DType::F64)?;
    let softmax = x.div(t)?.softmax(0)?;
    let equal = x.detach().eq(max.detach())?.to_f64_vec()?;
    let ties: Vec<usize> = (0..equal.len()).filter(|&i| equal[i] != 0.0).collect();
    Ok(Answer {
        max: max.item()?,
        max_gradient: gradient(&max, &x)?,
        argmax: at,
        one_hot: one_hot.to_vec()?,
        one_hot_gradient: gradient(&one_hot, &x)?,
        softmax: softmax.to_vec()?,
        softmax_gradient: gradient(&softmax.select(0, at)?, &x)?,
        weighed: softmax.mul(&x)?.sum(..)?.item()?,
        ties: if ties.len() > 1 { ties } else { vec![] },
        curves: curves(ask.values[0], t)?,
    })
}

fn curves(here: f64, t: f64) -> Result<Curves> {
    const POINTS: usize = 121;
    let line = Tensor::linspace(-4.0, 4.0, POINTS, DType::F64)?;
    let x = Tensor::cat(&[line, Tensor::from_vec(vec![here], 1)?], 0)?.requires_grad()?;
    let both = Tensor::stack(&[x.clone(), x.zeros_like()?], 1)?; // [n, 2]: x against 0
    let first = |y: Tensor| y.select(1, 0);
    let pair = |names, a: Tensor, b: Tensor| -> Result<Pair> {
        let (mut values, mut gradients) = ([a.to_f64_vec()?, b.to_f64_vec()?], [gradient(&a, &x)?, gradient(&b, &x)?]);
        let last = |v: &mut [Vec<f64>; 2]| v.each_mut().map(|v| v.pop().unwrap_or(f64::NAN));
        let (here, slope) = (last(&mut values), last(&mut gradients));
        Ok(Pair { names, values, gradients, here, slope })
    };
    let pairs = vec![
        pair(["relu(x)", "max(x, 0)"], x.relu()?, both.amax(1)?)?,
        pair(
            ["step(x)", "argmax(x, 0) is x"],
            x.step()?.to_dtype(DType::F64)?,
            first(both.argmax_one_hot(1)?)?.to_dtype(DType::F64)?,
        )?,
        pair(["sigmoid(x / T)", "softmax(x / T, 0) of x"], x.div(t)?.sigmoid()?, first(both.div(t)?.softmax(1)?)?)?,
    ];
    let mut x = x.to_vec::<f64>()?;
    x.pop();
    Ok(Curves { x, pairs })
}
