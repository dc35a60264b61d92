//! `rushlight train points`: a small network on a point set, and the boundary it draws.

use rushlight::data::points::PointSet;
use rushlight::nn::{Layer, Module};
use rushlight::{DType, Tensor, no_grad};
use rushlight_models::Mlp;

use super::{Common, World, classify};
use crate::picture::decision_boundary;
use crate::run::{Config, Run, Task};
use crate::{Outcome, data};

#[derive(clap::Args)]
pub struct Args {
    /// Which set: simple, diag, split, xor, circle or spiral
    #[arg(long, default_value = "spiral")]
    set: PointSet,
    /// Points to learn from; as many fresh ones are tested on
    #[arg(long, value_name = "N", default_value_t = 800)]
    points: usize,
    /// Width of the two hidden layers
    #[arg(long, value_name = "N", default_value_t = 64)]
    hidden: usize,
    #[command(flatten)]
    common: Common,
}

pub fn main(args: &Args, world: Option<&World>) -> Outcome {
    args.common.set_threads(world)?;
    let run = match &args.common.resume {
        Some(folder) => Run::open(folder)?,
        None => {
            let config = Config {
                version: env!("CARGO_PKG_VERSION").to_string(),
                task: Task::Points {
                    set: args.set.to_string(),
                    count: args.points,
                    widths: vec![2, args.hidden, args.hidden, 2],
                },
                epochs: args.common.epochs.unwrap_or(120),
                batch: args.common.batch.unwrap_or(16),
                lr: args.common.lr.unwrap_or(1e-2),
                seed: args.common.seed,
                classes: vec!["0".into(), "1".into()],
            };
            Run::new(&args.common.folder("points"), config)?
        }
    };
    let Task::Points { set, count, widths } = &run.config.task else {
        return Err(format!("{} is no run of train points", run.folder.display()).into());
    };
    let name: PointSet = set.parse()?;
    let set = data::point_set(name, *count, run.config.seed)?;
    rushlight::random::manual_seed(run.config.seed);
    let mut model = Mlp::new(widths)?;
    if classify::fit(&run, &mut model, &set, |x| Ok(x.clone()), args.common.start(world))? {
        boundary(&run, &mut model, &set, name)?;
    }
    Ok(())
}

/// The probability of class 1 over the unit square with the test points: `boundary.svg` and `.png`.
fn boundary(run: &Run, model: &mut Mlp, set: &data::Labelled, name: PointSet) -> Outcome {
    const SIDE: usize = 120;
    model.eval();
    let axis = Tensor::linspace(-1.0, 1.0, SIDE, DType::F32)?;
    let x = axis.unsqueeze(0)?.expand([SIDE, SIDE])?;
    let y = axis.unsqueeze(1)?.expand([SIDE, SIDE])?;
    let grid = Tensor::stack(&[x, y], -1)?.reshape([SIDE * SIDE, 2])?;
    let p = no_grad(|| model.forward(&grid)?.select(1, 1)?.exp())?.to_vec::<f32>()?;
    let points: Vec<[f32; 2]> =
        set.test_x.to_vec::<f32>()?.chunks(2).map(|c| [(c[0] + 1.0) / 2.0, (c[1] + 1.0) / 2.0]).collect();
    let labels: Vec<bool> = set.test_y.to_vec::<i64>()?.iter().map(|&l| l == 1).collect();
    decision_boundary(run.path("boundary"), &format!("{name}: what the network learned"), &p, &points, &labels)
}
