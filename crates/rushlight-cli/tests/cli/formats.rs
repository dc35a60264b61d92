//! `inspect` and `convert`: files of other libraries, listed and brought from one format to another.

use std::fs;
use std::path::{Path, PathBuf};

use rushlight::io::{TensorFile, Value};

use crate::helpers::*;

/// The files that the library's tests read too.
fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rushlight/tests/reference/formats")
}

/// The columns of a tensor's row, after its name.
fn row(out: &str, name: &str) -> String {
    let line = out.lines().find(|l| l.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name} in {out}"));
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_format_is_listed() {
    let dir = reference();
    let out = good(&dir, "inspect values.gguf");
    assert_eq!(row(&out, "matrix"), "f32 [2, 3, 4] 96");
    assert!(out.contains("a.uint64: 9223372036854775808\n"), "{out}");
    assert!(out.contains("a.string: ü\u{fffd}\n") && out.contains("a.words: [\"one\", \"zwei\", \"três\"]\n"), "{out}");
    assert!(out.ends_with("GGUF: 9 tensors, 72 elements, 282 bytes\n"), "{out}");
    assert_eq!(row(&good(&dir, "inspect quants.gguf"), "q4_k"), "q4_k [1, 256] 144");
    assert_eq!(row(&good(&dir, "inspect deflated.npz"), "fortran_i2"), "i16 [2, 3] 12");
    assert_eq!(row(&good(&dir, "inspect plain.npy"), "array"), "f32 [2, 3] 24");
    let out = good(&dir, "inspect checkpoint.pt");
    assert_eq!(row(&out, "model.turned"), "f32 [6, 4] 96");
    assert!(out.contains("step: 3\n") && out.contains("PyTorch state dict: 19 tensors"), "{out}");
    assert_eq!(row(&good(&dir, "inspect model.safetensors"), "uint32"), "u32 [2, 3] 24");
    let out = good(&dir, "inspect sharded");
    assert_eq!((row(&out, "a"), row(&out, "c")), ("f32 [2, 3] 24".to_string(), "bf16 [2, 3] 12".to_string()));
    assert!(out.ends_with("index of shards: 3 tensors, 18 elements, 84 bytes\n"), "{out}");
    refused(&dir, "inspect whole_module.pt", &["whole_module.pt: pickle: it names", "nothing of it was run"]);
}

/// The content decides, not the name; long values are cut.
#[test]
fn names_do_not_matter_and_long_values_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::copy(reference().join("bare.pt"), dir.join("a.npz")).unwrap();
    assert_eq!(row(&good(dir, "inspect a.npz"), "tensor"), "f32 [2, 3] 24");
    let metadata = [
        ("text".to_string(), Value::from("ab\n".repeat(1000).as_str())),
        ("list".to_string(), Value::from((0..1000i32).collect::<Vec<_>>())),
    ];
    rushlight::io::save_gguf(dir.join("b.gguf"), &Default::default(), &metadata).unwrap();
    let out = good(dir, "inspect b.gguf");
    assert!(out.contains("b\u{fffd}a… (3000 characters)\n"), "{out}");
    assert!(out.contains("list: [0, 1, 2, 3, 4, 5, 6, 7, …] (1000 values)\n"), "{out}");
    assert!(out.ends_with("GGUF: 0 tensors, 0 elements, 0 bytes\n"), "{out}");
}

#[test]
fn around_the_formats() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::copy(reference().join("quants.gguf"), dir.join("a.gguf")).unwrap();
    let said = run(dir, "convert a.gguf b.npz");
    assert_eq!((said.code, &said.out[..13]), (Some(0), "b.npz: 20 ten"), "{}", said.err);
    assert!(said.err.contains("no place for metadata; 1 values were left out"), "{}", said.err);
    good(dir, "convert b.npz c.safetensors --dtype bf16");
    good(dir, "convert c.safetensors d.gguf --dtype q8_0");
    let [a, d] = ["a.gguf", "d.gguf"].map(|name| TensorFile::open(dir.join(name)).unwrap());
    assert_eq!(d.info("x").map(|i| (i.stored.name(), i.bytes)), Some(("q8_0", 8 * 34)));
    let [x, y] = [&a, &d].map(|file| file.tensor("x").unwrap().to_f64_vec().unwrap());
    let most = x.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < most / 100.0));
    // Onto itself, and a shape that has no blocks.
    good(dir, "convert d.gguf d.gguf --dtype f16");
    assert_eq!(row(&good(dir, "inspect d.gguf"), "x"), "f16 [4, 64] 512");
    good(dir, &format!("convert {} e.npy", reference().join("plain.npy").display()));
    refused(
        dir,
        "convert e.npy f.gguf --dtype q8_0",
        &["tensor \"array\" of shape [2, 3] has rows of no whole q8_0 blocks"],
    );
    refused(dir, "convert e.npy f.npz --dtype q8_0", &["only .gguf holds q8_0"]);
    refused(dir, "convert e.npy f.npy --dtype bf16", &["tensor \"array\" is kept as bf16, which NumPy has not"]);
    refused(dir, "convert a.gguf f.npy", &["a .npy holds one tensor, a.gguf has 20"]);
    refused(dir, "convert e.npy f.pt", &["f.pt must end in .safetensors, .gguf, .npz or .npy"]);
    refused(dir, "convert e.npy absent/f.npz", &["absent/f.npz: "]);
    refused(dir, "convert absent.npy f.npz", &["absent.npy: "]);
    let said = good(dir, "convert a.gguf shards --shard-size 4KB --dtype f16");
    assert!(said.starts_with("shards: 20 tensors"), "{said}");
    assert!(good(dir, "inspect shards").contains("index of shards: 20 tensors"));
    refused(dir, "convert a.gguf shards --shard-size 4KB", &["shards holds model"]);
    for size in ["0", "4XB", "MB", "99999999999GB"] {
        refused(dir, &format!("convert a.gguf f --shard-size {size}"), &["--shard-size", "such as 500MB"]);
    }
    refused(dir, "convert e.npy f.npz --dtype i8", &["--dtype", "f32, f16, bf16, q8_0"]);
}
