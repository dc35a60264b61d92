#!/usr/bin/env python3
"""`train gpt --preset tiny` beside the same network, data, recipe and number of steps in PyTorch.

Runs both in f32, then both with products in bf16 (PyTorch's autocast), one after the other, and prints the validation
loss of each over the whole validation text, and the time of a step. The batches are drawn by different generators, so the losses agree only about as well as two seeds do.

    cargo build --release && python3 scripts/compare_gpt.py [--steps 2000] [--seed 0] [--threads 2]

Needs PyTorch.
"""

import argparse
import gzip
import json
import math
import pathlib
import subprocess
import tempfile
import time

import torch
from torch import nn
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS, HEADS, WIDTH, BLOCK, BATCH = 4, 4, 128, 64, 12
RATE, LAST, CLIP = 1e-3, 0.1, 1.0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.mix = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        b, t, _ = x.shape
        heads = (part.view(b, t, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(WIDTH, 2))
        y = F.scaled_dot_product_attention(*heads, is_causal=True)  # [B, heads, T, width / heads]
        x = x + self.mix(y.transpose(1, 2).reshape(b, t, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                back = name.endswith(("mix.weight", "down.weight"))
                nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * LAYERS) if back else 0.02)

    def forward(self, x):
        x = self.tokens(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)  # [B, T, vocabulary]


def rate(step, steps):
    warmup = steps // 20
    if step < warmup:
        return RATE * (step + 1) / (warmup + 1)
    return RATE * (LAST + (1 - LAST) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2)


def theirs(steps, seed, mixed):
    """Seconds of a step, and the loss; `mixed` is autocast to bf16."""
    torch.manual_seed(seed)
    text = gzip.open(ROOT / "data/shakespeare/plays.txt.gz", "rt", encoding="utf-8", newline="").read()
    cut = len(text) - math.ceil(len(text) / 10)
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    data = torch.tensor([ids[c] for c in text])
    train, valid = data[:cut], data[cut:]
    model = Gpt(len(ids))
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [dict(params=decayed, weight_decay=0.1), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    begin = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        starts = torch.randint(len(train) - BLOCK, (BATCH,))
        x = torch.stack([train[s : s + BLOCK] for s in starts])
        y = torch.stack([train[s + 1 : s + BLOCK + 1] for s in starts])
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        loss.item()
    seconds = (time.perf_counter() - begin) / steps
    n = (len(valid) - 1) // BLOCK * BLOCK
    x, y = valid[:n].view(-1, BLOCK), valid[1 : n + 1].view(-1, BLOCK)
    with torch.no_grad():
        parts = zip(x.split(64), y.split(64))
        total = sum(F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum").item() for a, b in parts)
    return seconds, total / n


def ours(steps, seed, threads, mixed):
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        command = [ROOT / "target/release/rushlight", "train", "gpt", "--steps", steps, "--seed", seed]
        command += ["--threads", threads, "--out", run] + ([] if mixed else ["--f32"])
        out = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, cwd=ROOT).stdout
        line = next(line for line in out.splitlines() if line.startswith("validation loss"))
        words = line.split()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert sum(line["kind"] == "step" for line in lines) == steps
    # The seconds include the measurements on the way.
    return float(words[words.index("after") + 1]) / steps, float(words[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.steps} steps, {args.threads} threads, PyTorch {torch.__version__}")
    for mixed, kind in ((False, "f32"), (True, "bf16 products")):
        a, loss_a = ours(args.steps, args.seed, args.threads, mixed)
        b, loss_b = theirs(args.steps, args.seed, mixed)
        print(f"{kind}: Rushlight  validation loss {loss_a:.4f}  {1e3 * a:6.1f} ms a step, with what is measured on the way")
        print(f"{kind}: PyTorch    validation loss {loss_b:.4f}  {1e3 * b:6.1f} ms a step; ours is {b / a:.2f} times as fast")


if __name__ == "__main__":
    main()
