//! Every reader of what strangers write, as a function of bytes: it may refuse, and do nothing worse.
//!
//! libFuzzer calls these (`scripts/fuzz.sh`), and so does an ordinary test over the files in `seeds/`
//! (`crates/rushlight-models/tests/corpus.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use rushlight::data::csv::{Dialect, read_table};
use rushlight::data::idx::read_idx;
use rushlight::io::{TensorFile, load_checked};
use rushlight::nn::{Linear, Module, StateDict};
use rushlight::optim::{AdamW, Optimizer};
use rushlight::{DType, Result, Tensor};
use rushlight_models::Pretrained;
use rushlight_models::text::Tokenizer;

/// All of them, under the names of their folders in `seeds/`.
pub const READERS: [(&str, fn(&[u8])); 13] = [
    ("idx", idx),
    ("csv", csv),
    ("npy", npy),
    ("npz", npz),
    ("safetensors", safetensors),
    ("gguf", gguf),
    ("pickle", pickle),
    ("tokenizer", tokenizer),
    ("config", config),
    ("run", run),
    ("checkpoint", checkpoint),
    ("einsum", einsum),
    ("index", index),
];

#[allow(dead_code)] // the command line has more uses for it
#[path = "../crates/rushlight-cli/src/config.rs"]
mod run_config;

/// The bytes as a file of this name, in a folder of this process.
fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = folder(name).join(name);
    // A new file each time: one that is mapped must not change.
    let _ = fs::remove_file(&path);
    fs::write(&path, data).expect("a file for the bytes");
    path
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("rushlight-fuzz-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the bytes");
    folder
}

/// Everything that a file of tensors holds, read.
fn read_all(path: &Path) -> Result<()> {
    let file = TensorFile::open(path)?;
    for info in file.infos() {
        file.tensor(&info.name)?.to_f64_vec()?;
    }
    file.load().map(drop)
}

pub fn idx(data: &[u8]) {
    let _ = read_idx(file("a-ubyte", data));
}

/// The first byte says how it is read.
pub fn csv(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let dialect = Dialect::of(if how & 1 == 0 { "a.csv" } else { "a.tsv" });
    if let Ok(table) = read_table(file("a.csv", data), dialect, how & 2 == 0) {
        let _ = table.header();
        let _ = table.parse::<f64>(0);
        let _ = table.column("name");
    }
}

pub fn npy(data: &[u8]) {
    let _ = read_all(&file("a.npy", data));
}

pub fn npz(data: &[u8]) {
    let _ = read_all(&file("a.npz", data));
}

pub fn safetensors(data: &[u8]) {
    let _ = read_all(&file("a.safetensors", data));
}

/// As tensors, and as a network with its tokenizer.
pub fn gguf(data: &[u8]) {
    let path = file("a.gguf", data);
    let _ = read_all(&path);
    let _ = Pretrained::load(&path);
}

pub fn pickle(data: &[u8]) {
    let _ = read_all(&file("a.pt", data));
}

pub fn tokenizer(data: &[u8]) {
    let Ok(tokenizer) = Tokenizer::load(file("tokenizer.json", data)) else { return };
    if let Ok(ids) = tokenizer.encode("Hello, wörld  42!\n") {
        let _ = tokenizer.decode(&ids);
    }
    let _ = tokenizer.encode_framed(&["a b"]);
    let _ = tokenizer.decode(&[0, 1, 2, i64::MAX]);
}

/// The configuration of a network whose file of tensors is empty: nothing of what it claims is there.
pub fn config(data: &[u8]) {
    let path = file("config.json", data);
    let folder = path.parent().expect("it lies in a folder");
    fs::write(folder.join("model.safetensors"), b"\x08\0\0\0\0\0\0\0{}      ").expect("a file without tensors");
    let _ = Pretrained::load(folder);
}

/// The configuration of a run of one's own, as the command line reads it; networks that are small are made.
pub fn run(data: &[u8]) {
    use run_config::{Config, Task};
    let Ok(config) = Config::read(&file("run.json", data)) else { return };
    let again = serde_json::to_string(&config).expect("what was read is written");
    let twice = Config::read(&file("run.json", again.as_bytes())).expect("and is read again");
    // JSON knows no NaN, and an f64 comes back as it was.
    assert_eq!(config, twice);
    let _ = (config.task.name(), config.task.vocab());
    if config.least_bytes() > 1 << 20 {
        return;
    }
    match &config.task {
        Task::Gpt { config, .. } if config.n_head <= 64 && config.n_layer <= 8 => {
            let _ = rushlight_models::Gpt::new(config);
        }
        Task::Translate { config, .. } if config.positions * config.width <= 1 << 18 => {
            let _ = rushlight_models::Translator::new(config);
        }
        Task::Points { widths, .. } => _ = rushlight_models::Mlp::new(widths),
        Task::Images { height, width, dropout, .. } => {
            let _ = rushlight_models::LeNet::new(*height, *width, config.classes.len(), *dropout);
        }
        _ => {}
    }
}

/// A network and its optimizer, as far as the names fit.
pub fn checkpoint(data: &[u8]) {
    let path = file("checkpoint.safetensors", data);
    let _ = read_all(&path);
    let Ok((all, _)) = load_checked(&path) else { return };
    let part = |prefix: &str| -> StateDict {
        all.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
    };
    let mut model = Linear::new(2, 3).expect("a layer");
    let _ = model.load_state_dict(&part("model."));
    let mut optimizer = Optimizer::new(AdamW::default());
    if optimizer.load_state_dict(&part("optimizer.")).is_ok() {
        let step = || -> Result<()> {
            let loss = rushlight::nn::Layer::forward(&model, &Tensor::ones([1, 2], DType::F32)?)?.sum(..)?;
            let grads = loss.backward()?;
            optimizer.step(&mut model, &grads)
        };
        let _ = { step }();
    }
}

/// The first byte says which shapes the operands have; the rest is the equation.
pub fn einsum(data: &[u8]) {
    let Some((shapes, equation)) = data.split_first() else { return };
    let equation = String::from_utf8_lossy(equation);
    let shape: &[usize] = [&[2, 3][..], &[2, 2, 2], &[1], &[], &[3, 1, 3], &[0, 2]][*shapes as usize % 6];
    let operand = Tensor::ones(shape, DType::F32).and_then(|t| t.requires_grad()).expect("a leaf");
    let count = equation.split("->").next().unwrap_or("").split(',').count();
    if count > 6 {
        return; // the result of many operands is large rightly
    }
    if let Ok(out) = rushlight::einsum(&equation, &vec![&operand; count]) {
        let _ = out.sum(..).and_then(|s| s.backward());
    }
}

/// Views and reads at places, one after the other: a byte for the operation, then its arguments.
pub fn index(data: &[u8]) {
    let mut bytes = data.iter().copied();
    // Mostly small numbers, and the ends of the range.
    let mut number = move || -> Option<i64> {
        let b = bytes.next()? as i8 as i64;
        Some(match b {
            100 => i64::MAX,
            101 => i64::MIN,
            102 => 1 << 62,
            103 => 1 << 32,
            104 => -(1 << 62),
            b => b,
        })
    };
    let Ok(mut t) = Tensor::arange(0.0, 24.0, 1.0, DType::F32).and_then(|t| t.reshape([2, 3, 4])) else { return };
    let mut next = move |t: &Tensor| -> Option<Result<Tensor>> {
        let (what, a, b, c, d) = (number()?, number()?, number()?, number()?, number()?);
        let size = |n: i64| n as usize;
        Some(match what.rem_euclid(16) {
            0 => t.narrow(a, size(b), size(c)),
            1 => t.slice_step(a, b, c, d),
            2 => t.select(a, b),
            3 => t.flip(a),
            4 => t.transpose(a, b),
            5 => t.permute([a, b, c]),
            6 => t.diagonal(a, b, c),
            7 => t.unsqueeze(a),
            8 => t.squeeze(a),
            9 => t.flatten(a, b),
            10 => t.unflatten(a, vec![size(b), size(c)]),
            11 => t.reshape(vec![size(a), size(b), size(c)]),
            12 => t.as_strided(vec![size(a), size(b)], &[c as isize, d as isize], 0),
            13 => Tensor::new([a, b]).and_then(|i| t.index_select(c, &i)),
            14 => Tensor::new([[a, b]]).and_then(|i| t.gather(c, &i)),
            _ => t.expand(vec![size(a), size(b), size(c), size(d)]),
        })
    };
    while let Some(result) = next(&t) {
        // What shows few elements often is small, and reading it is not.
        if let Ok(view) = result.and_then(|v| if v.numel() <= 1 << 12 { Ok(v) } else { v.select(0, 0) }) {
            if view.numel() > 1 << 12 {
                return;
            }
            t = view;
            let _ = t.to_f64_vec();
        }
    }
}
