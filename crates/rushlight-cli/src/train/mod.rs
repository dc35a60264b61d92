//! `rushlight train …`

mod bad_step;
mod classify;
mod gpt;
mod images;
mod points;
mod sentiment;
mod session;
mod translate;

use std::path::PathBuf;

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
    match command {
        Command::Images(args) => images::main(&args),
        Command::Gpt(args) => gpt::main(&args),
        Command::Points(args) => points::main(&args),
        Command::Sentiment(args) => sentiment::main(&args),
        Command::Translate(args) => translate::main(&args),
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
    /// Threads to use; results do not depend on it [default: all cores]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

/// How a training begins.
#[derive(Clone, Copy)]
struct Start {
    resume: bool,
    skip_bad_steps: bool,
}

impl Common {
    /// The folder named, or the first free `runs/TASK-N`.
    fn folder(&self, task: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let free = (1..).map(|i| PathBuf::from(format!("runs/{task}-{i}"))).find(|p| !p.exists());
            free.unwrap_or_else(|| PathBuf::from("runs"))
        })
    }

    fn start(&self) -> Start {
        Start { resume: self.resume.is_some(), skip_bad_steps: self.skip_bad_steps }
    }

    fn set_threads(&self) -> Outcome {
        if self.threads > 1024 {
            return Err(format!("--threads {}: expected at most 1024, or 0 for all cores", self.threads).into());
        }
        rushlight::set_num_threads(self.threads).map_err(|e| format!("--threads {}: {e}", self.threads).into())
    }
}
