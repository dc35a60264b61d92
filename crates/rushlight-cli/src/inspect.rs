//! `rushlight inspect FILE`: names, shapes, dtypes and sizes of what a file holds.

use std::path::PathBuf;

use rushlight::data::idx;
use rushlight::io::load_safetensors;

use crate::Outcome;

#[derive(clap::Args)]
pub struct Args {
    /// A safetensors or IDX file
    file: PathBuf,
}

pub fn main(args: &Args) -> Outcome {
    let path = &args.file;
    if path.extension().is_some_and(|e| e == "safetensors") {
        let (tensors, metadata) = load_safetensors(path)?;
        let width = tensors.keys().map(|k| k.len()).max().unwrap_or(4).max(4);
        say!("{:<width$}  {:<6} {:<20} {:>12}", "name", "dtype", "shape", "bytes");
        let (mut elements, mut bytes) = (0, 0);
        for (name, t) in &tensors {
            let size = t.numel() * t.dtype().size();
            say!("{name:<width$}  {:<6} {:<20} {size:>12}", t.dtype().name(), t.shape().to_string());
            (elements, bytes) = (elements + t.numel(), bytes + size);
        }
        say!("{} tensors, {elements} elements, {bytes} bytes", tensors.len());
        for (key, value) in metadata {
            say!("{key}: {value}");
        }
        return Ok(());
    }
    let idx = idx::read_idx(path)?;
    say!("IDX, u8, shape {:?}, {} bytes", idx.dims, idx.data.len());
    Ok(())
}
