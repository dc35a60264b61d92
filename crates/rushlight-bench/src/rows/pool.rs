//! Pooling of images by halves.
//!
//! Forward reads an array and writes a quarter; there and back adds the gradient of ones, its reading and the input's
//! gradient: `1 + ¼`, `¼`, `¼ + 1`.

use rushlight::{AvgPoolOptions, PoolOptions, Result, Tensor};

use super::{Row, Work, forward_backward, randn, step};

const SHAPE: [usize; 4] = [32, 64, 56, 56];
const ARRAY: f64 = 4.0 * (SHAPE[0] * SHAPE[1] * SHAPE[2] * SHAPE[3]) as f64;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("maxpool2_fwd_32x64x56x56", Work::Copy(1.25 * ARRAY), || {
            let x = randn(SHAPE)?;
            step(move || x.max_pool2d([2, 2], PoolOptions::default()))
        }),
        there_and_back("maxpool2_fb", |x| x.max_pool2d([2, 2], PoolOptions::default())),
        there_and_back("maxpool3s2p1_fb", |x| {
            x.max_pool2d([3, 3], PoolOptions { stride: Some([2, 2]), padding: [1, 1], ..PoolOptions::default() })
        }),
        there_and_back("avgpool2_fb", |x| x.avg_pool2d([2, 2], AvgPoolOptions::default())),
    ]
}

fn there_and_back(name: &str, pool: fn(&Tensor) -> Result<Tensor>) -> Row {
    Row::new(name, Work::Copy(2.75 * ARRAY), move || {
        let x = randn(SHAPE)?.requires_grad()?;
        forward_backward(move || pool(&x))
    })
}
