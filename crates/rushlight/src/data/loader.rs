//! [`DataLoader`]: a data set in batches, epoch after epoch.
//!
//! The order of an epoch follows from the seed and the epoch's number alone. With [`DataLoader::prefetch`] one thread
//! loads ahead; it gives the same batches, in the same order.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::{Dataset, stack};
use crate::random::Generator;
use crate::{Error, Result, Tensor};

/// Gives a data set in batches. PyTorch: `DataLoader`.
///
/// ```
/// use rushlight::data::{DataLoader, TensorDataset};
/// use rushlight::{DType, Tensor};
///
/// let data = TensorDataset::new([Tensor::randn([10, 3], DType::F32)?, Tensor::zeros(10, DType::I64)?])?;
/// let loader = DataLoader::new(data, 4)?.shuffle(42).prefetch(2);
/// for epoch in 0..3 {
///     for batch in loader.epoch(epoch) {
///         let [x, y] = &batch?[..] else { unreachable!() };
///         assert_eq!(x.dims()[0], y.dims()[0]);
///     }
/// }
/// assert_eq!(loader.len(), 3);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct DataLoader<D, B = Vec<Tensor>> {
    dataset: Arc<D>,
    batch: Arc<MakeBatch<D, B>>,
    batch_size: usize,
    shuffle: Option<u64>,
    drop_last: bool,
    prefetch: usize,
}

type MakeBatch<D, B> = dyn Fn(&D, &[usize]) -> Result<B> + Send + Sync;
/// Loads the next batch.
type Load<B> = dyn FnMut() -> Result<B> + Send;

impl<D: Dataset<Sample = Vec<Tensor>> + 'static> DataLoader<D> {
    /// Batches of stacked samples, in order, the last one smaller where the sizes do not divide.
    ///
    /// Errors: a batch size of 0.
    pub fn new(dataset: D, batch_size: usize) -> Result<DataLoader<D>> {
        let batch = |data: &D, indices: &[usize]| match data.get_batch(indices) {
            Some(batch) => batch,
            None => stack(&samples(data, indices)?),
        };
        DataLoader::build(dataset, batch_size, Arc::new(batch))
    }
}

impl<D: Dataset + 'static, B: Send + 'static> DataLoader<D, B> {
    /// [`DataLoader::new`] for samples of any kind: `collate` makes a batch of them. Errors: a batch size of 0.
    pub fn with_collate(
        dataset: D,
        batch_size: usize,
        collate: impl Fn(Vec<D::Sample>) -> Result<B> + Send + Sync + 'static,
    ) -> Result<DataLoader<D, B>> {
        let batch = move |data: &D, indices: &[usize]| collate(samples(data, indices)?);
        DataLoader::build(dataset, batch_size, Arc::new(batch))
    }

    fn build(dataset: D, batch_size: usize, batch: Arc<MakeBatch<D, B>>) -> Result<DataLoader<D, B>> {
        if batch_size == 0 {
            return Err(Error::invalid("DataLoader", "a batch size of 0"));
        }
        Ok(DataLoader { dataset: Arc::new(dataset), batch, batch_size, shuffle: None, drop_last: false, prefetch: 0 })
    }

    /// Each epoch in a random order of its own.
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self
    }

    /// Whether a last batch that is not full is left out.
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// How many batches a thread may load ahead; 0, the default, for none: each is loaded when it is asked for.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = batches;
        self
    }

    /// The data set.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// The number of batches in an epoch.
    pub fn len(&self) -> usize {
        let n = self.dataset.len();
        if self.drop_last { n / self.batch_size } else { n.div_ceil(self.batch_size) }
    }

    /// Whether an epoch has no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of epoch number `epoch`: always the same ones.
    pub fn epoch(&self, epoch: u64) -> Epoch<B> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of an epoch without the first `skip`, which are not loaded: to resume in the middle.
    pub fn epoch_from(&self, epoch: u64, skip: usize) -> Epoch<B> {
        let (len, size) = (self.len(), self.batch_size);
        let order = self.order(epoch);
        let (dataset, batch) = (self.dataset.clone(), self.batch.clone());
        let mut next = skip.min(len);
        let left = len - next;
        let mut load: Box<Load<B>> = Box::new(move || {
            let indices = &order[next * size..order.len().min((next + 1) * size)];
            next += 1;
            catch_unwind(AssertUnwindSafe(|| batch(&dataset, indices)))
                .unwrap_or_else(|panic| Err(Error::invalid("collate", said(panic))))
        });
        if self.prefetch == 0 || left == 0 {
            return Epoch { left, source: Source::Here(load) };
        }
        // One batch waits in the thread's hands until the channel takes it.
        let (sender, receiver) = sync_channel(self.prefetch - 1);
        let work = move || {
            for _ in 0..left {
                let batch = load();
                let last = batch.is_err();
                if sender.send(batch).is_err() || last {
                    return;
                }
            }
        };
        let source = match thread::Builder::new().name("rushlight-data".to_string()).spawn(work) {
            Ok(thread) => Source::Thread { receiver: Some(receiver), thread: Some(thread) },
            Err(e) => Source::Here(Box::new(move || {
                Err(Error::invalid("prefetch", format!("the system gives no thread: {e}")))
            })),
        };
        Epoch { left, source }
    }

    fn order(&self, epoch: u64) -> Vec<usize> {
        let n = self.dataset.len();
        match self.shuffle {
            None => (0..n).collect(),
            Some(seed) => epoch_generator(seed, epoch).permutation(n).into_iter().map(|i| i as usize).collect(),
        }
    }
}

/// The generator that puts epoch number `epoch` in order: from the seed and the number alone, so that a run resumes
/// anywhere. The order of [`DataLoader::shuffle`] is its first [`Generator::permutation`].
pub fn epoch_generator(seed: u64, epoch: u64) -> Generator {
    // Mixed before the epoch joins, so that epoch 1 of one seed is not epoch 0 of the next.
    Generator::new(mix(mix(seed) ^ epoch))
}

/// The finalizer of splitmix64: a one-to-one map in which every bit depends on all others.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn samples<D: Dataset>(data: &D, indices: &[usize]) -> Result<Vec<D::Sample>> {
    let get = |&index: &usize| {
        catch_unwind(AssertUnwindSafe(|| data.get(index)))
            .unwrap_or_else(|panic| Err(Error::invalid("get", said(panic))))
            .map_err(|e| Error::Sample { index, source: Box::new(e) })
    };
    indices.iter().map(get).collect()
}

/// What a panic said.
fn said(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}

/// The batches of one epoch. After an error there are no more.
///
/// A sample that is refused, or panics, is [`Error::Sample`]. Dropping this ends the thread that loads ahead, once the
/// sample it is at is done.
pub struct Epoch<B> {
    left: usize,
    source: Source<B>,
}

enum Source<B> {
    Here(Box<Load<B>>),
    Thread { receiver: Option<Receiver<Result<B>>>, thread: Option<JoinHandle<()>> },
}

impl<B> Iterator for Epoch<B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Result<B>> {
        self.left = self.left.checked_sub(1)?;
        let batch = match &mut self.source {
            Source::Here(load) => load(),
            Source::Thread { receiver, .. } => {
                let lost = || Err(Error::invalid("prefetch", "internal: the thread ended early; please report this"));
                receiver.as_ref().and_then(|r| r.recv().ok()).unwrap_or_else(lost)
            }
        };
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1), Some(self.left))
    }
}

impl<B> Drop for Epoch<B> {
    fn drop(&mut self) {
        if let Source::Thread { receiver, thread } = &mut self.source {
            // Without a receiver the thread's next send fails, also one that waits already.
            drop(receiver.take());
            // It catches its panics, so there is nothing to learn here.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Sample i is i; one index may be bad. Counts what is asked of it.
    #[derive(Default)]
    struct Numbers {
        len: usize,
        error: Option<usize>,
        panic: Option<usize>,
        asked: AtomicUsize,
    }

    impl Dataset for Numbers {
        type Sample = usize;
        fn len(&self) -> usize {
            self.len
        }
        fn get(&self, index: usize) -> Result<usize> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            assert!(self.panic != Some(index), "cannot do {index}");
            if self.error == Some(index) { Err(Error::invalid("read", "torn")) } else { Ok(index) }
        }
    }

    type Loader = DataLoader<Arc<Numbers>, Vec<usize>>;

    fn loader(data: Numbers, batch_size: usize) -> Loader {
        DataLoader::with_collate(Arc::new(data), batch_size, Ok).unwrap()
    }

    fn numbers(len: usize, batch_size: usize) -> Loader {
        loader(Numbers { len, ..Numbers::default() }, batch_size)
    }

    fn batches(epoch: Epoch<Vec<usize>>) -> Vec<Vec<usize>> {
        epoch.map(Result::unwrap).collect()
    }

    #[test]
    fn every_sample_once_in_batches() {
        for (n, size) in [(0, 3), (1, 3), (6, 3), (7, 3), (3, 7), (100, 1)] {
            for prefetch in [0, 1, 3] {
                for seed in [None, Some(5)] {
                    let plain = numbers(n, size).prefetch(prefetch);
                    let l = match seed {
                        None => plain,
                        Some(seed) => plain.shuffle(seed),
                    };
                    let got = batches(l.epoch(0));
                    assert_eq!((got.len(), l.is_empty()), (l.len(), n == 0));
                    assert!(got.iter().rev().skip(1).all(|b| b.len() == size));
                    let mut all = got.concat();
                    if seed.is_some() {
                        all.sort_unstable();
                    }
                    assert_eq!(all, (0..n).collect::<Vec<_>>());
                    let l = l.drop_last(true);
                    assert_eq!(batches(l.epoch(0)), got.into_iter().filter(|b| b.len() == size).collect::<Vec<_>>());
                    assert_eq!(l.len(), n / size);
                }
            }
        }
        assert!(DataLoader::with_collate(Numbers::default(), 0, Ok).is_err());
    }

    #[test]
    fn the_order_follows_from_seed_and_epoch() {
        let order = |seed, epoch| batches(numbers(50, 8).shuffle(seed).epoch(epoch)).concat();
        let l = numbers(50, 8).shuffle(1);
        let _ = batches(l.epoch(7));
        assert_eq!(batches(l.epoch(3)).concat(), order(1, 3));
        let mut orders: Vec<_> =
            (0..4).flat_map(|seed| (0..4).map(move |epoch| (seed, epoch))).map(|(s, e)| order(s, e)).collect();
        orders.push((0..50).collect());
        for (i, a) in orders.iter().enumerate() {
            assert!(orders[..i].iter().all(|b| b != a), "{i}");
        }
    }

    #[test]
    fn loading_ahead_and_resuming_change_nothing() {
        let plain = numbers(40, 3).shuffle(2);
        for prefetch in [0, 1, 2, 100] {
            let ahead = numbers(40, 3).shuffle(2).prefetch(prefetch);
            for epoch in 0..3 {
                let whole = batches(plain.epoch(epoch));
                assert_eq!(batches(ahead.epoch(epoch)), whole);
                for skip in [1, 13, 14, 99] {
                    assert_eq!(batches(ahead.epoch_from(epoch, skip)), whole[skip.min(14)..]);
                }
            }
        }
        // What is skipped is not loaded.
        assert_eq!(batches(plain.epoch_from(9, 13)).concat().len(), 1);
        let fresh = numbers(40, 3);
        let _ = batches(fresh.epoch_from(0, 12));
        assert_eq!(fresh.dataset().asked.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_bad_sample_is_named_once_and_ends_the_epoch() {
        for prefetch in [0, 1, 4] {
            for (error, panic, message) in
                [(Some(7), None, "sample 7: read: torn"), (None, Some(7), "sample 7: get: panicked: cannot do 7")]
            {
                let l = loader(Numbers { len: 20, error, panic, ..Numbers::default() }, 3).prefetch(prefetch);
                let mut epoch = l.epoch(0);
                assert_eq!(epoch.next().unwrap().unwrap(), [0, 1, 2]);
                assert_eq!(epoch.next().unwrap().unwrap(), [3, 4, 5]);
                let refused = epoch.next().unwrap().unwrap_err();
                assert!(matches!(refused, Error::Sample { index: 7, .. }));
                assert_eq!(refused.to_string(), message);
                assert!(epoch.next().is_none() && epoch.next().is_none());
            }
            let collate = |_| -> Result<()> { panic!("no {}", "batch") };
            let data = Numbers { len: 9, ..Numbers::default() };
            let l = DataLoader::with_collate(data, 3, collate).unwrap().prefetch(prefetch);
            let mut epoch = l.epoch(0);
            assert_eq!(epoch.next().unwrap().unwrap_err().to_string(), "collate: panicked: no batch");
            assert!(epoch.next().is_none());
        }
    }

    #[test]
    fn an_epoch_dropped_early_ends_its_thread() {
        for taken in [0, 1, 5] {
            let l = numbers(1000, 2).prefetch(3);
            let mut epoch = l.epoch(0);
            for _ in 0..taken {
                epoch.next().unwrap().unwrap();
            }
            drop(epoch);
            // Joined: nobody else holds the data set, and no more was loaded than may be.
            assert_eq!(Arc::strong_count(&l.dataset), 1);
            let asked = l.dataset().asked.load(Ordering::SeqCst);
            assert!(asked <= (taken + 3) * 2, "{asked}");
        }
    }

    #[test]
    fn tensors_are_stacked() {
        struct Slow(super::super::TensorDataset);
        impl Dataset for Slow {
            type Sample = Vec<Tensor>;
            fn len(&self) -> usize {
                self.0.len()
            }
            fn get(&self, index: usize) -> Result<Vec<Tensor>> {
                self.0.get(index)
            }
        }
        let x = Tensor::arange(0.0, 10.0, 1.0, crate::DType::F32).unwrap().reshape([5, 2]).unwrap();
        let data = super::super::TensorDataset::new([x]).unwrap();
        let quick = DataLoader::new(data.clone(), 2).unwrap().shuffle(3).prefetch(1);
        let slow = DataLoader::new(Slow(data), 2).unwrap().shuffle(3);
        let values = |b: Result<Vec<Tensor>>| b.unwrap()[0].to_vec::<f32>().unwrap();
        let (a, b): (Vec<_>, Vec<_>) = (quick.epoch(1).map(values).collect(), slow.epoch(1).map(values).collect());
        assert_eq!((a.len(), a.concat().len()), (3, 10));
        assert_eq!(a, b);
    }
}
