//! Running the command, and the small data it is run on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rushlight::data::idx::{Idx, write_idx};
use serde_json::Value;

pub const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
pub const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
pub const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
pub const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// The command in `folder`; the words of `line` are its arguments.
pub fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rushlight"));
    command.args(line.split_whitespace()).current_dir(folder);
    command
}

/// What a command said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        // One way to write paths, on Windows too.
        let text = |bytes| String::from_utf8(bytes).unwrap().replace('\\', "/");
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

pub fn run(folder: &Path, line: &str) -> Said {
    command(folder, line).output().unwrap().into()
}

/// The output of a command that is to succeed.
pub fn good(folder: &Path, line: &str) -> String {
    let said = run(folder, line);
    assert_eq!(said.code, Some(0), "{line}: {}", said.err);
    said.out
}

/// Asserts that a command refuses: with an error code, a message that has all `parts`, and every file as it was.
pub fn refused(folder: &Path, line: &str, parts: &[&str]) {
    refused_as(folder, line, &mut command(folder, line), parts);
}

/// [`refused`] for a command that was set up otherwise.
pub fn refused_as(folder: &Path, line: &str, command: &mut Command, parts: &[&str]) {
    let before = snapshot(folder);
    let said = Said::from(command.output().unwrap());
    assert!(matches!(said.code, Some(1 | 2)), "{line}: code {:?}: {}", said.code, said.err);
    assert!(said.err.starts_with("error: ") && !said.err.contains("panicked"), "{line}: {}", said.err);
    for part in parts {
        assert!(said.err.contains(part), "{line}: no '{part}' in: {}", said.err);
    }
    let after = snapshot(folder);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "{line}");
    assert!(before == after, "{line}: a file has changed");
}

/// Every file below `folder` with its bytes; a folder is there as an empty file.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
            files.insert(path, vec![]);
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// The 8 × 8 picture number `i` of class `i % 4`: a bar of two bright rows, further down for each class.
pub fn picture(i: usize) -> Vec<u8> {
    let row = 2 * (i % 4);
    (0..64).map(|at| if (row..row + 2).contains(&(at / 8)) { 200 + (i % 40) as u8 } else { 0 }).collect()
}

/// A folder of `train` and `test` pictures in four classes; each name of the four IDX files ends in `suffix`.
pub fn image_folder(folder: &Path, train: usize, test: usize, suffix: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("classes.txt"), "top\nupper\nlower\nbottom\n").unwrap();
    for (images, labels, n) in [(TRAIN_IMAGES, TRAIN_LABELS, train), (TEST_IMAGES, TEST_LABELS, test)] {
        let pixels = Idx { dims: vec![n, 8, 8], data: (0..n).flat_map(picture).collect() };
        write_idx(folder.join(format!("{images}{suffix}")), &pixels).unwrap();
        let classes = Idx { dims: vec![n], data: (0..n).map(|i| i as u8 % 4).collect() };
        write_idx(folder.join(format!("{labels}{suffix}")), &classes).unwrap();
    }
}

/// The lines of a run's metrics.jsonl without the times, which alone may differ between equal runs.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("seconds");
    }
    lines
}

/// The metrics of one kind: `step`, `epoch` or `flow`.
pub fn of_kind(metrics: &[Value], kind: &str) -> Vec<Value> {
    metrics.iter().filter(|m| m["kind"] == kind).cloned().collect()
}

/// Asserts that two runs made the same network and history to the last bit.
pub fn assert_same_run(a: &Path, b: &Path) {
    assert_eq!(metrics(a), metrics(b));
    let model = |run: &Path| fs::read(run.join("model.safetensors")).unwrap();
    assert!(model(a) == model(b), "{} and {} hold different models", a.display(), b.display());
}

/// Asserts that a finished run's folder holds its files and these pictures, each as SVG and PNG, and nothing else.
pub fn assert_whole(run: &Path, pictures: &[&str]) {
    assert_whole_with(run, pictures, &[]);
}

/// [`assert_whole`] for a run that leaves other files as well.
pub fn assert_whole_with(run: &Path, pictures: &[&str], others: &[&str]) {
    let mut expected: Vec<String> = [
        "checkpoint.previous.safetensors",
        "checkpoint.safetensors",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    ]
    .map(String::from)
    .to_vec();
    expected.extend(others.iter().map(|name| name.to_string()));
    expected.extend(pictures.iter().flat_map(|p| [format!("{p}.svg"), format!("{p}.png")]));
    expected.sort();
    assert_eq!(names(run), expected);
    for name in pictures {
        let svg = fs::read_to_string(run.join(format!("{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}.svg");
        let file = std::io::BufReader::new(fs::File::open(run.join(format!("{name}.png"))).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(reader.info().width >= 100 && reader.info().height >= 100, "{name}.png");
        assert!(pixels.iter().any(|p| *p != pixels[0]), "{name}.png is of one colour");
    }
}

/// The percentages that `predict` shows for each input, by class name.
pub fn distributions(out: &str) -> Vec<BTreeMap<String, f64>> {
    let mut found: Vec<BTreeMap<String, f64>> = vec![];
    for line in out.lines() {
        if !line.starts_with("  ") {
            found.push(BTreeMap::new());
            continue;
        }
        let mut words = line.split_whitespace();
        let (class, percent) = (words.next().unwrap(), words.next().unwrap());
        let percent = percent.strip_suffix('%').unwrap().parse().unwrap();
        found.last_mut().unwrap().insert(class.to_string(), percent);
    }
    found
}
