//! `rushlight convert IN OUT`: the tensors of one file in another format.

use std::path::PathBuf;

use rushlight::io::{ConvertTo, TensorFile, convert};
use rushlight::quant::QuantKind;
use rushlight::{DType, memory};

use crate::Outcome;

#[derive(clap::Args)]
pub struct Args {
    /// What `inspect` lists: a safetensors, GGUF, npy, npz or PyTorch file, or a folder of shards with their index
    input: PathBuf,
    /// The file to write: .safetensors, .gguf, .npz, or .npy for one tensor
    output: PathBuf,
    /// What floats become; without it they stay as they are, quantised ones outside of .gguf as f32
    #[arg(long)]
    dtype: Option<To>,
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
    let done = convert(&TensorFile::open(&args.input)?, &args.output, to)?;
    for (name, count) in &done.not_finite {
        eprintln!("warning: tensor {name:?} has {count} numbers that are not finite");
    }
    if done.dropped > 0 {
        eprintln!("note: the format has no place for metadata; {} values were left out", done.dropped);
    }
    say!("{}: {} tensors, {} bytes", args.output.display(), done.tensors, done.bytes);
    Ok(())
}
