//! `rushlight generate RUN --prompt "…"`: text from a GPT, as it comes.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use rushlight::Tensor;
use rushlight::nn::KvCache;
use rushlight::random::Generator;
use rushlight_models::Gpt;
use rushlight_models::text::{Sampling, Tokenizer};

use crate::run::Run;
use crate::{Outcome, gpt};

#[derive(clap::Args)]
pub struct Args {
    /// The run folder
    run: PathBuf,
    /// What the text begins with
    #[arg(long, default_value = "\n")]
    prompt: String,
    /// Tokens to write
    #[arg(short, long, value_name = "N", default_value_t = 500)]
    num: usize,
    /// Below 1 for safer, above for bolder text; 0 for the likeliest token always
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Only the K likeliest tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities together reach P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Only tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Above 1, what was said is less likely to be said again
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// The same seed writes the same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads to use; one is faster for a small network
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
}

/// Writes one token after the other.
struct Writer<'a> {
    model: &'a Gpt,
    block: usize,
    cache: KvCache,
    said: Vec<i64>,
    logits: Vec<f32>,
}

impl<'a> Writer<'a> {
    /// Errors: a prompt of nothing, or longer than the context.
    fn new(model: &'a Gpt, prompt: Vec<i64>) -> Outcome<Writer<'a>> {
        let block = model.wpe.weight.dims()[0];
        if prompt.is_empty() || prompt.len() > block {
            let n = prompt.len();
            return Err(format!("a prompt of {n} tokens; the model's context is {block}: expected 1 to {block}").into());
        }
        let mut writer = Writer { model, block, cache: model.cache(), said: prompt, logits: vec![] };
        writer.read(0)?;
        Ok(writer)
    }

    /// The model reads what was said from number `from` on.
    fn read(&mut self, from: usize) -> Outcome {
        let new = &self.said[from..];
        let tokens = Tensor::from_slice(new, [1, new.len()])?;
        self.logits = self.model.next_logits(&tokens, &mut self.cache)?.to_vec::<f32>()?;
        Ok(())
    }

    fn next(&mut self, sampling: &Sampling, generator: &mut Generator) -> Outcome<i64> {
        let id = sampling.choose(&self.logits, &self.said, generator)?;
        self.said.push(id);
        if self.cache.len() == self.block {
            // Out of places: the later half is read anew, which costs a token as much as one more on average.
            self.cache.reset();
            self.read(self.said.len() - self.block.div_ceil(2))?;
        } else {
            self.read(self.said.len() - 1)?;
        }
        Ok(id)
    }
}

pub fn main(args: &Args) -> Outcome {
    let sampling = Sampling {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
    };
    sampling.check()?;
    rushlight::set_num_threads(args.threads).map_err(|e| format!("--threads {}: {e}", args.threads))?;
    let run = Run::open(&args.run)?;
    let (model, tokenizer) = (gpt::load(&run)?, run.tokenizer()?);
    let prompt = tokenizer.encode(&args.prompt).map_err(|e| format!("--prompt: {e}"))?;
    let mut writer = Writer::new(&model, prompt)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", args.prompt)?;
    let (mut stream, mut generator) = (tokenizer.stream(), Generator::new(args.seed));
    let begin = Instant::now();
    for _ in 0..args.num {
        let piece = stream.push(writer.next(&sampling, &mut generator)?)?;
        write!(out, "{piece}")?;
        out.flush()?;
    }
    writeln!(out, "{}", stream.finish()?)?;
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{} tokens in {seconds:.2} s, {:.0} a second", args.num, args.num as f64 / seconds.max(1e-9));
    Ok(())
}

/// A piece of text, for the end of a training.
pub fn sample(model: &Gpt, tokenizer: &Tokenizer, seed: u64) -> Outcome<String> {
    let newline = tokenizer.encode("\n").or_else(|_| Ok::<_, rushlight::Error>(vec![0]))?;
    let mut writer = Writer::new(model, newline)?;
    let sampling = Sampling { temperature: 0.8, ..Sampling::default() };
    let mut generator = Generator::new(seed);
    let ids = (0..400).map(|_| writer.next(&sampling, &mut generator)).collect::<Outcome<Vec<_>>>()?;
    Ok(tokenizer.decode(&ids)?)
}
