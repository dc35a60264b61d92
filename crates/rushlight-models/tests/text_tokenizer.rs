//! Tokenizers: exact round trips, files that others read, and what is refused.

mod common;

use common::{data, file_of};
use rushlight::data::text::read_text;
use rushlight::{Error, Result, random::Generator};
use rushlight_models::text::Tokenizer;

/// The first bytes of the plays.
fn plays(bytes: usize) -> String {
    read_text(data("shakespeare/plays.txt.gz")).unwrap()[..bytes].to_string()
}

fn bpe(vocab_size: usize) -> Tokenizer {
    let text = plays(100_000);
    Tokenizer::train_bpe(text.split_inclusive('\n'), vocab_size, &["<pad>", "<bos>", "<eos>"]).unwrap()
}

/// Text of all kinds of characters, spaces, line ends and controls.
fn noise(generator: &mut Generator, length: usize) -> String {
    const SOME: [&str; 24] = [
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "a",
        "the",
        "don't",
        "'ll",
        "é",
        "¿",
        "…",
        "🦀",
        "👩‍🚀",
        "中文",
        "\u{a0}",
        "\0",
        "12",
        "3.5",
        "<eos>",
        "<",
        "\u{fffd}",
        "ß",
    ];
    (0..length).map(|_| SOME[(generator.next_u64() % 24) as usize]).collect()
}

fn saved(tokenizer: &Tokenizer) -> String {
    let (_dir, path) = file_of("tokenizer.json", b"replaced");
    tokenizer.save(&path).unwrap();
    read_text(path).unwrap()
}

fn load(json: &str) -> Result<Tokenizer> {
    let (_dir, path) = file_of("tokenizer.json", json.as_bytes());
    Tokenizer::load(path)
}

/// The library below, as it reads our file, and told to take text as text.
fn theirs(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    let mut theirs: tokenizers::Tokenizer = saved(tokenizer).parse().unwrap();
    theirs.set_encode_special_tokens(true);
    theirs
}

fn ids_of(theirs: &tokenizers::Tokenizer, text: &str) -> Vec<i64> {
    theirs.encode_fast(text, false).unwrap().get_ids().iter().map(|&id| id.into()).collect()
}

#[test]
fn byte_pairs_give_any_text_back() {
    let tokenizer = bpe(600);
    assert_eq!(tokenizer.vocab_size(), 600);
    let mut generator = Generator::new(1);
    for length in (0..40).chain([500]) {
        let text = noise(&mut generator, length);
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert!(ids.iter().all(|&id| (3..600).contains(&id)), "a special token was read out of {text:?}");
    }
    // It has learnt something: two letters and more to a token of text like that it was trained on.
    let text = plays(10_000);
    assert!(tokenizer.encode(&text).unwrap().len() < text.len() / 2);
}

#[test]
fn training_twice_gives_the_same_file() {
    let file = saved(&bpe(900));
    for _ in 0..3 {
        assert!(saved(&bpe(900)) == file);
    }
    let text = plays(50_000);
    let words = || saved(&Tokenizer::train_words(text.lines(), 2, &["<pad>", "<unk>"]).unwrap());
    let characters = || saved(&Tokenizer::train_characters(text.lines(), &[]).unwrap());
    assert!(words() == words() && characters() == characters());
    // And what is loaded is what was saved.
    assert!(saved(&load(&file).unwrap()) == file);
}

#[test]
fn long_text_in_pieces_is_the_whole_text() {
    let tokenizer = bpe(500);
    let mut text = plays(300_000);
    text.insert_str(100_000, "\n\n  \n x\n\n\n");
    text.push_str(&noise(&mut Generator::new(2), 40_000));
    let ids = tokenizer.encode(&text).unwrap();
    assert!(ids == ids_of(&theirs(&tokenizer), &text));
    assert!(tokenizer.decode(&ids).unwrap() == text);
    // A batch is its texts, on any number of threads.
    let texts: Vec<&str> = text.split_inclusive('\n').collect();
    let batch = tokenizer.encode_batch(&texts).unwrap();
    rushlight::set_num_threads(3).unwrap();
    assert!(tokenizer.encode_batch(&texts).unwrap() == batch && tokenizer.encode(&text).unwrap() == ids);
    rushlight::set_num_threads(0).unwrap();
    assert!(texts.iter().zip(&batch).step_by(97).all(|(t, ids)| tokenizer.encode(t).unwrap() == *ids));
}

#[test]
fn characters_are_tokens() {
    let tokenizer = Tokenizer::train_characters(["hello\n", "wörld 🦀"], &[]).unwrap();
    let order = "\n dehlorwö🦀";
    assert_eq!(tokenizer.vocab_size(), order.chars().count());
    assert_eq!(tokenizer.encode(order).unwrap(), (0..11).collect::<Vec<i64>>());
    let ids = tokenizer.encode("low 🦀\n\nhöle").unwrap();
    assert_eq!((ids.len(), tokenizer.decode(&ids).unwrap().as_str()), (11, "low 🦀\n\nhöle"));
    let error = tokenizer.encode("hé").unwrap_err().to_string();
    assert_eq!(error, "encode: the vocabulary has no character 'é' (at byte 1)");

    let tokenizer = Tokenizer::train_characters(["ab"], &["<unk>", "<eos>"]).unwrap();
    assert_eq!(tokenizer.encode("abcb").unwrap(), [2, 3, 0, 3]);
    assert_eq!(tokenizer.decode(&[2, 1, 3]).unwrap(), "ab");
}

/// The quick way of characters gives what the file says to others.
#[test]
fn characters_as_the_file_says() {
    let learnt = "To be, or not to be:\n\tthat is — ¿the question? 🦀";
    for special in [&[][..], &["<unk>"], &["<pad>", "<unk>", "<eos>"]] {
        let tokenizer = Tokenizer::train_characters([learnt], special).unwrap();
        let (theirs, again) = (theirs(&tokenizer), load(&saved(&tokenizer)).unwrap());
        for text in [learnt, "that\nis", "", if special.is_empty() { "?" } else { "éa€" }] {
            let expected = ids_of(&theirs, text);
            assert_eq!((&tokenizer.encode(text).unwrap(), &again.encode(text).unwrap()), (&expected, &expected));
            assert_eq!(theirs.decode(&expected.iter().map(|&i| i as u32).collect::<Vec<_>>(), true).unwrap(), {
                tokenizer.decode(&expected).unwrap()
            });
            assert_eq!(tokenizer.encode_batch(&[text]).unwrap(), [expected]);
        }
    }
}

#[test]
fn words_and_punctuation() {
    let lines = ["A good, GOOD film :(", "good film", "Élan!!"];
    let tokenizer = Tokenizer::train_words(lines, 2, &["<pad>", "<unk>"]).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.id("good").unwrap(), tokenizer.id("film").unwrap()), (4, 2, 3));
    assert_eq!(tokenizer.encode("Good FILM, bad\nfilm <pad>").unwrap(), [2, 3, 1, 1, 3, 1, 1, 1]);
    assert_eq!(tokenizer.decode(&[2, 1, 3, 0]).unwrap(), "good film");
    let tokenizer = Tokenizer::train_words(lines, 1, &["<unk>"]).unwrap();
    let ids = tokenizer.encode(lines[0]).unwrap();
    let tokens: Vec<String> = ids.iter().map(|&id| tokenizer.token(id).unwrap()).collect();
    assert_eq!(tokens, ["a", "good", ",", "good", "film", ":("]);
    assert_eq!(tokenizer.decode(&tokenizer.encode(lines[2]).unwrap()).unwrap(), "élan !!");
    assert_eq!(tokenizer.encode(" \n").unwrap(), [0i64; 0]);
}

#[test]
fn a_stream_is_the_text_in_whole_characters() {
    let bytes = Tokenizer::train_bpe(["x"], 259, &["<a>", "<b>", "<c>"]).unwrap();
    let pairs = bpe(700);
    let words = Tokenizer::train_words(["a b c"], 1, &["<unk>"]).unwrap();
    let mut generator = Generator::new(3);
    for tokenizer in [&bytes, &pairs, &words] {
        for round in 0..60 {
            // Half of the rounds are of random tokens: mostly bytes that are no text.
            let ids: Vec<i64> = match round % 2 {
                0 => tokenizer.encode(&noise(&mut generator, 20).replace('\u{fffd}', "")).unwrap(),
                _ => (0..30).map(|_| (generator.next_u64() % tokenizer.vocab_size() as u64) as i64).collect(),
            };
            let mut stream = tokenizer.stream();
            let mut text = String::new();
            for &id in &ids {
                let piece = stream.push(id).unwrap();
                assert!(round % 2 == 1 || !piece.contains('\u{fffd}'), "{piece:?}");
                text += &piece;
            }
            assert_eq!(text + &stream.finish().unwrap(), tokenizer.decode(&ids).unwrap());
        }
    }
    // As early as possible: the crab with its last byte, the text before it at once.
    let ids = bytes.encode("ab🦀").unwrap();
    let mut stream = bytes.stream();
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces, ["a", "b", "", "", "", "🦀"]);
    assert!(stream.push(259).is_err() && stream.push(-1).is_err());
    assert_eq!(stream.push(ids[0]).unwrap(), "a");
    // Cut off within a character.
    let mut stream = bytes.stream();
    assert_eq!(ids[2..4].iter().map(|&id| stream.push(id).unwrap()).collect::<String>(), "");
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
}

/// Llama's way of spelling: a mark for each space, and the first one is none; unknown characters by their bytes.
#[test]
fn a_stream_of_another_spelling() {
    let file = r#"{"version":"1.0",
        "decoder": {"type":"Sequence","decoders":[
            {"type":"Replace","pattern":{"String":"▁"},"content":" "}, {"type":"ByteFallback"}, {"type":"Fuse"},
            {"type":"Strip","content":" ","start":1,"stop":0}]},
        "model":{"type":"BPE","byte_fallback":true,"merges":[],"vocab":{
            "▁a":0, "▁b":1, "c":2, "<0xF0>":3, "<0x9F>":4, "<0xA6>":5, "<0x80>":6}}}"#;
    let tokenizer = load(file).unwrap();
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = [0, 1, 2, 3, 4, 5, 6, 1].iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces, ["a", " b", "c", "", "", "", "🦀", " b"]);
    assert_eq!(stream.finish().unwrap(), "");
}

#[test]
fn bad_training_is_refused() {
    let none: [&str; 0] = [];
    for (trained, part) in [
        (Tokenizer::train_bpe(["a"], 255, &[]), "a vocabulary of 255; 256 to"),
        (Tokenizer::train_bpe(["a"], 257, &["<pad>", "<eos>"]), "a vocabulary of 257; 258 to"),
        (Tokenizer::train_bpe(["a"], usize::MAX, &[]), "to 1048576"),
        (Tokenizer::train_bpe(["a"], 300, &["pad"]), "\"pad\" is not a name in brackets"),
        (Tokenizer::train_bpe(["a"], 300, &["<>"]), "\"<>\" is not"),
        (Tokenizer::train_bpe(["a"], 300, &["<pad>", "<pad>"]), "<pad> is there twice"),
        (Tokenizer::train_bpe(none, 300, &[]), "no text"),
        (Tokenizer::train_bpe(["", ""], 300, &[]), "no text"),
        (Tokenizer::train_characters(none, &["<unk>"]), "no text"),
        (Tokenizer::train_words(none, 1, &["<unk>"]), "no text"),
        (Tokenizer::train_words(["a"], 1, &["<pad>"]), "no <unk>"),
    ] {
        let message = trained.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let tokenizer = bpe(300);
    assert!(tokenizer.id("<unk>").unwrap_err().to_string().contains("no token <unk>"));
    let error = tokenizer.decode(&[5, 300]).unwrap_err().to_string();
    assert_eq!(error, "decode: token 300 of a vocabulary of 300");
    assert!(tokenizer.decode(&[-1]).is_err() && tokenizer.token(300).is_none() && tokenizer.token(-1).is_none());
    assert!(tokenizer.check_vocab_size(300).is_ok());
    let error = tokenizer.check_vocab_size(301).unwrap_err().to_string();
    assert!(error.contains("300 tokens, where the model knows 301"), "{error}");
}

#[test]
fn damaged_files_are_refused() {
    let file = saved(&bpe(270));
    let refused = |json: &str| match load(json) {
        Err(Error::Format { offset, message, .. }) => (offset as usize, message),
        other => panic!("{other:?}"),
    };
    for json in ["", "{}", "[1, 2]", "null"] {
        assert!(refused(json).1.contains("no tokenizer"));
    }
    let broken = file.replacen("\"version\": \"1.0\"", "\"version\": 1.0", 1);
    let at = broken.find("1.0").unwrap();
    let (offset, message) = refused(&broken);
    assert!(offset.abs_diff(at) <= 4, "{offset}, not {at}: {message}");
    // An id that would ask for a huge embedding.
    let wide = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":4294967295},"unk_token":"a"}}"#;
    assert!(refused(wide).1.contains("a vocabulary of 4294967296"));
    // A merge longer than every token of the vocabulary makes the library below panic.
    let merges = r#"{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}}"#;
    assert!(refused(merges).1.contains("contradict"));
    for (cut, _) in file.char_indices().step_by(file.len() / 40) {
        assert!(load(&file[..cut]).is_err());
    }
    assert!(matches!(Tokenizer::load(data("absent.json")), Err(Error::Io { .. })));
    let (_dir, path) = file_of("bytes", b"{\"a\": \"\xff");
    assert!(matches!(Tokenizer::load(path), Err(Error::Format { offset: 7, .. })));
}

/// What a file asks for besides its tokens is not done silently.
#[test]
fn padding_and_truncation_of_a_file_are_left_out() {
    let tokenizer = Tokenizer::train_characters(["abc"], &["<pad>"]).unwrap();
    let truncation = r#""truncation": {"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0}"#;
    let padding = r#""padding": {"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,
        "pad_type_id":0,"pad_token":"<pad>"}"#;
    let file =
        saved(&tokenizer).replacen("\"truncation\": null", truncation, 1).replacen("\"padding\": null", padding, 1);
    assert!(file.contains("max_length") && file.contains("Fixed"));
    assert_eq!(load(&file).unwrap().encode("abcab").unwrap(), [1, 2, 3, 1, 2]);
}
