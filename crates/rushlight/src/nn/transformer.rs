//! Transformer layers: attention between the places, then a network at each place, each added to what comes in.
//!
//! ```text
//! x + f(norm(x))     norm first: GPT-2, Llama, and most since
//! norm(x + f(x))     norm last: the first Transformer, BERT
//! ```
//!
//! An encoder's layer attends to its own sequence, all of it; with `causal` masks it is a layer of GPT or Llama. A decoder's
//! attends to what it has written and to what an encoder made. Names are PyTorch's, but for `feed_forward`
//! ([`state_from_torch`](super::state_from_torch) translates). Source: Vaswani et al. 2017.

use super::{
    Activation, AttentionMasks, Dropout, FeedForward, KvCache, Layer, LayerCache, LayerNorm, Module,
    MultiHeadAttention, MultiHeadAttentionOptions, RmsNorm, Rotary,
};
use crate::{Result, Tensor};

/// Which norm a layer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormKind {
    /// [`LayerNorm`]
    #[default]
    LayerNorm,
    /// [`RmsNorm`]
    RmsNorm,
}

/// The options of Transformer layers; the defaults are PyTorch's, but for the width of the network.
///
/// ```
/// # use rushlight::{RotaryPairs, nn::{Activation, NormKind, Rotary, TransformerEncoderLayer, TransformerOptions}};
/// // A layer of Llama.
/// let llama = TransformerOptions {
///     dim_feedforward: Some(88),
///     dropout: 0.0,
///     activation: Activation::SwiGlu,
///     norm: NormKind::RmsNorm,
///     norm_first: true,
///     bias: false,
///     num_kv_heads: Some(2),
///     rotary: Some(Rotary::new(8, 10_000.0, RotaryPairs::HalfSplit)?),
///     ..Default::default()
/// };
/// let layer = TransformerEncoderLayer::new(32, 4, &llama)?;
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TransformerOptions {
    /// The numbers between the two products of the network. Default: four times the width.
    pub dim_feedforward: Option<usize>,
    /// The share dropped of attention weights, inside the network, and of what is added. Default 0.1.
    pub dropout: f64,
    /// What the network does between its products. Default ReLU.
    pub activation: Activation,
    /// Which norm. Default layer norm.
    pub norm: NormKind,
    /// The norm's ε. Default 1e-5.
    pub layer_norm_eps: f64,
    /// Whether the norm is before attention and network rather than behind the sum. Default false.
    pub norm_first: bool,
    /// Whether linear layers and norms have biases. Default true.
    pub bias: bool,
    /// Heads of keys in self-attention. Default: as many as heads.
    pub num_kv_heads: Option<usize>,
    /// Positions in self-attention. Default none.
    pub rotary: Option<Rotary>,
}

impl Default for TransformerOptions {
    fn default() -> Self {
        TransformerOptions {
            dim_feedforward: None,
            dropout: 0.1,
            activation: Activation::Relu,
            norm: NormKind::LayerNorm,
            layer_norm_eps: 1e-5,
            norm_first: false,
            bias: true,
            num_kv_heads: None,
            rotary: None,
        }
    }
}

/// Any norm.
type Norm = Box<dyn Layer + Send + Sync>;

impl TransformerOptions {
    fn norm(&self, width: usize) -> Result<Norm> {
        let eps = self.layer_norm_eps;
        Ok(match self.norm {
            NormKind::LayerNorm => {
                let norm = LayerNorm::new([width])?;
                let bias = norm.bias.clone().filter(|_| self.bias);
                Box::new(LayerNorm { bias, eps, ..norm })
            }
            NormKind::RmsNorm => Box::new(RmsNorm { eps, ..RmsNorm::new([width])? }),
        })
    }

    fn self_attention(&self, width: usize, heads: usize) -> Result<MultiHeadAttention> {
        let (num_kv_heads, rotary) = (self.num_kv_heads, self.rotary.clone());
        MultiHeadAttention::new(width, heads, &MultiHeadAttentionOptions { num_kv_heads, rotary, ..self.attention() })
    }

    fn attention(&self) -> MultiHeadAttentionOptions {
        MultiHeadAttentionOptions { bias: self.bias, dropout: self.dropout, ..Default::default() }
    }

    fn feed_forward(&self, width: usize) -> Result<FeedForward> {
        let hidden = self.dim_feedforward.unwrap_or(4 * width);
        FeedForward::new(width, hidden, self.activation, self.bias, self.dropout)
    }

    fn residual(&self) -> Result<Residual> {
        Ok(Residual { dropout: Dropout::new(self.dropout)?, norm_first: self.norm_first })
    }
}

/// How a part of a layer is added to what comes in.
#[derive(Module)]
struct Residual {
    dropout: Dropout,
    norm_first: bool,
}

impl Residual {
    fn add(&self, x: &Tensor, norm: &Norm, part: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if self.norm_first {
            return x.add(&self.dropout.forward(&part(&norm.forward(x)?)?)?);
        }
        norm.forward(&x.add(&self.dropout.forward(&part(x)?)?)?)
    }
}

/// Self-attention and a network: `[B, T, width]` to the same.
///
/// ```
/// use rushlight::nn::{AttentionMasks, TransformerEncoderLayer};
/// use rushlight::{DType, Tensor};
///
/// let layer = TransformerEncoderLayer::new(16, 4, &Default::default())?;
/// let x = Tensor::randn([2, 5, 16], DType::F32)?;
/// assert_eq!(layer.forward(&x, &AttentionMasks::default())?.dims(), [2, 5, 16]);
/// # Ok::<(), rushlight::Error>(())
/// ```
/// PyTorch: `nn.TransformerEncoderLayer(batch_first=True)`.
#[derive(Module)]
pub struct TransformerEncoderLayer {
    /// Between the places.
    pub self_attn: MultiHeadAttention,
    /// At each place.
    pub feed_forward: FeedForward,
    /// Of the attention.
    pub norm1: Norm,
    /// Of the network.
    pub norm2: Norm,
    residual: Residual,
}

impl TransformerEncoderLayer {
    /// Errors: as [`MultiHeadAttention::new`].
    pub fn new(width: usize, num_heads: usize, options: &TransformerOptions) -> Result<TransformerEncoderLayer> {
        Ok(TransformerEncoderLayer {
            self_attn: options.self_attention(width, num_heads)?,
            feed_forward: options.feed_forward(width)?,
            norm1: options.norm(width)?,
            norm2: options.norm(width)?,
            residual: options.residual()?,
        })
    }

    /// `[B, T, width]` to the same. Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, masks: &AttentionMasks) -> Result<Tensor> {
        self.with(x, |x| self.self_attn.forward(x, x, masks))
    }

    /// [`TransformerEncoderLayer::forward`], and the weights of its attention, `[B, heads, T, T]`.
    pub fn forward_with_weights(&self, x: &Tensor, masks: &AttentionMasks) -> Result<(Tensor, Tensor)> {
        let mut weights = x.clone();
        let y = self.with(x, |x| {
            let (y, w) = self.self_attn.forward_with_weights(x, x, masks)?;
            weights = w;
            Ok(y)
        })?;
        Ok((y, weights))
    }

    /// Of the tokens that follow those in the cache: see [`MultiHeadAttention::forward_cached`].
    pub fn forward_cached(&self, x: &Tensor, masks: &AttentionMasks, cache: &mut LayerCache) -> Result<Tensor> {
        self.with(x, |x| self.self_attn.forward_cached(x, masks, &mut cache.own))
    }

    fn with(&self, x: &Tensor, attention: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let x = self.residual.add(x, &self.norm1, attention)?; // [B, T, width]
        self.residual.add(&x, &self.norm2, |x| self.feed_forward.forward(x)) // [B, T, width]
    }
}

/// Which keys a decoder's queries see, by PyTorch's names; besides, what it writes is causal.
#[derive(Clone, Debug, Default)]
pub struct DecoderMasks {
    /// As [`AttentionMasks::attn_mask`], of the decoder's own sequence.
    pub tgt_mask: Option<Tensor>,
    /// As [`AttentionMasks::key_padding_mask`], of the decoder's own sequence.
    pub tgt_key_padding_mask: Option<Tensor>,
    /// As [`AttentionMasks::attn_mask`], of the memory.
    pub memory_mask: Option<Tensor>,
    /// As [`AttentionMasks::key_padding_mask`], of the memory.
    pub memory_key_padding_mask: Option<Tensor>,
}

impl DecoderMasks {
    /// Those of self-attention and those of cross-attention.
    fn parts(&self) -> [AttentionMasks; 2] {
        let masks = |attn: &Option<Tensor>, padding: &Option<Tensor>, causal| AttentionMasks {
            attn_mask: attn.clone(),
            key_padding_mask: padding.clone(),
            causal,
        };
        [
            masks(&self.tgt_mask, &self.tgt_key_padding_mask, true),
            masks(&self.memory_mask, &self.memory_key_padding_mask, false),
        ]
    }
}

/// Causal self-attention, cross-attention to a memory, and a network: `[B, T, width]` and `[B, S, width]` to
/// `[B, T, width]`.
///
/// ```
/// use rushlight::nn::{DecoderMasks, TransformerDecoderLayer};
/// use rushlight::{DType, Tensor};
///
/// let layer = TransformerDecoderLayer::new(16, 4, &Default::default())?;
/// let (x, memory) = (Tensor::randn([2, 5, 16], DType::F32)?, Tensor::randn([2, 7, 16], DType::F32)?);
/// let (y, weights) = layer.forward_with_weights(&x, &memory, &DecoderMasks::default())?;
/// assert_eq!((y.dims(), weights.dims()), (&[2, 5, 16][..], &[2, 4, 5, 7][..]));
/// # Ok::<(), rushlight::Error>(())
/// ```
/// PyTorch: `nn.TransformerDecoderLayer(batch_first=True)` with `tgt_is_causal`.
#[derive(Module)]
pub struct TransformerDecoderLayer {
    /// Between the places written so far.
    pub self_attn: MultiHeadAttention,
    /// To the memory.
    pub multihead_attn: MultiHeadAttention,
    /// At each place.
    pub feed_forward: FeedForward,
    /// Of the self-attention.
    pub norm1: Norm,
    /// Of the cross-attention.
    pub norm2: Norm,
    /// Of the network.
    pub norm3: Norm,
    residual: Residual,
}

impl TransformerDecoderLayer {
    /// Errors: as [`MultiHeadAttention::new`].
    pub fn new(width: usize, num_heads: usize, options: &TransformerOptions) -> Result<TransformerDecoderLayer> {
        Ok(TransformerDecoderLayer {
            self_attn: options.self_attention(width, num_heads)?,
            multihead_attn: MultiHeadAttention::new(width, num_heads, &options.attention())?,
            feed_forward: options.feed_forward(width)?,
            norm1: options.norm(width)?,
            norm2: options.norm(width)?,
            norm3: options.norm(width)?,
            residual: options.residual()?,
        })
    }

    /// `[B, T, width]`, given the memory, `[B, S, width]`. Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, memory: &Tensor, masks: &DecoderMasks) -> Result<Tensor> {
        let [own, cross] = &masks.parts();
        let attend = |x: &Tensor| self.self_attn.forward(x, x, own);
        self.with(x, attend, |x| self.multihead_attn.forward(x, memory, cross))
    }

    /// [`TransformerDecoderLayer::forward`], and the weights of its cross-attention, `[B, heads, T, S]`: in a translator,
    /// which words it looked at.
    pub fn forward_with_weights(&self, x: &Tensor, memory: &Tensor, masks: &DecoderMasks) -> Result<(Tensor, Tensor)> {
        let [own, cross] = &masks.parts();
        let mut weights = x.clone();
        let attend = |x: &Tensor| self.self_attn.forward(x, x, own);
        let y = self.with(x, attend, |x| {
            let (y, w) = self.multihead_attn.forward_with_weights(x, memory, cross)?;
            weights = w;
            Ok(y)
        })?;
        Ok((y, weights))
    }

    /// Of the tokens that follow those in the cache: see [`MultiHeadAttention::forward_cached`] and
    /// [`MultiHeadAttention::forward_memory`].
    pub fn forward_cached(
        &self,
        x: &Tensor,
        memory: &Tensor,
        masks: &DecoderMasks,
        cache: &mut LayerCache,
    ) -> Result<Tensor> {
        let ([own, cross], caches) = (&masks.parts(), cache);
        let attend = |x: &Tensor| self.self_attn.forward_cached(x, own, &mut caches.own);
        self.with(x, attend, |x| self.multihead_attn.forward_memory(x, memory, cross, &mut caches.memory))
    }

    fn with(
        &self,
        x: &Tensor,
        own: impl FnOnce(&Tensor) -> Result<Tensor>,
        cross: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = self.residual.add(x, &self.norm1, own)?; // [B, T, width]
        let x = self.residual.add(&x, &self.norm2, cross)?; // [B, T, width]
        self.residual.add(&x, &self.norm3, |x| self.feed_forward.forward(x)) // [B, T, width]
    }
}

/// Layers of an encoder, and a norm at the end where theirs come first. PyTorch: `nn.TransformerEncoder`.
///
/// With `causal` masks it is the body of a GPT or Llama: see [`KvCache`] for an example.
#[derive(Module)]
pub struct TransformerEncoder {
    /// From the first on.
    pub layers: Vec<TransformerEncoderLayer>,
    /// At the end.
    pub norm: Option<Norm>,
}

impl TransformerEncoder {
    /// Errors: as [`MultiHeadAttention::new`].
    pub fn new(layers: usize, width: usize, heads: usize, options: &TransformerOptions) -> Result<TransformerEncoder> {
        let layer = |_| TransformerEncoderLayer::new(width, heads, options);
        let norm = options.norm_first.then(|| options.norm(width)).transpose()?;
        Ok(TransformerEncoder { layers: (0..layers).map(layer).collect::<Result<_>>()?, norm })
    }

    /// `[B, T, width]` to the same. Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, masks: &AttentionMasks) -> Result<Tensor> {
        let x = self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x, masks))?;
        last(&self.norm, x)
    }

    /// Of the tokens that follow those in the cache, which has as many layers.
    pub fn forward_cached(&self, x: &Tensor, masks: &AttentionMasks, cache: &mut KvCache) -> Result<Tensor> {
        let caches = cache.layers(self.layers.len())?;
        let mut layers = self.layers.iter().zip(caches);
        let x = layers.try_fold(x.clone(), |x, (layer, cache)| layer.forward_cached(&x, masks, cache))?;
        last(&self.norm, x)
    }
}

/// Layers of a decoder, and a norm at the end where theirs come first. PyTorch: `nn.TransformerDecoder`.
///
/// ```
/// use rushlight::nn::{DecoderMasks, KvCache, TransformerDecoder, TransformerOptions};
/// use rushlight::{DType, Tensor, no_grad};
///
/// let options = TransformerOptions { dropout: 0.0, norm_first: true, ..Default::default() };
/// let decoder = TransformerDecoder::new(2, 8, 2, &options)?;
/// let (x, memory) = (Tensor::randn([1, 4, 8], DType::F32)?, Tensor::randn([1, 6, 8], DType::F32)?);
/// let masks = DecoderMasks::default();
/// no_grad(|| {
///     let whole = decoder.forward(&x, &memory, &masks)?;
///     let mut cache = KvCache::new(2, 10);
///     for t in 0..4 {
///         let token = x.narrow(1, t, 1)?;
///         let y = decoder.forward_cached(&token, &memory, &masks, &mut cache)?; // [1, 1, 8]
///         assert!(y.sub(&whole.narrow(1, t, 1)?)?.abs()?.amax(..)?.item::<f32>()? < 1e-5);
///     }
///     Ok::<(), rushlight::Error>(())
/// })?;
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct TransformerDecoder {
    /// From the first on.
    pub layers: Vec<TransformerDecoderLayer>,
    /// At the end.
    pub norm: Option<Norm>,
}

impl TransformerDecoder {
    /// Errors: as [`MultiHeadAttention::new`].
    pub fn new(layers: usize, width: usize, heads: usize, options: &TransformerOptions) -> Result<TransformerDecoder> {
        let layer = |_| TransformerDecoderLayer::new(width, heads, options);
        let norm = options.norm_first.then(|| options.norm(width)).transpose()?;
        Ok(TransformerDecoder { layers: (0..layers).map(layer).collect::<Result<_>>()?, norm })
    }

    /// `[B, T, width]`, given the memory, `[B, S, width]`. Errors: shapes that do not fit.
    pub fn forward(&self, x: &Tensor, memory: &Tensor, masks: &DecoderMasks) -> Result<Tensor> {
        let x = self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(&x, memory, masks))?;
        last(&self.norm, x)
    }

    /// [`TransformerDecoder::forward`], and the weights of each layer's cross-attention, `[B, heads, T, S]`.
    pub fn forward_with_weights(
        &self,
        x: &Tensor,
        memory: &Tensor,
        masks: &DecoderMasks,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (mut x, mut all) = (x.clone(), vec![]);
        for layer in &self.layers {
            let (y, weights) = layer.forward_with_weights(&x, memory, masks)?;
            x = y;
            all.push(weights);
        }
        Ok((last(&self.norm, x)?, all))
    }

    /// Of the tokens that follow those in the cache, which has as many layers; the memory's keys and values are computed
    /// at the first call.
    pub fn forward_cached(
        &self,
        x: &Tensor,
        memory: &Tensor,
        masks: &DecoderMasks,
        cache: &mut KvCache,
    ) -> Result<Tensor> {
        let mut layers = self.layers.iter().zip(cache.layers(self.layers.len())?);
        let x = layers.try_fold(x.clone(), |x, (layer, cache)| layer.forward_cached(&x, memory, masks, cache))?;
        last(&self.norm, x)
    }
}

fn last(norm: &Option<Norm>, x: Tensor) -> Result<Tensor> {
    norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x))
}
