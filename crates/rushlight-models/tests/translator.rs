//! A translator writes the same with a cache, beside others and behind padding, and learns to translate.

use rushlight::nn::Module;
use rushlight::optim::{AdamW, Optimizer};
use rushlight::random::Generator;
use rushlight::{Result, Tensor, loss, no_grad, random};
use rushlight_models::text::{BeamSearch, pad};
use rushlight_models::{Translator, TranslatorConfig};

fn small() -> TranslatorConfig {
    let (vocab_size, positions, heads, width, hidden) = (23, 14, 4, 32, 48);
    TranslatorConfig { vocab_size, positions, encoder_layers: 2, decoder_layers: 3, heads, width, hidden, dropout: 0.2 }
}

fn translator(config: &TranslatorConfig) -> Result<Translator> {
    random::manual_seed(3);
    let mut model = Translator::new(config)?;
    model.eval();
    Ok(model)
}

/// Sentences of words only, so that none is padding or an end.
fn words(rng: &mut Generator, lengths: &[usize]) -> Vec<Vec<i64>> {
    let word = |rng: &mut Generator| 3 + (rng.next_f64() * 20.0) as i64;
    lengths.iter().map(|&n| (0..n).map(|_| word(rng)).chain([Translator::EOS]).collect()).collect()
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f32> {
    assert_eq!(a.dims(), b.dims());
    a.sub(b)?.abs()?.amax(..)?.item()
}

#[test]
fn a_cache_changes_no_logits() -> Result<()> {
    let model = translator(&small())?;
    let (source, _) = pad(&words(&mut Generator::new(1), &[9, 4, 6]), Translator::PAD)?;
    let target = Tensor::randint(3, 23, [3, 14])?;
    let memory = model.encode(&source)?;
    let whole = model.decode(&target, &memory)?;
    for steps in [&[1; 14][..], &[3, 1, 1, 5, 4], &[14]] {
        let mut cache = model.cache();
        for &n in steps {
            let at = cache.len();
            let last = model.next_logits(&target.narrow(1, at, n)?, &memory, &mut cache)?;
            assert!(!last.is_tracked());
            assert!(distance(&last, &whole.select(1, (at + n - 1) as i64)?)? < 1e-4, "{n} from {at} on");
        }
    }
    Ok(())
}

/// Alone, beside a longer one, and in front of padding: the same logits, the same translation.
#[test]
fn padding_and_neighbours_change_nothing() -> Result<()> {
    let model = translator(&small())?;
    let sources = words(&mut Generator::new(2), &[3, 12, 1, 7]);
    let target = Tensor::randint(3, 23, [4, 8])?;
    let (all, _) = pad(&sources, Translator::PAD)?; // [4, 13]
    let together = model.encode(&all)?;
    let logits = model.decode(&target, &together)?;
    for beams in [1, 3] {
        let search = BeamSearch { beams, max_length: 12, ..Default::default() };
        let found = model.translate(&together, &search)?;
        for (i, source) in sources.iter().enumerate() {
            let alone = model.encode(&Tensor::from_slice(source, [1, source.len()])?)?;
            let own = model.decode(&target.narrow(0, i, 1)?, &alone)?;
            assert!(distance(&own, &logits.narrow(0, i, 1)?)? < 1e-4, "{i}");
            assert_eq!(model.translate(&alone, &search)?[0][0].tokens, found[i][0].tokens, "{i}, {beams} beams");
        }
    }
    // What is behind the words of a translation does not reach back.
    let longer = Tensor::cat(&[&target, &Tensor::from_vec(vec![Translator::PAD; 8], [4, 2])?], 1)?;
    assert!(distance(&model.decode(&longer, &together)?.narrow(1, 0, 8)?, &logits)? < 1e-5);
    Ok(())
}

#[test]
fn weights_of_attention_are_those_of_the_logits() -> Result<()> {
    let model = translator(&small())?;
    let memory = model.encode(&pad(&words(&mut Generator::new(4), &[5, 2]), Translator::PAD)?.0)?;
    let target = Tensor::randint(3, 23, [2, 4])?;
    let (logits, weights) = model.decode_with_weights(&target, &memory)?;
    assert!(distance(&logits, &model.decode(&target, &memory)?)? < 1e-5);
    assert_eq!(weights.len(), 3);
    for w in weights {
        assert_eq!(w.dims(), [2, 4, 4, 6]); // [B, heads, T, S]
        assert!(distance(&w.sum(-1)?, &w.sum(-1)?.ones_like()?)? < 1e-5);
        // Nobody looks at padding: the second sentence has 2 words and an end.
        assert_eq!(w.select(0, 1)?.narrow(-1, 3, 3)?.abs()?.amax(..)?.item::<f32>()?, 0.0);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error() -> Result<()> {
    let model = translator(&small())?;
    let message = |r: Result<Tensor>| r.map(|_| ()).unwrap_err().to_string();
    let text = |n: usize| Tensor::randint(3, 23, [1, n]);
    let error = message(model.encode(&text(15)?).map(|m| m.encoded));
    assert!(error.contains("Translator: 15 tokens are more than the 14 positions"), "{error}");
    let memory = model.encode(&text(14)?)?;
    assert!(message(model.decode(&text(15)?, &memory)).contains("15 tokens are more than the 14"));
    let mut cache = model.cache();
    model.next_logits(&text(14)?, &memory, &mut cache)?;
    assert!(message(model.next_logits(&text(1)?, &memory, &mut cache)).contains("15 tokens are more than the 14"));
    cache.reset();
    assert!(message(model.next_logits(&text(0)?, &memory, &mut cache)).contains("no token to go on from"));
    assert!(model.encode(&Tensor::new([[23i64]])?).is_err());
    for bad in [
        TranslatorConfig { heads: 5, ..small() },
        TranslatorConfig { heads: 0, ..small() },
        TranslatorConfig { vocab_size: 3, ..small() },
        TranslatorConfig { positions: 0, ..small() },
        TranslatorConfig { dropout: 1.5, ..small() },
    ] {
        assert!(Translator::new(&bad).is_err(), "{bad:?}");
    }
    // A translation is no longer than the positions, whatever is asked for.
    let search = BeamSearch { beams: 1, max_length: 100, ..Default::default() };
    assert!(model.translate(&memory, &search)?[0][0].tokens.len() <= 14);
    Ok(())
}

/// A language that says each word backwards and one higher: learnt from examples, for sentences never seen.
#[test]
fn it_learns_to_translate() -> Result<()> {
    random::manual_seed(5);
    let config = TranslatorConfig { encoder_layers: 1, decoder_layers: 1, dropout: 0.0, heads: 2, ..small() };
    let mut model = Translator::new(&config)?;
    let mut optimizer = Optimizer::new(AdamW { lr: 5e-3, ..AdamW::default() });
    let mut rng = Generator::new(6);
    let translate = |source: &[i64]| -> Vec<i64> {
        let end = source.len() - 1;
        source[..end].iter().rev().map(|w| 3 + (w - 2) % 20).collect()
    };
    for _ in 0..400 {
        let sources = words(&mut rng, &[4; 24]);
        let target: Vec<Vec<i64>> = sources.iter().map(|s| translate(s)).collect();
        let begun: Vec<Vec<i64>> = target.iter().map(|t| [&[Translator::BOS], &t[..]].concat()).collect();
        let next: Vec<i64> = target.iter().flat_map(|t| [&t[..], &[Translator::EOS]].concat()).collect();
        let memory = model.encode(&pad(&sources, Translator::PAD)?.0)?;
        let logits = model.decode(&pad(&begun, Translator::PAD)?.0, &memory)?;
        let n = next.len();
        let grads = loss::cross_entropy(&logits.flatten(0, 1)?, &Tensor::from_vec(next, n)?)?.backward()?;
        optimizer.step(&mut model, &grads)?;
    }
    model.eval();
    let sources = words(&mut rng, &[4; 50]);
    let memory = no_grad(|| model.encode(&pad(&sources, Translator::PAD)?.0))?;
    let search = BeamSearch { beams: 1, max_length: 10, ..Default::default() };
    let found = model.translate(&memory, &search)?;
    let right = found.iter().zip(&sources).filter(|(f, s)| f[0].finished && f[0].tokens == translate(s)).count();
    println!("{right}");
    assert!(right >= 45, "{right} of 50");
    Ok(())
}
