//! Run folders that were damaged, and disks that are full.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::helpers::*;

/// A finished run of `train points` named `run`.
fn finished(dir: &Path) {
    good(dir, "train points --set xor --points 64 --hidden 32 --epochs 1 --out run");
}

/// Rewrites the run's config.json with one value changed, by its JSON pointer; `Null` takes the field away.
fn edit(dir: &Path, config: &Value, place: &str, value: Value) {
    let mut config = config.clone();
    if value.is_null() {
        config.as_object_mut().unwrap().remove(&place[1..]).unwrap();
    } else {
        *config.pointer_mut(place).unwrap() = value;
    }
    fs::write(dir.join("run/config.json"), config.to_string()).unwrap();
}

/// What earlier versions wrote: the task's name first, then its settings in their own order. And what is not known.
#[test]
fn config_json_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finished(dir);
    let path = dir.join("run/config.json");
    let now = fs::read_to_string(&path).unwrap();
    assert!(now.contains("\"task\": {\n    \"task\": \"points\",\n    \"count\": 64,\n"), "{now}");
    let config: Value = serde_json::from_str(&now).unwrap();
    let said = good(dir, "eval run");
    let task = r#"{"set": "xor", "note": [1], "widths": [2, 32, 32, 2], "count": 64"#;
    for task in [format!(r#"{task}, "task": "points"}}"#), task.replacen('{', r#"{"task": "points", "#, 1) + "}"] {
        let mut old = config.clone();
        old["task"] = Value::Null;
        fs::write(&path, old.to_string().replace(r#""task":null"#, &format!(r#""task":{task}"#))).unwrap();
        assert_eq!(good(dir, "eval run"), said);
    }
}

#[test]
fn config_json() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finished(dir);
    let refused = |parts: &[&str]| {
        for line in ["eval run", "predict run 0.1,0.2", "train points --resume run"] {
            refused(dir, line, &[&["run/config.json: "], parts].concat());
        }
    };
    let config: Value = serde_json::from_slice(&fs::read(dir.join("run/config.json")).unwrap()).unwrap();
    for (text, part) in [("", "EOF"), ("no JSON", "line 1"), ("[]", "invalid length"), ("{}", "missing field")] {
        fs::write(dir.join("run/config.json"), text).unwrap();
        refused(&[part]);
    }
    fs::write(dir.join("run/config.json"), b"\xff\xfe{").unwrap();
    refused(&["line 1"]);
    for field in ["task", "epochs", "batch", "lr", "seed", "classes", "version"] {
        edit(dir, &config, &format!("/{field}"), Value::Null);
        refused(&[&format!("missing field `{field}`")]);
    }
    let huge = u64::MAX;
    for (place, value, part) in [
        ("/task/task", json!("sound"), "unknown variant `sound`, expected one of `images`, `points`"),
        ("/task/set", json!("square"), "no point set \"square\"; there are simple"),
        ("/task/count", json!(0), "points 0: expected 2 or more"),
        ("/task/count", json!(huge), "points 18446744073709551615: expected at most"),
        ("/task/count", json!(-1), "invalid value"),
        ("/task/widths", json!([]), "widths []"),
        ("/task/widths", json!([2, 32, 32, 3]), "widths [2, 32, 32, 3]"),
        ("/task/widths", json!([2, huge, 2]), "hidden 18446744073709551615: expected at most"),
        ("/epochs", json!(0), "epochs 0: expected 1 or more"),
        ("/batch", json!(0), "batch 0: expected 1 or more"),
        ("/lr", json!(-0.5), "lr -0.5: expected a finite rate"),
        ("/lr", json!("fast"), "lr: invalid type: string \"fast\""),
        ("/classes", json!(["one", 2]), "classes[1]: invalid type: integer `2`, expected a string"),
        ("/task", json!("points"), "task: invalid type: string \"points\", expected a map"),
        ("/task/task", json!(1), "task: task: expected a name, not 1"),
        ("/task/count", json!("many"), "task: count: invalid type: string \"many\", expected usize"),
        ("/task/widths", json!([2, "wide", 2]), "task: widths[1]: invalid type: string \"wide\""),
        ("/task", json!({"task": "points", "set": "xor", "count": 9}), "task: missing field `widths`"),
        ("/classes", json!(["one"]), "for 1 classes"),
        ("/task", json!({"task": "images", "data": "d", "height": huge, "width": 8, "dropout": 0.0}), "at most 4096"),
    ] {
        edit(dir, &config, place, value);
        refused(&[part]);
    }
    // Widths that are possible, but not those of the network in the files.
    edit(dir, &config, "/task/widths", json!([2, 16, 16, 2]));
    crate::helpers::refused(dir, "eval run", &["run/model.safetensors: ", "layers.0.weight"]);
    crate::helpers::refused(dir, "train points --resume run", &["run/checkpoint.safetensors: ", "layers.0.weight"]);
}

/// A stranger's run folder may ask for more memory than there is: its own files say what it can need.
#[test]
fn networks_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finished(dir);
    let run = dir.join("run");
    let wide = json!({"version": "0.1.0", "epochs": 1, "batch": 1, "lr": 0.1, "seed": 0, "classes": ["a", "b"],
        "task": {"task": "points", "set": "xor", "count": 64, "widths": [2, 65536, 65536, 65536, 2]}});
    let mut images = wide.clone();
    images["task"] = json!({"task": "images", "data": "d", "height": 4096, "width": 4096, "dropout": 0.0});
    let mut gpt = wide.clone();
    gpt["task"] = json!({"task": "gpt", "data": "d", "steps": 1, "config": {"vocab_size": 300, "block_size": 8,
        "n_layer": 1024, "n_head": 1, "n_embd": 32768, "dropout": 0.0, "bias": true}});
    let mut translate = wide.clone();
    translate["task"] = json!({"task": "translate", "data": "d", "config": {"vocab_size": 300, "positions": 8,
        "encoder_layers": 1, "decoder_layers": 1, "heads": 1, "width": 32768, "hidden": 131072, "dropout": 0.0}});
    let mut sentiment = wide.clone();
    sentiment["task"] = json!({"task": "sentiment", "data": "d", "test": null, "model": "cnn",
        "sizes": {"vocab": 1048576, "length": 8, "width": 4096, "dropout": 0.0}});
    for config in [wide, images, gpt, translate, sentiment] {
        fs::write(run.join("config.json"), config.to_string()).unwrap();
        let name = config["task"]["task"].as_str().unwrap();
        for line in ["eval run".to_string(), format!("train {name} --resume run")] {
            refused(dir, &line, &["run/config.json: asks for a network of", "the folder's files have"]);
        }
    }
}

/// Links in a stranger's run folder: what they lead to is neither read nor written.
#[cfg(unix)]
#[test]
fn files_that_lead_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finished(dir);
    fs::write(dir.join("mine"), "what must not be written\n").unwrap();
    for name in ["metrics.jsonl", "model.safetensors", "checkpoint.safetensors", "config.json"] {
        let path = dir.join("run").join(name);
        let old = fs::read(&path).unwrap();
        for target in [dir.join("mine"), dir.join("absent"), "/dev/zero".into()] {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&target, &path).unwrap();
            for line in ["eval run", "train points --resume run"] {
                let said = run(dir, line);
                assert_eq!(said.code, Some(1), "{line}: {}", said.err);
                assert!(said.err.contains(&format!("run/{name}: a symbolic link")), "{line}: {}", said.err);
            }
            assert!(!dir.join("absent").exists());
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, old).unwrap();
    }
    assert_eq!(fs::read_to_string(dir.join("mine")).unwrap(), "what must not be written\n");
    good(dir, "eval run");
}

#[test]
fn checkpoints_that_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finished(dir);
    let path = dir.join("run/checkpoint.safetensors");
    fs::remove_file(dir.join("run/checkpoint.previous.safetensors")).unwrap();
    let whole = fs::read(&path).unwrap();
    // Without a model, eval takes the checkpoint's.
    fs::remove_file(dir.join("run/model.safetensors")).unwrap();
    good(dir, "eval run");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for len in [0, 5, 8, 9, header / 2, header, header + 1, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        for line in ["eval run", "predict run 0.1,0.2", "train points --resume run"] {
            refused(dir, line, &["run/checkpoint.safetensors: "]);
        }
    }
    fs::remove_file(&path).unwrap();
    refused(dir, "train points --resume run", &["run/checkpoint.safetensors: "]);
    // A model is a good file, but no checkpoint.
    good(dir, "train points --set xor --points 64 --hidden 32 --epochs 1 --out other");
    fs::copy(dir.join("other/model.safetensors"), &path).unwrap();
    refused(dir, "train points --resume run", &["run/checkpoint.safetensors: no progress in it; not a checkpoint"]);
}

/// A flipped bit anywhere is found; the checkpoint before leads to the same end, and a network that is damaged is refused.
#[test]
fn checkpoints_with_flipped_bits() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finished(dir);
    let run = dir.join("run");
    let good_files = snapshot(&run);
    let restore = || {
        fs::remove_dir_all(&run).unwrap();
        fs::create_dir(&run).unwrap();
        good_files.iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    };
    let flip = |name: &str, at: usize| {
        let mut bytes = good_files[&run.join(name)].clone();
        bytes[at] ^= 1;
        fs::write(run.join(name), bytes).unwrap();
    };
    let (newest, previous) = ("checkpoint.safetensors", "checkpoint.previous.safetensors");
    let whole = &good_files[&run.join(newest)];
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let step = |ends: std::ops::Range<usize>, n: usize| ends.clone().step_by(ends.len().div_ceil(n));
    for at in (0..8).chain(step(8..header, 12)).chain(step(header..whole.len(), 8)) {
        if whole[at] == b' ' {
            continue; // between the header's JSON and the elements: no content
        }
        flip(newest, at);
        fs::remove_file(run.join("model.safetensors")).unwrap();
        let said = Said::from(command(dir, "train points --resume run").output().unwrap());
        assert_eq!(said.code, Some(0), "byte {at}: {}", said.err);
        let start = "warning: run/checkpoint.safetensors: ";
        assert!(said.err.contains(start) && said.err.contains("the checkpoint before it is used"), "{}", said.err);
        assert!(said.out.contains("at epoch 1, step 0\n"), "{}", said.out);
        let model = run.join("model.safetensors");
        assert!(fs::read(&model).unwrap() == good_files[&model], "byte {at}");
        // Put aside, not taken for the previous one.
        assert!(run.join("checkpoint.damaged.safetensors").exists());
        assert!(fs::read(run.join(previous)).unwrap() == good_files[&run.join(previous)]);
        restore();

        flip("model.safetensors", at.min(good_files[&model].len() - 1));
        refused(dir, "eval run", &["run/model.safetensors: ", "rushlight train points --resume run makes it anew"]);
        restore();
    }
    flip(newest, whole.len() - 1);
    flip(previous, good_files[&run.join(previous)].len() - 1);
    refused(
        dir,
        "train points --resume run",
        &[
            "run/checkpoint.safetensors: its content is damaged",
            "and the one before: run/checkpoint.previous.safetensors: ",
        ],
    );
    restore();
    // A run killed between two names has the previous one alone.
    fs::remove_file(run.join(newest)).unwrap();
    good(dir, "train points --resume run");
    assert!(fs::read(run.join("model.safetensors")).unwrap() == good_files[&run.join("model.safetensors")]);
}

/// The loss that is no number ends a run before its files are overwritten with it.
#[test]
fn a_loss_that_is_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // In the third step; and after the last step, on the test points.
    for (name, options, loss) in
        [("within", "--points 64 --skip-bad-steps", "the loss is "), ("after", "--points 16", "the test loss is ")]
    {
        let line = format!("train points --set xor {options} --batch 16 --epochs 1 --lr 1e30 --out {name}");
        let said = run(dir, &line);
        assert_eq!(said.code, Some(1), "{}", said.err);
        let parts = ["error: ", loss, "--lr", &format!("{name}/checkpoint.safetensors")];
        assert!(parts.iter().all(|p| said.err.contains(p)), "{}", said.err);
        assert_eq!(names(&dir.join(name)), ["checkpoint.safetensors", "config.json", "metrics.jsonl"]);
        assert!(good(dir, &format!("eval {name}")).contains("test loss 0.")); // the start's weights, not NaN
    }
}

/// A limit on the size of files, with its signal ignored, fails a write as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk() {
    use crate::bad_input::limited;

    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // In units of 512 or 1024 bytes. The checkpoint takes more than either, config.json less.
    let full = "trap '' XFSZ; ulimit -f 4";
    let line = "train points --set xor --points 64 --hidden 32 --epochs 1 --out new";
    refused_as(dir, line, &mut limited(dir, full, line), &["new/.rushlight-checkpoint.tmp: File too large"]);
    fs::create_dir(dir.join("new")).unwrap();
    refused_as(dir, line, &mut limited(dir, full, line), &["new/.rushlight-checkpoint.tmp: File too large"]);

    finished(dir);
    let config = fs::read_to_string(dir.join("run/config.json")).unwrap();
    fs::write(dir.join("run/config.json"), config.replace("\"epochs\": 1", "\"epochs\": 3")).unwrap();
    copy(&dir.join("run"), &dir.join("whole"));
    let line = "train points --resume run --threads 1";
    let before = snapshot(&dir.join("run"));
    let said = Said::from(limited(dir, full, line).output().unwrap());
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.starts_with("error: run/") && said.err.contains("File too large"), "{}", said.err);
    for (file, bytes) in snapshot(&dir.join("run")) {
        assert!(file.ends_with("metrics.jsonl") || before[&file] == bytes, "{} has changed", file.display());
    }
    // With room again it goes on as if nothing had been.
    good(dir, "train points --resume run");
    good(dir, "train points --resume whole");
    assert_same_run(&dir.join("whole"), &dir.join("run"));
}

/// A checkpoint that is whole, with a checksum, and says what no training does.
#[test]
fn checkpoints_with_impossible_progress() {
    use rushlight::io::{load_checked, save_checked};
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    finished(dir);
    let path = dir.join("run/checkpoint.safetensors");
    fs::remove_file(dir.join("run/model.safetensors")).unwrap();
    let (tensors, metadata) = load_checked(&path).unwrap();
    let set = |what: &str, value: &str| {
        let mut progress: serde_json::Value = serde_json::from_str(&metadata["progress"]).unwrap();
        progress[what] = serde_json::from_str(value).unwrap();
        let mut metadata = metadata.clone();
        metadata.insert("progress".to_string(), progress.to_string());
        save_checked(&path, &tensors, &metadata).unwrap();
    };
    for (what, value, says) in [
        ("step", "18446744073709551615", "step 18446744073709551615 in its progress: no training comes so far"),
        ("epoch", "9223372036854775807", "epoch 9223372036854775807 in its progress"),
        ("batch", "1e3", "progress: batch: invalid type: floating point"),
        ("seen", "-1", "progress: seen: invalid value: integer"),
        ("seconds", "-5.0", "seconds -5 in its progress"),
        ("loss_sum", "null", "progress: loss_sum: invalid type: null"),
        ("right", "281474976710657", "right 281474976710657 in its progress"),
    ] {
        set(what, value);
        refused(dir, "train points --resume run", &["run/checkpoint.safetensors: ", says]);
    }
    // More lines of metrics than there are, more epochs than were asked for: nothing is left to do.
    set("metrics", "281474976710656");
    good(dir, "train points --resume run");
    set("epoch", "1000000");
    good(dir, "train points --resume run");
}
