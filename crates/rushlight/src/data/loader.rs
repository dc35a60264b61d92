//! Batches of a data set: shuffled by a seed, made ahead on a thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use crate::random::Generator;
use crate::{Error, Result, Tensor};

/// Samples by index.
///
/// A sample must depend on its index alone, not on when it is asked for: batches are made ahead, on another thread.
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One sample: a tensor for each part, such as input and label.
    fn get(&self, index: usize) -> Result<Vec<Tensor>>;

    /// The samples of a batch, each part stacked. A data set that can do it faster says how.
    fn batch(&self, indices: &[usize]) -> Result<Vec<Tensor>> {
        let mut parts: Vec<Vec<Tensor>> = vec![];
        for &index in indices {
            let sample = |source| Error::Sample { index, source: Box::new(source) };
            let got = self.get(index).map_err(sample)?;
            parts.resize_with(got.len().max(parts.len()), Vec::new);
            parts.iter_mut().zip(got).for_each(|(part, t)| part.push(t));
        }
        if let Some(part) = parts.iter().find(|p| p.len() != indices.len()) {
            let message =
                format!("samples of a batch differ in their number of parts ({} of {})", part.len(), indices.len());
            return Err(Error::invalid("DataLoader", message));
        }
        parts.iter().map(|part| Tensor::stack(part, 0)).collect()
    }
}

/// Tensors whose first dim counts the samples. PyTorch: `TensorDataset`.
pub struct TensorDataset {
    tensors: Vec<Tensor>,
    len: usize,
}

impl TensorDataset {
    /// Errors: no tensor, a tensor without dims, or first dims that differ.
    pub fn new(tensors: Vec<Tensor>) -> Result<TensorDataset> {
        let sizes: Vec<Option<usize>> = tensors.iter().map(|t| t.dims().first().copied()).collect();
        match sizes.first() {
            Some(&Some(len)) if sizes.iter().all(|s| *s == Some(len)) => Ok(TensorDataset { tensors, len }),
            _ => Err(Error::invalid("TensorDataset", format!("first dims {sizes:?} do not agree on the samples"))),
        }
    }
}

impl Dataset for TensorDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Vec<Tensor>> {
        self.tensors.iter().map(|t| t.select(0, index as i64)).collect()
    }

    fn batch(&self, indices: &[usize]) -> Result<Vec<Tensor>> {
        let index = Tensor::from_vec(indices.iter().map(|&i| i as i64).collect(), indices.len())?;
        self.tensors.iter().map(|t| t.index_select(0, &index)).collect()
    }
}

/// Cuts a data set into batches. PyTorch: `DataLoader`.
///
/// ```
/// # use rushlight::{DType, Tensor, data::{DataLoader, TensorDataset}};
/// let set = TensorDataset::new(vec![Tensor::arange(0.0, 10.0, 1.0, DType::F32)?])?;
/// let loader = DataLoader::new(set, 4).shuffle(0);
/// let sizes: Vec<usize> = loader.epoch(0).map(|b| Ok(b?[0].numel())).collect::<rushlight::Result<_>>()?;
/// assert_eq!(sizes, [4, 4, 2]);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct DataLoader {
    set: Arc<dyn Dataset>,
    batch: usize,
    shuffle: Option<u64>,
    drop_last: bool,
    prefetch: usize,
}

impl DataLoader {
    /// In order, the last batch kept, two batches made ahead. A batch size of 0 counts as 1.
    pub fn new(set: impl Dataset + 'static, batch: usize) -> DataLoader {
        DataLoader { set: Arc::new(set), batch: batch.max(1), shuffle: None, drop_last: false, prefetch: 2 }
    }

    /// In another random order each epoch. The order of an epoch depends on the seed and the epoch's number alone.
    pub fn shuffle(mut self, seed: u64) -> DataLoader {
        self.shuffle = Some(seed);
        self
    }

    /// Whether a last batch that is not full is left out.
    pub fn drop_last(mut self, drop: bool) -> DataLoader {
        self.drop_last = drop;
        self
    }

    /// How many batches are made ahead on a thread; 0 makes each when it is asked for.
    pub fn prefetch(mut self, batches: usize) -> DataLoader {
        self.prefetch = batches;
        self
    }

    /// The number of batches of an epoch.
    pub fn len(&self) -> usize {
        let n = self.set.len();
        if self.drop_last { n / self.batch } else { n.div_ceil(self.batch) }
    }

    /// Whether an epoch has no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of one epoch.
    pub fn epoch(&self, epoch: u64) -> Batches {
        self.epoch_from(epoch, 0)
    }

    /// The batches of one epoch without the first `skip`: where a resumed run goes on.
    pub fn epoch_from(&self, epoch: u64, skip: usize) -> Batches {
        let n = self.set.len();
        let order: Vec<usize> = match self.shuffle {
            None => (0..n).collect(),
            Some(seed) => {
                // One stream per seed; each epoch's own from a number drawn by both.
                let key = Generator::new(seed).next_u64() ^ epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                Generator::new(key).permutation(n).into_iter().map(|i| i as usize).collect()
            }
        };
        let batches: Vec<Vec<usize>> =
            order.chunks(self.batch).take(self.len()).skip(skip).map(<[usize]>::to_vec).collect();
        if self.prefetch == 0 {
            return Batches { source: Source::Here(self.set.clone(), batches.into_iter()) };
        }
        let (send, receive) = sync_channel(self.prefetch);
        let set = self.set.clone();
        let spawned = std::thread::Builder::new().name("rushlight-loader".into()).spawn({
            let batches = batches.clone();
            move || {
                for indices in batches {
                    let batch = guarded(&*set, &indices);
                    let failed = batch.is_err();
                    // The other end is gone when the iterator was dropped.
                    if send.send(batch).is_err() || failed {
                        return;
                    }
                }
            }
        });
        match spawned {
            Ok(_) => Batches { source: Source::Thread(receive) },
            // No thread to be had: slower, but it works.
            Err(_) => Batches { source: Source::Here(self.set.clone(), batches.into_iter()) },
        }
    }
}

/// A panic in a sample becomes an error, so that it does not look like the end of the epoch.
fn guarded(set: &dyn Dataset, indices: &[usize]) -> Result<Vec<Tensor>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| set.batch(indices))).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("no message");
        Err(Error::invalid("DataLoader", format!("a sample among {indices:?} panicked: {text}")))
    })
}

/// The batches of an epoch, each a tensor per part. After an error there are no more.
pub struct Batches {
    source: Source,
}

enum Source {
    Here(Arc<dyn Dataset>, std::vec::IntoIter<Vec<usize>>),
    Thread(Receiver<Result<Vec<Tensor>>>),
    Done,
}

impl Iterator for Batches {
    type Item = Result<Vec<Tensor>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.source {
            Source::Here(set, batches) => batches.next().map(|indices| guarded(&**set, &indices)),
            Source::Thread(receive) => receive.recv().ok(),
            Source::Done => None,
        };
        if !matches!(next, Some(Ok(_))) {
            self.source = Source::Done;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn numbers(n: usize) -> TensorDataset {
        TensorDataset::new(vec![Tensor::arange(0.0, n as f64, 1.0, DType::I64).unwrap()]).unwrap()
    }

    fn all(loader: &DataLoader, epoch: u64) -> Vec<i64> {
        loader.epoch(epoch).flat_map(|b| b.unwrap()[0].to_vec::<i64>().unwrap()).collect()
    }

    #[test]
    fn every_sample_once_in_an_order_of_the_seed_and_epoch() {
        let loader = DataLoader::new(numbers(101), 7).shuffle(3);
        let (a, b) = (all(&loader, 0), all(&loader, 1));
        assert_ne!(a, b);
        assert_eq!(a, all(&DataLoader::new(numbers(101), 7).shuffle(3).prefetch(0), 0));
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..101).collect::<Vec<_>>());
        let rest: Vec<i64> = loader.epoch_from(0, 5).flat_map(|b| b.unwrap()[0].to_vec::<i64>().unwrap()).collect();
        assert_eq!(rest, a[35..]);
        assert_eq!((loader.len(), DataLoader::new(numbers(101), 7).drop_last(true).len()), (15, 14));
        assert_eq!(all(&DataLoader::new(numbers(0), 4), 0), [0i64; 0]);
    }

    struct Faulty;
    impl Dataset for Faulty {
        fn len(&self) -> usize {
            10
        }
        fn get(&self, index: usize) -> Result<Vec<Tensor>> {
            match index {
                5 => Err(Error::invalid("read", "no such picture")),
                8 => panic!("broken sample"),
                i => Ok(vec![Tensor::new(i as i64)?]),
            }
        }
    }

    #[test]
    fn a_bad_sample_is_reported_once_with_its_index() {
        for prefetch in [0, 3] {
            let mut batches = DataLoader::new(Faulty, 2).prefetch(prefetch).epoch(0);
            assert!(batches.next().unwrap().is_ok() && batches.next().unwrap().is_ok());
            assert_eq!(batches.next().unwrap().unwrap_err().to_string(), "sample 5: read: no such picture");
            assert!(batches.next().is_none() && batches.next().is_none());
            let e = DataLoader::new(Faulty, 2).prefetch(prefetch).epoch_from(0, 4).next().unwrap().unwrap_err();
            assert!(e.to_string().contains("broken sample"), "{e}");
        }
    }

    #[test]
    fn an_iterator_that_is_dropped_ends_its_thread() {
        let set = Arc::new(());
        struct Counted(Arc<()>);
        impl Dataset for Counted {
            fn len(&self) -> usize {
                1_000_000
            }
            fn get(&self, _: usize) -> Result<Vec<Tensor>> {
                assert!(Arc::strong_count(&self.0) > 1);
                Ok(vec![Tensor::new(0.0f32)?])
            }
        }
        let loader = DataLoader::new(Counted(set.clone()), 4);
        loader.epoch(0).next().unwrap().unwrap();
        drop(loader);
        for _ in 0..500 {
            if Arc::strong_count(&set) == 1 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the loader's thread still holds the data set");
    }
}
