//! Data-parallel training over MPI: every rank holds the model, computes the gradients of its rows of each batch, and
//! all take the same step by the sum.
//!
//! [`World::join`] starts the one thread that speaks MPI (`link.rs`). It is asked for sums, broadcasts and gathers,
//! tests them until they are done, and all the while sends and hears signs of life (`watch.rs`), also where the
//! training thread computes for long. So gradients are on their way while backward goes on (`reduce.rs`), and a rank
//! that is gone is noticed by all.

mod link;
mod reduce;
mod state;
mod watch;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use std::sync::atomic::{AtomicBool, Ordering};

use link::Link;
pub use reduce::{BUCKET, rows};
use rushlight::{Error, Result};

/// What a rank asks the thread that speaks MPI to do.
type Job = Box<dyn FnOnce(&mut Link) + Send>;

/// All ranks of an `mpirun`, as one of them sees them.
///
/// Whatever is called a collective here, all ranks call, in the same order.
pub struct World {
    rank: usize,
    size: usize,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What both threads of a rank see.
#[derive(Default)]
struct Shared {
    /// Why nothing more will come of this world.
    lost: Mutex<Option<String>>,
    /// The process was asked to end, as `mpirun` does where another rank has ended.
    stopping: Arc<AtomicBool>,
    /// The training thread wants an end of all ranks.
    abort: AtomicBool,
}

impl Shared {
    fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lose(&self, why: String) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

/// Whether an `mpirun` of Open MPI, MPICH or Slurm started this process.
pub fn launched() -> bool {
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"].iter().any(|name| std::env::var_os(name).is_some())
}

/// Ranks on this machine, as far as the launcher says.
pub fn local_ranks() -> usize {
    let known = ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"];
    known.iter().find_map(|name| std::env::var(name).ok()?.parse().ok()).unwrap_or(1).max(1)
}

impl World {
    /// The world that an `mpirun` made; `None` where none did.
    ///
    /// Errors: MPI does not start.
    pub fn join() -> Result<Option<World>> {
        if !launched() {
            return Ok(None);
        }
        let shared = Arc::new(Shared::default());
        signal_hook::flag::register(signal_hook::consts::SIGTERM, shared.stopping.clone())
            .map_err(|e| Error::invalid("mpi", format!("SIGTERM cannot be caught: {e}")))?;
        let (jobs, todo) = mpsc::channel::<Job>();
        let (say, begun) = mpsc::channel();
        let with = shared.clone();
        let work = move || match Link::new(with) {
            Err(e) => drop(say.send(Err(e))),
            Ok(mut link) => {
                let _ = say.send(Ok((link.rank(), link.size())));
                link.serve(&todo);
            }
        };
        let thread = std::thread::Builder::new()
            .name("rushlight-mpi".to_string())
            .spawn(work)
            .map_err(|e| Error::invalid("mpi", format!("the system gives no thread: {e}")))?;
        let (rank, size) = begun.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Some(World { rank, size, jobs: Some(jobs), thread: Some(thread), shared }))
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this process was asked to end (SIGTERM).
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// Why nothing more will come of this world, once that is so: a rank is gone.
    pub fn lost(&self) -> Option<String> {
        self.shared.lost()
    }

    /// Ends the processes of all ranks; for a rank that cannot go on. Rank 0 is told first, and has some seconds to
    /// save what it has, if this is another.
    pub fn abort(&self) -> ! {
        let rank = self.rank;
        if rank > 0 && self.shared.lost().is_none() {
            self.start(move |link| link.report_failure());
            self.shared.lose(format!("rank {rank} cannot go on"));
            std::thread::sleep(watch::LAST_WORDS);
        }
        self.shared.abort.store(true, Ordering::SeqCst);
        self.start(|link| link.abort());
        // The thread ends the process; were it stuck, it would not.
        std::thread::sleep(Duration::from_secs(2));
        std::process::exit(1)
    }

    /// Has the thread that speaks MPI do `work`.
    fn start<T: Send + 'static>(&self, work: impl FnOnce(&mut Link) -> T + Send + 'static) -> Pending<T> {
        let (say, answer) = mpsc::channel();
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Box::new(move |link| drop(say.send(work(link)))));
        }
        Pending { answer, shared: self.shared.clone() }
    }
}

/// Leaving is a collective: a rank that is done waits for the others.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort();
        }
        if self.lost().is_none() {
            let _ = self.start(|link| link.barrier()).wait();
        }
        if self.lost().is_some() {
            self.abort();
        }
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What will come of a job.
struct Pending<T> {
    answer: Receiver<T>,
    shared: Arc<Shared>,
}

impl<T> Pending<T> {
    /// Errors: a rank is gone, and it will not come.
    fn wait(self) -> Result<T> {
        loop {
            match self.answer.recv_timeout(Duration::from_millis(100)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(self.lost().unwrap_or_else(gone)),
                Err(RecvTimeoutError::Timeout) => self.lost().map_or(Ok(()), Err)?,
            }
        }
    }

    fn lost(&self) -> Option<Error> {
        self.shared.lost().map(|why| Error::invalid("mpi", why))
    }
}

fn gone() -> Error {
    Error::invalid("mpi", "internal: the thread that speaks MPI has ended; please report this")
}
