//! Tokenizers: text to token ids and back, trained here and kept as Hugging Face's `tokenizer.json`.
//!
//! | kind | a token is | text that it cannot tell | decoding |
//! |---|---|---|---|
//! | [`Tokenizer::train_bpe`] | bytes that often follow each other | none | exact |
//! | [`Tokenizer::train_characters`] | one character | `<unk>` if it has one, else an error | exact |
//! | [`Tokenizer::train_words`] | a lower-case word, a run of punctuation | `<unk>` | words with spaces between |
//!
//! Text is only text: a special token such as `<eos>` is never read out of it, but put among the ids by the one who
//! calls; decoding leaves special tokens out. Training is deterministic: the same lines give the same file.
//!
//! Sources: Sennrich et al. 2016 (byte pairs), Radford et al. 2019 (of bytes, and how text is cut into words first).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::{io::Write, thread};

use rushlight::data::text::read_text;
use rushlight::io::{from_json, write_atomic};
use rushlight::{Error, Result, num_threads};
use tokenizers::decoders::{DecoderWrapper, byte_level::ByteLevel as ByteDecoder, fuse::Fuse};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::models::{bpe::BPE, bpe::BpeTrainer, wordlevel::WordLevel, wordlevel::WordLevelTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::{PreTokenizerWrapper, byte_level::ByteLevel, whitespace::Whitespace};
use tokenizers::{AddedToken, parallelism};

/// The largest vocabulary: four times that of the largest in use.
const MOST_TOKENS: usize = 1 << 20;
/// Text is cut into pieces of about so many bytes where that changes nothing, for threads and for memory.
const PIECE: usize = 1 << 16;
const UNKNOWN: &str = "<unk>";

/// Text to token ids and back.
///
/// ```
/// use rushlight_models::text::Tokenizer;
///
/// let lines = ["low lower lowest\n", "new newer newest\n"];
/// let tokenizer = Tokenizer::train_bpe(lines, 280, &["<pad>", "<bos>", "<eos>"])?;
/// let ids = tokenizer.encode("the newest 🦀\tis\n\n slow")?;
/// assert_eq!(tokenizer.decode(&ids)?, "the newest 🦀\tis\n\n slow");
///
/// let eos = tokenizer.id("<eos>")?;
/// assert_eq!((eos, tokenizer.token(eos)), (2, Some("<eos>".to_string())));
/// assert_eq!(tokenizer.decode(&[&ids[..], &[eos, eos]].concat())?, tokenizer.decode(&ids)?);
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// One token a character, looked up here: the same as `inner` does with a string for each.
    Characters(HashMap<char, i64>),
    /// Bytes in words as GPT-2 cuts them: text can be cut between two lines.
    Lines,
    /// Whatever a file asks for.
    Other,
}

impl Tokenizer {
    /// Byte pairs: from the 256 bytes on, the two tokens that most often follow each other become one more, until there
    /// are `vocab_size`, the special ones (the first ids) counted, or no pair is seen twice. PyTorch: GPT-2's tokenizer.
    ///
    /// Lines are best given with their ends, for those to be learnt (`text.split_inclusive('\n')`).
    ///
    /// Errors: fewer tokens than bytes and special ones, or more than 2²⁰; no text; a special token that is not a name
    /// in brackets (`<pad>`, `[PAD]`), or is there twice.
    pub fn train_bpe<S, I>(lines: I, vocab_size: usize, special: &[&str]) -> Result<Tokenizer>
    where
        S: AsRef<str> + Send,
        I: IntoIterator<Item = S, IntoIter: Send>,
    {
        let op = "train_bpe";
        let special_tokens = special_tokens(op, special)?;
        let least = 256 + special.len();
        if !(least..=MOST_TOKENS).contains(&vocab_size) {
            let message = format!("a vocabulary of {vocab_size}; {least} to {MOST_TOKENS} are possible");
            return Err(Error::invalid(op, message));
        }
        let bytes = ByteLevel::new(false, false, true);
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_pre_tokenizer(Some(bytes)).with_decoder(Some(ByteDecoder::new(false, false, true)));
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(special_tokens)
            .show_progress(false)
            .build();
        train(op, inner, TrainerWrapper::BpeTrainer(trainer), lines)
    }

    /// One token for each character of the text, in the order of their code points after the special ones.
    ///
    /// With a special token `<unk>`, a character that was not in the text becomes that; without, encoding it is an
    /// error that names it.
    ///
    /// Errors: no text; special tokens as in [`Tokenizer::train_bpe`].
    pub fn train_characters<S, I>(lines: I, special: &[&str]) -> Result<Tokenizer>
    where
        S: AsRef<str>,
        I: IntoIterator<Item = S>,
    {
        let op = "train_characters";
        let added = special_tokens(op, special)?;
        let mut characters = std::collections::BTreeSet::new();
        lines.into_iter().for_each(|line| characters.extend(line.as_ref().chars()));
        if characters.is_empty() {
            return Err(no_text(op));
        }
        let tokens = special.iter().map(|s| s.to_string()).chain(characters.into_iter().map(String::from));
        let vocab: HashMap<String, u32> = tokens.zip(0..).collect();
        let make = || {
            // Byte pairs without a pair: a vocabulary that Hugging Face's library reads character by character.
            let mut model =
                BPE::builder().vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), vec![]);
            if special.contains(&UNKNOWN) {
                model = model.unk_token(UNKNOWN.to_string());
            }
            let mut inner = tokenizers::Tokenizer::new(model.build()?);
            inner.with_decoder(Some(Fuse::new()));
            inner.add_special_tokens(added)?;
            Ok(inner)
        };
        Tokenizer::new(op, guarded(op, make)?)
    }

    /// One token for each lower-case word and each run of punctuation that the text has at least `min_frequency` times,
    /// the most frequent first after the special ones; all others are `<unk>`, which must be among those.
    ///
    /// Errors: no text; no `<unk>`; special tokens as in [`Tokenizer::train_bpe`]; more than 2²⁰ tokens.
    pub fn train_words<S, I>(lines: I, min_frequency: usize, special: &[&str]) -> Result<Tokenizer>
    where
        S: AsRef<str> + Send,
        I: IntoIterator<Item = S, IntoIter: Send>,
    {
        let op = "train_words";
        let special_tokens = special_tokens(op, special)?;
        if !special.contains(&UNKNOWN) {
            return Err(Error::invalid(op, format!("no {UNKNOWN} among the special tokens, for words not learnt")));
        }
        let unknown = |e: Box<dyn std::error::Error + Send + Sync>| Error::invalid(op, e.to_string());
        let model = WordLevel::builder().unk_token(UNKNOWN.to_string()).build().map_err(unknown)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_normalizer(Some(Lowercase)).map_err(unknown)?.with_pre_tokenizer(Some(Whitespace {}));
        let trainer = WordLevelTrainer::builder()
            .min_frequency(min_frequency as u64)
            .vocab_size(MOST_TOKENS + 1)
            .special_tokens(special_tokens)
            .show_progress(false)
            .build()
            .map_err(|e| Error::invalid(op, e.to_string()))?;
        train(op, inner, TrainerWrapper::WordLevelTrainer(trainer), lines)
    }

    /// What [`Tokenizer::save`] wrote, or another `tokenizer.json`. What such a file says of padding and truncation is
    /// not done: batches pad, and no text is cut silently.
    ///
    /// Errors: a file that is no tokenizer's, with the place; ids of 2²⁰ and more; what the system refuses.
    pub fn load(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let refused = |offset: u64, why: String| Error::format(path, offset, format!("no tokenizer: {why}"));
        let read =
            || -> Result<tokenizers::Tokenizer> { from_json(&text).map_err(|e| refused(e.offset(), e.to_string())) };
        let mut inner = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
            let why = "its vocabulary and its rules contradict each other";
            Err(refused(0, why.to_string()))
        })?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| refused(0, e.to_string()))?;
        Tokenizer::new("load", inner).map_err(|e| refused(0, e.to_string()))
    }

    /// Writes `tokenizer.json`, whole or not at all. Errors: what the system refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let json = guarded("save", || self.inner.to_string(true))?;
        write_atomic(path, |file| file.write_all(json.as_bytes()).map_err(|e| Error::io(path, e)))
    }

    /// Errors: no tokens, or too many.
    pub(super) fn new(op: &'static str, mut inner: tokenizers::Tokenizer) -> Result<Tokenizer> {
        let vocab = inner.get_vocab(true);
        let vocab_size = vocab.values().max().map_or(0, |&id| id as usize + 1);
        if !(1..=MOST_TOKENS).contains(&vocab_size) {
            return Err(Error::invalid(op, format!("a vocabulary of {vocab_size}; 1 to {MOST_TOKENS} are possible")));
        }
        // Otherwise whoever writes a text could end it, or worse.
        inner.set_encode_special_tokens(true);
        // The library keeps the words each byte-pair tokenizer has met for as long as their thread lives, also when the
        // tokenizer is gone: 300 KiB for a page of text. Without, long text takes as long, short lines a third more.
        if let ModelWrapper::BPE(model) = inner.get_model() {
            let mut model = model.clone();
            model.resize_cache(0);
            inner.with_model(model);
        }
        let kind = kind(&inner, &vocab);
        Ok(Tokenizer { inner, vocab_size, kind })
    }

    /// The number of tokens, that is one more than the largest id: the size of an embedding.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token, such as `<eos>`. Errors: there is none of that name.
    pub fn id(&self, token: &str) -> Result<i64> {
        let id = self.inner.token_to_id(token);
        id.map(i64::from).ok_or_else(|| Error::invalid("Tokenizer", format!("the vocabulary has no token {token}")))
    }

    /// The token of an id as the file spells it, which for byte pairs is a letter for each byte.
    pub fn token(&self, id: i64) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }

    /// Whether a model of `vocab_size` tokens is one for this tokenizer. Errors: it is not.
    pub fn check_vocab_size(&self, vocab_size: usize) -> Result<()> {
        if vocab_size == self.vocab_size {
            return Ok(());
        }
        let own = self.vocab_size;
        let message = format!("{own} tokens, where the model knows {vocab_size}: they do not belong together");
        Err(Error::invalid("Tokenizer", message))
    }

    /// The ids of a text. Long text is worked on by all threads.
    ///
    /// Errors: a character without a token, where there is no `<unk>`.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let pieces = match &self.kind {
            Kind::Characters(ids) => return self.characters(text, ids),
            Kind::Lines => pieces(text),
            Kind::Other => vec![text],
        };
        Ok(self.encode_batch(&pieces)?.concat())
    }

    /// The ids of each text, worked on by all threads. Errors: those of [`Tokenizer::encode`].
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<i64>>> {
        self.encode_each(texts, |text| match &self.kind {
            Kind::Characters(ids) => self.characters(text, ids),
            _ => self.ids(text, false),
        })
    }

    /// The ids of each text with those that the file puts around a text, as BERT's `[CLS] … [SEP]`.
    ///
    /// Errors: those of [`Tokenizer::encode`].
    pub fn encode_framed<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<i64>>> {
        self.encode_each(texts, |text| self.ids(text, true))
    }

    /// The ids of a text in which special tokens are spelled out, such as `<|im_end|>` in a filled chat template. For
    /// text of one's own: whoever writes the text can end it.
    ///
    /// ```
    /// # use rushlight_models::text::Tokenizer;
    /// let tokenizer = Tokenizer::train_bpe(["some text"], 257, &["<eos>"])?;
    /// let (marked, plain) = (tokenizer.encode_marked("a<eos>b")?, tokenizer.encode("a<eos>b")?);
    /// assert_eq!((marked.len(), marked[1], plain.len()), (3, tokenizer.id("<eos>")?, 7));
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: those of [`Tokenizer::encode`].
    pub fn encode_marked(&self, text: &str) -> Result<Vec<i64>> {
        let added = self.inner.get_added_vocabulary();
        let special: Vec<_> = added.get_vocab().iter().filter(|(token, _)| added.is_special_token(token)).collect();
        let (mut ids, mut rest) = (vec![], text);
        loop {
            // The first, and of those that begin there the longest.
            let found = special.iter().filter_map(|(token, id)| Some((rest.find(token.as_str())?, *token, **id)));
            let Some((at, token, id)) = found.min_by_key(|(at, token, _)| (*at, std::cmp::Reverse(token.len()))) else {
                break;
            };
            ids.extend(self.encode(&rest[..at])?);
            ids.push(id.into());
            rest = &rest[at + token.len()..];
        }
        ids.extend(self.encode(rest)?);
        Ok(ids)
    }

    fn ids(&self, text: &str, framed: bool) -> Result<Vec<i64>> {
        guarded("encode", || {
            let encoding = self.inner.encode_fast(text, framed)?;
            Ok(encoding.get_ids().iter().map(|&id| id.into()).collect())
        })
    }

    fn encode_each<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        encode: impl Fn(&str) -> Result<Vec<i64>> + Sync,
    ) -> Result<Vec<Vec<i64>>> {
        let bytes: usize = texts.iter().map(|t| t.as_ref().len()).sum();
        let threads = num_threads().min(bytes / (PIECE / 8)).min(texts.len()).max(1);
        in_parts(texts, threads, |text| encode(text.as_ref()))
    }

    fn characters(&self, text: &str, ids: &HashMap<char, i64>) -> Result<Vec<i64>> {
        let unknown = self.inner.token_to_id(UNKNOWN).map(i64::from);
        let id = |(place, c)| {
            let missing =
                || Error::invalid("encode", format!("the vocabulary has no character {c:?} (at byte {place})"));
            ids.get(&c).copied().or(unknown).ok_or_else(missing)
        };
        text.char_indices().map(id).collect()
    }

    /// The text of ids, without special tokens. What is not UTF-8 is shown by `�`.
    ///
    /// Errors: an id outside of the vocabulary.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let inside = |id: &i64| {
            let size = self.vocab_size;
            let known = u32::try_from(*id).ok().filter(|&id| (id as usize) < size);
            known.ok_or_else(|| Error::invalid("decode", format!("token {id} of a vocabulary of {size}")))
        };
        let ids = ids.iter().map(inside).collect::<Result<Vec<u32>>>()?;
        guarded("decode", || self.inner.decode(&ids, true))
    }

    /// Decodes tokens as they come.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream { tokenizer: self, ids: vec![], context: 0, shown: 0 }
    }
}

/// Text of tokens that come one by one: all that is certain of it, so never a part of a character.
///
/// The pieces put together are what [`Tokenizer::decode`] gives of all tokens.
///
/// ```
/// # use rushlight_models::text::Tokenizer;
/// let tokenizer = Tokenizer::train_bpe(["no emoji here"], 256, &[])?; // one token a byte
/// let mut stream = tokenizer.stream();
/// let pieces: Vec<String> = tokenizer.encode("a🦀b")?.iter().map(|&id| stream.push(id)).collect::<Result<_, _>>()?;
/// assert_eq!(pieces, ["a", "", "", "", "🦀", "b"]);
/// assert_eq!(stream.finish()?, "");
/// # Ok::<(), rushlight::Error>(())
/// ```
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Those given lately; the first `context` only for how the others are spelled after them.
    ids: Vec<i64>,
    context: usize,
    /// How many bytes of the text of `ids` were given out.
    shown: usize,
}

impl TokenStream<'_> {
    /// One more token; gives what text became certain by it. Errors: an id outside of the vocabulary.
    pub fn push(&mut self, id: i64) -> Result<String> {
        if self.tokenizer.token(id).is_some_and(|t| self.tokenizer.inner.get_added_vocabulary().is_special_token(&t)) {
            return Ok(String::new());
        }
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids).inspect_err(|_| _ = self.ids.pop())?;
        // At most three bytes wait for the last one of their character, and each may be shown by one mark.
        let waiting = text.chars().rev().take(3).take_while(|&c| c == char::REPLACEMENT_CHARACTER).count();
        let certain = text.len() - waiting * char::REPLACEMENT_CHARACTER.len_utf8();
        let piece = text.get(self.shown..certain).unwrap_or_default().to_string();
        self.shown = self.shown.max(certain);
        if waiting == 0 {
            self.ids.drain(..self.context);
            self.context = self.ids.len();
            self.shown = self.tokenizer.decode(&self.ids)?.len();
        }
        Ok(piece)
    }

    /// The rest: bytes whose character never came whole, shown by `�`.
    pub fn finish(self) -> Result<String> {
        Ok(self.tokenizer.decode(&self.ids)?.get(self.shown..).unwrap_or_default().to_string())
    }
}

fn no_text(op: &'static str) -> Error {
    Error::invalid(op, "no text to learn from")
}

/// What the library below does, with its complaints as ours, also those it makes by a panic.
pub(super) fn guarded<R>(op: &'static str, f: impl FnOnce() -> tokenizers::Result<R>) -> Result<R> {
    let panicked = |_| Err("the rules of the tokenizer do not fit this text".into());
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(panicked).map_err(|e| Error::invalid(op, e.to_string()))
}

fn special_tokens(op: &'static str, names: &[&str]) -> Result<Vec<AddedToken>> {
    for (i, name) in names.iter().enumerate() {
        let inside = [('<', '>'), ('[', ']')].iter().find_map(|&(a, b)| name.strip_prefix(a)?.strip_suffix(b));
        // Such a token never comes about by text: words and punctuation are not joined.
        if !inside.is_some_and(|n| n.contains(char::is_alphanumeric) && !n.contains(char::is_whitespace)) {
            let message = format!("{name:?} is not a name in brackets, as special tokens are: <pad>, [PAD]");
            return Err(Error::invalid(op, message));
        }
        if names[..i].contains(name) {
            return Err(Error::invalid(op, format!("the special token {name} is there twice")));
        }
    }
    Ok(names.iter().map(|&name| AddedToken::from(name, true)).collect())
}

fn train<S, I>(
    op: &'static str,
    mut inner: tokenizers::Tokenizer,
    mut trainer: TrainerWrapper,
    lines: I,
) -> Result<Tokenizer>
where
    S: AsRef<str> + Send,
    I: IntoIterator<Item = S, IntoIter: Send>,
{
    // The library below has threads of its own; it can be told only whether to use them.
    parallelism::set_parallelism(num_threads() > 1);
    let mut some = false;
    let lines = lines.into_iter().inspect(|line| some |= !line.as_ref().is_empty());
    guarded(op, || inner.train(&mut trainer, lines).map(|_| ()))?;
    if !some {
        return Err(no_text(op));
    }
    Tokenizer::new(op, inner)
}

fn kind(inner: &tokenizers::Tokenizer, vocab: &HashMap<String, u32>) -> Kind {
    let ModelWrapper::BPE(model) = inner.get_model() else { return Kind::Other };
    let added = inner.get_added_vocabulary();
    let only_special = added.get_vocab().keys().all(|token| added.is_special_token(token));
    if inner.get_normalizer().is_some() || model.dropout.is_some() || !only_special {
        return Kind::Other;
    }
    match (inner.get_pre_tokenizer(), inner.get_decoder()) {
        (Some(PreTokenizerWrapper::ByteLevel(b)), _) if b.use_regex && !b.add_prefix_space => return Kind::Lines,
        (None, Some(DecoderWrapper::Fuse(_))) => {}
        _ => return Kind::Other,
    }
    let plain = !model.byte_fallback && !model.fuse_unk;
    let (prefix, suffix) = (&model.continuing_subword_prefix, &model.end_of_word_suffix);
    let unknown = model.unk_token.as_deref().unwrap_or(UNKNOWN) == UNKNOWN;
    if !plain || prefix.is_some() || suffix.is_some() || !unknown {
        return Kind::Other;
    }
    let mut characters = HashMap::new();
    for (token, &id) in vocab {
        let mut chars = token.chars();
        match (chars.next(), chars.next()) {
            _ if added.is_special_token(token) => {}
            (Some(c), None) => _ = characters.insert(c, id.into()),
            _ => return Kind::Other,
        }
    }
    Kind::Characters(characters)
}

/// Cuts a text at ends of lines with no other space about: there, GPT-2's rule would cut words apart anyway.
fn pieces(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let space = char::is_whitespace;
    let (mut pieces, mut start) = (vec![], 0);
    while text.len() - start > PIECE {
        let cut = (start + PIECE..bytes.len())
            .find(|&i| bytes[i - 1] == b'\n' && !text[..i - 1].ends_with(space) && !text[i..].starts_with(space));
        let Some(cut) = cut else { break };
        pieces.push(&text[start..cut]);
        start = cut;
    }
    pieces.push(&text[start..]);
    pieces
}

/// `f` of each item, on threads that take neighbouring items.
fn in_parts<T: Sync, R: Send>(items: &[T], threads: usize, f: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let work = |part: &[T]| part.iter().map(&f).collect::<Result<Vec<R>>>();
    if threads <= 1 {
        return work(items);
    }
    let parts = items.chunks(items.len().div_ceil(threads));
    let lost = |_| Err(Error::invalid("encode", "internal: a thread ended early; please report this"));
    let done = thread::scope(|scope| {
        let started: Vec<_> =
            parts.map(|part| thread::Builder::new().spawn_scoped(scope, || work(part)).map_err(|_| part)).collect();
        // Where the system gives no thread, this one does it.
        let join = |part: std::result::Result<thread::ScopedJoinHandle<_>, &[T]>| match part {
            Ok(thread) => thread.join().unwrap_or_else(lost),
            Err(part) => work(part),
        };
        started.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    Ok(done.into_iter().flatten().collect())
}
