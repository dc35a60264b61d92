//! `rushlight train translate`: an encoder-decoder Transformer on pairs of sentences.

use std::ops::Range;
use std::path::PathBuf;

use rushlight::data::epoch_generator;
use rushlight::nn::Module;
use rushlight::optim::{AdamW, Group, Optimizer, Schedule};
use rushlight::{MatmulPrecision, Tensor, with_matmul_precision};
use rushlight_models::{Translator, TranslatorConfig};

use super::session::{self, Score, Test, Training};
use super::{Common, World};
use crate::run::{Config, Run, Task};
use crate::translate::Search;
use crate::translation::{self, Pair, Pairs, Translated};
use crate::{Outcome, data};

#[derive(clap::Args)]
pub struct Args {
    /// Pairs of sentences, source and target with a tab between, plain or gz [default: the bundled verses, English and
    /// Spanish]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Such pairs to be measured on [default: a tenth of --data]
    #[arg(long, value_name = "FILE", requires = "data")]
    valid: Option<PathBuf>,
    /// Such pairs for eval [default: those of --valid]
    #[arg(long, value_name = "FILE", requires = "data")]
    test: Option<PathBuf>,
    /// Layers of the encoder, and of the decoder
    #[arg(long, value_name = "N", default_value_t = 3)]
    layers: usize,
    /// Heads of attention
    #[arg(long, value_name = "N", default_value_t = 4)]
    heads: usize,
    /// Width
    #[arg(long, value_name = "N", default_value_t = 256)]
    width: usize,
    /// The numbers between the two products of a layer's network [default: twice the width]
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// The share of numbers that is dropped in training
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    dropout: f64,
    /// Tokens that both languages share
    #[arg(long, value_name = "N", default_value_t = 4096)]
    vocab: usize,
    /// The longest sentence, in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    positions: usize,
    #[command(flatten)]
    common: Common,
}

/// How much of a target is spread over all tokens.
const SMOOTHING: f64 = 0.1;

pub fn main(args: &Args, world: Option<&World>) -> Outcome {
    args.common.set_threads(world)?;
    let (run, parts) = match &args.common.resume {
        Some(folder) => old_run(args, Run::open(folder)?)?,
        None => new_run(args)?,
    };
    let config = translation::sizes(&run)?;
    let tokenizer = run.tokenizer()?;
    let [learnt, measured] = [&parts[0], &parts[1]].map(|part| Pairs::new(tokenizer, part, config.positions));
    let task = Translate { run: &run, learnt: learnt?, measured: measured? };
    rushlight::random::manual_seed(run.config.seed);
    let mut model = Translator::new(config)?;
    let fit = || session::fit(&run, &task, &mut model, args.common.start(world));
    let Some(seconds) = with_matmul_precision(MatmulPrecision::Medium, fit)? else { return Ok(()) };
    model.eval();
    let greedy = Translated::of(&model, tokenizer, &parts[1], &Search::default(), |i| format!("pair {}", i + 1))?;
    say!("\nafter {seconds:.1} s it translates, of {} validation pairs:\n", parts[1].len());
    greedy.show(3)?;
    greedy.score()?;
    let folder = run.folder.display();
    say!("\nmodel, history and pictures are in {folder}; more of it: rushlight translate {folder} \"…\"");
    Ok(())
}

/// With the pairs to learn from, and those to be measured on.
fn old_run(args: &Args, run: Run) -> Outcome<(Run, [Vec<Pair>; 2])> {
    let Task::Translate { data, valid, .. } = &run.config.task else {
        return Err(format!("{} is no run of train translate", run.folder.display()).into());
    };
    let data = args.data.as_deref().unwrap_or(data);
    let parts = translation::read_parts(data, args.valid.as_deref().or(valid.as_deref()), run.config.seed)?;
    Ok((run, parts))
}

fn new_run(args: &Args) -> Outcome<(Run, [Vec<Pair>; 2])> {
    let (data, valid, test) = match &args.data {
        Some(data) => (data.clone(), args.valid.clone(), args.test.clone()),
        None => {
            let folder = data::bundled("en-es")?;
            let [train, valid, test] = ["train", "valid", "test"].map(|part| folder.join(format!("{part}.tsv.gz")));
            (train, Some(valid), Some(test))
        }
    };
    // What eval will need is looked at now, not when the training is over.
    test.as_deref().map_or(Ok(vec![]), translation::read_pairs)?;
    let parts = translation::read_parts(&data, valid.as_deref(), args.common.seed)?;
    let tokenizer = translation::train_tokenizer(&parts[0], args.vocab)?;
    let config = TranslatorConfig {
        vocab_size: tokenizer.vocab_size(),
        positions: args.positions,
        encoder_layers: args.layers,
        decoder_layers: args.layers,
        heads: args.heads,
        width: args.width,
        hidden: args.hidden.unwrap_or(2 * args.width),
        dropout: args.dropout,
    };
    let whole = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let config = Config {
        version: env!("CARGO_PKG_VERSION").to_string(),
        task: Task::Translate { data: whole(data), valid: valid.map(whole), test: test.map(whole), config },
        epochs: args.common.epochs.unwrap_or(11),
        batch: args.common.batch.unwrap_or(48),
        lr: args.common.lr.unwrap_or(1e-3),
        seed: args.common.seed,
        classes: vec![],
    };
    Ok((Run::new(&args.common.folder("translate"), config)?.with_tokenizer(tokenizer), parts))
}

struct Translate<'a> {
    run: &'a Run,
    learnt: Pairs,
    measured: Pairs,
}

impl Translate<'_> {
    fn rows(&self, epoch: usize) -> Vec<Vec<usize>> {
        let config = &self.run.config;
        self.learnt.batches(config.batch, &mut epoch_generator(config.seed, epoch as u64))
    }
}

impl Training for Translate<'_> {
    type Model = Translator;

    fn summary(&self) -> String {
        let (learnt, measured) = (&self.learnt, &self.measured);
        format!(
            "{} training pairs of {} tokens to write, {} to be measured on",
            learnt.len(),
            learnt.num_tokens(),
            measured.len()
        )
    }

    /// The same in every epoch: only equally long pairs change places.
    fn batches(&self, _: usize) -> usize {
        self.rows(0).len()
    }

    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = rushlight::Result<Vec<Tensor>>> + '_> {
        Box::new(self.rows(epoch).into_iter().skip(from).map(|rows| self.learnt.batch(&rows)))
    }

    fn guesses(&self, batch: &[Tensor]) -> Outcome<u64> {
        Ok(batch[3].numel() as u64)
    }

    fn part(&self, batch: &[Tensor], rows: Range<usize>) -> rushlight::Result<Vec<Tensor>> {
        translation::part(batch, rows)
    }

    fn score(&self, model: &Translator, batch: &[Tensor]) -> Outcome<Score> {
        let (loss, right) = translation::score(model, batch, SMOOTHING)?;
        Ok(Score { loss, right, seen: batch[3].numel() as u64 })
    }

    fn measure(&self, model: &mut Translator) -> Outcome<Test> {
        let [loss, accuracy] = translation::measure(model, &self.measured, SMOOTHING)?;
        Ok(Test { loss, accuracy })
    }

    /// No decay of what is added or scales.
    fn optimizer(&self, lr: f64) -> Optimizer {
        let plain = ["*.bias", "*norm*.weight"].map(String::from).to_vec();
        Optimizer::new(AdamW { lr, betas: (0.9, 0.98), weight_decay: 0.01, ..AdamW::default() }).with_group(Group {
            names: plain,
            weight_decay: Some(0.0),
            ..Group::default()
        })
    }

    /// A tenth of the steps up, then down to nearly nothing.
    fn schedule(&self, steps: usize) -> Schedule {
        Schedule::Cosine { warmup: steps / 10, total: steps, end: 0.01 }
    }

    fn clip(&self) -> Option<f64> {
        Some(1.0)
    }
}
