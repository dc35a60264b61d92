//! The training loop of a classifier: steps, progress bar, checkpoints, Ctrl-C, and the last table and pictures.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rushlight::Tensor;
use rushlight::data::{DataLoader, TensorDataset};
use rushlight::loss::nll_loss;
use rushlight::nn::Layer;
use rushlight::optim::flow::FlowRecorder;
use rushlight::optim::{AdamW, Optimizer, Schedule};

use crate::classifier::{self, Measured};
use crate::data::Labelled;
use crate::picture::{self, Curves, GradientFlow};
use crate::run::{Metric, Metrics, Progress, Run};
use crate::{Outcome, train};

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

/// Trains `model` as the run's config says; `false` if Ctrl-C ended it early.
pub fn fit(run: &Run, model: &mut impl Layer, set: &Labelled, resume: bool) -> Outcome<bool> {
    catch_interrupt();
    let config = &run.config;
    let mut optimizer = Optimizer::new(AdamW { lr: config.lr, ..AdamW::default() });
    let mut place = Progress::default();
    if resume {
        place = run.load_checkpoint(model, &mut optimizer)?;
        say!("going on with {} at epoch {}, step {}", run.folder.display(), place.epoch + 1, place.step);
    } else {
        run.create(model, &optimizer)?;
    }
    let loader = DataLoader::new(TensorDataset::new([set.train_x.clone(), set.train_y.clone()])?, config.batch)?
        .shuffle(config.seed);
    let schedule = Schedule::one_cycle(loader.len().saturating_mul(config.epochs));
    let mut flow = FlowRecorder::new();
    let mut metrics = run.metrics(place.metrics)?;
    let begin = Instant::now();
    let before = place.seconds;
    let mut saved = Instant::now();
    say!("{}", model.describe());
    say!(
        "{} parameters, {} training and {} test samples, {} threads",
        model.num_parameters(),
        set.train_x.dims()[0],
        set.test_x.dims()[0],
        rushlight::num_threads()
    );
    while place.epoch < config.epochs {
        let bar = bar(loader.len(), place.epoch, config.epochs);
        bar.set_position(place.batch as u64);
        model.train();
        for batch in loader.epoch_from(place.epoch as u64, place.batch) {
            let batch = batch?;
            let (x, y) = (&shifted(&batch[0])?, &batch[1]);
            let lr = config.lr * schedule.factor(place.step as usize);
            optimizer.set_lr(lr);
            let output = model.forward(x)?;
            let loss = nll_loss(&output, y)?;
            let value = loss.item::<f64>()?;
            if !value.is_finite() {
                return Err(diverged(run, &place, value).into());
            }
            let grads = loss.backward()?;
            let look = place.step.is_multiple_of(FLOW_EVERY);
            if look {
                flow.before(&*model);
            }
            optimizer.step(model, &grads)?;
            if look {
                metrics.write(&Metric::Flow(flow.after(place.step, &*model, &grads)?))?;
            }
            let n = y.numel() as u64;
            place.right += classifier::count_right(&output, y)?;
            place.loss_sum += value * n as f64;
            place.seen += n;
            metrics.write(&Metric::Step { step: place.step, loss: value, lr })?;
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
                say!(
                    "stopped at step {}; go on with: rushlight train {} --resume {folder}",
                    place.step,
                    task_name(run)
                );
                return Ok(false);
            }
            if saved.elapsed() > CHECKPOINT_EVERY {
                run.save_checkpoint(model, &optimizer, &place)?;
                saved = Instant::now();
            }
        }
        end_epoch(run, model, set, &mut metrics, &mut place, &bar)?;
        place.seconds = before + begin.elapsed().as_secs_f64();
        run.save_checkpoint(model, &optimizer, &place)?;
        saved = Instant::now();
    }
    run.save_model(model)?;
    report(run, model, set, place.seconds)?;
    Ok(true)
}

/// A batch of images moved by at most one pixel, as another photographer would have framed them; points as they are.
fn shifted(x: &Tensor) -> Outcome<Tensor> {
    if x.rank() != 4 {
        return Ok(x.clone());
    }
    let by = Tensor::randint(-1, 2, 2)?.to_vec::<i64>()?;
    Ok(x.pad(&[(by[0], -by[0]), (by[1], -by[1])], 0.0)?)
}

fn task_name(run: &Run) -> &'static str {
    match run.config.task {
        crate::run::Task::Images { .. } => "images",
        crate::run::Task::Points { .. } => "points",
    }
}

fn diverged(run: &Run, place: &Progress, loss: f64) -> String {
    let folder = run.folder.display();
    format!(
        "the loss is {loss} at step {}; a lower --lr may help. The last checkpoint is {folder}/checkpoint.safetensors",
        place.step
    )
}

/// Measures on the test set, writes the epoch's line, and starts the sums anew.
fn end_epoch(
    run: &Run,
    model: &mut impl Layer,
    set: &Labelled,
    metrics: &mut Metrics,
    place: &mut Progress,
    bar: &ProgressBar,
) -> Outcome {
    let test = Measured::of(model, &set.test_x, &set.test_y, run.config.classes.len())?;
    if !test.loss.is_finite() {
        return Err(diverged(run, place, test.loss).into());
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
        test_accuracy: test.accuracy(),
        seconds: place.seconds,
    })?;
    let line = format!(
        "loss {train_loss:.4}  accuracy {:.2}%  test loss {:.4}  accuracy {:.2}%",
        100.0 * train_accuracy,
        test.loss,
        100.0 * test.accuracy()
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

/// The table per class, and the pictures.
fn report(run: &Run, model: &mut impl Layer, set: &Labelled, seconds: f64) -> Outcome {
    let test = Measured::of(model, &set.test_x, &set.test_y, run.config.classes.len())?;
    say!("\n{}", test.table(&run.config.classes));
    say!("test accuracy {:.2}% after {seconds:.1} s", 100.0 * test.accuracy());
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
            Metric::Flow(record) => train::session::add_flow(&mut flow, &record),
        }
    }
    picture::curves(run.path("curves"), "Loss and accuracy", &curves)?;
    picture::confusion(run.path("confusion"), &run.config.classes, &test.confusion)?;
    picture::gradient_flow(run.path("gradient_flow"), &flow)?;
    say!("model, history and pictures are in {}", run.folder.display());
    Ok(())
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
