//! The threads that help: they wait for the next job, first by looking, then asleep.
//!
//! In training a parallel loop follows another after microseconds, while a sleeping thread takes tens of them to wake. So
//! who has finished looks out for the next job for a while. There is one place for jobs: where several callers post at a
//! time, the newest gets the helpers, and the others do their own work themselves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::job::Job;

/// How long a thread looks out for more before it sleeps.
const LOOK_OUT: Duration = Duration::from_micros(100);

/// Threads that help whoever posts a job.
pub(super) struct Team {
    shared: Arc<Shared>,
}

struct Shared {
    board: Mutex<Board>,
    bell: Condvar,
    /// The number of jobs posted so far: what those look at who are awake.
    posted: AtomicUsize,
}

/// What is changed under the lock.
struct Board {
    job: Option<Arc<Job>>,
    looking: usize,
    asleep: usize,
    over: bool,
}

impl Team {
    /// Starts `size` threads. Errors: the system refuses one.
    pub fn new(size: usize) -> std::io::Result<Team> {
        let board = Mutex::new(Board { job: None, looking: 0, asleep: 0, over: false });
        let shared = Arc::new(Shared { board, bell: Condvar::new(), posted: AtomicUsize::new(0) });
        // If a thread is refused, dropping the team ends those that have begun.
        let team = Team { shared: shared.clone() };
        for i in 0..size {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("rushlight-{i}")).spawn(move || shared.serve(i + 1))?;
        }
        Ok(team)
    }

    /// Offers a job to up to `helpers` threads: who looks out sees it, and as many are woken as that leaves.
    pub fn post(&self, job: Arc<Job>, helpers: usize) {
        let mut board = self.shared.lock();
        board.job = Some(job);
        self.shared.posted.fetch_add(1, Ordering::Release);
        let wake = helpers.saturating_sub(board.looking).min(board.asleep);
        drop(board);
        (0..wake).for_each(|_| self.shared.bell.notify_one());
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        // For those that look out rather than sleep.
        self.shared.posted.fetch_add(1, Ordering::Release);
        self.shared.bell.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The life of thread number `who`.
    fn serve(&self, who: usize) {
        let mut seen = 0;
        loop {
            self.lock().looking += 1;
            self.look_out(seen);
            let mut board = self.lock();
            board.looking -= 1;
            while self.posted.load(Ordering::Acquire) == seen && !board.over {
                board.asleep += 1;
                board = self.bell.wait(board).unwrap_or_else(|e| e.into_inner());
                board.asleep -= 1;
            }
            if board.over {
                return;
            }
            seen = self.posted.load(Ordering::Acquire);
            let job = board.job.clone();
            drop(board);
            if let Some(job) = job {
                job.help(who);
            }
        }
    }

    /// Returns when there is a job after number `seen`, or it is time to sleep.
    fn look_out(&self, seen: usize) {
        let begin = Instant::now();
        while begin.elapsed() < LOOK_OUT {
            for _ in 0..32 {
                if self.posted.load(Ordering::Acquire) != seen {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    }
}
