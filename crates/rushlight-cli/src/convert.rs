//! `rushlight convert IN OUT`: the tensors of one file in another format.

use std::path::PathBuf;

use rushlight::io::{ConvertTo, TensorFile, convert, convert_sharded};
use rushlight::quant::QuantKind;
use rushlight::{DType, memory};

use crate::Outcome;

#[derive(clap::Args)]
pub struct Args {
    /// What `inspect` lists: a safetensors, GGUF, npy, npz or PyTorch file, or a folder of shards with their index
    input: PathBuf,
    /// The file to write: .safetensors, .gguf, .npz, or .npy for one tensor; with --shard-size the folder
    output: PathBuf,
    /// What floats become; without it they stay as they are, quantised ones outside of .gguf as f32
    #[arg(long)]
    dtype: Option<To>,
    /// Write a folder of safetensors files of at most SIZE (500MB, 2GB) and their index, as Hugging Face keeps models
    #[arg(long, value_name = "SIZE", value_parser = size)]
    shard_size: Option<u64>,
}

/// `500MB` as bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => Some(1),
        "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KIB" => Some(1 << 10),
        "MIB" => Some(1 << 20),
        "GIB" => Some(1u64 << 30),
        _ => None,
    };
    let bytes = unit.and_then(|unit| text[..digits].parse::<u64>().ok()?.checked_mul(unit)).filter(|n| *n > 0);
    bytes.ok_or_else(|| "expected a size above 0, such as 500MB or 2GB".to_string())
}

#[derive(Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum To {
    F32,
    F16,
    Bf16,
    /// Blocks of 8-bit numbers, in .gguf only
    #[value(name = "q8_0")]
    Q8_0,
}

pub fn main(args: &Args) -> Outcome {
    let to = match args.dtype {
        None => ConvertTo::Same,
        Some(To::F32) => ConvertTo::Float(DType::F32),
        Some(To::F16) => ConvertTo::Float(DType::F16),
        Some(To::Bf16) => ConvertTo::Float(DType::BF16),
        Some(To::Q8_0) => ConvertTo::Quant(QuantKind::Q8_0),
    };
    // Tensors come one at a time, and the memory of one is seldom of use to the next.
    memory::set_cache_limit(0);
    let input = TensorFile::open(&args.input)?;
    let done = match args.shard_size {
        Some(bytes) => convert_sharded(&input, &args.output, to, bytes)?,
        None => convert(&input, &args.output, to)?,
    };
    for (name, count) in &done.not_finite {
        eprintln!("warning: tensor {name:?} has {count} numbers that are not finite");
    }
    if done.dropped > 0 {
        eprintln!("note: the format has no place for metadata; {} values were left out", done.dropped);
    }
    say!("{}: {} tensors, {} bytes", args.output.display(), done.tensors, done.bytes);
    Ok(())
}
