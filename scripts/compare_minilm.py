#!/usr/bin/env python3
"""MiniLM beside transformers on PyTorch: the same sentences, the same threads, the same run, in turns.

    scripts/fetch_models.sh && cargo build --release -p rushlight-bench
    python3 scripts/compare_minilm.py [--threads 2] [--rounds 9] [--json FILE]

A batch is 32 sentences of 64 tokens (with the two at the ends). Printed are sentences a second, medians over the rounds,
with the tokenizer's work and without, and the smallest cosine of the angle between our vectors and theirs, over that
batch and over sentences of all lengths. Needs torch and transformers.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import time

import torch
from transformers import AutoModel, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
BATCH, LENGTH = 32, 64
MIN_COSINE, MIN_TIMES = 0.99999, 2.0


class Ours:
    """`rushlight-bench --sentences`, asked in lines of JSON."""

    def __init__(self, model, threads):
        command = [BUILT / "rushlight-bench", "--sentences", model, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do, **question):
        self.process.stdin.write(json.dumps({"do": do, **question}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"rushlight-bench ended at {do!r}")
        return json.loads(answer)

    def vectors(self, texts):
        return torch.tensor(self.ask("vectors", texts=texts), dtype=torch.float64)

    def speed(self, texts, tokenize):
        return self.ask("speed", texts=texts, tokenize=tokenize)


class Theirs:
    """transformers: the mean over the tokens of the last layer, to length 1."""

    def __init__(self, model):
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModel.from_pretrained(model, dtype=torch.float32).eval()

    def tokens(self, texts):
        return self.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")

    @torch.inference_mode()
    def run(self, tokens):
        y = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).float()
        return torch.nn.functional.normalize((y * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=1)

    def vectors(self, texts):
        return self.run(self.tokens(texts)).double()

    def speed(self, texts, tokenize):
        tokens = self.tokens(texts)
        begin = time.perf_counter()
        self.run(self.tokens(texts) if tokenize else tokens)
        return time.perf_counter() - begin


def sentences(tokenizer):
    """32 texts of 64 tokens each, and 48 of 3 to 130."""
    words = "the a of rush light candle cat sat mat river bank song old new said went home was and to in it that".split()
    text = lambda i, n: " ".join(words[(i * 7 + j * j + j // 3) % len(words)] for j in range(n))
    batch = [text(i, LENGTH - 2) for i in range(BATCH)]
    assert all(len(tokenizer(t)["input_ids"]) == LENGTH for t in batch), "words of one token each are expected"
    return batch, [text(i, 1 + (i * 11) % 128) for i in range(48)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "target/models/all-MiniLM-L6-v2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=pathlib.Path, help="also write what was found to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sides = {"ours": Ours(args.model, args.threads), "transformers": Theirs(args.model)}
    batch, mixed = sentences(sides["transformers"].tokenizer)
    cosine = min(
        float((a * b).sum(1).div(a.norm(dim=1) * b.norm(dim=1)).min())
        for a, b in ([side.vectors(texts) for side in sides.values()] for texts in (batch, mixed))
    )
    rates = {(who, tokenize): [] for who in sides for tokenize in (True, False)}
    for i in range(args.rounds + 1):
        for who, tokenize in rates:
            seconds = sides[who].speed(batch, tokenize)
            if i:  # the first warms up
                rates[who, tokenize].append(BATCH / seconds)
    found = {"torch": torch.__version__, "threads": args.threads, "smallest_cosine": cosine}
    for tokenize, name in ((True, "with tokenizing"), (False, "without")):
        ours, theirs = (statistics.median(rates[who, tokenize]) for who in sides)
        found[name] = {"ours": ours, "transformers": theirs, "times": ours / theirs}
        print(f"{name}: {ours:.0f} to {theirs:.0f} sentences/s, {ours / theirs:.2f} times", flush=True)
    print(f"smallest cosine {cosine:.8f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    slow = min(found[name]["times"] for name in ("with tokenizing", "without")) < MIN_TIMES
    raise SystemExit("a bar was missed" if cosine < MIN_COSINE or slow else 0)


if __name__ == "__main__":
    main()
