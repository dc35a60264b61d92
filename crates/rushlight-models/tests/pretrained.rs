//! Folders and files of other libraries: the small networks of `tests/reference/pretrained.py`, and broken ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rushlight::io::{TensorFile, Value, Weight, load_safetensors, save_gguf, save_safetensors};
use rushlight::nn::{Module, StateDict};
use rushlight::{DType, Gradients, Result, Tensor, loss};
use rushlight_models::text::{ChatTemplate, Message, Tokenizer};
use rushlight_models::{Bert, Gpt, Llama, Network, Pretrained, SentenceEncoder};

mod common;

fn small(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/pretrained").join(name)
}

fn expected(name: &str) -> Result<StateDict> {
    Ok(load_safetensors(small(name).join("expected.safetensors"))?.0)
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f32> {
    assert_eq!(a.dims(), b.dims());
    a.sub(b)?.abs()?.amax(..)?.item()
}

/// The loss of the script: how badly each token is foretold by those before it.
fn foretell(logits: &Tensor, tokens: &Tensor) -> Result<Tensor> {
    let t = tokens.dims()[1];
    let known = logits.narrow(1, 0, t - 1)?.flatten(0, 1)?;
    loss::cross_entropy(&known, &tokens.narrow(1, 1, t - 1)?.flatten(0, 1)?)
}

/// Every gradient is the one of the script, under the name that `name_of` gives; `true` where it lies the other way round.
fn check_gradients(
    model: &dyn Module,
    grads: &Gradients,
    expected: &StateDict,
    name_of: impl Fn(&str) -> (String, bool),
) -> Result<()> {
    let mut count = 0;
    for (own, parameter) in model.named_parameters() {
        let (name, turned) = name_of(&own);
        let want = &expected[&format!("grad.{name}")];
        let want = if turned { want.t()? } else { want.clone() };
        let got = grads.get(&parameter).unwrap_or_else(|| panic!("no gradient of {own}"));
        let most = want.abs()?.amax(..)?.item::<f32>()?;
        assert!(distance(got, &want)? <= 1e-4 * most.max(1.0), "{own}: {}", distance(got, &want)?);
        count += 1;
    }
    assert_eq!(count, expected.keys().filter(|name| name.starts_with("grad.")).count());
    Ok(())
}

#[test]
fn gpt2_gives_the_logits_and_gradients_of_transformers() -> Result<()> {
    let (gpt, expected) = (Gpt::from_pretrained(small("gpt2"))?, expected("gpt2")?);
    let logits = gpt.forward(&expected["tokens"])?;
    assert!(distance(&logits, &expected["y"])? < 1e-4);
    let loss = foretell(&logits, &expected["tokens"])?;
    assert!(distance(&loss, &expected["loss"])? < 1e-5);
    let name = |own: &str| (format!("transformer.{own}"), own.contains(".c_") && own.ends_with("weight"));
    check_gradients(&gpt, &loss.backward()?, &expected, name)
}

#[test]
fn llama_gives_the_logits_and_gradients_of_transformers() -> Result<()> {
    // One in shards and with an output layer of its own, one with heads wider than the width divided by their number.
    for folder in ["llama", "llama-tied"] {
        let (llama, expected) = (Llama::from_pretrained(small(folder))?, expected(folder)?);
        assert_eq!(llama.lm_head.is_some(), folder == "llama");
        let logits = llama.forward(&expected["tokens"])?;
        assert!(distance(&logits, &expected["y"])? < 1e-4, "{folder}");
        let loss = foretell(&logits, &expected["tokens"])?;
        assert!(distance(&loss, &expected["loss"])? < 1e-5);
        let name = |own: &str| match own.starts_with("lm_head") {
            true => (own.to_string(), false),
            false => (format!("model.{own}"), false),
        };
        check_gradients(&llama, &loss.backward()?, &expected, name)?;
    }
    Ok(())
}

#[test]
fn gguf_rows_of_queries_and_keys_are_in_another_order() -> Result<()> {
    let (gguf, folder) = (Llama::from_pretrained(small("llama.gguf"))?, Llama::from_pretrained(small("llama"))?);
    let expected = expected("llama")?;
    assert!(distance(&gguf.forward(&expected["tokens"])?, &expected["y"])? < 1e-4);
    // Row i of a head's first half went to row 2i, of its second half to 2i + 1.
    for heads in [4, 2] {
        let weight = |llama: &Llama| {
            let attention = &llama.layers[1].self_attn;
            let layer = if heads == 4 { &attention.q_proj } else { &attention.k_proj };
            layer.weight.tensor()
        };
        let rows = weight(&folder)?.reshape([heads, 2, 2, 16])?.transpose(1, 2)?.reshape([heads * 4, 16])?;
        assert_eq!(distance(&rows, &weight(&gguf)?)?, 0.0);
        assert!(distance(&weight(&folder)?, &weight(&gguf)?)? > 0.1);
    }
    Ok(())
}

#[test]
fn a_cache_changes_no_logits_of_llama() -> Result<()> {
    for name in ["llama", "llama-tied", "llama.gguf"] {
        let llama = Llama::from_pretrained(small(name))?;
        let tokens = Tensor::randint(0, 24, [2, 12])?;
        let whole = llama.forward(&tokens)?;
        for steps in [&[1; 12][..], &[5, 1, 1, 2, 3], &[12]] {
            let mut cache = llama.cache(12);
            for &n in steps {
                let at = cache.len();
                let new = tokens.narrow(1, at, n)?;
                let y = llama.forward_cached(&new, &mut cache)?;
                assert!(!y.is_tracked());
                assert!(distance(&y, &whole.narrow(1, at, n)?)? < 1e-4, "{name}: {n} from {at} on");
                cache.truncate(at);
                let last = llama.next_logits(&new, &mut cache)?;
                assert!(distance(&last, &whole.select(1, (at + n - 1) as i64)?)? < 1e-4);
            }
        }
        let mut cache = llama.cache(20);
        llama.next_logits(&tokens, &mut cache)?;
        let beyond = llama.next_logits(&tokens.narrow(1, 0, 1)?, &mut cache).unwrap_err().to_string();
        assert!(beyond.contains("13 tokens are more than the 12 positions"), "{beyond}");
        assert!(llama.next_logits(&tokens.narrow(1, 0, 0)?, &mut llama.cache(4)).is_err());
    }
    Ok(())
}

#[test]
fn bert_gives_the_vectors_and_gradients_of_transformers() -> Result<()> {
    let (bert, expected) = (Bert::from_pretrained(small("bert"))?, expected("bert")?);
    let padding = expected["mask"].eq(0i64)?;
    let y = bert.forward(&expected["tokens"], Some(&padding))?;
    // Of the second text, five tokens count.
    let parts = |y: &Tensor| Ok::<_, rushlight::Error>([y.narrow(0, 0, 1)?, y.narrow(0, 1, 1)?.narrow(1, 0, 5)?]);
    for (got, want) in parts(&y)?.iter().zip(parts(&expected["y"])?) {
        assert!(distance(got, &want)? < 1e-4);
    }
    let [a, b] = parts(&y)?;
    let loss = a.square()?.sum(..)?.add(&b.square()?.sum(..)?)?.div(10.0)?;
    let grads = loss.backward()?;
    let mut layers = vec![
        ("embeddings.word.weight".to_string(), "embeddings.word_embeddings.weight".to_string()),
        ("embeddings.position.weight".to_string(), "embeddings.position_embeddings.weight".to_string()),
        ("embeddings.token_type.weight".to_string(), "embeddings.token_type_embeddings.weight".to_string()),
        ("embeddings.norm.bias".to_string(), "embeddings.LayerNorm.bias".to_string()),
    ];
    for (own, theirs) in [
        ("attention.query.weight", "attention.self.query.weight"),
        ("attention.key.weight", "attention.self.key.weight"),
        ("attention.value.bias", "attention.self.value.bias"),
        ("attention.output.weight", "attention.output.dense.weight"),
        ("attention_norm.weight", "attention.output.LayerNorm.weight"),
        ("intermediate.weight", "intermediate.dense.weight"),
        ("output.weight", "output.dense.weight"),
        ("output_norm.bias", "output.LayerNorm.bias"),
    ] {
        layers.extend((0..2).map(|i| (format!("layers.{i}.{own}"), format!("encoder.layer.{i}.{theirs}"))));
    }
    let parameters: BTreeMap<String, Tensor> = bert.named_parameters().into_iter().collect();
    for (own, theirs) in layers {
        let (got, want) = (grads.get(&parameters[&own]).unwrap(), &expected[&format!("grad.{theirs}")]);
        let most = want.abs()?.amax(..)?.item::<f32>()?;
        assert!(distance(got, want)? <= 1e-4 * most.max(1.0), "{own}");
    }
    Ok(())
}

#[test]
fn what_a_folder_holds_is_recognised() -> Result<()> {
    for (name, architecture) in [("bert", "bert"), ("gpt2", "gpt2"), ("llama", "llama"), ("llama-tied", "llama")] {
        let found = Pretrained::load(small(name))?;
        assert_eq!((found.network.architecture(), found.network.vocab_size()), (architecture, 24));
        let missing = found.prompt("a").unwrap_err().to_string();
        assert!(missing.contains("tokenizer"), "{missing}");
    }
    assert_eq!(Pretrained::load(small("llama"))?.eos, [2]);
    let refused = Gpt::from_pretrained(small("bert")).err().unwrap().to_string();
    assert!(refused.contains("a network of bert, where gpt2 was asked for"), "{refused}");
    Ok(())
}

/// A copy of one of the folders, to be broken.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(small(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn refusal(path: &Path) -> String {
    match Pretrained::load(path) {
        Ok(_) => panic!("accepted {}", path.display()),
        Err(e) => e.to_string(),
    }
}

#[test]
fn configurations_that_cannot_be_are_refused_by_name() {
    for (name, from, to, part) in [
        ("llama", "\"model_type\": \"llama\"", "\"model_type\": \"mamba\"", "the architecture \"mamba\" is not known"),
        ("llama", "\"vocab_size\": 24", "\"vocab_size\": 25", "has shape [24, 16], the configuration says [25, 16]"),
        ("llama", "\"vocab_size\": 24", "\"vocab_size\": 1152921504606846976", "the configuration says"),
        ("llama", "\"vocab_size\": 24", "\"vocab_size\": -1", "invalid value: integer `-1`"),
        ("llama", "\"hidden_size\": 16,", "", "missing field `hidden_size`"),
        ("llama", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act is gelu, which is not supported"),
        ("llama", "\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", "scaling of rotary positions is yarn"),
        ("llama", "\"rope_type\": \"default\"", "\"rope_type\": \"linear\"", "rotary positions has no factor"),
        ("llama", "\"rope_type\": \"default\"", "\"rope_type\": \"linear\", \"factor\": -1.0", "factor of the rotary"),
        ("llama", "\"rope_type\": \"default\"", "\"rope_type\": \"llama3\"", "has no low_freq_factor"),
        (
            "llama",
            "\"rope_type\": \"default\"",
            "\"type\": \"llama3\", \"low_freq_factor\": 4, \"high_freq_factor\": 4",
            "high_freq_factor of the rotary positions is 4",
        ),
        (
            "llama",
            "\"attention_bias\": false",
            "\"attention_bias\": true",
            "missing model.layers.0.self_attn.q_proj.bias",
        ),
        (
            "llama",
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "missing model.layers.2.input_layernorm.weight [16]",
        ),
        (
            "llama",
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 1",
            "unknown model.layers.1.input_layernorm.weight",
        ),
        ("llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 9000000000", "too few for the 9000000000 layers"),
        (
            "llama",
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 3",
            "heads of keys must divide those of queries",
        ),
        (
            "llama",
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 4",
            "k_proj.weight has shape [8, 16], the network's is [16, 16]",
        ),
        ("llama", "\"head_dim\": 4", "\"head_dim\": 5", "even number"),
        ("llama", "\"head_dim\": 4", "\"head_dim\": 1152921504606846976", ""),
        ("llama", "\"intermediate_size\": 24", "\"intermediate_size\": 1152921504606846976", ""),
        ("llama", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": 7", "expected a boolean"),
        (
            "llama-tied",
            "\"tie_word_embeddings\": true",
            "\"tie_word_embeddings\": false",
            "missing lm_head.weight [24, 16]",
        ),
        ("gpt2", "\"n_inner\": null", "\"n_inner\": 31", "n_inner is 31"),
        (
            "gpt2",
            "\"activation_function\": \"gelu_new\"",
            "\"activation_function\": \"relu\"",
            "activation_function is relu",
        ),
        (
            "gpt2",
            "\"n_positions\": 12",
            "\"n_positions\": 13",
            "wpe.weight has shape [12, 8], the network's is [13, 8]",
        ),
        ("gpt2", "\"n_head\": 2", "\"n_head\": 3", "n_head must divide n_embd"),
        ("bert", "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_new\"", "hidden_act is gelu_new"),
        ("bert", "\"max_position_embeddings\": 12", "\"max_position_embeddings\": 0", "the configuration says [0, 8]"),
        ("bert", "\"num_attention_heads\": 2", "\"num_attention_heads\": 0", "sizes must not be 0"),
    ] {
        let dir = copy(name);
        let path = dir.path().join("config.json");
        let config = fs::read_to_string(&path).unwrap();
        let changed = config.replace(from, to);
        assert_ne!(config, changed, "{name} has no {from}");
        fs::write(&path, changed).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains(part), "{name}, {to}: {message}");
    }
}

/// A value of a wrong type, in any of the files of a folder: the error names the file and the field.
#[test]
fn values_of_a_wrong_type_are_refused_by_name() {
    let wrong = |name: &str, file: &str, text: &str, part: &str| {
        let dir = copy(name);
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name == "bert" {
            Tokenizer::train_words(["a b"], 1, &["<unk>"]).unwrap().save(dir.path().join("tokenizer.json")).unwrap();
        }
        fs::write(&path, text).unwrap();
        let message = match name {
            "bert" => SentenceEncoder::from_pretrained(dir.path()).err().unwrap().to_string(),
            _ => refusal(dir.path()),
        };
        assert!(message.contains(&format!("{file}: ")) && message.contains(part), "{file}, {text}: {message}");
    };
    for (name, key, value, part) in [
        ("llama", "hidden_size", "\"16\"", "hidden_size: invalid type: string \"16\", expected usize"),
        ("llama", "rms_norm_eps", "[]", "rms_norm_eps: invalid type: sequence, expected f64"),
        (
            "llama",
            "rope_scaling",
            r#"{"factor": "2"}"#,
            "rope_scaling.factor: invalid type: string \"2\", expected f64",
        ),
        ("llama", "architectures", "[1]", "architectures[0]: invalid type: integer `1`, expected a string"),
        ("llama", "eos_token_id", "\"</s>\"", "eos_token_id: expected an id, or a list of ids"),
        ("gpt2", "n_head", "2.5", "n_head: invalid type: floating point `2.5`, expected usize"),
        ("bert", "layer_norm_eps", "\"1e-12\"", "layer_norm_eps: invalid type: string \"1e-12\", expected f64"),
    ] {
        let config = fs::read_to_string(copy(name).path().join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        wrong(name, "config.json", &config.to_string(), part);
    }
    let cut = fs::read_to_string(copy("llama").path().join("model.safetensors.index.json")).unwrap();
    let number = cut.replacen("\"model-00001-of-00002.safetensors\"", "1", 1);
    for (name, file, text, part) in [
        ("llama", "model.safetensors.index.json", &number[..], ": invalid type: integer `1`, expected a string"),
        ("llama", "generation_config.json", r#"{"eos_token_id": [2, "x"]}"#, "eos_token_id: expected an id, or a list"),
        ("llama", "tokenizer_config.json", r#"{"chat_template": 7}"#, "chat_template: expected a text, or a list of"),
        ("llama", "tokenizer_config.json", r#"{"eos_token": {"id": 3}}"#, "eos_token: expected a text, or an object"),
        ("llama", "tokenizer.json", r#"{"version": "1.0", "truncation": 3}"#, "truncation: invalid type: integer `3`"),
        ("bert", "sentence_bert_config.json", r#"{"max_seq_length": "x"}"#, "max_seq_length: invalid type: string"),
        ("bert", "1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": 1}"#, "pooling_mode_mean_tokens: invalid"),
    ] {
        wrong(name, file, text, part);
    }
}

/// The forms that templates, tokens and ids have in folders that others saved.
#[test]
fn every_form_of_a_setting_is_read() -> Result<()> {
    let load = |file: &str, text: &str| {
        let dir = copy("llama");
        fs::write(dir.path().join(file), text).unwrap();
        Pretrained::load(dir.path())
    };
    let named =
        r#"[{"name": "rag", "template": "no"}, {"name": "default", "template": "{{ bos_token }}|{{ eos_token }}"}]"#;
    for (template, bos, rendered) in [
        ("\"{{ bos_token }}|{{ eos_token }}\"", "\"<s>\"", Some("<s>|</s>")),
        (named, r#"{"__type": "AddedToken", "content": "<s>", "lstrip": false}"#, Some("<s>|</s>")),
        (r#"{"rag": "no", "default": "{{ bos_token }}"}"#, r#"{"content": "<s>"}"#, Some("<s>")),
        (r#"[{"name": "rag", "template": "no"}]"#, "\"<s>\"", None),
        ("null", "null", None),
    ] {
        let about = format!(
            r#"{{"added_tokens_decoder": {{"0": {{}}}}, "model_max_length": 1e30, "chat_template": {template},
                "bos_token": {bos}, "eos_token": "</s>", "unk_token": null}}"#
        );
        let found = load("tokenizer_config.json", &about)?.chat_template;
        let text = found.map(|template| template.render(&[Message::new("user", "Hi")])).transpose()?;
        assert_eq!(text.as_deref(), rendered, "{about}");
    }
    let config = fs::read_to_string(copy("llama").path().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let own = Pretrained::load(copy("llama").path())?.eos;
    for (ids, eos) in [("7", vec![7]), ("[7, 9]", vec![7, 9]), ("[]", vec![]), ("null", vec![])] {
        config["eos_token_id"] = serde_json::from_str(ids).unwrap();
        assert_eq!(load("config.json", &config.to_string())?.eos, eos, "{ids}");
        let generation = format!(r#"{{"eos_token_id": {ids}, "do_sample": true}}"#);
        let found = load("generation_config.json", &generation)?.eos;
        // `null` tells nothing, and what `config.json` says holds.
        assert_eq!(found, if ids == "null" { own.clone() } else { eos }, "{ids}");
    }
    Ok(())
}

#[test]
fn folders_that_are_not_whole_are_refused() {
    let message = refusal(Path::new("no-such-folder"));
    assert!(message.contains("no-such-folder"), "{message}");
    for (name, file) in
        [("gpt2", "config.json"), ("gpt2", "model.safetensors"), ("llama", "model-00002-of-00002.safetensors")]
    {
        let dir = copy(name);
        fs::remove_file(dir.path().join(file)).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains(file), "{message}");
        // And cut at half.
        let dir = copy(name);
        let bytes = fs::read(dir.path().join(file)).unwrap();
        fs::write(dir.path().join(file), &bytes[..bytes.len() / 2]).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains(file), "{message}");
    }
    // Integers for weights.
    let dir = copy("gpt2");
    let path = dir.path().join("model.safetensors");
    let (mut tensors, metadata) = load_safetensors(&path).unwrap();
    let wpe = tensors["transformer.wpe.weight"].to_dtype(DType::I64).unwrap();
    tensors.insert("transformer.wpe.weight".to_string(), wpe);
    save_safetensors(&path, &tensors, &metadata).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("transformer.wpe.weight is kept as i64, expected floats"), "{message}");
    // A tokenizer of another model.
    let dir = copy("gpt2");
    Tokenizer::train_bpe(["text"], 256, &[]).unwrap().save(dir.path().join("tokenizer.json")).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("a tokenizer of 256 tokens, where the network knows 24"), "{message}");
}

/// The file of a small Llama with its metadata changed.
fn gguf(change: impl FnOnce(&mut BTreeMap<String, Value>)) -> Result<(tempfile::TempDir, PathBuf)> {
    let file = TensorFile::open(small("llama.gguf"))?;
    let mut metadata: BTreeMap<String, Value> = file.metadata().iter().cloned().collect();
    change(&mut metadata);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let tensors = file.load()?.into_iter().map(|(name, t)| (name, Weight::from(t))).collect();
    save_gguf(&path, &tensors, &metadata.into_iter().collect::<Vec<_>>())?;
    Ok((dir, path))
}

/// Metadata of a tokenizer: `a`, `b`, a space, two merges, a special token and one that is found whole.
fn add_tokenizer(metadata: &mut BTreeMap<String, Value>, pre: &str) {
    let texts = |all: &[&str]| Value::from(all.iter().map(|t| t.to_string()).collect::<Vec<String>>());
    metadata.insert("tokenizer.ggml.model".to_string(), "gpt2".into());
    metadata.insert("tokenizer.ggml.pre".to_string(), pre.into());
    metadata
        .insert("tokenizer.ggml.tokens".to_string(), texts(&["<|end|>", "a", "b", "Ġ", "ab", "Ġab", "1", "11", "[X]"]));
    metadata.insert("tokenizer.ggml.token_type".to_string(), vec![3, 1, 1, 1, 1, 1, 1, 1, 4].into());
    metadata.insert("tokenizer.ggml.merges".to_string(), texts(&["a b", "Ġ ab", "1 1"]));
    metadata.insert("tokenizer.ggml.eos_token_id".to_string(), 0u32.into());
    metadata.insert("tokenizer.ggml.bos_token_id".to_string(), 0u32.into());
    metadata.insert("tokenizer.chat_template".to_string(), "{{ messages }}".into());
}

#[test]
fn a_gguf_file_has_its_tokenizer_with_it() -> Result<()> {
    let (_dir, path) = gguf(|m| add_tokenizer(m, "smollm"))?;
    let found = Pretrained::load(&path)?;
    assert_eq!(
        (found.eos.as_slice(), found.bos, found.chat_template.as_ref().map(ChatTemplate::source)),
        (&[0][..], None, Some("{{ messages }}"))
    );
    assert!(matches!(&found.network, Network::Llama(llama) if llama.layers.len() == 2));
    let tokenizer = found.tokenizer()?;
    assert_eq!(tokenizer.vocab_size(), 9);
    let ids = tokenizer.encode("aba ab 11[X]")?;
    assert_eq!(ids, [4, 1, 5, 3, 6, 6, 8]); // each digit is a word
    assert_eq!(tokenizer.decode(&ids)?, "aba ab 11[X]");
    assert_eq!(tokenizer.encode_marked("ab<|end|> ab")?, [4, 0, 5]);
    assert_eq!(found.prompt("ab")?, [4]);

    let (_dir, path) = gguf(|m| {
        add_tokenizer(m, "gpt-2");
        m.insert("tokenizer.ggml.add_bos_token".to_string(), true.into());
    })?;
    let found = Pretrained::load(&path)?;
    assert_eq!(found.prompt("ab11")?, [0, 4, 7]);
    Ok(())
}

#[test]
fn gguf_files_of_something_else_say_so() -> Result<()> {
    type Change = fn(&mut BTreeMap<String, Value>);
    let cases: [(Change, &str); 13] = [
        (|m| _ = m.remove("general.architecture"), "GGUF without general.architecture"),
        (|m| _ = m.insert("general.architecture".into(), "mamba".into()), "the architecture \"mamba\" is not known"),
        (|m| _ = m.insert("llama.rope.scaling.type".into(), "linear".into()), "no llama.rope.scaling.factor"),
        (|m| _ = m.remove("llama.block_count"), "no size llama.block_count"),
        (|m| _ = m.insert("llama.block_count".into(), 1u32.into()), "unknown blk.1."),
        (|m| _ = m.insert("llama.attention.head_count".into(), 0u32.into()), "sizes must not be 0"),
        (|m| _ = m.insert("llama.rope.scaling.type".into(), "yarn".into()), "llama.rope.scaling.type is yarn"),
        (|m| _ = m.insert("llama.rope.dimension_count".into(), 2u32.into()), "rope.dimension_count is 2"),
        (|m| _ = m.insert("llama.expert_count".into(), 8u32.into()), "llama.expert_count is 8"),
        (|_| (), "its tokenizer: the metadata has no tokenizer.ggml.model"),
        (|m| _ = m.insert("tokenizer.ggml.model".into(), "llama".into()), "only \"gpt2\" (byte pairs) is read"),
        (|m| add_tokenizer(m, "falcon"), "tokenizer.ggml.pre is \"falcon\""),
        (
            |m| {
                add_tokenizer(m, "smollm");
                m.insert("tokenizer.ggml.merges".into(), vec!["a a".to_string()].into());
            },
            "merge 0, \"a a\", is not of two tokens that make a third",
        ),
    ];
    for (change, part) in cases {
        let (_dir, path) = gguf(change)?;
        let message = refusal(&path);
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = refusal(&small("gpt2").join("model.safetensors"));
    assert!(message.contains("safetensors without general.architecture"), "{message}");
    Ok(())
}

fn extra(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/llama_extras").join(name)
}

/// Biases (Qwen2, and everywhere), positions scaled by a factor and as Llama 3.1's, in texts longer than those that the
/// first training had: by `tests/reference/llama_extras.py`.
#[test]
fn biases_and_scaled_positions_are_those_of_transformers() -> Result<()> {
    for name in ["qwen2", "linear", "llama3"] {
        let expected = load_safetensors(extra(name).join("expected.safetensors"))?.0;
        let llama = Llama::from_pretrained(extra(name))?;
        let logits = llama.forward(&expected["tokens"])?;
        assert!(distance(&logits, &expected["y"])? < 1e-4, "{name}: {}", distance(&logits, &expected["y"])?);
        let loss = foretell(&logits, &expected["tokens"])?;
        assert!(distance(&loss, &expected["loss"])? < 1e-5);
        check_gradients(&llama, &loss.backward()?, &expected, |own| (format!("model.{own}"), false))?;
        let biases = llama.named_parameters().iter().filter(|(name, _)| name.ends_with(".bias")).count();
        assert_eq!(biases, [("qwen2", 6), ("linear", 14), ("llama3", 0)].iter().find(|(n, _)| *n == name).unwrap().1);
        // The GGUF file of the same network.
        let gguf = Llama::from_pretrained(extra(&format!("{name}.gguf")))?;
        let apart = distance(&gguf.forward(&expected["tokens"])?, &expected["y"])?;
        assert!(apart < 1e-4, "{name}.gguf: {apart}");
        // The scaling matters.
        if name != "qwen2" {
            let dir = tempfile::tempdir().unwrap();
            for file in ["config.json", "model.safetensors"] {
                fs::copy(extra(name).join(file), dir.path().join(file)).unwrap();
            }
            let path = dir.path().join("config.json");
            let config = fs::read_to_string(&path).unwrap();
            fs::write(&path, config.replace(&format!("\"rope_type\": \"{name}\""), "\"rope_type\": \"default\""))
                .unwrap();
            let plain = Llama::from_pretrained(dir.path())?;
            assert!(distance(&plain.forward(&expected["tokens"])?, &expected["y"])? > 1e-2, "{name}");
        }
        // With a cache, and in f16 within 2⁻¹¹ of each number: the logits hardly move.
        for (cache, bound) in [(llama.cache(40), 1e-4), (llama.cache(40).keep_as(DType::F16)?, 2e-2)] {
            let mut cache = cache;
            let mut most = 0.0f32;
            for (at, n) in [(0, 30), (30, 1), (31, 5), (36, 4)] {
                let y = llama.forward_cached(&expected["tokens"].narrow(1, at, n)?, &mut cache)?;
                most = most.max(distance(&y, &expected["y"].narrow(1, at as i64 as usize, n)?)?);
            }
            assert!(most < bound && (bound < 1e-3 || most > 0.0), "{name}: {most}");
        }
    }
    Ok(())
}

/// The words of Llama 3 and Qwen2, with tokens that transformers' rules learnt from the page.
#[test]
fn pages_are_cut_as_llama_3_and_qwen2_cut_them() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/llama_extras.json");
    let reference: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let page = reference["text"].as_str().unwrap();
    for pre in ["llama-bpe", "qwen2"] {
        let texts = |key: &str| {
            let all = reference[pre][key].as_array().unwrap().iter();
            Value::from(all.map(|t| t.as_str().unwrap().to_string()).collect::<Vec<String>>())
        };
        let (dir, path) = gguf(|m| {
            m.insert("tokenizer.ggml.model".to_string(), "gpt2".into());
            m.insert("tokenizer.ggml.pre".to_string(), pre.into());
            m.insert("tokenizer.ggml.tokens".to_string(), texts("tokens"));
            m.insert("tokenizer.ggml.merges".to_string(), texts("merges"));
        })?;
        let tokenizer = Tokenizer::from_gguf(&TensorFile::open(&path)?)?;
        let wanted: Vec<i64> =
            reference[pre]["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        assert_eq!(tokenizer.encode(page)?, wanted, "{pre}");
        // Qwen2 writes accents as letters of their own anew.
        assert_eq!(tokenizer.decode(&wanted)? == page, pre == "llama-bpe");
        drop(dir);
    }
    Ok(())
}
