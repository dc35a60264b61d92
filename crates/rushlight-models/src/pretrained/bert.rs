//! BERT by Hugging Face's names.

use std::path::Path;

use rushlight::Result;
use rushlight::io::TensorFile;
use rushlight::nn::Module;

use super::config::{expect, lacks, read_config};
use super::weights::{Names, check_sizes, load, placeholder};
use crate::{Bert, BertConfig};

/// `config.json`.
#[derive(serde::Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "eps")]
    layer_norm_eps: f64,
    #[serde(default)]
    hidden_dropout_prob: f64,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn two() -> usize {
    2
}

fn eps() -> f64 {
    1e-12
}

/// What our fields are called there, the longer names first.
const FIELDS: [(&str, &str); 9] = [
    ("embeddings.token_type", "embeddings.token_type_embeddings"),
    ("embeddings.position", "embeddings.position_embeddings"),
    ("embeddings.word", "embeddings.word_embeddings"),
    ("embeddings.norm", "embeddings.LayerNorm"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("attention.output", "attention.output.dense"),
    ("intermediate", "intermediate.dense"),
    ("output_norm", "output.LayerNorm"),
    ("output", "output.dense"),
];

/// `layers.3.attention.query.weight` as `encoder.layer.3.attention.self.query.weight`, and so on.
fn name_of(own: &str) -> String {
    let (start, rest) = match own.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        Some((i, rest)) => (format!("encoder.layer.{i}."), rest),
        None => (String::new(), own),
    };
    let renamed = FIELDS.iter().find_map(|(ours, theirs)| {
        let end = rest.strip_prefix(ours).filter(|end| end.starts_with('.'))?;
        Some(format!("{theirs}{end}"))
    });
    start + &renamed.unwrap_or_else(|| rest.replace("attention.", "attention.self."))
}

impl Bert {
    /// From a folder with `config.json` and `model.safetensors`, in evaluation mode. A head or pooler that the file has
    /// besides is left out.
    ///
    /// Errors: a folder of something else, or of a BERT with what this one has not (an activation other than exact
    /// GELU, relative positions, a decoder); tensors that do not fit, by their names; damaged files.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Bert> {
        let folder = folder.as_ref();
        expect(folder, "bert")?;
        let config: Config = read_config(folder)?;
        let path = folder.join("config.json");
        match (config.hidden_act.as_deref(), config.position_embedding_type.as_deref()) {
            (Some(f), _) if f != "gelu" => return Err(lacks(&path, "hidden_act", f, "gelu")),
            (_, Some(kind)) if kind != "absolute" => {
                return Err(lacks(&path, "position_embedding_type", kind, "absolute"));
            }
            _ if config.is_decoder => return Err(lacks(&path, "is_decoder", true, "false")),
            _ => {}
        }
        let config = BertConfig {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            intermediate_size: config.intermediate_size,
            max_position_embeddings: config.max_position_embeddings,
            type_vocab_size: config.type_vocab_size,
            layer_norm_eps: config.layer_norm_eps,
            dropout: config.hidden_dropout_prob,
        };
        let file = TensorFile::open(folder)?;
        // With a head, all the rest is a field of that network.
        let table = "embeddings.word_embeddings.weight";
        let prefix = if file.info(&format!("bert.{table}")).is_some() { "bert." } else { "" };
        let sizes = [config.vocab_size, config.hidden_size];
        check_sizes(&file, &format!("{prefix}{table}"), sizes, config.num_hidden_layers)?;
        check_sizes(
            &file,
            &format!("{prefix}embeddings.position_embeddings.weight"),
            [config.max_position_embeddings, config.hidden_size],
            config.num_hidden_layers,
        )?;
        let mut bert = Bert::with(&config, placeholder)?;
        let unused = |name: &str| {
            let name = name.strip_prefix(prefix).unwrap_or(name);
            name.ends_with("position_ids") || ["pooler.", "cls.", "classifier."].iter().any(|p| name.starts_with(p))
        };
        let of = |own: &str| format!("{prefix}{}", name_of(own));
        load(&mut bert, &file, &Names { of: &of, turned: &|_| false, unused: &unused, kept: &|_| false })?;
        bert.eval();
        Ok(bert)
    }
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn names() {
        for (own, theirs) in [
            ("embeddings.word.weight", "embeddings.word_embeddings.weight"),
            ("embeddings.norm.bias", "embeddings.LayerNorm.bias"),
            ("layers.11.attention.query.weight", "encoder.layer.11.attention.self.query.weight"),
            ("layers.0.attention.output.bias", "encoder.layer.0.attention.output.dense.bias"),
            ("layers.0.attention_norm.weight", "encoder.layer.0.attention.output.LayerNorm.weight"),
            ("layers.2.intermediate.weight", "encoder.layer.2.intermediate.dense.weight"),
            ("layers.2.output.weight", "encoder.layer.2.output.dense.weight"),
            ("layers.2.output_norm.weight", "encoder.layer.2.output.LayerNorm.weight"),
        ] {
            assert_eq!(name_of(own), theirs);
        }
    }
}
