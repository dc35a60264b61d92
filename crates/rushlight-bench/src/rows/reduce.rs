//! Reductions of a matrix, read once.

use rushlight::{Result, Tensor};

use super::{Row, Work, randn, step};

const N: usize = 4096;

pub fn rows() -> Vec<Row> {
    vec![
        row("sum_all_16M", |x| x.sum(..)),
        row("sum_dim0", |x| x.sum(0)),
        row("sum_dim1", |x| x.sum(1)),
        row("max_dim1", |x| x.max(1)),
        row("max_dim0", |x| x.max(0)),
        row("argmax_dim1", |x| x.argmax(1)),
    ]
}

fn row<R>(name: &str, f: impl Fn(&Tensor) -> Result<R> + Copy + 'static) -> Row {
    Row::new(name, Work::Read(4.0 * (N * N) as f64), move || {
        let x = randn([N, N])?;
        step(move || f(&x))
    })
}
