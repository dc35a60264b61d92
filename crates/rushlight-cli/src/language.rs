//! Models that write: those of runs, and those that others trained.

use std::path::{Path, PathBuf};

use rushlight::Tensor;
use rushlight::io::{Stored, TensorFile};
use rushlight::nn::KvCache;
use rushlight_models::text::{ChatTemplate, Tokenizer};
use rushlight_models::{Gpt, Llama, Network, Pretrained};

use crate::run::{Run, Task};
use crate::tuned::Tuned;
use crate::{Outcome, gpt};

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

/// A network with what it takes to write with it.
pub struct Base {
    pub network: Network,
    pub tokenizer: Tokenizer,
    /// What makes one text of a chat, if it was trained for such.
    pub chat: Option<ChatTemplate>,
    /// The tokens that end a text.
    pub eos: Vec<i64>,
    /// The token that a text begins with.
    bos: Option<i64>,
    /// Whether the tokenizer puts tokens around a text.
    framed: bool,
    /// Where the network is from: what it was tuned from, where it was.
    pub origin: PathBuf,
}

/// Runs of `finetune` that stand on each other at most.
const CHAIN: usize = 16;

impl Base {
    /// A run of `train gpt` or `finetune`, a folder as Hugging Face keeps it, or a GGUF file.
    pub fn open(path: &Path) -> Outcome<Base> {
        Base::open_at(path, 0)
    }

    /// As [`Base::open`], `depth` runs of `finetune` above the first.
    pub fn open_at(path: &Path, depth: usize) -> Outcome<Base> {
        let origin = path.to_path_buf();
        if is_pretrained(path) {
            let found = Pretrained::load(path)?;
            warn_not_finite(path)?;
            let tokenizer = found.tokenizer()?.clone();
            if let Network::Bert(_) = found.network {
                let path = path.display();
                return Err(format!("{path} is a BERT, which does not write: rushlight embed {path}").into());
            }
            let Pretrained { network, chat_template, eos, bos, .. } = found;
            return Ok(Base { network, tokenizer, chat: chat_template, eos, bos, framed: true, origin });
        }
        let run = Run::open(path)?;
        if let Task::Finetune { model, .. } = &run.config.task {
            if depth == CHAIN {
                return Err(
                    format!("{}: more than {CHAIN} runs of finetune stand on each other", path.display()).into()
                );
            }
            let base = Base::open_at(model, depth + 1)?;
            return Ok(Base { network: Tuned::load(&run, base.network)?, ..base });
        }
        let (network, tokenizer) = (Network::Gpt(gpt::load(&run)?), run.tokenizer()?.clone());
        Ok(Base { network, tokenizer, chat: None, eos: vec![], bos: None, framed: false, origin })
    }
}

impl Base {
    /// The tokens of a prompt.
    pub fn prompt(&self, text: &str) -> rushlight::Result<Vec<i64>> {
        prompt(&self.tokenizer, self.bos, self.framed, text)
    }
}

fn prompt(tokenizer: &Tokenizer, bos: Option<i64>, framed: bool, text: &str) -> rushlight::Result<Vec<i64>> {
    if !framed {
        return tokenizer.encode(text);
    }
    let ids = tokenizer.encode_framed(&[text])?.concat();
    Ok(bos.into_iter().chain(ids).collect())
}

/// A model that writes.
pub struct Opened {
    pub model: Box<dyn LanguageModel>,
    pub tokenizer: Tokenizer,
    /// What makes one text of a chat, if it was trained for such.
    pub chat: Option<ChatTemplate>,
    /// The tokens that end a text.
    pub eos: Vec<i64>,
    bos: Option<i64>,
    framed: bool,
}

impl Opened {
    /// What [`Base::open`] takes.
    pub fn open(path: &Path) -> Outcome<Opened> {
        let Base { network, tokenizer, chat, eos, bos, framed, .. } = Base::open(path)?;
        let model: Box<dyn LanguageModel> = match network {
            Network::Gpt(model) => Box::new(model),
            Network::Llama(model) => Box::new(model),
            Network::Bert(_) => return Err(format!("{} does not write", path.display()).into()),
        };
        Ok(Opened { model, tokenizer, chat, eos, bos, framed })
    }

    /// The tokens of a prompt.
    pub fn prompt(&self, text: &str) -> rushlight::Result<Vec<i64>> {
        prompt(&self.tokenizer, self.bos, self.framed, text)
    }
}

/// Warns of weights that are no numbers, of which nothing good will come. Those in blocks are not looked into.
pub fn warn_not_finite(path: &Path) -> Outcome {
    let file = TensorFile::open(path)?;
    for info in file.infos() {
        let Stored::Plain(dtype) = info.stored else { continue };
        // The sum is one pass over what will be read anyway.
        let t = file.tensor(&info.name)?;
        if dtype.is_float() && !t.sum(..)?.item::<f64>()?.is_finite() {
            let count = t.to_f64_vec()?.iter().filter(|x| !x.is_finite()).count();
            if count > 0 {
                eprintln!(
                    "warning: {}: tensor {:?} has {count} numbers that are not finite",
                    path.display(),
                    info.name
                );
            }
        }
    }
    Ok(())
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
