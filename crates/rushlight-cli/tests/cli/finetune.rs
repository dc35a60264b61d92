//! `finetune`: small models learn on, with adapters and whole, from text and from pairs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rushlight::Tensor;
use rushlight::io::{TensorFile, Value, Weight, save_gguf};
use rushlight::nn::Module;
use rushlight_models::{Llama, Network, Pretrained};

use crate::helpers::*;
use crate::pretrained::small;

/// The small Llama as a GGUF file with a tokenizer of letters and a chat template.
fn small_gguf(path: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rushlight-models/tests/reference/pretrained/llama.gguf");
    let file = TensorFile::open(from).unwrap();
    let mut metadata: BTreeMap<String, Value> = file.metadata().iter().cloned().collect();
    let texts = |all: Vec<String>| Value::from(all);
    let mut tokens: Vec<String> = ["<|end|>", "Ġ", "Ċ", "ab"].map(String::from).to_vec();
    tokens.extend(('a'..='t').map(String::from));
    metadata.insert("tokenizer.ggml.model".to_string(), "gpt2".into());
    metadata.insert("tokenizer.ggml.pre".to_string(), "gpt-2".into());
    let types: Vec<i32> = (0..tokens.len()).map(|i| if i == 0 { 3 } else { 1 }).collect();
    metadata.insert("tokenizer.ggml.tokens".to_string(), texts(tokens));
    metadata.insert("tokenizer.ggml.token_type".to_string(), types.into());
    metadata.insert("tokenizer.ggml.merges".to_string(), texts(vec!["a b".to_string()]));
    metadata.insert("tokenizer.ggml.eos_token_id".to_string(), 0u32.into());
    metadata.insert("general.file_type".to_string(), 7u32.into());
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}";
    metadata.insert("tokenizer.chat_template".to_string(), template.into());
    let tensors = file.load().unwrap().into_iter().map(|(name, t)| (name, Weight::from(t))).collect();
    save_gguf(path, &tensors, &metadata.into_iter().collect::<Vec<_>>()).unwrap();
}

fn text(dir: &Path) {
    fs::write(dir.join("text.txt"), "abcdefghijklmnop".repeat(30)).unwrap();
}

/// The losses on what was held out, that before the first step first.
fn held_out(run: &Path) -> Vec<f64> {
    of_kind(&metrics(run), "epoch").iter().map(|m| m["test_loss"].as_f64().unwrap()).collect()
}

fn logits(path: &Path) -> Vec<f32> {
    let tokens = Tensor::new([[3i64, 5, 7, 9, 11, 6, 8]]).unwrap();
    Pretrained::load(path).unwrap().network.logits(&tokens).unwrap().to_vec().unwrap()
}

fn most_apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn adapters_learn_a_text_and_are_merged_into_every_kind_of_model() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    text(dir);
    small_gguf(&dir.join("small.gguf"));
    for name in ["gpt2", "llama", "llama-tied"] {
        small(dir, name);
    }
    for name in ["gpt2", "llama", "llama-tied", "small.gguf"] {
        let out = format!("run-{name}");
        let options = "--data text.txt --length 8 --batch 4 --steps 40 --lr 0.05 --lora-rank 2 --merge --f32";
        let said = good(dir, &format!("finetune {name} {options} --out {out}"));
        let run = dir.join(&out);
        let losses = held_out(&run);
        assert!(losses[losses.len() - 1] < losses[0] - 0.2, "{name}: {losses:?}");
        for part in ["before the first step", "of which learn: Lora(", "held-out loss", "the whole model is"] {
            assert!(said.contains(part), "{name}: no {part} in {said}");
        }
        assert!(!cfg!(target_os = "linux") || said.contains(" MB of memory"), "{said}");
        assert!(run.join("curves.svg").is_file() && run.join("curves.png").is_file());
        // Adapters alone are kept.
        let adapter = TensorFile::open(run.join("adapter.safetensors")).unwrap();
        let layers = if name == "gpt2" { 1 } else { 2 };
        assert!(adapter.infos().iter().all(|i| i.name.contains(".lora_")), "{name}");
        assert_eq!(adapter.infos().len() % (2 * layers), 0);

        // Merged, it is a model like the one before, that writes what the run writes.
        let merged = format!("{out}/merged{}", if name.ends_with(".gguf") { ".gguf" } else { "" });
        let write = |model: &str| good(dir, &format!("generate {model} --prompt abc -n 8 --temperature 0"));
        assert_eq!(write(&out), write(&merged));
        assert!(most_apart(&logits(&dir.join(name)), &logits(&dir.join(&merged))) > 0.05, "{name}");
        let foretold = good(dir, &format!("eval {out}"));
        assert!(foretold.contains(&format!("loss {:.4}", losses[losses.len() - 1])), "{foretold} {losses:?}");
        // And can be tuned again, as the run can.
        for model in [&out, &merged] {
            good(dir, &format!("finetune {model} --data text.txt --length 8 --steps 2 --out again --threads 1"));
            fs::remove_dir_all(dir.join("again")).unwrap();
        }
        refused(dir, &format!("predict {out} abc"), &[&format!("rushlight generate {out}")]);
    }
    let file = TensorFile::open(dir.join("run-small.gguf/merged.gguf")).unwrap();
    assert_eq!(file.value("general.file_type").and_then(Value::as_i64), Some(0));
    // The model that a run stands on must stay what it was.
    fs::copy(dir.join("llama-tied/model.safetensors"), dir.join("gpt2/model.safetensors")).unwrap();
    refused(dir, "eval run-gpt2", &["gpt2 has changed since run-gpt2 began with it"]);
}

#[test]
fn all_weights_learn_and_reload_to_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    text(dir);
    small(dir, "llama");
    let options = "--full --data text.txt --length 8 --batch 4 --steps 40 --lr 0.01 --merge --f32";
    let said = good(dir, &format!("finetune llama {options} --out run"));
    assert!(said.contains("of which learn: all parameters"), "{said}");
    let losses = held_out(&dir.join("run"));
    assert!(losses[losses.len() - 1] < losses[0] - 0.5, "{losses:?}");
    // By our names in the run, by theirs in the folder.
    let mut own = Llama::from_pretrained(dir.join("llama")).unwrap();
    let (state, _) = rushlight::io::load_checked(dir.join("run/model.safetensors")).unwrap();
    own.load_state_dict(&state).unwrap();
    let tokens = Tensor::new([[3i64, 5, 7, 9, 11, 6, 8]]).unwrap();
    let own = own.forward(&tokens).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(most_apart(&own, &logits(&dir.join("run/merged"))), 0.0);
}

#[test]
fn answers_are_learnt_from_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    small_gguf(&dir.join("small.gguf"));
    // The answer is the prompt's last letter, thrice.
    let letters: Vec<char> = ('c'..='n').collect();
    let pair = |i: usize| {
        let (a, b) = (letters[i % 12], letters[(i * 5 + i / 12) % 12]);
        (format!("{a}{b}"), format!("{b}{b}{b}"))
    };
    let tsv = |n: usize| (0..n).map(pair).map(|(p, a)| format!("{p}\t{a}\n")).collect::<String>();
    let json = |(p, a): (String, String)| format!("{{\"prompt\": \"{p}\", \"answer\": \"{a}\"}}\n");
    fs::write(dir.join("pairs.tsv"), tsv(60)).unwrap();
    fs::write(dir.join("pairs.jsonl"), (0..60).map(pair).map(json).collect::<String>()).unwrap();
    let options = "--length 12 --batch 8 --epochs 20 --lr 0.02 --full --f32";
    for data in ["pairs.tsv", "pairs.jsonl"] {
        let out = good(dir, &format!("finetune small.gguf --data {data} {options} --out run-{data}"));
        // Three letters and the end of each of 54 answers.
        assert!(out.contains("216 training and 24 held-out tokens"), "{out}");
        let losses = held_out(&dir.join(format!("run-{data}")));
        assert!(losses.len() == 21 && losses[20] < losses[0] - 1.0, "{losses:?}");
    }
    // The same pairs, the same run.
    assert_eq!(metrics(&dir.join("run-pairs.tsv")), metrics(&dir.join("run-pairs.jsonl")));
    // What is too long is left out, and said so.
    fs::write(dir.join("long.tsv"), format!("{}cc\t{}\n", tsv(20), "abcdefghijkl")).unwrap();
    let said = run(dir, "finetune small.gguf --data pairs.tsv --valid long.tsv --length 12 --steps 1 --out long");
    assert!(said.err.contains("1 of the 21 pairs to be measured on have more than 12 tokens"), "{}", said.err);
}

#[test]
fn a_run_of_train_gpt_learns_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    text(dir);
    good(dir, "train gpt --data text.txt --steps 4 --layers 1 --heads 2 --width 16 --block 16 --out base");
    good(dir, "finetune base --data text.txt --steps 20 --lr 0.01 --merge --out run");
    let losses = held_out(&dir.join("run"));
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    let write = |model: &str| good(dir, &format!("generate {model} --prompt abc -n 12 --temperature 0"));
    assert_eq!(write("run"), write("run/merged"));
    assert!(good(dir, "eval run/merged").contains("perplexity"));
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    text(dir);
    for name in ["bert", "gpt2"] {
        small(dir, name);
    }
    let check = |line: &str, parts: &[&str]| refused(dir, &format!("finetune {line} --out run"), parts);
    check("bert --data text.txt", &["a BERT, which does not write"]);
    check("gpt2 --data no.txt", &["no.txt"]);
    check("no --data text.txt", &["no/config.json"]);
    check("gpt2 --data text.txt --length 13", &["--length 13", "context of 12"]);
    check("gpt2 --data text.txt --length 0", &["--length 0"]);
    check("gpt2 --data text.txt --length 8 --lora-rank 0", &["lora-rank 0"]);
    check("gpt2 --data text.txt --length 8 --lora-targets none", &["--lora-targets none", "no parameter"]);
    check("gpt2 --data text.txt --length 8 --full --lora-rank 2", &["cannot be used with"]);
    check("gpt2 --data text.txt --length 8 --steps 0", &["steps 0"]);
    check("gpt2", &["--data"]);
    fs::write(dir.join("bad.jsonl"), "{\"prompt\": \"a\", \"answer\": \"b\"}\n{\"prompt\": 1}\n").unwrap();
    check("gpt2 --data bad.jsonl", &["bad.jsonl: line 2"]);
    fs::write(dir.join("bad.tsv"), "a\tb\na\t \n").unwrap();
    check("gpt2 --data bad.tsv", &["bad.tsv: pair 2: an answer without words"]);
    fs::write(dir.join("bad.tsv"), "a\tb\na b\n").unwrap();
    check("gpt2 --data bad.tsv", &["bad.tsv", "line 2"]);
    fs::write(dir.join("short.txt"), "abcdefgh").unwrap();
    check("gpt2 --data short.txt --length 8", &["to learn from", "--length"]);
    fs::write(dir.join("long.tsv"), "abcdefghij\tabcdefghij\n".repeat(3)).unwrap();
    check("gpt2 --data long.tsv", &["none of the 2 pairs to learn from", "12 tokens"]);
    assert!(!PathBuf::from(dir).join("run").exists());
    // A network is one of three kinds.
    assert!(matches!(Pretrained::load(dir.join("bert")).unwrap().network, Network::Bert(_)));
}
