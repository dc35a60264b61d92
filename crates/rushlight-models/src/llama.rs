//! Llama: the Transformer decoder of most open language models, such as SmolLM.
//!
//! Source: Touvron et al. 2023. Blocks with RMS norm before, rotary positions, queries in groups that share keys and
//! values (Ainslie et al. 2023), a SwiGLU network. The output layer may be the token table used again. With biases of
//! queries, keys and values it is a Qwen2.
//! Every matrix may be one of blocks of few bits, as it comes from a GGUF file.

use rushlight::io::Weight;
use rushlight::nn::{AttentionCache, KvCache, Layer, Module, QEmbedding, QLinear, RmsNorm, Rotary};
use rushlight::{AttentionOptions, Causal, DType, Error, Result, RotaryPairs, Tensor, no_grad};

/// The sizes of a [`Llama`], by Hugging Face's names.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the network for each place.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values; they divide those of queries.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Keeps the norms' divisions finite.
    pub rms_norm_eps: f64,
    /// The base of the rotary positions.
    pub rope_theta: f64,
    /// How the positions were stretched after the first training.
    pub rope_scaling: RopeScaling,
    /// Which numbers of a head are turned together. The rows of the query and key weights are in an order that fits one
    /// of the two: halves in Hugging Face's files, neighbours in GGUF files.
    pub rotary_pairs: RotaryPairs,
    /// Whether the output layer is the token table.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output has one.
    pub o_bias: bool,
    /// Whether the network for each place has them.
    pub mlp_bias: bool,
}

/// How rotary positions are stretched, for longer texts than those that a model first learnt from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Places are divided by this.
    Linear(f64),
    /// As Llama 3.1: pairs that turn round less than `low_freq_factor` times in `original` places are slowed by `factor`,
    /// those that do more than `high_freq_factor` times are not, and those between in part.
    Llama3 {
        /// By how much the slowest are slowed.
        factor: f64,
        /// Turns below which a pair is slow.
        low_freq_factor: f64,
        /// Turns from which on it is fast.
        high_freq_factor: f64,
        /// Places of the first training.
        original: f64,
    },
    /// Each pair's angles are divided by one of these.
    Divisors(Vec<f64>),
}

impl RopeScaling {
    /// What the angles of each of the `pairs` pairs are divided by.
    fn divisors(&self, pairs: usize, theta: f64) -> Option<Vec<f64>> {
        match self {
            RopeScaling::None => None,
            RopeScaling::Linear(factor) => Some(vec![*factor; pairs]),
            RopeScaling::Divisors(all) => Some(all.clone()),
            RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original } => {
                let divisor = |i: usize| {
                    let frequency = theta.powf(-(i as f64) / pairs as f64);
                    let turns = original * frequency / std::f64::consts::TAU;
                    let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    1.0 / ((1.0 - fast) / factor + fast)
                };
                Some((0..pairs).map(divisor).collect())
            }
        }
    }
}

impl LlamaConfig {
    /// That of SmolLM2-135M, as Hugging Face has it.
    pub fn smol_lm2_135m() -> LlamaConfig {
        LlamaConfig {
            vocab_size: 49152,
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            head_dim: 64,
            max_position_embeddings: 8192,
            rms_norm_eps: 1e-5,
            rope_theta: 1e5,
            rope_scaling: RopeScaling::None,
            rotary_pairs: RotaryPairs::HalfSplit,
            tie_word_embeddings: true,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
        }
    }
}

/// `[B, T]` token ids to `[B, T, vocab]` logits.
///
/// ```
/// use rushlight::Tensor;
/// use rushlight_models::{Llama, LlamaConfig};
///
/// let small = LlamaConfig { vocab_size: 16, hidden_size: 36, intermediate_size: 48, ..LlamaConfig::smol_lm2_135m() };
/// let llama = Llama::new(&LlamaConfig { num_hidden_layers: 2, head_dim: 4, ..small })?;
/// let mut cache = llama.cache(8);
/// let mut logits = llama.next_logits(&Tensor::new([[3i64, 1, 4]])?, &mut cache)?; // the prompt
/// for _ in 0..5 {
///     let token = logits.argmax(-1)?; // [1]
///     logits = llama.next_logits(&token.unsqueeze(0)?, &mut cache)?; // [1, vocab]
/// }
/// assert_eq!((logits.dims(), cache.len()), (&[1, 16][..], 8));
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct Llama {
    /// Token embeddings: `[vocab, C]`.
    pub embed_tokens: QEmbedding,
    /// The layers.
    pub layers: Vec<LlamaLayer>,
    /// The last norm.
    pub norm: RmsNorm,
    /// C → vocab, where it is not the token embeddings used again.
    pub lm_head: Option<QLinear>,
    max_positions: usize,
}

/// One layer: attention, then a network for each place, each added to what comes in.
#[derive(Module)]
pub struct LlamaLayer {
    /// Before the attention.
    pub input_layernorm: RmsNorm,
    /// Attention over what came before.
    pub self_attn: LlamaAttention,
    /// Before the network.
    pub post_attention_layernorm: RmsNorm,
    /// The network for each place.
    pub mlp: LlamaMlp,
}

/// Attention of every place to those before it and itself, with fewer heads of keys than of queries.
#[derive(Module)]
pub struct LlamaAttention {
    /// C → heads · D.
    pub q_proj: QLinear,
    /// C → kv_heads · D.
    pub k_proj: QLinear,
    /// C → kv_heads · D.
    pub v_proj: QLinear,
    /// heads · D → C.
    pub o_proj: QLinear,
    rotary: Rotary,
    head_dim: usize,
}

/// SwiGLU: `down(silu(gate(x)) ∘ up(x))`.
#[derive(Module)]
pub struct LlamaMlp {
    /// C → inner.
    pub gate_proj: QLinear,
    /// C → inner.
    pub up_proj: QLinear,
    /// inner → C.
    pub down_proj: QLinear,
}

impl Llama {
    /// With weights as Llama's start: normal of 0.02.
    ///
    /// Errors: a size of 0; heads of keys that do not divide those of queries; an odd `head_dim`.
    pub fn new(config: &LlamaConfig) -> Result<Llama> {
        Llama::with(config, |shape| Tensor::normal(shape, 0.0, 0.02, DType::F32)?.requires_grad())
    }

    /// With matrices that `matrix` makes.
    pub(crate) fn with(config: &LlamaConfig, matrix: impl Fn(&[usize]) -> Result<Tensor>) -> Result<Llama> {
        let LlamaConfig { hidden_size: c, intermediate_size: inner, head_dim, .. } = *config;
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let sizes = [config.vocab_size, c, inner, head_dim, heads, kv_heads, config.max_position_embeddings];
        if sizes.contains(&0) || !heads.is_multiple_of(kv_heads) {
            let message = format!("{config:?}: sizes must not be 0, and heads of keys must divide those of queries");
            return Err(Error::invalid("Llama", message));
        }
        let wide = |heads: usize| {
            let width = heads.checked_mul(head_dim);
            width.ok_or_else(|| Error::invalid("Llama", format!("{heads} heads of {head_dim} numbers are too many")))
        };
        let (q_width, kv_width) = (wide(heads)?, wide(kv_heads)?);
        // One table of angles for all layers.
        let mut rotary = Rotary::new(head_dim, config.rope_theta, config.rotary_pairs)?;
        if let Some(divisors) = config.rope_scaling.divisors(head_dim / 2, config.rope_theta) {
            rotary = rotary.divided(divisors)?;
        }
        let linear = |from: usize, to: usize, bias: bool| {
            let bias = bias.then(|| Tensor::zeros(to, DType::F32)?.requires_grad()).transpose()?;
            Ok::<_, Error>(QLinear { weight: matrix(&[to, from])?.into(), bias })
        };
        let LlamaConfig { qkv_bias, o_bias, mlp_bias, .. } = *config;
        let norm = || Ok::<_, Error>(RmsNorm { eps: config.rms_norm_eps, ..RmsNorm::new([c])? });
        let layer = |_| {
            Ok(LlamaLayer {
                input_layernorm: norm()?,
                self_attn: LlamaAttention {
                    q_proj: linear(c, q_width, qkv_bias)?,
                    k_proj: linear(c, kv_width, qkv_bias)?,
                    v_proj: linear(c, kv_width, qkv_bias)?,
                    o_proj: linear(q_width, c, o_bias)?,
                    rotary: rotary.clone(),
                    head_dim,
                },
                post_attention_layernorm: norm()?,
                mlp: LlamaMlp {
                    gate_proj: linear(c, inner, mlp_bias)?,
                    up_proj: linear(c, inner, mlp_bias)?,
                    down_proj: linear(inner, c, mlp_bias)?,
                },
            })
        };
        Ok(Llama {
            embed_tokens: QEmbedding { weight: matrix(&[config.vocab_size, c])?.into() },
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: norm()?,
            lm_head: (!config.tie_word_embeddings).then(|| linear(c, config.vocab_size, false)).transpose()?,
            max_positions: config.max_position_embeddings,
        })
    }

    /// Its matrices by name, each of which may be kept in blocks.
    pub(crate) fn matrices(&mut self) -> Vec<(String, &mut Weight)> {
        let mut all = vec![("embed_tokens.weight".to_string(), &mut self.embed_tokens.weight)];
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let (attention, mlp) = (&mut layer.self_attn, &mut layer.mlp);
            for (name, part) in [
                ("self_attn.q_proj", &mut attention.q_proj),
                ("self_attn.k_proj", &mut attention.k_proj),
                ("self_attn.v_proj", &mut attention.v_proj),
                ("self_attn.o_proj", &mut attention.o_proj),
                ("mlp.gate_proj", &mut mlp.gate_proj),
                ("mlp.up_proj", &mut mlp.up_proj),
                ("mlp.down_proj", &mut mlp.down_proj),
            ] {
                all.push((format!("layers.{i}.{name}.weight"), &mut part.weight));
            }
        }
        all.extend(self.lm_head.as_mut().map(|head| ("lm_head.weight".to_string(), &mut head.weight)));
        all
    }

    /// The longest sequence.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// `[B, T]` token ids to `[B, T, vocab]` logits. Errors: more tokens than positions; an id outside the vocabulary.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        self.logits(&self.hidden(tokens, None)?)
    }

    /// A cache for [`Llama::forward_cached`] of up to `capacity` tokens.
    pub fn cache(&self, capacity: usize) -> KvCache {
        KvCache::new(self.layers.len(), capacity)
    }

    /// The logits, `[B, T, vocab]`, of the tokens `[B, T]` that follow those in `cache`, which are added to it: what
    /// [`Llama::forward`] gives for the last `T` of the whole, at the cost of `T`. No gradients are recorded.
    ///
    /// Errors: as there; a cache of another number of layers, or without room.
    pub fn forward_cached(&self, tokens: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        no_grad(|| self.logits(&self.hidden(tokens, Some(cache))?))
    }

    /// As [`Llama::forward_cached`], the logits of what follows the last token alone, `[B, vocab]`: a step of writing text.
    pub fn next_logits(&self, tokens: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        no_grad(|| {
            let x = self.hidden(tokens, Some(cache))?; // [B, T, C]
            let last = x.dims()[1].checked_sub(1).ok_or_else(|| Error::invalid("Llama", "no token to go on from"))?;
            self.logits(&x.select(1, last as i64)?) // [B, vocab]
        })
    }

    /// `[B, T]` token ids, behind those in the cache, to `[B, T, C]`.
    fn hidden(&self, tokens: &Tensor, cache: Option<&mut KvCache>) -> Result<Tensor> {
        let [_, t] = tokens.dims_of("Llama")?;
        let (most, past) = (self.max_positions, cache.as_ref().map_or(0, |c| c.len()));
        if t > most.saturating_sub(past) {
            let message = format!("{} tokens are more than the {most} positions that the model has", past + t);
            return Err(Error::invalid("Llama", message));
        }
        let mut x = self.embed_tokens.forward(tokens)?; // [B, T, C]
        let mut caches = cache.map(|cache| cache.layers(self.layers.len())).transpose()?;
        for (i, layer) in self.layers.iter().enumerate() {
            let cache = caches.as_mut().map(|layers| &mut layers[i].own);
            x = layer.step(&x, cache)?; // [B, T, C]
        }
        Ok(x)
    }

    /// `[.., C]` to `[.., vocab]`.
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.norm.forward(x)?;
        match &self.lm_head {
            Some(head) => head.forward(&x),
            None => self.embed_tokens.unembed(&x),
        }
    }
}

impl LlamaLayer {
    fn step(&self, x: &Tensor, cache: Option<&mut AttentionCache>) -> Result<Tensor> {
        let x = x.add(&self.self_attn.step(&self.input_layernorm.forward(x)?, cache)?)?; // [B, T, C]
        x.add(&self.mlp.forward(&self.post_attention_layernorm.forward(&x)?)?)
    }
}

impl LlamaAttention {
    fn step(&self, x: &Tensor, cache: Option<&mut AttentionCache>) -> Result<Tensor> {
        let [b, t, _] = x.dims_of("LlamaAttention")?;
        let past = cache.as_ref().map_or(0, |c| c.len());
        let heads = |layer: &QLinear| {
            let y = layer.forward(x)?; // [B, T, heads · D]
            let heads = y.dims()[2] / self.head_dim;
            y.reshape([b, t, heads, self.head_dim])?.transpose(1, 2) // [B, heads, T, D]
        };
        let q = self.rotary.forward(&heads(&self.q_proj)?, past)?; // [B, heads, T, D]
        let mut k = self.rotary.forward(&heads(&self.k_proj)?, past)?; // [B, kv_heads, T, D]
        let mut v = heads(&self.v_proj)?; // [B, kv_heads, T, D]
        if let Some(cache) = cache {
            [k, v] = cache.append(&k, &v)?; // [B, kv_heads, past + T, D]
        }
        let options = AttentionOptions { causal: Causal::LowerRight, ..Default::default() };
        let y = q.scaled_dot_product_attention(&k, &v, &options)?; // [B, heads, T, D]
        let width = q.dims()[1] * self.head_dim;
        self.o_proj.forward(&y.transpose(1, 2)?.reshape([b, t, width])?) // [B, T, C]
    }
}

impl Layer for LlamaMlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.gate_proj.forward(x)?.silu()?; // [.., inner]
        self.down_proj.forward(&gate.mul(&self.up_proj.forward(x)?)?) // [.., C]
    }
}
