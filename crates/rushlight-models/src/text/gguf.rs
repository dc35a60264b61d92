//! The tokenizer of a GGUF file: byte pairs, from the lists of tokens and merges in its metadata.
//!
//! | key | what it says |
//! |---|---|
//! | `tokenizer.ggml.model` | the kind: `gpt2` is byte pairs over the letters that stand for bytes |
//! | `tokenizer.ggml.pre` | the rule by which text is cut into words first |
//! | `tokenizer.ggml.tokens`, `token_type` | the tokens by id; 3 is a special one, 4 one that is found in text whole |
//! | `tokenizer.ggml.merges` | the pairs that become one, `a b`, the first learnt first |
//!
//! Reference: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use rushlight::io::{Array, TensorFile, Value};
use rushlight::{Error, Result};
use tokenizers::decoders::byte_level::ByteLevel as ByteDecoder;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::{byte_level::ByteLevel, digits::Digits, sequence::Sequence};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::Tokenizer;
use super::tokenizer::guarded;

/// How Llama 3 and Qwen2 cut text into words; they differ in how many digits make one.
const WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Numbers of `token_type`.
const SPECIAL: i64 = 3;
const WHOLE: i64 = 4;

impl Tokenizer {
    /// The tokenizer of an open GGUF file: the same that its model was trained with.
    ///
    /// Errors: metadata without one, or of a kind other than byte pairs cut by the rule of GPT-2, SmolLM, Llama 3 or Qwen2;
    /// lists that do not belong together.
    pub fn from_gguf(file: &TensorFile) -> Result<Tokenizer> {
        let refuse = |message: String| Error::format(file.path(), 0, format!("its tokenizer: {message}"));
        let value = |key: &str| {
            let key = format!("tokenizer.ggml.{key}");
            file.value(&key).ok_or_else(|| refuse(format!("the metadata has no {key}")))
        };
        let text = |key: &str| Ok::<_, Error>(value(key)?.as_str().unwrap_or_default());
        let strings = |key: &str| {
            value(key)?.as_strings().ok_or_else(|| refuse(format!("tokenizer.ggml.{key} is no list of texts")))
        };
        let model = text("model")?;
        if model != "gpt2" {
            return Err(refuse(format!("tokenizer.ggml.model is {model:?}; only \"gpt2\" (byte pairs) is read")));
        }
        let bytes = ByteLevel::new(false, true, true);
        // By rule or regex, then to the letters that stand for bytes.
        let cut = |by: &str| {
            let regex = Split::new(SplitPattern::Regex(by.to_string()), SplitDelimiterBehavior::Isolated, false);
            let regex = regex.map_err(|e| refuse(e.to_string()))?;
            Ok::<_, Error>(Sequence::new(vec![regex.into(), ByteLevel::new(false, true, false).into()]).into())
        };
        let rule = text("pre")?;
        let words: PreTokenizerWrapper = match rule {
            "gpt-2" => bytes.into(),
            // Each digit is a word.
            "smollm" => Sequence::new(vec![Digits::new(true).into(), bytes.into()]).into(),
            "llama-bpe" => cut(&WORDS.replace("DIGITS", r"\p{N}{1,3}"))?,
            "qwen2" => cut(&WORDS.replace("DIGITS", r"\p{N}"))?,
            other => {
                let known = "\"gpt-2\", \"smollm\", \"llama-bpe\" and \"qwen2\"";
                return Err(refuse(format!("tokenizer.ggml.pre is {other:?}; {known} are known")));
            }
        };
        let tokens = strings("tokens")?;
        let mut vocab = Vocab::default();
        for (id, token) in (0..).zip(tokens) {
            if let Some(before) = vocab.insert(token.clone(), id) {
                return Err(refuse(format!("token {token:?} is there twice, as {before} and {id}")));
            }
        }
        let mut merges = vec![];
        for (i, merge) in strings("merges")?.iter().enumerate() {
            let known = |part: &str| vocab.contains_key(part);
            let pair = merge.split_once(' ').filter(|(a, b)| known(a) && known(b) && known(&format!("{a}{b}")));
            let Some((a, b)) = pair else {
                return Err(refuse(format!("merge {i}, {merge:?}, is not of two tokens that make a third")));
            };
            merges.push((a.to_string(), b.to_string()));
        }
        let types = match file.value("tokenizer.ggml.token_type").and_then(Value::as_array) {
            Some(types) if types.len() != tokens.len() => {
                let message = format!("{} tokens, but {} numbers in token_type", tokens.len(), types.len());
                return Err(refuse(message));
            }
            types => types,
        };
        let of_type = |wanted: i64| added(tokens, types, wanted);
        let make = || {
            // Llama 3 takes a word that is a token as it is, whatever its merges would make of it.
            let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(rule == "llama-bpe");
            let mut inner = tokenizers::Tokenizer::new(model.build()?);
            if rule == "qwen2" {
                inner.with_normalizer(Some(NFC))?;
            }
            inner.with_pre_tokenizer(Some(words)).with_decoder(Some(ByteDecoder::new(false, true, true)));
            inner.add_special_tokens(of_type(SPECIAL))?;
            inner.add_tokens(of_type(WHOLE))?;
            Ok(inner)
        };
        Tokenizer::new("from_gguf", guarded("from_gguf", make)?).map_err(|e| refuse(e.to_string()))
    }
}

/// The tokens whose number in `types` is `wanted`.
fn added(tokens: &[String], types: Option<&Array>, wanted: i64) -> Vec<AddedToken> {
    let of_type = |i: usize| types.and_then(|t| t.get(i)).and_then(|t| t.as_i64()) == Some(wanted);
    let found = tokens.iter().enumerate().filter(|(i, _)| of_type(*i));
    found.map(|(_, token)| AddedToken::from(token.clone(), wanted == SPECIAL).normalized(false)).collect()
}
