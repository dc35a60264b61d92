//! The training loop, whatever is trained: steps, progress bar, checkpoints, Ctrl-C, and the curves at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rushlight::Tensor;
use rushlight::nn::Module;
use rushlight::optim::flow::FlowRecorder;
use rushlight::optim::{AdamW, Optimizer, Schedule};

use super::{Start, bad_step};
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

    /// What the model makes of a batch.
    fn score(&self, model: &Self::Model, batch: &[Tensor]) -> Outcome<Score>;

    /// What it makes of the samples it does not learn from.
    fn measure(&self, model: &mut Self::Model) -> Outcome<Test>;

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

/// Trains `model` as the run's config says; the seconds it took, or `None` if Ctrl-C ended it early.
pub fn fit<T: Training>(run: &Run, task: &T, model: &mut T::Model, start: Start) -> Outcome<Option<f64>> {
    catch_interrupt();
    let config = &run.config;
    let mut optimizer = task.optimizer(config.lr);
    let mut place = Progress::default();
    if start.resume {
        place = run.load_checkpoint(model, &mut optimizer)?;
        say!("going on with {} at epoch {}, step {}", run.folder.display(), place.epoch + 1, place.step);
    } else {
        run.create(model, &optimizer)?;
    }
    let schedule = task.schedule(task.batches(0).saturating_mul(config.epochs));
    let mut flow = FlowRecorder::new();
    let mut metrics = run.metrics(place.metrics)?;
    let begin = Instant::now();
    let before = place.seconds;
    let mut saved = Instant::now();
    say!("{}", model.describe());
    say!("{} parameters, {}, {} threads", model.num_parameters(), task.summary(), rushlight::num_threads());
    while place.epoch < config.epochs {
        let bar = bar(task.batches(place.epoch), place.epoch, config.epochs);
        bar.set_position(place.batch as u64);
        model.train();
        for batch in task.epoch(place.epoch, place.batch) {
            let lr = config.lr * schedule.factor(place.step as usize);
            optimizer.set_lr(lr);
            let Score { loss, right, seen } = task.score(model, &batch?)?;
            let value = loss.item::<f64>()?;
            let mut grads = loss.backward()?;
            let norm = match task.clip() {
                Some(most) => grads.clip_norm(most)?,
                None => grads.norm()?,
            };
            if let Some(bad) = bad_step::find(&*model, value, norm, &grads)? {
                if !(start.skip_bad_steps && bad.can_skip()) {
                    return Err(diverged(run, &place, &bad).into());
                }
                place.skipped += 1;
                bar.suspend(|| eprintln!("step {} is left out: {bad}", place.step));
            } else {
                let look = place.step.is_multiple_of(FLOW_EVERY);
                if look {
                    flow.before(&*model);
                }
                optimizer.step(model, &grads)?;
                if look {
                    metrics.write(&Metric::Flow(flow.after(place.step, &*model, &grads)?))?;
                }
                place.right += right;
                place.loss_sum += value * seen as f64;
                place.seen += seen;
                metrics.write(&Metric::Step { step: place.step, loss: value, lr })?;
            }
            place.step += 1;
            place.batch += 1;
            bar.inc(1);
            show(&bar, &place, begin);
            place.seconds = before + begin.elapsed().as_secs_f64();
            place.metrics = metrics.bytes;
            if STOP.load(Ordering::SeqCst) {
                run.save_checkpoint(model, &optimizer, &place)?;
                bar.abandon();
                let folder = run.folder.display();
                let name = config.task.name();
                say!("stopped at step {}; go on with: rushlight train {name} --resume {folder}", place.step);
                return Ok(None);
            }
            if saved.elapsed() > CHECKPOINT_EVERY {
                run.save_checkpoint(model, &optimizer, &place)?;
                saved = Instant::now();
            }
        }
        end_epoch(run, task, model, &mut metrics, &mut place, &bar)?;
        place.seconds = before + begin.elapsed().as_secs_f64();
        run.save_checkpoint(model, &optimizer, &place)?;
        saved = Instant::now();
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

/// Measures on the test set, writes the epoch's line, and starts the sums anew.
fn end_epoch<T: Training>(
    run: &Run,
    task: &T,
    model: &mut T::Model,
    metrics: &mut Metrics,
    place: &mut Progress,
    bar: &ProgressBar,
) -> Outcome {
    let test = task.measure(model)?;
    if !test.loss.is_finite() {
        return Err(diverged(run, place, format_args!("the test loss is {}", test.loss)).into());
    }
    let seen = place.seen.max(1) as f64;
    let (train_loss, train_accuracy) = (place.loss_sum / seen, place.right as f64 / seen);
    place.epoch += 1;
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
    *place = Progress { batch: 0, loss_sum: 0.0, right: 0, seen: 0, metrics: metrics.bytes, ..place.clone() };
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
    picture::gradient_flow(run.path("gradient_flow"), &flow)
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
