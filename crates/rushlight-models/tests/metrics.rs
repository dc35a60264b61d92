//! BLEU and chrF: sacrebleu's numbers, and what is refused.

mod common;

use rushlight_models::text::bleu::tokenize_13a;
use rushlight_models::text::{ChrfOptions, corpus_bleu, corpus_chrf, sentence_bleu, sentence_chrf};

#[derive(serde::Deserialize)]
struct Reference {
    corpora: Vec<Corpus>,
}

#[derive(serde::Deserialize)]
struct Corpus {
    name: String,
    hypotheses: Vec<String>,
    references: Vec<Vec<String>>,
    tokens: Vec<Vec<String>>,
    corpus: Scores,
    sentences: Vec<[f64; 3]>,
}

/// Of BLEU, chrF and chrF++.
#[derive(serde::Deserialize)]
struct Scores {
    scores: [f64; 3],
    printed: [String; 3],
    signatures: [String; 3],
}

const CHRF: ChrfOptions = ChrfOptions { char_order: 6, word_order: 0, beta: 2.0 };
const CHRF_PP: ChrfOptions = ChrfOptions { word_order: 2, ..CHRF };

fn corpora() -> Vec<Corpus> {
    serde_json::from_str::<Reference>(include_str!("reference/metrics.json")).unwrap().corpora
}

#[test]
fn corpora_score_as_with_sacrebleu() {
    for Corpus { name, hypotheses, references, corpus, .. } in corpora() {
        let bleu = corpus_bleu(&hypotheses, &references).unwrap();
        let chrf = [CHRF, CHRF_PP].map(|options| corpus_chrf(&hypotheses, &references, &options).unwrap());
        let scores = [bleu.score, chrf[0].score, chrf[1].score];
        for (i, (ours, theirs)) in scores.iter().zip(corpus.scores).enumerate() {
            assert!((ours - theirs).abs() < 1e-9, "{name}, metric {i}: {ours}, sacrebleu has {theirs}");
        }
        assert_eq!([bleu.to_string(), chrf[0].to_string(), chrf[1].to_string()], corpus.printed, "{name}");
        let signatures = [bleu.signature(), chrf[0].signature(), chrf[1].signature()];
        let version = format!("|version:rushlight-{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(signatures, corpus.signatures.map(|s| s + &version), "{name}");
    }
}

#[test]
fn sentences_score_as_with_sacrebleu() {
    for Corpus { name, hypotheses, references, sentences, .. } in corpora() {
        for ((hypothesis, references), theirs) in hypotheses.iter().zip(&references).zip(sentences) {
            let bleu = sentence_bleu(hypothesis, references).unwrap();
            let chrf = [CHRF, CHRF_PP].map(|options| sentence_chrf(hypothesis, references, &options).unwrap().score);
            let ours = [bleu.score, chrf[0], chrf[1]];
            let close = ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close, "{name}: {hypothesis:?} has {ours:?}, with sacrebleu {theirs:?}");
            assert!(bleu.signature().starts_with(&format!("nrefs:{}|case:mixed|eff:yes|", references.len())));
        }
    }
}

#[test]
fn texts_are_cut_as_by_13a() {
    for Corpus { hypotheses, tokens, .. } in corpora() {
        for (text, tokens) in hypotheses.iter().zip(tokens) {
            assert_eq!(tokenize_13a(text), tokens, "{text:?}");
        }
    }
}

#[test]
fn a_text_is_its_own_best_translation() {
    let text = ["Same here, and long enough.", "Twice: so it is."];
    let bleu = corpus_bleu(&text, &text.map(|t| [t])).unwrap();
    assert!((bleu.score - 100.0).abs() < 1e-9 && bleu.precisions == [100.0; 4] && bleu.brevity_penalty == 1.0);
    for options in [CHRF, CHRF_PP, ChrfOptions { beta: 0.5, ..CHRF }] {
        assert!((corpus_chrf(&text, &text.map(|t| [t]), &options).unwrap().score - 100.0).abs() < 1e-9);
    }
}

#[test]
fn what_cannot_be_measured() {
    let none: [[&str; 0]; 1] = [[]];
    let bleu = |h: &[&str], r: &[Vec<&str>]| corpus_bleu(h, r).unwrap_err().to_string();
    assert_eq!(bleu(&["a", "b"], &[vec!["a"]]), "corpus_bleu: 2 hypotheses, but references for 1");
    assert_eq!(bleu(&["a", "b"], &[vec!["a"], vec![]]), "corpus_bleu: hypothesis 1 has no reference");
    assert_eq!(bleu(&[], &[]), "corpus_bleu: no hypothesis to measure");
    assert!(corpus_chrf(&["a"], &none, &CHRF).unwrap_err().to_string().contains("hypothesis 0 has no reference"));
    assert!(sentence_bleu("a", &none[0]).is_err());
    for options in [ChrfOptions { char_order: 0, ..CHRF }, ChrfOptions { beta: f64::NAN, ..CHRF }] {
        let error = sentence_chrf("a", &["a"], &options).unwrap_err().to_string();
        assert!(error.contains("an order above 0, and a finite beta"), "{error}");
    }
}
