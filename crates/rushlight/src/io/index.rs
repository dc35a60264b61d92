//! Shards: a model in many files, with an index that says which file holds which tensor.
//!
//! The index is JSON, `{"metadata": {…}, "weight_map": {"name": "file", …}}`, and lies beside its files. Reference:
//! Hugging Face's `model.safetensors.index.json`.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Value as Json, json};

use super::atomic::write_atomic;
use super::file::{Contents, TensorFile};
use super::json::from_json;
use super::value::Value;
use crate::storage::Bytes;
use crate::{Error, Result};

#[derive(serde::Deserialize)]
struct Index {
    #[serde(default)]
    metadata: BTreeMap<String, Json>,
    weight_map: Places,
}

/// Which file holds which tensor. A name that comes twice is refused, where JSON's readers would take the last.
struct Places(BTreeMap<String, String>);

impl<'de> serde::Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Places, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Places;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file for each tensor's name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Places, A::Error> {
                let mut places = BTreeMap::new();
                while let Some((name, file)) = map.next_entry::<String, String>()? {
                    if places.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("tensor {name:?} comes twice")));
                    }
                    places.insert(name, file);
                }
                Ok(Places(places))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The tensors of a folder or an index file.
pub(super) fn read(path: &Path) -> Result<Contents> {
    let index = if path.is_dir() { find(path)? } else { path.to_path_buf() };
    if !index.to_string_lossy().ends_with(".json") {
        return Ok(TensorFile::open(index)?.into_contents());
    }
    let text = Bytes::open(&index)?;
    let refuse = |message: String| Error::format(&index, 0, message);
    let parsed: Index = from_json(&text[..]).map_err(|e| refuse(format!("not an index of shards: {e}")))?;
    let folder = index.parent().unwrap_or(Path::new(""));

    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in &parsed.weight_map.0 {
        if file.is_empty() || file.contains(['/', '\\', ':']) || file.starts_with('.') || file.ends_with(".json") {
            return Err(refuse(format!(
                "tensor {tensor:?} is said to be in {file:?}, which is no file beside the index"
            )));
        }
        names.entry(file).or_default().push(tensor);
    }
    let mut entries = vec![];
    let mut metadata: Vec<(String, Value)> = vec![];
    for (file, tensors) in names {
        let shard = TensorFile::open(folder.join(file))?;
        if let Some(missing) = tensors.iter().find(|t| shard.info(t).is_none()) {
            return Err(refuse(format!("tensor {missing:?} is said to be in {file}, which does not hold it")));
        }
        // What a shard holds beyond the index is not the model's.
        let mine: HashSet<&str> = tensors.into_iter().collect();
        let contents = shard.into_contents();
        entries.extend(contents.entries.into_iter().filter(|e| mine.contains(e.info.name.as_str())));
        for (key, value) in contents.metadata {
            if metadata.iter().all(|(k, _)| *k != key) {
                metadata.push((key, value));
            }
        }
    }
    for (key, value) in parsed.metadata {
        let value = match &value {
            Json::String(text) => Value::from(text.as_str()),
            Json::Bool(x) => Value::Bool(*x),
            Json::Number(n) if n.is_i64() => Value::I64(n.as_i64().unwrap_or(0)),
            other => Value::String(other.to_string()),
        };
        if metadata.iter().all(|(k, _)| *k != key) {
            metadata.push((key, value));
        }
    }
    Ok(Contents { entries, metadata })
}

/// Writes the index of shards: which file beside it holds which tensor, and the bytes of all.
pub(super) fn write(path: &Path, total: u64, files: &BTreeMap<String, String>) -> Result<()> {
    let index = json!({ "metadata": { "total_size": total }, "weight_map": files });
    write_atomic(path, |file| writeln!(file, "{index:#}").map_err(|e| Error::io(path, e)))
}

/// The index of a folder, or its one file of tensors.
fn find(folder: &Path) -> Result<PathBuf> {
    let refused = |e| Error::io(folder, e);
    let mut indices = vec![];
    for entry in fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path.to_string_lossy().ends_with(".index.json") {
            indices.push(path);
        }
    }
    indices.sort();
    // Of the same model in two formats, safetensors.
    let preferred = indices.iter().find(|p| p.to_string_lossy().ends_with(".safetensors.index.json"));
    let single = folder.join("model.safetensors");
    match preferred.or(indices.first()) {
        Some(index) if !single.is_file() => Ok(index.clone()),
        None if !single.is_file() => {
            let message = "the folder has neither model.safetensors nor an index of shards (*.index.json)";
            Err(refused(io::Error::new(io::ErrorKind::NotFound, message)))
        }
        _ => Ok(single),
    }
}
