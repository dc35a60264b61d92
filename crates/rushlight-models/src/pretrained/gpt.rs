//! GPT-2 by Hugging Face's names, which are those of its fields here.

use std::path::Path;

use rushlight::Result;
use rushlight::io::TensorFile;
use rushlight::nn::{LayerNorm, Module};

use super::config::{expect, lacks, read_config};
use super::weights::{Names, check_sizes, load, placeholder};
use crate::{Gpt, GptConfig};

/// `config.json`. What it leaves out is as in GPT-2.
#[derive(serde::Deserialize)]
struct Config {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: Option<String>,
    #[serde(default = "eps")]
    layer_norm_epsilon: f64,
    #[serde(default)]
    resid_pdrop: f64,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn eps() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

/// What a folder calls our parameters. With its output layer, all the rest is a field of that network.
pub(super) fn folder_name(file: &TensorFile) -> impl Fn(&str) -> String + use<> {
    let prefix = if file.info("transformer.wte.weight").is_some() { "transformer." } else { "" };
    move |own| format!("{prefix}{own}")
}

/// Whether a folder has the matrix the other way round: its linear layers were convolutions of one place, `[in, out]`.
pub(super) fn is_turned(own: &str) -> bool {
    own.starts_with("h.") && own.ends_with(".weight") && own.contains(".c_")
}

impl Gpt {
    /// From a folder with `config.json` and `model.safetensors` (or shards) of GPT-2's kind, in evaluation mode.
    ///
    /// Errors: a folder of something else, or of a GPT-2 with what this one has not (a network other than C → 4C → C by
    /// GELU's tanh form, scores scaled otherwise, an output layer of its own); tensors that do not fit, by their
    /// names; damaged files.
    pub fn from_pretrained(folder: impl AsRef<Path>) -> Result<Gpt> {
        let folder = folder.as_ref();
        expect(folder, "gpt2")?;
        let config: Config = read_config(folder)?;
        let path = folder.join("config.json");
        match config.activation_function.as_deref() {
            None | Some("gelu_new" | "gelu_pytorch_tanh") => {}
            Some(other) => return Err(lacks(&path, "activation_function", other, "gelu_new")),
        }
        if let Some(inner) = config.n_inner.filter(|n| Some(*n) != config.n_embd.checked_mul(4)) {
            return Err(lacks(&path, "n_inner", inner, "4 · n_embd"));
        }
        if !config.scale_attn_weights || config.scale_attn_by_inverse_layer_idx {
            return Err(lacks(&path, "the scale of scores", "another", "1 / √dim"));
        }
        if !config.tie_word_embeddings {
            return Err(lacks(&path, "tie_word_embeddings", false, "true"));
        }
        let eps = config.layer_norm_epsilon;
        let config = GptConfig {
            vocab_size: config.vocab_size,
            block_size: config.n_positions,
            n_layer: config.n_layer,
            n_head: config.n_head,
            n_embd: config.n_embd,
            dropout: config.resid_pdrop,
            bias: true,
        };
        let file = TensorFile::open(folder)?;
        let of = folder_name(&file);
        check_sizes(&file, &of("wte.weight"), [config.vocab_size, config.n_embd], config.n_layer)?;
        let mut gpt = Gpt::with(&config, |shape, _| placeholder(shape))?;
        let norms = gpt.h.iter_mut().flat_map(|block| [&mut block.ln_1, &mut block.ln_2]);
        norms.chain([&mut gpt.ln_f]).for_each(|norm: &mut LayerNorm| norm.eps = eps);
        // The triangles of causal attention are kept beside its weights.
        let unused = |name: &str| {
            name == "lm_head.weight" || name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
        };
        load(&mut gpt, &file, &Names { of: &of, turned: &is_turned, unused: &unused, kept: &|_| false })?;
        gpt.eval();
        Ok(gpt)
    }
}
