//! `train images` and what is done with its run.

use std::fs;
use std::path::Path;

use crate::helpers::*;

const TRAIN: &str = "train images --data data --epochs 2 --batch 8 --lr 0.01";

fn write_png(path: &Path, color: png::ColorType, pixels: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 8, 8);
    encoder.set_color(color);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
}

#[test]
fn a_run_from_training_to_prediction() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    image_folder(&dir.join("data"), 40, 20, "");
    let out = good(dir, &format!("{TRAIN} --out one --threads 2"));

    assert_whole(&dir.join("one"), &["curves", "confusion", "gradient_flow", "features"]);
    assert!(out.contains("40 training and 20 test samples, 2 threads"), "{out}");
    assert!(out.contains("model, history and pictures are in one"), "{out}");
    let mut right = 0.0;
    for class in ["top", "upper", "lower", "bottom"] {
        let row = out.lines().find(|l| l.starts_with(&format!("{class} "))).unwrap_or_else(|| panic!("{out}"));
        let numbers: Vec<f64> = row.split_whitespace().skip(1).map(|v| v.parse().unwrap()).collect();
        assert!(numbers.len() == 4 && numbers[..3].iter().all(|v| (0.0..=1.0).contains(v)), "{row}");
        assert_eq!(numbers[3], 5.0, "{row}");
        right += numbers[1] * numbers[3]; // recall
    }
    let history = metrics(&dir.join("one"));
    let (steps, epochs) = (of_kind(&history, "step"), of_kind(&history, "epoch"));
    assert_eq!((steps.len(), epochs.len()), (10, 2));
    assert!(steps.iter().enumerate().all(|(i, s)| s["step"] == i && s["loss"].as_f64().unwrap() > 0.0));
    let accuracy = epochs[1]["test_accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.5, "it has not learned: {accuracy}");
    assert!(out.contains(&format!("test accuracy {:.2}% after", 100.0 * accuracy)), "{out}");
    assert!((right / 20.0 - accuracy).abs() < 1e-3, "{out}");

    let loss = epochs[1]["test_loss"].as_f64().unwrap();
    let measured = format!("test loss {loss:.4}, accuracy {:.2}%", 100.0 * accuracy);
    let out = good(dir, "eval one");
    assert!(out.contains(&measured), "{measured} is not in {out}");
    image_folder(&dir.join("other"), 4, 3, ".gz");
    let out = good(dir, "eval one --data other");
    assert!(out.lines().any(|l| l.starts_with("bottom ") && l.ends_with(" 0")), "{out}");

    predictions(dir, accuracy);

    let out = good(dir, "inspect one/model.safetensors");
    let row = |name: &str| {
        let line = out.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {out}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("conv2.weight"), "f32 [64, 32, 3, 3] 73728");
    assert_eq!(row("out.bias"), "f32 [4] 16");
    assert!(out.contains("8 tensors, 52228 elements, 208912 bytes"), "{out}");
    let out = good(dir, &format!("inspect data/{TRAIN_IMAGES}"));
    assert!(out.contains("shape [40, 8, 8], 2560 bytes"), "{out}");

    gz_and_one_thread_give_the_same(dir);
}

/// A distribution for each picture, the same whichever file it is in.
fn predictions(dir: &Path, accuracy: f64) {
    let out = good(dir, &format!("predict one data/{TEST_IMAGES} --limit 20"));
    let found = distributions(&out);
    assert_eq!(found.len(), 20);
    let mut right = 0;
    for (i, p) in found.iter().enumerate() {
        assert_eq!(p.len(), 4);
        assert!((p.values().sum::<f64>() - 100.0).abs() < 0.03, "{p:?}");
        let best = p.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        right += (best == ["top", "upper", "lower", "bottom"][i % 4]) as usize;
    }
    assert_eq!(right as f64 / 20.0, accuracy);
    let out = good(dir, &format!("predict one data/{TEST_IMAGES}"));
    assert_eq!(distributions(&out).len(), 10, "10 are shown unless told otherwise");

    let grey = picture(3);
    write_png(&dir.join("grey.png"), png::ColorType::Grayscale, &grey);
    let rgb: Vec<u8> = grey.iter().flat_map(|&v| [v, v, v]).collect();
    write_png(&dir.join("rgb.png"), png::ColorType::Rgb, &rgb);
    let out = good(dir, "predict one grey.png rgb.png");
    assert!(out.contains("grey.png\n") && out.contains("rgb.png\n"), "{out}");
    assert_eq!(distributions(&out), [found[3].clone(), found[3].clone()]);

    let paper: Vec<u8> = grey.iter().map(|v| 255 - v).collect();
    write_png(&dir.join("paper.png"), png::ColorType::Grayscale, &paper);
    let inverted = &distributions(&good(dir, "predict one paper.png --invert"))[0];
    assert!(inverted.iter().all(|(class, p)| (p - found[3][class]).abs() < 0.02), "{inverted:?}");
    assert_ne!(distributions(&good(dir, "predict one paper.png"))[0], found[3]);
}

/// Neither gzip nor the number of threads changes a bit; the seed does.
fn gz_and_one_thread_give_the_same(dir: &Path) {
    fs::remove_dir_all(dir.join("data")).unwrap();
    image_folder(&dir.join("data"), 40, 20, ".gz");
    assert!(names(&dir.join("data")).contains(&format!("{TRAIN_IMAGES}.gz")));
    good(dir, &format!("{TRAIN} --out two --threads 1"));
    assert_same_run(&dir.join("one"), &dir.join("two"));
    good(dir, "train images --data data --epochs 1 --batch 8 --lr 0.01 --seed 1 --out three");
    let first_loss = |run: &str| of_kind(&metrics(&dir.join(run)), "step")[0]["loss"].as_f64().unwrap();
    assert_ne!(first_loss("one"), first_loss("three"));
}
