//! `embed` and `generate` with models that others trained: the small ones of the models' tests.

use std::fs;
use std::path::Path;

use rushlight_models::text::Tokenizer;

use crate::helpers::*;

/// One of the small networks in `dir`, with a tokenizer of the letters a to w.
fn small(dir: &Path, name: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rushlight-models/tests/reference/pretrained").join(name);
    fs::create_dir(dir.join(name)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(name).join(path.file_name().unwrap())).unwrap();
    }
    let letters = Tokenizer::train_characters(["abcdefghijklmnopqrstuvw"], &["<unk>"]).unwrap();
    letters.save(dir.join(name).join("tokenizer.json")).unwrap();
}

#[test]
fn lines_to_vectors_and_to_those_most_alike() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    small(dir, "bert");
    fs::write(dir.join("lines.txt"), "abc\nfedcba\n\nqrst\nabcdefghijklmnopqrst\n").unwrap();
    let said = run(dir, "embed bert lines.txt");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("of 1 lines only the first 12 tokens count"), "{}", said.err);
    let vectors: Vec<Vec<f32>> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(vectors.len(), 5);
    for (i, vector) in vectors.iter().enumerate() {
        let length = vector.iter().map(|x| x * x).sum::<f32>();
        // Nothing is said of a line without tokens.
        assert!(vector.len() == 8 && (length - if i == 2 { 0.0 } else { 1.0 }).abs() < 1e-5, "{length}");
    }
    let alike = good(dir, "embed bert lines.txt --similar qrst -n 3");
    let alike: Vec<&str> = alike.lines().collect();
    assert!(alike.len() == 3 && alike[0] == "1.0000  qrst", "{alike:?}");
    assert!(alike.is_sorted_by(|a, b| a[..6] >= b[..6] || b.starts_with('-')), "{alike:?}");

    small(dir, "gpt2");
    refused(dir, "embed gpt2 lines.txt", &["gpt2/config.json", "a network of gpt2, where bert was asked for"]);
    refused(dir, "embed bert no.txt", &["no.txt"]);
    refused(dir, "embed no lines.txt", &["no/config.json"]);
    refused(dir, "generate bert", &["a BERT, which does not write: rushlight embed bert"]);
}

#[test]
fn text_from_models_that_others_trained() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for name in ["gpt2", "llama-tied"] {
        small(dir, name);
        let generate = format!("generate {name} --prompt abc -n 30 --seed 2");
        let text = good(dir, &generate);
        assert!(text.starts_with("abc"), "{text}");
        assert_eq!(text, good(dir, &format!("{generate} --threads 2")));
        refused(dir, &format!("generate {name} --prompt abcdefghijklm"), &["13 tokens", "context is 12"]);
    }
    good(dir, "generate gpt2 --prompt abc -n 5 --attention looked.svg");
    refused(dir, "generate llama-tied --prompt abc --attention looked.svg", &["--attention", "this is none"]);
    fs::remove_file(dir.join("gpt2/tokenizer.json")).unwrap();
    refused(dir, "generate gpt2 --prompt abc", &["tokenizer.json"]);
    refused(dir, "generate gpt2/model.safetensors --prompt abc", &["general.architecture"]);
}
