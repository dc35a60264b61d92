//! GPT: a Transformer decoder that predicts the next token.
//!
//! Source: Radford et al. 2019 (GPT-2), as in nanoGPT: blocks with the norm before, GELU by tanh, learned positions, and
//! the token table used again as the output layer.

use rushlight::loss::linear_cross_entropy;
use rushlight::nn::{AttentionCache, Dropout, Embedding, KvCache, Layer, LayerNorm, Linear, Module};
use rushlight::{AttentionOptions, Causal, DType, Error, Result, Tensor, no_grad};

/// The sizes of a [`Gpt`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GptConfig {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// The longest sequence.
    pub block_size: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Heads of attention; they divide the width.
    pub n_head: usize,
    /// Width.
    pub n_embd: usize,
    /// The share dropped of embeddings, attention weights and residuals.
    pub dropout: f64,
    /// Whether linear layers and norms have biases.
    pub bias: bool,
}

impl GptConfig {
    /// GPT-2's smallest: 124 million parameters.
    pub fn gpt2() -> GptConfig {
        let (vocab_size, block_size, dropout) = (50257, 1024, 0.0);
        GptConfig { vocab_size, block_size, n_layer: 12, n_head: 12, n_embd: 768, dropout, bias: true }
    }
}

/// `[B, T]` token ids to `[B, T, vocab]` logits.
///
/// ```
/// use rushlight::{Tensor, loss};
/// use rushlight_models::{Gpt, GptConfig};
///
/// let config = GptConfig { vocab_size: 16, block_size: 8, n_layer: 2, n_head: 2, n_embd: 32, ..GptConfig::gpt2() };
/// let gpt = Gpt::new(&config)?;
/// let tokens = Tensor::new([[3i64, 1, 4, 1, 5]])?;
/// let logits = gpt.forward(&tokens)?;
/// assert_eq!(logits.dims(), [1, 5, 16]);
/// // An untrained model knows nothing of the next token: the loss is near ln 16.
/// let (known, next) = (logits.narrow(1, 0, 4)?, tokens.narrow(1, 1, 4)?);
/// let loss = loss::cross_entropy(&known.flatten(0, 1)?, &next.flatten(0, 1)?)?;
/// assert!((loss.item::<f32>()? - 16f32.ln()).abs() < 0.5);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct Gpt {
    /// Token embeddings, and the output layer's weight: `[vocab, C]`.
    pub wte: Embedding,
    /// Position embeddings: `[block, C]`.
    pub wpe: Embedding,
    /// After the embeddings.
    pub drop: Dropout,
    /// The blocks.
    pub h: Vec<Block>,
    /// The last norm.
    pub ln_f: LayerNorm,
}

/// One block: attention, then a network for each place, each added to what comes in.
#[derive(Module)]
pub struct Block {
    /// Before the attention.
    pub ln_1: LayerNorm,
    /// Attention over what came before.
    pub attn: CausalSelfAttention,
    /// Before the network.
    pub ln_2: LayerNorm,
    /// The network for each place.
    pub mlp: FeedForward,
}

/// Attention of every place to those before it and itself.
#[derive(Module)]
pub struct CausalSelfAttention {
    /// Queries, keys and values in one: C → 3C.
    pub c_attn: Linear,
    /// C → C.
    pub c_proj: Linear,
    /// Of the attention's weights.
    pub attn_dropout: Dropout,
    /// After the projection.
    pub resid_dropout: Dropout,
    n_head: usize,
}

/// C → 4C → C with GELU between.
#[derive(Module)]
pub struct FeedForward {
    /// C → 4C.
    pub c_fc: Linear,
    /// 4C → C.
    pub c_proj: Linear,
    /// At the end.
    pub dropout: Dropout,
}

impl Gpt {
    /// With weights as GPT-2's start: normal of 0.02, those that lead back into the residuals smaller by √(2 layers).
    ///
    /// Errors: heads that do not divide the width; a size of 0.
    pub fn new(config: &GptConfig) -> Result<Gpt> {
        Gpt::with(config, |shape, std| Tensor::normal(shape, 0.0, std, DType::F32)?.requires_grad())
    }

    /// With matrices that `matrix` makes of their shape and spread.
    pub(crate) fn with(config: &GptConfig, matrix: impl Fn(&[usize], f64) -> Result<Tensor>) -> Result<Gpt> {
        let GptConfig { vocab_size, block_size, n_layer, n_head, n_embd, dropout, bias } = *config;
        if n_head == 0 || !n_embd.is_multiple_of(n_head) || [vocab_size, block_size, n_layer, n_embd].contains(&0) {
            let message = format!("{config:?}: sizes must not be 0, and n_head must divide n_embd");
            return Err(Error::invalid("Gpt", message));
        }
        let normal = |rows: usize, cols: usize, std: f64| matrix(&[rows, cols], std);
        let zeros = |n: usize| if bias { Tensor::zeros(n, DType::F32)?.requires_grad().map(Some) } else { Ok(None) };
        let linear = |from: usize, to: usize, std: f64| {
            Ok::<_, Error>(Linear { weight: normal(to, from, std)?, bias: zeros(to)? })
        };
        let norm = || Ok::<_, Error>(LayerNorm { bias: zeros(n_embd)?, ..LayerNorm::new([n_embd])? });
        let back = 0.02 / (2.0 * n_layer as f64).sqrt();
        let block = |_| {
            Ok(Block {
                ln_1: norm()?,
                attn: CausalSelfAttention {
                    c_attn: linear(n_embd, 3 * n_embd, 0.02)?,
                    c_proj: linear(n_embd, n_embd, back)?,
                    attn_dropout: Dropout::new(dropout)?,
                    resid_dropout: Dropout::new(dropout)?,
                    n_head,
                },
                ln_2: norm()?,
                mlp: FeedForward {
                    c_fc: linear(n_embd, 4 * n_embd, 0.02)?,
                    c_proj: linear(4 * n_embd, n_embd, back)?,
                    dropout: Dropout::new(dropout)?,
                },
            })
        };
        Ok(Gpt {
            wte: Embedding { weight: normal(vocab_size, n_embd, 0.02)?, padding_idx: None },
            wpe: Embedding { weight: normal(block_size, n_embd, 0.02)?, padding_idx: None },
            drop: Dropout::new(dropout)?,
            h: (0..n_layer).map(block).collect::<Result<_>>()?,
            ln_f: norm()?,
        })
    }

    /// `[B, T]` token ids to `[B, T, vocab]` logits. Errors: more tokens than positions; an id outside the vocabulary.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        self.logits(&self.hidden(tokens, None, None)?)
    }

    /// The mean cross-entropy, in nats, of the tokens `[B, T]` that follow each of `tokens`, `[B, T]`: what is trained
    /// on. Targets of −100 do not count.
    ///
    /// The same as of [`Gpt::forward`]'s logits, which are never held whole: with 50,257 tokens in the vocabulary they and
    /// their gradient are most of what a step keeps ([`linear_cross_entropy`]).
    ///
    /// ```
    /// use rushlight::{Tensor, loss};
    /// use rushlight_models::{Gpt, GptConfig};
    ///
    /// let config = GptConfig { vocab_size: 16, block_size: 8, n_layer: 2, n_head: 2, n_embd: 32, ..GptConfig::gpt2() };
    /// let gpt = Gpt::new(&config)?;
    /// let (tokens, next) = (Tensor::new([[3i64, 1, 4]])?, Tensor::new([[1i64, 4, 1]])?);
    /// let loss = gpt.loss(&tokens, &next)?;
    /// let same = loss::cross_entropy(&gpt.forward(&tokens)?.flatten(0, 1)?, &next.flatten(0, 1)?)?;
    /// assert!((loss.item::<f32>()? - same.item::<f32>()?).abs() < 1e-5);
    /// assert!(loss.backward()?.get(&gpt.wte.weight).is_some());
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: as [`Gpt::forward`]; targets of another shape or outside the vocabulary.
    pub fn loss(&self, tokens: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let x = self.ln_f.forward(&self.hidden(tokens, None, None)?)?; // [B, T, C]
        linear_cross_entropy(&x, &self.wte.weight, targets)
    }

    /// The logits, and the attention weights of each layer, `[B, heads, T, T]`, before dropout: what each token looked at.
    ///
    /// ```
    /// use rushlight::Tensor;
    /// use rushlight_models::{Gpt, GptConfig};
    ///
    /// let config = GptConfig { vocab_size: 16, block_size: 8, n_layer: 2, n_head: 4, n_embd: 32, ..GptConfig::gpt2() };
    /// let (logits, weights) = Gpt::new(&config)?.forward_with_weights(&Tensor::new([[3i64, 1, 4]])?)?;
    /// assert_eq!((logits.dims(), weights.len(), weights[0].dims()), (&[1, 3, 16][..], 2, &[1, 4, 3, 3][..]));
    /// // The first token has only itself to look at.
    /// assert_eq!(weights[1].narrow(2, 0, 1)?.to_vec::<f32>()?[..3], [1.0, 0.0, 0.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: as [`Gpt::forward`].
    pub fn forward_with_weights(&self, tokens: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let mut weights = vec![];
        let x = self.hidden(tokens, None, Some(&mut weights))?; // [B, T, C]
        Ok((self.logits(&x)?, weights))
    }

    /// A cache for [`Gpt::forward_cached`], as long as the longest sequence.
    pub fn cache(&self) -> KvCache {
        KvCache::new(self.h.len(), self.wpe.weight.dims()[0])
    }

    /// The logits, `[B, T, vocab]`, of the tokens `[B, T]` that follow those in `cache`, which are added to it: what
    /// [`Gpt::forward`] gives for the last `T` of the whole, at the cost of `T`. No gradients are recorded; dropout is
    /// only off in evaluation mode.
    ///
    /// Errors: as there; a cache of another number of layers, or without room.
    pub fn forward_cached(&self, tokens: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        no_grad(|| self.logits(&self.hidden(tokens, Some(cache), None)?))
    }

    /// As [`Gpt::forward_cached`], the logits of what follows the last token alone, `[B, vocab]`: a step of writing text.
    ///
    /// ```
    /// use rushlight::Tensor;
    /// use rushlight_models::{Gpt, GptConfig};
    ///
    /// let config = GptConfig { vocab_size: 16, block_size: 8, n_layer: 2, n_head: 2, n_embd: 32, ..GptConfig::gpt2() };
    /// let gpt = Gpt::new(&config)?;
    /// let mut cache = gpt.cache();
    /// let mut logits = gpt.next_logits(&Tensor::new([[3i64, 1, 4]])?, &mut cache)?; // the prompt
    /// let mut text = vec![];
    /// for _ in 0..5 {
    ///     let token = logits.argmax(-1)?; // [1]
    ///     text.push(token.item::<i64>()?);
    ///     logits = gpt.next_logits(&token.unsqueeze(0)?, &mut cache)?;
    /// }
    /// assert_eq!((text.len(), cache.len()), (5, 8));
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn next_logits(&self, tokens: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        no_grad(|| {
            let x = self.hidden(tokens, Some(cache), None)?; // [B, T, C]
            let last = x.dims()[1].checked_sub(1).ok_or_else(|| Error::invalid("Gpt", "no token to go on from"))?;
            self.logits(&x.select(1, last as i64)?) // [B, vocab]
        })
    }

    /// `[B, T]` token ids, behind those in the cache, to `[B, T, C]`; adds the weights of each layer where they are asked for.
    fn hidden(
        &self,
        tokens: &Tensor,
        cache: Option<&mut KvCache>,
        mut weights: Option<&mut Vec<Tensor>>,
    ) -> Result<Tensor> {
        let [_, t] = tokens.dims_of("Gpt")?;
        let (most, past) = (self.wpe.weight.dims()[0], cache.as_ref().map_or(0, |c| c.len()));
        if t > most.saturating_sub(past) {
            let message = format!("{} tokens are more than the {most} positions that the model has", past + t);
            return Err(Error::invalid("Gpt", message));
        }
        let positions = self.wpe.weight.narrow(0, past, t)?; // [T, C]
        let mut x = self.drop.forward(&self.wte.forward(tokens)?.add(&positions)?)?; // [B, T, C]
        let mut caches = cache.map(|cache| cache.layers(self.h.len())).transpose()?;
        for (i, block) in self.h.iter().enumerate() {
            let cache = caches.as_mut().map(|layers| &mut layers[i].own);
            x = block.step(&x, cache, weights.as_deref_mut())?; // [B, T, C]
        }
        Ok(x)
    }

    /// `[.., C]` to `[.., vocab]`.
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.ln_f.forward(x)?.linear(&self.wte.weight, None)
    }
}

impl Layer for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.step(x, None, None)
    }
}

impl Block {
    fn step(
        &self,
        x: &Tensor,
        cache: Option<&mut AttentionCache>,
        weights: Option<&mut Vec<Tensor>>,
    ) -> Result<Tensor> {
        let x = x.add(&self.attn.step(&self.ln_1.forward(x)?, cache, weights)?)?; // [B, T, C]
        x.add(&self.mlp.forward(&self.ln_2.forward(&x)?)?)
    }
}

impl Layer for CausalSelfAttention {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.step(x, None, None)
    }
}

impl CausalSelfAttention {
    fn step(
        &self,
        x: &Tensor,
        cache: Option<&mut AttentionCache>,
        weights: Option<&mut Vec<Tensor>>,
    ) -> Result<Tensor> {
        let [b, t, c] = x.dims_of("CausalSelfAttention")?;
        let qkv = self.c_attn.forward(x)?; // [B, T, 3C]
        let heads = |i: usize| qkv.narrow(2, i * c, c)?.reshape([b, t, self.n_head, c / self.n_head])?.transpose(1, 2);
        let (q, mut k, mut v) = (heads(0)?, heads(1)?, heads(2)?); // [B, heads, T, C / heads]
        if let Some(cache) = cache {
            [k, v] = cache.append(&k, &v)?; // [B, heads, past + T, C / heads]
        }
        let dropout_p = self.attn_dropout.rate();
        let options = AttentionOptions { causal: Causal::LowerRight, dropout_p, ..Default::default() };
        if let Some(weights) = weights {
            weights.push(q.attention_weights(&k, &options)?); // [B, heads, T, past + T]
        }
        let y = q.scaled_dot_product_attention(&k, &v, &options)?; // [B, heads, T, C / heads]
        let y = y.transpose(1, 2)?.reshape([b, t, c])?; // [B, T, C]
        self.resid_dropout.forward(&self.c_proj.forward(&y)?)
    }
}

impl Layer for FeedForward {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.c_fc.forward(x)?.gelu_tanh()?; // [B, T, 4C]
        self.dropout.forward(&self.c_proj.forward(&x)?) // [B, T, C]
    }
}
