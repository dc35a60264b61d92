//! Losses in f32 and in mixed precision: the same small GPT, seed and batches twice, on the bundled plays.

use std::path::Path;

use rushlight::MatmulPrecision::{self, Highest, Medium};
use rushlight::data::epoch_generator;
use rushlight::data::text::read_text;
use rushlight::optim::{AdamW, Optimizer, Schedule};
use rushlight::{no_grad, with_matmul_precision};
use rushlight_models::text::{LmBatches, Tokenizer};
use rushlight_models::{Gpt, GptConfig};
use serde_json::json;

use crate::lines::{Axis, BLUE, Curve, ORANGE, Panel};
use crate::machine::Machine;
use crate::{Outcome, lines, write};

/// That of `rushlight train gpt`.
const LR: f64 = 1e-3;
const BATCH: usize = 12;
const BLOCK: usize = 64;
/// Batches of the text's last tenth that the final loss is the mean of.
const MEASURED: usize = 40;
/// Losses of batches are noisy: the curve shows the mean of so many.
const SMOOTH: usize = 10;

/// Trains both and says, writes and draws what their losses were.
pub fn compare(steps: usize, threads: usize, svg: Option<&Path>, file: Option<&Path>) -> Outcome {
    if steps < SMOOTH {
        return Err(format!("--losses {steps}: expected {SMOOTH} steps or more").into());
    }
    rushlight::set_num_threads(threads)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/shakespeare/plays.txt.gz");
    let mut train = read_text(&path)?;
    let cut = train.len() - train.len() / 10;
    let valid = train.split_off((0..=cut).rev().find(|&i| train.is_char_boundary(i)).unwrap_or(0));
    let tokenizer = Tokenizer::train_characters([&train, &valid], &[])?;
    let blocks = |text: &str| LmBatches::new(tokenizer.encode(text)?, BLOCK);
    let (train, valid) = (blocks(&train)?, blocks(&valid)?);
    let config = GptConfig {
        vocab_size: tokenizer.vocab_size(),
        block_size: BLOCK,
        n_layer: 4,
        n_head: 4,
        n_embd: 128,
        bias: false,
        ..GptConfig::gpt2()
    };
    let run = |name: &str, precision| -> Outcome<(Vec<f64>, f64)> {
        let (losses, last) = fit(&config, &train, &valid, steps, precision)?;
        let end = mean(&losses[losses.len() - SMOOTH..]);
        println!("{name:5} training loss {end:.4} (mean of the last {SMOOTH} steps), validation loss {last:.4}");
        Ok((losses, last))
    };
    let (full, full_last) = run("f32", Highest)?;
    let (mixed, mixed_last) = run("mixed", Medium)?;
    let apart = full.iter().zip(&mixed).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("the two are {apart:.4} apart at most in a step");
    let machine = Machine::new(threads);
    if let Some(path) = file {
        let one = |losses: &[f64], last: f64| json!({ "training": losses, "validation": last });
        let both = json!({ "f32": one(&full, full_last), "mixed": one(&mixed, mixed_last) });
        write(path, &format!("{:#}\n", json!({ "machine": machine, "steps": steps, "losses": both })))?;
    }
    if let Some(path) = svg {
        let title = format!("A GPT of 4 layers, width 128, over {steps} steps of {BATCH} × {BLOCK} characters");
        let place = format!(
            "Means of {SMOOTH} steps, same seed. Validation {full_last:.4} (f32), {mixed_last:.4} (mixed). {}, {}.",
            machine.cpu, machine.date
        );
        write(path, &lines::svg(&title, &place, &panels(&full, &mixed), 1.9))?;
    }
    Ok(())
}

/// The loss of each step, and the mean over the validation part, which is computed in f32.
fn fit(
    config: &GptConfig,
    train: &LmBatches,
    valid: &LmBatches,
    steps: usize,
    precision: MatmulPrecision,
) -> rushlight::Result<(Vec<f64>, f64)> {
    rushlight::random::manual_seed(0);
    let mut model = Gpt::new(config)?;
    let mut optimizer = Optimizer::new(AdamW { lr: LR, betas: (0.9, 0.99), weight_decay: 0.1, ..AdamW::default() });
    let schedule = Schedule::Cosine { warmup: steps / 20, total: steps, end: 0.1 };
    let mut losses = vec![];
    for step in 0..steps {
        let [x, y] = train.random(BATCH, &mut epoch_generator(0, step as u64))?;
        let (value, mut grads) = with_matmul_precision(precision, || {
            let loss = model.loss(&x, &y)?;
            Ok::<_, rushlight::Error>((loss.item::<f64>()?, loss.backward()?))
        })?;
        losses.push(value);
        grads.clip_norm(1.0)?;
        optimizer.set_lr(LR * schedule.factor(step));
        optimizer.step(&mut model, &grads)?;
    }
    let mut last = vec![];
    for batch in valid.in_order(BATCH).take(MEASURED) {
        let [x, y] = batch?;
        last.push(no_grad(|| model.loss(&x, &y))?.item::<f64>()?);
    }
    Ok((losses, mean(&last)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Both curves, and below each other's the difference of the two.
fn panels(full: &[f64], mixed: &[f64]) -> [Panel; 2] {
    let smooth = |losses: &[f64]| -> Vec<(f64, f64)> {
        losses.chunks_exact(SMOOTH).enumerate().map(|(i, c)| (((i + 1) * SMOOTH) as f64, mean(c))).collect()
    };
    let (a, b) = (smooth(full), smooth(mixed));
    let apart: Vec<(f64, f64)> = a.iter().zip(&b).map(|(a, b)| (a.0, b.1 - a.1)).collect();
    let steps = || Axis::linear("step", 0.0, full.len() as f64, (full.len() as f64 / 5.0).ceil());
    let high = a.iter().chain(&b).map(|p| p.1).fold(0.0, f64::max).ceil();
    let low = a.iter().chain(&b).map(|p| p.1).fold(high, f64::min).floor();
    let most = apart.iter().map(|p| p.1.abs()).fold(1e-4, f64::max);
    // One digit is enough for three marks up and three down.
    let scale = 10f64.powf(most.log10().floor());
    let bound = (most / scale).ceil() * scale;
    let digits = (-scale.log10()).max(0.0) as usize + 1;
    let marks = [-1.0, -0.5, 0.0, 0.5, 1.0].map(|m| (m * bound, format!("{:.digits$}", m * bound))).to_vec();
    let curve = |label: &str, colour, points| Curve { label: label.to_string(), colour, dots: false, points };
    [
        Panel {
            title: "Training loss".to_string(),
            x: steps(),
            y: Axis::linear("", low, high, 0.5),
            curves: vec![curve("f32", BLUE, a), curve("mixed", ORANGE, b)],
        },
        Panel {
            title: "Mixed less f32".to_string(),
            x: steps(),
            y: Axis { name: String::new(), marks, log: false, low: -bound, high: bound },
            curves: vec![curve("", ORANGE, apart)],
        },
    ]
}
