//! The `rushlight` command: train on bundled or one's own data, evaluate, predict, and look into files.

/// `println!`, where a reader that went away is an error instead of a panic.
macro_rules! say {
    () => { say!("") };
    ($($part:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($part)*)))?
    };
}

mod chat;
mod checkpoint;
mod classifier;
mod config;
mod convert;
mod data;
mod embed;
mod evaluate;
mod explain;
mod generate;
mod gpt;
mod inspect;
mod language;
#[allow(dead_code)] // each command draws some of them
mod picture;
mod play;
mod predict;
mod run;
mod samples;
mod sentiment;
mod train;
mod translate;
mod translation;
mod tuned;
mod words;
mod writer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What every command returns: it is refused with a sentence.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Train small neural networks on a CPU, and look at what they learn.
#[derive(Parser)]
#[command(name = "rushlight", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network and leave a run folder with the model, its history and pictures
    #[command(subcommand)]
    Train(train::Command),
    /// Let a language model learn on, from a text or prompts with answers
    Finetune(train::finetune::Args),
    /// Measure a trained run on its test data
    Eval(evaluate::Args),
    /// Classify images, points or texts with a trained run
    Predict(predict::Args),
    /// Write text with a run of train gpt, or a model that others trained
    Generate(generate::Args),
    /// Talk with a model that others trained for it
    Chat(chat::Args),
    /// Translate with a run of train translate
    Translate(translate::Args),
    /// Vectors of lines by a BERT, or the lines most like a query
    Embed(embed::Args),
    /// List what a tensor file holds
    Inspect(inspect::Args),
    /// Write the tensors of a file in another format
    Convert(convert::Args),
    /// Serve a page on this machine where the ideas can be touched, live
    Play(play::Args),
    /// Say what an operation is, with its gradient and an example
    Explain(explain::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(command) => train::main(command),
        Command::Finetune(args) => train::finetune(&args),
        Command::Eval(args) => evaluate::main(&args),
        Command::Predict(args) => predict::main(&args),
        Command::Generate(args) => generate::main(&args),
        Command::Chat(args) => chat::main(&args),
        Command::Translate(args) => translate::main(&args),
        Command::Embed(args) => embed::main(&args),
        Command::Inspect(args) => inspect::main(&args),
        Command::Convert(args) => convert::main(&args),
        Command::Play(args) => play::main(&args),
        Command::Explain(args) => explain::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that went away (`| head`) is no error.
        Err(e) if is_broken_pipe(e.as_ref()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(e: &(dyn std::error::Error + 'static)) -> bool {
    e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
