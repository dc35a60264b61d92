//! Training on one machine or on many: what begins alike on all ranks, and a step that all take together.

use rushlight::nn::Module;
use rushlight::optim::Optimizer;
use rushlight::{Gradients, Tensor, random};

use super::session::{Score, Training};
use super::{Start, World, rows};
use crate::Outcome;
use crate::run::{Progress, Run};

/// A step's gradients and sums, of the whole batch.
pub struct Step {
    pub grads: Gradients,
    pub loss: f64,
    pub right: u64,
    pub seen: u64,
    /// Whether some rank wants an end after it, or a checkpoint.
    pub stop: bool,
    pub save: bool,
}

/// The gradients of the mean loss over the batch, of which each rank computes its rows.
pub fn step<T: Training>(
    task: &T,
    model: &T::Model,
    batch: Vec<Tensor>,
    world: Option<&World>,
    [stop, save]: [bool; 2],
) -> Outcome<Step> {
    let batch = task.vary(batch)?;
    let Some(world) = world else {
        let Score { loss, right, seen } = task.score(model, &batch)?;
        return Ok(Step { loss: loss.item()?, right, seen, stop, save, grads: loss.backward()? });
    };
    let (n, seen) = (batch.first().map_or(0, |t| t.dims()[0]), task.guesses(&batch)?);
    // A rank without rows computes the first one and counts for nothing, so that its generator goes along.
    let mine = rows(n, world.rank(), world.size());
    let (mine, counts) = if mine.is_empty() { (0..1, 0.0) } else { (mine, 1.0) };
    random::with_rows(mine.clone(), n, || {
        let score = task.score(model, &task.part(&batch, mine)?)?;
        let share = counts * score.seen as f64 / seen.max(1) as f64;
        let flag = |on: bool| if on { 1.0 } else { 0.0 };
        let also = [share * score.loss.item::<f64>()?, counts * score.right as f64, flag(stop), flag(save)];
        let (grads, sums) = world.gradients(model, &score.loss, share, &also)?;
        Ok(Step { grads, loss: sums[0], right: sums[1] as u64, seen, stop: sums[2] > 0.0, save: sums[3] > 0.0 })
    })
}

/// Where a training begins, the same on all ranks: what the first one reads or makes, the others get from it.
pub fn begin<T: Training>(run: &Run, task: &T, model: &mut T::Model, start: Start) -> Outcome<(Optimizer, Progress)> {
    let mut optimizer = task.optimizer(run.config.lr);
    let mut place = Progress::default();
    if let Some(world) = start.world {
        let bucket = std::env::var("RUSHLIGHT_BUCKET").ok();
        let settings = (&run.config, task.summary(), start.resume, start.shard_optimizer, bucket);
        let settings = serde_json::to_string(&settings)?;
        if let Some(rank) = world.differs(&settings)? {
            return Err(
                format!("rank {rank} has other settings or other data than rank 0; they must be the same").into()
            );
        }
    }
    if start.is_first() {
        if start.resume {
            place = run.load_checkpoint(model, &mut optimizer)?;
            say!("going on with {} at epoch {}, step {}", run.folder.display(), place.epoch + 1, place.step);
        } else {
            run.create(model, &optimizer)?;
        }
    }
    if let Some(world) = start.world {
        let bits = world.broadcast(&serde_json::to_string(&(&place, random::state()))?)?;
        let generator;
        (place, generator) = serde_json::from_str(&bits)?;
        random::set_state(generator);
        model.load_state_dict(&world.broadcast_state(&model.state_dict())?)?;
        let state = world.broadcast_state(&optimizer.state_dict()?)?;
        optimizer = task.optimizer(run.config.lr);
        if start.shard_optimizer {
            optimizer = optimizer.with_shard(world.shard()?);
        }
        optimizer.load_state_dict(&state)?;
    }
    Ok((optimizer, place))
}

/// Writes a checkpoint, for which all ranks give their part.
pub fn save(run: &Run, model: &impl Module, optimizer: &Optimizer, place: &Progress, start: Start) -> Outcome {
    match start.world {
        Some(world) if start.shard_optimizer => match world.whole_state(optimizer, model)? {
            Some(state) => run.save_checkpoint_of(model, state, place),
            None => Ok(()),
        },
        _ if start.is_first() => run.save_checkpoint(model, optimizer, place),
        _ => Ok(()),
    }
}

/// What to do after a rank is gone: the first one still has all of the last whole step, and saves it. With optimizer
/// states shared out it has not, and the checkpoint before is the last.
pub fn rescue(
    run: &Run,
    model: &impl Module,
    optimizer: &Optimizer,
    place: &Progress,
    start: Start,
    error: Box<dyn std::error::Error + Send + Sync>,
) -> Box<dyn std::error::Error + Send + Sync> {
    let Some(why) = start.world.filter(|_| start.is_first()).and_then(World::lost) else { return error };
    let saved = match start.shard_optimizer {
        true => Ok("the last checkpoint".to_string()),
        false => run.save_checkpoint(model, optimizer, place).map(|()| format!("step {}", place.step)),
    };
    let (command, folder) = (run.config.task.command(), run.folder.display());
    match saved {
        Ok(at) => format!("{why}; go on from {at} with: rushlight {command} --resume {folder}").into(),
        Err(e) => format!("{why}, and no checkpoint could be written ({e}); the one before is in {folder}").into(),
    }
}

/// Ends all ranks because this one cannot go on.
pub fn abort(world: &World, error: &(dyn std::error::Error + Send + Sync)) -> ! {
    if world.rank() == 0 {
        eprintln!("error: {error}");
    } else {
        // What is wrong everywhere, the first rank says, and ends us meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(500));
        eprintln!("error: rank {}: {error}", world.rank());
    }
    world.abort()
}
