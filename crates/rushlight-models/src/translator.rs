//! A translator: an encoder reads a sentence, a decoder writes it in the other language, looking at what was read.
//!
//! ```text
//! memory = encoder(√C · E[source] + positions)                  [B, S, C]
//! logits = decoder(√C · E[target] + positions, memory) · Eᵀ     [B, T, vocab]
//! ```
//!
//! Source: Vaswani et al. 2017, with the norm first (Xiong et al. 2020), and one table E of vectors for what is read, what
//! is written and the output layer (Press & Wolf 2017), as both languages share their tokens.

use rushlight::nn::{
    Activation, AttentionMasks, DecoderMasks, Dropout, Embedding, KvCache, Layer, Module, TransformerDecoder,
    TransformerEncoder, TransformerOptions, sinusoidal_positions,
};
use rushlight::{DType, Error, Result, Tensor, no_grad};

use crate::text::{BeamSearch, Hypothesis};

const OP: &str = "Translator";

/// The sizes of a [`Translator`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TranslatorConfig {
    /// Tokens in the vocabulary that both languages share; the first three are [`Translator::PAD`], `BOS` and `EOS`.
    pub vocab_size: usize,
    /// The longest sequence, of either language.
    pub positions: usize,
    /// Layers that read.
    pub encoder_layers: usize,
    /// Layers that write.
    pub decoder_layers: usize,
    /// Heads of attention; they divide the width.
    pub heads: usize,
    /// Width.
    pub width: usize,
    /// The numbers between the two products of each layer's network.
    pub hidden: usize,
    /// The share dropped of embeddings, attention weights, inside the networks, and of what each part adds.
    pub dropout: f64,
}

/// What an encoder made of sentences.
#[derive(Clone, Debug)]
pub struct Memory {
    /// `[B, S, C]`
    pub encoded: Tensor,
    /// `[B, S]` of bool: true where there is no word.
    pub padding: Tensor,
}

/// Sentences of token ids, `[B, S]`, to sentences of the other language.
///
/// A sentence that is read ends in [`Translator::EOS`], one that is written begins with [`Translator::BOS`] and ends in
/// `EOS`; shorter ones of a batch are followed by [`Translator::PAD`], which changes nothing.
///
/// ```
/// use rushlight::{Tensor, nn::Module};
/// use rushlight_models::text::BeamSearch;
/// use rushlight_models::{Translator, TranslatorConfig};
///
/// let (vocab_size, positions, heads, width, hidden) = (50, 16, 2, 32, 64);
/// let (encoder_layers, decoder_layers, dropout) = (1, 1, 0.1);
/// let sizes = TranslatorConfig { vocab_size, positions, encoder_layers, decoder_layers, heads, width, hidden, dropout };
/// let mut model = Translator::new(&sizes)?;
/// let source = Tensor::new([[7i64, 8, 9, 2], [7, 2, 0, 0]])?; // [B, S]
/// let target = Tensor::new([[1i64, 30, 31], [1, 32, 2]])?; // [B, T]
/// let memory = model.encode(&source)?;
/// assert_eq!(model.decode(&target, &memory)?.dims(), [2, 3, 50]); // of what follows each
///
/// model.eval();
/// let search = BeamSearch { beams: 1, max_length: 10, ..Default::default() };
/// let found = model.translate(&model.encode(&source)?, &search)?;
/// assert!(found.len() == 2 && found[0][0].tokens.len() <= 10);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct Translator {
    /// Vectors of the tokens, and the output layer's weight: `[vocab, C]`.
    pub embedding: Embedding,
    /// Of the vectors with their positions.
    pub dropout: Dropout,
    /// Reads.
    pub encoder: TransformerEncoder,
    /// Writes.
    pub decoder: TransformerDecoder,
    /// `[positions, C]`
    #[module(skip)]
    places: Tensor,
}

impl Translator {
    /// What fills up shorter sentences.
    pub const PAD: i64 = 0;
    /// What a translation begins with.
    pub const BOS: i64 = 1;
    /// What a sentence ends with.
    pub const EOS: i64 = 2;

    /// Vectors start normal of 1/√C, all else as Transformer layers do.
    ///
    /// Errors: heads that do not divide the width; a size of 0; a vocabulary without words.
    pub fn new(config: &TranslatorConfig) -> Result<Translator> {
        let &TranslatorConfig { vocab_size, positions, encoder_layers, decoder_layers, heads, width, hidden, dropout } =
            config;
        if vocab_size <= Translator::EOS as usize + 1
            || [positions, encoder_layers, decoder_layers, heads, width, hidden].contains(&0)
        {
            let message = format!("{config:?}: sizes must not be 0, and there are words beside three special tokens");
            return Err(Error::invalid(OP, message));
        }
        let options = TransformerOptions {
            dim_feedforward: Some(hidden),
            dropout,
            activation: Activation::Relu,
            norm_first: true,
            ..Default::default()
        };
        let std = 1.0 / (width as f64).sqrt();
        let weight = Tensor::normal([vocab_size, width], 0.0, std, DType::F32)?.requires_grad()?;
        Ok(Translator {
            embedding: Embedding { weight, padding_idx: None },
            dropout: Dropout::new(dropout)?,
            encoder: TransformerEncoder::new(encoder_layers, width, heads, &options)?,
            decoder: TransformerDecoder::new(decoder_layers, width, heads, &options)?,
            places: sinusoidal_positions(0..positions, width, DType::F32)?,
        })
    }

    /// The longest sequence.
    pub fn positions(&self) -> usize {
        self.places.dims()[0]
    }

    /// Reads: `[B, S]` token ids. Errors: more tokens than positions; an id outside the vocabulary.
    pub fn encode(&self, source: &Tensor) -> Result<Memory> {
        let padding = source.eq(Translator::PAD)?; // [B, S]
        let x = self.embed(source, 0)?; // [B, S, C]
        let masks = AttentionMasks { key_padding_mask: Some(padding.clone()), ..Default::default() };
        Ok(Memory { encoded: self.encoder.forward(&x, &masks)?, padding })
    }

    /// `[B, T]` token ids of a translation, from the beginning on, to the logits of what follows each, `[B, T, vocab]`.
    ///
    /// Errors: as [`Translator::encode`]; a memory of other sentences in number.
    pub fn decode(&self, target: &Tensor, memory: &Memory) -> Result<Tensor> {
        self.logits(&self.decode_hidden(target, memory)?)
    }

    /// [`Translator::decode`] before the output layer, `[B, T, C]`: for a loss that leaves padding out before it.
    pub fn decode_hidden(&self, target: &Tensor, memory: &Memory) -> Result<Tensor> {
        self.decoder.forward(&self.embed(target, 0)?, &memory.encoded, &masks(memory))
    }

    /// [`Translator::decode`], and the weights of each layer's cross-attention, `[B, heads, T, S]`: which words of the
    /// source were looked at to write what follows each token.
    pub fn decode_with_weights(&self, target: &Tensor, memory: &Memory) -> Result<(Tensor, Vec<Tensor>)> {
        let x = self.embed(target, 0)?; // [B, T, C]
        let (x, weights) = self.decoder.forward_with_weights(&x, &memory.encoded, &masks(memory))?;
        Ok((self.logits(&x)?, weights))
    }

    /// A cache for [`Translator::next_logits`], as long as the longest sequence.
    pub fn cache(&self) -> KvCache {
        KvCache::new(self.decoder.layers.len(), self.positions())
    }

    /// The logits, `[B, vocab]`, of what follows the last of the tokens `[B, T]`, which follow those in `cache` and are
    /// added to it: what [`Translator::decode`] gives of the whole, at the cost of `T`. No gradients are recorded;
    /// dropout is only off in evaluation mode.
    ///
    /// Errors: as there; no token; a cache of another number of layers, or without room.
    pub fn next_logits(&self, tokens: &Tensor, memory: &Memory, cache: &mut KvCache) -> Result<Tensor> {
        no_grad(|| {
            let x = self.embed(tokens, cache.len())?; // [B, T, C]
            let last = x.dims()[1].checked_sub(1).ok_or_else(|| Error::invalid(OP, "no token to go on from"))?;
            let x = self.decoder.forward_cached(&x, &memory.encoded, &masks(memory), cache)?; // [B, T, C]
            self.logits(&x.select(1, last as i64)?) // [B, vocab]
        })
    }

    /// Translations of all sentences at once, by `search`, whose `eos` is [`Translator::EOS`] and whose greatest length is
    /// at most that of the model; with one beam the likeliest token after the other. What is written ends before `EOS`.
    ///
    /// Errors: those of [`BeamSearch::run`].
    pub fn translate(&self, memory: &Memory, search: &BeamSearch) -> Result<Vec<Vec<Hypothesis>>> {
        let max_length = search.max_length.min(self.positions());
        let search = BeamSearch { eos: Some(Translator::EOS), max_length, ..*search };
        let [sentences, _] = memory.padding.dims_of(OP)?;
        let begin = Tensor::from_vec(vec![Translator::BOS; sentences], [sentences, 1])?;
        let (mut memory, mut cache) = (memory.clone(), KvCache::new(self.decoder.layers.len(), max_length));
        search.run(&begin, |tokens, parents| {
            // From the second step on, the cache has what is needed of the sentences, and each row only its mask.
            cache.reorder(parents)?;
            memory.padding = memory.padding.index_select(0, parents)?;
            self.next_logits(tokens, &memory, &mut cache)
        })
    }

    /// `[B, T]` token ids, at the places from `offset` on, to `[B, T, C]`.
    fn embed(&self, tokens: &Tensor, offset: usize) -> Result<Tensor> {
        let [_, t] = tokens.dims_of(OP)?;
        let most = self.positions();
        if t > most.saturating_sub(offset) {
            let message = format!("{} tokens are more than the {most} positions that the model has", offset + t);
            return Err(Error::invalid(OP, message));
        }
        let width = self.embedding.weight.dims()[1];
        let x = self.embedding.forward(tokens)?.mul((width as f64).sqrt())?; // [B, T, C]
        self.dropout.forward(&x.add(&self.places.narrow(0, offset, t)?)?)
    }

    /// `[.., C]` to `[.., vocab]`.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        x.linear(&self.embedding.weight, None)
    }
}

/// Nobody sees a source's padding; that of a target is behind all that counts.
fn masks(memory: &Memory) -> DecoderMasks {
    DecoderMasks { memory_key_padding_mask: Some(memory.padding.clone()), ..Default::default() }
}
