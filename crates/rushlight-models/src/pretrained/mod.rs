//! Models that others trained, from a folder as Hugging Face keeps it, or a GGUF file.
//!
//! | | folder | GGUF file |
//! |---|---|---|
//! | architecture and sizes | `config.json` | `general.architecture` and its keys |
//! | weights | `model.safetensors`, or shards with an index | tensors, quantised ones as they are |
//! | tokenizer | `tokenizer.json` | `tokenizer.ggml.*` |
//! | chat template | `tokenizer_config.json`, `chat_template.jinja` | `tokenizer.chat_template` |
//!
//! Each architecture is a file here, which says how its weights are named there. Weights in f32 are used where they lie
//! in the mapped file, and so are quantised ones, in their blocks.

mod bert;
mod config;
mod gpt;
mod llama;
mod network;
mod save;
mod weights;

use std::path::Path;

use rushlight::data::text::read_text;
use rushlight::io::{TensorFile, Value};
use rushlight::{Error, Result};

use self::config::{About, Ends, read, read_config};
use crate::text::{ChatTemplate, Tokenizer};
use crate::{Bert, Gpt, Llama};

/// A network of one of the known architectures.
pub enum Network {
    /// `bert`: vectors of tokens.
    Bert(Bert),
    /// `gpt2`: the next token.
    Gpt(Gpt),
    /// `llama` and `qwen2`: the next token.
    Llama(Llama),
}

/// A network that others trained, with all that came with it.
///
/// ```no_run
/// use rushlight_models::{Network, Pretrained};
///
/// let found = Pretrained::load("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let prompt = found.prompt("Once upon a time")?;
/// if let Network::Llama(llama) = &found.network {
///     println!("{} layers, {} tokens of prompt", llama.layers.len(), prompt.len());
/// }
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct Pretrained {
    /// The network, in evaluation mode. Its parameters ask for gradients, unless some of them are quantised: then call
    /// [`set_requires_grad`](rushlight::nn::Module::set_requires_grad) to train it, which makes all of them f32.
    pub network: Network,
    /// Its tokenizer, if there is one.
    pub tokenizer: Option<Tokenizer>,
    /// What makes one text of the messages of a chat, if it was trained for such.
    pub chat_template: Option<ChatTemplate>,
    /// The tokens that end a text.
    pub eos: Vec<i64>,
    /// The token that a text begins with, where the tokenizer does not put it there.
    pub bos: Option<i64>,
}

impl Pretrained {
    /// From a folder with `config.json`, or a GGUF file.
    ///
    /// Errors: no such thing; an architecture that is not known, or settings of one that are not; tensors that are
    /// missing, too many, or of another shape, with their names; a tokenizer of more tokens than the network knows;
    /// damaged files.
    pub fn load(path: impl AsRef<Path>) -> Result<Pretrained> {
        let path = path.as_ref();
        let found = if path.is_dir() { Pretrained::of_folder(path) } else { Pretrained::of_gguf(path) }?;
        let (tokens, known) = (found.tokenizer.as_ref().map_or(0, Tokenizer::vocab_size), found.network.vocab_size());
        if tokens > known {
            return Err(Error::format(
                path,
                0,
                format!("a tokenizer of {tokens} tokens, where the network knows {known}"),
            ));
        }
        Ok(found)
    }

    fn of_folder(folder: &Path) -> Result<Pretrained> {
        let network = match config::architecture(folder)?.as_str() {
            "bert" => Network::Bert(Bert::from_pretrained(folder)?),
            "gpt2" => Network::Gpt(Gpt::from_pretrained(folder)?),
            _ => Network::Llama(Llama::from_pretrained(folder)?),
        };
        let tokenizer = folder.join("tokenizer.json");
        let tokenizer = tokenizer.is_file().then(|| Tokenizer::load(&tokenizer)).transpose()?;
        let beside = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let mut about: About = beside("tokenizer_config.json").map(|path| read(&path)).transpose()?.unwrap_or_default();
        let template = match beside("chat_template.jinja") {
            Some(path) => Some(read_text(path)?),
            None => about.chat_template(),
        };
        let (bos, eos) = (about.bos_token.map(String::from), about.eos_token.map(String::from));
        let chat_template = template.map(|t| ChatTemplate::new(t, bos, eos));
        // What generating asks for goes before what the network was made with.
        let told: Ends = beside("generation_config.json").map(|path| read(&path)).transpose()?.unwrap_or_default();
        let made: Ends = read_config(folder)?;
        let eos = told.ids().or(made.ids()).unwrap_or_default();
        Ok(Pretrained { network, tokenizer, chat_template, eos, bos: None })
    }

    fn of_gguf(path: &Path) -> Result<Pretrained> {
        let file = TensorFile::open(path)?;
        let network = Network::Llama(Llama::of_gguf(&file)?);
        let tokenizer = Tokenizer::from_gguf(&file)?;
        let id = |key: &str| file.value(&format!("tokenizer.ggml.{key}")).and_then(Value::as_i64);
        let eos = ["eos_token_id", "eot_token_id"].into_iter().filter_map(id).collect();
        // Where a file does not say, Llama 3's texts have one.
        let usual = || file.value("tokenizer.ggml.pre").and_then(Value::as_str) == Some("llama-bpe");
        let begins = file.value("tokenizer.ggml.add_bos_token").and_then(Value::as_bool).unwrap_or_else(usual);
        let bos = if begins { id("bos_token_id") } else { None };
        let token = |key| id(key).and_then(|id| tokenizer.token(id));
        let template = file.value("tokenizer.chat_template").and_then(Value::as_str);
        let chat_template = template.map(|t| ChatTemplate::new(t, token("bos_token_id"), token("eos_token_id")));
        Ok(Pretrained { network, tokenizer: Some(tokenizer), chat_template, eos, bos })
    }

    /// The tokenizer. Errors: there is none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing = || Error::invalid("Pretrained", "the model came without a tokenizer (tokenizer.json)");
        self.tokenizer.as_ref().ok_or_else(missing)
    }

    /// The tokens of a text that the model is to continue, with what it is used to at the beginning. Errors: no tokenizer;
    /// a text that it cannot tell.
    pub fn prompt(&self, text: &str) -> Result<Vec<i64>> {
        let ids = self.tokenizer()?.encode_framed(&[text])?.concat();
        Ok(self.bos.into_iter().chain(ids).collect())
    }
}
