//! `rushlight translate RUN "text"…`: sentences, or lines of standard input, in the other language.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use rushlight::random::Generator;
use rushlight::{Tensor, no_grad};
use rushlight_models::Translator;
use rushlight_models::text::{BeamSearch, bucketed, pad};

use crate::run::Run;
use crate::{Outcome, picture, translation};

#[derive(clap::Args)]
pub struct Args {
    /// The run folder
    run: PathBuf,
    /// What to translate [default: each line of standard input]
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    #[command(flatten)]
    search: Search,
    /// Draw what each head looked at to write each word of one text, as SVG and PNG
    #[arg(long, value_name = "FILE")]
    attention: Option<PathBuf>,
    /// Threads to use [default: all cores]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

/// How a translation is looked for.
#[derive(clap::Args, Clone, Debug)]
pub struct Search {
    /// Translations that are followed side by side; 1 takes the likeliest word always
    #[arg(long, value_name = "N", default_value_t = 1)]
    beam: usize,
    /// Above 0 for longer translations, with --beam
    #[arg(long, value_name = "A", default_value_t = 0.6, allow_negative_numbers = true)]
    length_penalty: f64,
}

impl Default for Search {
    fn default() -> Self {
        Search { beam: 1, length_penalty: 0.6 }
    }
}

/// Source tokens that are translated at a time.
const AT_ONCE: usize = 2048;
/// Lines that are read before they are translated.
const LINES: usize = 512;

impl Search {
    /// What the network writes for sources that end in `EOS`, those of about the same length side by side; at most twice
    /// as many tokens as the source has, and 16.
    ///
    /// Errors: a source of more tokens than the model has positions, by its `name`.
    pub fn write(
        &self,
        model: &Translator,
        sources: &[Vec<i64>],
        name: impl Fn(usize) -> String,
    ) -> Outcome<Vec<Vec<i64>>> {
        let lengths: Vec<usize> = sources.iter().map(Vec::len).collect();
        let positions = model.positions();
        if let Some(i) = lengths.iter().position(|&n| n > positions) {
            let (name, n) = (name(i), lengths[i]);
            return Err(format!("{name}: {n} tokens are more than the {positions} positions that the model has").into());
        }
        let search = BeamSearch { beams: self.beam, length_penalty: self.length_penalty, ..Default::default() };
        search.check()?;
        let most = |rows: &[usize]| 2 * rows.iter().map(|&i| lengths[i]).max().unwrap_or(0) + 16;
        let mut written = vec![vec![]; sources.len()];
        for rows in bucketed(&lengths, (AT_ONCE / self.beam).max(1), &mut Generator::new(0)) {
            let batch: Vec<&[i64]> = rows.iter().map(|&i| &sources[i][..]).collect();
            let memory = no_grad(|| model.encode(&pad(&batch, Translator::PAD)?.0))?;
            let search = BeamSearch { max_length: most(&rows), ..search };
            for (&i, found) in rows.iter().zip(model.translate(&memory, &search)?) {
                let best = found.into_iter().next().map_or(vec![], |best| best.tokens);
                written[i] = best.into_iter().take(most(&[i])).collect();
            }
        }
        Ok(written)
    }
}

pub fn main(args: &Args) -> Outcome {
    rushlight::set_num_threads(args.threads).map_err(|e| format!("--threads {}: {e}", args.threads))?;
    let run = Run::open(&args.run)?;
    let model = translation::load(&run)?;
    let translate = |texts: &[String], name: &dyn Fn(usize) -> String| -> Outcome<Vec<Vec<i64>>> {
        let sources = translation::tokens(run.tokenizer()?, texts.iter().map(|t| &t[..]))?;
        let written = args.search.write(&model, &sources, name)?;
        for (text, ids) in texts.iter().zip(&written) {
            // Nothing stays nothing.
            let ids = if text.trim().is_empty() { &[] } else { &ids[..] };
            say!("{}", translation::text(run.tokenizer()?, ids)?);
        }
        Ok(written)
    };
    if let Some(path) = &args.attention {
        let [text] = &args.texts[..] else {
            return Err(format!("--attention draws one text; {} are given", args.texts.len()).into());
        };
        let written = translate(&args.texts, &|_| "the text".to_string())?.concat();
        return draw(path, &run, &model, text, written);
    }
    if !args.texts.is_empty() {
        translate(&args.texts, &|i| format!("text {}", i + 1))?;
        return Ok(());
    }
    let input = std::io::stdin();
    // Who types wants an answer to each line.
    let at_once = if input.is_terminal() { 1 } else { LINES };
    let mut lines = Lines { input: input.lock(), read: 0, bytes: 0 };
    loop {
        let before = lines.read;
        let texts = lines.next(at_once)?;
        if texts.is_empty() {
            return Ok(());
        }
        translate(&texts, &|i| format!("line {}", before + i + 1))?;
    }
}

/// The weights of the cross-attention: a row for each token that was written, and the end; a column for each that was read.
fn draw(path: &Path, run: &Run, model: &Translator, text: &str, mut written: Vec<i64>) -> Outcome {
    let tokenizer = run.tokenizer()?;
    let source = translation::tokens(tokenizer, [text].into_iter())?.concat();
    let before = [&[Translator::BOS][..], &written].concat();
    written.push(Translator::EOS);
    let names = |ids: &[i64]| -> Outcome<Vec<String>> {
        let name = |&id: &i64| match tokenizer.decode(&[id])? {
            special if special.is_empty() => Ok(tokenizer.token(id).unwrap_or_default()),
            token => Ok(picture::visible(&token)),
        };
        ids.iter().map(name).collect()
    };
    let weights = no_grad(|| {
        let memory = model.encode(&Tensor::from_slice(&source, [1, source.len()])?)?;
        Ok::<_, rushlight::Error>(
            model.decode_with_weights(&Tensor::from_slice(&before, [1, before.len()])?, &memory)?.1,
        )
    })?;
    let layers = weights.iter().map(|w| w.to_vec::<f32>()).collect::<Result<Vec<_>, _>>()?;
    let (rows, columns, heads) = (&names(&written)?[..], &names(&source)?[..], translation::sizes(run)?.heads);
    let shown = picture::Attention { rows, columns, heads, layers: &layers };
    let title = "What each word was written by looking at";
    picture::attention(path, title, "a row for each token that was written, a column for each that was read", &shown)?;
    say!("the attention of each head: {}", path.with_extension("svg").display());
    Ok(())
}

/// Lines as they come.
struct Lines<R> {
    input: R,
    read: usize,
    bytes: usize,
}

impl<R: BufRead> Lines<R> {
    /// The next lines, up to `most`; none at the end. Errors: bytes that are not UTF-8, with their place.
    fn next(&mut self, most: usize) -> Outcome<Vec<String>> {
        let mut lines = vec![];
        while lines.len() < most {
            let mut line = vec![];
            if self.input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let (start, length) = (self.bytes, line.len());
            let line = String::from_utf8(line).map_err(|e| {
                let (at, line) = (e.utf8_error().valid_up_to(), self.read + 1);
                let byte = e.as_bytes()[at];
                format!("standard input: line {line}: byte 0x{byte:02x} is not UTF-8 (at byte {})", start + at)
            })?;
            self.read += 1;
            self.bytes += length;
            lines.push(line);
        }
        Ok(lines)
    }
}
