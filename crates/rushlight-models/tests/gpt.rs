//! Writing with a cache: the logits of the whole, at the cost of a token.

use std::time::Instant;

use rushlight::nn::{Layer, Module};
use rushlight::{Result, Tensor, random, set_num_threads};
use rushlight_models::{Gpt, GptConfig};

fn gpt(config: GptConfig) -> Result<Gpt> {
    random::manual_seed(7);
    let mut gpt = Gpt::new(&GptConfig { dropout: 0.1, ..config })?;
    gpt.eval();
    Ok(gpt)
}

/// nanoGPT's setting for one core.
fn tiny() -> GptConfig {
    GptConfig { vocab_size: 65, block_size: 64, n_layer: 4, n_head: 4, n_embd: 128, ..GptConfig::gpt2() }
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f32> {
    assert_eq!(a.dims(), b.dims());
    a.sub(b)?.abs()?.amax(..)?.item()
}

#[test]
fn a_cache_changes_no_logits() -> Result<()> {
    for bias in [true, false] {
        let config = GptConfig { vocab_size: 17, block_size: 12, n_layer: 3, n_head: 2, n_embd: 32, ..tiny() };
        let gpt = gpt(GptConfig { bias, ..config })?;
        let tokens = Tensor::randint(0, 17, [2, 12])?;
        let whole = gpt.forward(&tokens)?;
        for steps in [&[1; 12][..], &[5, 1, 1, 2, 3], &[12]] {
            let mut cache = gpt.cache();
            for &n in steps {
                let at = cache.len();
                let new = tokens.narrow(1, at, n)?;
                let y = gpt.forward_cached(&new, &mut cache)?;
                assert!(!y.is_tracked());
                assert!(distance(&y, &whole.narrow(1, at, n)?)? < 1e-4, "{n} from {at} on");
                cache.truncate(at);
                let last = gpt.next_logits(&new, &mut cache)?;
                assert!(distance(&last, &whole.select(1, (at + n - 1) as i64)?)? < 1e-4, "{n} from {at} on");
            }
            assert_eq!(cache.len(), 12);
        }
    }
    Ok(())
}

#[test]
fn weights_say_what_each_token_looked_at() -> Result<()> {
    let gpt = gpt(GptConfig { vocab_size: 17, block_size: 12, n_layer: 3, n_head: 2, n_embd: 32, ..tiny() })?;
    let tokens = Tensor::randint(0, 17, [2, 9])?;
    let (logits, weights) = gpt.forward_with_weights(&tokens)?;
    assert_eq!(distance(&logits, &gpt.forward(&tokens)?)?, 0.0);
    assert_eq!(weights.len(), 3);
    for weights in &weights {
        assert_eq!(weights.dims(), [2, 2, 9, 9]);
        // Each row is a distribution over the tokens so far.
        assert!(distance(&weights.sum(-1)?, &weights.sum(-1)?.ones_like()?)? < 1e-5);
        for (i, row) in weights.to_vec::<f32>()?.chunks(9).enumerate() {
            assert!(row.iter().enumerate().all(|(j, &w)| if j > i % 9 { w == 0.0 } else { w > 0.0 }), "{row:?}");
        }
    }
    // The weights of the first layer by hand: of the normed embeddings' queries and keys.
    let x = gpt.wte.forward(&tokens)?.add(&gpt.wpe.weight.narrow(0, 0, 9)?)?;
    let qkv = gpt.h[0].attn.c_attn.forward(&gpt.h[0].ln_1.forward(&x)?)?; // [2, 9, 96]
    let heads = |i: usize| qkv.narrow(2, 32 * i, 32)?.reshape([2, 9, 2, 16])?.transpose(1, 2);
    let scores = heads(0)?.matmul(&heads(1)?.t()?)?.div(4.0)?; // [2, 2, 9, 9]
    let seen = Tensor::ones([9, 9], scores.dtype())?.tril(0)?.ne(0.0)?;
    let expected = seen.where_cond(&scores, f64::NEG_INFINITY)?.softmax(-1)?;
    assert!(distance(&weights[0], &expected)? < 1e-5);
    Ok(())
}

#[test]
fn a_text_that_is_too_long_is_an_error() -> Result<()> {
    let gpt = gpt(tiny())?;
    let text = |n: usize| Tensor::randint(0, 65, [1, n]);
    let mut cache = gpt.cache();
    gpt.next_logits(&text(60)?, &mut cache)?;
    let message = |r: Result<Tensor>| r.map(|_| ()).unwrap_err().to_string();
    let error = message(gpt.next_logits(&text(5)?, &mut cache));
    assert!(error.contains("Gpt: 65 tokens are more than the 64 positions"), "{error}");
    assert!(message(gpt.forward(&text(65)?)).contains("65 tokens are more than the 64"));
    assert!(message(gpt.next_logits(&text(0)?, &mut cache)).contains("no token to go on from"));
    let other = &mut rushlight::nn::KvCache::new(3, 64);
    assert!(message(gpt.next_logits(&text(1)?, other)).contains("a cache of 3 layers for a model of 4"));
    assert_eq!(cache.len(), 60);
    gpt.next_logits(&text(4)?, &mut cache)?;
    Ok(())
}

/// Seconds a token, of each quarter of a text.
fn quarters(gpt: &Gpt, rounds: usize) -> Result<[f64; 4]> {
    let (mut cache, mut seconds) = (gpt.cache(), [0.0; 4]);
    let n = cache.capacity();
    for round in 0..=rounds {
        cache.reset();
        let mut token = Tensor::new([[1i64]])?;
        for i in 0..n {
            let start = Instant::now();
            token = gpt.next_logits(&token, &mut cache)?.argmax(-1)?.unsqueeze(0)?;
            // The first round warms up.
            seconds[i * 4 / n] += if round > 0 { start.elapsed().as_secs_f64() } else { 0.0 };
        }
    }
    Ok(seconds.map(|s| s / (rounds * n / 4) as f64))
}

/// `cargo test --release -p rushlight-models --test gpt -- --ignored --nocapture`
#[test]
#[ignore = "measures speed"]
fn tokens_a_second() -> Result<()> {
    set_num_threads(1)?;
    let speed = quarters(&gpt(tiny())?, 50)?.map(|s| 1.0 / s);
    println!("tiny, one core: {speed:.0?} tokens/s in the quarters of 64 tokens");
    assert!(speed.iter().all(|s| *s > 2000.0));
    let small = GptConfig { block_size: 1024, n_layer: 6, n_head: 6, n_embd: 384, ..tiny() };
    let time = quarters(&gpt(small)?, 2)?.map(|s| s * 1e3);
    println!("6 layers of 384: {time:.3?} ms a token in the quarters of 1024 tokens");
    // 42 MB of weights, and at the end 19 MB of keys and values to be read: half as much again. To copy them would add twice that.
    assert!(time[3] < 2.0 * time[0], "the cost of a token grows");
    set_num_threads(0)
}
