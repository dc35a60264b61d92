//! Threads. Work is cut into chunks by its size alone, so results are the same on any number of threads.
//!
//! In [`run`] the caller works too and never waits for a thread that has not begun (`job`): a thread that sleeps takes
//! longer to wake than a small kernel runs. The threads are our own (`team`) and not a rayon pool's, which sleep at once.

mod job;
mod team;

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use job::Job;
use team::Team;

use super::simd::prefetch;
use crate::{Error, Result};

/// Elements a thread should have to work on before a second thread is worth waking.
pub(crate) const GRAIN: usize = 16 * 1024;

static THREADS: AtomicUsize = AtomicUsize::new(0);
static TEAM: RwLock<Option<Arc<Team>>> = RwLock::new(None);

/// Sets how many threads the kernels use; 0 means all cores. Results do not depend on it.
///
/// PyTorch: `torch.set_num_threads`.
pub fn set_num_threads(threads: usize) -> Result<()> {
    let threads = if threads == 0 { available() } else { threads };
    let team = if threads == 1 {
        None
    } else {
        // The caller is one of them.
        let team = Team::new(threads - 1)
            .map_err(|e| Error::invalid("set_num_threads", format!("cannot start {threads} threads: {e}")))?;
        Some(Arc::new(team))
    };
    *TEAM.write().unwrap_or_else(|e| e.into_inner()) = team;
    THREADS.store(threads, Ordering::Relaxed);
    Ok(())
}

/// How many threads the kernels use.
pub fn num_threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => {
            // A pool that cannot be started leaves the library working on one thread.
            if set_num_threads(0).is_err() {
                THREADS.store(1, Ordering::Relaxed);
            }
            THREADS.load(Ordering::Relaxed)
        }
        n => n,
    }
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Runs `f(0)`, …, `f(tasks - 1)`, in any order, on our threads. `f` must give the same result in any order.
pub(crate) fn run(tasks: usize, f: impl Fn(usize) + Sync) {
    fn inner(tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        let helpers = num_threads().min(tasks).saturating_sub(1);
        let team = if helpers == 0 { None } else { TEAM.read().unwrap_or_else(|e| e.into_inner()).clone() };
        match team {
            Some(team) => Job::run(&team, helpers, tasks, f),
            None => (0..tasks).for_each(f),
        }
    }
    inner(tasks, &f);
}

/// A slice that many tasks write to, each element by one.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only gives way to writes, whose callers see to it that no two are to one place.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// To be shared out for as long as it is borrowed.
    pub(crate) fn new(slice: &'a mut [T]) -> Shared<'a, T> {
        Shared { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// No other thread uses these elements, and this one lets go of them before it asks for one again.
    pub(crate) unsafe fn at(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: within the slice, which is borrowed for `'a`; the caller sees to it that it is used alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// Where element `start` is, for `len` elements at most.
    pub(crate) fn pointer(&self, start: usize, len: usize) -> *mut T {
        assert!(start <= self.len && len <= self.len - start);
        self.start.wrapping_add(start)
    }

    /// The slice itself, if `T` is `U`.
    pub(crate) fn same<U: 'static>(&self) -> Option<Shared<'a, U>>
    where
        T: 'static,
    {
        let same = TypeId::of::<T>() == TypeId::of::<U>();
        same.then_some(Shared { start: self.start.cast(), len: self.len, slice: PhantomData })
    }

    /// Brings `len` elements from `start` on near, to be written soon.
    pub(crate) fn ask_for(&self, start: usize, len: usize) {
        prefetch(self.start.wrapping_add(start), len);
    }
}

/// A slice cut into pieces of `chunk` elements.
struct Pieces<'a, T> {
    slice: Shared<'a, T>,
    chunk: usize,
}

impl<'a, T> Pieces<'a, T> {
    fn new(slice: &'a mut [T], chunk: usize) -> Pieces<'a, T> {
        Pieces { slice: Shared::new(slice), chunk: chunk.max(1) }
    }

    fn count(&self) -> usize {
        self.slice.len.div_ceil(self.chunk)
    }

    /// # Safety
    /// Each piece is asked for once.
    unsafe fn piece(&self, i: usize) -> &'a mut [T] {
        let first = i * self.chunk;
        // SAFETY: pieces do not overlap, and the caller asks for each once.
        unsafe { self.slice.at(first, self.chunk.min(self.slice.len - first)) }
    }
}

/// Cuts `out` into pieces of `chunk` elements and runs `f(first index, piece)` on each.
pub(crate) fn chunks<T: Send>(out: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let out = Pieces::new(out, chunk);
    // SAFETY: `run` calls this once for each piece.
    run(out.count(), |i| f(i * out.chunk, unsafe { out.piece(i) }));
}

/// [`chunks`] over two slices cut alike: piece `i` of `a` has `chunk_a` elements, that of `b` `chunk_b`.
pub(crate) fn chunks2<A: Send, B: Send>(
    a: (&mut [A], usize),
    b: (&mut [B], usize),
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (a, b) = (Pieces::new(a.0, a.1), Pieces::new(b.0, b.1));
    // SAFETY: `run` calls this once for each pair of pieces.
    run(a.count().min(b.count()), |i| f(i, unsafe { a.piece(i) }, unsafe { b.piece(i) }));
}

/// `f` of each piece of `len` indices, in order: what an ordered reduction combines.
pub(crate) fn map_chunks<R: Send>(len: usize, chunk: usize, f: impl Fn(std::ops::Range<usize>) -> R + Sync) -> Vec<R> {
    let chunk = chunk.max(1);
    let mut results: Vec<Option<R>> = (0..len.div_ceil(chunk)).map(|_| None).collect();
    chunks(&mut results, 1, |i, result| result[0] = Some(f(i * chunk..((i + 1) * chunk).min(len))));
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn every_piece_is_run_once_on_any_number_of_threads() {
        for threads in [1, 2, 5] {
            set_num_threads(threads).unwrap();
            for (len, chunk) in [(0, 3), (1, 3), (100, 7), (1000, 1)] {
                let mut x = vec![0; len];
                chunks(&mut x, chunk, |at, piece| piece.iter_mut().enumerate().for_each(|(i, x)| *x += at + i));
                assert!(x.iter().enumerate().all(|(i, x)| *x == i));
                let sums = map_chunks(len, chunk, |r| r.sum::<usize>());
                assert_eq!(sums.len(), len.div_ceil(chunk));
                assert_eq!(sums.iter().sum::<usize>(), len * len.saturating_sub(1) / 2);
            }
        }
        set_num_threads(0).unwrap();
    }

    #[test]
    fn a_panic_in_a_piece_is_the_callers() {
        set_num_threads(2).unwrap();
        for bad in [0, 50, 99] {
            let panic = catch_unwind(|| run(100, |i| assert!(i != bad, "piece {i}"))).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().unwrap(), &format!("piece {bad}"));
        }
        set_num_threads(0).unwrap();
    }
}
