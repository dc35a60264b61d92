//! Threads. Work is cut into chunks by its size alone, so results are the same on any number of threads.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, mpsc};

use rayon::prelude::*;

use crate::{Error, Result};

/// Elements a thread should have to work on before a second thread is worth waking.
pub(crate) const GRAIN: usize = 32 * 1024;

static THREADS: AtomicUsize = AtomicUsize::new(0);
static POOL: RwLock<Option<Arc<rayon::ThreadPool>>> = RwLock::new(None);

/// Sets how many threads the kernels use; 0 means all cores. Results do not depend on it.
///
/// PyTorch: `torch.set_num_threads`.
pub fn set_num_threads(threads: usize) -> Result<()> {
    let threads = if threads == 0 { available() } else { threads };
    let pool = if threads == 1 {
        None
    } else {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("rushlight-{i}"))
            .build()
            .map_err(|e| Error::invalid("set_num_threads", format!("cannot start {threads} threads: {e}")))?;
        Some(Arc::new(pool))
    };
    *POOL.write().unwrap_or_else(|e| e.into_inner()) = pool;
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

/// Runs `f` where rayon's parallel iterators use our threads.
pub(crate) fn install<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if num_threads() == 1 {
        return f();
    }
    let pool = POOL.read().unwrap_or_else(|e| e.into_inner()).clone();
    match pool {
        Some(pool) if rayon::current_thread_index().is_some() && pool.current_thread_index().is_none() => {
            install_from_other_pool(&pool, f)
        }
        Some(pool) => pool.install(f),
        None => f(),
    }
}

/// [`install`] for a thread of somebody else's pool.
///
/// Rayon would have that thread take up another task of its pool while it waits. The task would then run inside of
/// what this thread is at: untracked within its `no_grad`, or waiting for a lock that this thread holds.
fn install_from_other_pool<R: Send>(pool: &rayon::ThreadPool, f: impl FnOnce() -> R + Send) -> R {
    let (sender, receiver) = mpsc::sync_channel(1);
    let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        // The receiver waits until this has come.
        let _ = sender.send(result);
    });
    // SAFETY: `f` and its result are all that the job borrows. It has used up the one and sent off the other when
    // `recv` returns, and nothing between here and there returns or panics.
    let job: Box<dyn FnOnce() + Send + 'static> = unsafe { std::mem::transmute(job) };
    pool.spawn(job);
    match receiver.recv() {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        // The pool lives as long as this borrow of it and drops no job.
        Err(_) => unreachable!("a task of the thread pool was dropped"),
    }
}

// The functions below take their work as `&dyn Fn`: rayon's machinery is then compiled once for each element type
// instead of once for each kernel, and a call per chunk costs nothing beside the chunk.

/// Runs `f(0)`, …, `f(tasks - 1)`, in any order, on our threads. `f` must give the same result in any order.
pub(crate) fn run(tasks: usize, f: impl Fn(usize) + Sync) {
    fn inner(tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || num_threads() == 1 {
            (0..tasks).for_each(f);
        } else {
            install(|| (0..tasks).into_par_iter().for_each(f));
        }
    }
    inner(tasks, &f);
}

/// Cuts `out` into pieces of `chunk` elements and runs `f(first index, piece)` on each.
pub(crate) fn chunks<T: Send>(out: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    fn inner<T: Send>(out: &mut [T], chunk: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
        let chunk = chunk.max(1);
        if out.len() <= chunk || num_threads() == 1 {
            out.chunks_mut(chunk).enumerate().for_each(|(i, piece)| f(i * chunk, piece));
        } else {
            install(|| out.par_chunks_mut(chunk).enumerate().for_each(|(i, piece)| f(i * chunk, piece)));
        }
    }
    inner(out, chunk, &f);
}

/// [`chunks`] over two slices cut alike: piece `i` of `a` has `chunk_a` elements, that of `b` `chunk_b`.
pub(crate) fn chunks2<A: Send, B: Send>(
    a: (&mut [A], usize),
    b: (&mut [B], usize),
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    #[allow(clippy::type_complexity)]
    fn inner<A: Send, B: Send>(
        (a, chunk_a): (&mut [A], usize),
        (b, chunk_b): (&mut [B], usize),
        f: &(dyn Fn(usize, &mut [A], &mut [B]) + Sync),
    ) {
        let (chunk_a, chunk_b) = (chunk_a.max(1), chunk_b.max(1));
        if a.len() <= chunk_a || num_threads() == 1 {
            a.chunks_mut(chunk_a).zip(b.chunks_mut(chunk_b)).enumerate().for_each(|(i, (a, b))| f(i, a, b));
        } else {
            install(|| {
                let pieces = a.par_chunks_mut(chunk_a).zip(b.par_chunks_mut(chunk_b)).enumerate();
                pieces.for_each(|(i, (a, b))| f(i, a, b));
            });
        }
    }
    inner(a, b, &f);
}

/// `f` of each piece of `len` indices, in order: what an ordered reduction combines.
pub(crate) fn map_chunks<R: Send>(len: usize, chunk: usize, f: impl Fn(std::ops::Range<usize>) -> R + Sync) -> Vec<R> {
    fn inner<R: Send>(len: usize, chunk: usize, f: &(dyn Fn(std::ops::Range<usize>) -> R + Sync)) -> Vec<R> {
        let chunk = chunk.max(1);
        let tasks = len.div_ceil(chunk);
        let range = |i: usize| i * chunk..((i + 1) * chunk).min(len);
        if tasks <= 1 || num_threads() == 1 {
            (0..tasks).map(|i| f(range(i))).collect()
        } else {
            install(|| (0..tasks).into_par_iter().map(|i| f(range(i))).collect())
        }
    }
    inner(len, chunk, &f)
}
