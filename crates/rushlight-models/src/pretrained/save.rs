//! A network that has learnt on, in the form in which it came: what can read the one can read the other.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use rushlight::io::{TensorFile, Value, Weight, save_gguf, save_safetensors, write_atomic};
use rushlight::nn::{Module, StateDict};
use rushlight::{DType, Error, Result};

use super::config::{Json, read};
use super::{Network, gpt, llama};

/// What lies beside the weights in a folder and is as true of the new ones. `config.json` goes last: without it a folder
/// is no model.
const BESIDE: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
    "config.json",
];

impl Network {
    /// Writes this network to `target` as the model at `source`, which it comes from, is kept: as a GGUF file with the
    /// same metadata, or as a folder with the same names of tensors, configuration and tokenizer. Weights are f32.
    ///
    /// ```no_run
    /// use rushlight_models::Pretrained;
    ///
    /// let found = Pretrained::load("SmolLM2-135M-Instruct.Q4_1.gguf")?;
    /// // … and when it has learnt on:
    /// found.network.save_like("SmolLM2-135M-Instruct.Q4_1.gguf", "smol-tuned.gguf")?;
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Files are replaced whole or not at all. Errors: a BERT; a source that names its tensors otherwise; what the
    /// system refuses.
    pub fn save_like(&self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let (source, target) = (source.as_ref(), target.as_ref());
        let file = TensorFile::open(source)?;
        let (state, folder) = (self.state_dict(), source.is_dir());
        let tensors = match self {
            Network::Gpt(_) => named(state, &file, &gpt::folder_name(&file), &gpt::is_turned)?,
            Network::Llama(_) if folder => named(state, &file, &llama::folder_name, &|_| false)?,
            Network::Llama(_) => named(state, &file, &llama::gguf_name, &|_| false)?,
            Network::Bert(_) => return Err(Error::invalid("save_like", "a BERT is not written")),
        };
        if folder { save_folder(source, target, &tensors) } else { save_file(&file, target, tensors) }
    }
}

/// The parameters as `file` names and turns them, as f32.
fn named(
    state: StateDict,
    file: &TensorFile,
    of: &dyn Fn(&str) -> String,
    turned: &dyn Fn(&str) -> bool,
) -> Result<StateDict> {
    let mut out = StateDict::new();
    for (own, t) in state {
        let (name, t) = (of(&own), t.to_dtype(DType::F32)?);
        let t = if turned(&own) { t.t()? } else { t };
        if file.info(&name).is_none_or(|info| info.shape != *t.shape()) {
            let message = format!("the network's {name} of shape {} is none of this model's tensors", t.shape());
            return Err(Error::format(file.path(), 0, message));
        }
        out.insert(name, t);
    }
    Ok(out)
}

fn save_file(file: &TensorFile, target: &Path, tensors: StateDict) -> Result<()> {
    let mut all: BTreeMap<String, Weight> = tensors.into_iter().map(|(name, t)| (name, t.into())).collect();
    // What is no parameter stays as it is.
    for info in file.infos() {
        if !all.contains_key(&info.name) {
            all.insert(info.name.clone(), file.weight(&info.name)?);
        }
    }
    let fresh = |(key, value): &(String, Value)| match key.as_str() {
        "general.file_type" => (key.clone(), Value::U32(0)), // f32
        _ => (key.clone(), value.clone()),
    };
    save_gguf(target, &all, &file.metadata().iter().map(fresh).collect::<Vec<_>>())
}

fn save_folder(source: &Path, target: &Path, tensors: &StateDict) -> Result<()> {
    fs::create_dir_all(target).map_err(|e| Error::io(target, e))?;
    // transformers asks for the format.
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    save_safetensors(target.join("model.safetensors"), tensors, &metadata)?;
    for name in BESIDE {
        let (from, to) = (source.join(name), target.join(name));
        if !from.is_file() {
            continue;
        }
        let bytes = if name == "config.json" {
            let mut config: Json = read(&from)?;
            for key in ["torch_dtype", "dtype"] {
                if let Some(dtype) = config.get_mut(key) {
                    *dtype = "float32".into();
                }
            }
            config.to_string().into_bytes()
        } else {
            fs::read(&from).map_err(|e| Error::io(&from, e))?
        };
        write_atomic(&to, |f| f.write_all(&bytes).map_err(|e| Error::io(&to, e)))?;
    }
    Ok(())
}
