//! Tensors: a row of views of one tensor, each with its shape and strides and where its elements lie in storage.

use rushlight::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    shape: Vec<usize>,
    steps: Vec<Step>,
}

/// One operation after the other.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Step {
    Transpose { a: i64, b: i64 },
    Narrow { dim: i64, start: usize, length: usize },
    Select { dim: i64, index: i64 },
    Flip { dim: i64 },
    Unsqueeze { dim: i64 },
    Expand { shape: Vec<usize> },
    Reshape { shape: Vec<i64> },
    Contiguous,
}

#[derive(Serialize)]
pub struct Answer {
    stages: Vec<Stage>,
    /// What the step after the last stage was refused with.
    error: Option<String>,
}

#[derive(Serialize)]
struct Stage {
    shape: Vec<usize>,
    strides: Vec<isize>,
    contiguous: bool,
    /// Whether it lies in the storage of the stage before; else that was copied.
    view: bool,
    /// The numbers in storage, in their order.
    storage: Vec<f64>,
    /// Of each element, row by row, its place in storage, and its value.
    places: Vec<usize>,
    values: Vec<f64>,
}

const ELEMENTS: usize = 64;
const DIMS: usize = 4;
const STEPS: usize = 6;

pub fn answer(ask: Ask) -> Outcome<Answer> {
    let numel = ask.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(usize::MAX);
    if ask.shape.len() > DIMS || !(1..=ELEMENTS).contains(&numel) || ask.steps.len() > STEPS {
        return Err(format!("expected at most {DIMS} dims, 1 to {ELEMENTS} elements and {STEPS} steps").into());
    }
    let first = Tensor::arange(0.0, numel as f64, 1.0, DType::F64)?.reshape(&ask.shape[..])?;
    // The values that lie in storage, and a view whose elements are their places there.
    let (mut now, mut places) = (first.clone(), first);
    let mut storage = now.to_vec::<f64>()?;
    let mut stages = vec![stage(&now, &places, &storage, true)?];
    for step in &ask.steps {
        let (next, moved) = match (apply(&now, step), apply(&places, step)) {
            (Ok(next), Ok(moved)) => (next, moved),
            (Err(e), _) | (_, Err(e)) => return Ok(Answer { stages, error: Some(e.to_string()) }),
        };
        let view = next.shares_storage(&now);
        if view {
            places = moved;
        } else {
            storage = next.to_vec::<f64>()?;
            places = Tensor::arange(0.0, storage.len() as f64, 1.0, DType::F64)?.reshape(next.dims())?;
        }
        now = next;
        stages.push(stage(&now, &places, &storage, view)?);
    }
    Ok(Answer { stages, error: None })
}

fn apply(x: &Tensor, step: &Step) -> Outcome<Tensor> {
    let y = match step {
        Step::Transpose { a, b } => x.transpose(*a, *b)?,
        Step::Narrow { dim, start, length } => x.narrow(*dim, *start, *length)?,
        Step::Select { dim, index } => x.select(*dim, *index)?,
        Step::Flip { dim } => x.flip([*dim])?,
        Step::Unsqueeze { dim } => x.unsqueeze(*dim)?,
        Step::Expand { shape } => {
            let numel = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(usize::MAX);
            if shape.len() > DIMS || numel > ELEMENTS {
                return Err(format!("expand: at most {DIMS} dims and {ELEMENTS} elements are shown").into());
            }
            x.expand(&shape[..])?
        }
        Step::Reshape { shape } => x.reshape(&shape[..])?,
        Step::Contiguous => x.contiguous()?,
    };
    if y.dims().len() > DIMS {
        return Err(format!("at most {DIMS} dims are shown").into());
    }
    Ok(y)
}

fn stage(x: &Tensor, places: &Tensor, storage: &[f64], view: bool) -> Result<Stage> {
    Ok(Stage {
        shape: x.dims().to_vec(),
        strides: x.strides().to_vec(),
        contiguous: x.is_contiguous(),
        view,
        storage: storage.to_vec(),
        places: places.to_vec::<f64>()?.iter().map(|p| *p as usize).collect(),
        values: x.to_vec()?,
    })
}
