//! `explain`: all topics are listed and can be asked for, their numbers are computed, and a misspelt one is refused kindly.

use crate::helpers::*;

/// The numbers of the line that begins with `label`.
fn numbers(out: &str, label: &str) -> Vec<f64> {
    let line = out.lines().find(|l| l.trim_start().starts_with(label)).unwrap_or_else(|| panic!("no {label} in {out}"));
    line.split_whitespace().rev().map_while(|w| w.parse().ok()).collect::<Vec<f64>>().into_iter().rev().collect()
}

#[test]
fn every_listed_topic_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let list = good(dir.path(), "explain");
    let topics: Vec<&str> = list.lines().take_while(|l| !l.is_empty()).map(|l| l.split(' ').next().unwrap()).collect();
    for needed in [
        "softmax",
        "log-softmax",
        "max",
        "argmax",
        "relu",
        "step",
        "sigmoid",
        "pool",
        "gate",
        "highway",
        "mixture",
        "rnn",
        "gru",
        "lstm",
        "attention",
    ] {
        assert!(topics.contains(&needed), "{needed} in {topics:?}");
    }
    for topic in topics {
        let out = good(dir.path(), &format!("explain {topic}"));
        assert!(out.starts_with(&format!("{topic}: ")), "{out}");
        for part in ["\nFormula\n", "\nGradient\n", "\nRelation\n", "\nExample\n", "\n  dy ", "\nIn the library: "] {
            assert!(out.contains(part), "{topic}: no {part:?} in {out}");
        }
        assert!(out.lines().all(|l| l.chars().count() <= 100), "{out}");
        assert!(!out.contains("NaN") && !out.contains("-0.000"), "{out}");
    }
}

#[test]
fn the_numbers_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let out = good(dir.path(), "explain softmax");
    let p: Vec<f64> = [1f64, 3.0, 2.0].iter().map(|x| x.exp() / (1f64.exp() + 3f64.exp() + 2f64.exp())).collect();
    let dx: Vec<f64> = (0..3).map(|i| p[1] * (f64::from(u8::from(i == 1)) - p[i])).collect();
    for (label, expected) in [("y = softmax(x)", p), ("dx ", dx)] {
        // A formula may begin as a row does: it has no numbers at its end.
        let rows: Vec<&str> = out.lines().filter(|l| l.trim_start().starts_with(label)).collect();
        let row = numbers(rows.last().unwrap(), label);
        assert!(row.len() == 3 && row.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 6e-4), "{row:?} {expected:?}");
    }
    assert_eq!(numbers(&good(dir.path(), "explain max"), "dx "), [0.0, 1.0, 0.0]);
}

/// The step of an LSTM, a GRU and a plain network, by their formulas: with one number of state.
#[test]
fn the_numbers_of_recurrent_networks_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let read = |topic: &str| {
        let out = good(dir.path(), &format!("explain {topic}"));
        let example = out.split("\nExample\n").nth(1).unwrap().to_string();
        let row = |label: &str| numbers(&example, label);
        (row("x "), row("w "), row("v "), row("b "), row("y = "))
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (x, w, v, b, y) = read("lstm");
    let (mut h, mut c) = (0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        let a = |i: usize| w[i] * x + v[i] * h + b[i];
        c = sigmoid(a(1)) * c + sigmoid(a(0)) * a(2).tanh();
        h = sigmoid(a(3)) * c.tanh();
        assert!((h - y).abs() < 1e-3, "lstm: {h} {y}");
    }
    let (x, w, v, b, y) = read("gru");
    let mut h = 0.0;
    for (x, y) in x.iter().zip(&y) {
        let a = |i: usize| w[i] * x + b[i];
        let (r, z) = (sigmoid(a(0) + v[0] * h), sigmoid(a(1) + v[1] * h));
        h = z * h + (1.0 - z) * (a(2) + r * v[2] * h).tanh();
        assert!((h - y).abs() < 1e-3, "gru: {h} {y}");
    }
    let (x, w, v, b, y) = read("rnn");
    let mut h = 0.0;
    for (x, y) in x.iter().zip(&y) {
        h = (w[0] * x + v[0] * h + b[0]).tanh();
        assert!((h - y).abs() < 1e-3, "rnn: {h} {y}");
    }
    assert_eq!((x.len(), y.len()), (4, 4));
}

#[test]
fn names_are_taken_as_people_write_them() {
    let dir = tempfile::tempdir().unwrap();
    let expected = good(dir.path(), "explain log-softmax");
    for name in ["log softmax", "LogSoftmax", "log_softmax"] {
        assert_eq!(good(dir.path(), &format!("explain {name}")), expected, "{name}");
    }
    assert_eq!(good(dir.path(), "explain conv2d"), good(dir.path(), "explain conv"));
    assert_eq!(good(dir.path(), "explain mixture of experts"), good(dir.path(), "explain mixture"));
}

#[test]
fn an_unknown_topic_is_refused_with_those_near_it() {
    let dir = tempfile::tempdir().unwrap();
    refused(
        dir.path(),
        "explain sofmax",
        &["no topic 'sofmax'", "did you mean softmax", "rushlight explain lists all"],
    );
    refused(dir.path(), "explain atention", &["did you mean attention?"]);
    refused(dir.path(), "explain soft", &["softmax, log-softmax"]);
    let said = run(dir.path(), "explain quicksort");
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("no topic 'quicksort' (") && !said.err.contains("did you mean"), "{}", said.err);
}
