//! Where samples come from: the [`Dataset`] trait, and data sets that are tensors already.

use std::sync::Arc;

use crate::{Error, Result, Tensor};

/// Samples by index.
///
/// [`Dataset::get`] gives the same sample for the same index, at any time and on any thread: so an epoch does not
/// depend on how many batches are loaded ahead. Random changes (augmentation) belong into the training loop, done to
/// the batch with the loop's own generator; [`crate::random`]'s functions, used here, would draw from the generator of
/// whichever thread the sample is loaded on.
pub trait Dataset: Send + Sync {
    /// What one index gives.
    type Sample;

    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index`, below [`Dataset::len`].
    fn get(&self, index: usize) -> Result<Self::Sample>;

    /// The samples at `indices` as one batch, if that is quicker than one after the other and putting them together.
    /// The values are those that [`Dataset::get`] and [`stack`] give.
    fn get_batch(&self, indices: &[usize]) -> Option<Result<Self::Sample>> {
        let _ = indices;
        None
    }
}

/// Several loaders can share one data set.
impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<D::Sample> {
        (**self).get(index)
    }

    fn get_batch(&self, indices: &[usize]) -> Option<Result<D::Sample>> {
        (**self).get_batch(indices)
    }
}

/// Tensors that agree in their first dim: sample i is row i of each. PyTorch: `TensorDataset`.
///
/// ```
/// # use rushlight::{DType, Tensor, data::{Dataset, TensorDataset}};
/// let x = Tensor::arange(0.0, 6.0, 1.0, DType::F32)?.reshape([3, 2])?;
/// let y = Tensor::new([7i64, 8, 9])?;
/// let data = TensorDataset::new([x, y])?;
/// let sample = data.get(1)?;
/// assert_eq!((data.len(), sample[0].to_vec::<f32>()?, sample[1].item::<i64>()?), (3, vec![2.0, 3.0], 8));
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone)]
pub struct TensorDataset {
    tensors: Vec<Tensor>,
    len: usize,
}

impl TensorDataset {
    /// Of these tensors, outside the graph. Errors: no tensor; one of 0 dims; first dims that differ.
    pub fn new(tensors: impl Into<Vec<Tensor>>) -> Result<TensorDataset> {
        let op = "TensorDataset";
        let tensors: Vec<Tensor> = tensors.into().iter().map(Tensor::detach).collect();
        let mut lens = tensors.iter().map(|t| t.dims().first().copied());
        let len = match lens.next() {
            None => return Err(Error::invalid(op, "no tensors")),
            Some(Some(len)) if lens.all(|l| l == Some(len)) => len,
            _ => {
                let shapes: Vec<String> = tensors.iter().map(|t| t.shape().to_string()).collect();
                let message = format!("shapes {} do not share their first dim", shapes.join(", "));
                return Err(Error::invalid(op, message));
            }
        };
        Ok(TensorDataset { tensors, len })
    }

    /// The tensors as a whole.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
}

impl Dataset for TensorDataset {
    type Sample = Vec<Tensor>;

    fn len(&self) -> usize {
        self.len
    }

    /// Views of the rows.
    fn get(&self, index: usize) -> Result<Vec<Tensor>> {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.tensors.iter().map(|t| t.select(0, index)).collect()
    }

    /// One copy of rows for each tensor.
    fn get_batch(&self, indices: &[usize]) -> Option<Result<Vec<Tensor>>> {
        let indices: Vec<i64> = indices.iter().map(|&i| i64::try_from(i).unwrap_or(i64::MAX)).collect();
        let take = |index: Tensor| self.tensors.iter().map(|t| t.index_select(0, &index)).collect();
        Some(Tensor::new(indices).and_then(take))
    }
}

/// Samples of several tensors to a batch: the first tensors of all stacked, the second of all, and so on.
/// PyTorch: `default_collate`.
///
/// Errors: no sample; samples of different numbers of tensors; shapes that differ.
pub fn stack(samples: &[Vec<Tensor>]) -> Result<Vec<Tensor>> {
    let op = "stack";
    let first = samples.first().ok_or_else(|| Error::invalid(op, "no samples to join"))?;
    if let Some(other) = samples.iter().find(|s| s.len() != first.len()) {
        let message = format!("a sample of {} tensors does not join one of {}", other.len(), first.len());
        return Err(Error::invalid(op, message));
    }
    (0..first.len()).map(|i| Tensor::stack(&samples.iter().map(|s| &s[i]).collect::<Vec<_>>(), 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn rows(n: usize) -> TensorDataset {
        let x = Tensor::arange(0.0, n as f64 * 6.0, 1.0, DType::F32).unwrap().reshape([n, 2, 3]).unwrap();
        let y = Tensor::arange(0.0, n as f64, 1.0, DType::I64).unwrap();
        TensorDataset::new([x, y]).unwrap()
    }

    #[test]
    fn a_batch_at_once_is_its_samples_stacked() {
        let data = rows(5);
        for indices in [&[0usize, 1, 2][..], &[4], &[3, 0, 3]] {
            let samples: Vec<_> = indices.iter().map(|&i| data.get(i).unwrap()).collect();
            let (slow, quick) = (stack(&samples).unwrap(), data.get_batch(indices).unwrap().unwrap());
            assert_eq!((quick[0].dims(), quick[1].dims()), (&[indices.len(), 2, 3][..], &[indices.len()][..]));
            assert_eq!(slow[0].to_vec::<f32>().unwrap(), quick[0].to_vec::<f32>().unwrap());
            assert_eq!(slow[1].to_vec::<i64>().unwrap(), quick[1].to_vec::<i64>().unwrap());
            assert_eq!(quick[1].to_vec::<i64>().unwrap(), indices.iter().map(|&i| i as i64).collect::<Vec<_>>());
        }
        assert!(data.get(5).is_err() && data.get(usize::MAX).is_err() && data.get_batch(&[5]).unwrap().is_err());
        let tracked = Tensor::ones([2, 2], DType::F32).unwrap().requires_grad().unwrap();
        assert!(!TensorDataset::new([tracked]).unwrap().get(0).unwrap()[0].is_tracked());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let [a, b, scalar] = [&[2usize, 3][..], &[3, 3], &[]].map(|s| Tensor::zeros(s, DType::F32).unwrap());
        let error = TensorDataset::new([a.clone(), b.clone()]).err().unwrap().to_string();
        assert!(error.contains("shapes [2, 3], [3, 3] do not share"), "{error}");
        assert!(TensorDataset::new([scalar]).is_err() && TensorDataset::new([]).is_err());
        let error = stack(&[vec![a.clone()], vec![a.clone(), b.clone()]]).err().unwrap().to_string();
        assert!(error.contains("2 tensors does not join one of 1"), "{error}");
        assert!(stack(&[]).is_err() && stack(&[vec![a], vec![b]]).is_err());
        assert_eq!(rows(0).len(), 0);
    }
}
