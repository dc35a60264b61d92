//! `rushlight predict RUN INPUT…`: the distribution over the classes for PNG or IDX images, `x,y` points, or texts.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use rushlight::data::idx;
use rushlight::nn::{Layer, Module};
use rushlight::{DType, Tensor, no_grad};
use rushlight_models::{LeNet, Mlp, TextClassifier};

use crate::run::{Run, Task};
use crate::{Outcome, sentiment, words};

#[derive(clap::Args)]
pub struct Args {
    /// The run folder
    run: PathBuf,
    /// PNG files, IDX files of images; for a run of `train points`, points as `x,y` in the unit square; of `train
    /// sentiment`, texts
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Images of an IDX file to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Take dark for light, as for black figures on white paper
    #[arg(long)]
    invert: bool,
    /// Where to draw which words of the texts counted [default: RUN/words.html]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The network of a run, its weights loaded.
pub enum Network {
    Images(LeNet),
    Points(Mlp),
    Text(Box<dyn TextClassifier>),
}

impl Network {
    pub fn load(run: &Run) -> Outcome<Network> {
        Ok(match &run.config.task {
            Task::Images { height, width, dropout, .. } => {
                let mut model = LeNet::new(*height, *width, run.config.classes.len(), *dropout)?;
                run.load_model(&mut model)?;
                model.eval();
                Network::Images(model)
            }
            Task::Points { widths, .. } => {
                let mut model = Mlp::new(widths)?;
                run.load_model(&mut model)?;
                Network::Points(model)
            }
            Task::Gpt { .. } | Task::Finetune { .. } => {
                let folder = run.folder.display();
                return Err(format!("{folder} writes text: rushlight generate {folder} --prompt \"…\"").into());
            }
            Task::Translate { .. } => {
                let folder = run.folder.display();
                return Err(format!("{folder} translates: rushlight translate {folder} \"…\"").into());
            }
            Task::Sentiment { .. } => Network::Text(sentiment::load(run)?),
        })
    }

    fn forward(&self, x: &Tensor) -> Outcome<Tensor> {
        Ok(no_grad(|| match self {
            Network::Images(model) => model.forward(x),
            Network::Points(model) => model.forward(x),
            Network::Text(model) => model.forward(x),
        })?)
    }
}

pub fn main(args: &Args) -> Outcome {
    let run = Run::open(&args.run)?;
    if matches!(run.config.task, Task::Sentiment { .. }) {
        return words::predict(&run, &args.inputs, args.html.as_deref());
    }
    let network = Network::load(&run)?;
    for input in &args.inputs {
        let samples = match &run.config.task {
            Task::Images { height, width, .. } => images(Path::new(input), (*height, *width), args)?,
            _ => vec![(input.clone(), point(input)?)],
        };
        for (name, x) in samples {
            let p = network.forward(&x)?.exp()?.to_vec::<f32>()?;
            show(&name, &run.config.classes, &p)?;
        }
    }
    Ok(())
}

/// The classes by falling probability, each with a bar.
fn show(name: &str, classes: &[String], p: &[f32]) -> Outcome {
    say!("{name}");
    let width = classes.iter().map(|c| c.chars().count()).max().unwrap_or(0);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    for i in order {
        let bar = "█".repeat((p[i] * 40.0).round() as usize);
        say!("  {:<width$} {:>6.2}% {bar}", classes[i], 100.0 * p[i]);
    }
    Ok(())
}

/// The images of a PNG (one) or IDX file (the first `limit`), as `[1, 1, h, w]` in 0..1.
fn images(path: &Path, size: (usize, usize), args: &Args) -> Outcome<Vec<(String, Tensor)>> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| format!("{name}: {e}"))?;
    let (found, pixels) = if bytes.starts_with(b"\x89PNG") {
        grey(path)?
    } else if !bytes.starts_with(&[0, 0]) && !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(format!("{name}: neither a PNG nor an IDX file").into());
    } else {
        let idx = idx::read_idx(path)?;
        let [_, h, w] = idx.dims[..] else {
            return Err(format!("{name}: an IDX file of {} dims, expected images of 3", idx.dims.len()).into());
        };
        ((h, w), idx.data)
    };
    if found != size {
        let ((h, w), (eh, ew)) = (found, size);
        return Err(format!("{name}: images of {h} x {w}, the run was trained on {eh} x {ew}").into());
    }
    let area = size.0 * size.1;
    let count = (pixels.len() / area).min(args.limit.max(1));
    (0..count)
        .map(|i| {
            let x = Tensor::from_slice(&pixels[i * area..(i + 1) * area], [1, 1, size.0, size.1])?;
            let x = x.to_dtype(DType::F32)?.div(255.0)?;
            let x = if args.invert { x.neg()?.add(1.0)? } else { x };
            Ok((if count > 1 { format!("{name} [{i}]") } else { name.clone() }, x))
        })
        .collect()
}

/// A PNG as grey bytes: the mean of red, green and blue, a transparent pixel black.
fn grey(path: &Path) -> Outcome<((usize, usize), Vec<u8>)> {
    let refused = |e: png::DecodingError| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(refused)?;
    let (w, h) = reader.info().size();
    if w as u64 * h as u64 > 1 << 26 {
        return Err(format!("{}: {w} x {h} pixels are more than this program reads", path.display()).into());
    }
    let size = reader.output_buffer_size().ok_or_else(|| format!("{}: too large", path.display()))?;
    let mut buffer = vec![0; size];
    let info = reader.next_frame(&mut buffer).map_err(refused)?;
    let samples = info.color_type.samples();
    let colours = if samples >= 3 { 3 } else { 1 };
    let pixels = buffer[..info.buffer_size()]
        .chunks(samples)
        .map(|p| {
            let mean = p[..colours].iter().map(|&c| c as u32).sum::<u32>() / colours as u32;
            let alpha = if samples == colours { 255 } else { p[colours] as u32 };
            (mean * alpha / 255) as u8
        })
        .collect();
    Ok(((h as usize, w as usize), pixels))
}

/// `x,y` in the unit square, as the points are trained on.
fn point(text: &str) -> Outcome<Tensor> {
    let parsed: Option<Vec<f32>> =
        text.split(',').map(|v| v.trim().parse().ok().filter(|v: &f32| v.is_finite())).collect();
    match parsed.as_deref() {
        Some(&[x, y]) => Ok(Tensor::from_vec(vec![2.0 * x - 1.0, 2.0 * y - 1.0], [1, 2])?),
        _ => Err(format!("'{text}' is no point; expected two numbers as 0.25,0.75").into()),
    }
}
