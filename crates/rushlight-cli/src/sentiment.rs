//! Labelled texts: reading them, making tokens of them, and the networks that learn them.

use std::path::Path;

use rushlight::Tensor;
use rushlight::data::csv::{Dialect, read_columns};
use rushlight_models::text::Tokenizer;
use rushlight_models::{TextAttention, TextClassifier, TextCnn};

use crate::Outcome;
use crate::data::{Labelled, split_tenth};
use crate::run::{Run, Task, TextModel, TextSizes};

/// The tokens before all words.
const SPECIAL: [&str; 2] = ["<pad>", "<unk>"];
pub const PAD: i64 = 0;
pub const UNKNOWN: i64 = 1;

/// Texts with the number of their class.
pub struct Texts {
    train: Vec<(usize, String)>,
    test: Vec<(usize, String)>,
    pub classes: Vec<String>,
}

impl Texts {
    /// The table `data` to learn from and `test` to be measured on, or a tenth of `data` that `seed` draws.
    pub fn read(data: &Path, test: Option<&Path>, seed: u64) -> Outcome<Texts> {
        let train = rows(data)?;
        let mut classes: Vec<String> = train.iter().map(|(label, _)| label.clone()).collect();
        classes.sort();
        classes.dedup();
        if !(2..=1000).contains(&classes.len()) {
            let (n, path) = (classes.len(), data.display());
            return Err(format!("{path}: {n} different labels in the first column; expected 2 to 1000").into());
        }
        let number = |path: &Path, rows: Vec<(String, String)>| -> Outcome<Vec<(usize, String)>> {
            let number = |(i, (label, text)): (usize, (String, String))| match classes.binary_search(&label) {
                Ok(class) => Ok((class, text)),
                Err(_) => Err(format!("{}: row {}: label '{label}' is none of {classes:?}", path.display(), i + 1)),
            };
            Ok(rows.into_iter().enumerate().map(number).collect::<Result<_, _>>()?)
        };
        let mut train = number(data, train)?;
        let test = match test {
            Some(path) => number(path, rows(path)?)?,
            None => split_tenth(&mut train, seed),
        };
        if train.is_empty() {
            return Err(format!("{}: too few texts to learn from", data.display()).into());
        }
        if classes == ["0", "1"] {
            classes = ["negative", "positive"].map(String::from).to_vec();
        }
        Ok(Texts { train, test, classes })
    }

    /// As rows of `length` tokens.
    pub fn labelled(&self, tokenizer: &Tokenizer, length: usize) -> Outcome<Labelled> {
        let part = |rows: &[(usize, String)]| -> Outcome<(Tensor, Tensor)> {
            let texts: Vec<&str> = rows.iter().map(|(_, text)| text.as_str()).collect();
            let ids = tokenizer.encode_batch(&texts)?.into_iter().flat_map(|ids| padded(ids, length)).collect();
            let labels = rows.iter().map(|&(class, _)| class as i64).collect();
            Ok((Tensor::from_vec(ids, [rows.len(), length])?, Tensor::from_vec(labels, rows.len())?))
        };
        let ((train_x, train_y), (test_x, test_y)) = (part(&self.train)?, part(&self.test)?);
        Ok(Labelled { train_x, train_y, test_x, test_y, classes: self.classes.clone() })
    }
}

/// The texts that a run was trained on, or those of `other`, of the same labels.
pub fn texts_of(run: &Run, other: Option<&Path>) -> Outcome<Texts> {
    let Task::Sentiment { data, test, .. } = &run.config.task else {
        return Err(format!("{} is no run of train sentiment", run.folder.display()).into());
    };
    let texts = match other {
        Some(other) => Texts::read(other, Some(other), run.config.seed)?,
        None => Texts::read(data, test.as_deref(), run.config.seed)?,
    };
    if texts.classes != run.config.classes {
        let (found, known) = (&texts.classes, &run.config.classes);
        return Err(format!("labels {found:?}, but {} was trained on {known:?}", run.folder.display()).into());
    }
    Ok(texts)
}

pub fn train_tokenizer(texts: &Texts, min_frequency: usize) -> Outcome<Tokenizer> {
    Ok(Tokenizer::train_words(texts.train.iter().map(|(_, text)| text.as_str()), min_frequency, &SPECIAL)?)
}

/// The first `length` of the tokens, or behind them as much padding as it takes.
pub fn padded(mut ids: Vec<i64>, length: usize) -> Vec<i64> {
    ids.resize(length, PAD);
    ids
}

pub fn cnn(sizes: &TextSizes, classes: usize) -> Outcome<TextCnn> {
    Ok(TextCnn::new(sizes.vocab, sizes.width, 100, classes, sizes.dropout)?)
}

pub fn attention(sizes: &TextSizes, classes: usize) -> Outcome<TextAttention> {
    Ok(TextAttention::new(sizes.vocab, sizes.width, 4, sizes.length, classes, sizes.dropout)?)
}

/// The trained network of a run.
pub fn load(run: &Run) -> Outcome<Box<dyn TextClassifier>> {
    let Task::Sentiment { model, sizes, .. } = &run.config.task else {
        return Err(format!("{} is no run of train sentiment", run.folder.display()).into());
    };
    let classes = run.config.classes.len();
    fn loaded(run: &Run, mut model: impl TextClassifier + 'static) -> Outcome<Box<dyn TextClassifier>> {
        run.load_model(&mut model)?;
        model.eval();
        Ok(Box::new(model))
    }
    match model {
        TextModel::Cnn => loaded(run, cnn(sizes, classes)?),
        TextModel::Attention => loaded(run, attention(sizes, classes)?),
    }
}

/// `(label, text)` of each row.
fn rows(path: &Path) -> Outcome<Vec<(String, String)>> {
    let table = read_columns(path, Dialect::of(path), false, 2)?;
    let [labels, texts] = [table.column(0)?, table.column(1)?];
    Ok(labels.into_iter().zip(texts).map(|(l, t)| (l.trim().to_string(), t.to_string())).collect())
}
