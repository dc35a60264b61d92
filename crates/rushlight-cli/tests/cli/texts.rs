//! `train sentiment` and `train gpt`, and what is done with their runs.

use std::fs;
use std::path::Path;

use crate::helpers::*;

/// `rows` sentences that one word decides.
pub fn labelled(path: &Path, rows: usize) {
    let subjects = ["the film", "this plot", "her voice", "dinner", "our room"];
    let row = |i: usize| {
        let (label, word) = if i.is_multiple_of(2) { (1, "wonderful") } else { (0, "awful") };
        format!("{label}\t{} was {word} , number {i}\n", subjects[i / 2 % 5])
    };
    fs::write(path, (0..rows).map(row).collect::<String>()).unwrap();
}

/// `lines` lines that differ by their number.
pub fn poem(path: &Path, lines: usize) {
    fs::write(path, (0..lines).map(|i| format!("{i} green bottles, hanging on the wall;\n")).collect::<String>())
        .unwrap();
}

#[test]
fn a_sentiment_from_training_to_the_words_that_counted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    labelled(&dir.join("data.tsv"), 80);
    for model in ["cnn", "attention"] {
        let out =
            good(dir, &format!("train sentiment --data data.tsv --model {model} --epochs 4 --batch 8 --out {model}"));
        assert!(out.contains("72 training and 8 test samples"), "{out}");
        assert!(out.contains("test accuracy 100.00%"), "{out}");
        assert_whole_with(&dir.join(model), &["curves", "confusion", "gradient_flow"], &["tokenizer.json"]);
        assert!(good(dir, &format!("eval {model}")).contains("accuracy 100.00%"));

        let mut predict = command(dir, &format!("predict {model}"));
        let said = Said::from(predict.args(["her <plot> was wonderful", "the film was awful"]).output().unwrap());
        let lines: Vec<&str> = said.out.lines().collect();
        assert!(lines[0].starts_with("positive ") && lines[2].starts_with("negative "), "{}{}", said.out, said.err);
        // The word that decides has the largest share.
        for (line, word) in [(lines[1], "wonderful"), (lines[3], "awful")] {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let share = |pair: &&[&str]| (pair[1].parse::<f64>().unwrap() * 1000.0) as i64;
            let most = parts.chunks(2).max_by_key(share).unwrap();
            assert_eq!(most[0], word, "{line}");
        }
        let page = fs::read_to_string(dir.join(model).join("words.html")).unwrap();
        assert!(page.contains("&lt;plot&gt;") && !page.contains("<plot>") && page.ends_with("</html>\n"), "{page}");
    }
}

#[test]
fn tables_that_cannot_be_learnt_from() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let check = |text: &[u8], parts: &[&str]| {
        fs::write(dir.join("bad.tsv"), text).unwrap();
        refused(dir, "train sentiment --data bad.tsv --out run", parts);
    };
    check(b"", &["bad.tsv", "empty"]);
    check(b"1\tgood\n0 bad\n", &["bad.tsv", "line 2", "1 field"]);
    check(b"1\tgood\n0\t\xff\n", &["bad.tsv", "not UTF-8", "byte 9"]);
    check(b"1\tgood\n1\tgreat\n", &["bad.tsv", "1 different labels"]);
    labelled(&dir.join("good.tsv"), 20);
    fs::write(dir.join("other.tsv"), "maybe\tso so\n").unwrap();
    refused(dir, "train sentiment --data good.tsv --test other.tsv --out run", &["other.tsv", "row 1", "'maybe'"]);
    refused(dir, "train sentiment --data missing.tsv --out run", &["missing.tsv"]);
}

#[test]
fn a_gpt_from_training_to_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    poem(&dir.join("poem.txt"), 100);
    for kind in ["char", "bpe"] {
        let options = "--data poem.txt --steps 4 --batch 4 --vocab 300 --layers 1 --heads 2 --width 16 --block 16";
        let out = good(dir, &format!("train gpt {options} --tokenizer {kind} --out {kind}"));
        assert!(out.contains("validation loss") && out.contains("it writes"), "{out}");
        assert_whole_with(&dir.join(kind), &["curves", "gradient_flow"], &["sample.txt", "tokenizer.json"]);
        assert_eq!(of_kind(&metrics(&dir.join(kind)), "step").len(), 4);
        let measured = good(dir, &format!("eval {kind}"));
        assert!(measured.contains("perplexity") && measured.contains("bits per byte"), "{measured}");

        // The same seed, the same text; the context of 16 is passed.
        let generate = format!("generate {kind} --prompt green -n 60");
        let text = good(dir, &generate);
        assert!(text.starts_with("green") && text.len() > 40, "{text}");
        assert_eq!(text, good(dir, &generate));
        assert_ne!(text, good(dir, &format!("{generate} --seed 1")));
        let greedy = good(dir, &format!("{generate} --temperature 0"));
        assert_eq!(greedy, good(dir, &format!("{generate} --top-k 1 --seed 2")));
    }
    let long = "a".repeat(17);
    refused(dir, &format!("generate char --prompt {long}"), &["17 tokens", "context is 16"]);
    refused(dir, "generate char --prompt ü", &["--prompt", "'ü'"]);
    refused(dir, "generate char --temperature -1", &["temperature -1"]);
    refused(dir, "generate char --top-p 0", &["top_p"]);
    refused(dir, "predict char text", &["rushlight generate char"]);
    // A tokenizer of another run.
    fs::copy(dir.join("bpe/tokenizer.json"), dir.join("char/tokenizer.json")).unwrap();
    refused(dir, "generate char", &["char/tokenizer.json", "do not belong together"]);
    fs::write(dir.join("char/tokenizer.json"), "{").unwrap();
    refused(dir, "generate char", &["char/tokenizer.json", "no tokenizer"]);
}

#[test]
fn pictures_of_what_a_gpt_looked_at_and_weighed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    poem(&dir.join("poem.txt"), 100);
    good(dir, "train gpt --data poem.txt --steps 4 --batch 4 --layers 2 --heads 3 --width 12 --block 24 --out run");
    let svg = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let count = |text: &str, part: &str| text.matches(part).count();
    let generate = "generate run --prompt green -n 12";

    // The pictures change nothing of the text.
    let text = good(dir, generate);
    assert_eq!(good(dir, &format!("{generate} --attention looked.svg --probs weighed")), text);
    let looked = svg("looked.svg");
    for label in ["layer 1, head 1", "layer 2, head 3", "What each token looked at", "each row is a token"] {
        assert!(looked.contains(label), "{label}");
    }
    assert!(!looked.contains("layer 3") && !looked.contains("head 4"));
    let weighed = svg("weighed.svg");
    // Twelve cards of six or seven bars, each with a percentage.
    assert!((72..=84).contains(&count(&weighed, "%")), "{}", count(&weighed, "%"));
    assert_eq!(names(dir), ["looked.png", "looked.svg", "poem.txt", "run", "weighed.png", "weighed.svg"]);

    // Past the context: the part that is in sight. The likeliest are among the six, and each is marked in name and bar.
    good(dir, "generate run --prompt green -n 40 --temperature 0 --attention looked.png --probs weighed.svg");
    assert!(svg("looked.svg").contains(" of 45 tokens"));
    let again = svg("weighed.svg");
    assert_eq!((count(&again, "%"), count(&again, "#CD661D")), (40 * 6, 40 * 2));
    good(dir, "generate run --prompt green -n 40 --top-k 1 --seed 3 --probs weighed.svg");
    assert_eq!(svg("weighed.svg"), again);

    for option in ["--attention", "--probs"] {
        refused(
            dir,
            &format!("{generate} {option} no/such/out.svg"),
            &[option, "no/such/out.svg", "a folder that is there"],
        );
    }
    refused(dir, "generate run -n 0 --probs out.svg", &["--probs draws 1 to 1000 tokens", "asks for 0"]);
    refused(dir, "generate run -n 1001 --probs out.svg", &["asks for 1001"]);
    refused(dir, "generate run --attention out --probs out", &["expected two files"]);
    // A folder is no file.
    fs::create_dir(dir.join("taken.svg")).unwrap();
    let said = run(dir, &format!("{generate} --attention taken.svg"));
    assert!(said.code == Some(1) && said.err.contains("taken.svg"), "{}", said.err);
}

#[test]
fn texts_that_cannot_be_learnt_from() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (text, parts) in [
        (&b""[..], ["bad.txt", "empty"]),
        (b"too short", ["bad.txt", "at least 65"]),
        (b"good\n\xff", ["bad.txt", "byte 5"]),
    ] {
        fs::write(dir.join("bad.txt"), text).unwrap();
        refused(dir, "train gpt --data bad.txt --out run", &parts);
    }
    poem(&dir.join("poem.txt"), 100);
    refused(dir, "train gpt --data poem.txt --steps 0 --out run", &["--steps 0", "1 or more"]);
    refused(dir, "train gpt --data poem.txt --heads 3 --out run", &["n_head must divide n_embd"]);
    refused(dir, "train gpt --data poem.txt --layers 0 --out run", &["n_layer 0"]);
    refused(dir, "train gpt --data poem.txt --batch 0 --out run", &["--batch 0"]);
    refused(dir, "train gpt --data poem.txt --tokenizer bpe --vocab 10 --out run", &["10"]);
}
