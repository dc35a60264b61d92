//! One step of AdamW on 32 parameters of a million: reads p, g, m and v, writes p, m and v.

use rushlight::Gradients;
use rushlight::optim::{AdamW, Optimizer};

use super::{Row, Work, randn};

const PARAMETERS: usize = 32;
const EACH: usize = 1 << 20;

pub fn rows() -> Vec<Row> {
    vec![Row::new("adamw_32M", Work::Copy(7.0 * 4.0 * (PARAMETERS * EACH) as f64), || {
        let mut parameters = vec![];
        let mut grads = Gradients::new();
        for _ in 0..PARAMETERS {
            let p = randn([EACH])?.requires_grad()?;
            grads.insert(&p, randn([EACH])?)?;
            parameters.push(p);
        }
        let mut optimizer = Optimizer::new(AdamW { lr: 1e-3, ..AdamW::default() });
        Ok(Box::new(move || optimizer.step(&mut parameters, &grads)))
    })]
}
