//! `rushlight eval RUN`

use std::path::PathBuf;

use crate::classifier::Measured;
use crate::data::Labelled;
use crate::run::{Run, Task};
use crate::translate::Search;
use crate::{Outcome, data, gpt, predict, sentiment, train, translation};

#[derive(clap::Args)]
pub struct Args {
    /// The run folder
    run: PathBuf,
    /// Other data than the run was trained on
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    #[command(flatten)]
    search: Search,
}

pub fn main(args: &Args) -> Outcome {
    let run = Run::open(&args.run)?;
    let set = match &run.config.task {
        Task::Images { .. } => data::images_of(&run, args.data.as_deref())?,
        Task::Sentiment { sizes, .. } => {
            sentiment::texts_of(&run, args.data.as_deref())?.labelled(run.tokenizer()?, sizes.length)?
        }
        Task::Gpt { .. } => return gpt::evaluate(&run, args.data.as_deref()),
        Task::Finetune { .. } => return train::finetune::evaluate(&run, args.data.as_deref()),
        Task::Translate { .. } => return translation::evaluate(&run, args.data.as_deref(), &args.search),
        Task::Points { set, count, .. } => data::point_set(set.parse()?, *count, run.config.seed)?,
    };
    let mut network = predict::Network::load(&run)?;
    let measured = measure(&mut network, &set, run.config.classes.len())?;
    say!("{}", measured.table(&run.config.classes));
    say!("test loss {:.4}, accuracy {:.2}%", measured.loss, 100.0 * measured.accuracy());
    Ok(())
}

fn measure(network: &mut predict::Network, set: &Labelled, classes: usize) -> Outcome<Measured> {
    match network {
        predict::Network::Images(model) => Measured::of(model, &set.test_x, &set.test_y, classes),
        predict::Network::Text(model) => Measured::of(&mut **model, &set.test_x, &set.test_y, classes),
        predict::Network::Points(model) => Measured::of(model, &set.test_x, &set.test_y, classes),
    }
}
