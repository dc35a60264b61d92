//! `rushlight generate MODEL --prompt "…"`: text from a language model, as it comes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rushlight::random::Generator;
use rushlight::{Tensor, no_grad};
use rushlight_models::Gpt;
use rushlight_models::text::{Sampling, Tokenizer};

use crate::Outcome;
use crate::language::{Opened, is_pretrained};
use crate::picture::{self, Attention, Choice, visible};
use crate::writer::{Kv, SamplingArgs, Writer};

#[derive(clap::Args)]
pub struct Args {
    /// The run folder, a GGUF file of a Llama, or a folder with config.json, safetensors and tokenizer.json
    #[arg(value_name = "MODEL")]
    run: PathBuf,
    /// What the text begins with
    #[arg(long, default_value = "\n")]
    prompt: String,
    /// Tokens to write
    #[arg(short, long, value_name = "N", default_value_t = 500)]
    num: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Draw what each token looked at, a map for each layer and head, into FILE as .svg and .png
    #[arg(long, value_name = "FILE")]
    attention: Option<PathBuf>,
    /// Draw the tokens that were weighed at each place, with their probabilities, into FILE as .svg and .png
    #[arg(long, value_name = "FILE")]
    probs: Option<PathBuf>,
    /// What keys and values of the text so far are kept as
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    kv: Kv,
    /// Threads to use [default: 1 for a run, which is faster for a small network; else all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Tokens that --probs draws at most, and alternatives of each.
const DRAWN: usize = 1000;
const WEIGHED: usize = 6;
const NO_ATTENTION: &str = "--attention draws what a GPT looked at, and this is none";

impl Writer<'_> {
    /// What was weighed before the last token, by the model alone: without temperature and all else of the sampling.
    fn choice(&self, logits: &[f32], tokenizer: &Tokenizer) -> Outcome<Choice> {
        let (last, before) = self.said.split_last().ok_or("nothing was written")?;
        let p = Sampling::default().probabilities(logits, &[])?;
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a])); // stable: the lower id first
        let rank = order.iter().position(|&id| id as i64 == *last).ok_or("a token outside of the vocabulary")?;
        // The one that was written is shown, however unlikely.
        let written = (rank >= WEIGHED).then_some(order[rank]);
        let shown = order.into_iter().take(WEIGHED).chain(written);
        let weighed = shown.map(|id| Ok((visible(&tokenizer.decode(&[id as i64])?), p[id]))).collect::<Outcome<_>>()?;
        let before = visible(&tokenizer.decode(&before[before.len().saturating_sub(40)..])?);
        Ok(Choice { before, weighed, chosen: rank.min(WEIGHED) })
    }

    /// Draws what the tokens that the model has in sight looked at.
    fn draw_attention(&self, path: &Path, tokenizer: &Tokenizer) -> Outcome {
        let seen = &self.said[self.said.len() - self.cache.len()..];
        let tokens = Tensor::from_slice(seen, [1, seen.len()])?;
        let gpt = self.model.as_gpt().ok_or(NO_ATTENTION)?;
        let (_, weights) = no_grad(|| gpt.forward_with_weights(&tokens))?;
        let layers = weights.iter().map(Tensor::to_vec::<f32>).collect::<rushlight::Result<Vec<_>>>()?;
        let label = |id: &i64| Ok(visible(&tokenizer.decode(&[*id])?));
        let labels = seen.iter().map(label).collect::<Outcome<Vec<_>>>()?;
        let heads = weights.first().map_or(0, |w| w.dims()[1]);
        let shown = Attention { rows: &labels, columns: &labels, heads, layers: &layers };
        let mut caption = "each row is a token, its colours how much it looked at those before it".to_string();
        if seen.len() < self.said.len() {
            caption += &format!("; the last {} of {} tokens, all that the last one saw", seen.len(), self.said.len());
        }
        picture::attention(path, "What each token looked at", &caption, &shown)
    }
}

/// Errors: a picture that could not be drawn, before anything is written.
fn check_pictures(args: &Args) -> Outcome {
    for (option, path) in [("--attention", &args.attention), ("--probs", &args.probs)] {
        let Some(path) = path else { continue };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.file_name().is_none() || folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(format!("{option} {}: expected a file in a folder that is there", path.display()).into());
        }
    }
    if args.attention.is_some() && args.attention == args.probs {
        return Err("--attention and --probs are two pictures: expected two files".into());
    }
    if args.probs.is_some() && !(1..=DRAWN).contains(&args.num) {
        return Err(format!("--probs draws 1 to {DRAWN} tokens, and -n asks for {}", args.num).into());
    }
    Ok(())
}

pub fn main(args: &Args) -> Outcome {
    let sampling = args.sampling.check()?;
    check_pictures(args)?;
    if let Some(threads) = args.threads.or((!is_pretrained(&args.run)).then_some(1)) {
        rushlight::set_num_threads(threads).map_err(|e| format!("--threads {threads}: {e}"))?;
    }
    let opened = Opened::open(&args.run)?;
    let tokenizer = &opened.tokenizer;
    if args.attention.is_some() && opened.model.as_gpt().is_none() {
        return Err(NO_ATTENTION.into());
    }
    let prompt = opened.prompt(&args.prompt).map_err(|e| format!("--prompt: {e}"))?;
    let mut writer = Writer::new(&*opened.model, prompt, args.num, args.kv)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", args.prompt)?;
    let (mut stream, mut generator) = (tokenizer.stream(), args.sampling.generator());
    let mut choices = vec![];
    let (begin, mut written) = (Instant::now(), 0);
    while written < args.num {
        let logits = args.probs.as_ref().map(|_| writer.logits.clone());
        let id = writer.next(&sampling, &mut generator)?;
        if opened.eos.contains(&id) {
            break;
        }
        written += 1;
        let piece = stream.push(id)?;
        choices.extend(logits.map(|logits| writer.choice(&logits, tokenizer)).transpose()?);
        write!(out, "{piece}")?;
        out.flush()?;
    }
    writeln!(out, "{}", stream.finish()?)?;
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{written} tokens in {seconds:.2} s, {:.0} a second", written as f64 / seconds.max(1e-9));
    if let Some(path) = &args.attention {
        writer.draw_attention(path, tokenizer)?;
        eprintln!("what each token looked at: {}", path.display());
    }
    if let Some(path) = &args.probs {
        let caption = "each card: a token that was written, and what the model thought likely there, before temperature \
                       and filters";
        picture::choices(path, "What it weighed, token by token", caption, &choices)?;
        eprintln!("what was weighed: {}", path.display());
    }
    Ok(())
}

/// A piece of text, for the end of a training.
pub fn sample(model: &Gpt, tokenizer: &Tokenizer, seed: u64) -> Outcome<String> {
    let newline = tokenizer.encode("\n").or_else(|_| Ok::<_, rushlight::Error>(vec![0]))?;
    let mut writer = Writer::new(model, newline, 400, Kv::F32)?;
    let sampling = Sampling { temperature: 0.8, ..Sampling::default() };
    let mut generator = Generator::new(seed);
    let ids = (0..400).map(|_| writer.next(&sampling, &mut generator)).collect::<Outcome<Vec<_>>>()?;
    Ok(tokenizer.decode(&ids)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rushlight_models::GptConfig;

    #[test]
    fn the_token_that_was_written_is_marked() {
        let tokenizer = Tokenizer::train_characters(["abcdefgh"], &[]).unwrap();
        let config = GptConfig { vocab_size: 8, block_size: 8, n_layer: 1, n_head: 1, n_embd: 8, ..GptConfig::gpt2() };
        let model = Gpt::new(&config).unwrap();
        let mut writer = Writer::new(&model, vec![0], 60, Kv::F32).unwrap();
        let mut lengths = [0; 2];
        for _ in 0..60 {
            let (logits, before) = (writer.logits.clone(), tokenizer.decode(&writer.said).unwrap());
            let id = writer.next(&Sampling::default(), &mut Generator::new(writer.said.len() as u64)).unwrap();
            let Choice { before: shown, weighed, chosen } = writer.choice(&logits, &tokenizer).unwrap();
            assert!(before.ends_with(&shown) && !shown.is_empty());
            assert_eq!(weighed[chosen].0, tokenizer.decode(&[id]).unwrap());
            assert!(weighed.is_sorted_by(|a, b| a.1 >= b.1), "{weighed:?}");
            lengths[weighed.len() - WEIGHED] += 1;
        }
        assert!(lengths[0] > 0 && lengths[1] > 0, "{lengths:?}");
    }
}
