//! A soak: train, evaluate, save, load and generate in a loop, and see that nothing grows. `scripts/soak.sh [MINUTES]`.
//!
//! After a fifth of the time, memory may not grow by more than 2 %, and files and threads not at all.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use rushlight::data::epoch_generator;
use rushlight::io::{TensorFile, load_checked, save_checked};
use rushlight::nn::{Module, StateDict};
use rushlight::optim::{AdamW, Optimizer};
use rushlight::random::Generator;
use rushlight::{Tensor, loss, memory, no_grad};
use rushlight_models::text::{LmBatches, Sampling, Tokenizer};
use rushlight_models::{Gpt, GptConfig};

/// What this process holds of the system: KiB of memory, files, threads.
#[derive(Clone, Copy, Debug)]
struct Held {
    memory: usize,
    files: usize,
    threads: usize,
}

impl Held {
    fn now() -> Result<Held, Box<dyn Error>> {
        let status = fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Option<usize> {
            status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        let missing = "no such line in /proc/self/status";
        Ok(Held {
            memory: field("VmRSS:").ok_or(missing)?,
            files: fs::read_dir("/proc/self/fd")?.count(),
            threads: field("Threads:").ok_or(missing)?,
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let minutes: f64 = std::env::args().nth(1).map_or(Ok(60.0), |n| n.parse())?;
    let whole = Duration::from_secs_f64(60.0 * minutes);
    let dir = std::env::temp_dir().join(format!("rushlight-soak-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let text: String = (0..4000).map(|i| format!("{i} times {} makes {}.\n", i % 97, i * (i % 97))).collect();
    let path = dir.join("tokenizer.json");
    let checkpoint = dir.join("checkpoint.safetensors");
    Tokenizer::train_bpe(text.split_inclusive('\n').take(400), 300, &[])?.save(&path)?;
    let begin = Instant::now();
    let mut after_warm_up: Option<Held> = None;
    let (mut rounds, mut most, mut next_line) = (0u64, 0, Duration::ZERO);
    let mut last = 0.0;
    while begin.elapsed() < whole {
        rushlight::random::manual_seed(rounds);
        // All of it made anew, and read from files.
        let tokenizer = Tokenizer::load(&path)?;
        let batches = LmBatches::new(tokenizer.encode(&text[..20_000])?, 32)?;
        let config = GptConfig {
            vocab_size: tokenizer.vocab_size(),
            block_size: 32,
            n_layer: 2,
            n_head: 4,
            n_embd: 64,
            dropout: 0.1,
            bias: true,
        };
        let mut model = Gpt::new(&config)?;
        let mut optimizer = Optimizer::new(AdamW { lr: 1e-3, ..AdamW::default() });
        if rounds > 0 {
            let (all, _) = load_checked(&checkpoint)?;
            let part = |prefix: &str| -> StateDict {
                all.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
            };
            model.load_state_dict(&part("model."))?;
            optimizer.load_state_dict(&part("optimizer."))?;
        }
        model.train();
        let mut generator = epoch_generator(0, rounds);
        for _ in 0..10 {
            let [x, y] = batches.random(8, &mut generator)?;
            let loss = loss::cross_entropy(&model.forward(&x)?.flatten(0, 1)?, &y.flatten(0, 1)?)?;
            optimizer.step(&mut model, &loss.backward()?)?;
        }
        model.eval();
        for batch in batches.in_order(16).take(4) {
            let [x, y] = batch?;
            last = no_grad(|| loss::cross_entropy(&model.forward(&x)?.flatten(0, 1)?, &y.flatten(0, 1)?))?.item()?;
        }
        let mut all = StateDict::new();
        all.extend(model.state_dict().into_iter().map(|(k, v)| (format!("model.{k}"), v)));
        all.extend(optimizer.state_dict()?.into_iter().map(|(k, v)| (format!("optimizer.{k}"), v)));
        save_checked(&checkpoint, &all, &Default::default())?;
        TensorFile::open(&checkpoint)?.load()?;
        // A thread of its own generates, and ends.
        std::thread::scope(|scope| {
            let job = scope.spawn(|| -> rushlight::Result<()> {
                let (mut cache, mut said, mut generator) = (model.cache(), vec![1i64], Generator::new(rounds));
                while said.len() < 24 {
                    let tokens = Tensor::from_slice(&said[said.len() - 1..], [1, 1])?;
                    let logits = no_grad(|| model.next_logits(&tokens, &mut cache))?.to_vec::<f32>()?;
                    said.push(Sampling::default().choose(&logits, &said, &mut generator)?);
                }
                tokenizer.decode(&said).map(drop)
            });
            job.join().map_err(|_| "the generating thread panicked")
        })??;
        rounds += 1;

        let held = Held::now()?;
        if begin.elapsed() > whole / 5 {
            let start = *after_warm_up.get_or_insert(held);
            most = most.max(held.memory);
            if held.files != start.files || held.threads > start.threads {
                return Err(format!("round {rounds} holds {held:?}, where it was {start:?} after warming up").into());
            }
        }
        if begin.elapsed() >= next_line {
            let (time, own) = (begin.elapsed().as_secs(), memory::stats());
            println!("{time:>5} s  {rounds:>5} rounds  loss {last:.3}  {held:?}  tensors {} KiB", own.in_use >> 10);
            next_line += whole / 20;
        }
    }
    fs::remove_dir_all(&dir)?;
    let start = after_warm_up.ok_or("it was over before it was warm")?;
    let growth = most as f64 / start.memory as f64 - 1.0;
    println!("{rounds} rounds in {minutes} minutes: memory grew by {:.2} % at most after warming up", 100.0 * growth);
    if growth > 0.02 {
        return Err("memory grew by more than 2 %".into());
    }
    Ok(())
}
