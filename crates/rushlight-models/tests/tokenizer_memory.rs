//! A tokenizer that is gone leaves no memory behind. A program of its own: it looks at all that the process holds.
#![cfg(target_os = "linux")]

use rushlight_models::text::Tokenizer;

/// KiB of memory of this process.
fn held() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_tokenizer_leaves_nothing_in_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let text: String = (0..2000).map(|i| format!("w{i} ")).collect();
    Tokenizer::train_bpe([&text], 260, &[]).unwrap().save(&path).unwrap();
    let round = || Tokenizer::load(&path).unwrap().encode(&text).unwrap();
    (0..10).for_each(|_| _ = round());
    let before = held();
    (0..100).for_each(|_| _ = round());
    let grown = held().saturating_sub(before);
    // Each would leave 300 KiB with the cache of words that the library below has.
    assert!(grown < 4096, "100 tokenizers left {grown} KiB");
}
