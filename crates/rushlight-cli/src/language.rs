//! Models that write: those of runs, and those that others trained.

use std::path::Path;

use rushlight::Tensor;
use rushlight::nn::KvCache;
use rushlight_models::text::{ChatTemplate, Tokenizer};
use rushlight_models::{Gpt, Llama, Network, Pretrained};

use crate::Outcome;
use crate::gpt;
use crate::run::Run;

/// What writing asks of a model.
pub trait LanguageModel {
    /// The longest text that it can see.
    fn context(&self) -> usize;

    /// For so many tokens, at most the context.
    fn cache(&self, tokens: usize) -> KvCache;

    /// The logits of what follows the tokens `[B, T]`, which are added to the cache.
    fn next_logits(&self, tokens: &Tensor, cache: &mut KvCache) -> rushlight::Result<Tensor>;

    /// The model, if it is one whose attention can be looked at.
    fn as_gpt(&self) -> Option<&Gpt> {
        None
    }
}

impl LanguageModel for Gpt {
    fn context(&self) -> usize {
        self.wpe.weight.dims()[0]
    }

    fn cache(&self, tokens: usize) -> KvCache {
        KvCache::new(self.h.len(), tokens)
    }

    fn next_logits(&self, tokens: &Tensor, cache: &mut KvCache) -> rushlight::Result<Tensor> {
        self.next_logits(tokens, cache)
    }

    fn as_gpt(&self) -> Option<&Gpt> {
        Some(self)
    }
}

impl LanguageModel for Llama {
    fn context(&self) -> usize {
        self.max_positions()
    }

    fn cache(&self, tokens: usize) -> KvCache {
        self.cache(tokens)
    }

    fn next_logits(&self, tokens: &Tensor, cache: &mut KvCache) -> rushlight::Result<Tensor> {
        self.next_logits(tokens, cache)
    }
}

/// A model with what it takes to write with it.
pub struct Opened {
    pub model: Box<dyn LanguageModel>,
    pub tokenizer: Tokenizer,
    /// What makes one text of a chat, if it was trained for such.
    pub chat: Option<ChatTemplate>,
    /// The tokens that end a text.
    pub eos: Vec<i64>,
    /// The token that a text begins with.
    bos: Option<i64>,
    /// Whether the tokenizer puts tokens around a text.
    framed: bool,
}

impl Opened {
    /// A run of `train gpt`, a folder as Hugging Face keeps it, or a GGUF file.
    pub fn open(path: &Path) -> Outcome<Opened> {
        if !is_pretrained(path) {
            let run = Run::open(path)?;
            let (model, tokenizer) = (gpt::load(&run)?, run.tokenizer()?.clone());
            return Ok(Opened { model: Box::new(model), tokenizer, chat: None, eos: vec![], bos: None, framed: false });
        }
        let found = Pretrained::load(path)?;
        let tokenizer = found.tokenizer()?.clone();
        let model: Box<dyn LanguageModel> = match found.network {
            Network::Gpt(model) => Box::new(model),
            Network::Llama(model) => Box::new(model),
            Network::Bert(_) => {
                let path = path.display();
                return Err(format!("{path} is a BERT, which does not write: rushlight embed {path}").into());
            }
        };
        Ok(Opened { model, tokenizer, chat: found.chat_template, eos: found.eos, bos: found.bos, framed: true })
    }

    /// The tokens of a prompt.
    pub fn prompt(&self, text: &str) -> rushlight::Result<Vec<i64>> {
        if !self.framed {
            return self.tokenizer.encode(text);
        }
        let ids = self.tokenizer.encode_framed(&[text])?.concat();
        Ok(self.bos.into_iter().chain(ids).collect())
    }
}

/// Whether a path is a model that others trained, and no run folder: a file, or a folder whose `config.json` is theirs.
pub fn is_pretrained(path: &Path) -> bool {
    let theirs = || {
        let text = std::fs::read_to_string(path.join("config.json")).ok()?;
        let config: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(config.get("model_type").is_some() || config.get("architectures").is_some())
    };
    path.is_file() || theirs().unwrap_or(false)
}
