//! `rushlight inspect FILE`: names, shapes, dtypes and sizes of what a file holds.

use std::io::Read;
use std::path::{Path, PathBuf};

use rushlight::data::idx;
use rushlight::io::{TensorFile, Value};

use crate::Outcome;

#[derive(clap::Args)]
pub struct Args {
    /// A safetensors, GGUF, npy, npz, PyTorch or IDX file, or a folder of shards with their index
    file: PathBuf,
}

/// Characters of a value that are shown.
const SHOWN: usize = 100;

pub fn main(args: &Args) -> Outcome {
    let path = &args.file;
    if is_idx(path) {
        let idx = idx::read_idx(path)?;
        say!("IDX, u8, shape {:?}, {} bytes", idx.dims, idx.data.len());
        return Ok(());
    }
    let file = TensorFile::open(path)?;
    for (key, value) in file.metadata() {
        say!("{}: {}", plain(key), shortened(value));
    }
    if !file.metadata().is_empty() {
        say!();
    }
    let names: Vec<String> = file.infos().iter().map(|i| plain(&i.name)).collect();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(4).max(4);
    say!("{:<width$}  {:<7} {:<20} {:>12}", "name", "dtype", "shape", "bytes");
    let (mut elements, mut bytes) = (0u64, 0u64);
    for (name, info) in names.iter().zip(file.infos()) {
        say!("{name:<width$}  {:<7} {:<20} {:>12}", info.stored.name(), info.shape.to_string(), info.bytes);
        elements = elements.saturating_add(info.shape.numel() as u64);
        bytes = bytes.saturating_add(info.bytes);
    }
    say!("{}: {} tensors, {elements} elements, {bytes} bytes", file.format().name(), names.len());
    Ok(())
}

/// Whether a file begins as IDX does, plain or gzipped. Of these no other format is.
fn is_idx(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    // A safetensors file of a short header may begin with zeros too, but its fourth byte is then no rank.
    read.is_ok()
        && (head[..2] == [0x1f, 0x8b] || (head[..2] == [0, 0] && (0x08..=0x0e).contains(&head[2]) && head[3] > 0))
}

/// A name on one line, whatever is in it.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The beginning of a value, and how much there is.
fn shortened(value: &Value) -> String {
    let (text, all) = match value {
        Value::Array(array) => {
            // The first few, so that a vocabulary is not written out to be cut.
            let items: Vec<String> = (0..array.len().min(8)).filter_map(|i| array.get(i)).map(|v| item(&v)).collect();
            let rest = if array.len() > 8 { ", …" } else { "" };
            (format!("[{}{rest}]", items.join(", ")), format!(" ({} values)", array.len()))
        }
        Value::String(text) => (text.clone(), format!(" ({} characters)", text.chars().count())),
        other => (other.to_string(), String::new()),
    };
    if text.chars().count() > SHOWN {
        return format!("{}…{all}", plain(&text.chars().take(SHOWN).collect::<String>()));
    }
    match value {
        Value::Array(array) if array.len() > 8 => plain(&text) + &all,
        _ => plain(&text),
    }
}

fn item(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.chars().take(SHOWN).collect::<String>()),
        Value::Array(_) => "[…]".to_string(),
        other => other.to_string(),
    }
}
