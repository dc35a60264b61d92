//! Programs of tensor operations against plain numbers: the interpreter of an ordinary test (tests/programs.rs).
#![no_main]

#[path = "../../crates/rushlight/tests/common/mod.rs"]
mod common;
#[path = "../../crates/rushlight/tests/common/programs.rs"]
mod interpreter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| interpreter::check_bytes(data));
