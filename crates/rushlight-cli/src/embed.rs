//! `rushlight embed MODEL`: vectors of lines, or the lines by how alike they are to a query.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use rushlight::Tensor;
use rushlight::data::text::read_lines;
use rushlight::io::save_npy;
use rushlight_models::SentenceEncoder;

use crate::Outcome;
use crate::language::warn_not_finite;

#[derive(clap::Args)]
pub struct Args {
    /// A folder with config.json, model.safetensors and tokenizer.json of a BERT, such as all-MiniLM-L6-v2
    model: PathBuf,
    /// A file of lines; without it, lines are read from the standard input
    file: Option<PathBuf>,
    /// Print the lines instead, those most like QUERY first, with the cosine of the angle between the two
    #[arg(long, value_name = "QUERY")]
    similar: Option<String>,
    /// Write the vectors to FILE as one NumPy array, a row for each line, instead of lines of JSON
    #[arg(long, value_name = "FILE", conflicts_with = "similar")]
    npy: Option<PathBuf>,
    /// Lines that --similar prints at most
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    num: usize,
    /// Threads to use [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Lines that are worked on at a time.
const AT_ONCE: usize = 512;

pub fn main(args: &Args) -> Outcome {
    if let Some(threads) = args.threads {
        rushlight::set_num_threads(threads).map_err(|e| format!("--threads {threads}: {e}"))?;
    }
    let encoder = SentenceEncoder::from_pretrained(&args.model)?;
    warn_not_finite(&args.model)?;
    let lines = match &args.file {
        Some(path) => read_lines(path)?,
        None => {
            std::io::stdin().lock().lines().collect::<Result<_, _>>().map_err(|e| format!("standard input: {e}"))?
        }
    };
    let query = match &args.similar {
        Some(query) => Some(encoder.embed(&[query])?.to_vec::<f32>()?),
        None => None,
    };
    let (mut out, mut found, mut all, mut cut) = (std::io::stdout().lock(), vec![], vec![], 0);
    for lines in lines.chunks(AT_ONCE) {
        let lengths = encoder.tokenizer().encode_framed(lines)?;
        cut += lengths.iter().filter(|ids| ids.len() > encoder.max_length()).count();
        let vectors = encoder.embed(lines)?.to_vec::<f32>()?;
        for (line, vector) in lines.iter().zip(vectors.chunks(encoder.width())) {
            match &query {
                Some(query) => found.push((vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>(), line)),
                None if args.npy.is_some() => all.extend_from_slice(vector),
                None => writeln!(out, "{}", serde_json::to_string(vector)?)?,
            }
        }
    }
    if let Some(path) = &args.npy {
        save_npy(path, &Tensor::from_vec(all, [lines.len(), encoder.width()])?)?;
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0)); // stable: equal ones in the file's order
    for (cosine, line) in found.into_iter().take(args.num) {
        writeln!(out, "{cosine:.4}  {line}")?;
    }
    if cut > 0 {
        eprintln!("note: of {cut} lines only the first {} tokens count", encoder.max_length());
    }
    Ok(())
}
