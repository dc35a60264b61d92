//! The embedding layer: a row of numbers for each index.

use super::{Description, Kind, Layer, Module, Path, Visitor, VisitorMut};
use crate::{DType, Error, Result, Tensor};

/// Indices `[..]` to rows of a table, `[.., width]`. PyTorch: `nn.Embedding`. See [`Tensor::embedding`].
pub struct Embedding {
    /// `[rows, width]`
    pub weight: Tensor,
    /// The row that stays 0 and gets no gradient.
    pub padding_idx: Option<i64>,
}

impl Embedding {
    /// Rows start normal.
    pub fn new(rows: usize, width: usize) -> Result<Embedding> {
        Ok(Embedding { weight: Tensor::randn([rows, width], DType::F32)?.requires_grad()?, padding_idx: None })
    }

    /// The same with a row for padding, which is 0. Errors: no such row.
    pub fn with_padding(rows: usize, width: usize, padding_idx: usize) -> Result<Embedding> {
        if padding_idx >= rows {
            let (op, index, dim, size) = ("embedding", padding_idx as i64, 0, rows);
            return Err(Error::Index { op, index, dim, size });
        }
        let mask = Tensor::arange(0.0, rows as f64, 1.0, DType::I64)?.eq(padding_idx as i64)?.unsqueeze(1)?;
        let weight = Tensor::randn([rows, width], DType::F32)?.masked_fill(&mask, 0.0)?.requires_grad()?;
        Ok(Embedding { weight, padding_idx: Some(padding_idx as i64) })
    }
}

impl Layer for Embedding {
    fn forward(&self, index: &Tensor) -> Result<Tensor> {
        self.weight.embedding(index, self.padding_idx)
    }
}

impl Module for Embedding {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        path.enter("weight", |p| f(p.name(), Kind::Parameter, &self.weight));
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        path.enter("weight", |p| f(p.name(), Kind::Parameter, &mut self.weight))
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        Description::leaf("Embedding", format!("{}, padding_idx={:?}", self.weight.shape(), self.padding_idx))
    }
}
