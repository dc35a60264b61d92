//! Files that NumPy, PyTorch, safetensors and gguf wrote (`reference/formats.py`), and those that we write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rushlight::io::*;
use rushlight::nn::StateDict;
use rushlight::quant::{QTensor, QuantKind};
use rushlight::{DType, Tensor, bf16, f16};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/formats").join(name)
}

fn open(name: &str) -> TensorFile {
    TensorFile::open(reference(name)).unwrap_or_else(|e| panic!("{e}"))
}

/// What a file of another library says against being read.
fn refused(name: &str) -> String {
    match TensorFile::open(reference(name)) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("{name} was read"),
    }
}

/// The numbers of `formats.py` in an element type of this name, and the dtype that it is read as.
fn expected(name: &str) -> (DType, Vec<f64>) {
    let name = name.rsplit(['_', '.']).next().unwrap();
    let dtype = match name {
        "f4" | "float32" => DType::F32,
        "f8" | "float64" => DType::F64,
        "f2" | "float16" => DType::F16,
        "bf16" | "bfloat16" => DType::BF16,
        "u1" | "uint8" => DType::U8,
        "b1" | "bool" => DType::Bool,
        _ => DType::I64,
    };
    let values = match name.as_bytes()[0] {
        b'b' if dtype == DType::Bool => [1.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        b'f' | b'b' => [0.5, -1.0, 2.0, 3.0, 100.0, -0.25],
        b'u' => [0.0, 1.0, 2.0, 3.0, 100.0, 7.0],
        _ => [0.0, -1.0, 2.0, 3.0, 100.0, -7.0],
    };
    (dtype, values.to_vec())
}

/// Whether a tensor is the [2, 3] one that its name asks for.
fn check(name: &str, t: &Tensor) {
    let (dtype, values) = expected(name);
    assert_eq!((t.dtype(), t.dims()), (dtype, &[2, 3][..]), "{name}");
    assert_eq!(t.to_f64_vec().unwrap(), values, "{name}");
}

fn count(n: usize) -> Vec<f64> {
    (0..n).map(|i| i as f64).collect()
}

#[test]
fn numpy_arrays() {
    let file = open("stored.npz");
    assert_eq!((file.format(), file.infos().len()), (Format::Npz, 13));
    for (name, t) in file.load().unwrap() {
        match &name[..] {
            "nested/scalar" => assert_eq!((t.dims(), t.to_vec::<f32>().unwrap()), (&[][..], vec![1.5])),
            "empty" => assert_eq!((t.dims(), t.dtype()), (&[3, 0, 2][..], DType::F32)),
            _ => check(&name, &t),
        }
    }
    assert_eq!(file.info("i2").map(|i| (i.stored, i.bytes)), Some((Stored::I16, 12)));
    let file = open("deflated.npz");
    assert_eq!(file.infos().len(), 23);
    for (name, t) in load_npz(reference("deflated.npz")).unwrap() {
        match &name[..] {
            "cube" => assert_eq!((t.dims(), t.to_f64_vec().unwrap()), (&[2, 3, 4][..], count(24))),
            _ => check(&name, &t),
        }
        assert_eq!(file.tensor(&name).unwrap().to_f64_vec().unwrap(), t.to_f64_vec().unwrap());
    }
    check("f4", &load_npy(reference("plain.npy")).unwrap());
    check("f8", &load_npy(reference("fortran_big.npy")).unwrap());
    check("i8", &load_npy(reference("version2.npy")).unwrap());
    check("i8", &open("version3.npy").tensor("array").unwrap());
    let error = refused("object.npy");
    assert!(error.contains("\"|O\" are not read") && error.contains("(at byte 20)"), "{error}");
    let error = refused("structured.npy");
    assert!(error.contains("structured arrays are not read"), "{error}");
    let error = open("stored.npz").tensor("absent").unwrap_err().to_string();
    assert!(error.contains("stored.npz holds no tensor \"absent\""), "{error}");
}

#[test]
fn safetensors_and_shards() {
    let file = open("model.safetensors");
    assert_eq!(file.value("ü").and_then(Value::as_str), Some("\n"));
    let (copied, metadata) = load_safetensors(reference("model.safetensors")).unwrap();
    assert_eq!(metadata["format"], "pt");
    for (name, t) in file.load().unwrap() {
        match &name[..] {
            "scalar" => assert_eq!((t.dims(), t.to_vec::<f32>().unwrap()), (&[][..], vec![1.5])),
            "empty" => assert_eq!(t.dims(), [3, 0, 2]),
            _ => check(&name, &t),
        }
        assert_eq!(copied[&name].to_f64_vec().unwrap(), t.to_f64_vec().unwrap());
    }
    for place in ["sharded", "sharded/model.safetensors.index.json"] {
        let file = open(place);
        assert_eq!((file.format(), file.infos().len()), (Format::Sharded, 3));
        check("float32", &file.tensor("a").unwrap());
        check("int64", &file.tensor("b").unwrap());
        check("bfloat16", &file.tensor("c").unwrap());
        assert_eq!(file.value("total_size"), Some(&Value::I64(84)));
        assert_eq!(file.value("format").and_then(Value::as_str), Some("pt"));
    }
}

#[test]
fn torch_state_dicts() {
    for name in ["checkpoint.pt", "legacy.pt"] {
        let file = open(name);
        assert_eq!(file.format(), Format::Torch);
        for state in [file.load().unwrap(), load_torch(reference(name)).unwrap()] {
            assert_eq!(state.len(), 19, "{name}");
            for (name, t) in &state {
                let numbers = t.to_f64_vec().unwrap();
                match name.strip_prefix("model.").unwrap_or(name) {
                    "base" => assert_eq!((t.dims(), numbers), (&[4, 6][..], count(24))),
                    "turned" => assert_eq!((t.dims(), &numbers[..5]), (&[6, 4][..], &[0.0, 6.0, 12.0, 18.0, 1.0][..])),
                    "column" => {
                        assert_eq!((t.dims(), numbers), (&[3, 2][..], vec![8.0, 11.0, 14.0, 17.0, 20.0, 23.0]));
                    }
                    "expanded" => assert_eq!((t.dims(), numbers), (&[2, 3][..], vec![0.0; 6])),
                    "empty" => assert_eq!(t.dims(), [3, 0, 2]),
                    "scalar" => assert_eq!((t.dims(), numbers), (&[][..], vec![1.5])),
                    "weight" => check("float32", t),
                    "layers.0.w" => check("float64", t),
                    "layers.1.w" => check("int32", t),
                    dtype => check(dtype, t),
                }
            }
            for view in ["turned", "column", "expanded"] {
                assert!(state["model.base"].shares_storage(&state[&format!("model.{view}")]), "{name}: {view}");
            }
            assert_eq!(state["model.turned"].strides(), [1, 6]);
        }
        let value = |key: &str| file.value(key).unwrap().clone();
        assert_eq!((value("step"), value("lr"), value("done")), (3i64.into(), 0.5.into(), false.into()));
        assert_eq!((value("name"), value("big"), value("dtype")), ("ü".into(), (1i64 << 40).into(), "f16".into()));
        assert_eq!((value("betas"), value("7")), (vec![0.5, 0.25].into(), vec![1i64, 2, 3].into()));
        assert!(file.value("none").is_none());
    }
    for (name, t) in load_torch(reference("unsigned.pt")).unwrap() {
        check(&name, &t);
    }
    let state = load_torch(reference("module.pt")).unwrap();
    check("float32", &state["0.weight"]);
    assert_eq!(state["1.num_batches_tracked"].dtype(), DType::I64);
    check("float32", &load_torch(reference("bare.pt")).unwrap()["tensor"]);
    let error = refused("whole_module.pt");
    assert!(error.contains("it names \"torch.nn.modules.container.Sequential\""), "{error}");
    assert!(error.contains("whole_module.pt: pickle: ") && error.contains("(at byte "), "{error}");
}

#[test]
fn gguf_values_and_tensors() {
    let file = open("values.gguf");
    let value = |key: &str| file.value(&format!("a.{key}")).unwrap_or_else(|| panic!("{key}")).clone();
    assert_eq!((value("uint8"), value("int8"), value("uint16")), (200u8.into(), (-100i8).into(), 60000u16.into()));
    assert_eq!(
        (value("int16"), value("uint32"), value("int32")),
        ((-30000i16).into(), (1u32 << 31).into(), i32::MIN.into())
    );
    assert_eq!((value("uint64"), value("int64")), ((1u64 << 63).into(), i64::MIN.into()));
    assert_eq!((value("float32"), value("float64"), value("bool")), (0.5f32.into(), 0.1f64.into(), true.into()));
    assert_eq!(value("string"), "ü\n".into());
    assert_eq!(value("words").as_strings().unwrap(), ["one", "zwei", "três"]);
    assert_eq!(value("numbers"), vec![1i32, -2, 3].into());
    assert_eq!(value("floats"), vec![0.5f32, -1.5].into());
    assert_eq!(value("truths"), vec![true, false].into());
    assert_eq!(value("lists"), Value::Array(Array::Array(vec![Array::I32(vec![1, 2]), Array::I32(vec![3])])));
    for (name, t) in file.load().unwrap() {
        match &name[..] {
            "matrix" => assert_eq!((t.dims(), t.to_f64_vec().unwrap()), (&[2, 3, 4][..], count(24))),
            _ => check(&name, &t),
        }
    }
    assert_eq!(file.infos()[0].name, "f2");
}

/// Blocks of random bits of every kind, decoded to the bit as gguf's own reader does.
#[test]
fn quantised_blocks() {
    let file = open("quants.gguf");
    for kind in QuantKind::ALL {
        let Weight::Quant(q) = file.weight(kind.name()).unwrap() else { panic!("{kind} came dequantised") };
        assert_eq!((q.kind(), q.dims(), q.numel()), (kind, &[1, 256][..], 256));
        assert_eq!(q.bytes().len(), 256 / kind.block_len() * kind.block_size());
        let expected = file.tensor(&format!("{kind}.expected")).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(q.dequantize().unwrap().to_vec::<f32>().unwrap(), expected, "{kind}");
    }
    let x = file.tensor("x").unwrap();
    for kind in [QuantKind::Q8_0, QuantKind::Q4_0, QuantKind::Q4_1] {
        let Weight::Quant(theirs) = file.weight(&format!("x.{kind}")).unwrap() else { panic!("{kind}") };
        let ours = QTensor::quantize(&x, kind).unwrap();
        assert_eq!(ours.bytes(), theirs.bytes(), "{kind}");
    }
}

#[test]
fn what_cannot_be_quantised() {
    let error = |x: Tensor, kind| QTensor::quantize(&x, kind).unwrap_err().to_string();
    let ones = |dims: &[usize]| Tensor::ones(dims, DType::F32).unwrap();
    assert!(error(ones(&[2, 33]), QuantKind::Q8_0).contains("multiple of 32 numbers, got shape [2, 33]"));
    assert!(error(ones(&[]), QuantKind::Q8_0).contains("got shape []"));
    assert!(error(ones(&[256]), QuantKind::Q4_K).contains("q4_k is only read"));
    assert!(error(Tensor::zeros([32], DType::I64).unwrap(), QuantKind::Q8_0).contains("expected a float"));
    let mut x = vec![0.0f32; 32];
    for bad in [f32::NAN, f32::INFINITY, -1e7] {
        x[5] = bad;
        let error = error(Tensor::new(&x).unwrap(), QuantKind::Q8_0);
        assert!(error.contains(&format!("element 5 is {bad}")), "{error}");
    }
    assert!(
        QTensor::new(QuantKind::Q4_0, [2, 32], vec![0; 35]).unwrap_err().to_string().contains("takes 36 bytes, got 35")
    );
    let empty = QTensor::quantize(&ones(&[0, 32]), QuantKind::Q4_1).unwrap();
    assert_eq!(empty.dequantize().unwrap().dims(), [0, 32]);
}

/// A tensor of each dtype, plain, turned, scalar and empty.
fn state() -> StateDict {
    let mut state = StateDict::new();
    for dtype in DType::ALL {
        let x = Tensor::new([[0.0, 1.0, 2.5], [7.0, 100.0, 0.1]]).unwrap().to_dtype(dtype).unwrap();
        state.insert(format!("{dtype}.matrix"), x.clone());
        state.insert(format!("{dtype}.turned"), x.t().unwrap());
        state.insert(format!("{dtype}/scalar ü"), Tensor::full((), 1.0, dtype).unwrap());
        state.insert(format!("{dtype}.empty"), Tensor::zeros([3, 0, 2], dtype).unwrap());
    }
    state.insert("long".to_string(), Tensor::arange(0.0, 40_000.0, 1.0, DType::I64).unwrap());
    state
}

fn assert_same(a: &StateDict, b: &StateDict) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, t) in a {
        assert_eq!((t.dtype(), t.shape()), (b[name].dtype(), b[name].shape()), "{name}");
        assert_eq!(t.to_f64_vec().unwrap(), b[name].to_f64_vec().unwrap(), "{name}");
    }
}

#[test]
fn what_is_written_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (all, mut state) = (state(), state());
    save_safetensors(path("a.safetensors"), &all, &BTreeMap::new()).unwrap();
    assert_same(&TensorFile::open(path("a.safetensors")).unwrap().load().unwrap(), &all);

    state.retain(|name, _| !name.starts_with("bf16"));
    save_npz(path("a.npz"), &state).unwrap();
    assert_same(&load_npz(path("a.npz")).unwrap(), &state);
    let file = TensorFile::open(path("a.npz")).unwrap();
    assert_same(&file.load().unwrap(), &state);
    for (name, t) in &state {
        save_npy(path("a.npy"), t).unwrap();
        let back = load_npy(path("a.npy")).unwrap();
        assert_same(&StateDict::from([(name.clone(), back)]), &StateDict::from([(name.clone(), t.clone())]));
    }
    let error = save_npz(path("b.npz"), &all).unwrap_err().to_string();
    assert!(error.contains("tensor \"bf16.empty\" is kept as bf16, which NumPy has not"), "{error}");

    let mut state = all.clone();
    state.retain(|name, _| !name.starts_with("u8") && !name.starts_with("bool"));
    let mut weights: BTreeMap<String, Weight> = state.iter().map(|(k, t)| (k.clone(), t.clone().into())).collect();
    save_gguf(path("a.gguf"), &weights, &[]).unwrap();
    assert_same(&TensorFile::open(path("a.gguf")).unwrap().load().unwrap(), &state);
    weights.insert("mask".to_string(), all["bool.matrix"].clone().into());
    let error = save_gguf(path("b.gguf"), &weights, &[]).unwrap_err().to_string();
    assert!(error.contains("tensor \"mask\" is kept as bool, which GGUF has not"), "{error}");
    assert!(!path("b.gguf").exists() && !path("b.npz").exists());
}

#[test]
fn gguf_metadata_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let (values, quants) = (open("values.gguf"), open("quants.gguf"));
    let mut metadata = values.metadata().to_vec();
    metadata.push(("general.alignment".to_string(), 64u32.into()));
    let weights = quants.infos().iter().map(|i| (i.name.clone(), quants.weight(&i.name).unwrap())).collect();
    save_gguf(&path, &weights, &metadata).unwrap();
    let back = TensorFile::open(&path).unwrap();
    assert_eq!(back.metadata(), metadata);
    for info in quants.infos() {
        assert_eq!(back.info(&info.name), Some(info));
        let (Weight::Quant(a), Weight::Quant(b)) = (&weights[&info.name], back.weight(&info.name).unwrap()) else {
            continue;
        };
        assert_eq!(a.bytes(), b.bytes(), "{}", info.name);
    }
}

#[test]
fn conversions() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let quants = open("quants.gguf");
    // Blocks are kept in GGUF, and become f32 elsewhere.
    convert(&quants, path("same.gguf"), ConvertTo::Same).unwrap();
    let back = TensorFile::open(path("same.gguf")).unwrap();
    assert_eq!((back.infos(), back.metadata()), (quants.infos(), quants.metadata()));
    for name in ["q.safetensors", "q.npz"] {
        let done = convert(&quants, path(name), ConvertTo::Same).unwrap();
        assert_eq!(done.tensors, quants.infos().len());
        assert_same(&TensorFile::open(path(name)).unwrap().load().unwrap(), &quants.load().unwrap());
    }
    // A state dict with its numbers, to safetensors and on.
    let torch = open("checkpoint.pt");
    convert(&torch, path("t.safetensors"), ConvertTo::Same).unwrap();
    let file = TensorFile::open(path("t.safetensors")).unwrap();
    assert_same(&file.load().unwrap(), &torch.load().unwrap());
    assert_eq!(file.value("betas").and_then(Value::as_str), Some("[0.5,0.25]"));
    let error = convert(&torch, path("t.gguf"), ConvertTo::Same).unwrap_err().to_string();
    assert!(error.contains("tensor \"model.uint8\" is kept as u8, which GGUF has not"), "{error}");
    let error = convert(&torch, path("t.npz"), ConvertTo::Same).unwrap_err().to_string();
    assert!(error.contains("tensor \"model.bfloat16\" is kept as bf16"), "{error}");
    convert(&torch, path("t.npz"), ConvertTo::Float(DType::F32)).unwrap();
    let t = load_npz(path("t.npz")).unwrap();
    assert_eq!((t["model.bfloat16"].dtype(), t["model.int8"].dtype()), (DType::F32, DType::I64));
    // Narrower floats; in GGUF, what has one dim stays f32.
    let x = Tensor::new([[0.1f32; 32], [f32::NAN; 32]]).unwrap();
    let tensors =
        StateDict::from([("x".to_string(), x), ("norm".to_string(), Tensor::ones([32], DType::F32).unwrap())]);
    save_safetensors(path("x.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    let x = TensorFile::open(path("x.safetensors")).unwrap();
    let done = convert(&x, path("x.gguf"), ConvertTo::Float(DType::BF16)).unwrap();
    assert_eq!(done.not_finite, [("x".to_string(), 32)]);
    let y = TensorFile::open(path("x.gguf")).unwrap();
    assert_eq!(y.tensor("x").unwrap().to_vec::<bf16>().unwrap()[0], bf16::from_f32(0.1));
    assert_eq!(y.tensor("norm").unwrap().dtype(), DType::F32);
    convert(&x, path("y.safetensors"), ConvertTo::Float(DType::F16)).unwrap();
    let y = TensorFile::open(path("y.safetensors")).unwrap();
    assert_eq!(y.tensor("norm").unwrap().to_vec::<f16>().unwrap()[0], f16::ONE);
    let error = convert(&x, path("z.gguf"), ConvertTo::Quant(QuantKind::Q8_0)).unwrap_err().to_string();
    assert!(error.contains("tensor \"x\": quantize: element 32 is NaN"), "{error}");
    let error = convert(&x, path("z.npy"), ConvertTo::Same).unwrap_err().to_string();
    assert!(error.contains("holds one tensor") && error.contains("has 2"), "{error}");
    let error = convert(&x, path("z.bin"), ConvertTo::Same).unwrap_err().to_string();
    assert!(error.contains("z.bin must end in .safetensors, .gguf"), "{error}");
    let error = convert(&x, path("z.npz"), ConvertTo::Quant(QuantKind::Q8_0)).unwrap_err().to_string();
    assert!(error.contains("only .gguf holds q8_0"), "{error}");
    convert(&open("plain.npy"), path("one.npy"), ConvertTo::Same).unwrap();
    check("f4", &load_npy(path("one.npy")).unwrap());
    assert_eq!(std::fs::read(path("one.npy")).unwrap().len(), 128 + 24);
    assert!(!path("z.gguf").exists() && !path("z.npy").exists());
}

#[test]
fn shards_are_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let names = |folder: &str| {
        let entry = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        let mut all: Vec<String> = std::fs::read_dir(path(folder)).unwrap().map(entry).collect();
        all.sort();
        all
    };
    let about = BTreeMap::from([("step".to_string(), "7".to_string())]);
    save_safetensors(path("a.safetensors"), &state(), &about).unwrap();
    let a = TensorFile::open(path("a.safetensors")).unwrap();
    for (size, folder) in [(1u64, "ones"), (200, "some"), (u64::MAX, "all")] {
        let done = convert_sharded(&a, path(folder), ConvertTo::Same, size).unwrap();
        assert_eq!(done.tensors, a.infos().len());
        let shards = names(folder).len() - 1;
        assert!(names(folder).contains(&format!("model-00001-of-{shards:05}.safetensors")), "{:?}", names(folder));
        let back = TensorFile::open(path(folder)).unwrap();
        assert_same(&back.load().unwrap(), &state());
        assert_eq!(back.value("step").and_then(Value::as_str), Some("7"));
        assert_eq!(back.value("total_size").and_then(Value::as_i64), Some(done.bytes as i64));
        for shard in names(folder).iter().filter(|name| name.ends_with(".safetensors")) {
            let shard = TensorFile::open(path(folder).join(shard)).unwrap();
            let bytes: Vec<u64> = shard.infos().iter().map(|i| i.bytes).filter(|n| *n > 0).collect();
            assert!(bytes.len() == 1 || bytes.iter().sum::<u64>() <= size, "{bytes:?}");
            assert_eq!(shard.value("format").and_then(Value::as_str), Some("pt"));
        }
    }
    assert_eq!(names("all").len(), 2);
    // The empty ones share a file with others.
    assert!(names("ones").len() < a.infos().len() && names("some").len() > 3);
    // Blocks become f32, and dtypes what is asked for.
    convert_sharded(&open("quants.gguf"), path("q"), ConvertTo::Float(DType::F16), 1 << 10).unwrap();
    assert!(TensorFile::open(path("q")).unwrap().infos().iter().all(|i| i.stored == Stored::Plain(DType::F16)));

    let refused = |folder: &str, to, size, part: &str| {
        let error = convert_sharded(&a, path(folder), to, size).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let before = names("some");
    refused("some", ConvertTo::Same, 100, "holds model");
    assert_eq!(names("some"), before);
    refused("new", ConvertTo::Same, 0, "0 bytes");
    refused("new", ConvertTo::Quant(QuantKind::Q8_0), 9, "only .gguf holds q8_0");
    refused("a.safetensors", ConvertTo::Same, 9, "a.safetensors");
    assert!(!path("new").exists());
}

/// What a failed write leaves is nothing: a tensor that cannot be read comes last.
#[test]
fn shards_that_cannot_be_written_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.npz");
    let state = StateDict::from(["a", "b"].map(|n| (n.to_string(), Tensor::ones([64], DType::F32).unwrap())));
    save_npz(&file, &state).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(5).rposition(|w| w == b"b.npy").unwrap();
    let data = bytes[..at].windows(4).rposition(|w| w == 1f32.to_le_bytes()).unwrap();
    bytes[data] ^= 1; // the checksum of b no longer fits
    std::fs::write(&file, bytes).unwrap();
    let folder = dir.path().join("shards");
    let error = convert_sharded(&TensorFile::open(&file).unwrap(), &folder, ConvertTo::Same, 256).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert!(!folder.exists());
}

/// Tensors in use outlive the name of their file.
#[cfg(unix)]
#[test]
fn a_file_may_be_replaced_while_its_tensors_live() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let save = |x: f32| {
        let state = StateDict::from([("x".to_string(), Tensor::full([1000], x as f64, DType::F32).unwrap())]);
        save_safetensors(&path, &state, &BTreeMap::new()).unwrap();
    };
    save(1.0);
    let file = TensorFile::open(&path).unwrap();
    let x = file.tensor("x").unwrap();
    save(2.0);
    convert(&file, &path, ConvertTo::Float(DType::F64)).unwrap();
    assert!(x.to_vec::<f32>().unwrap().iter().all(|x| *x == 1.0));
    assert!(file.tensor("x").unwrap().to_vec::<f32>().unwrap().iter().all(|x| *x == 1.0));
    assert_eq!(TensorFile::open(&path).unwrap().tensor("x").unwrap().to_vec::<f64>().unwrap(), vec![1.0; 1000]);
}
