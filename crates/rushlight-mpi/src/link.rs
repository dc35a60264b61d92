//! The thread that speaks MPI, and what it can be asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use rushlight::{Error, Result};

use crate::watch::Watch;
use crate::{Job, Shared};

/// Between two looks at the signs of life.
const LOOK: Duration = Duration::from_millis(50);
/// So long a transfer is asked for without a pause: a short one is over by then.
const EAGER: Duration = Duration::from_micros(100);
/// The pause between two questions after that, which leaves the processor to whoever computes.
const PAUSE: Duration = Duration::from_micros(20);
/// What one call of MPI takes, which counts in 32 bits.
const AT_ONCE: usize = 1 << 28;
/// So long after the wish for an end (`mpirun` kills a second after it) a transfer may still be done.
const HURRY: Duration = Duration::from_millis(300);

pub struct Link {
    // Dropped in this order: MPI ends with the universe.
    life: Life,
    world: SimpleCommunicator,
    _universe: Universe,
}

impl Link {
    /// Starts MPI, on the thread that will speak it.
    pub fn new(shared: Arc<Shared>) -> Result<Link> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)
            .ok_or_else(|| Error::invalid("mpi", "MPI was started before in this process"))?;
        let world = universe.world();
        let life = Life { watch: Watch::new(&world), looked: Instant::now(), hurried: None, shared };
        Ok(Link { life, world, _universe: universe })
    }

    pub fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    pub fn size(&self) -> usize {
        self.world.size() as usize
    }

    /// Does what it is asked to until nobody can ask any more.
    pub fn serve(&mut self, todo: &Receiver<Job>) {
        loop {
            match todo.recv_timeout(LOOK) {
                Ok(job) => job(self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.life.watch.end(),
            }
            self.life.look();
        }
    }

    /// Ends the processes of all ranks.
    pub fn abort(&self) -> ! {
        self.world.abort(1)
    }

    pub fn report_failure(&mut self) {
        self.life.watch.fail();
    }

    /// Until all ranks have come here.
    pub fn barrier(&mut self) {
        self.life.finish(self.world.immediate_barrier());
    }

    /// The sums over all ranks of each of `values`.
    pub fn sum<T: Equivalence + Clone + Default>(&mut self, values: &[T]) -> Vec<T> {
        let mut sums = vec![T::default(); values.len()];
        for (values, sums) in values.chunks(AT_ONCE).zip(sums.chunks_mut(AT_ONCE)) {
            let add = SystemOperation::sum();
            scope(|s| self.life.finish(self.world.immediate_all_reduce_into(s, values, sums, add)));
        }
        sums
    }

    /// What rank 0 has, which every rank has as many of.
    pub fn broadcast<T: Equivalence>(&mut self, values: &mut [T]) {
        let first = self.world.process_at_rank(0);
        for values in values.chunks_mut(AT_ONCE) {
            scope(|s| self.life.finish(first.immediate_broadcast_into(s, values)));
        }
    }

    /// What all ranks have, one after the other: as many as `counts` says of each.
    pub fn all_gather(&mut self, part: &[f32], counts: &[i32]) -> Vec<f32> {
        let (mut all, starts) = room(counts);
        let mut parts = PartitionMut::new(&mut all[..], counts, &starts[..]);
        scope(|s| self.life.finish(self.world.immediate_all_gather_varcount_into(s, part, &mut parts)));
        all
    }

    /// The same, for rank 0 alone.
    pub fn gather(&mut self, part: &[f32], counts: &[i32]) -> Option<Vec<f32>> {
        let first = self.world.process_at_rank(0);
        if self.rank() > 0 {
            scope(|s| self.life.finish(first.immediate_gather_varcount_into(s, part)));
            return None;
        }
        let (mut all, starts) = room(counts);
        let mut parts = PartitionMut::new(&mut all[..], counts, &starts[..]);
        scope(|s| self.life.finish(first.immediate_gather_varcount_into_root(s, part, &mut parts)));
        Some(all)
    }
}

/// Room for so many numbers of each rank, and where each one's begin.
fn room(counts: &[i32]) -> (Vec<f32>, Vec<i32>) {
    let (mut starts, mut end) = (vec![], 0);
    for n in counts {
        starts.push(end);
        end += n;
    }
    (vec![0.0; end as usize], starts)
}

/// Patience, and what ends it.
struct Life {
    watch: Watch,
    looked: Instant,
    hurried: Option<Instant>,
    shared: Arc<Shared>,
}

impl Life {
    /// Looks at the signs of life, now and then. Does not return where all is lost.
    fn look(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        if let Some(why) = self.watch.look() {
            self.give_up(why);
        }
        if self.shared.abort.load(Ordering::SeqCst) {
            SimpleCommunicator::world().abort(1);
        }
    }

    /// Tests a request until it is done.
    fn finish<'a, D: ?Sized, S: Scope<'a>>(&mut self, mut request: Request<'a, D, S>) {
        let begin = Instant::now();
        loop {
            match request.test() {
                Ok(_) => return,
                Err(not_yet) => request = not_yet,
            }
            self.look();
            if self.shared.stopping.load(Ordering::SeqCst) {
                let since = *self.hurried.get_or_insert_with(Instant::now);
                if since.elapsed() > HURRY {
                    self.give_up("this process was told to end, and other ranks do not answer".to_string());
                }
            }
            if begin.elapsed() < EAGER {
                std::thread::yield_now();
            } else {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Tells the training thread, and waits for its word to end all, with signs of life for those who wait with us.
    /// MPI can do no more: a request that will never be done can neither be dropped nor taken back.
    fn give_up(&mut self, why: String) -> ! {
        self.shared.lose(why);
        loop {
            let _ = self.watch.look();
            if self.shared.abort.load(Ordering::SeqCst) {
                SimpleCommunicator::world().abort(1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
