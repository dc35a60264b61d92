//! One parallel loop: tasks that are taken by number, by the caller and by whichever threads come in time.
//!
//! The tasks are cut into as many stretches as there are threads. A thread begins with its own, the same in every loop of
//! as many tasks, and then helps with the others: so it mostly reads what it wrote before, which its own cache still holds,
//! and the streams that the processor fetches ahead for it are long.
//!
//! A job is *closed* when its caller finds no task left. A thread that comes later leaves without having looked at the
//! caller's closure, so the caller need not wait for it; it waits for those that are inside, each at its last task.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use super::team::Team;

/// Set in `inside` once the job is closed.
const CLOSED: usize = 1 << (usize::BITS - 1);
/// How often the caller looks before it sleeps: some tens of microseconds, about what falling asleep costs.
const LOOKS: usize = 20_000;

/// Stretches at most; with more threads than that, several begin in each.
const STRETCHES: usize = 16;

type Work = dyn Fn(usize) + Sync;

/// What the caller and its helpers share.
pub(super) struct Job {
    work: *const Work,
    tasks: usize,
    stretches: usize,
    /// The next task to be taken of each stretch.
    next: [AtomicUsize; STRETCHES],
    /// The helpers at work, and [`CLOSED`].
    inside: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

// SAFETY: `work` points to what is Sync, and is only followed by threads that are inside (see `run`).
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    /// Runs `work(0)`, …, `work(tasks - 1)` here and on the threads of the team that come in time.
    pub fn run(team: &Team, helpers: usize, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. `work` is called by threads that are inside, and this function does not
        // return, nor unwind, before it has closed the job and seen the last of them leave.
        let work: *const Work = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Work>(work) };
        let stretches = (helpers + 1).min(STRETCHES);
        let job = Arc::new(Job {
            work,
            tasks,
            stretches,
            next: std::array::from_fn(|i| AtomicUsize::new(tasks * i / stretches)),
            inside: AtomicUsize::new(0),
            panic: Mutex::new(None),
            caller: std::thread::current(),
        });
        team.post(job.clone(), helpers);
        job.take_tasks(0);
        job.inside.fetch_or(CLOSED, Ordering::AcqRel);
        let mut looks = 0;
        // Acquire: what the helpers wrote is seen from here on.
        while job.inside.load(Ordering::Acquire) != CLOSED {
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::park() }
        }
        let panic = job.panic.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Thread number `who` (the caller is 0) takes part, if the job is still open.
    pub fn help(&self, who: usize) {
        let enter = |inside| if inside & CLOSED == 0 { Some(inside + 1) } else { None };
        if self.inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_err() {
            return;
        }
        self.take_tasks(who);
        if self.inside.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.caller.unpark();
        }
    }

    /// Runs tasks until none is left, those of the own stretch first. Of panics, the first is kept; nobody takes up a task
    /// after one.
    fn take_tasks(&self, who: usize) {
        // SAFETY: this thread is the caller, or inside.
        let work = unsafe { &*self.work };
        let end = |stretch: usize| self.tasks * (stretch + 1) / self.stretches;
        let run = || {
            for stretch in (0..self.stretches).map(|i| (who + i) % self.stretches) {
                loop {
                    let task = self.next[stretch].fetch_add(1, Ordering::Relaxed);
                    if task >= end(stretch) {
                        break;
                    }
                    work(task);
                }
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.next.iter().for_each(|next| next.store(self.tasks, Ordering::Relaxed));
            self.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(panic);
        }
    }
}
