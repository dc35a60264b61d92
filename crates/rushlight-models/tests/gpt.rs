//! Writing with a cache: the logits of the whole, at the cost of a token.

use std::time::Instant;

use rushlight::nn::Module;
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
