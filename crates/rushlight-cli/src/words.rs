//! `rushlight predict RUN "text"…` of a run of `train sentiment`: the label, and which words moved it.
//!
//! A word's share is gradient × input: how the odds of the likeliest label against the next would change, to first
//! order, if the word's vector were 0. Source: Shrikumar et al. 2016.

use std::io::{IsTerminal, Write};
use std::path::Path;

use rushlight::Tensor;
use rushlight::io::write_atomic;
use rushlight_models::TextClassifier;

use crate::Outcome;
use crate::run::{Run, Task};
use crate::sentiment::{self, padded};

/// What the model says of a text, and the words that made it say so.
pub struct Explained {
    /// Of each class.
    pub probabilities: Vec<f32>,
    /// The likeliest class, and the next.
    pub top: [usize; 2],
    /// The words between spaces, with how far each spoke for the likeliest.
    pub words: Vec<(String, f64)>,
}

/// Errors: no word in it; more tokens than the model reads are cut, and said so.
pub fn explain(run: &Run, model: &dyn TextClassifier, text: &str) -> Outcome<Explained> {
    let Task::Sentiment { sizes, .. } = &run.config.task else {
        return Err(format!("{} is no run of train sentiment", run.folder.display()).into());
    };
    // The tokenizer cuts at spaces first, so words one by one have the tokens of the whole.
    let words: Vec<&str> = text.split_whitespace().collect();
    let parts = run.tokenizer()?.encode_batch(&words)?;
    let ids = parts.concat();
    if ids.is_empty() {
        return Err(format!("'{text}' has no word").into());
    }
    if ids.len() > sizes.length {
        eprintln!("note: {} tokens; the network reads the first {}", ids.len(), sizes.length);
    }
    let tokens = Tensor::from_vec(padded(ids, sizes.length), [1, sizes.length])?;
    let embedded = model.embed(&tokens)?.detach().requires_grad()?; // [1, T, width]
    let output = model.classify(&tokens, &embedded)?.squeeze(0)?; // [classes]
    let probabilities = output.detach().exp()?.to_vec::<f32>()?;
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    let top = [order[0], order[1]];
    let odds = output.select(0, top[0] as i64)?.sub(&output.select(0, top[1] as i64)?)?;
    let grads = odds.backward()?;
    let gradient = grads.get(&embedded).ok_or("the network does not depend on its words")?;
    let shares = gradient.mul(embedded.detach())?.sum(-1)?.to_f64_vec()?; // [T]
    let mut at = 0;
    let share = |(word, ids): (&str, &Vec<i64>)| {
        let (from, to) = (at.min(sizes.length), (at + ids.len()).min(sizes.length));
        at = to;
        (word.to_string(), shares[from..to].iter().sum())
    };
    let words = words.into_iter().zip(&parts).map(share).collect();
    Ok(Explained { probabilities, top, words })
}

impl Explained {
    /// The share that is drawn strongest.
    fn most(&self) -> f64 {
        self.words.iter().map(|w| w.1.abs()).fold(f64::MIN_POSITIVE, f64::max)
    }

    /// The verdict, and the words: on a terminal coloured, blue for and red against it, elsewhere with numbers.
    pub fn show(&self, classes: &[String]) -> Outcome {
        let [first, second] = self.top;
        say!("{} {:.2}%  (or {})", classes[first], 100.0 * self.probabilities[first], classes[second]);
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let words: Vec<String> = self
            .words
            .iter()
            .map(|(word, share)| {
                let strength = share / self.most();
                if !coloured {
                    return format!("{word} {share:+.2}");
                }
                let [r, g, b] = colour(strength);
                let ink = if strength.abs() > 0.6 { 255 } else { 0 };
                format!("\x1b[48;2;{r};{g};{b}m\x1b[38;2;{ink};{ink};{ink}m{word}\x1b[0m")
            })
            .collect();
        say!("  {}", words.join(if coloured { " " } else { "   " }));
        Ok(())
    }

    fn html(&self, classes: &[String]) -> String {
        let words: Vec<String> = self
            .words
            .iter()
            .map(|(word, share)| {
                let [r, g, b] = colour(share / self.most());
                let ink = if (share / self.most()).abs() > 0.6 { "#fff" } else { "#222" };
                let word = escaped(word);
                format!("<span style=\"background:rgb({r},{g},{b});color:{ink}\" title=\"{share:+.3}\">{word}</span>")
            })
            .collect();
        let [first, second] = self.top;
        let (name, other) = (escaped(&classes[first]), escaped(&classes[second]));
        let percent = 100.0 * self.probabilities[first];
        format!("<p>{}</p><small>{name} {percent:.2}% (or {other})</small>\n", words.join(" "))
    }
}

/// From red (−1) by white to blue (1), both told apart by people who confuse red and green.
fn colour(strength: f64) -> [u8; 3] {
    let end = if strength > 0.0 { [33.0, 102.0, 172.0] } else { [178.0, 24.0, 43.0] };
    end.map(|c: f64| (255.0 + (c - 255.0) * strength.abs().min(1.0)) as u8)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// All texts as a page.
pub fn page(path: &Path, all: &[Explained], classes: &[String]) -> Outcome {
    let rows: String = all.iter().map(|e| e.html(classes)).collect();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Which words counted</title>\n\
         <style>body{{font:18px/1.9 sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222;background:#fff}}\
         span{{padding:.1em .25em;border-radius:.2em}}small{{color:#666}}p{{margin:1.2em 0 0}}</style>\n\
         <h1>Which words counted</h1><p>Blue words spoke for the label, red ones against it.</p>\n{rows}</html>\n"
    );
    Ok(write_atomic(path, |f| f.write_all(page.as_bytes()).map_err(|e| rushlight::Error::io(path, e)))?)
}

/// Predicts each text, in the terminal and in `words.html` of the run, or the file named.
pub fn predict(run: &Run, texts: &[String], html: Option<&Path>) -> Outcome {
    let model = sentiment::load(run)?;
    let all = texts.iter().map(|text| explain(run, &*model, text)).collect::<Outcome<Vec<_>>>()?;
    for explained in &all {
        explained.show(&run.config.classes)?;
    }
    let path = html.map_or_else(|| run.path("words.html"), Path::to_path_buf);
    page(&path, &all, &run.config.classes)?;
    say!("the words in colour: {}", path.display());
    Ok(())
}
