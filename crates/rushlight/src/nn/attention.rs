//! Attention with several heads: each looks for something else.
//!
//! ```text
//! q = x·Wqᵀ + bq,  k = z·Wkᵀ + bk,  v = z·Wvᵀ + bv      cut into heads of `head_dim` numbers
//! y = [softmax(q·kᵀ/√head_dim + mask)·v of each head]·Woᵀ + bo
//! ```
//!
//! Self-attention has z = x; in cross-attention z is another sequence. The heads are the fused
//! [`Tensor::scaled_dot_product_attention`]. Source: Vaswani et al. 2017; Ainslie et al. 2023 for grouped queries.

use super::{AttentionCache, Dropout, Layer, Linear, Module, Rotary, StateDict, init};
use crate::{AttentionOptions, Causal, DType, Error, Result, Tensor};

const OP: &str = "MultiHeadAttention";

/// The options of [`MultiHeadAttention::new`]; the defaults are PyTorch's.
#[derive(Clone, Debug)]
pub struct MultiHeadAttentionOptions {
    /// Heads of keys and values, which neighbouring heads of queries share: grouped queries. Default: as many as heads.
    pub num_kv_heads: Option<usize>,
    /// Numbers in a head. Default: width / heads.
    pub head_dim: Option<usize>,
    /// The width of what keys and values are made of. PyTorch: `kdim`, `vdim`. Default: width.
    pub kv_width: Option<usize>,
    /// Whether the four products have biases. Default true.
    pub bias: bool,
    /// The share of attention weights that is dropped in training. Default 0.
    pub dropout: f64,
    /// Turns queries and keys by their places, in self-attention. Default none.
    pub rotary: Option<Rotary>,
}

impl Default for MultiHeadAttentionOptions {
    fn default() -> Self {
        let (num_kv_heads, head_dim, kv_width, rotary) = (None, None, None, None);
        MultiHeadAttentionOptions { num_kv_heads, head_dim, kv_width, bias: true, dropout: 0.0, rotary }
    }
}

/// Which keys the queries see: all that nothing here hides.
///
/// ```
/// # use rushlight::{Tensor, nn::AttentionMasks};
/// // Two texts of three and two tokens.
/// let padding = Tensor::new([[false, false, false], [false, false, true]])?;
/// let masks = AttentionMasks { key_padding_mask: Some(padding), causal: true, ..Default::default() };
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AttentionMasks {
    /// `[B, S]` of bool: true where a key is padding, which nobody sees. With a cache `S` counts all keys so far.
    /// PyTorch: the same.
    pub key_padding_mask: Option<Tensor>,
    /// Broadcast to `[B, heads, T, S]`: bool, true where a query sees a key; or float, added to the scores. As
    /// [`AttentionOptions::attn_mask`]; PyTorch's `nn.MultiheadAttention` takes the opposite of a bool one.
    pub attn_mask: Option<Tensor>,
    /// The last query sees all keys, the one before it all but the last, and so on. PyTorch: `is_causal`.
    pub causal: bool,
}

impl AttentionMasks {
    /// Both masks as one.
    fn merged(&self, batch: usize, keys: usize) -> Result<Option<Tensor>> {
        let Some(padding) = &self.key_padding_mask else { return Ok(self.attn_mask.clone()) };
        if padding.dtype() != DType::Bool {
            return Err(Error::dtype(OP, padding.dtype(), "expected a bool key_padding_mask"));
        }
        if padding.dims() != [batch, keys] {
            let message = format!("key_padding_mask of shape {} for keys [{batch}, {keys}]", padding.shape());
            return Err(Error::invalid(OP, message));
        }
        let seen = padding.logical_not()?.reshape([batch, 1, 1, keys])?;
        match &self.attn_mask {
            None => Ok(Some(seen)),
            Some(mask) if mask.dtype() == DType::Bool => seen.logical_and(mask).map(Some),
            Some(mask) if mask.dtype().is_float() => seen.where_cond(mask, f64::NEG_INFINITY).map(Some),
            Some(mask) => Err(Error::dtype(OP, mask.dtype(), "expected a bool or float attn_mask")),
        }
    }
}

/// Attention with several heads: `[B, T, width]` and `[B, S, kv_width]` to `[B, T, width]`.
///
/// ```
/// use rushlight::nn::{AttentionMasks, Module, MultiHeadAttention, MultiHeadAttentionOptions};
/// use rushlight::{DType, Tensor};
///
/// let options = MultiHeadAttentionOptions { num_kv_heads: Some(2), ..Default::default() };
/// let attention = MultiHeadAttention::new(32, 4, &options)?; // four heads of queries, two of keys
/// assert_eq!(attention.k_proj.weight.dims(), [16, 32]);
///
/// let x = Tensor::randn([2, 5, 32], DType::F32)?;
/// let causal = AttentionMasks { causal: true, ..Default::default() };
/// assert_eq!(attention.forward(&x, &x, &causal)?.dims(), [2, 5, 32]);
///
/// let memory = Tensor::randn([2, 7, 32], DType::F32)?;
/// let (y, weights) = attention.forward_with_weights(&x, &memory, &AttentionMasks::default())?;
/// assert_eq!((y.dims(), weights.dims()), (&[2, 5, 32][..], &[2, 4, 5, 7][..]));
/// # Ok::<(), rushlight::Error>(())
/// ```
/// PyTorch: `nn.MultiheadAttention(batch_first=True)`, whose weights [`state_from_torch`] brings into this form.
#[derive(Module)]
pub struct MultiHeadAttention {
    /// To queries: `[heads · head_dim, width]`.
    pub q_proj: Linear,
    /// To keys: `[kv_heads · head_dim, kv_width]`.
    pub k_proj: Linear,
    /// To values: `[kv_heads · head_dim, kv_width]`.
    pub v_proj: Linear,
    /// From the heads' outputs: `[width, heads · head_dim]`.
    pub out_proj: Linear,
    /// Of the weights.
    pub dropout: Dropout,
    /// Positions, in self-attention.
    pub rotary: Option<Rotary>,
    num_heads: usize,
    num_kv_heads: usize,
}

impl MultiHeadAttention {
    /// Weights start as PyTorch's: Xavier's uniform for queries, keys and values (as one matrix where their input is one),
    /// biases of 0.
    ///
    /// Errors: a size of 0; heads that do not divide the width, or that cannot share the heads of keys evenly; a
    /// `dropout` that is no probability.
    pub fn new(width: usize, num_heads: usize, options: &MultiHeadAttentionOptions) -> Result<MultiHeadAttention> {
        let num_kv_heads = options.num_kv_heads.unwrap_or(num_heads);
        let kv_width = options.kv_width.unwrap_or(width);
        let head_dim = match options.head_dim {
            Some(dim) => dim,
            None if num_heads > 0 && width.is_multiple_of(num_heads) => width / num_heads,
            None => {
                let message = format!("{num_heads} heads do not divide a width of {width}, and there is no head_dim");
                return Err(Error::invalid(OP, message));
            }
        };
        let sizes = [width, num_heads, num_kv_heads, kv_width, head_dim];
        if sizes.contains(&0) || !num_heads.is_multiple_of(num_kv_heads) {
            let message = format!(
                "width {width}, {num_heads} heads of {head_dim}, {num_kv_heads} heads of keys from a width of {kv_width}: \
                 sizes must not be 0, and heads share heads of keys evenly"
            );
            return Err(Error::invalid(OP, message));
        }
        let (q, kv) = (num_heads * head_dim, num_kv_heads * head_dim);
        let bias =
            |n: usize| if options.bias { Tensor::zeros(n, DType::F32)?.requires_grad().map(Some) } else { Ok(None) };
        let linear = |from: usize, to: usize| {
            let outputs = if kv_width == width { q + 2 * kv } else { to };
            let bound = (6.0 / (from + outputs) as f64).sqrt();
            let weight = Tensor::uniform([to, from], -bound, bound, DType::F32)?.requires_grad()?;
            Ok::<_, Error>(Linear { weight, bias: bias(to)? })
        };
        Ok(MultiHeadAttention {
            q_proj: linear(width, q)?,
            k_proj: linear(kv_width, kv)?,
            v_proj: linear(kv_width, kv)?,
            out_proj: Linear { weight: init::layer([width, q].into(), q)?, bias: bias(width)? },
            dropout: Dropout::new(options.dropout)?,
            rotary: options.rotary.clone(),
            num_heads,
            num_kv_heads,
        })
    }

    /// What each place of `query` finds in `key_value`; the same tensor twice is self-attention.
    ///
    /// A query that sees no key gives the bias of `out_proj` alone. Errors: shapes that do not fit.
    pub fn forward(&self, query: &Tensor, key_value: &Tensor, masks: &AttentionMasks) -> Result<Tensor> {
        let [k, v] = self.keys_values(key_value, 0)?; // [B, kv_heads, S, head_dim]
        self.attend(&self.queries(query, 0)?, &k, &v, masks)
    }

    /// The output, and the weights of each head, `[B, heads, T, S]`, before dropout: what attention looked at.
    /// PyTorch: `need_weights=True, average_attn_weights=False`.
    pub fn forward_with_weights(
        &self,
        query: &Tensor,
        key_value: &Tensor,
        masks: &AttentionMasks,
    ) -> Result<(Tensor, Tensor)> {
        let q = self.queries(query, 0)?; // [B, heads, T, head_dim]
        let [k, v] = self.keys_values(key_value, 0)?; // [B, kv_heads, S, head_dim]
        let y = self.attend(&q, &k, &v, masks)?; // [B, T, width]
        Ok((y, q.attention_weights(&k, &self.options(&q, &k, masks)?)?))
    }

    /// Self-attention of the tokens that follow those in `cache`, which are added to it: `[B, T, width]` as
    /// [`MultiHeadAttention::forward`] gives it for the last `T` tokens of the whole.
    ///
    /// Errors: as there and in [`AttentionCache::append`]; gradients are not recorded, so it asks for
    /// [`no_grad`](crate::no_grad).
    pub fn forward_cached(&self, x: &Tensor, masks: &AttentionMasks, cache: &mut AttentionCache) -> Result<Tensor> {
        let q = self.queries(x, cache.len())?; // [B, heads, T, head_dim]
        let [k, v] = self.keys_values(x, cache.len())?; // [B, kv_heads, T, head_dim]
        let [k, v] = cache.append(&k, &v)?; // [B, kv_heads, past + T, head_dim]
        self.attend(&q, &k, &v, masks)
    }

    /// Cross-attention to a `memory` whose keys and values are computed once: at the first call after the cache was
    /// made or reset; later ones do not look at `memory`. Errors: as above; a layer with rotary positions.
    pub fn forward_memory(
        &self,
        query: &Tensor,
        memory: &Tensor,
        masks: &AttentionMasks,
        cache: &mut AttentionCache,
    ) -> Result<Tensor> {
        if self.rotary.is_some() {
            return Err(Error::invalid(OP, "rotary positions of one sequence say nothing of those of another"));
        }
        let [k, v] = cache.get_or_make(|| self.keys_values(memory, 0))?; // [B, kv_heads, S, head_dim]
        self.attend(&self.queries(query, 0)?, &k, &v, masks)
    }

    /// `[B, T, width]` to `[B, heads, T, head_dim]`, of the places from `offset` on.
    fn queries(&self, x: &Tensor, offset: usize) -> Result<Tensor> {
        self.turned(self.heads(&self.q_proj, self.num_heads, x)?, offset)
    }

    /// `[B, S, kv_width]` to keys and values, `[B, kv_heads, S, head_dim]`.
    fn keys_values(&self, x: &Tensor, offset: usize) -> Result<[Tensor; 2]> {
        let keys = self.turned(self.heads(&self.k_proj, self.num_kv_heads, x)?, offset)?;
        Ok([keys, self.heads(&self.v_proj, self.num_kv_heads, x)?])
    }

    fn heads(&self, proj: &Linear, heads: usize, x: &Tensor) -> Result<Tensor> {
        let [b, t, width] = x.dims_of(OP)?;
        let [out, expected] = proj.weight.dims_of(OP)?;
        if width != expected {
            return Err(Error::invalid(OP, format!("expected [B, T, {expected}], got {}", x.shape())));
        }
        proj.forward(x)?.reshape([b, t, heads, out / heads])?.transpose(1, 2)
    }

    fn turned(&self, x: Tensor, offset: usize) -> Result<Tensor> {
        self.rotary.as_ref().map_or(Ok(x.clone()), |rotary| rotary.forward(&x, offset))
    }

    fn options(&self, q: &Tensor, k: &Tensor, masks: &AttentionMasks) -> Result<AttentionOptions> {
        let attn_mask = masks.merged(q.dims()[0], k.dims()[2])?;
        let causal = if masks.causal { Causal::LowerRight } else { Causal::No };
        Ok(AttentionOptions { attn_mask, causal, dropout_p: self.dropout.rate(), scale: None })
    }

    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, masks: &AttentionMasks) -> Result<Tensor> {
        let [b, heads, t, dim] = q.dims_of(OP)?;
        let y = q.scaled_dot_product_attention(k, v, &self.options(q, k, masks)?)?; // [B, heads, T, head_dim]
        self.out_proj.forward(&y.transpose(1, 2)?.reshape([b, t, heads * dim])?) // [B, T, width]
    }
}

/// The state of PyTorch's `nn.MultiheadAttention`, or of modules that hold some, under the names of this library's.
///
/// `in_proj_weight` and `in_proj_bias`, which stack those of queries, keys and values, are cut in three; `linear1` and
/// `linear2` beside a `self_attn`, as in `nn.TransformerEncoderLayer` and `DecoderLayer`, are the two of a
/// [`FeedForward`](super::FeedForward). All other names stay.
///
/// ```
/// # use rushlight::{DType, Tensor, nn::{Module, MultiHeadAttention, StateDict, state_from_torch}};
/// let mut torch = StateDict::new();
/// torch.insert("in_proj_weight".into(), Tensor::ones([12, 4], DType::F32)?);
/// torch.insert("in_proj_bias".into(), Tensor::ones([12], DType::F32)?);
/// torch.insert("out_proj.weight".into(), Tensor::ones([4, 4], DType::F32)?);
/// torch.insert("out_proj.bias".into(), Tensor::ones([4], DType::F32)?);
/// let mut attention = MultiHeadAttention::new(4, 2, &Default::default())?;
/// attention.load_state_dict(&state_from_torch(&torch)?)?;
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: stacked rows that are no multiple of three.
pub fn state_from_torch(state: &StateDict) -> Result<StateDict> {
    let mut out = StateDict::new();
    for (name, t) in state {
        let (prefix, last) = name.rsplit_once('.').map_or(("", &name[..]), |(prefix, last)| (prefix, last));
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        if let Some(kind) = last.strip_prefix("in_proj_") {
            let rows = t.dims().first().copied().unwrap_or(0);
            if rows == 0 || rows % 3 != 0 {
                let message = format!("{name} {} does not stack three weights or biases", t.shape());
                return Err(Error::invalid("state_from_torch", message));
            }
            for (part, to) in t.split(rows / 3, 0)?.into_iter().zip(["q", "k", "v"]) {
                out.insert(format!("{prefix}{to}_proj.{kind}"), part);
            }
            continue;
        }
        // Where the widths of queries and keys differ, the three have names of their own.
        let apart = ["q", "k", "v"].iter().find(|n| last.strip_prefix(**n) == Some("_proj_weight"));
        let name = match (apart, prefix.strip_suffix("linear1."), prefix.strip_suffix("linear2.")) {
            (Some(n), ..) => format!("{prefix}{n}_proj.weight"),
            (_, Some(layer), _) if in_layer(state, layer) => format!("{layer}feed_forward.up_proj.{last}"),
            (_, _, Some(layer)) if in_layer(state, layer) => format!("{layer}feed_forward.down_proj.{last}"),
            _ => name.clone(),
        };
        out.insert(name, t.clone());
    }
    Ok(out)
}

/// Whether `layer` is one of a Transformer.
fn in_layer(state: &StateDict, layer: &str) -> bool {
    state.keys().any(|k| k.strip_prefix(layer).is_some_and(|rest| rest.starts_with("self_attn.")))
}
