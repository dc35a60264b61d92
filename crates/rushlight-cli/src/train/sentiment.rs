//! `rushlight train sentiment`: which label a text has, by a convolution over its words or by attention.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use rushlight::nn::Layer;
use rushlight::{DType, Tensor};

use super::{Common, Start, World, classify};
use crate::run::{Config, Run, Task, TextModel, TextSizes};
use crate::sentiment::{self, Texts};
use crate::{Outcome, data};

#[derive(clap::Args)]
pub struct Args {
    /// A table of labels and texts, tsv or csv, plain or gz [default: the bundled sentences]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Such a table to be measured on [default: a tenth of --data]
    #[arg(long, value_name = "FILE", requires = "data")]
    test: Option<PathBuf>,
    /// The network
    #[arg(long, value_enum, default_value_t = TextModel::Cnn)]
    model: TextModel,
    #[command(flatten)]
    common: Common,
}

impl clap::ValueEnum for TextModel {
    fn value_variants<'a>() -> &'a [TextModel] {
        &[TextModel::Cnn, TextModel::Attention]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            TextModel::Cnn => {
                PossibleValue::new("cnn").help("Convolutions over 3, 4 and 5 words, the largest over time")
            }
            TextModel::Attention => PossibleValue::new("attention").help("Attention of the words to each other"),
        })
    }
}

const WIDTH: usize = 128;
const DROPOUT: f64 = 0.5;
/// Tokens of a text that are read; one in a thousand of the bundled sentences is longer.
const LENGTH: usize = 64;
/// Words seen less often are all the same.
const MIN_FREQUENCY: usize = 2;

pub fn main(args: &Args, world: Option<&World>) -> Outcome {
    args.common.set_threads(world)?;
    let (run, texts) = match &args.common.resume {
        Some(folder) => {
            let run = Run::open(folder)?;
            let texts = sentiment::texts_of(&run, args.data.as_deref())?;
            (run, texts)
        }
        None => {
            let (data, test) = match &args.data {
                Some(data) => (data.clone(), args.test.clone()),
                None => {
                    let folder = data::bundled("sentiment")?;
                    (folder.join("train.tsv.gz"), Some(folder.join("test.tsv.gz")))
                }
            };
            let texts = Texts::read(&data, test.as_deref(), args.common.seed)?;
            let tokenizer = sentiment::train_tokenizer(&texts, MIN_FREQUENCY)?;
            let sizes = TextSizes { vocab: tokenizer.vocab_size(), length: LENGTH, width: WIDTH, dropout: DROPOUT };
            let whole = |path: PathBuf| path.canonicalize().unwrap_or(path);
            let config = Config {
                version: env!("CARGO_PKG_VERSION").to_string(),
                task: Task::Sentiment { data: whole(data), test: test.map(whole), model: args.model, sizes },
                epochs: args.common.epochs.unwrap_or(20),
                batch: args.common.batch.unwrap_or(32),
                lr: args.common.lr.unwrap_or(2e-3),
                seed: args.common.seed,
                classes: texts.classes.clone(),
            };
            (Run::new(&args.common.folder("sentiment"), config)?.with_tokenizer(tokenizer), texts)
        }
    };
    let Task::Sentiment { model, sizes, .. } = &run.config.task else {
        return Err(format!("{} is no run of train sentiment", run.folder.display()).into());
    };
    let set = texts.labelled(run.tokenizer()?, sizes.length)?;
    rushlight::random::manual_seed(run.config.seed);
    let classes = run.config.classes.len();
    match model {
        TextModel::Cnn => fit(&run, sentiment::cnn(sizes, classes)?, &set, args.common.start(world)),
        TextModel::Attention => fit(&run, sentiment::attention(sizes, classes)?, &set, args.common.start(world)),
    }
}

fn fit(run: &Run, mut model: impl Layer, set: &data::Labelled, start: Start) -> Outcome {
    if classify::fit(run, &mut model, set, some_unknown, start)? {
        let folder = run.folder.display();
        say!("which words count: rushlight predict {folder} \"what a lovely day\"");
    }
    Ok(())
}

/// One word in ten as if it were not known, so that no answer hangs on one word.
fn some_unknown(tokens: &Tensor) -> Outcome<Tensor> {
    let known = Tensor::rand(tokens.dims(), DType::F32)?.ge(0.1)?.logical_or(&tokens.eq(sentiment::PAD)?)?;
    Ok(known.where_cond(tokens, sentiment::UNKNOWN)?)
}
