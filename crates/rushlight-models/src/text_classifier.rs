//! Classifiers of text: a convolution over words with max over time, and attention over words.
//!
//! Sources: Kim 2014, "Convolutional neural networks for sentence classification", which MiniTorch's sentiment project
//! follows; Vaswani et al. 2017 for the attention, and for its pooling, softmax gating by one learned question, Yang et
//! al. 2016.

use rushlight::nn::{
    AttentionMasks, Conv1d, Dropout, Embedding, Layer, Linear, Module, MultiHeadAttention, MultiHeadAttentionOptions,
};
use rushlight::{ConvOptions, DType, Error, Result, Tensor};

/// Texts of `[B, T]` token ids to `[B, classes]` log-probabilities. Token 0 is padding.
pub trait TextClassifier: Layer {
    /// The vectors of the tokens, `[B, T, width]`.
    fn embed(&self, tokens: &Tensor) -> Result<Tensor>;

    /// From those vectors on: what [`Layer::forward`] does with [`TextClassifier::embed`], and what a gradient goes back
    /// through to ask which word counted.
    fn classify(&self, tokens: &Tensor, embedded: &Tensor) -> Result<Tensor>;
}

/// Convolutions over 3, 4 and 5 words, of each the largest over time, dropout, and a linear layer.
///
/// ```
/// use rushlight::{Tensor, nn::Layer};
/// use rushlight_models::TextCnn;
///
/// let model = TextCnn::new(100, 16, 8, 2, 0.5)?;
/// let tokens = Tensor::new([[5i64, 17, 4, 0, 0, 0], [8, 2, 9, 11, 3, 6]])?;
/// assert_eq!(model.forward(&tokens)?.dims(), [2, 2]);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct TextCnn {
    /// Vectors of the words: `[vocab, width]`.
    pub embedding: Embedding,
    /// Of the vectors.
    pub input_dropout: Dropout,
    /// One for each number of words.
    pub convs: Vec<Conv1d>,
    /// Before the last layer.
    pub dropout: Dropout,
    /// Largest features → classes.
    pub out: Linear,
}

/// How many words the convolutions see.
const WORDS: [usize; 3] = [3, 4, 5];

impl TextCnn {
    /// With words of `width` numbers and `features` for each number of words. Errors: a size of 0.
    pub fn new(vocab: usize, width: usize, features: usize, classes: usize, dropout: f64) -> Result<TextCnn> {
        check("TextCnn", [vocab, width, features, classes])?;
        let conv = |&words: &usize| Conv1d::new(width, features, [words], ConvOptions::default());
        Ok(TextCnn {
            embedding: Embedding::with_padding(vocab, width, 0)?,
            input_dropout: Dropout::new(dropout)?,
            convs: WORDS.iter().map(conv).collect::<Result<_>>()?,
            dropout: Dropout::new(dropout)?,
            out: Linear::new(WORDS.len() * features, classes)?,
        })
    }
}

impl TextClassifier for TextCnn {
    fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        self.embedding.forward(tokens)
    }

    fn classify(&self, tokens: &Tensor, embedded: &Tensor) -> Result<Tensor> {
        let x = self.input_dropout.forward(embedded)?.transpose(1, 2)?; // [B, width, T]
        let seen = tokens.ne(0i64)?.to_dtype(x.dtype())?.unsqueeze(1)?; // [B, 1, T]
        // As many windows as words: those that begin in padding count nothing, so that no answer depends on it.
        let largest = |conv: &Conv1d| {
            let words = conv.weight.dims()[2];
            let x = x.pad(&[(0, words as i64 - 1)], 0.0)?; // [B, width, T + words − 1]
            conv.forward(&x)?.relu()?.mul(&seen)?.amax(-1) // [B, features]
        };
        let features = self.convs.iter().map(largest).collect::<Result<Vec<_>>>()?;
        let x = self.dropout.forward(&Tensor::cat(&features, 1)?)?; // [B, 3 features]
        self.out.forward(&x)?.log_softmax(-1) // [B, classes]
    }
}

impl Layer for TextCnn {
    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        forward(self, tokens)
    }
}

/// Self-attention over the words, then one learned question that all words answer: the mean of what they hold, weighted
/// by how well each fits.
///
/// ```
/// use rushlight::{Tensor, nn::Layer};
/// use rushlight_models::TextAttention;
///
/// let model = TextAttention::new(100, 16, 2, 50, 2, 0.5)?;
/// let tokens = Tensor::new([[5i64, 17, 4, 0, 0, 0], [8, 2, 9, 11, 3, 6]])?;
/// assert_eq!(model.forward(&tokens)?.dims(), [2, 2]);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Module)]
pub struct TextAttention {
    /// Vectors of the words: `[vocab, width]`.
    pub embedding: Embedding,
    /// Vectors of the places: `[length, width]`.
    pub positions: Tensor,
    /// Of the vectors.
    pub input_dropout: Dropout,
    /// Of each word to all.
    pub attention: MultiHeadAttention,
    /// What each word is asked: `[width]`.
    pub question: Tensor,
    /// Before the last layer.
    pub dropout: Dropout,
    /// width → classes.
    pub out: Linear,
}

impl TextAttention {
    /// With words of `width` numbers, for texts of at most `length` tokens. Errors: a size of 0; heads that do not divide
    /// the width.
    pub fn new(
        vocab: usize,
        width: usize,
        heads: usize,
        length: usize,
        classes: usize,
        dropout: f64,
    ) -> Result<TextAttention> {
        check("TextAttention", [vocab, width, length, classes])?;
        let small = |shape: &[usize]| Tensor::normal(shape, 0.0, 0.02, DType::F32)?.requires_grad();
        let options = MultiHeadAttentionOptions { dropout, ..Default::default() };
        Ok(TextAttention {
            embedding: Embedding::with_padding(vocab, width, 0)?,
            positions: small(&[length, width])?,
            input_dropout: Dropout::new(dropout)?,
            attention: MultiHeadAttention::new(width, heads, &options)?,
            question: small(&[width])?,
            dropout: Dropout::new(dropout)?,
            out: Linear::new(width, classes)?,
        })
    }
}

impl TextClassifier for TextAttention {
    fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        self.embedding.forward(tokens)
    }

    fn classify(&self, tokens: &Tensor, embedded: &Tensor) -> Result<Tensor> {
        let [_, t] = tokens.dims_of("TextAttention")?;
        let most = self.positions.dims()[0];
        if t > most {
            let message = format!("{t} tokens are more than the {most} positions that the model has");
            return Err(Error::invalid("TextAttention", message));
        }
        let padding = tokens.eq(0i64)?; // [B, T]
        let x = self.input_dropout.forward(&embedded.add(&self.positions.narrow(0, 0, t)?)?)?; // [B, T, width]
        let masks = AttentionMasks { key_padding_mask: Some(padding.clone()), ..Default::default() };
        let x = x.add(&self.attention.forward(&x, &x, &masks)?)?;
        let fits = x.matmul(&self.question.unsqueeze(1)?)?.squeeze(-1)?; // [B, T]
        // Finite, so that a text of nothing has an answer too.
        let weights = padding.logical_not()?.where_cond(&fits, -1e30)?.softmax(-1)?;
        let x = weights.unsqueeze(1)?.matmul(&x)?.squeeze(1)?; // [B, width]
        self.out.forward(&self.dropout.forward(&x)?)?.log_softmax(-1) // [B, classes]
    }
}

impl Layer for TextAttention {
    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        forward(self, tokens)
    }
}

/// The answer, without the columns that are padding in every text: no answer depends on them.
fn forward(model: &impl TextClassifier, tokens: &Tensor) -> Result<Tensor> {
    let [_, t] = tokens.dims_of("TextClassifier")?;
    let ids = tokens.to_vec::<i64>()?;
    let length = |row: &[i64]| row.iter().rposition(|&id| id != 0).map_or(0, |last| last + 1);
    let longest = ids.chunks(t.max(1)).map(length).max().unwrap_or(0).max(1);
    let tokens = tokens.narrow(1, 0, longest.min(t))?;
    model.classify(&tokens, &model.embed(&tokens)?)
}

fn check(model: &'static str, sizes: [usize; 4]) -> Result<()> {
    if sizes.contains(&0) {
        return Err(Error::invalid(model, format!("sizes {sizes:?}: none may be 0")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind a text, and beside a longer one: the same answer.
    #[test]
    fn padding_changes_nothing() {
        let models: [Box<dyn TextClassifier>; 2] = [
            Box::new(TextCnn::new(20, 8, 4, 2, 0.0).unwrap()),
            Box::new(TextAttention::new(20, 8, 2, 12, 2, 0.0).unwrap()),
        ];
        for model in models {
            let answer = |rows: &[&[i64]]| {
                let t = rows[0].len();
                let tokens = Tensor::from_vec(rows.concat(), [rows.len(), t]).unwrap();
                let whole = model.classify(&tokens, &model.embed(&tokens).unwrap()).unwrap();
                let trimmed = model.forward(&tokens).unwrap();
                let first = |y: Tensor| y.select(0, 0).unwrap().to_vec::<f32>().unwrap();
                (first(whole), first(trimmed))
            };
            let alone = answer(&[&[3, 9, 4]]).0;
            let padded = answer(&[&[3, 9, 4, 0, 0, 0, 0, 0, 0]]);
            let beside = answer(&[&[3, 9, 4, 0, 0, 0, 0], &[1, 2, 3, 4, 5, 6, 0]]);
            for other in [padded.0, padded.1, beside.0, beside.1] {
                assert!(alone.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6), "{alone:?} {other:?}");
            }
            // Nothing but padding is a text too.
            assert!(answer(&[&[0, 0]]).1.iter().all(|p| p.is_finite()));
        }
    }
}
