//! Random programs of tensor operations on random layouts, against numbers that know their derivatives.

mod common;
#[path = "common/programs.rs"]
mod interpreter;

use interpreter::{OPERATIONS, check, check_bytes};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn programs_give_the_values_and_gradients_of_plain_numbers(
        seed in any::<u64>(),
        program in prop::collection::vec((0..OPERATIONS, 0usize..8, 0usize..8, 0usize..6, 0usize..6), 1..14),
    ) {
        check(seed, &program);
    }
}

/// The seeds of the fuzz target `programs`, and what it has found.
#[test]
fn the_fuzzers_programs() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/programs");
    let files: Vec<_> = std::fs::read_dir(seeds).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        check_bytes(&std::fs::read(file).unwrap());
    }
}
