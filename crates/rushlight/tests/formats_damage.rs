//! Damaged and hostile files of every format: an error that says where, no panic, little time, little memory.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rushlight::io::{ConvertTo, TensorFile, convert_sharded, save_gguf, save_safetensors};
use rushlight::nn::StateDict;
use rushlight::quant::{QTensor, QuantKind};
use rushlight::{DType, Error, Tensor, memory};

/// Everything that a file holds, read.
fn read_all(path: &Path) -> Result<(), Error> {
    let file = TensorFile::open(path)?;
    for info in file.infos() {
        file.tensor(&info.name)?.to_f64_vec()?;
    }
    file.load().map(drop)
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What reading these bytes is refused with: within seconds, and naming the file.
    fn refused(&self, name: &str, bytes: &[u8], parts: &[&str]) {
        let path = self.put(name, bytes);
        let begin = Instant::now();
        let error = match read_all(&path) {
            Err(e) => e.to_string(),
            Ok(()) => panic!("{name} was read, which should say {parts:?}"),
        };
        assert!(begin.elapsed() < Duration::from_secs(5), "{error}: {:?}", begin.elapsed());
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        for part in parts {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    }
}

/// A file cut at every byte, and every byte changed.
fn damage(name: &str, whole: &[u8]) {
    let folder = Folder::new();
    let path = folder.put(name, whole);
    read_all(&path).unwrap();
    let begin = Instant::now();
    let load = |bytes: &[u8]| {
        // A new file: some file systems sync one that is written anew.
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        TensorFile::open(&path).and_then(|file| file.load())
    };
    for cut in 0..whole.len() {
        let error = load(&whole[..cut]).err().unwrap_or_else(|| panic!("{name} cut at {cut} was read"));
        assert!(matches!(error, Error::Format { .. }), "{name} cut at {cut}: {error}");
    }
    for at in 0..whole.len() {
        for mask in [0xff, 0x01] {
            let mut changed = whole.to_vec();
            changed[at] ^= mask;
            if let Err(error) = load(&changed) {
                let known = matches!(error, Error::Format { .. } | Error::OutOfMemory { .. });
                assert!(known, "{name} changed at {at}: {error}");
            }
        }
    }
    let each = begin.elapsed() / (3 * whole.len() as u32);
    assert!(each < Duration::from_millis(20), "{name}: {each:?} each");
    assert!(memory::stats().peak < 256 << 20, "{:?}", memory::stats());
}

/// [`damage`] to a file of another library's.
fn damage_reference(name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/formats").join(name);
    damage(name, &fs::read(source).unwrap());
}

#[test]
fn damaged_safetensors() {
    damage_reference("model.safetensors");
}

#[test]
fn damaged_npy() {
    damage_reference("fortran_big.npy");
    damage_reference("version3.npy");
}

#[test]
fn damaged_npz() {
    let arrays = [("a.npy", &npy(&f4("(2, 1)"), &[0; 8])[..]), ("b.npy", &npy(&f4("(0,)"), &[]))];
    damage("stored.npz", &zip(&arrays, false));
    damage("deflated.npz", &zip(&arrays, true));
}

#[test]
fn damaged_torch() {
    damage_reference("bare.pt");
}

#[test]
fn damaged_old_torch() {
    damage_reference("legacy.pt");
}

#[test]
fn damaged_gguf() {
    damage_reference("values.gguf");
    let folder = Folder::new();
    let path = folder.0.path().join("blocks.gguf");
    let w = Tensor::linspace(-1.0, 1.0, 32, DType::F32).unwrap();
    let block = |kind| QTensor::quantize(&w, kind).unwrap().into();
    let blocks = [QuantKind::Q8_0, QuantKind::Q4_0].map(|kind| (kind.name().to_string(), block(kind))).into();
    save_gguf(&path, &blocks, &[("list".to_string(), vec!["a".to_string()].into())]).unwrap();
    let mut bytes = fs::read(path).unwrap();
    // Without what the last 34 bytes are padded by, which nobody misses.
    bytes.truncate(bytes.len() - 30);
    damage("blocks.gguf", &bytes);
}

// ---- GGUF ----

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

/// A file of these values and tensors, of as many bytes of data.
fn gguf(values: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let counts = [tensors.len() as u64, values.len() as u64].map(u64::to_le_bytes).concat();
    let mut out = [b"GGUF\x03\0\0\0".to_vec(), counts, values.concat(), tensors.concat()].concat();
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

fn tensor(name: &str, dims: &[u64], kind: u32, place: u64) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
    let rank = (dims.len() as u32 / 8).to_le_bytes();
    [text(name), rank.to_vec(), dims, kind.to_le_bytes().to_vec(), place.to_le_bytes().to_vec()].concat()
}

fn value(key: &str, kind: u32, content: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), content].concat()
}

#[test]
fn hostile_gguf() {
    let f = Folder::new();
    let huge = 1u64 << 60;
    let refused = |bytes: &[u8], parts: &[&str]| f.refused("a.gguf", bytes, parts);
    refused(b"", &["the magic number takes 4 bytes, but only 0 are left (at byte 0)"]);
    refused(b"GGUF\x01\0\0\0", &["version 1; 2 and 3 are read (at byte 4)"]);
    refused(b"GGUF\0\0\0\x03", &["big-endian"]);
    let head =
        |tensors: u64, values: u64| [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &values.to_le_bytes()].concat();
    refused(&head(huge, 0), &["1152921504606846976 tensors; at most 1048576 are read (at byte 8)"]);
    refused(&head(1 << 20, 0), &["a tensor's name takes 8 bytes, but only 0 are left (at byte 24)"]);
    refused(&head(0, huge), &["a key takes 8 bytes"]);
    refused(&gguf(&[huge.to_le_bytes().to_vec()], &[], 0), &["a key takes 1152921504606846976 bytes"]);
    let list = |kind: u32| value("l", 9, &[&kind.to_le_bytes()[..], &huge.to_le_bytes()].concat());
    refused(&gguf(&[list(4)], &[], 0), &["value \"l\" takes 4611686018427387904 bytes"]);
    refused(&gguf(&[list(8)], &[], 0), &["value \"l\" takes"]);
    refused(&gguf(&[list(12)], &[], 64), &["value \"l\" takes"]);
    let nested: Vec<u8> = (0..1000).flat_map(|_| [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()).collect();
    refused(&gguf(&[value("l", 9, &nested)], &[], 0), &["more than 8 deep"]);
    refused(&gguf(&[value("v", 13, &[])], &[], 0), &["value \"v\" has type 13, not known (at byte 33)"]);
    refused(&gguf(&[value("v", 7, &[2])], &[], 0), &["value \"v\" is 2, neither 0 nor 1"]);
    refused(&gguf(&[value("v", 0, &[2]), value("v", 0, &[2])], &[], 0), &["two values are named \"v\""]);
    refused(
        &gguf(&[[2u64.to_le_bytes().as_slice(), b"\xff\xfe"].concat()], &[], 0),
        &["a key is not UTF-8 (at byte 32)"],
    );
    refused(&gguf(&[value("general.alignment", 4, &[0; 4])], &[], 0), &["general.alignment is 0"]);
    refused(&gguf(&[value("general.alignment", 4, &24u32.to_le_bytes())], &[], 0), &["general.alignment is 24"]);

    let one = |dims: &[u64], kind, place| gguf(&[], &[tensor("w", dims, kind, place)], 256);
    refused(&one(&[1; 5], 0, 0), &["tensor \"w\" has 5 dims"]);
    refused(&one(&[4], 99, 0), &["tensor \"w\" has type 99, not known"]);
    refused(&one(&[33], 8, 0), &["tensor \"w\" of shape [33] is no whole number of q8_0 blocks"]);
    refused(&one(&[], 8, 0), &["no whole number of q8_0 blocks"]);
    refused(&one(&[huge, huge], 0, 0), &["tensor \"w\" of shape"]);
    refused(&one(&[u64::MAX, 0], 0, 0), &["tensor \"w\" of shape"]);
    refused(&one(&[huge / 64], 0, 0), &["tensor \"w\" takes 72057594037927936 bytes from 0 on, but the data has 256"]);
    refused(&one(&[65], 0, 0), &["tensor \"w\" takes 260 bytes from 0 on"]);
    refused(&one(&[1], 0, 4), &["tensor \"w\" begins at 4, no multiple of 32"]);
    refused(&one(&[1], 0, 256), &["tensor \"w\" takes 4 bytes from 256 on"]);
    refused(&one(&[1], 0, u64::MAX - 31), &["tensor \"w\" takes 4 bytes"]);
    refused(&one(&[256], 10, 0), &["tensor \"w\" is kept as q2_k, which is not read"]);
    let two = |a: &str, b: &str, at| gguf(&[], &[tensor(a, &[16], 0, 0), tensor(b, &[16], 0, at)], 256);
    refused(&two("a", "b", 32), &["tensor \"b\" overlaps the one before it, which ends at 64"]);
    refused(&two("a", "a", 64), &["two tensors are named \"a\""]);
    read_all(&f.put("a.gguf", &two("a", "b", 64))).unwrap();
}

// ---- NumPy ----

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

fn f4(shape: &str) -> String {
    format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
}

#[test]
fn hostile_npy() {
    let f = Folder::new();
    let refused = |bytes: &[u8], parts: &[&str]| f.refused("a.npy", bytes, parts);
    read_all(&f.put("a.npy", &npy(&f4("(2, 1)"), &[0; 8]))).unwrap();
    refused(b"\x93NUMPY\x02\0\xff\xff\xff\xff{", &["a header of 4294967295 bytes; at most 65536 are read"]);
    refused(b"\x93NUMPY\x01\0\xff\xff{", &["the header takes 65535 bytes, but only 1 are left"]);
    refused(b"\x93NUMPY\x07\x01", &["version 7.1"]);
    refused(&npy(&f4("(3,)"), &[0; 8]), &["truncated: [3] of f32 takes 12 bytes, the file has 8"]);
    refused(&npy(&f4("(1,)"), &[0; 8]), &["bytes left over after the 4"]);
    refused(&npy(&f4("(1152921504606846976, 16)"), &[]), &["more than memory can address"]);
    refused(&npy(&f4("(1152921504606846976, 0)"), &[]), &["more than memory can address"]);
    refused(&npy(&f4("(99999999999999999999,)"), &[]), &["not a dict"]);
    refused(&npy(&f4(&format!("({})", "1, ".repeat(65))), &[0; 4]), &["more than memory can address"]);
    for shape in ["(3)", "3", "(-1,)", "(1.5,)", "[1]", "(1 2)", "(1,,2)", "(((1)))", "(", ""] {
        refused(&npy(&f4(shape), &[0; 12]), &["the header is not a dict of a plain descr"]);
    }
    for header in
        ["", "{", "{}", "{'shape': (1,)}", "{'descr': '<f4'", "{'descr: 1}", "{'a': 1}", "'descr'", "{\"\\\": 1}"]
    {
        refused(&npy(header, &[0; 4]), &["the header"]);
    }
    refused(&npy(&f4("(1,)").replace("<f4", "<f3"), &[0; 4]), &["elements of type \"<f3\" are not read"]);
    refused(&npy(&f4("(1,)").replace("<f4", "|V2"), &[0; 4]), &["\"|V2\""]);
    refused(&npy(&f4("(1,)").replace("<f4", "<u8"), &[0; 8]), &["is kept as u64, which is not read"]);
    refused(&npy(&f4("(1,)").replace("<f4", "|b1"), &[2]), &["a byte 2 that is no bool"]);
    refused(&npy(&f4("(1,)").replace("<f4", ""), &[2]), &["elements of type \"\""]);
    refused(&npy(&f4("(1,)").replace("<f4", "é4"), &[2]), &["elements of type"]);
}

/// A zip archive of members, each stored or deflated.
fn zip(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn hostile_npz() {
    let f = Folder::new();
    let refused = |bytes: &[u8], parts: &[&str]| f.refused("a.npz", bytes, parts);
    let array = npy(&f4("(2,)"), &[0; 8]);
    refused(b"PK\x03\x04", &["not a whole zip archive"]);
    refused(&zip(&[("a.txt", b"hello")], false), &["member \"a.txt\" is no .npy array"]);
    refused(&zip(&[("a.npy", b"hello")], true), &["the magic number takes 6 bytes"]);
    refused(
        &zip(&[("a.npy", &npy(&f4("(200000000,)"), &[0; 8]))], true),
        &["holds 8 bytes, where [200000000] of f32 takes"],
    );
    // Wrong contents under a right directory.
    let mut bytes = zip(&[("a.npy", &array)], false);
    let at = bytes.windows(array.len()).position(|w| w == array).unwrap();
    bytes[at + array.len() - 1] ^= 1;
    refused(&bytes, &["tensor \"a\" has a wrong checksum"]);
    // Two names that are one.
    let mut bytes = zip(&[("a.npy", &array), ("b.npy", &array)], false);
    for i in 0..bytes.len() {
        if bytes[i..].starts_with(b"b.npy") {
            bytes[i] = b'a';
        }
    }
    refused(&bytes, &["two members have one name"]);
    // 200 MB of zeros in 200 kB, and the same that claims to be more.
    let mut bomb = npy(&f4("(50000000,)"), &[]);
    bomb.resize(bomb.len() + 200_000_000, 0);
    let mut bytes = zip(&[("a.npy", &bomb)], true);
    drop(bomb);
    assert!(bytes.len() < 1 << 20);
    refused(&bytes, &["zip bomb"]);
    let directory = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[directory + 24..][..4].copy_from_slice(&0xf000_0000u32.to_le_bytes());
    refused(&bytes, &["zip bomb"]);
    bytes[directory + 24..][..4].copy_from_slice(&1000u32.to_le_bytes());
    refused(&bytes, &["holds 926 bytes, where [50000000] of f32 takes"]);
}

/// A deflated `a.npy` in an archive of 64-bit sizes, of which it claims what is given: as packed, unpacked, and members.
fn zip64(data: &[u8], packed: u64, unpacked: u64, members: u64) -> Vec<u8> {
    let sizes = |offset: &[u8]| {
        let numbers = [&unpacked.to_le_bytes()[..], &packed.to_le_bytes(), offset].concat();
        [&1u16.to_le_bytes()[..], &(numbers.len() as u16).to_le_bytes(), &numbers].concat()
    };
    // Version, flags, method, time, date; then no sum, sizes that stand elsewhere, and the lengths of name and extra.
    let fields = |extra: &[u8]| {
        let mut out = [45u16, 0, 8, 0, 0].map(u16::to_le_bytes).concat();
        out.extend([0; 4]);
        out.extend([0xff; 8]);
        out.extend([5u16, extra.len() as u16].map(u16::to_le_bytes).concat());
        out
    };
    let (local, central) = (sizes(&[]), sizes(&0u64.to_le_bytes()));
    let mut zip = [b"PK\x03\x04", &fields(&local)[..], b"a.npy", &local, data].concat();
    let directory = zip.len() as u64;
    // Made by; then no comment, disk 0, no attributes, and a place that stands elsewhere.
    zip.extend([b"PK\x01\x02\x2d\0", &fields(&central)[..], &[0; 10], &[0xff; 4], b"a.npy", &central].concat());
    let (length, end) = (zip.len() as u64 - directory, zip.len() as u64);
    zip.extend([b"PK\x06\x06", &44u64.to_le_bytes()[..], &[45, 0, 45, 0], &[0; 8]].concat());
    zip.extend([members, members, length, directory].map(u64::to_le_bytes).concat());
    zip.extend([b"PK\x06\x07", &[0; 4][..], &end.to_le_bytes(), &[1, 0, 0, 0]].concat());
    zip.extend([b"PK\x05\x06", &[0; 4][..], &[0xff; 12], &[0; 2]].concat());
    zip
}

/// Archives whose sizes take 64 bits: several GB that are there, and more that are not.
#[test]
fn hostile_zip64() {
    let f = Folder::new();
    let deflated = |bytes: &[u8], piece: usize, times: usize| {
        let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
        let mut out = Vec::with_capacity(1 << 16);
        deflate.compress_vec(bytes, &mut out, flate2::FlushCompress::Sync).unwrap();
        let begin = out.len();
        deflate.compress_vec(&vec![0; piece], &mut out, flate2::FlushCompress::Sync).unwrap();
        let again = out.split_off(begin);
        [&out[..], &again.repeat(times), &[3, 0]].concat() // an empty last block
    };
    let header = npy(&f4("(1342177280,)"), &[]);
    let size = header.len() as u64;
    let honest = deflated(&npy(&f4("(2,)"), &[0; 8]), 0, 0);
    let n = honest.len() as u64;
    let refused = |data: &[u8], packed: u64, unpacked: u64, members: u64, parts: &[&str]| {
        f.refused("a.npz", &zip64(data, packed, unpacked, members), parts);
    };
    // The sums are missing; all else is whole.
    refused(&honest, n, npy(&f4("(2,)"), &[0; 8]).len() as u64, 1, &["tensor \"a\" has a wrong checksum"]);
    refused(&honest, n, 5 << 30, 1, &["zip bomb"]);
    refused(&honest, n, u64::MAX, 1, &["zip bomb"]);
    refused(&honest, u64::MAX, u64::MAX, 1, &[]);
    refused(&honest, 1 << 62, 1 << 62, 1, &[]);
    for members in [1 << 20, 1 << 40, u64::MAX] {
        refused(&honest, n, n, members, &["not a whole zip archive"]);
    }
    // 5 GiB of zeros that are there, in 5 MB: told, hidden, and hidden behind a header that tells less.
    let bomb = deflated(&header, 1 << 20, 5 << 10);
    let n = bomb.len() as u64;
    refused(&bomb, n, size + (5 << 30), 1, &["zip bomb"]);
    refused(&bomb, n, 1000, 1, &["holds"]);
    let less = npy(&f4("(10000000,)"), &[]);
    let bomb = deflated(&less, 1 << 20, 5 << 10);
    refused(&bomb, bomb.len() as u64, less.len() as u64 + 40_000_000, 1, &["does not unpack to 4000"]);
}

// ---- PyTorch ----

fn torch(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(&[("x/data.pkl", pickle), ("x/data/0", storage)], false)
}

/// A tensor of the storage `0` of `count` numbers, as instructions: `size` and `strides` too.
fn rebuild(count: i32, offset: i32, size: &[u8], strides: &[u8]) -> Vec<u8> {
    let mut p =
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ"
            .to_vec();
    p.extend(count.to_le_bytes());
    p.extend(b"tQJ");
    p.extend(offset.to_le_bytes());
    for sizes in [size, strides] {
        p.push(b'(');
        p.extend(sizes);
        p.push(b't');
    }
    p.extend(b"\x89NtR");
    p
}

fn ints(all: &[i32]) -> Vec<u8> {
    all.iter().flat_map(|n| [&b"J"[..], &n.to_le_bytes()].concat()).collect()
}

#[test]
fn hostile_pickles() {
    let f = Folder::new();
    let with = |pickle: &[u8], parts: &[&str]| {
        f.refused("a.pt", &torch(&[b"\x80\x02", pickle, b"."].concat(), &[0; 24]), parts)
    };
    // Nothing is run.
    let mark = f.0.path().join("mark");
    let command = format!("cos\nsystem\n(X{}touch {}tR", "\x0a\0\0\0", mark.display());
    with(command.as_bytes(), &["pickle: it names \"os.system\"", "nothing of it was run", "(at byte "]);
    with(b"\x8c\x08builtins\x8c\x04eval\x93", &["it names \"builtins.eval\""]);
    with(b"c__builtin__\ngetattr\n", &["it names \"__builtin__.getattr\""]);
    with(b"ctorch\nload\n", &["it names \"torch.load\""]);
    with(b"cposix\nsystem\x00\n", &["it names"]);
    with(&[b"c", &[b'a'; 1000][..], b"\n"].concat(), &["a global's name does not end"]);
    assert!(!mark.exists());
    with(b"iposix\nsystem\n", &["instruction 0x69"]);
    with(b"}(X\x01\0\0\0ao", &["instruction 0x6f"]);
    with(b"K\x01\x82\x01", &["instruction 0x82"]);
    // Stacks, marks and memos that are not there.
    for bad in [
        &b"0"[..],
        b"t",
        b"u",
        b"s",
        b"a",
        b"R",
        b"Q",
        b"b",
        b"\x87",
        b"(0",
        b"2",
        b"}(K\x01u",
        b"}K\x01K\x02a",
        b"]K\x01K\x02s",
    ] {
        with(bad, &["pickle: "]);
    }
    with(b"h\x05", &["memo 5 is not set"]);
    with(b"}K\x01R", &["a call without a tuple"]);
    with(b"ctorch\nFloatStorage\n)R", &["with other arguments"]);
    with(b"X\xff\xff\xff\xff", &["a text takes 4294967295 bytes"]);
    with(b"X\x02\0\0\0\xff\xff", &["a text is not UTF-8"]);
    with(b"\x8d\0\0\0\0\0\0\0\x10", &["a text takes 1152921504606846976 bytes"]);
    // Deep, cyclic and doubled.
    with(&[&b"(".repeat(100_000)[..], &b"t".repeat(100_000)].concat(), &["nested too deep"]);
    with(b"}q\x00X\x01\0\0\0ah\x00s", &["nested too deep"]);
    with(b"]q\x00h\x00a", &["nested too deep"]);
    let mut doubled = b"(K\x01Nt".to_vec();
    (0..60).for_each(|_| doubled.extend(b"2\x86"));
    with(&doubled, &["too large"]);
    // One long name in many places.
    let mut names = b"}q\x00X\x40\x42\x0f\0".to_vec();
    names.extend(vec![b'n'; 1_000_000]);
    names.extend(b"q\x01K\x01s0](");
    (0..1000).for_each(|_| names.extend(b"h\x00"));
    names.push(b'e');
    with(&names, &["too large"]);
    with(b"}(K\x01K\x02NK\x03u}NK\x01s", &["no text or number"]);
}

#[test]
fn hostile_torch_tensors() {
    let f = Folder::new();
    let with = |t: &[u8], parts: &[&str]| f.refused("a.pt", &torch(&[t, b"."].concat(), &[0; 24]), parts);
    read_all(&f.put("a.pt", &torch(&[&rebuild(6, 0, &ints(&[2, 3]), &ints(&[3, 1]))[..], b"."].concat(), &[0; 24])))
        .unwrap();
    with(&rebuild(7, 0, &ints(&[2]), &ints(&[1])), &["x/data/0 is deflated or has fewer than its 28 bytes"]);
    with(&rebuild(6, 5, &ints(&[2]), &ints(&[1])), &["of shape [2] at 5 with strides [1] leaves its 6 elements"]);
    with(&rebuild(6, 0, &ints(&[2, 3]), &ints(&[4, 1])), &["leaves its 6 elements"]);
    with(&rebuild(6, 0, &ints(&[2, 3]), &ints(&[1])), &["2 sizes and 1 strides"]);
    with(&rebuild(6, 0, &ints(&[-2]), &ints(&[1])), &["Int(-2) is no size"]);
    with(&rebuild(6, 3, &ints(&[2]), &ints(&[-1])), &["Int(-1) is no size"]);
    with(&rebuild(6, -1, &ints(&[2]), &ints(&[1])), &["Int(-1) is no size"]);
    with(&rebuild(-1, 0, &ints(&[2]), &ints(&[1])), &["no storage"]);
    with(&rebuild(6, 0, &ints(&[1 << 20, 1 << 20]), &ints(&[0, 0])), &["shows 6 elements too often"]);
    with(&rebuild(6, 0, &ints(&[i32::MAX; 3]), &ints(&[0; 3])), &["more than memory can address"]);
    with(&rebuild(6, 0, &ints(&[i32::MAX, 2]), &ints(&[i32::MAX, i32::MAX])), &["leaves its 6 elements"]);
    with(&rebuild(6, 0, &ints(&[1; 65]), &ints(&[1; 65])), &["a tensor of 65 dims"]);
    let strides = [&b"\x8a\x08"[..], &i64::MAX.to_le_bytes(), &ints(&[3])].concat();
    let one = [&rebuild(6, 2, &ints(&[1, 2]), &strides)[..], b"."].concat();
    read_all(&f.put("a.pt", &torch(&one, &[0; 24]))).unwrap();
    let old = rebuild(6, 0, b"", b"");
    let at = old.windows(3).position(|w| w == b"tQJ").unwrap();
    with(&[&old[..at], b"(X\x01\0\0\0vK\x00K\x01t", &old[at..]].concat(), &["PyTorch before 0.4"]);
    let lacks = zip(&[("x/data.pkl", &[&rebuild(6, 0, b"", b"")[..], b"."].concat())], false);
    f.refused("a.pt", &lacks, &["the archive lacks x/data/0"]);
    let script = zip(&[("x/data.pkl", b"N."), ("x/constants.pkl", b"N.")], false);
    f.refused("a.pt", &script, &["TorchScript"]);
    f.refused("a.pt", &zip(&[("x/data.pkl", b"N."), ("x/byteorder", b"middle")], false), &["byteorder"]);
    f.refused("a.pt", b"\x80\x02}.", &["no file of torch.save"]);
}

// ---- shards and unknown files ----

/// The index and each of its files, cut at every sixteenth, with another beginning, and with a header of 2⁶⁰ bytes.
#[test]
fn damaged_shards() {
    let f = Folder::new();
    let state: StateDict =
        ["a", "b", "c"].map(|name| (name.to_string(), Tensor::linspace(0.0, 1.0, 64, DType::F32).unwrap())).into();
    let whole = f.0.path().join("whole.safetensors");
    save_safetensors(&whole, &state, &Default::default()).unwrap();
    let shards = f.0.path().join("shards");
    convert_sharded(&TensorFile::open(&whole).unwrap(), &shards, ConvertTo::Same, 512).unwrap();
    read_all(&shards).unwrap();
    let paths: Vec<PathBuf> = fs::read_dir(&shards).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(paths.len(), 3);
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            let error = read_all(&shards).err().unwrap_or_else(|| panic!("{} was read {what}", path.display()));
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(error.to_string().contains(name) && matches!(error, Error::Format { .. }), "{what}: {error}");
        };
        // What ends the index's JSON is a line feed, which nobody misses.
        for sixteenth in 0..16 {
            refused(&bytes[..bytes.len() * sixteenth / 16], &format!("cut at {sixteenth}/16"));
        }
        refused(&[&[bytes[0] ^ 1], &bytes[1..]].concat(), "with another beginning");
        refused(&[&(1u64 << 60).to_le_bytes()[..], &bytes[8..]].concat(), "with a header of 2^60 bytes");
        fs::write(&path, &bytes).unwrap();
    }
    read_all(&shards).unwrap();
    // A tensor that the index promises in the other file.
    let index = shards.join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("00002-of-00002", "00001-of-00002")).unwrap();
    let error = read_all(&shards).unwrap_err().to_string();
    assert!(error.contains("which does not hold it"), "{error}");
}

#[test]
fn hostile_indices() {
    let f = Folder::new();
    let index = |text: &str, parts: &[&str]| f.refused("model.safetensors.index.json", text.as_bytes(), parts);
    index("", &["not an index of shards"]);
    index(r#"{"weight_map": {"a": 3}}"#, &["not an index of shards"]);
    for place in ["../a.safetensors", "/etc/passwd", "a/b", "", "..", ".hidden", "model.safetensors.index.json"] {
        index(
            &format!(r#"{{"weight_map": {{"a": "{place}"}}}}"#),
            &["tensor \"a\" is said to be in", "no file beside the index"],
        );
    }
    fs::write(f.0.path().join("empty.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    index(
        r#"{"weight_map": {"a": "empty.safetensors"}}"#,
        &["said to be in empty.safetensors, which does not hold it"],
    );
    index(
        r#"{"weight_map": {"a": "empty.safetensors", "a": "other.safetensors"}}"#,
        &["not an index of shards", "tensor \"a\" comes twice", "line 1"],
    );
    index(r#"{"weight_map": {"a": "x", "metadata": {}}"#, &["not an index of shards"]);
    let error = |path: &Path| TensorFile::open(path).err().unwrap().to_string();
    f.put("model.safetensors.index.json", br#"{"weight_map": {"a": "absent.safetensors"}}"#);
    assert!(error(f.0.path()).contains("absent.safetensors"), "{}", error(f.0.path()));
    let none = Folder::new();
    assert!(error(none.0.path()).contains("neither model.safetensors nor an index"), "{}", error(none.0.path()));
    f.refused("notes.txt", b"some notes", &["not a tensor file (safetensors, GGUF", "it begins with [73, 6f"]);
    f.refused("nothing", b"", &["not a tensor file"]);
    assert!(error(&f.0.path().join("absent")).contains("absent"));
}
