//! `train points` and what is done with its run, and what all runs have in common.

use std::fs;
use std::process::Stdio;

use crate::helpers::*;

#[test]
fn a_run_from_training_to_prediction() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let out = good(dir, "train points --set xor --points 100 --hidden 16 --epochs 3 --out one");
    assert_whole(&dir.join("one"), &["curves", "confusion", "gradient_flow", "boundary"]);
    assert!(out.contains("354 parameters, 100 training and 100 test samples"), "{out}");
    let history = metrics(&dir.join("one"));
    assert_eq!(of_kind(&history, "step").len(), 3 * 7); // 100 points in batches of 16
    let flow = of_kind(&history, "flow");
    assert_eq!(flow.iter().map(|f| f["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 10, 20]);
    assert_eq!(flow[0]["layers"].as_array().unwrap().len(), 3);

    let epochs = of_kind(&history, "epoch");
    let (accuracy, loss) =
        (epochs[2]["test_accuracy"].as_f64().unwrap() * 100.0, epochs[2]["test_loss"].as_f64().unwrap());
    assert!(out.contains(&format!("test accuracy {accuracy:.2}% after")), "{out}");
    let measured = good(dir, "eval one");
    assert!(measured.contains(&format!("test loss {loss:.4}, accuracy {accuracy:.2}%")), "{accuracy}: {measured}");

    let found = distributions(&good(dir, "predict one 0.25,0.25 0.25,0.75"));
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|p| p.len() == 2 && (p["0"] + p["1"] - 100.0).abs() < 0.02), "{found:?}");
    assert_ne!(found[0], found[1]);
}

#[test]
fn every_set_can_be_learned() {
    let dir = tempfile::tempdir().unwrap();
    for set in ["simple", "diag", "split", "xor", "circle", "spiral"] {
        let out = good(dir.path(), &format!("train points --set {set} --points 8 --hidden 2 --epochs 1 --out {set}"));
        assert!(out.contains("test accuracy"), "{out}");
        let svg = fs::read_to_string(dir.path().join(set).join("boundary.svg")).unwrap();
        assert!(svg.contains(set), "the picture does not name {set}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Wide enough for the products to be split.
    let train = "train points --set circle --points 128 --batch 64 --hidden 256 --epochs 2";
    good(dir, &format!("{train} --threads 1 --out one"));
    for threads in [2, 3] {
        good(dir, &format!("{train} --threads {threads} --out {threads}"));
        assert_same_run(&dir.join("one"), &dir.join(threads.to_string()));
    }
    good(dir, &format!("{train} --seed 7 --out seven"));
    let first_loss = |run: &str| of_kind(&metrics(&dir.join(run)), "step")[0]["loss"].as_f64().unwrap();
    assert_ne!(first_loss("one"), first_loss("seven"));
}

#[test]
fn runs_are_numbered() {
    let dir = tempfile::tempdir().unwrap();
    for i in 1..3 {
        let out = good(dir.path(), "train points --points 4 --hidden 2 --epochs 1");
        assert!(out.contains(&format!("runs/points-{i}\n")), "{out}");
    }
    assert_eq!(names(&dir.path().join("runs")), ["points-1", "points-2"]);
}

/// `| head` closes the pipe while there is more to say.
#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, "train points --points 4 --hidden 2 --epochs 1 --out one");
    for line in ["eval one", "predict one 0,0", "inspect one/model.safetensors", "train points --resume one"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = Said::from(command(dir, line).stdout(writer).stderr(Stdio::piped()).output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{line}");
    }
}
