//! `train translate` and what is done with its runs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::helpers::*;

/// `rows` sentences of three words, each of which has one translation, in the other order.
pub fn pairs(path: &Path, rows: usize) {
    let who = [("the king", "el rey"), ("a man", "un hombre"), ("his son", "su hijo"), ("the city", "la ciudad")];
    let what = [("went", "fue"), ("said", "dijo"), ("saw", "vio"), ("came", "vino"), ("heard", "oyó")];
    let row = |i: usize| {
        let ((en, es), (does, hace)) = (who[i % 4], what[i / 4 % 5]);
        format!("{en} {does}, {}\t{}: {hace} {es}\n", i % 7, i % 7)
    };
    fs::write(path, (0..rows).map(row).collect::<String>()).unwrap();
}

const TINY: &str = "--vocab 300 --layers 1 --heads 2 --width 32 --hidden 32 --batch 8";

/// The command with `input` to read.
fn piped(dir: &Path, line: &str, input: &[u8]) -> Said {
    let mut command = command(dir, line);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_translator_from_training_to_its_attention() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    pairs(&dir.join("data.tsv"), 140);
    let out = good(dir, &format!("train translate --data data.tsv {TINY} --dropout 0 --epochs 8 --lr 0.01 --out run"));
    assert!(out.contains("126 training pairs") && out.contains("14 to be measured on"), "{out}");
    assert!(out.contains("BLEU = ") && out.contains("reference  "), "{out}");
    assert_whole_with(&dir.join("run"), &["curves", "gradient_flow"], &["tokenizer.json"]);

    let measured = good(dir, "eval run");
    for part in ["14 pairs of ", "sentences a second", "perplexity", "BLEU = ", "nrefs:1|case:mixed", "chrF2 = "] {
        assert!(measured.contains(part), "no '{part}' in {measured}");
    }
    assert_eq!(measured.matches("source     ").count(), 10);
    let loss = measured.split("loss ").nth(1).unwrap().split(',').next().unwrap();
    assert!(loss.parse::<f64>().unwrap() < 1.0, "{measured}");
    fs::write(dir.join("one.tsv"), "the king went, 3\t3: fue el rey\n").unwrap();
    let one = good(dir, "eval run --data one.tsv --beam 2");
    assert!(one.contains("1 pairs of one.tsv") && one.matches("source     ").count() == 1, "{one}");

    // Texts and lines, alone and beside each other, are translated alike; an empty line stays one.
    let texts = ["the king went, 3", "a man heard, 0"];
    let said = Said::from(command(dir, "translate run").args(texts).output().unwrap());
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}{}", said.out, said.err);
    let input = format!("{}\r\n\n{}", texts[1], texts[0]);
    let said = piped(dir, "translate run", input.as_bytes());
    assert_eq!(said.out, format!("{}\n\n{}\n", lines[1], lines[0]), "{}", said.err);
    assert_eq!(piped(dir, "translate run", b"").out, "");
    let beams = Said::from(command(dir, "translate run --beam 3 --threads 1").args(texts).output().unwrap());
    assert_eq!(beams.out.lines().count(), 2, "{}", beams.err);

    let said = Said::from(command(dir, "translate run --attention looked.svg").arg(texts[0]).output().unwrap());
    assert_eq!(said.out, format!("{}\nthe attention of each head: looked.svg\n", lines[0]), "{}", said.err);
    let svg = fs::read_to_string(dir.join("looked.svg")).unwrap();
    assert!(svg.contains("layer 1, head 2") && svg.contains("&lt;eos&gt;") && dir.join("looked.png").exists());

    // Texts that cannot be translated.
    let long = "king ".repeat(300);
    let (line, names) = ("translate run good", &["text 2", "more than the 256 pos"]);
    refused_as(dir, line, command(dir, line).arg(&long), names);
    refused(dir, "translate run a b --attention x", &["one text", "2 are given"]);
    refused(dir, "translate run text --beam 0", &["beams 0"]);
    refused(dir, "translate run text --length-penalty -1", &["length_penalty -1"]);
    for (input, parts) in [
        (&b"good\nb\xffd\n"[..], &["standard input", "line 2", "byte 6"][..]),
        (format!("good\n\n{long}\n").as_bytes(), &["line 3", "more than the 256 positions"]),
    ] {
        let said = piped(dir, "translate run", input);
        assert_eq!(said.code, Some(1), "{}", said.out);
        assert!(parts.iter().all(|part| said.err.contains(part)), "{}", said.err);
    }
    fs::write(dir.join("long.tsv"), format!("a\tb\n{long}\tb\n")).unwrap();
    refused(dir, "eval run --data long.tsv", &["long.tsv: row 2", "more than the 256 positions"]);

    // Runs of other tasks, and a tokenizer of another run.
    refused(dir, "predict run text", &["rushlight translate run"]);
    refused(dir, "generate run", &["no run of train gpt"]);
    let smaller = TINY.replace("300", "280");
    good(dir, &format!("train translate --data data.tsv {smaller} --epochs 1 --out other"));
    fs::copy(dir.join("other/tokenizer.json"), dir.join("run/tokenizer.json")).unwrap();
    refused(dir, "translate run text", &["run/tokenizer.json", "do not belong together"]);
    refused(dir, "eval run", &["run/tokenizer.json", "do not belong together"]);
    good(dir, "train points --points 20 --hidden 4 --epochs 1 --out points");
    refused(dir, "translate points text", &["points is no run of train translate"]);
    refused(dir, "translate nowhere text", &["nowhere", "run folder"]);
}

#[test]
fn pairs_that_cannot_be_learnt_from() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (text, parts) in [
        (&b""[..], &["bad.tsv", "empty"][..]),
        (b"good night\tbuenas noches\nthank you\n", &["bad.tsv", "line 2: 1 field", "a tab between", "byte 25"]),
        (b"a\tb\tc\n", &["bad.tsv", "line 1: 3 fields"]),
        (b"good\tbueno\nb\xffd\tmalo\n", &["bad.tsv", "line 2", "not UTF-8", "byte 12"]),
        (b"good\tbueno\n \tmalo\n", &["bad.tsv: row 2", "without words"]),
        (b"good\tbueno\n", &["bad.tsv", "too few pairs"]),
    ] {
        fs::write(dir.join("bad.tsv"), text).unwrap();
        refused(dir, "train translate --data bad.tsv --out run", parts);
    }
    pairs(&dir.join("good.tsv"), 20);
    fs::write(dir.join("empty.tsv"), "").unwrap();
    let line = |rest: &str| format!("train translate --data good.tsv {rest} --out run");
    refused(dir, &line("--valid empty.tsv"), &["empty.tsv", "empty"]);
    refused(dir, &line("--test missing.tsv"), &["missing.tsv"]);
    refused(dir, &line("--positions 3"), &["at most 3 tokens", "--positions"]);
    refused(dir, &line("--vocab 10"), &["10"]);
    refused(dir, &line("--heads 3 --width 32"), &["3 heads"]);
    refused(dir, &line("--layers 0"), &["--layers 0"]);
    refused(dir, &line("--dropout 2"), &["dropout"]);
    refused(dir, &line("--batch 0"), &["--batch 0"]);
    refused(dir, "train translate --valid good.tsv --out run", &["--data"]);
    refused(dir, "train translate --data missing.tsv --out run", &["missing.tsv"]);
}
