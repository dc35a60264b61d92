//! Vectors of sentences: the mean of what BERT says of their tokens, of length 1.
//!
//! Two sentences are as alike as the product of their vectors is near to 1. Source: Reimers & Gurevych 2019,
//! "Sentence-BERT"; the folders are those of the `sentence-transformers` library.

use std::path::Path;

use rushlight::data::text::read_text;
use rushlight::io::from_json_in;
use rushlight::{DType, Error, Result, Tensor, no_grad};

use crate::Bert;
use crate::text::{Tokenizer, pad};

const OP: &str = "SentenceEncoder";
/// Sentences that go through the network together.
const TOGETHER: usize = 32;

/// Sentences to vectors.
///
/// ```no_run
/// use rushlight_models::SentenceEncoder;
///
/// let encoder = SentenceEncoder::from_pretrained("all-MiniLM-L6-v2")?;
/// let vectors = encoder.embed(&["a cat sat", "a kitten was sitting", "stocks fell"])?; // [3, 384]
/// println!("{}", vectors.matmul(&vectors.t()?)?); // how alike they are
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct SentenceEncoder {
    bert: Bert,
    tokenizer: Tokenizer,
    max_length: usize,
    pad_id: i64,
}

impl SentenceEncoder {
    /// Of a network and the tokenizer of its texts; tokens of a sentence after the first `max_length` do not count.
    ///
    /// Errors: a tokenizer of more tokens than the network knows; a length below 3 or beyond its positions.
    pub fn new(bert: Bert, tokenizer: Tokenizer, max_length: usize) -> Result<SentenceEncoder> {
        let (known, places) = (bert.embeddings.word.weight.dims()[0], bert.max_positions());
        if tokenizer.vocab_size() > known {
            let message = format!("a tokenizer of {} tokens for a network of {known}", tokenizer.vocab_size());
            return Err(Error::invalid(OP, message));
        }
        if !(3..=places).contains(&max_length) {
            let message =
                format!("a length of {max_length} tokens; the network has {places} places: expected 3 or more");
            return Err(Error::invalid(OP, message));
        }
        let pad_id = tokenizer.id("[PAD]").unwrap_or(0);
        Ok(SentenceEncoder { bert, tokenizer, max_length, pad_id })
    }

    /// From a folder with `config.json`, `model.safetensors` and `tokenizer.json`. How many tokens count is told by
    /// `sentence_bert_config.json`, else by the positions.
    ///
    /// Errors: those of [`Bert::from_pretrained`] and [`Tokenizer::load`]; a folder that says (`1_Pooling/config.json`)
    /// that its vectors are not means.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<SentenceEncoder> {
        #[derive(serde::Deserialize)]
        struct Sentence {
            max_seq_length: Option<usize>,
        }
        #[derive(serde::Deserialize)]
        struct Pooling {
            #[serde(default)]
            pooling_mode_mean_tokens: bool,
        }
        let folder = folder.as_ref();
        let bert = Bert::from_pretrained(folder)?;
        let tokenizer = Tokenizer::load(folder.join("tokenizer.json"))?;
        let pooling: Option<Pooling> = optional(&folder.join("1_Pooling/config.json"))?;
        if pooling.is_some_and(|pooling| !pooling.pooling_mode_mean_tokens) {
            let path = folder.join("1_Pooling/config.json");
            return Err(Error::format(path, 0, "pooling_mode_mean_tokens is not true; only means are made"));
        }
        let sentence: Option<Sentence> = optional(&folder.join("sentence_bert_config.json"))?;
        let places = bert.max_positions();
        let max_length = sentence.and_then(|s| s.max_seq_length).unwrap_or(places).min(places);
        SentenceEncoder::new(bert, tokenizer, max_length)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens of a sentence that count, with those at its ends.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.bert.embeddings.word.weight.dims()[1]
    }

    /// `[N, C]`: a vector of length 1 for each text, in their order. Longer texts are cut to
    /// [`SentenceEncoder::max_length`] tokens. No gradients are recorded.
    ///
    /// Errors: those of [`Tokenizer::encode`].
    pub fn embed<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Tensor> {
        self.embed_tokens(&self.tokens(texts)?)
    }

    /// The tokens of each text that count, with those at its ends. Errors: those of [`Tokenizer::encode`].
    pub fn tokens<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<i64>>> {
        let mut ids = self.tokenizer.encode_framed(texts)?;
        for ids in &mut ids {
            if ids.len() > self.max_length {
                // The token that ends a text stays.
                ids.drain(self.max_length - 1..ids.len() - 1);
            }
        }
        Ok(ids)
    }

    /// [`SentenceEncoder::embed`] of the texts' tokens. Errors: more of them than the network has positions; an id outside
    /// the vocabulary.
    pub fn embed_tokens(&self, ids: &[Vec<i64>]) -> Result<Tensor> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&i| ids[i].len()); // alike ones together, for little padding
        let mut rows = vec![0.0f32; ids.len() * self.width()];
        for batch in order.chunks(TOGETHER) {
            let sentences: Vec<&[i64]> = batch.iter().map(|&i| &ids[i][..]).collect();
            let vectors = no_grad(|| self.vectors(&sentences))?.to_vec::<f32>()?; // [batch, C]
            for (&i, vector) in batch.iter().zip(vectors.chunks(self.width())) {
                rows[i * self.width()..][..self.width()].copy_from_slice(vector);
            }
        }
        Tensor::from_vec(rows, [ids.len(), self.width()])
    }

    fn vectors(&self, sentences: &[&[i64]]) -> Result<Tensor> {
        let (tokens, padding) = pad(sentences, self.pad_id)?; // [B, T] each
        let padded = padding.any(..)?.item::<bool>()?;
        let x = self.bert.forward(&tokens, padded.then_some(&padding))?; // [B, T, C]
        let seen = padding.logical_not()?.to_dtype(DType::F32)?.unsqueeze(2)?; // [B, T, 1]
        let count = seen.sum(1)?.clamp(1.0, f64::MAX)?; // [B, 1]
        let mean = x.mul(&seen)?.sum(1)?.div(&count)?; // [B, C]
        let norm = mean.square()?.sum(1)?.sqrt()?.clamp(1e-12, f64::MAX)?.unsqueeze(1)?; // [B, 1]
        mean.div(&norm)
    }
}

/// A file of JSON, if it is there.
fn optional<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.is_file() {
        return Ok(None);
    }
    from_json_in(path, &read_text(path)?).map(Some)
}
