//! The training loop, whatever is trained: steps, progress bar, checkpoints, Ctrl-C, and the curves at the end.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rushlight::nn::Module;
use rushlight::optim::flow::FlowRecorder;
use rushlight::optim::{AdamW, Optimizer, Schedule};
use rushlight::{Tensor, random};

use super::{Start, World, bad_step, together};
use crate::Outcome;
use crate::picture::{self, Curves, GradientFlow};
use crate::run::{Metric, Metrics, Progress, Run};

/// Gradients are looked at this often, in steps.
const FLOW_EVERY: u64 = 10;
/// A checkpoint is written at the end of each epoch, and within one after this long.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

static STOP: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C ask for an end; a second one ends at once.
fn catch_interrupt() {
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// What the loop asks of a task.
pub trait Training {
    type Model: Module;

    /// What is learned from and measured on, for the first lines.
    fn summary(&self) -> String;

    /// Batches of an epoch; of the first times the number of epochs is what the schedule goes by.
    fn batches(&self, epoch: usize) -> usize;

    /// The batches of an epoch from number `from` on. What they draw from the generator, or from the run's seed and the
    /// epoch, comes again where a run is gone on with.
    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = rushlight::Result<Vec<Tensor>>> + '_>;

    /// The batch as it is learned from: with what is random in it. The same on all ranks.
    fn vary(&self, batch: Vec<Tensor>) -> Outcome<Vec<Tensor>> {
        Ok(batch)
    }

    /// How many guesses a batch asks for.
    fn guesses(&self, batch: &[Tensor]) -> Outcome<u64> {
        Ok(batch[1].numel() as u64)
    }

    /// The rows `rows` of a batch.
    fn part(&self, batch: &[Tensor], rows: Range<usize>) -> rushlight::Result<Vec<Tensor>> {
        batch.iter().map(|t| t.narrow(0, rows.start, rows.len())).collect()
    }

    /// Makes the model ready for a step, where it has to be.
    fn prepare(&self, _: &mut Self::Model) -> Outcome {
        Ok(())
    }

    /// What the model makes of a batch, or of some rows of it.
    fn score(&self, model: &Self::Model, batch: &[Tensor]) -> Outcome<Score>;

    /// What it makes of the samples it does not learn from.
    fn measure(&self, model: &mut Self::Model) -> Outcome<Test>;

    /// Whether the model knows something before the first step, so that it is measured then too.
    fn knows_something(&self) -> bool {
        false
    }

    /// Whether gradients are looked at, which takes the memory of all that is trained once more.
    fn looks_at_gradients(&self) -> bool {
        true
    }

    fn optimizer(&self, lr: f64) -> Optimizer {
        Optimizer::new(AdamW { lr, ..AdamW::default() })
    }

    fn schedule(&self, steps: usize) -> Schedule {
        Schedule::one_cycle(steps)
    }

    /// The largest norm of all gradients together.
    fn clip(&self) -> Option<f64> {
        None
    }
}

/// A batch: its mean loss, and how many of how many guesses are right.
pub struct Score {
    pub loss: Tensor,
    pub right: u64,
    pub seen: u64,
}

/// The mean loss, and the share that is right.
pub struct Test {
    pub loss: f64,
    pub accuracy: f64,
}

/// Trains `model` as the run's config says; the seconds it took, or `None` if Ctrl-C ended it early, and on all ranks
/// but the first, which has the rest to do.
pub fn fit<T: Training>(run: &Run, task: &T, model: &mut T::Model, start: Start) -> Outcome<Option<f64>> {
    catch_interrupt();
    let (config, first) = (&run.config, start.is_first());
    let (mut optimizer, mut place) = together::begin(run, task, model, start)?;
    let schedule = task.schedule(task.batches(0).saturating_mul(config.epochs));
    let mut flow = FlowRecorder::new();
    let mut metrics = first.then(|| run.metrics(place.metrics)).transpose()?;
    let begin = Instant::now();
    let before = place.seconds;
    let mut saved = Instant::now();
    if first {
        say!("{}", model.describe());
        let ranks = start.world.map_or(String::new(), |world| format!(" on each of {} ranks", world.size()));
        let (n, threads) = (model.num_parameters(), rushlight::num_threads());
        say!("{n} parameters, {}, {threads} threads{ranks}", task.summary());
    }
    if let Some(metrics) = metrics.as_mut().filter(|m| place.step == 0 && m.bytes == 0 && task.knows_something()) {
        let Test { loss, accuracy } = task.measure(model)?;
        say!("test loss {loss:.4}  accuracy {:.2}% before the first step", 100.0 * accuracy);
        let (train_loss, train_accuracy) = (loss, accuracy);
        let (test_loss, test_accuracy, seconds) = (loss, accuracy, before + begin.elapsed().as_secs_f64());
        let line = Metric::Epoch { epoch: 0, step: 0, train_loss, train_accuracy, test_loss, test_accuracy, seconds };
        metrics.write(&line)?;
    }
    while place.epoch < config.epochs {
        let bar =
            if first { bar(task.batches(place.epoch), place.epoch, config.epochs) } else { ProgressBar::hidden() };
        bar.set_position(place.batch as u64);
        model.train();
        let mut generator = random::state();
        for batch in task.epoch(place.epoch, place.batch) {
            let lr = config.lr * schedule.factor(place.step as usize);
            optimizer.set_lr(lr);
            let stop = || STOP.load(Ordering::SeqCst) || start.world.is_some_and(World::is_stopping);
            let wishes = [stop(), first && saved.elapsed() > CHECKPOINT_EVERY];
            task.prepare(model)?;
            let mut step = match together::step(task, &*model, batch?, start.world, wishes) {
                Ok(step) => step,
                Err(e) => {
                    random::set_state(generator);
                    return Err(together::rescue(run, model, &optimizer, &place, start, e));
                }
            };
            let norm = match task.clip() {
                Some(most) => step.grads.clip_norm(most)?,
                None => step.grads.norm()?,
            };
            if let Some(bad) = bad_step::find(&*model, step.loss, norm, &step.grads)? {
                if !(start.skip_bad_steps && bad.can_skip()) {
                    return Err(diverged(run, &place, &bad).into());
                }
                place.skipped += 1;
                if first {
                    bar.suspend(|| eprintln!("step {} is left out: {bad}", place.step));
                }
            } else {
                let look = first && task.looks_at_gradients() && place.step.is_multiple_of(FLOW_EVERY);
                if look {
                    flow.before(&*model);
                }
                optimizer.step(model, &step.grads)?;
                if let (Some(world), true) = (start.world, start.shard_optimizer) {
                    world
                        .exchange(model)
                        .map_err(|e| together::rescue(run, model, &optimizer, &place, start, e.into()))?;
                }
                if let (true, Some(metrics)) = (look, &mut metrics) {
                    metrics.write(&Metric::Flow(flow.after(place.step, &*model, &step.grads)?))?;
                }
                place.right += step.right;
                place.loss_sum += step.loss * step.seen as f64;
                place.seen += step.seen;
                if let Some(metrics) = &mut metrics {
                    metrics.write(&Metric::Step { step: place.step, loss: step.loss, lr })?;
                }
            }
            place.step += 1;
            place.batch += 1;
            bar.inc(1);
            show(&bar, &place, begin);
            place.seconds = before + begin.elapsed().as_secs_f64();
            place.metrics = metrics.as_ref().map_or(0, |metrics| metrics.bytes);
            // Alone, a wish may have come during the step; together, what all know counts.
            if step.stop || start.world.is_none() && stop() {
                together::save(run, model, &optimizer, &place, start)?;
                bar.abandon();
                if first {
                    let folder = run.folder.display();
                    let command = config.task.command();
                    say!("stopped at step {}; go on with: rushlight {command} --resume {folder}", place.step);
                }
                return Ok(None);
            }
            if step.save {
                together::save(run, model, &optimizer, &place, start)?;
                saved = Instant::now();
            }
            generator = random::state();
        }
        end_epoch(run, task, model, metrics.as_mut(), &mut place, &bar)?;
        place.seconds = before + begin.elapsed().as_secs_f64();
        together::save(run, model, &optimizer, &place, start)?;
        saved = Instant::now();
    }
    if !first {
        return Ok(None);
    }
    run.save_model(model)?;
    draw(run)?;
    if place.skipped > 0 {
        say!("{} of {} steps were left out: their loss or gradient was no number", place.skipped, place.step);
    }
    Ok(Some(place.seconds))
}

fn diverged(run: &Run, place: &Progress, what: impl std::fmt::Display) -> String {
    let folder = run.folder.display();
    format!(
        "{what} at step {}; a lower --lr may help. The last checkpoint is {folder}/checkpoint.safetensors",
        place.step
    )
}

/// Begins the next epoch with sums of nothing; the first rank, which has `metrics`, measures on the test set and writes
/// the epoch's line.
fn end_epoch<T: Training>(
    run: &Run,
    task: &T,
    model: &mut T::Model,
    metrics: Option<&mut Metrics>,
    place: &mut Progress,
    bar: &ProgressBar,
) -> Outcome {
    place.epoch += 1;
    if let Some(metrics) = metrics {
        measure(run, task, model, metrics, place, bar)?;
        place.metrics = metrics.bytes;
    }
    *place = Progress { batch: 0, loss_sum: 0.0, right: 0, seen: 0, ..place.clone() };
    Ok(())
}

fn measure<T: Training>(
    run: &Run,
    task: &T,
    model: &mut T::Model,
    metrics: &mut Metrics,
    place: &Progress,
    bar: &ProgressBar,
) -> Outcome {
    let test = task.measure(model)?;
    if !test.loss.is_finite() {
        return Err(diverged(run, place, format_args!("the test loss is {}", test.loss)).into());
    }
    let seen = place.seen.max(1) as f64;
    let (train_loss, train_accuracy) = (place.loss_sum / seen, place.right as f64 / seen);
    metrics.write(&Metric::Epoch {
        epoch: place.epoch,
        step: place.step,
        train_loss,
        train_accuracy,
        test_loss: test.loss,
        test_accuracy: test.accuracy,
        seconds: place.seconds,
    })?;
    let line = format!(
        "loss {train_loss:.4}  accuracy {:.2}%  test loss {:.4}  accuracy {:.2}%",
        100.0 * train_accuracy,
        test.loss,
        100.0 * test.accuracy
    );
    if bar.is_hidden() {
        // Not a terminal: a log of plain lines.
        say!("epoch {:>2}/{}  {line}", place.epoch, run.config.epochs);
    }
    bar.set_message(line);
    bar.finish();
    Ok(())
}

fn bar(steps: usize, epoch: usize, epochs: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    let template = "epoch {prefix} {bar:24.cyan/dim} {pos:>4}/{len} {eta:>4} {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━━╌"));
    }
    bar.set_prefix(format!("{:>width$}/{epochs}", epoch + 1, width = epochs.to_string().len()));
    bar
}

fn show(bar: &ProgressBar, place: &Progress, begin: Instant) {
    let seen = place.seen.max(1) as f64;
    let rate = bar.position() as f64 / bar.elapsed().as_secs_f64().max(1e-9) * seen / place.batch.max(1) as f64;
    bar.set_message(format!(
        "loss {:.4}  accuracy {:.2}%  {rate:.0}/s  {:.0} s",
        place.loss_sum / seen,
        100.0 * place.right as f64 / seen,
        begin.elapsed().as_secs_f64()
    ));
}

/// The pictures of the run's history.
fn draw(run: &Run) -> Outcome {
    let mut curves = Curves { x_name: "step".to_string(), ..Curves::default() };
    let mut flow = GradientFlow::default();
    for metric in run.read_metrics()? {
        match metric {
            Metric::Step { step, loss, .. } => curves.train_loss.push((step as f64, loss)),
            Metric::Epoch { step, train_accuracy, test_loss, test_accuracy, .. } => {
                curves.valid_loss.push((step as f64, test_loss));
                curves.train_accuracy.push((step as f64, train_accuracy));
                curves.valid_accuracy.push((step as f64, test_accuracy));
            }
            Metric::Flow(record) => add_flow(&mut flow, &record),
        }
    }
    picture::curves(run.path("curves"), "Loss and accuracy", &curves)?;
    if flow.steps.is_empty() { Ok(()) } else { picture::gradient_flow(run.path("gradient_flow"), &flow) }
}

/// One look at the gradients as one more column of the picture.
fn add_flow(flow: &mut GradientFlow, record: &rushlight::optim::flow::FlowRecord) {
    if flow.layers.is_empty() {
        flow.layers = record.layers.iter().map(|l| l.name.clone()).collect();
        let rows = vec![vec![]; flow.layers.len()];
        (flow.norm, flow.ratio, flow.dead) = (rows.clone(), rows.clone(), rows);
    }
    flow.steps.push(record.step);
    for (i, layer) in record.layers.iter().enumerate() {
        flow.norm[i].push(layer.grad_norm);
        flow.ratio[i].push(layer.update_ratio.unwrap_or(f64::NAN));
        flow.dead[i].push(layer.dead_units.unwrap_or(f64::NAN));
    }
}
