#![no_main]

// The crate behind this reader panics on some files, which the reader catches: libFuzzer's hook would end the program
// before that. A panic that is not caught still ends it.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |data: &[u8]| rushlight_fuzz::tokenizer(data));
