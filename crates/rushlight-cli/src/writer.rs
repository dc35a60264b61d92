//! Writing with a model: one token after the other.

use rushlight::nn::KvCache;
use rushlight::random::Generator;
use rushlight::{DType, Tensor};
use rushlight_models::text::Sampling;

use crate::Outcome;
use crate::language::LanguageModel;

/// How the next token is chosen.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// Below 1 for safer, above for bolder text; 0 for the likeliest token always
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Only the K likeliest tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Only the likeliest tokens whose probabilities together reach P
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Only tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Above 1, what was said is less likely to be said again
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// The same seed writes the same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// Errors: numbers outside of their range.
    pub fn check(&self) -> Outcome<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        };
        sampling.check()?;
        Ok(sampling)
    }

    pub fn generator(&self) -> Generator {
        Generator::new(self.seed)
    }
}

/// What keys and values are kept as.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum Kv {
    /// As they are
    #[default]
    F32,
    /// Half the memory; logits move a little, and a long text is written more slowly
    F16,
}

impl Kv {
    fn cache(self, model: &dyn LanguageModel, tokens: usize) -> rushlight::Result<KvCache> {
        let cache = model.cache(tokens);
        match self {
            Kv::F32 => Ok(cache),
            Kv::F16 => cache.keep_as(DType::F16),
        }
    }
}

/// Writes one token after the other.
pub struct Writer<'a> {
    pub model: &'a dyn LanguageModel,
    block: usize,
    pub cache: KvCache,
    pub said: Vec<i64>,
    pub logits: Vec<f32>,
}

impl<'a> Writer<'a> {
    /// To write `num` tokens. Errors: a prompt of nothing, or longer than the context.
    pub fn new(model: &'a dyn LanguageModel, prompt: Vec<i64>, num: usize, kv: Kv) -> Outcome<Writer<'a>> {
        let block = model.context();
        if prompt.is_empty() || prompt.len() > block {
            let n = prompt.len();
            return Err(format!("a prompt of {n} tokens; the model's context is {block}: expected 1 to {block}").into());
        }
        let cache = kv.cache(model, prompt.len().saturating_add(num).min(block))?;
        let mut writer = Writer { model, block, cache, said: prompt, logits: vec![] };
        writer.read(0)?;
        Ok(writer)
    }

    /// The model reads what was said from number `from` on.
    fn read(&mut self, from: usize) -> Outcome {
        let new = &self.said[from..];
        let tokens = Tensor::from_slice(new, [1, new.len()])?;
        self.logits = self.model.next_logits(&tokens, &mut self.cache)?.to_vec::<f32>()?;
        Ok(())
    }

    pub fn next(&mut self, sampling: &Sampling, generator: &mut Generator) -> Outcome<i64> {
        let id = sampling.choose(&self.logits, &self.said, generator)?;
        self.said.push(id);
        if self.cache.len() == self.block {
            // Out of places: the later half is read anew, which costs a token as much as one more on average.
            self.cache.reset();
            self.read(self.said.len() - self.block.div_ceil(2))?;
        } else {
            self.read(self.said.len() - 1)?;
        }
        Ok(id)
    }

    /// Another text than the one so far: what both begin with is not read again.
    ///
    /// Errors: a text of nothing, or one longer than there is room for.
    pub fn turn_to(&mut self, text: Vec<i64>) -> Outcome {
        let (n, room) = (text.len(), self.cache.capacity());
        if text.is_empty() || n > room {
            return Err(format!("a text of {n} tokens: expected 1 to {room}").into());
        }
        let shared = self.said.iter().zip(&text).take_while(|(a, b)| a == b).count();
        // The last token is read in any case: its logits say what follows.
        let kept = shared.min(self.cache.len()).min(n - 1);
        self.cache.truncate(kept);
        self.said = text;
        self.read(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rushlight_models::{Gpt, GptConfig};

    #[test]
    fn another_text_is_continued_as_if_it_were_the_first() {
        let config = GptConfig { vocab_size: 8, block_size: 12, n_layer: 2, n_head: 1, n_embd: 8, ..GptConfig::gpt2() };
        let model = Gpt::new(&config).unwrap();
        let mut writer = Writer::new(&model, vec![1, 2, 3], 9, Kv::F32).unwrap();
        let mut generator = Generator::new(0);
        writer.next(&Sampling::default(), &mut generator).unwrap();
        for text in
            [vec![1, 2, 3, 4, 5], vec![1, 2], vec![1, 2], vec![7, 6, 5], vec![7, 6, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
        {
            writer.turn_to(text.clone()).unwrap();
            assert_eq!(writer.cache.len(), text.len());
            let fresh = Writer::new(&model, text, 0, Kv::F32).unwrap();
            for (a, b) in writer.logits.iter().zip(&fresh.logits) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
        assert!(writer.turn_to(vec![]).is_err() && writer.turn_to(vec![0; 13]).is_err());
    }
}
