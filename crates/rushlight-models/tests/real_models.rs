//! The models that `scripts/fetch_models.sh` fetches, beside the numbers of transformers (`tests/reference/pretrained.py`)
//! and llama.cpp (`scripts/compare_llama.py`).
//! Where they are not (in `target/models`, or the folder that RUSHLIGHT_MODELS names), nothing is tested.

use std::path::{Path, PathBuf};

use rushlight::io::Weight;
use rushlight::nn::Module;
use rushlight::{DType, Result, Tensor, no_grad};
use rushlight_models::text::Message;
use rushlight_models::{Llama, Lora, Network, Pretrained, SentenceEncoder};
use serde_json::Value;

/// A fetched model, or a message that there is none.
fn model(name: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/models");
    let path = std::env::var_os("RUSHLIGHT_MODELS").map_or(default, PathBuf::from).join(name);
    if !path.exists() {
        println!("skipped: {} is not there (scripts/fetch_models.sh fetches it)", path.display());
        return None;
    }
    Some(path)
}

fn read(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn reference(name: &str) -> Value {
    read("pretrained.json")[name].take()
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

#[test]
fn mini_lm_gives_the_vectors_of_transformers() -> Result<()> {
    let Some(path) = model("all-MiniLM-L6-v2") else { return Ok(()) };
    let (encoder, reference) = (SentenceEncoder::from_pretrained(path)?, reference("mini_lm"));
    assert_eq!((encoder.width(), encoder.max_length()), (384, 256));
    let all = |value: &Value| value.as_array().unwrap().clone();
    let sentences: Vec<String> = all(&reference["sentences"]).iter().map(|s| s.as_str().unwrap().into()).collect();
    let tokens: Vec<Vec<i64>> = all(&reference["ids"]).iter().map(ids).collect();
    assert_eq!(encoder.tokenizer().encode_framed(&sentences)?, tokens);

    let number = |x: &Value| x.as_f64().unwrap() as f32;
    let wanted: Vec<Vec<f32>> =
        all(&reference["vectors"]).iter().map(|row| all(row).iter().map(number).collect()).collect();
    // All in one batch with padding, and each alone.
    let (together, mut most) = (encoder.embed(&sentences)?, 0.0f32);
    assert_eq!(together.dims(), [sentences.len(), 384]);
    for (i, want) in wanted.iter().enumerate() {
        let want = Tensor::from_slice(want, 384)?;
        for got in [together.select(0, i as i64)?, encoder.embed(&sentences[i..=i])?.select(0, 0)?] {
            let apart = got.sub(&want)?.abs()?.amax(..)?.item::<f32>()?;
            let cosine = got.mul(&want)?.sum(..)?.item::<f32>()?;
            assert!(apart < 1e-5 && cosine > 0.99999, "sentence {i}: {apart:e} apart, cosine {cosine}");
            most = most.max(apart);
        }
    }
    println!("vectors at most {most:e} apart");
    // More than fits: cut, with the last token kept.
    let long = "cats and dogs ".repeat(200);
    let cut = "cats and dogs ".repeat(84) + "cats and";
    let both = encoder.embed(&[long, cut])?;
    assert!(both.select(0, 0)?.sub(&both.select(0, 1)?)?.abs()?.amax(..)?.item::<f32>()? < 1e-5);
    assert_eq!(encoder.embed::<&str>(&[])?.dims(), [0, 384]);
    Ok(())
}

#[test]
fn smol_lm_writes_what_transformers_and_llama_cpp_write() -> Result<()> {
    let Some(path) = model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return Ok(()) };
    let (mut found, reference) = (Pretrained::load(path)?, reference("smol_lm"));
    let architecture = found.network.architecture();
    let Network::Llama(llama) = &mut found.network else { panic!("{architecture}") };
    let tokenizer = found.tokenizer.as_ref().unwrap();
    let chat = found.chat_template.as_ref().unwrap().render(&[Message::new("user", "Hi")])?;
    let system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
    assert_eq!(chat, format!("{system}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"));
    assert_eq!((found.eos.as_slice(), tokenizer.vocab_size()), (&[2][..], 49152));

    // Special tokens of a text are found where they are asked for, and only there.
    let page = &reference["page"];
    let text = page["text"].as_str().unwrap();
    assert_eq!(tokenizer.encode_marked(text)?, ids(&page["ids"]));
    assert_eq!(tokenizer.encode(text)?, ids(&page["plain_ids"]));
    assert_eq!(tokenizer.decode(&ids(&page["plain_ids"]))?, text);

    for prompt in reference["prompts"].as_array().unwrap() {
        let prompt_ids = tokenizer.encode_marked(prompt["text"].as_str().unwrap())?;
        assert_eq!(prompt_ids, ids(&prompt["ids"]));
        assert!(prompt_ids.len() >= 40);
    }
    // In its blocks, whose products round their inputs to 16 bits; then as f32, which it becomes to be trained.
    assert!(matches!(llama.layers[0].mlp.up_proj.weight, Weight::Quant(_)));
    let most = follow(llama, &reference["prompts"])?;
    println!("logits of the quantised file at most {most:e} apart");
    assert!(most < 0.15);
    llama.set_requires_grad(true)?;
    assert!(matches!(llama.layers[0].mlp.up_proj.weight, Weight::Plain(_)));
    let most = follow(llama, &reference["prompts"])?;
    println!("logits in f32 at most {most:e} apart");
    assert!(most < 1e-3);
    // What llama.cpp writes of the same weights in f32 (`scripts/compare_llama.py`).
    let most = follow(llama, &read("llama_cpp.json")["runs"])?;
    println!("logits in f32 at most {most:e} apart from those of llama.cpp");
    assert!(most < 0.01);
    Ok(())
}

/// With adapters merged and written as the file it came from, SmolLM2 gives the same logits when it is read again; f16
/// keys and values move them little.
#[test]
fn smol_lm_is_tuned_merged_and_read_again() -> Result<()> {
    let Some(path) = model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return Ok(()) };
    let found = Pretrained::load(&path)?;
    let prompt = found.prompt("Now is the winter of our discontent made glorious summer by this")?;
    let (mut network, tokens) = (found.network, Tensor::from_slice(&prompt, [1, prompt.len()])?);
    let apart = |a: &Tensor, b: &Tensor| a.detach().sub(b.detach())?.abs()?.amax(..)?.item::<f32>();

    // Half the memory for keys and values, in the blocks of the file.
    let Network::Llama(llama) = &network else { panic!("{}", network.architecture()) };
    let exact = llama.next_logits(&tokens, &mut llama.cache(64))?;
    let halved = llama.next_logits(&tokens, &mut llama.cache(64).keep_as(DType::F16)?)?;
    let moved = apart(&exact, &halved)?;
    println!("f16 keys and values move the logits by at most {moved:e}");
    assert!(moved > 0.0 && moved < 0.05);

    network.set_requires_grad(true)?;
    let before = no_grad(|| network.logits(&tokens))?;
    let mut lora =
        Lora::new(&mut network, 4, 8.0, |name| name.ends_with("q_proj.weight") || name.ends_with("v_proj.weight"))?;
    // As if much had been learnt.
    lora.visit_mut(&mut Default::default(), &mut |name, _, t| {
        if name.ends_with("lora_B.weight") {
            *t = Tensor::normal(t.dims(), 0.0, 0.02, DType::F32)?.requires_grad()?;
        }
        Ok(())
    })?;
    no_grad(|| lora.apply(&mut network))?;
    let learnt = no_grad(|| network.logits(&tokens))?;
    lora.merge(&mut network)?;
    let merged = no_grad(|| network.logits(&tokens))?;
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("merged.gguf");
    network.save_like(&path, &target)?;
    let again = Pretrained::load(&target)?;
    let logits = no_grad(|| again.network.logits(&tokens))?;
    println!("learnt: {} away; merged and read again: {:e}", apart(&learnt, &before)?, apart(&logits, &learnt)?);
    assert!(apart(&learnt, &before)? > 0.1);
    assert_eq!((apart(&merged, &learnt)?, apart(&logits, &learnt)?), (0.0, 0.0));
    assert_eq!(
        again.chat_template.map(|t| t.source().to_string()),
        found.chat_template.map(|t| t.source().to_string())
    );
    Ok(())
}

/// The greedy tokens after each prompt must be the first of its `top` at each step; how far the logits there are apart.
/// Some of them only where the library is not optimised: the check runs all of them in a release build.
fn follow(llama: &Llama, prompts: &Value) -> Result<f32> {
    let (some, steps) = if cfg!(debug_assertions) { (1, 3) } else { (usize::MAX, 24) };
    let mut most = 0.0f32;
    for prompt in prompts.as_array().unwrap().iter().take(some) {
        let (mut cache, mut new) = (llama.cache(128), ids(&prompt["ids"]));
        for (step, wanted) in prompt["top"].as_array().unwrap().iter().enumerate().take(steps) {
            let logits = llama.next_logits(&Tensor::from_slice(&new, [1, new.len()])?, &mut cache)?.to_vec::<f32>()?;
            for pair in wanted.as_array().unwrap() {
                let (id, logit) = (pair[0].as_i64().unwrap(), pair[1].as_f64().unwrap() as f32);
                most = most.max((logits[id as usize] - logit).abs());
            }
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as i64;
            assert_eq!(best, wanted[0][0].as_i64().unwrap(), "{prompt}, step {step}");
            new = vec![best];
        }
    }
    Ok(most)
}
