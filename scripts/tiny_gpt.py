#!/usr/bin/env python3
"""Packs the model of a run of `train gpt --tokenizer char` as the playground ships it: a line of JSON with its sizes and
characters, then its parameters in the order of their names, as little-endian f16.

The one that is shipped:
    rushlight train gpt --layers 2 --heads 4 --width 48 --block 64 --batch 16 --steps 4000 --out tiny
    scripts/tiny_gpt.py tiny crates/rushlight-cli/src/play/assets/tiny_gpt.bin
"""
import json
import struct
import sys
from pathlib import Path

run, out = Path(sys.argv[1]), Path(sys.argv[2])
config = json.loads((run / "config.json").read_text())["task"]["config"]
vocabulary = json.loads((run / "tokenizer.json").read_text())["model"]["vocab"]
file = (run / "model.safetensors").read_bytes()
(length,) = struct.unpack_from("<Q", file)
header = json.loads(file[8:8 + length])
header.pop("__metadata__", None)
packed = bytearray()
for name in sorted(header):
    assert header[name]["dtype"] == "F32", name
    begin, end = (8 + length + at for at in header[name]["data_offsets"])
    count = (end - begin) // 4
    packed += struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", file[begin:end]))
head = json.dumps({"config": config, "characters": "".join(sorted(vocabulary, key=vocabulary.get))}, ensure_ascii=False)
out.write_bytes(head.encode() + b"\n" + packed)
print(out, out.stat().st_size, "bytes")
