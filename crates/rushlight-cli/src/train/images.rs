//! `rushlight train images`: a LeNet on Fashion-MNIST, or on any four IDX files.

use std::path::PathBuf;

use rushlight::nn::Module;
use rushlight::{Tensor, no_grad};
use rushlight_models::LeNet;

use super::{Common, World, classify};
use crate::picture::{Picture, image_grid};
use crate::run::{Config, Run, Task};
use crate::{Outcome, data};

#[derive(clap::Args)]
pub struct Args {
    /// Folder of the four standard IDX files, plain or gz [default: the bundled Fashion-MNIST part]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

const DROPOUT: f64 = 0.25;

pub fn main(args: &Args, world: Option<&World>) -> Outcome {
    args.common.set_threads(world)?;
    let (run, set) = match &args.common.resume {
        Some(folder) => {
            let run = Run::open(folder)?;
            let set = data::images_of(&run, args.data.as_deref())?;
            (run, set)
        }
        None => {
            let folder = match &args.data {
                Some(folder) => folder.clone(),
                None => data::bundled("fashion-mnist")?,
            };
            let set = data::images(&folder)?;
            let (height, width) = (set.train_x.dims()[2], set.train_x.dims()[3]);
            let config = Config {
                version: env!("CARGO_PKG_VERSION").to_string(),
                task: Task::Images { data: folder.canonicalize().unwrap_or(folder), height, width, dropout: DROPOUT },
                epochs: args.common.epochs.unwrap_or(if set.train_x.dims()[0] > 20_000 { 10 } else { 12 }),
                batch: args.common.batch.unwrap_or(64),
                lr: args.common.lr.unwrap_or(3e-3),
                seed: args.common.seed,
                classes: set.classes.clone(),
            };
            (Run::new(&args.common.folder("images"), config)?, set)
        }
    };
    let Task::Images { height, width, dropout, .. } = &run.config.task else {
        return Err(format!("{} is no run of train images", run.folder.display()).into());
    };
    rushlight::random::manual_seed(run.config.seed);
    let mut model = LeNet::new(*height, *width, run.config.classes.len(), *dropout)?;
    if classify::fit(&run, &mut model, &set, shifted, args.common.start(world))? {
        feature_maps(&run, &mut model, &set)?;
    }
    Ok(())
}

/// A batch moved by at most one pixel, as another photographer would have framed it.
fn shifted(x: &Tensor) -> Outcome<Tensor> {
    let by = Tensor::randint(-1, 2, 2)?.to_vec::<i64>()?;
    Ok(x.pad(&[(by[0], -by[0]), (by[1], -by[1])], 0.0)?)
}

/// The first test image, what the first layer makes of it, and each map pooled: `features.svg` and `.png`.
fn feature_maps(run: &Run, model: &mut LeNet, set: &data::Labelled) -> Outcome {
    const SHOWN: usize = 8;
    model.eval();
    let image = set.test_x.narrow(0, 0, 1)?;
    let (maps, pooled) = no_grad(|| model.first_maps(&image))?;
    let (h, w) = (image.dims()[2], image.dims()[3]);
    let pixels = image.to_vec::<f32>()?;
    let label = set.test_y.select(0, 0)?.item::<i64>()? as usize;
    let name = set.classes.get(label).map_or("image", |n| n.as_str());
    let (maps_data, pooled_data) = (maps.to_vec::<f32>()?, pooled.to_vec::<f32>()?);
    let labels: Vec<String> = (0..SHOWN).map(|i| format!("map {i}")).collect();
    let cell = |data: &'_ [f32], i: usize, h: usize, w: usize| data[i * h * w..(i + 1) * h * w].to_vec();
    let (ph, pw) = (pooled.dims()[2], pooled.dims()[3]);
    let top: Vec<Vec<f32>> = (0..SHOWN).map(|i| cell(&maps_data, i, h, w)).collect();
    let bottom: Vec<Vec<f32>> = (0..SHOWN).map(|i| cell(&pooled_data, i, ph, pw)).collect();
    let mut first = vec![Some(Picture { label: name, pixels: &pixels, height: h, width: w })];
    first.extend((0..SHOWN).map(|i| Some(Picture { label: &labels[i], pixels: &top[i], height: h, width: w })));
    let mut second = vec![None];
    second.extend((0..SHOWN).map(|i| Some(Picture { label: "max-pooled", pixels: &bottom[i], height: ph, width: pw })));
    image_grid(run.path("features"), "What the first layer sees", &[first, second])
}
