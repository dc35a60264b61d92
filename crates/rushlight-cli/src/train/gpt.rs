//! `rushlight train gpt`: a GPT on a text, as nanoGPT trains it.

use std::path::PathBuf;

use rushlight::data::epoch_generator;
use rushlight::optim::{AdamW, Group, Optimizer, Schedule};
use rushlight::{MatmulPrecision, Tensor, with_matmul_precision};
use rushlight_models::text::{LmBatches, Tokenizer};
use rushlight_models::{Gpt, GptConfig};

use super::session::{self, Score, Test, Training};
use super::{Common, World};
use crate::gpt::{self, Foretold, Text};
use crate::run::{Config, Run, Task};
use crate::{Outcome, data, generate};

#[derive(clap::Args)]
pub struct Args {
    /// A text in UTF-8, plain or gz [default: the bundled plays of Shakespeare]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The sizes
    #[arg(long, value_enum, default_value_t = Preset::Tiny)]
    preset: Preset,
    /// Layers, instead of the preset's
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Heads of attention, instead of the preset's
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Width, instead of the preset's
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// Tokens that the network sees, instead of the preset's
    #[arg(long, value_name = "N")]
    block: Option<usize>,
    /// What a token is
    #[arg(long, value_enum, default_value_t = Kind::Char)]
    tokenizer: Kind,
    /// Tokens that --tokenizer bpe learns
    #[arg(long, value_name = "N", default_value_t = 2048)]
    vocab: usize,
    /// All in f32: not products in bf16 where the processor has it, which is faster
    #[arg(long)]
    f32: bool,
    /// Steps of training, instead of --epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<usize>,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Preset {
    /// nanoGPT's for a CPU: 4 layers of 128, 64 tokens; a minute
    Tiny,
    /// 6 layers of 384, 256 tokens; hours
    Small,
    /// GPT-2's smallest: 12 layers of 768, 256 tokens; days
    Base,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// A character
    Char,
    /// Bytes that often follow each other
    Bpe,
}

/// Steps between two measurements: what the run counts as an epoch.
const EVERY: usize = 250;
/// Tokens that such a measurement takes.
const MEASURED: usize = 1 << 15;

/// Sizes but the vocabulary's, batch, steps and learning rate.
fn preset(preset: Preset, vocab_size: usize) -> (GptConfig, usize, usize, f64) {
    let [layers, heads, width, block] = match preset {
        Preset::Tiny => [4, 4, 128, 64],
        Preset::Small => [6, 6, 384, 256],
        Preset::Base => [12, 12, 768, 256],
    };
    let (batch, steps, lr, dropout) = match preset {
        Preset::Tiny => (12, 2000, 1e-3, 0.0),
        Preset::Small => (16, 5000, 1e-3, 0.2),
        Preset::Base => (8, 10_000, 6e-4, 0.1),
    };
    let config = GptConfig {
        vocab_size,
        block_size: block,
        n_layer: layers,
        n_head: heads,
        n_embd: width,
        dropout,
        bias: false,
    };
    (config, batch, steps, lr)
}

pub fn main(args: &Args, world: Option<&World>) -> Outcome {
    args.common.set_threads(world)?;
    let (run, text) = match &args.common.resume {
        Some(folder) => {
            let run = Run::open(folder)?;
            let text = Text::read(args.data.as_deref().unwrap_or(gpt::task(&run)?.0))?;
            (run, text)
        }
        None => {
            let path = match &args.data {
                Some(path) => path.clone(),
                None => data::bundled("shakespeare")?.join("plays.txt.gz"),
            };
            let text = Text::read(&path)?;
            (new_run(args, &text)?, text)
        }
    };
    let (_, config) = gpt::task(&run)?;
    let tokenizer = run.tokenizer()?;
    let [learnt, measured] =
        [&text.train, &text.valid].map(|part| gpt::batches(tokenizer, part, &text.path, config.block_size));
    let Task::Gpt { steps, bf16, .. } = run.config.task else { return Err("no run of train gpt".into()) };
    let task = Write { run: &run, config, steps, learnt: learnt?, measured: measured? };
    rushlight::random::manual_seed(run.config.seed);
    let mut model = Gpt::new(config)?;
    let precision = if bf16 { MatmulPrecision::Medium } else { MatmulPrecision::Highest };
    let fit = || session::fit(&run, &task, &mut model, args.common.start(world));
    let Some(seconds) = with_matmul_precision(precision, fit)? else { return Ok(()) };
    let test = Foretold::of(&mut model, &task.measured, config.block_size, 1)?;
    say!("\nvalidation loss {:.4} over {} tokens after {seconds:.1} s; it writes:\n", test.loss, test.tokens);
    let sample = generate::sample(&model, tokenizer, run.config.seed)?;
    say!("{sample}");
    let path = run.path("sample.txt");
    rushlight::io::write_atomic(&path, |f| {
        std::io::Write::write_all(f, sample.as_bytes()).map_err(|e| rushlight::Error::io(&path, e))
    })?;
    let folder = run.folder.display();
    say!("model, history and pictures are in {folder}; more of it: rushlight generate {folder} --prompt \"O \"");
    Ok(())
}

fn new_run(args: &Args, text: &Text) -> Outcome<Run> {
    let tokenizer = match args.tokenizer {
        Kind::Char => Tokenizer::train_characters([&text.train, &text.valid], &[])?,
        Kind::Bpe => Tokenizer::train_bpe(text.train.split_inclusive('\n'), args.vocab, &[])?,
    };
    let (preset, batch, steps, lr) = preset(args.preset, tokenizer.vocab_size());
    let config = GptConfig {
        n_layer: args.layers.unwrap_or(preset.n_layer),
        n_head: args.heads.unwrap_or(preset.n_head),
        n_embd: args.width.unwrap_or(preset.n_embd),
        block_size: args.block.unwrap_or(preset.block_size),
        ..preset
    };
    let batch = args.common.batch.unwrap_or(batch);
    let tokens = text.train.len();
    let steps = match (args.steps, args.common.epochs) {
        (Some(steps), _) => steps,
        (None, Some(epochs)) => (tokens / (batch * config.block_size).max(1)).max(1).saturating_mul(epochs),
        (None, None) => steps,
    };
    if steps == 0 {
        return Err("--steps 0: expected 1 or more".into());
    }
    let data = text.path.canonicalize().unwrap_or_else(|_| text.path.clone());
    let config = Config {
        version: env!("CARGO_PKG_VERSION").to_string(),
        task: Task::Gpt { data, config, steps, bf16: !args.f32 },
        epochs: steps.div_ceil(EVERY),
        batch,
        lr: args.common.lr.unwrap_or(lr),
        seed: args.common.seed,
        classes: vec![],
    };
    Ok(Run::new(&args.common.folder("gpt"), config)?.with_tokenizer(tokenizer))
}

struct Write<'a> {
    run: &'a Run,
    config: &'a GptConfig,
    steps: usize,
    learnt: LmBatches,
    measured: LmBatches,
}

impl Training for Write<'_> {
    type Model = Gpt;

    fn summary(&self) -> String {
        let (learnt, measured) = (self.learnt.num_tokens(), self.measured.num_tokens());
        format!("{learnt} training and {measured} validation tokens of {}", self.config.vocab_size)
    }

    fn batches(&self, epoch: usize) -> usize {
        self.steps.saturating_sub(epoch.saturating_mul(EVERY)).min(EVERY)
    }

    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = rushlight::Result<Vec<Tensor>>> + '_> {
        let config = &self.run.config;
        Box::new((from..self.batches(epoch)).map(move |i| {
            let mut generator = epoch_generator(config.seed, (epoch * EVERY + i) as u64);
            Ok(self.learnt.random(config.batch, &mut generator)?.to_vec())
        }))
    }

    fn score(&self, model: &Gpt, batch: &[Tensor]) -> Outcome<Score> {
        let (loss, right) = gpt::score(&model.forward(&batch[0])?, &batch[1])?;
        Ok(Score { loss, right, seen: batch[1].numel() as u64 })
    }

    fn measure(&self, model: &mut Gpt) -> Outcome<Test> {
        let stride = Foretold::stride(&self.measured, MEASURED);
        let found = Foretold::of(model, &self.measured, self.config.block_size, stride)?;
        Ok(Test { loss: found.loss, accuracy: found.accuracy })
    }

    /// No decay of what is added or scales.
    fn optimizer(&self, lr: f64) -> Optimizer {
        let plain = ["*.bias", "*ln_1.weight", "*ln_2.weight", "ln_f.weight"].map(String::from).to_vec();
        Optimizer::new(AdamW { lr, betas: (0.9, 0.99), weight_decay: 0.1, ..AdamW::default() }).with_group(Group {
            names: plain,
            weight_decay: Some(0.0),
            ..Group::default()
        })
    }

    /// A twentieth of the steps up, then down to a tenth.
    fn schedule(&self, _: usize) -> Schedule {
        Schedule::Cosine { warmup: self.steps / 20, total: self.steps, end: 0.1 }
    }

    fn clip(&self) -> Option<f64> {
        Some(1.0)
    }
}
