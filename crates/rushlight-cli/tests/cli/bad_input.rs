//! Arguments and data that cannot be used: refused with a sentence, before anything is written.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::process::Command;

use crate::helpers::*;

#[test]
fn arguments() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (options, parts) in [
        ("--set square", &["--set", "square", "simple, diag, split, xor, circle, spiral"][..]),
        ("--batch 0", &["--batch 0: expected 1 or more"]),
        ("--batch many", &["--batch", "many"]),
        ("--epochs 0", &["--epochs 0: expected 1 or more"]),
        ("--epochs -3", &["-3"]),
        ("--lr nan", &["--lr NaN: expected a finite rate"]),
        ("--lr inf", &["--lr inf: expected a finite rate"]),
        ("--lr -1", &["--lr -1: expected a finite rate of 0 or more"]),
        ("--lr fast", &["--lr", "fast"]),
        ("--points 1", &["--points 1: expected 2 or more"]),
        ("--points 18446744073709551615", &["--points 18446744073709551615: expected at most"]),
        ("--hidden 0", &["--hidden 0: expected 1 or more"]),
        ("--hidden 18446744073709551615", &["--hidden 18446744073709551615: expected at most"]),
        ("--threads 99999", &["--threads 99999: expected at most"]),
        ("--threads -1", &["-1"]),
        ("--resume run --out run", &["--resume", "--out"]),
        ("--resume run", &["run/config.json", "is run a run folder?"]),
        ("--frobnicate", &["--frobnicate"]),
    ] {
        let out = if options.contains("--resume") { "" } else { "--out new" };
        refused(dir, &format!("train points {options} {out}"), parts);
    }
    refused(dir, "frobnicate", &["frobnicate", "--help"]);
    refused(dir, "train sound", &["sound", "--help"]);
    refused(dir, "eval", &["<RUN>"]);
    refused(dir, "inspect nothing", &["nothing"]);
    // Without a command there is help, and no success.
    let said = run(dir, "");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("Usage: rushlight <COMMAND>"), "{}", said.err);
}

/// What means "as many as there are" or "for ever" is no error.
#[test]
fn the_ends_of_the_ranges() {
    let dir = tempfile::tempdir().unwrap();
    good(dir.path(), "train points --points 2 --hidden 1 --epochs 1 --batch 18446744073709551615 --lr 0 --threads 0");
    let mut child = command(dir.path(), "train points --points 2 --hidden 1 --epochs 18446744073709551615 --out long")
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let metrics = dir.path().join("long/metrics.jsonl");
    while child.try_wait().unwrap().is_none() && fs::metadata(&metrics).map_or(0, |m| m.len()) < 100 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Changes one byte of a file.
fn poke(path: &Path, at: usize, value: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] = value;
    fs::write(path, bytes).unwrap();
}

#[test]
fn image_folders() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let data = dir.join("data");
    let refused = |parts: &[&str]| refused(dir, "train images --data data --epochs 1 --out new", parts);
    let put = |name: &str, bytes: &[u8]| fs::write(data.join(name), bytes).unwrap();
    let again = || {
        let _ = fs::remove_dir_all(&data);
        image_folder(&data, 8, 4, "");
    };

    refused(&["data: no such folder; --data names a folder of the four standard IDX files"]);
    fs::write(&data, "a file").unwrap();
    refused(&["data: no such folder"]);
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    refused(&["data: missing", TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS]);

    again();
    let whole = fs::read(data.join(TRAIN_IMAGES)).unwrap();
    for len in [0, 3, 15, 16, 100, whole.len() - 1] {
        put(TRAIN_IMAGES, &whole[..len]);
        refused(&[TRAIN_IMAGES, &format!("at byte {len}")]);
    }
    put(TRAIN_IMAGES, &[&whole[..], &[0]].concat());
    refused(&[TRAIN_IMAGES, "left over"]);
    put(TRAIN_IMAGES, b"\x1f\x8bgzip, but no more");
    refused(&[TRAIN_IMAGES, "gzip"]);

    again();
    poke(&data.join(TRAIN_LABELS), 10, 200);
    refused(&[TRAIN_LABELS, "label 2 is 200, but there are 4 classes"]);
    again();
    poke(&data.join(TEST_LABELS), 8, 4);
    refused(&[TEST_LABELS, "label 0 is 4, but there are 4 classes"]);
    again();
    fs::copy(data.join(TRAIN_LABELS), data.join(TEST_LABELS)).unwrap();
    refused(&[TEST_LABELS, "8 labels for the 4 images of", TEST_IMAGES]);
    again();
    fs::copy(data.join(TRAIN_LABELS), data.join(TRAIN_IMAGES)).unwrap();
    refused(&[TRAIN_IMAGES, "images have three"]);
    again();
    put(TEST_IMAGES, &[0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8]);
    put(TEST_LABELS, &[0, 0, 8, 1, 0, 0, 0, 0]);
    refused(&[TEST_IMAGES, "no pictures"]);
    again();
    put("classes.txt", b"\n\n");
    refused(&["classes.txt", "no class names"]);
    again();
    put(TRAIN_IMAGES, &[&[0, 0, 8, 3, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 2][..], &[0; 32]].concat());
    put(TEST_IMAGES, &[&[0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 2][..], &[0; 16]].concat());
    refused(&["images of 2 x 2", "too small"]);
}

/// The memory of the command is limited, and the time: what a header claims must cost nothing.
#[cfg(target_os = "linux")]
#[test]
fn headers_that_claim_2_to_the_60_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    image_folder(&dir.join("data"), 4, 4, "");
    let claims = b"\0\0\x08\x03\x40\0\0\0\x40\0\0\0\0\0\0\x01abc";
    fs::write(dir.join("data").join(TRAIN_IMAGES), claims).unwrap();
    fs::write(dir.join("claims.safetensors"), [&(1u64 << 60).to_le_bytes()[..], b"{}"].concat()).unwrap();
    let gguf = [&b"GGUF\x03\0\0\0"[..], &[0; 8], &1u64.to_le_bytes(), &(1u64 << 60).to_le_bytes(), b"key"].concat();
    fs::write(dir.join("claims.gguf"), gguf).unwrap();
    let dict = "{'descr': '|u1', 'fortran_order': False, 'shape': (1125899906842624,)}";
    let npy = [&b"\x93NUMPY\x01\0"[..], &(dict.len() as u16).to_le_bytes(), dict.as_bytes()].concat();
    fs::write(dir.join("claims.npy"), npy).unwrap();
    for (line, parts) in [
        ("train images --data data --out new --threads 1", [TRAIN_IMAGES, "1152921504606846976 bytes"]),
        ("inspect data/train-images-idx3-ubyte", [TRAIN_IMAGES, "1152921504606846976 bytes"]),
        ("inspect claims.safetensors", ["claims.safetensors", "1152921504606846976 bytes"]),
        ("inspect claims.gguf", ["claims.gguf", "1152921504606846976 bytes"]),
        ("convert claims.gguf new.npz", ["claims.gguf", "1152921504606846976 bytes"]),
        ("inspect claims.npy", ["claims.npy", "1125899906842624 bytes"]),
    ] {
        let begin = std::time::Instant::now();
        refused_as(dir, line, &mut limited(dir, "ulimit -v 1000000", line), &parts);
        assert!(begin.elapsed().as_secs() < 10, "{line}");
    }
}

/// However little memory there is: a size, and no abort. Where a training begins, and within its steps.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let line = "train points --points 20000 --batch 20000 --hidden 2048 --epochs 1 --threads 1 --out";
    let mut refusals = 0;
    for (i, limit) in [120_000, 240_000, 400_000].into_iter().enumerate() {
        let line = format!("{line} run-{i}");
        let said = Said::from(limited(dir, &format!("ulimit -v {limit}"), &line).output().unwrap());
        assert_eq!(said.code, Some(1), "{limit} KiB: {}", said.err);
        assert!(said.err.starts_with("error: ") && said.err.ends_with(" bytes\n"), "{limit} KiB: {}", said.err);
        refusals += usize::from(said.err.contains(": cannot allocate "));
    }
    assert!(refusals == 3, "{refusals}");
}

/// The command under limits that the shell sets.
#[cfg(unix)]
pub fn limited(dir: &Path, limits: &str, line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_rushlight")]);
    shell.args(line.split_whitespace()).current_dir(dir);
    shell
}

#[test]
fn places_where_no_run_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let train = "train points --points 4 --hidden 2 --epochs 1";
    good(dir, &format!("{train} --out run"));
    let parts = ["run holds a run already", "--resume run", "--out"];
    refused(dir, &format!("{train} --out run"), &parts);
    image_folder(&dir.join("data"), 4, 4, "");
    refused(dir, "train images --data data --epochs 1 --out run", &parts);
    // What was learned is not overwritten even where config.json was lost.
    fs::remove_file(dir.join("run/config.json")).unwrap();
    refused(dir, &format!("{train} --out run"), &parts);
    fs::create_dir(dir.join("model")).unwrap();
    fs::copy(dir.join("run/model.safetensors"), dir.join("model/model.safetensors")).unwrap();
    refused(dir, &format!("{train} --out model"), &["model holds a run already"]);
    // A folder of other things is one to train in.
    fs::create_dir(dir.join("mine")).unwrap();
    fs::write(dir.join("mine/notes.txt"), "notes").unwrap();
    good(dir, &format!("{train} --out mine"));
    assert_eq!(fs::read_to_string(dir.join("mine/notes.txt")).unwrap(), "notes");
    fs::write(dir.join("file"), "mine").unwrap();
    refused(dir, &format!("{train} --out file"), &["file: "]);
    refused(dir, &format!("{train} --out file/below"), &["file/below: "]);
}

/// Permission bits do not bind root, who skips this.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_to() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        return;
    }
    refused(dir.path(), "train points --points 4 --epochs 1 --out closed/new", &["closed/new: Permission denied"]);
    refused(dir.path(), "train points --points 4 --epochs 1 --out closed", &["closed", "Permission denied"]);
}

#[test]
fn inputs_to_predict_and_inspect() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    image_folder(&dir.join("data"), 8, 4, "");
    good(dir, "train images --data data --epochs 1 --out images");
    good(dir, "train points --points 4 --hidden 2 --epochs 1 --out points");
    refused(dir, "predict images", &["<INPUT>"]);
    refused(dir, "predict images absent.png", &["absent.png: "]);
    fs::write(dir.join("text.png"), "no picture").unwrap();
    refused(dir, "predict images text.png", &["text.png: neither a PNG nor an IDX file"]);
    fs::write(dir.join("cut.png"), b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR").unwrap();
    refused(dir, "predict images cut.png", &["cut.png: "]);
    refused(dir, "predict images data", &["data: "]);
    refused(dir, &format!("predict images data/{TEST_LABELS}"), &[TEST_LABELS, "expected images"]);
    let small = rushlight::data::idx::Idx { dims: vec![1, 4, 4], data: vec![0; 16] };
    rushlight::data::idx::write_idx(dir.join("small"), &small).unwrap();
    refused(dir, "predict images small", &["small: images of 4 x 4, the run was trained on 8 x 8"]);
    for point in ["one", "0.5", "0.1,0.2,0.3", "0.1,x,0.3", "nan,0", "inf,0"] {
        let parts = [&format!("'{point}' is no point"), "two numbers as 0.25,0.75"];
        refused(dir, &format!("predict points {point}"), &parts);
    }

    refused(dir, "eval images --data absent", &["absent: no such folder"]);
    image_folder(&dir.join("five"), 8, 4, "");
    fs::write(dir.join("five/classes.txt"), "a\nb\nc\nd\ne\n").unwrap();
    refused(dir, "eval images --data five", &["five: images of 8 x 8 in 5 classes", "trained on 8 x 8 in 4"]);
    refused(dir, "eval data", &["data/config.json", "is data a run folder?"]);
    refused(dir, "eval absent", &["absent/config.json", "is absent a run folder?"]);
    refused(dir, "train points --resume images", &["images is no run of train points"]);
    refused(dir, "train images --resume points", &["points is no run of train images"]);

    let model = fs::read(dir.join("points/model.safetensors")).unwrap();
    for len in [0, 7, 8, 100, model.len() - 1] {
        fs::write(dir.join("cut.safetensors"), &model[..len]).unwrap();
        refused(dir, "inspect cut.safetensors", &["cut.safetensors: "]);
    }
    refused(dir, "inspect text.png", &["text.png: not a tensor file (safetensors, GGUF"]);
    refused(dir, "inspect data", &["data: the folder has neither model.safetensors nor an index"]);
}
