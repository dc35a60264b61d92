//! BERT: a Transformer encoder in which every token sees all others.
//!
//! Source: Devlin et al. 2019. Blocks with the norm after each addition, exact GELU, learned positions, and a vector for
//! each of the two texts that an input may have. MiniLM (Wang et al. 2020) is a small one.
//! [`SentenceEncoder`](crate::SentenceEncoder) makes vectors of sentences from it.

use rushlight::nn::{Dropout, Embedding, Layer, LayerNorm, Linear, Module};
use rushlight::{AttentionOptions, DType, Error, Result, Tensor};

/// The sizes of a [`Bert`].
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of attention; they divide the width.
    pub num_attention_heads: usize,
    /// Width of the network for each token.
    pub intermediate_size: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
    /// Texts that an input may have.
    pub type_vocab_size: usize,
    /// Keeps the norms' divisions finite.
    pub layer_norm_eps: f64,
    /// The share dropped of embeddings, attention weights and residuals.
    pub dropout: f64,
}

impl BertConfig {
    /// That of MiniLM-L6: 22 million parameters.
    pub fn mini_lm() -> BertConfig {
        BertConfig {
            vocab_size: 30522,
            hidden_size: 384,
            num_hidden_layers: 6,
            num_attention_heads: 12,
            intermediate_size: 1536,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            dropout: 0.1,
        }
    }
}

/// `[B, T]` token ids to `[B, T, C]`: a vector for each token in its context.
///
/// ```
/// use rushlight::Tensor;
/// use rushlight_models::{Bert, BertConfig, text::pad};
///
/// let config = BertConfig { vocab_size: 50, hidden_size: 32, num_attention_heads: 4, ..BertConfig::mini_lm() };
/// let bert = Bert::new(&config)?;
/// let (tokens, padding) = pad(&[vec![3, 1, 4, 1, 5], vec![9, 2]], 0)?;
/// assert_eq!(bert.forward(&tokens, Some(&padding))?.dims(), [2, 5, 32]);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct Bert {
    /// From ids to vectors.
    pub embeddings: BertEmbeddings,
    /// The layers.
    pub layers: Vec<BertLayer>,
}

/// The vectors of a token, its place and its text, added and normalised.
#[derive(Module)]
pub struct BertEmbeddings {
    /// `[vocab, C]`
    pub word: Embedding,
    /// `[places, C]`
    pub position: Embedding,
    /// `[texts, C]`
    pub token_type: Embedding,
    /// Of the sum.
    pub norm: LayerNorm,
    /// After the norm.
    pub dropout: Dropout,
}

/// Attention, then a network for each token, each added to what comes in and normalised.
#[derive(Module)]
pub struct BertLayer {
    /// Attention of every token to all.
    pub attention: BertAttention,
    /// After the attention.
    pub attention_norm: LayerNorm,
    /// C → 4C.
    pub intermediate: Linear,
    /// 4C → C.
    pub output: Linear,
    /// After the network.
    pub output_norm: LayerNorm,
    /// Of what is added.
    pub dropout: Dropout,
}

/// Attention of every token to all.
#[derive(Module)]
pub struct BertAttention {
    /// C → C.
    pub query: Linear,
    /// C → C.
    pub key: Linear,
    /// C → C.
    pub value: Linear,
    /// C → C.
    pub output: Linear,
    /// Of the attention's weights.
    pub dropout: Dropout,
    heads: usize,
}

impl Bert {
    /// With weights as BERT's start: normal of 0.02. Errors: heads that do not divide the width; a size of 0.
    pub fn new(config: &BertConfig) -> Result<Bert> {
        Bert::with(config, |shape| Tensor::normal(shape, 0.0, 0.02, DType::F32)?.requires_grad())
    }

    /// With matrices that `matrix` makes.
    pub(crate) fn with(config: &BertConfig, matrix: impl Fn(&[usize]) -> Result<Tensor>) -> Result<Bert> {
        let BertConfig { hidden_size: c, num_attention_heads: heads, intermediate_size: inner, .. } = *config;
        let sizes = [c, heads, inner, config.vocab_size, config.max_position_embeddings, config.type_vocab_size];
        if sizes.contains(&0) || !c.is_multiple_of(heads) {
            let message = format!("{config:?}: sizes must not be 0, and the heads must divide hidden_size");
            return Err(Error::invalid("Bert", message));
        }
        let dropout = || Dropout::new(config.dropout);
        let norm = || Ok::<_, Error>(LayerNorm { eps: config.layer_norm_eps, ..LayerNorm::new([c])? });
        let table = |rows: usize| Ok::<_, Error>(Embedding { weight: matrix(&[rows, c])?, padding_idx: None });
        let linear = |from: usize, to: usize| {
            let bias = Tensor::zeros(to, DType::F32)?.requires_grad()?;
            Ok::<_, Error>(Linear { weight: matrix(&[to, from])?, bias: Some(bias) })
        };
        let layer = |_| {
            Ok(BertLayer {
                attention: BertAttention {
                    query: linear(c, c)?,
                    key: linear(c, c)?,
                    value: linear(c, c)?,
                    output: linear(c, c)?,
                    dropout: dropout()?,
                    heads,
                },
                attention_norm: norm()?,
                intermediate: linear(c, inner)?,
                output: linear(inner, c)?,
                output_norm: norm()?,
                dropout: dropout()?,
            })
        };
        Ok(Bert {
            embeddings: BertEmbeddings {
                word: table(config.vocab_size)?,
                position: table(config.max_position_embeddings)?,
                token_type: table(config.type_vocab_size)?,
                norm: norm()?,
                dropout: dropout()?,
            },
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// The longest sequence.
    pub fn max_positions(&self) -> usize {
        self.embeddings.position.weight.dims()[0]
    }

    /// `[B, T]` token ids, all of a first text, to `[B, T, C]`. `padding` (`[B, T]`, bool) is true at places that nobody
    /// looks at; what comes out there means nothing.
    ///
    /// Errors: more tokens than positions; an id outside the vocabulary; a mask of another shape.
    pub fn forward(&self, tokens: &Tensor, padding: Option<&Tensor>) -> Result<Tensor> {
        let [b, t] = tokens.dims_of("Bert")?;
        if t > self.max_positions() {
            let message = format!("{t} tokens are more than the {} positions that the model has", self.max_positions());
            return Err(Error::invalid("Bert", message));
        }
        let seen = padding.map(|p| p.logical_not()?.reshape([b, 1, 1, t])).transpose()?;
        let e = &self.embeddings;
        let place = e.position.weight.narrow(0, 0, t)?.add(&e.token_type.weight.narrow(0, 0, 1)?)?; // [T, C]
        let x = e.norm.forward(&e.word.forward(tokens)?.add(&place)?)?; // [B, T, C]
        let mut x = e.dropout.forward(&x)?;
        for layer in &self.layers {
            x = layer.step(&x, seen.as_ref())?; // [B, T, C]
        }
        Ok(x)
    }
}

impl BertLayer {
    /// `seen`: true at the keys that count, broadcast to `[B, heads, T, T]`.
    fn step(&self, x: &Tensor, seen: Option<&Tensor>) -> Result<Tensor> {
        let y = self.dropout.forward(&self.attention.step(x, seen)?)?; // [B, T, C]
        let x = self.attention_norm.forward(&x.add(&y)?)?;
        let y = self.intermediate.forward(&x)?.gelu()?; // [B, T, 4C]
        let y = self.dropout.forward(&self.output.forward(&y)?)?; // [B, T, C]
        self.output_norm.forward(&x.add(&y)?)
    }
}

impl BertAttention {
    fn step(&self, x: &Tensor, seen: Option<&Tensor>) -> Result<Tensor> {
        let [b, t, c] = x.dims_of("BertAttention")?;
        let heads = |layer: &Linear| layer.forward(x)?.reshape([b, t, self.heads, c / self.heads])?.transpose(1, 2);
        let (q, k, v) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?); // [B, heads, T, C / heads]
        let attn_mask = seen.cloned();
        let options = AttentionOptions { attn_mask, dropout_p: self.dropout.rate(), ..Default::default() };
        let y = q.scaled_dot_product_attention(&k, &v, &options)?; // [B, heads, T, C / heads]
        self.output.forward(&y.transpose(1, 2)?.reshape([b, t, c])?) // [B, T, C]
    }
}
