//! Runs that are stopped or killed, and gone on with: the end is that of a run left alone, to the last bit.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::helpers::*;

/// An optimised program needs more work to be caught at it.
const MORE: usize = if cfg!(debug_assertions) { 1 } else { 40 };

/// Starts `line`, waits until `run` has gone `steps` steps, and sends the signal.
fn stop(dir: &Path, line: &str, run: &str, steps: usize, signal: &str) -> Said {
    let child = command(dir, line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = dir.join(run).join("metrics.jsonl");
    let begin = Instant::now();
    while fs::read_to_string(&metrics).unwrap_or_default().matches("\"kind\":\"step\"").count() < steps {
        assert!(begin.elapsed() < Duration::from_secs(50), "{line}: no {steps} steps");
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "{line}: it had ended before it was stopped");
    child.wait_with_output().unwrap().into()
}

/// Adapters alone are in the checkpoints, and the model that they stand on is read again.
#[test]
fn a_model_that_is_tuned_and_stopped_ends_as_if_it_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    crate::pretrained::small(dir, "llama");
    fs::write(
        dir.join("pairs.tsv"),
        (0..40).map(|i| format!("{}\tabc\n", &"defghijklmnop"[i % 7..][..5])).collect::<String>(),
    )
    .unwrap();
    let options = format!("llama --data pairs.tsv --batch 2 --epochs {}", 4 * MORE);
    good(dir, &format!("finetune {options} --out whole --threads 2"));
    let said = stop(dir, &format!("finetune {options} --out cut --threads 2"), "cut", 10, "-INT");
    let done = of_kind(&metrics(&dir.join("cut")), "step").len();
    let way_on = format!("stopped at step {done}; go on with: rushlight finetune --resume cut\n");
    assert!(said.code == Some(0) && said.out.ends_with(&way_on), "{}{}", said.out, said.err);
    assert!(!dir.join("cut/adapter.safetensors").exists());
    assert!(good(dir, "eval cut").contains("perplexity"));
    let out = good(dir, "finetune --resume cut --threads 1 --merge");
    assert!(out.contains(&format!("step {done}\n")) && out.contains("the whole model is cut/merged"), "{out}");
    assert_eq!(metrics(&dir.join("whole")), metrics(&dir.join("cut")));
    let adapter = |run: &str| fs::read(dir.join(run).join("adapter.safetensors")).unwrap();
    assert!(adapter("whole") == adapter("cut"));
}

/// Trains undisturbed, and stopped by Ctrl-C after `steps` and gone on with; compares.
fn ctrl_c_and_resume(dir: &Path, task: &str, options: &str, steps: usize) {
    good(dir, &format!("train {task} {options} --out whole --threads 2"));
    let said = stop(dir, &format!("train {task} {options} --out cut --threads 2"), "cut", steps, "-INT");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let cut = dir.join("cut");
    let done = of_kind(&metrics(&cut), "step").len();
    let way_on = format!("stopped at step {done}; go on with: rushlight train {task} --resume cut");
    assert!(said.out.ends_with(&format!("{way_on}\n")), "{way_on}: {}", said.out);
    assert!(done >= steps && done < of_kind(&metrics(&dir.join("whole")), "step").len(), "stopped too late: {done}");
    let mut files = names(&cut);
    files.retain(|name| name != "tokenizer.json");
    assert_eq!(files, ["checkpoint.previous.safetensors", "checkpoint.safetensors", "config.json", "metrics.jsonl"]);
    // A run that has not ended can be looked at.
    assert!(good(dir, "eval cut").contains("loss"));

    let out = good(dir, &format!("train {task} --resume cut --threads 1"));
    assert!(out.contains("going on with cut at epoch ") && out.contains(&format!("step {done}\n")), "{out}");
    assert_same_run(&dir.join("whole"), &cut);
    assert_eq!(names(&dir.join("whole")), names(&cut));
}

#[test]
fn points_stopped_within_an_epoch_end_as_if_they_were_not() {
    let dir = tempfile::tempdir().unwrap();
    let options = format!("--set spiral --points 200 --batch 4 --hidden 32 --epochs {}", 16 * MORE);
    ctrl_c_and_resume(dir.path(), "points", &options, 70);
}

/// Dropout and shifts draw from the generator, whose state must come back.
#[test]
fn images_stopped_within_an_epoch_end_as_if_they_were_not() {
    let dir = tempfile::tempdir().unwrap();
    image_folder(&dir.path().join("data"), 24, 8, "");
    ctrl_c_and_resume(dir.path(), "images", &format!("--data data --batch 2 --epochs {}", 3 * MORE), 14);
}

#[test]
fn texts_stopped_within_an_epoch_end_as_if_they_were_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    crate::texts::labelled(&dir.join("data.tsv"), 40);
    ctrl_c_and_resume(dir, "sentiment", &format!("--data data.tsv --batch 2 --epochs {}", 3 * MORE), 10);
    fs::remove_dir_all(dir.join("cut")).unwrap();
    fs::remove_dir_all(dir.join("whole")).unwrap();
    crate::texts::poem(&dir.join("poem.txt"), 100);
    ctrl_c_and_resume(
        dir,
        "gpt",
        &format!("--data poem.txt --layers 1 --width 16 --block 16 --batch 2 --steps {}", 30 * MORE),
        10,
    );
}

#[test]
fn translations_stopped_within_an_epoch_end_as_if_they_were_not() {
    let dir = tempfile::tempdir().unwrap();
    crate::translations::pairs(&dir.path().join("data.tsv"), 60);
    let sizes = "--vocab 300 --layers 1 --heads 2 --width 16 --hidden 16";
    ctrl_c_and_resume(dir.path(), "translate", &format!("--data data.tsv {sizes} --batch 4 --epochs {}", 3 * MORE), 10);
}

/// No checkpoint was written since the start: the history since then is cut and comes again.
#[test]
fn a_run_killed_in_its_first_epoch_can_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let options = format!("--set diag --points {} --batch 2 --hidden 16 --epochs 1", 1000 * MORE);
    good(dir, &format!("train points {options} --out whole"));
    let said = stop(dir, &format!("train points {options} --out cut"), "cut", 5, "-KILL");
    assert_eq!(said.code, None);
    assert!(of_kind(&metrics(&dir.join("cut")), "step").len() >= 5);
    let out = good(dir, "train points --resume cut");
    assert!(out.contains("going on with cut at epoch 1, step 0\n"), "{out}");
    assert_same_run(&dir.join("whole"), &dir.join("cut"));
}

/// Lines after the checkpoint, as a killed run leaves them, are cut.
#[test]
fn going_on_with_a_finished_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, "train points --points 20 --hidden 4 --epochs 2 --out one");
    copy(&dir.join("one"), &dir.join("two"));
    let history = dir.join("two/metrics.jsonl");
    let later = r#"{"kind":"step","step":4,"loss":1.0,"lr":0.1}"#;
    fs::write(&history, format!("{}{later}\n{{\"kind", fs::read_to_string(&history).unwrap())).unwrap();
    let out = good(dir, "train points --resume two");
    assert!(out.contains("test accuracy"), "{out}");
    assert!(snapshot(&dir.join("one")).into_values().eq(snapshot(&dir.join("two")).into_values()));
}

/// After a power cut the history can be shorter than the checkpoint says.
#[test]
fn a_history_that_lost_its_end_does_not_stop_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, "train points --points 64 --hidden 4 --epochs 2 --out one");
    let (path, model) = (dir.join("one/metrics.jsonl"), fs::read(dir.join("one/model.safetensors")).unwrap());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    good(dir, "train points --resume one");
    let kept = fs::read(&path).unwrap();
    assert!(whole.starts_with(&kept) && kept.ends_with(b"\n") && kept.len() > whole.len() / 4);
    assert_eq!(fs::read(dir.join("one/model.safetensors")).unwrap(), model);
}
