//! The configuration files of a folder: `config.json` and its neighbours.

use std::collections::BTreeMap;
use std::path::Path;

use rushlight::data::text::read_text;
use rushlight::io::from_json_in;
use rushlight::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(super) use serde_json::Value as Json;

/// The architectures that are known, as `model_type` and the beginning of `architectures` call them.
const KNOWN: [(&str, &str); 4] = [("bert", "Bert"), ("gpt2", "GPT2"), ("llama", "Llama"), ("qwen2", "Qwen2")];

/// `config.json` of a folder, as what the architecture asks for.
///
/// Errors: no such file; no JSON, or a value that is missing or of another type, by name.
pub(super) fn read_config<T: DeserializeOwned>(folder: &Path) -> Result<T> {
    read(&folder.join("config.json"))
}

/// A file of JSON. Errors: those of [`read_config`].
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    from_json_in(path, &read_text(path)?)
}

#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
}

/// What a folder's network is: one of `bert`, `gpt2`, `llama`, `qwen2`. Errors: another, by its name.
pub(super) fn architecture(folder: &Path) -> Result<String> {
    let kind: Kind = read_config(folder)?;
    let classes = kind.architectures.unwrap_or_default();
    let found = match &kind.model_type {
        Some(name) => KNOWN.iter().find(|(known, _)| known == name),
        None => KNOWN.iter().find(|(_, class)| classes.iter().any(|name| name.starts_with(class))),
    };
    if let Some((name, _)) = found {
        return Ok(name.to_string());
    }
    let name = kind.model_type.or(classes.first().cloned()).unwrap_or_default();
    let message = format!("the architecture {name:?} is not known; bert, gpt2, llama and qwen2 are");
    Err(Error::format(folder.join("config.json"), 0, message))
}

/// Errors: a folder of another architecture.
pub(super) fn expect(folder: &Path, wanted: &str) -> Result<()> {
    let found = architecture(folder)?;
    if found == wanted {
        return Ok(());
    }
    Err(Error::format(folder.join("config.json"), 0, format!("a network of {found}, where {wanted} was asked for")))
}

/// The refusal of a setting that the network here does not have.
pub(super) fn lacks(path: &Path, key: &str, value: impl std::fmt::Display, has: &str) -> Error {
    Error::format(path, 0, format!("{key} is {value}, which is not supported; {has} is"))
}

/// The ids that end a text, as `config.json` and `generation_config.json` tell them.
#[derive(Default, Deserialize)]
pub(super) struct Ends {
    eos_token_id: Option<Ids>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an id, or a list of ids")]
enum Ids {
    One(i64),
    Many(Vec<i64>),
}

impl Ends {
    /// The ids, if any are told.
    pub(super) fn ids(self) -> Option<Vec<i64>> {
        self.eos_token_id.map(|ids| match ids {
            Ids::One(id) => vec![id],
            Ids::Many(all) => all,
        })
    }
}

/// The name of the template for chats, where there are several.
const DEFAULT: &str = "default";

/// What is used of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
pub(super) struct About {
    chat_template: Option<Template>,
    pub(super) bos_token: Option<Token>,
    pub(super) eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts, each as {\"name\": \"…\", \"template\": \"…\"}")]
enum Template {
    One(String),
    Many(Vec<Named>),
    ByName(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, or an object with a text as its content")]
pub(super) enum Token {
    Text(String),
    More { content: String },
}

impl About {
    /// The template for chats.
    pub(super) fn chat_template(&mut self) -> Option<String> {
        match self.chat_template.take()? {
            Template::One(text) => Some(text),
            Template::Many(all) => all.into_iter().find(|one| one.name == DEFAULT).map(|one| one.template),
            Template::ByName(mut all) => all.remove(DEFAULT),
        }
    }
}

impl From<Token> for String {
    fn from(token: Token) -> String {
        match token {
            Token::Text(text) | Token::More { content: text } => text,
        }
    }
}
