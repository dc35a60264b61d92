//! Beam search: beside all continuations there are, beside greedy, and over models with caches that follow the beams.

use std::cmp::Ordering;

use rushlight::nn::{DecoderMasks, Embedding, KvCache, Layer, Module, TransformerDecoder, TransformerOptions};
use rushlight::random::{self, Generator};
use rushlight::{DType, Result, Tensor};
use rushlight_models::text::{BeamSearch, Hypothesis};
use rushlight_models::{Gpt, GptConfig};

const EOS: i64 = 0;

/// A model without structure: each beginning has logits of its own, few different ones if `coarse`, so that they tie.
#[derive(Clone, Copy)]
struct Table {
    vocab: usize,
    coarse: bool,
}

impl Table {
    fn logits(&self, text: &[i64]) -> Vec<f32> {
        let seed = text.iter().fold(17u64, |h, &t| h.wrapping_mul(1_000_003).wrapping_add(t as u64 + 1));
        let mut generator = Generator::new(seed);
        let logit = |x: f64| if self.coarse { (3.0 * x).floor() } else { 4.0 * x };
        (0..self.vocab).map(|_| logit(generator.next_f64()) as f32).collect()
    }

    fn log_p(&self, text: &[i64]) -> Vec<f64> {
        let logits = self.logits(text);
        let norm = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
        logits.iter().map(|&l| f64::from(l) - norm).collect()
    }

    fn search(&self, search: &BeamSearch, starts: &[i64]) -> Result<Vec<Vec<Hypothesis>>> {
        let mut texts = vec![vec![]; starts.len()];
        search.run(&Tensor::from_slice(starts, [starts.len(), 1])?, |tokens, parents| {
            follow(&mut texts, tokens, parents)?;
            let logits: Vec<f32> = texts.iter().flat_map(|text| self.logits(text)).collect();
            Tensor::from_slice(&logits, [texts.len(), self.vocab])
        })
    }
}

/// The texts of all rows, from what a step is given.
fn follow(texts: &mut Vec<Vec<i64>>, tokens: &Tensor, parents: &Tensor) -> Result<()> {
    let new = tokens.to_vec::<i64>()?;
    let each = new.len() / parents.numel();
    let continued = |(parent, new): (i64, &[i64])| [&texts[parent as usize][..], new].concat();
    *texts = parents.to_vec::<i64>()?.into_iter().zip(new.chunks(each)).map(continued).collect();
    Ok(())
}

fn score(log_prob: f64, length: usize, alpha: f64) -> f64 {
    log_prob / ((5.0 + length as f64) / 6.0).powf(alpha)
}

/// Best first, those that ended before the others.
fn order(a: &Hypothesis, b: &Hypothesis) -> Ordering {
    b.finished.cmp(&a.finished).then(b.score.total_cmp(&a.score))
}

/// All continuations of a text.
fn all(model: Table, s: &BeamSearch, text: &mut Vec<i64>, written: usize, log_prob: f64, out: &mut Vec<Hypothesis>) {
    let at = text.len() - written;
    for (token, p) in model.log_p(text).into_iter().enumerate() {
        let (finished, log_prob) = (s.eos == Some(token as i64), log_prob + p);
        text.push(token as i64);
        if finished || written + 1 == s.max_length {
            let tokens = text[at..text.len() - usize::from(finished)].to_vec();
            out.push(Hypothesis { tokens, finished, log_prob, score: score(log_prob, written + 1, s.length_penalty) });
        } else {
            all(model, s, text, written + 1, log_prob, out);
        }
        text.pop();
    }
}

/// A search as it is told, without a thought for time: until so many have ended or the length is reached.
fn plain(model: Table, s: &BeamSearch, start: i64) -> Hypothesis {
    let (mut live, mut found) = (vec![(0.0, vec![start])], vec![]);
    for length in 1..=s.max_length {
        let mut next: Vec<(f64, Vec<i64>)> = vec![];
        for (sum, text) in &live {
            let log_p = model.log_p(text).into_iter().enumerate();
            next.extend(log_p.map(|(token, p)| (sum + p, [&text[..], &[token as i64]].concat())));
        }
        next.sort_by(|a, b| b.0.total_cmp(&a.0));
        let ends = |text: &[i64]| s.eos == text.last().copied();
        for (log_prob, text) in next.iter().take(s.beams).filter(|(_, text)| ends(text)) {
            let (tokens, score) = (text[1..length].to_vec(), score(*log_prob, length, s.length_penalty));
            found.push(Hypothesis { tokens, finished: true, log_prob: *log_prob, score });
        }
        live = next.into_iter().filter(|(_, text)| !ends(text)).take(s.beams).collect();
        if found.len() >= s.beams {
            live.clear();
            break;
        }
    }
    found.extend(live.into_iter().map(|(log_prob, text)| {
        let score = score(log_prob, s.max_length, s.length_penalty);
        Hypothesis { tokens: text[1..].to_vec(), finished: false, log_prob, score }
    }));
    found.sort_by(order);
    found.swap_remove(0)
}

fn assert_same(ours: &Hypothesis, expected: &Hypothesis, tolerance: f64, context: &str) {
    assert_eq!((&ours.tokens, ours.finished), (&expected.tokens, expected.finished), "{context}");
    let apart = (ours.log_prob - expected.log_prob).abs().max((ours.score - expected.score).abs());
    assert!(apart < tolerance, "{context}: {ours:?}, expected {expected:?}");
}

#[test]
fn a_beam_of_all_finds_the_best_there_is() -> Result<()> {
    let model = Table { vocab: 4, coarse: false };
    for (max_length, eos) in [(1, Some(EOS)), (4, Some(EOS)), (4, None), (5, Some(3))] {
        for length_penalty in [0.0, 0.6, 1.0, 3.0] {
            let beams = 4usize.pow(max_length as u32);
            let s = BeamSearch { beams, n_best: beams.min(20), length_penalty, max_length, eos };
            for (start, found) in [5, 6, 7].into_iter().zip(model.search(&s, &[5, 6, 7])?) {
                let mut expected = vec![];
                all(model, &s, &mut vec![start], 0, 0.0, &mut expected);
                expected.sort_by(order);
                assert_eq!(found.len(), s.n_best.min(expected.len()));
                for (i, (ours, expected)) in found.iter().zip(&expected).enumerate() {
                    assert_same(ours, expected, 1e-5, &format!("{s:?}, number {i} of {start}"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn one_beam_is_greedy() -> Result<()> {
    for coarse in [false, true] {
        let model = Table { vocab: 6, coarse };
        let s = BeamSearch { beams: 1, max_length: 12, eos: Some(EOS), ..Default::default() };
        for start in 0..200 {
            let found = &model.search(&s, &[start])?[0];
            let (mut text, mut log_prob, mut finished) = (vec![start], 0.0, false);
            while !finished && text.len() <= 12 {
                let (logits, log_p) = (model.logits(&text), model.log_p(&text));
                let best = (0..6).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
                log_prob += log_p[best];
                finished = best as i64 == EOS;
                text.push(best as i64);
            }
            let length = text.len() - 1;
            let tokens = text[1..text.len() - usize::from(finished)].to_vec();
            let expected = Hypothesis { tokens, finished, log_prob, score: score(log_prob, length, 0.6) };
            assert_eq!(found.len(), 1);
            assert_same(&found[0], &expected, 1e-5, &format!("from {start}"));
        }
    }
    Ok(())
}

#[test]
fn to_stop_early_changes_nothing() -> Result<()> {
    let model = Table { vocab: 7, coarse: false };
    for beams in [2, 3, 5] {
        for length_penalty in [0.0, 0.6, 1.0, 2.0] {
            let s = BeamSearch { beams, length_penalty, max_length: 9, eos: Some(EOS), ..Default::default() };
            let starts: Vec<i64> = (0..60).collect();
            let together = model.search(&s, &starts)?;
            for (&start, found) in starts.iter().zip(&together) {
                assert_same(&found[0], &plain(model, &s, start), 1e-5, &format!("{s:?} from {start}"));
                // A sentence does not depend on those beside it.
                assert_eq!(model.search(&s, &[start])?[0], *found);
            }
        }
    }
    Ok(())
}

#[test]
fn a_search_ends_when_nothing_can_change() -> Result<()> {
    // The end is all but certain at once; the other tokens never lead anywhere better.
    let mut steps = 0;
    let s = BeamSearch { beams: 3, max_length: 1000, eos: Some(EOS), ..Default::default() };
    let found = s.run(&Tensor::new([[1i64], [2]])?, |_, parents| {
        steps += 1;
        let row = [20.0f32, 1.0, 0.5, f32::NEG_INFINITY];
        Tensor::from_slice(&row.repeat(parents.numel()), [parents.numel(), 4])
    })?;
    assert_eq!(steps, 1);
    assert!(found.iter().all(|f| f.len() == 1 && f[0].finished && f[0].tokens.is_empty() && f[0].log_prob > -1e-6));
    // Tokens of probability 0 are no way to go on.
    let s = BeamSearch { n_best: 3, max_length: 3, ..s };
    let found = s.run(&Tensor::new([[1i64]])?, |_, parents| {
        let row = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY];
        Tensor::from_slice(&row.repeat(parents.numel()), [parents.numel(), 3])
    })?;
    let only = Hypothesis { tokens: vec![1; 3], finished: false, log_prob: 0.0, score: 0.0 };
    assert_eq!(found, [[only]]);
    let nothing =
        s.run(&Tensor::zeros([0, 1], DType::I64)?, |_, _| Err(rushlight::Error::invalid("never", "called")))?;
    assert!(nothing.is_empty());
    Ok(())
}

#[test]
fn equal_scores_come_in_order() -> Result<()> {
    let s = BeamSearch { beams: 5, n_best: 5, max_length: 2, ..Default::default() };
    let found = s.run(&Tensor::new([[1i64]])?, |_, parents| Tensor::zeros([parents.numel(), 3], DType::F32))?;
    let tokens: Vec<&[i64]> = found[0].iter().map(|h| &h.tokens[..]).collect();
    assert_eq!(tokens, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]);
    Ok(())
}

fn assert_all_same(with: &[Vec<Hypothesis>], without: &[Vec<Hypothesis>]) {
    assert_eq!(with.len(), without.len());
    for (i, (with, without)) in with.iter().zip(without).enumerate() {
        assert_eq!(with.len(), without.len());
        with.iter().zip(without).for_each(|(a, b)| assert_same(a, b, 1e-3, &format!("sentence {i}")));
    }
}

#[test]
fn caches_follow_the_beams_of_a_gpt() -> Result<()> {
    random::manual_seed(3);
    let config = GptConfig { vocab_size: 11, block_size: 16, n_layer: 2, n_head: 2, n_embd: 16, ..GptConfig::gpt2() };
    let mut gpt = Gpt::new(&config)?;
    gpt.wte.weight = Tensor::randn([11, 16], DType::F32)?; // one that prefers something
    gpt.eval();
    let prompts = Tensor::randint(0, 11, [3, 4])?;
    for beams in [1, 4] {
        let s = BeamSearch { beams, n_best: beams, max_length: 12, eos: Some(EOS), ..Default::default() };
        let mut cache = gpt.cache();
        let with = s.run(&prompts, |tokens, parents| {
            cache.reorder(parents)?;
            gpt.next_logits(tokens, &mut cache)
        })?;
        let mut texts = vec![vec![]; 3];
        let without = s.run(&prompts, |tokens, parents| {
            follow(&mut texts, tokens, parents)?;
            let whole = Tensor::from_slice(&texts.concat(), [texts.len(), texts[0].len()])?;
            gpt.forward(&whole)?.select(1, -1)
        })?;
        assert_all_same(&with, &without);
    }
    Ok(())
}

#[test]
fn caches_follow_the_beams_of_a_decoder() -> Result<()> {
    random::manual_seed(5);
    let options = TransformerOptions { dropout: 0.0, ..Default::default() };
    let (embedding, decoder) = (Embedding::new(9, 16)?, TransformerDecoder::new(2, 16, 2, &options)?);
    let memory = Tensor::randn([3, 5, 16], DType::F32)?;
    let padding = Tensor::new([
        [false, false, false, true, true],
        [false, false, false, false, false],
        [false, false, true, true, true],
    ])?;
    let logits = |y: &Tensor| y.select(1, -1)?.linear(&embedding.weight, None);
    let masks =
        |padding: &Tensor| DecoderMasks { memory_key_padding_mask: Some(padding.clone()), ..Default::default() };
    let start = Tensor::new([[1i64], [2], [3]])?;
    for beams in [1, 3] {
        let s = BeamSearch { beams, n_best: beams, max_length: 10, eos: Some(EOS), ..Default::default() };
        // What the model reads goes from row to row with the beams, in the cache and in the mask.
        let (mut cache, mut seen) = (KvCache::new(2, 10), padding.clone());
        let with = s.run(&start, |tokens, parents| {
            cache.reorder(parents)?;
            seen = seen.index_select(0, parents)?;
            logits(&decoder.forward_cached(&embedding.forward(tokens)?, &memory, &masks(&seen), &mut cache)?)
        })?;
        let (mut texts, mut about) = (vec![vec![]; 3], Tensor::arange(0.0, 3.0, 1.0, DType::I64)?);
        let without = s.run(&start, |tokens, parents| {
            follow(&mut texts, tokens, parents)?;
            about = about.index_select(0, parents)?;
            let whole = Tensor::from_slice(&texts.concat(), [texts.len(), texts[0].len()])?;
            let (memory, padding) = (memory.index_select(0, &about)?, padding.index_select(0, &about)?);
            logits(&decoder.forward(&embedding.forward(&whole)?, &memory, &masks(&padding))?)
        })?;
        assert_all_same(&with, &without);
    }
    Ok(())
}

#[test]
fn what_cannot_be_searched() {
    let s = BeamSearch::default();
    let error = |s: BeamSearch| s.check().unwrap_err().to_string();
    assert!(error(BeamSearch { beams: 0, ..s }).contains("beams 0: expected 1 or more"));
    assert!(error(BeamSearch { n_best: 5, ..s }).contains("n_best 5: expected 1 to beams, 4"));
    assert!(error(BeamSearch { n_best: 0, ..s }).contains("n_best 0"));
    assert!(error(BeamSearch { max_length: 0, ..s }).contains("max_length 0"));
    for length_penalty in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(error(BeamSearch { length_penalty, ..s }).contains("length_penalty"));
    }
    let start = Tensor::new([[1i64], [2]]).unwrap();
    let given = |logits: Tensor| s.run(&start, |_, _| Ok(logits.clone())).unwrap_err().to_string();
    let error = given(Tensor::zeros([3, 4], DType::F32).unwrap());
    assert_eq!(error, "BeamSearch: the step gave logits of shape [3, 4], expected [2, vocab]");
    assert!(given(Tensor::zeros([2, 0], DType::F32).unwrap()).contains("shape [2, 0]"));
    for bad in [[f32::NAN, 1.0], [f32::INFINITY, 1.0], [f32::NEG_INFINITY; 2]] {
        let error = given(Tensor::new([[0.0, 1.0], bad]).unwrap());
        assert_eq!(error, "BeamSearch: the logits of row 1 hold NaN or +∞, or only −∞");
    }
    assert!(s.run(&start.select(0, 0).unwrap(), |_, _| Ok(start.clone())).is_err());
}
