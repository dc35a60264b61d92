//! `embed` and `generate` with models that others trained: the small ones of the models' tests.

use std::fs;
use std::path::Path;

use rushlight::Tensor;
use rushlight::io::{load_npy, load_safetensors, save_safetensors};
use rushlight_models::text::Tokenizer;

use crate::helpers::*;

/// One of the small networks in `dir`, with a tokenizer of the letters a to w.
pub fn small(dir: &Path, name: &str) {
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
    good(dir, "embed bert lines.txt --npy vectors.npy");
    let array = load_npy(dir.join("vectors.npy")).unwrap();
    assert_eq!((array.dims(), array.to_vec::<f32>().unwrap()), (&[5, 8][..], vectors.concat()));
    refused(dir, "embed bert lines.txt --npy no/vectors.npy", &["no/vectors.npy"]);
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
        assert!(good(dir, &format!("{generate} --kv f16")).starts_with("abc"));
        refused(dir, &format!("{generate} --kv f8"), &["--kv", "f32, f16"]);
        refused(dir, &format!("generate {name} --prompt abcdefghijklm"), &["13 tokens", "context is 12"]);
    }
    good(dir, "generate gpt2 --prompt abc -n 5 --attention looked.svg");
    refused(dir, "generate llama-tied --prompt abc --attention looked.svg", &["--attention", "this is none"]);
    fs::remove_file(dir.join("gpt2/tokenizer.json")).unwrap();
    refused(dir, "generate gpt2 --prompt abc", &["tokenizer.json"]);
    refused(dir, "generate gpt2/model.safetensors --prompt abc", &["general.architecture"]);
}

#[test]
fn talks_with_models_that_others_trained() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    small(dir, "llama-tied");
    let talk = |line: &str, words: &str| {
        fs::write(dir.join("words"), words).unwrap();
        let words = fs::File::open(dir.join("words")).unwrap();
        Said::from(command(dir, line).stdin(words).output().unwrap())
    };
    refused(dir, "chat llama-tied", &["no chat template", "rushlight generate llama-tied"]);
    let about = r#"{"eos_token": {"content": "u"}, "chat_template": [{"name": "tools", "template": "abcdefgh"},
        {"name": "default", "template": "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"}]}"#;
    fs::write(dir.join("llama-tied/tokenizer_config.json"), about).unwrap();
    let config = fs::read_to_string(dir.join("llama-tied/config.json")).unwrap();
    assert!(config.contains("\"max_position_embeddings\": 12"), "{config}");

    // An answer is what `generate` writes after the filled template.
    let answer = good(dir, "generate llama-tied --prompt abcu -n 4 --temperature 0");
    let said = talk("chat llama-tied -n 4 --temperature 0", "abc\n\n");
    assert_eq!((said.code, format!("abcu{}", said.out)), (Some(0), answer), "{}", said.err);
    let said = talk("chat llama-tied -n 2 --temperature 0 --seed 1", "abc\nde");
    assert_eq!((said.code, said.out.lines().count()), (Some(0), 2), "{}", said.err);
    // The system's message stays, the rest makes room.
    let said = talk("chat llama-tied -n 4 --temperature 0 --system s", "abcd\nabcde\n");
    assert!(said.code == Some(0) && said.err.contains("its oldest 2 messages are forgotten"), "{}", said.err);
    let again = talk("chat llama-tied -n 4 --temperature 0 --system s", "abcde\n");
    assert_eq!(said.out.lines().nth(1), again.out.lines().next());
    // Eight places for what is said, and two marks.
    let said = talk("chat llama-tied -n 4", "abcdefgh\n");
    assert!(said.code == Some(1) && said.err.contains("9 tokens, where 8 of --context 12"), "{}", said.err);
    refused(dir, "chat llama-tied -n 12", &["-n 12: expected 1 to 11"]);
    fs::write(dir.join("llama-tied/tokenizer_config.json"), r#"{"chat_template": "{% if %}"}"#).unwrap();
    let said = talk("chat llama-tied -n 4", "a\n");
    assert!(said.code == Some(1) && said.err.contains("the model's chat template (line 1)"), "{}", said.err);
}

#[test]
fn weights_that_are_no_numbers_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("text.txt"), "abcdefghijkl".repeat(40)).unwrap();
    for (name, tensor, line) in [
        ("bert", "encoder.layer.1.output.dense.bias", "embed bert text.txt"),
        ("llama-tied", "model.norm.weight", "generate llama-tied --prompt abc -n 4"),
        ("gpt2", "transformer.ln_f.bias", "finetune gpt2 --data text.txt --length 8 --out run"),
    ] {
        small(dir, name);
        let path = dir.join(name).join("model.safetensors");
        let (mut tensors, about) = load_safetensors(&path).unwrap();
        let mut numbers = tensors[tensor].to_vec::<f32>().unwrap();
        numbers[1] = f32::NAN;
        numbers[3] = f32::INFINITY;
        tensors.insert(tensor.to_string(), Tensor::new(&numbers[..]).unwrap());
        save_safetensors(&path, &tensors, &about).unwrap();
        let said = run(dir, line);
        let warning = format!("warning: {name}: tensor \"{tensor}\" has 2 numbers that are not finite");
        assert!(said.err.contains(&warning) && !said.err.contains("panicked"), "{line}: {}", said.err);
        // Nothing can be drawn from such logits, nor learnt.
        let ends = if name == "bert" { Some(0) } else { Some(1) };
        assert_eq!(said.code, ends, "{}", said.err);
    }
}
