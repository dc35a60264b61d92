//! Layer norm at the width of GPT-2. There and back at the least: `x` to `y`, ones, `x` and `dy` to `dx`: six arrays.

use rushlight::{DType, Tensor};

use super::{Row, Work, forward_backward, randn};

const ROWS: usize = 8192;
const WIDTH: usize = 768;

pub fn rows() -> Vec<Row> {
    vec![Row::new("layernorm_fb_8192x768", Work::Copy(6.0 * 4.0 * (ROWS * WIDTH) as f64), || {
        let x = randn([ROWS, WIDTH])?.requires_grad()?;
        let weight = Tensor::ones([WIDTH], DType::F32)?.requires_grad()?;
        let bias = Tensor::zeros([WIDTH], DType::F32)?.requires_grad()?;
        forward_backward(move || x.layer_norm(WIDTH, Some(&weight), Some(&bias), 1e-5))
    })]
}
