//! Signs of life: rank 0 hears from every other rank, and they from it.
//!
//! MPI itself notices a process that ends while its machine goes on: `mpirun` then ends all others. A machine that goes
//! dark, or a process that hangs, it does not.

use std::time::{Duration, Instant};

use mpi::request::{Request, StaticScope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;

/// Between two signs of life.
const EVERY: Duration = Duration::from_millis(500);
/// Without one for this long a rank counts as gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// What rank 0 has to save a checkpoint after another rank has said that it cannot go on.
pub const LAST_WORDS: Duration = Duration::from_secs(4);

static ALIVE: u8 = 1;
static FAILED: u8 = 2;

struct Peer {
    rank: i32,
    heard: Instant,
    /// What was sent to it, until it is on its way.
    sent: Option<Request<'static, u8, StaticScope>>,
}

/// Who is heard from.
pub struct Watch {
    /// Of its own, so that no message of another kind is taken for a sign of life.
    ranks: SimpleCommunicator,
    peers: Vec<Peer>,
    next: Instant,
}

impl Watch {
    /// Collective.
    pub fn new(world: &SimpleCommunicator) -> Watch {
        let ranks = world.duplicate();
        let now = Instant::now();
        let others = if ranks.rank() == 0 { 1..ranks.size() } else { 0..1 };
        let peers = others.map(|rank| Peer { rank, heard: now, sent: None }).collect();
        Watch { ranks, peers, next: now }
    }

    /// Says that this rank is alive, where it is time, and hears the others; why all is lost, if it is.
    pub fn look(&mut self) -> Option<String> {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + EVERY;
            self.send(&ALIVE);
        }
        let mut failed = None;
        while let Some((message, _)) = self.ranks.any_process().immediate_matched_probe() {
            let (kind, status) = message.matched_receive::<u8>();
            let from = status.source_rank();
            if kind == FAILED {
                failed = Some(format!("rank {from} cannot go on; it says why"));
            }
            self.peers.iter_mut().filter(|p| p.rank == from).for_each(|p| p.heard = now);
        }
        failed.or_else(|| {
            let silent = self.peers.iter().find(|p| now.duration_since(p.heard) > PATIENCE)?;
            Some(format!("rank {} has not been heard of for {} seconds", silent.rank, PATIENCE.as_secs()))
        })
    }

    /// Tells rank 0 that this rank cannot go on.
    pub fn fail(&mut self) {
        self.send(&FAILED);
    }

    fn send(&mut self, what: &'static u8) {
        for peer in &mut self.peers {
            peer.sent = peer.sent.take().and_then(|request| request.test().err());
            if peer.sent.is_none() {
                let to = self.ranks.process_at_rank(peer.rank);
                peer.sent = to.immediate_send(StaticScope, what).test().err();
            }
        }
    }

    /// All are done: no more signs of life.
    pub fn end(&mut self) {
        for peer in &mut self.peers {
            if let Some(request) = peer.sent.take() {
                request.wait_without_status();
            }
        }
    }
}
