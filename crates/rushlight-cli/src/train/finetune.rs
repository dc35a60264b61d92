//! `rushlight finetune MODEL`: a language model learns on, from a text or from prompts with their answers.

use std::path::PathBuf;

use rushlight::nn::Module;
use rushlight::optim::{AdamW, Group, Optimizer, Schedule};
use rushlight::{MatmulPrecision, Tensor, memory, with_matmul_precision};
use rushlight_models::Network;

use super::session::{self, Score, Test, Training};
use super::{Common, World};
use crate::Outcome;
use crate::gpt::{self, Foretold};
use crate::language::Base;
use crate::run::{Config, LoraSizes, Metric, Run, Task};
use crate::samples::{Read, Samples};
use crate::tuned::{self, Tuned};

#[derive(clap::Args)]
pub struct Args {
    /// The model to begin with: a GGUF file of a Llama, a folder with config.json, safetensors and tokenizer.json, or a
    /// run of train gpt or finetune
    #[arg(required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// A text in UTF-8, or pairs of a prompt and its answer: .tsv or .csv, or .jsonl of {"prompt": "…", "answer": "…"}
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// Such a file to be measured on [default: a tenth of --data: the end of a text, some of the pairs]
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// Rank of the adapters: how many numbers each matrix's change passes through
    #[arg(long, value_name = "R", default_value_t = 8, conflicts_with = "full")]
    lora_rank: usize,
    /// The change of a matrix counts A/R times [default: twice the rank]
    #[arg(long, value_name = "A", conflicts_with = "full", allow_negative_numbers = true)]
    lora_alpha: Option<f64>,
    /// Which matrices have adapters, by the ends of their names [default: those of queries and values: q_proj,v_proj of
    /// a Llama, attn.c_attn of a GPT]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "full")]
    lora_targets: Vec<String>,
    /// Train all weights instead of adapters: with the optimizer's states this takes the memory of four models
    #[arg(long)]
    full: bool,
    /// Write the whole model as well, with what was learnt in it, in the form in which MODEL is kept
    #[arg(long)]
    merge: bool,
    /// Tokens of a window of text, or that a prompt and its answer have at most [default: 256, or the model's context]
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Steps of training, instead of --epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<usize>,
    /// All in f32: not products in bf16 where the processor has it, which is faster
    #[arg(long)]
    f32: bool,
    #[command(flatten)]
    common: Common,
}

/// Steps between two measurements at most.
const EVERY: usize = 250;
/// Tokens that such a measurement takes at most.
const MEASURED: usize = 1 << 13;
const EPOCHS: usize = 3;
const BATCH: usize = 4;
const LENGTH: usize = 256;
const LORA_LR: f64 = 5e-4;
const FULL_LR: f64 = 5e-5;

pub fn main(args: &Args, world: Option<&World>) -> Outcome {
    args.common.set_threads(world)?;
    let (run, base, [learnt, measured]) = match &args.common.resume {
        Some(folder) => resumed(args, Run::open(folder)?)?,
        None => begun(args)?,
    };
    let Task::Finetune { lora, length, steps, every, bf16, .. } = &run.config.task else {
        return Err("no run of finetune".into());
    };
    check_length(*length, &base.network)?;
    rushlight::random::manual_seed(run.config.seed);
    let (full, origin) = (lora.is_none(), base.origin);
    let mut model = Tuned::new(base.network, lora.as_ref())?;
    let task = Tune { run: &run, steps: *steps, every: *every, full, learnt, measured };
    let precision = if *bf16 { MatmulPrecision::Medium } else { MatmulPrecision::Highest };
    let fit = || session::fit(&run, &task, &mut model, args.common.start(world));
    let Some(seconds) = with_matmul_precision(precision, fit)? else { return Ok(()) };
    let folder = run.folder.display();
    let [before, after] = ends(&run)?;
    say!("\nheld-out loss {before:.4} before and {after:.4} after {steps} steps, {seconds:.1} s{}", peak());
    let file = run.path(run.config.task.model_file());
    let bytes = std::fs::metadata(&file).map_or(0, |m| m.len());
    say!("what was learnt is {} ({:.1} MB); the pictures are beside it", file.display(), bytes as f64 / 1e6);
    let mut shown = run.folder.clone();
    if args.merge {
        shown = tuned::write_merged(&run, &model.merge()?, &origin)?;
        say!("the whole model is {}", shown.display());
    }
    let what = if base.chat.is_some() { "chat" } else { "generate" };
    say!("try it: rushlight {what} {}; measure it: rushlight eval {folder}", shown.display());
    Ok(())
}

type Begun = (Run, Base, [Samples; 2]);

fn begun(args: &Args) -> Outcome<Begun> {
    let (Some(path), Some(data)) = (&args.model, &args.data) else {
        return Err("expected a MODEL and --data".into());
    };
    let read = Read::open(data, args.valid.as_deref(), args.common.seed)?;
    let base = Base::open(path)?;
    let length = args.length.unwrap_or(LENGTH.min(base.network.context()));
    check_length(length, &base.network)?;
    let samples = read.samples(&base, length)?;
    let batch = args.common.batch.unwrap_or(BATCH);
    let pass = samples[0].steps(batch);
    let steps = args.steps.unwrap_or_else(|| pass.saturating_mul(args.common.epochs.unwrap_or(EPOCHS)));
    if steps == 0 {
        return Err(
            format!("{} 0: expected 1 or more", if args.steps.is_some() { "--steps" } else { "--epochs" }).into()
        );
    }
    let every = pass.min(EVERY);
    let targets = match (&args.lora_targets[..], &base.network) {
        ([], Network::Llama(_)) => vec!["q_proj".to_string(), "v_proj".to_string()],
        ([], _) => vec!["attn.c_attn".to_string()],
        (given, _) => given.to_vec(),
    };
    let alpha = args.lora_alpha.unwrap_or(2.0 * args.lora_rank as f64);
    let lora = (!args.full).then_some(LoraSizes { rank: args.lora_rank, alpha, targets });
    let whole = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let config = Config {
        version: env!("CARGO_PKG_VERSION").to_string(),
        epochs: steps.div_ceil(every),
        batch,
        lr: args.common.lr.unwrap_or(if args.full { FULL_LR } else { LORA_LR }),
        seed: args.common.seed,
        classes: vec![],
        task: Task::Finetune {
            model: whole(path),
            sum: tuned::checksum(path)?,
            data: whole(data),
            valid: args.valid.as_ref().map(whole),
            lora,
            length,
            steps,
            every,
            bf16: !args.f32,
        },
    };
    Ok((Run::new(&args.common.folder("finetune"), config)?, base, samples))
}

fn resumed(args: &Args, run: Run) -> Outcome<Begun> {
    let (read, base, length) = open(&run, args.data.as_deref())?;
    let samples = read.samples(&base, length)?;
    Ok((run, base, samples))
}

/// The data of a run, or other data, and the model that it began with.
fn open(run: &Run, other: Option<&std::path::Path>) -> Outcome<(Read, Base, usize)> {
    let Task::Finetune { model, data, valid, length, .. } = &run.config.task else {
        return Err(format!("{} is no run of finetune", run.folder.display()).into());
    };
    tuned::check_base(run)?;
    let read = Read::open(other.unwrap_or(data), valid.as_deref(), run.config.seed)?;
    Ok((read, Base::open(model)?, *length))
}

fn check_length(length: usize, network: &Network) -> Outcome {
    match network.context() {
        most if length == 0 || length > most => {
            Err(format!("--length {length}: expected 1 to the model's context of {most} tokens").into())
        }
        _ => Ok(()),
    }
}

/// The held-out loss before the first step, and after the last.
fn ends(run: &Run) -> Outcome<[f64; 2]> {
    let metrics = run.read_metrics()?;
    let mut losses = metrics.iter().filter_map(|metric| match metric {
        Metric::Epoch { test_loss, .. } => Some(*test_loss),
        _ => None,
    });
    let first = losses.next().ok_or("nothing was measured")?;
    Ok([first, losses.next_back().unwrap_or(first)])
}

/// `; at most N MB of memory`, where the system says so.
fn peak() -> String {
    memory::resident().map_or(String::new(), |(peak, _)| format!("; at most {:.0} MB of memory", peak as f64 / 1e6))
}

struct Tune<'a> {
    run: &'a Run,
    steps: usize,
    every: usize,
    full: bool,
    learnt: Samples,
    measured: Samples,
}

impl Training for Tune<'_> {
    type Model = Tuned;

    fn summary(&self) -> String {
        let (learnt, measured) = (self.learnt.num_tokens(), self.measured.num_tokens());
        format!("{learnt} training and {measured} held-out tokens to foretell")
    }

    fn batches(&self, epoch: usize) -> usize {
        self.steps.saturating_sub(epoch.saturating_mul(self.every)).min(self.every)
    }

    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = rushlight::Result<Vec<Tensor>>> + '_> {
        let Config { batch, seed, .. } = self.run.config;
        let first = epoch.saturating_mul(self.every);
        Box::new((from..self.batches(epoch)).map(move |i| self.learnt.batch(batch, seed, first + i)))
    }

    fn guesses(&self, batch: &[Tensor]) -> Outcome<u64> {
        Ok(gpt::count(&batch[1])?)
    }

    fn prepare(&self, model: &mut Tuned) -> Outcome {
        Ok(model.prepare()?)
    }

    fn score(&self, model: &Tuned, batch: &[Tensor]) -> Outcome<Score> {
        let (loss, right) = gpt::score(&model.logits(&batch[0])?, &batch[1])?;
        Ok(Score { loss, right, seen: gpt::count(&batch[1])? })
    }

    /// In f32, whatever it learns in.
    fn measure(&self, model: &mut Tuned) -> Outcome<Test> {
        let found = with_matmul_precision(MatmulPrecision::Highest, || measure(model, &self.measured))?;
        Ok(Test { loss: found.loss, accuracy: found.accuracy })
    }

    fn knows_something(&self) -> bool {
        true
    }

    fn looks_at_gradients(&self) -> bool {
        false
    }

    /// Adapters do not decay; of all weights, those that are no matrix do not.
    fn optimizer(&self, lr: f64) -> Optimizer {
        let weight_decay = if self.full { 0.01 } else { 0.0 };
        let plain = ["*.bias", "*norm.weight", "*ln_1.weight", "*ln_2.weight", "ln_f.weight"];
        Optimizer::new(AdamW { lr, weight_decay, ..AdamW::default() }).with_group(Group {
            names: plain.map(String::from).to_vec(),
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

fn measure(model: &mut Tuned, samples: &Samples) -> Outcome<Foretold> {
    rushlight::no_grad(|| model.prepare())?;
    model.eval();
    Foretold::by(|x| model.logits(x), samples.in_order(MEASURED))
}

/// `rushlight eval`: loss and perplexity of what a run held out, or of the like part of other data.
pub fn evaluate(run: &Run, other: Option<&std::path::Path>) -> Outcome {
    let (read, base, length) = open(run, other)?;
    let [_, measured] = read.samples(&base, length)?;
    let network = Tuned::load(run, base.network)?;
    let found = Foretold::by(|x| network.logits(x), measured.in_order(usize::MAX))?;
    say!("{} held-out tokens: loss {:.4}, perplexity {:.2}", found.tokens, found.loss, found.loss.exp());
    say!("the likeliest token was right {:.2}% of the time", 100.0 * found.accuracy);
    Ok(())
}
