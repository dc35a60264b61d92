//! Softmax, log-softmax and cross-entropy.
//!
//! There and back at the least: `x` to `y`, the gradient of ones written, and `y` and `dy` to `dx`: six arrays.
//! Cross-entropy reads the logits and writes their gradient.

use rushlight::{Tensor, loss};

use super::{Row, Work, forward_backward, randn, step};

const SHAPE: [usize; 2] = [8192, 1024];
const ARRAY: f64 = 4.0 * (SHAPE[0] * SHAPE[1]) as f64;
/// The batch of tokens and the vocabulary of GPT-2.
const LOGITS: [usize; 2] = [1024, 50257];

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("softmax_fwd_8192x1024", Work::Copy(2.0 * ARRAY), || {
            let x = randn(SHAPE)?;
            step(move || x.softmax(-1))
        }),
        Row::new("softmax_fb_8192x1024", Work::Copy(6.0 * ARRAY), || {
            let x = randn(SHAPE)?.requires_grad()?;
            forward_backward(move || x.softmax(-1))
        }),
        Row::new("logsoftmax_fb_8192x1024", Work::Copy(6.0 * ARRAY), || {
            let x = randn(SHAPE)?.requires_grad()?;
            forward_backward(move || x.log_softmax(-1))
        }),
        Row::new("cross_entropy_fb_1024x50257", Work::Copy(2.0 * 4.0 * (LOGITS[0] * LOGITS[1]) as f64), || {
            let logits = randn(LOGITS)?.requires_grad()?;
            let target = Tensor::randint(0, LOGITS[1] as i64, [LOGITS[0]])?;
            step(move || loss::cross_entropy(&logits, &target)?.backward())
        }),
    ]
}
