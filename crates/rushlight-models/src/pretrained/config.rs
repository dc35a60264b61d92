//! The configuration files of a folder: `config.json` and its neighbours.

use std::path::Path;

use rushlight::data::text::read_text;
use rushlight::{Error, Result};
use serde::de::DeserializeOwned;

use crate::text::tokenizer::offset;

pub(super) use serde_json::Value as Json;

/// The architectures that are known, as `model_type` and the beginning of `architectures` call them.
const KNOWN: [(&str, &str); 4] = [("bert", "Bert"), ("gpt2", "GPT2"), ("llama", "Llama"), ("qwen2", "Qwen2")];

/// `config.json` of a folder, as what the architecture asks for.
///
/// Errors: no such file; no JSON, or a value that is missing or of another type, by name.
pub(super) fn read_config<T: DeserializeOwned>(folder: &Path) -> Result<T> {
    read(&folder.join("config.json"))
}

/// A file of JSON.
pub(super) fn read_json(path: &Path) -> Result<Json> {
    read(path)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map_err(|e| Error::format(path, offset(&text, e.line(), e.column()) as u64, e.to_string()))
}

#[derive(serde::Deserialize)]
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

/// One id, or many.
pub(super) fn ids(value: Option<&Json>) -> Vec<i64> {
    match value {
        Some(Json::Array(all)) => all.iter().filter_map(Json::as_i64).collect(),
        Some(one) => one.as_i64().into_iter().collect(),
        None => vec![],
    }
}

/// The template of `tokenizer_config.json`: a text, or one of several by name, of which `default` is the one for chats.
pub(super) fn chat_template(about: &Json) -> Option<String> {
    let told = about.get("chat_template")?;
    let named = || told.as_array()?.iter().find(|one| one["name"] == "default")?.get("template");
    told.as_str().or_else(|| named()?.as_str()).map(str::to_string)
}

/// A token of `tokenizer_config.json`: its text, or an object that says more.
pub(super) fn token(about: &Json, key: &str) -> Option<String> {
    let told = about.get(key)?;
    told.as_str().or_else(|| told.get("content")?.as_str()).map(str::to_string)
}
