//! Fold: the windows of a small grid, three poolings of them, and where the gradient of one output goes.

use rushlight::{DType, PoolOptions, Result, Tensor, grad};
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Rows of the grid.
    rows: Vec<Vec<f64>>,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    /// The output, counted row by row, whose gradient is asked for.
    output: usize,
}

#[derive(Serialize)]
pub struct Answer {
    /// `[oh, ow, kh, kw]`, and the strides of the view.
    shape: Vec<usize>,
    strides: Vec<isize>,
    /// Whether the view shares the memory of the (padded) grid.
    shares_storage: bool,
    /// For each window the places of the grid that it sees, counted row by row; −1 in the padding.
    windows: Vec<Vec<i64>>,
    pools: Vec<Pool>,
}

#[derive(Serialize)]
struct Pool {
    name: &'static str,
    values: Vec<f64>,
    /// Of the output asked for, to each place of the grid.
    gradient: Vec<f64>,
}

/// Sides of the grid.
const MOST: usize = 10;

pub fn answer(ask: Ask) -> Outcome<Answer> {
    let (h, w) = (ask.rows.len(), ask.rows.first().map_or(0, Vec::len));
    if h == 0 || w == 0 || h > MOST || w > MOST || ask.rows.iter().any(|r| r.len() != w) {
        return Err(format!("expected 1 to {MOST} rows of 1 to {MOST} numbers each, all of one length").into());
    }
    if [ask.kernel, ask.stride, ask.padding, ask.dilation].iter().any(|&n| n > MOST) {
        return Err(format!("kernel, stride, padding and dilation: expected at most {MOST}").into());
    }
    let x = Tensor::from_vec(ask.rows.concat(), [1, 1, h, w])?.requires_grad()?;
    let [k, s, p, d] = [ask.kernel, ask.stride, ask.padding, ask.dilation].map(|n| [n, n]);
    let options = PoolOptions { stride: Some(s), padding: p, dilation: d, ceil_mode: false };
    let max = x.max_pool2d(k, options)?; // refuses what makes no windows
    let amount = [(p[1] as i64, p[1] as i64), (p[0] as i64, p[0] as i64)];
    let padded = x.pad(&amount, 0.0)?;
    let view = padded.windows(k, s, d)?; // [1, 1, oh, ow, kh, kw]

    let places = Tensor::arange(0.0, (h * w) as f64, 1.0, DType::F64)?.reshape([h, w])?;
    let places = places.pad(&amount, -1.0)?.windows(k, s, d)?.to_vec::<f64>()?;
    let windows = places.chunks(ask.kernel * ask.kernel).map(|c| c.iter().map(|&v| v as i64).collect()).collect();
    let average = view.mean([-2, -1])?;
    let soft = x.softmax_pool2d(k, options)?;
    if ask.output >= max.numel() {
        return Err(format!("output {}: there are {} outputs", ask.output, max.numel()).into());
    }
    let pool = |name, y: &Tensor| -> Result<Pool> {
        let grads = grad(&[&y.reshape(-1)?.select(0, ask.output as i64)?], &[&x], false)?;
        let gradient = grads[0].as_ref().map_or_else(|| Ok(vec![0.0; h * w]), |g| g.to_vec::<f64>())?;
        Ok(Pool { name, values: y.to_vec::<f64>()?, gradient })
    };
    Ok(Answer {
        shape: view.dims()[2..].to_vec(),
        strides: view.strides()[2..].to_vec(),
        shares_storage: view.shares_storage(&padded),
        windows,
        pools: vec![pool("max", &max)?, pool("average", &average)?, pool("softmax", &soft)?],
    })
}
