"""Writes the small files of each format that tests/formats.rs reads, by the libraries that the formats are of.

    pip install numpy torch safetensors gguf
    python formats.py

NumPy 2.4.6, PyTorch 2.15.0, safetensors 0.8.0 and gguf 0.19.0 gave the committed files, two of which (legacy.pt and
model.safetensors) have an order of their own each time. Every array holds the numbers of `values`, in its element type; `quants.gguf` has blocks of random bits and, as F32 beside them, what gguf makes of
them.
"""

import json
import pathlib
import shutil
from collections import OrderedDict

import gguf
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from gguf import GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize

HERE = pathlib.Path(__file__).parent / "formats"
NUMPY = "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 b1".split()
TORCH = "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 bool".split()


def values(kind):
    """[2, 3] numbers that the kind of element (f, i, u, b) holds."""
    return {
        "f": [[0.5, -1.0, 2.0], [3.0, 100.0, -0.25]],
        "i": [[0, -1, 2], [3, 100, -7]],
        "u": [[0, 1, 2], [3, 100, 7]],
        "b": [[1, 0, 1], [0, 0, 1]],
    }[kind]


def array(dtype):
    return np.array(values(dtype[0]), dtype=dtype)


def tensor(dtype):
    kind = {"f": "f", "b": "b", "i": "i", "u": "u"}["f" if dtype == "bfloat16" else dtype[0]]
    return torch.tensor(values(kind), dtype=getattr(torch, dtype))


def numpy_files():
    arrays = {dtype: array(dtype) for dtype in NUMPY}
    arrays["nested/scalar"] = np.float32(1.5)
    arrays["empty"] = np.zeros((3, 0, 2), "f4")
    np.savez(HERE / "stored.npz", **arrays)
    turned = {f"big_{dtype}": array(dtype).astype(">" + dtype) for dtype in NUMPY}
    turned |= {f"fortran_{dtype}": np.asfortranarray(array(dtype)) for dtype in NUMPY}
    turned["cube"] = np.asfortranarray(np.arange(24, dtype=">i4").reshape(2, 3, 4))
    np.savez_compressed(HERE / "deflated.npz", **turned)
    np.save(HERE / "plain.npy", array("f4"))
    np.save(HERE / "fortran_big.npy", np.asfortranarray(array("f8").astype(">f8")))
    for version in ((2, 0), (3, 0)):
        with open(HERE / f"version{version[0]}.npy", "wb") as file:
            np.lib.format.write_array(file, array("i8"), version=version)
    np.save(HERE / "object.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    np.save(HERE / "structured.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]))


def safetensors_files():
    tensors = {dtype: tensor(dtype) for dtype in TORCH}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(3, 0, 2)}
    safetensors.torch.save_file(tensors, HERE / "model.safetensors", metadata={"format": "pt", "ü": "\n"})
    folder = HERE / "sharded"
    folder.mkdir()
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    safetensors.torch.save_file({"a": tensor("float32"), "b": tensor("int64")}, folder / names[0], {"format": "pt"})
    safetensors.torch.save_file({"c": tensor("bfloat16")}, folder / names[1], {"format": "pt"})
    index = {"metadata": {"total_size": 84}, "weight_map": {"a": names[0], "b": names[0], "c": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def state():
    """A checkpoint of all that is allowed in one: nested dicts, views that share memory, parameters, numbers, texts."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    model = OrderedDict((dtype, tensor(dtype)) for dtype in TORCH if not dtype.startswith("uint1") and dtype != "uint32")
    model["base"], model["turned"], model["column"] = base, base.t(), base[1:, 2::3]
    model["expanded"] = base[:1, :1].expand(2, 3)
    model["weight"] = torch.nn.Parameter(tensor("float32"))
    model["empty"], model["scalar"] = torch.zeros(3, 0, 2), torch.tensor(1.5)
    return {"model": model, "step": 3, "lr": 0.5, "name": "ü", "done": False, "none": None, "big": 2 ** 40,
            "betas": (0.5, 0.25), "layers": [{"w": tensor("float64")}, {"w": tensor("int32")}], 7: [1, 2, 3],
            "dtype": torch.float16}


def torch_files():
    torch.manual_seed(0)
    torch.save(state(), HERE / "checkpoint.pt")
    torch.save(state(), HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({dtype: tensor(dtype) for dtype in ("uint16", "uint32", "bfloat16")}, HERE / "unsigned.pt")
    # As modules give it, with the versions that are set on the dict.
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        net[0].weight.copy_(tensor("float32"))
    torch.save(net.state_dict(), HERE / "module.pt")
    torch.save(tensor("float32"), HERE / "bare.pt")
    torch.save({"net": net}, HERE / "whole_module.pt")


def gguf_files():
    writer = gguf.GGUFWriter(HERE / "values.gguf", "test")
    for name, value in [("uint8", 200), ("int8", -100), ("uint16", 60000), ("int16", -30000), ("uint32", 2 ** 31),
                        ("int32", -2 ** 31), ("uint64", 2 ** 63), ("int64", -2 ** 63), ("float32", 0.5),
                        ("float64", 0.1), ("bool", True), ("string", "ü\n")]:
        getattr(writer, f"add_{name}")(f"a.{name}", value)
    writer.add_array("a.words", ["one", "zwei", "três"])
    writer.add_array("a.numbers", [1, -2, 3])
    writer.add_array("a.floats", [0.5, -1.5])
    writer.add_array("a.truths", [True, False])
    writer.add_array("a.lists", [[1, 2], [3]])
    for dtype in "f2 f4 f8 i1 i2 i4 i8".split():
        writer.add_tensor(dtype, array(dtype))
    writer.add_tensor("bf16", quantize(array("f4"), Q.BF16), raw_dtype=Q.BF16)
    writer.add_tensor("matrix", np.arange(24, dtype="f4").reshape(2, 3, 4))
    close(writer)

    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(HERE / "quants.gguf", "test")
    x = (rng.standard_normal((4, 64)) * np.array([[0.02], [1.0], [30.0], [0.0]])).astype("f4")
    x[1, :32], x[3] = 0.75, 0.0
    x[2, 3] = -x[2].max() * 2
    writer.add_tensor("x", x)
    for kind in (Q.Q8_0, Q.Q4_0, Q.Q4_1):
        writer.add_tensor(f"x.{kind.name.lower()}", quantize(x, kind), raw_dtype=kind)
    # Where the f16s lie in a block.
    halves = {Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2],
              Q.Q6_K: [208]}
    for kind, places in halves.items():
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (256 // numbers, size), dtype="u1")
        for at in places:
            blocks[:, at:at + 2] = rng.standard_normal((len(blocks), 1)).astype("f2").view("u1")
        blocks = blocks.reshape(1, -1)
        writer.add_tensor(kind.name.lower(), blocks, raw_dtype=kind)
        writer.add_tensor(f"{kind.name.lower()}.expected", dequantize(blocks, kind).astype("f4"))
    close(writer)


def close(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


shutil.rmtree(HERE, ignore_errors=True)
HERE.mkdir()
numpy_files()
safetensors_files()
torch_files()
gguf_files()
for path in HERE.rglob("*.*"):
    path.chmod(0o644)
