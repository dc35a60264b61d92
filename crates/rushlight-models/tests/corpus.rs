//! The committed seeds of the fuzz targets, and small changes to each, through the same functions: no panic, little time.

#[path = "../../../fuzz/readers.rs"]
mod readers;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rushlight::io::save_checked;
use rushlight::nn::{Linear, Module, StateDict};
use rushlight::optim::{AdamW, Optimizer};

/// Changes to each seed: a cut and a changed byte, this often.
const CHANGES: usize = 40;

fn replay(name: &str, read: fn(&[u8]), seed: &[u8]) {
    let begin = Instant::now();
    read(seed);
    let mut noise = 1u64;
    let mut below = |n: usize| {
        noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (noise >> 33) as usize % n.max(1)
    };
    for _ in 0..CHANGES {
        read(&seed[..below(seed.len())]);
        let mut changed = seed.to_vec();
        if let Some(byte) = (!seed.is_empty()).then(|| below(seed.len())) {
            changed[byte] = [0, 0x7f, 0x80, 0xff, b'0', changed[byte] ^ (1 << below(8))][below(6)];
        }
        read(&changed);
    }
    assert!(begin.elapsed() < Duration::from_secs(60), "{name}: {:?}", begin.elapsed());
}

#[test]
fn every_reader_bears_the_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, read) in readers::READERS {
        let mut files: Vec<_> = fs::read_dir(seeds.join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no seeds");
        for file in files {
            replay(&file.display().to_string(), read, &fs::read(&file).unwrap());
        }
    }
}

/// A whole checkpoint as the seed: the only kind whose checksum is right.
#[test]
fn the_checkpoint_reader_bears_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let model = Linear::new(2, 3).unwrap();
    let mut all = StateDict::new();
    all.extend(model.state_dict().into_iter().map(|(k, v)| (format!("model.{k}"), v)));
    let optimizer = Optimizer::new(AdamW::default()).state_dict().unwrap();
    all.extend(optimizer.into_iter().map(|(k, v)| (format!("optimizer.{k}"), v)));
    save_checked(&path, &all, &BTreeMap::from([("progress".to_string(), "{}".to_string())])).unwrap();
    let bytes = fs::read(&path).unwrap();
    replay("checkpoint", readers::checkpoint, &bytes);
    if let Ok(to) = std::env::var("RUSHLIGHT_KEEP_SEED") {
        fs::write(to, bytes).unwrap();
    }
}
