//! Llama by the names of Hugging Face, which are those of its fields here, and by those of GGUF files.
//!
//! The two keep the rows of the query and key weights in different orders. Rotary positions turn pairs of numbers of a
//! head; Hugging Face pairs number `i` with `D/2 + i`, as its code turns halves. Llama's first code, and llama.cpp after
//! it, pairs `2i` with `2i + 1`, and so a conversion to GGUF moves row `i` of a head's first half to row `2i` and row `i`
//! of its second half to row `2i + 1`. Here no row is moved: the network of a GGUF file turns neighbours
//! (`RotaryPairs::Interleaved`). The products of queries and keys are the same, and blocks can stay as they are.

use std::collections::HashSet;
use std::path::Path;

use rushlight::io::{Stored, TensorFile, TensorInfo, Value};
use rushlight::nn::Module;
use rushlight::{Error, Result, RotaryPairs};

use super::config::{architecture, expect, lacks, read_config};
use super::weights::{Names, check_sizes, load, placeholder};
use crate::{Llama, LlamaConfig, RopeScaling};

/// `config.json`. What it leaves out is as in Hugging Face's `LlamaConfig`, and of a Qwen2 as in `Qwen2Config`.
#[derive(serde::Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    /// The newer place of `rope_theta`.
    rope_parameters: Option<Rope>,
    rope_scaling: Option<Rope>,
    #[serde(default)]
    tie_word_embeddings: bool,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
}

#[derive(serde::Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    /// The older name of the second is the first.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl Rope {
    /// Errors: a kind of scaling that is not known, or without one of its numbers, or with one that makes no sense.
    fn scaling(&self, path: &Path) -> Result<RopeScaling> {
        let number = |key: &str, value: Option<f64>| match value {
            Some(x) if x > 0.0 && x.is_finite() => Ok(x),
            Some(x) => Err(lacks(path, &format!("{key} of the rotary positions"), x, "a number above 0")),
            None => Err(Error::format(path, 0, format!("the scaling of rotary positions has no {key}"))),
        };
        match self.rope_type.as_deref().or(self.kind.as_deref()) {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear(number("factor", self.factor)?)),
            Some("llama3") => {
                let low_freq_factor = number("low_freq_factor", self.low_freq_factor)?;
                let high_freq_factor = number("high_freq_factor", self.high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    let has = "a number above low_freq_factor";
                    return Err(lacks(path, "high_freq_factor of the rotary positions", high_freq_factor, has));
                }
                let original = number("original_max_position_embeddings", self.original_max_position_embeddings)?;
                Ok(RopeScaling::Llama3 {
                    factor: number("factor", self.factor)?,
                    low_freq_factor,
                    high_freq_factor,
                    original,
                })
            }
            Some(other) => Err(lacks(path, "the scaling of rotary positions", other, "linear or llama3")),
        }
    }
}

/// What a GGUF file of a Llama 3.1 divides the angles of rotary positions by.
const DIVISORS: &str = "rope_freqs.weight";

/// What our fields are called in GGUF, after `blk.N.`.
const LAYER: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// `layers.3.self_attn.q_proj.weight` as `blk.3.attn_q.weight`, and so on.
pub(super) fn gguf_name(own: &str) -> String {
    match own {
        "embed_tokens.weight" => return "token_embd.weight".to_string(),
        "norm.weight" => return "output_norm.weight".to_string(),
        "lm_head.weight" => return "output.weight".to_string(),
        _ => {}
    }
    let layer = own.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    let renamed = layer.and_then(|(i, rest)| {
        let (field, end) = rest.rsplit_once('.')?;
        let (_, theirs) = LAYER.iter().find(|(ours, _)| *ours == field)?;
        Some(format!("blk.{i}.{theirs}.{end}"))
    });
    renamed.unwrap_or_else(|| own.to_string())
}

/// What a folder calls our parameters.
pub(super) fn folder_name(own: &str) -> String {
    if own.starts_with("lm_head.") { own.to_string() } else { format!("model.{own}") }
}

impl Llama {
    /// From a folder with `config.json` and `model.safetensors` (or shards), or a GGUF file, whose quantised tensors are
    /// taken as f32.
    ///
    /// A Qwen2 is one with biases of queries, keys and values.
    ///
    /// Errors: something else, or a Llama with what this one has not (an activation other than SiLU, experts, rotary
    /// positions scaled in another way than by a factor or as Llama 3.1's); tensors that do not fit, by their names;
    /// damaged files.
    pub fn from_pretrained(path: impl AsRef<Path>) -> Result<Llama> {
        let path = path.as_ref();
        if path.is_dir() { Llama::of_folder(path) } else { Llama::of_gguf(&TensorFile::open(path)?) }
    }

    fn of_folder(folder: &Path) -> Result<Llama> {
        let qwen = architecture(folder)? == "qwen2";
        if !qwen {
            expect(folder, "llama")?;
        }
        let config: Config = read_config(folder)?;
        let path = folder.join("config.json");
        if let Some(other) = config.hidden_act.as_ref().filter(|f| *f != "silu") {
            return Err(lacks(&path, "hidden_act", other, "silu"));
        }
        if config.use_sliding_window {
            return Err(lacks(&path, "use_sliding_window", true, "false"));
        }
        let rope = config.rope_parameters;
        let told = config.rope_scaling.as_ref().or(rope.as_ref());
        let rope_scaling = told.map_or(Ok(RopeScaling::None), |told| told.scaling(&path))?;
        let heads = config.num_attention_heads;
        let head_dim = match config.head_dim {
            Some(width) => width,
            None if heads > 0 && config.hidden_size.is_multiple_of(heads) => config.hidden_size / heads,
            None => return Err(lacks(&path, "num_attention_heads", heads, "a divisor of hidden_size")),
        };
        let config = LlamaConfig {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: config.num_key_value_heads.unwrap_or(heads),
            head_dim,
            max_position_embeddings: config.max_position_embeddings.unwrap_or(2048),
            rms_norm_eps: config.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: rope.and_then(|rope| rope.rope_theta).or(config.rope_theta).unwrap_or(1e4),
            rope_scaling,
            rotary_pairs: RotaryPairs::HalfSplit,
            tie_word_embeddings: config.tie_word_embeddings,
            qkv_bias: qwen || config.attention_bias,
            o_bias: !qwen && config.attention_bias,
            mlp_bias: !qwen && config.mlp_bias,
        };
        let unused = |name: &str| name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq");
        Llama::of_file(&config, &TensorFile::open(folder)?, &folder_name, &unused)
    }

    /// From an open GGUF file. Errors: as [`Llama::from_pretrained`].
    pub(super) fn of_gguf(file: &TensorFile) -> Result<Llama> {
        let path = file.path();
        let refuse = |message: String| Error::format(path, 0, message);
        let Some(architecture) = file.value("general.architecture").and_then(Value::as_str) else {
            let message = format!("{} without general.architecture; expected a model as GGUF", file.format().name());
            return Err(refuse(message));
        };
        // Of the two, Llama's files alone have the rows of queries and keys in another order.
        let rotary_pairs = match architecture {
            "llama" => RotaryPairs::Interleaved,
            "qwen2" => RotaryPairs::HalfSplit,
            other => {
                let message = format!("the architecture {other:?} is not known; of GGUF files, llama and qwen2 are");
                return Err(refuse(message));
            }
        };
        let value = |key: &str| file.value(&format!("{architecture}.{key}"));
        let size = |key: &str| {
            let found = value(key).and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
            found.ok_or_else(|| refuse(format!("the metadata has no size {architecture}.{key}")))
        };
        let number = |key: &str| value(key).and_then(Value::as_f64);
        let size_or = |key: &str, other: usize| if value(key).is_some() { size(key) } else { Ok(other) };
        let rope_scaling = match value("rope.scaling.type").and_then(Value::as_str) {
            // Llama 3.1's way is a list of divisors.
            None | Some("none") if file.info(DIVISORS).is_some() => {
                let divisors = file.tensor(DIVISORS)?.to_f64_vec()?;
                RopeScaling::Divisors(divisors)
            }
            None | Some("none") => match number("rope.scale_linear") {
                Some(factor) if factor != 1.0 => RopeScaling::Linear(factor),
                _ => RopeScaling::None,
            },
            Some("linear") => {
                let key = format!("{architecture}.rope.scaling.factor");
                RopeScaling::Linear(
                    number("rope.scaling.factor").ok_or_else(|| refuse(format!("the metadata has no {key}")))?,
                )
            }
            Some(kind) => return Err(lacks(path, &format!("{architecture}.rope.scaling.type"), kind, "linear")),
        };
        if size_or("expert_count", 0)? > 0 {
            return Err(lacks(path, "llama.expert_count", size("expert_count")?, "0"));
        }
        let (hidden_size, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let head_dim = size_or("attention.key_length", hidden_size.checked_div(heads).unwrap_or(0))?;
        let turned = size_or("rope.dimension_count", head_dim)?;
        if turned != head_dim {
            return Err(lacks(path, "llama.rope.dimension_count", turned, "the width of a head"));
        }
        let has = |name: &str| file.info(name).is_some();
        let rows = file.info("token_embd.weight").and_then(|info| info.shape.dims().first().copied());
        let config = LlamaConfig {
            vocab_size: size_or("vocab_size", rows.unwrap_or(0))?,
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: size("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: size_or("attention.head_count_kv", heads)?,
            head_dim,
            max_position_embeddings: size("context_length")?,
            rms_norm_eps: number("attention.layer_norm_rms_epsilon")
                .ok_or_else(|| refuse("the metadata has no llama.attention.layer_norm_rms_epsilon".to_string()))?,
            rope_theta: number("rope.freq_base").unwrap_or(1e4),
            rope_scaling,
            rotary_pairs,
            tie_word_embeddings: file.info("output.weight").is_none(),
            qkv_bias: has("blk.0.attn_q.bias"),
            o_bias: has("blk.0.attn_output.bias"),
            mlp_bias: has("blk.0.ffn_up.bias"),
        };
        Llama::of_file(&config, file, &gguf_name, &|name| name == DIVISORS)
    }

    fn of_file(
        config: &LlamaConfig,
        file: &TensorFile,
        of: &dyn Fn(&str) -> String,
        unused: &dyn Fn(&str) -> bool,
    ) -> Result<Llama> {
        let sizes = [config.vocab_size, config.hidden_size];
        check_sizes(file, &of("embed_tokens.weight"), sizes, config.num_hidden_layers)?;
        let mut llama = Llama::with(config, placeholder)?;
        let quantised = |own: &str| matches!(file.info(&of(own)), Some(TensorInfo { stored: Stored::Quant(_), .. }));
        let matrices: HashSet<String> = llama.matrices().into_iter().map(|(own, _)| own).collect();
        let kept = |own: &str| quantised(own) && matrices.contains(own);
        load(&mut llama, file, &Names { of, turned: &|_| false, unused, kept: &kept })?;
        for (own, weight) in llama.matrices().into_iter().filter(|(own, _)| kept(own)) {
            *weight = file.weight(&of(&own))?;
        }
        llama.eval();
        Ok(llama)
    }
}

#[cfg(test)]
mod tests {
    use super::gguf_name;

    #[test]
    fn names() {
        for (own, theirs) in [
            ("embed_tokens.weight", "token_embd.weight"),
            ("layers.12.self_attn.o_proj.weight", "blk.12.attn_output.weight"),
            ("layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
            ("norm.weight", "output_norm.weight"),
        ] {
            assert_eq!(gguf_name(own), theirs);
        }
    }
}
