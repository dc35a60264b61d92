//! Low-rank adapters: they begin as nothing, learn alone, and can be merged.

use rushlight::io::{load_safetensors, save_safetensors};
use rushlight::nn::Module;
use rushlight::optim::{AdamW, Optimizer};
use rushlight::{DType, Result, Tensor, loss, random};
use rushlight_models::{Llama, LlamaConfig, Lora};

fn config() -> LlamaConfig {
    let small = LlamaConfig { vocab_size: 16, hidden_size: 24, intermediate_size: 32, ..LlamaConfig::smol_lm2_135m() };
    LlamaConfig { num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 6, ..small }
}

fn queries_and_values(name: &str) -> bool {
    name.ends_with("q_proj.weight") || name.ends_with("v_proj.weight")
}

fn apart(a: &Tensor, b: &Tensor) -> Result<f32> {
    a.detach().sub(b.detach())?.abs()?.amax(..)?.item()
}

#[test]
fn adapters_learn_alone_and_are_merged() -> Result<()> {
    random::manual_seed(3);
    let mut llama = Llama::new(&config())?;
    let before = llama.state_dict();
    let x = Tensor::new([[1i64, 2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7, 8]])?;
    let y = Tensor::new([2i64, 3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 8, 9])?;
    let base = llama.forward(&x)?;
    let mut lora = Lora::new(&mut llama, 4, 8.0, queries_and_values)?;
    assert_eq!(lora.num_parameters(), 2 * (4 * (24 + 24) + 4 * (24 + 12)));
    assert!(lora.named_parameters().iter().any(|(name, _)| name == "layers.1.self_attn.v_proj.lora_B.weight"));
    assert!(llama.parameters().iter().all(|p| !p.is_tracked()));

    let mut optimizer = Optimizer::new(AdamW { lr: 0.02, weight_decay: 0.0, ..AdamW::default() });
    let mut losses = vec![];
    for step in 0..40 {
        lora.apply(&mut llama)?;
        let logits = llama.forward(&x)?;
        if step == 0 {
            assert_eq!(apart(&logits, &base)?, 0.0);
        }
        let loss = loss::cross_entropy(&logits.reshape([14, 16])?, &y)?;
        losses.push(loss.item::<f32>()?);
        let grads = loss.backward()?;
        assert_eq!(grads.len(), 8); // A and B of two matrices in two layers
        optimizer.step(&mut lora, &grads)?;
    }
    assert!(losses[39] < losses[0] - 0.1, "{losses:?}");

    lora.apply(&mut llama)?;
    let learnt = llama.forward(&x)?;
    assert!(apart(&learnt, &base)? > 0.01);
    lora.merge(&mut llama)?;
    assert!(apart(&llama.forward(&x)?, &learnt)? < 1e-6);
    assert!(llama.parameters().iter().all(|p| p.is_tracked()));
    // What was not picked is as it was, and the file of the merged model is one of any Llama.
    for (name, tensor) in llama.named_parameters() {
        assert_eq!(apart(&tensor, &before[&name])? == 0.0, !queries_and_values(&name), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("merged.safetensors");
    save_safetensors(&path, &llama.state_dict(), &Default::default())?;
    let mut again = Llama::new(&config())?;
    again.load_state_dict(&load_safetensors(&path)?.0)?;
    assert_eq!(apart(&again.forward(&x)?, &llama.forward(&x)?)?, 0.0);
    Ok(())
}

/// The gradients of the adapters are those of the formula: dA = s·Bᵀ dW, dB = s·dW Aᵀ.
#[test]
fn gradients_reach_both_factors() -> Result<()> {
    random::manual_seed(5);
    let mut layer = rushlight::nn::Linear::new(5, 3)?;
    let mut lora = Lora::new(&mut layer, 2, 6.0, |name| name == "weight")?;
    lora.visit_mut(&mut Default::default(), &mut |_, _, t| {
        *t = Tensor::randn(t.dims(), DType::F32)?.requires_grad()?;
        Ok(())
    })?;
    lora.apply(&mut layer)?;
    let x = Tensor::randn([7, 5], DType::F32)?;
    let y = rushlight::nn::Layer::forward(&layer, &x)?;
    let grads = y.square()?.sum(..)?.backward()?;
    let [a, b] = [0, 1].map(|i| lora.parameters()[i].clone());
    let dw = y.detach().mul(2.0)?.t()?.matmul(&x)?; // [3, 5]
    let da = b.detach().t()?.matmul(&dw)?.mul(3.0)?;
    let db = dw.matmul(&a.detach().t()?)?.mul(3.0)?;
    for (own, expected) in [(&a, da), (&b, db)] {
        let most = expected.abs()?.amax(..)?.item::<f32>()?;
        assert!(apart(grads.get(own).unwrap(), &expected)? < 1e-5 * most);
    }
    Ok(())
}

#[test]
fn what_cannot_be_adapted_is_refused() -> Result<()> {
    let mut llama = Llama::new(&config())?;
    let refused = |llama: &mut Llama, r, alpha, wanted: fn(&str) -> bool, part: &str| {
        let message = Lora::new(llama, r, alpha, wanted).err().unwrap().to_string();
        assert!(message.contains(part), "{message}");
    };
    refused(&mut llama, 0, 1.0, queries_and_values, "rank 0");
    refused(&mut llama, 2, f64::NAN, queries_and_values, "alpha NaN");
    refused(&mut llama, 2, 1.0, |name| name.contains("none"), "no parameter");
    refused(&mut llama, 2, 1.0, |name| name == "norm.weight", "norm.weight has shape [24]");
    assert!(llama.parameters().iter().all(|p| p.is_tracked()));

    let lora = Lora::new(&mut llama, 2, 1.0, queries_and_values)?;
    let mut other = Llama::new(&LlamaConfig { num_hidden_layers: 1, ..config() })?;
    let before = other.state_dict();
    let message = lora.apply(&mut other).unwrap_err().to_string();
    assert!(message.contains("no layers.1.self_attn.q_proj of shape [24, 24]"), "{message}");
    for (name, tensor) in other.named_parameters() {
        assert_eq!(apart(&tensor, &before[&name])?, 0.0);
    }
    Ok(())
}
