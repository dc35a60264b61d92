//! The world of a `rushlight` without MPI: there is none.

use rushlight::nn::{Module, StateDict};
use rushlight::optim::{Optimizer, Shard};
use rushlight::{Gradients, Result, Tensor};

/// What no rank has.
pub enum World {}

impl World {
    /// Errors: an `mpirun` of several ranks, each of which would train the same alone.
    pub fn join() -> Result<Option<World>> {
        let ranks = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
        match ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().find_map(ranks) {
            Some(n) if n > 1 => {
                let message =
                    "this rushlight was built without it; build it with: cargo build --release --features mpi";
                Err(rushlight::Error::invalid("mpi", message))
            }
            _ => Ok(None),
        }
    }

    pub fn rank(&self) -> usize {
        match *self {}
    }

    pub fn size(&self) -> usize {
        match *self {}
    }

    pub fn is_stopping(&self) -> bool {
        match *self {}
    }

    pub fn lost(&self) -> Option<String> {
        match *self {}
    }

    pub fn abort(&self) -> ! {
        match *self {}
    }

    pub fn broadcast(&self, _: &str) -> Result<String> {
        match *self {}
    }

    pub fn differs(&self, _: &str) -> Result<Option<usize>> {
        match *self {}
    }

    pub fn broadcast_state(&self, _: &StateDict) -> Result<StateDict> {
        match *self {}
    }

    pub fn gradients(&self, _: &impl Module, _: &Tensor, _: f64, _: &[f64]) -> Result<(Gradients, Vec<f64>)> {
        match *self {}
    }

    pub fn shard(&self) -> Result<Shard> {
        match *self {}
    }

    pub fn exchange(&self, _: &mut impl Module) -> Result<()> {
        match *self {}
    }

    pub fn whole_state(&self, _: &Optimizer, _: &impl Module) -> Result<Option<StateDict>> {
        match *self {}
    }
}

pub fn rows(n: usize, _: usize, _: usize) -> std::ops::Range<usize> {
    0..n
}

pub fn local_ranks() -> usize {
    1
}
