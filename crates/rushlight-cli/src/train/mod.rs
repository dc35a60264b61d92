//! `rushlight train …`

#[cfg(not(feature = "mpi"))]
mod alone;
mod bad_step;
mod classify;
pub mod finetune;
mod gpt;
mod images;
mod points;
mod sentiment;
mod session;
mod together;
mod translate;

use std::path::PathBuf;

#[cfg(not(feature = "mpi"))]
use alone::{World, local_ranks, rows};
#[cfg(feature = "mpi")]
use rushlight_mpi::{World, local_ranks, rows};

use crate::Outcome;

#[derive(clap::Subcommand)]
pub enum Command {
    /// A convolutional network on images: the bundled Fashion-MNIST part, or any folder of the four IDX files
    Images(images::Args),
    /// A small network on one of MiniTorch's six point sets
    Points(points::Args),
    /// A GPT that writes like a text: Shakespeare, or any other
    Gpt(gpt::Args),
    /// Whether a text is positive: sentences of reviews and tweets, or any table of labels and texts
    Sentiment(sentiment::Args),
    /// A translator: English verses to Spanish, or any other pairs of sentences
    Translate(translate::Args),
}

pub fn main(command: Command) -> Outcome {
    joined(|world| match command {
        Command::Images(args) => images::main(&args, world),
        Command::Gpt(args) => gpt::main(&args, world),
        Command::Points(args) => points::main(&args, world),
        Command::Sentiment(args) => sentiment::main(&args, world),
        Command::Translate(args) => translate::main(&args, world),
    })
}

pub fn finetune(args: &finetune::Args) -> Outcome {
    joined(|world| finetune::main(args, world))
}

/// A training among the ranks of an mpirun, if there are any.
fn joined(train: impl FnOnce(Option<&World>) -> Outcome) -> Outcome {
    let joined = World::join()?;
    let world = joined.as_ref();
    match (world, train(world)) {
        (Some(world), Err(e)) => together::abort(world, e.as_ref()),
        (_, done) => done,
    }
}

/// The options that every training takes.
#[derive(clap::Args)]
pub struct Common {
    /// The run folder to make [default: runs/TASK-1, -2, …]
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Passes over the training data
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Samples per step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// The highest learning rate
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Where all random numbers start; the same seed gives the same run to the last bit
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Go on with the run in this folder
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "epochs", "batch", "lr", "seed"])]
    resume: Option<PathBuf>,
    /// Go on where a step's loss or gradient is no number: the step is left out, and counted
    #[arg(long)]
    skip_bad_steps: bool,
    /// Under mpirun: each rank keeps a part of the optimizer's states (ZeRO-1), for less memory and a half more to send
    #[arg(long)]
    shard_optimizer: bool,
    /// Threads to use; results do not depend on it [default: all cores, shared out among the ranks of an mpirun]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

/// How a training begins.
#[derive(Clone, Copy)]
struct Start<'a> {
    resume: bool,
    skip_bad_steps: bool,
    shard_optimizer: bool,
    /// The ranks that train together.
    world: Option<&'a World>,
}

impl Start<'_> {
    /// Whether this rank writes, and speaks: the only one, or rank 0.
    fn is_first(&self) -> bool {
        self.world.is_none_or(|world| world.rank() == 0)
    }
}

impl Common {
    /// The folder named, or the first free `runs/TASK-N`.
    fn folder(&self, task: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let free = (1..).map(|i| PathBuf::from(format!("runs/{task}-{i}"))).find(|p| !p.exists());
            free.unwrap_or_else(|| PathBuf::from("runs"))
        })
    }

    fn start<'a>(&self, world: Option<&'a World>) -> Start<'a> {
        let Common { skip_bad_steps, shard_optimizer, .. } = *self;
        Start { resume: self.resume.is_some(), skip_bad_steps, shard_optimizer, world }
    }

    fn set_threads(&self, world: Option<&World>) -> Outcome {
        if self.threads > 1024 {
            return Err(format!("--threads {}: expected at most 1024, or 0 for all cores", self.threads).into());
        }
        let threads = match (self.threads, world) {
            (0, Some(_)) => std::thread::available_parallelism().map_or(1, |n| (n.get() / local_ranks()).max(1)),
            (threads, _) => threads,
        };
        rushlight::set_num_threads(threads).map_err(|e| format!("--threads {}: {e}", self.threads).into())
    }
}
