//! What is measured: a file for each family of rows. The names are those of `torch_rows.py` and of the peers.

mod attention;
mod conv;
mod elementwise;
pub mod growth;
mod matmul;
mod norm;
mod optim;
mod pool;
mod reduce;
mod softmax;
mod train;

use std::hint::black_box;

use rushlight::{DType, Result, Tensor};

use crate::limits::Limits;

/// One step, over inputs that are ready.
pub type Step = crate::serve::Step<rushlight::Error>;

/// What a row must do at the least, and so what limits it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Floating-point operations, in f32 or narrower.
    Flops(f64),
    /// Floating-point operations in f64.
    FlopsF64(f64),
    /// Bytes that are only read.
    Read(f64),
    /// Bytes read and written, if each array goes through memory once for each operation.
    Copy(f64),
    /// So little that only the cost of the calls is measured.
    Calls,
}

impl Work {
    /// The name in the JSON, and operations or bytes.
    pub fn parts(self) -> (&'static str, Option<f64>) {
        match self {
            Work::Flops(n) => ("flops", Some(n)),
            Work::FlopsF64(n) => ("flops_f64", Some(n)),
            Work::Read(n) => ("bytes_read", Some(n)),
            Work::Copy(n) => ("bytes_copied", Some(n)),
            Work::Calls => ("calls", None),
        }
    }

    /// The unit of operations or bytes per second, in 10⁹.
    pub fn unit(self) -> &'static str {
        match self {
            Work::Flops(_) | Work::FlopsF64(_) => "GFLOP/s",
            Work::Read(_) | Work::Copy(_) => "GB/s",
            Work::Calls => "",
        }
    }

    /// What the machine could do of it, in 10⁹ per second.
    pub fn limit(self, limits: &Limits) -> Option<f64> {
        match self {
            Work::Flops(_) => Some(limits.f32_gflops),
            Work::FlopsF64(_) => Some(limits.f64_gflops),
            Work::Read(_) => Some(limits.read_gbs),
            Work::Copy(_) => Some(limits.copy_gbs),
            Work::Calls => None,
        }
    }
}

/// One row of the table.
pub struct Row {
    /// Its name, the same for all peers.
    pub name: String,
    /// What is done in a step.
    pub work: Work,
    /// Whether the peak memory is of interest.
    pub memory: bool,
    /// Makes the inputs and gives the step.
    pub make: Box<dyn Fn() -> Result<Step>>,
}

impl Row {
    fn new(name: impl Into<String>, work: Work, make: impl Fn() -> Result<Step> + 'static) -> Row {
        Row { name: name.into(), work, memory: false, make: Box::new(make) }
    }

    fn with_memory(mut self) -> Row {
        self.memory = true;
        self
    }
}

/// All rows, in the order of the table.
pub fn all() -> Vec<Row> {
    [
        matmul::rows(),
        elementwise::rows(),
        reduce::rows(),
        softmax::rows(),
        pool::rows(),
        norm::rows(),
        conv::rows(),
        attention::rows(),
        optim::rows(),
        train::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Those whose name contains one of `parts`; all if there are none.
pub fn matching(rows: Vec<Row>, parts: &[String]) -> Vec<Row> {
    rows.into_iter().filter(|r| parts.is_empty() || parts.iter().any(|p| r.name.contains(p.as_str()))).collect()
}

fn randn(shape: impl rushlight::IntoShape) -> Result<Tensor> {
    Tensor::randn(shape, DType::F32)
}

/// The step that computes `f` and drops what came of it.
fn step<R>(f: impl Fn() -> Result<R> + 'static) -> Result<Step> {
    Ok(Box::new(move || {
        black_box(f()?);
        Ok(())
    }))
}

/// Forward, and backward to the gradients of the tracked inputs, from a gradient of ones.
fn forward_backward(f: impl Fn() -> Result<Tensor> + 'static) -> Result<Step> {
    step(move || {
        let y = f()?;
        y.backward_with(&y.ones_like()?)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_the_filter_takes_parts_of_them() {
        let names: Vec<String> = all().into_iter().map(|r| r.name).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert!(names.iter().all(|n| !n.contains(char::is_whitespace)), "a name is a line and a column");
        let count = |parts: &[&str]| matching(all(), &parts.iter().map(|p| p.to_string()).collect::<Vec<_>>()).len();
        assert_eq!(count(&[]), names.len());
        assert_eq!(count(&["no such row"]), 0);
        assert_eq!(count(&["ew_add_1K"]), 1);
        assert_eq!(count(&["ew_add_1K", "sum_", "ew_add_1K"]), 4);
    }

    #[test]
    fn python_has_every_row() {
        let script = include_str!("../../torch_rows.py");
        for row in all() {
            // Names of convolutions and of attention are put together from their numbers, in Python too.
            let made = row.name.starts_with("conv2d_") || row.name.starts_with("sdpa_");
            assert!(script.contains(&format!("\"{}\"", row.name)) || made, "{}", row.name);
        }
    }

    #[test]
    fn small_rows_run_twice() {
        for row in all().into_iter().filter(|r| r.work == Work::Calls) {
            let mut step = (row.make)().unwrap();
            step().unwrap();
            step().unwrap();
        }
    }
}
