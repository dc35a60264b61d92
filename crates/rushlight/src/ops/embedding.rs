//! Embedding: the rows of a table that indices name.

use std::sync::Arc;

use crate::autograd::{InPlace, record_in_place};
use crate::ops::reduce::float_only;
use crate::{DType, Error, Result, Tensor};

impl Tensor {
    /// This table's rows at `index`: `[V, D]` and i64 `[…]` to `[…, D]`. The gradient of a row is the sum over the
    /// places it was read at; row `padding_idx` (negative from the end) gets none.
    ///
    /// `y[…, d] = self[index[…], d]`. PyTorch: `F.embedding(index, self, padding_idx)`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let table = Tensor::new([[0.0f32, 0.0], [1.0, 2.0], [3.0, 4.0]])?.requires_grad()?;
    /// let y = table.embedding(&Tensor::new([[2i64, 0], [2, 1]])?, Some(0))?;
    /// assert_eq!(y.dims(), [2, 2, 2]);
    /// let grads = y.sum(..)?.backward()?;
    /// assert_eq!(grads.get(&table).unwrap().to_vec::<f32>()?, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: not a float table of two dims; `index` not i64; an index outside `0..V`.
    pub fn embedding(&self, index: &Tensor, padding_idx: Option<i64>) -> Result<Tensor> {
        let op = "embedding";
        float_only(op, self)?;
        let [rows, width] = self.dims_of(op)?;
        if index.dtype() != DType::I64 {
            return Err(Error::dtype(op, index.dtype(), "expected i64 indices"));
        }
        let places = index.reshape(index.numel())?.packed()?;
        if let Some(&index) = places.slice::<i64>(op)?.iter().find(|i| **i < 0 || **i >= rows as i64) {
            return Err(Error::Index { op, index, dim: 0, size: rows });
        }
        let padding = match padding_idx {
            Some(row) if row < -(rows as i64) || row >= rows as i64 => {
                return Err(Error::invalid(op, format!("padding_idx {row} is outside the table of {rows} rows")));
            }
            Some(row) => Some(places.eq(if row < 0 { row + rows as i64 } else { row })?.unsqueeze(1)?),
            None => None,
        };
        let shape = index.shape().inserted(index.rank(), width);
        let y = self.detach().index_select(0, &places)?.reshape(shape)?;
        let rows_of = move |dy: &Tensor| {
            let dy = dy.reshape([places.numel(), width])?;
            let dy = match &padding {
                Some(padding) => dy.masked_fill(padding, 0.0)?,
                None => dy,
            };
            Ok((dy, places.clone()))
        };
        // A table that is also the output layer, as in GPT, has its gradient from there already.
        let add = {
            let rows_of = rows_of.clone();
            move |sum: &mut Tensor, dy: &Tensor| {
                let (dy, places) = rows_of(dy)?;
                sum.index_add_in_place(0, &places, &dy)
            }
        };
        record_in_place(op, y, self, InPlace::Add(Arc::new(add)), move |dy| {
            let (dy, places) = rows_of(dy)?;
            dy.index_add_into(0, &places, rows)
        })
    }
}
