#!/usr/bin/env python3
"""SmolLM2 beside llama.cpp: the same files, the same threads, the same run.

exact    the weights as F32 on both sides: greedy tokens and top-5 logits after five prompts of at least 40 tokens; then
         the shipped Q4_1 file against the F32 run: top-5 logits along the same tokens
perplexity  of a piece of the bundled Shakespeare, F32 and Q4_1
tokens   the tokens of a page of mixed text
speed    tokens a second, reading 512 tokens and writing 64 after 40, of F32, Q8_0, Q4_0 and Q4_1, in turns; medians
memory   the most that our process holds, beside the size of its file

    scripts/fetch_models.sh && cargo build --release -p rushlight-cli -p rushlight-bench
    python3 scripts/compare_llama.py [exact] [perplexity] [tokens] [speed] [memory] [--kinds q4_1,f32] [--threads 2] [--json FILE]

Needs llama-cpp-python (`pip install llama-cpp-python` builds llama.cpp for this machine). F32 and Q8_0 are converted by
`rushlight convert`, Q4_0 by llama.cpp from the F32 file, all its matrices alike.
"""

import argparse
import ctypes
import gzip
import json
import math
import os
import pathlib
import statistics
import subprocess
import time

import llama_cpp
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
REFERENCE = ROOT / "crates/rushlight-models/tests/reference/pretrained.json"
GOLDEN = ROOT / "crates/rushlight-models/tests/reference/llama_cpp.json"
STEPS, READ, PROMPT, WRITTEN, ROUNDS = 24, 512, 40, 64, 5
WINDOW, WINDOWS = 512, 4
MAX_ERROR, MAX_DRIFT, MAX_PERPLEXITY, MAX_MEMORY = 0.01, 0.15, 0.01, 150e6


class Ours:
    """`rushlight-bench --language`, asked in lines of JSON."""

    def __init__(self, path, threads):
        command = [BUILT / "rushlight-bench", "--language", path, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do, **question):
        self.process.stdin.write(json.dumps({"do": do, **question}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"rushlight-bench ended at {do!r}")
        return json.loads(answer)

    def speed(self, tokens, num):
        answer = self.ask("speed", tokens=tokens, num=num)
        return answer["prefill"], answer["decode"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Theirs:
    """llama.cpp, with keys and values in F32."""

    def __init__(self, path, threads, all_logits=False):
        self.model = llama_cpp.Llama(
            str(path), n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads,
            type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, logits_all=all_logits, verbose=False,
        )  # fmt: skip

    def logits(self, new):
        self.model.eval(new)
        pointer = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab(),)).copy()

    def greedy(self, tokens, num, top, follow=None):
        """As `Ours`: tokens and top logits; along the tokens `follow` where they are given."""
        self.model.reset()
        new, said, tops = tokens, [], []
        for i in range(num):
            logits = self.logits(new)
            order = np.argsort(-logits, kind="stable")[:top]
            tops.append([[int(t), float(logits[t])] for t in order])
            said.append(int(order[0]))
            new = [said[-1] if follow is None else follow[i]]
        return {"tokens": said, "top": tops}

    def loss(self, tokens):
        self.model.reset()
        self.model.eval(tokens[:-1])
        logits = self.model.scores[: len(tokens) - 1].astype(np.float64)
        most = logits.max(1)
        norm = most + np.log(np.exp(logits - most[:, None]).sum(1))
        return float((norm - logits[np.arange(len(tokens) - 1), tokens[1:]]).sum())

    def speed(self, tokens, num):
        self.model.reset()
        begin = time.perf_counter()
        new = int(self.logits(tokens).argmax())
        middle = time.perf_counter()
        for _ in range(num):
            new = int(self.logits([new]).argmax())
        return middle - begin, time.perf_counter() - middle


def files(model):
    """The four files by kind; made once."""
    folder = ROOT / "target/compare_llama"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"{kind}.gguf" for kind in ("f32", "q8_0", "q4_0")}
    for kind in ("f32", "q8_0"):
        if not paths[kind].exists():
            source = model if kind == "f32" else paths["f32"]
            command = [BUILT / "rushlight", "convert", source, paths[kind], "--dtype", kind]
            subprocess.run(command, check=True)
    if not paths["q4_0"].exists():
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype, options.pure, options.nthread = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, True, 2
        source, to = (str(paths[kind]).encode() for kind in ("f32", "q4_0"))
        if llama_cpp.llama_model_quantize(source, to, ctypes.byref(options)):
            raise SystemExit("llama.cpp did not quantise")
    return {**paths, "q4_1": model}


def exact(paths, threads, reference):
    result = {}
    ours, theirs = Ours(paths["f32"], threads), Theirs(paths["f32"], threads)
    prompts = [p["ids"] for p in reference["prompts"]]
    assert all(len(ids) >= 40 for ids in prompts)
    golden, worst, runs = [], 0.0, []
    for ids in prompts:
        want, got = theirs.greedy(ids, STEPS, 5), ours.ask("greedy", tokens=ids, num=STEPS, top=5)
        assert got["tokens"] == want["tokens"], f"{got['tokens']} for {want['tokens']}"
        for a, b in zip(got["top"], want["top"]):
            a = dict(map(tuple, a))
            worst = max([worst] + [abs(a[t] - logit) for t, logit in b if t in a])
        tops = [[[t, round(logit, 5)] for t, logit in top] for top in want["top"]]
        golden.append({"ids": ids, "tokens": want["tokens"], "top": tops})
        runs.append(got)
    result["f32_logits_apart"] = worst
    print(f"F32, {len(prompts)} prompts, {STEPS} tokens each: all tokens equal, top-5 logits at most {worst:.5f} apart")
    ours.close()

    quantised, cpp = Ours(paths["q4_1"], threads), Theirs(paths["q4_1"], threads)
    drift, same, drift_cpp = 0.0, 0, 0.0
    for ids, run in zip(prompts, runs):
        # Along the tokens of the F32 run, each side's logits of its five best.
        for step, top in enumerate(run["top"]):
            tokens = ids + run["tokens"][:step]
            got = dict(map(tuple, quantised.ask("greedy", tokens=tokens, num=1, top=200)["top"][0]))
            drift = max([drift] + [abs(got[t] - logit) for t, logit in top])
        same += quantised.ask("greedy", tokens=ids, num=STEPS, top=1)["tokens"] == run["tokens"]
        got = cpp.greedy(ids, STEPS, 200, follow=run["tokens"])["top"]
        for a, top in zip(got, run["top"]):
            a = dict(map(tuple, a))
            drift_cpp = max([drift_cpp] + [abs(a[t] - logit) for t, logit in top if t in a])
    result |= {"q4_1_logits_apart": drift, "q4_1_same_tokens": same, "llama_cpp_q4_1_logits_apart": drift_cpp}
    print(f"Q4_1 to F32: top-5 logits at most {drift:.4f} apart (llama.cpp's own: {drift_cpp:.4f}); "
          f"{same} of {len(prompts)} runs with the same tokens")  # fmt: skip
    quantised.close()
    about = {"by": "scripts/compare_llama.py", "file": "the weights of SmolLM2-135M-Instruct Q4_1 as F32, F32 keys and values"}
    GOLDEN.write_text(json.dumps({**about, "llama_cpp_python": llama_cpp.__version__, "runs": golden}, separators=(",", ":")) + "\n")
    assert worst <= MAX_ERROR and drift <= MAX_DRIFT
    return result


def perplexity(paths, threads):
    text = gzip.open(ROOT / "data/shakespeare/plays.txt.gz", "rt").read()[: WINDOW * WINDOWS * 8]
    result = {}
    for kind in ("f32", "q4_1"):
        ours = Ours(paths[kind], threads)
        tokens = ours.ask("tokens", text=text)
        windows = [tokens[i * WINDOW : (i + 1) * WINDOW] for i in range(WINDOWS)]
        theirs = Theirs(paths[kind], threads, all_logits=True)
        for who, side in (("ours", lambda w: ours.ask("loss", tokens=w)), ("llama_cpp", theirs.loss)):
            result[f"{who}_{kind}"] = math.exp(sum(map(side, windows)) / (WINDOWS * (WINDOW - 1)))
        ours.close()
        del theirs
    apart = result["ours_q4_1"] / result["ours_f32"] - 1
    print(f"perplexity of {WINDOWS} pieces of {WINDOW} tokens: F32 {result['ours_f32']:.4f}, Q4_1 {result['ours_q4_1']:.4f} "
          f"({100 * apart:+.3f} %); llama.cpp F32 {result['llama_cpp_f32']:.4f}, Q4_1 {result['llama_cpp_q4_1']:.4f}")  # fmt: skip
    assert abs(apart) <= MAX_PERPLEXITY
    return result


def tokens(paths, threads, reference):
    ours, theirs = Ours(paths["q4_1"], threads), Theirs(paths["q4_1"], threads)
    text = reference["page"]["text"]
    got, want = ours.ask("tokens", text=text), theirs.model.tokenize(text.encode(), add_bos=False, special=True)
    print(f"tokenizer: {len(got)} tokens for {len(text)} characters, llama.cpp {len(want)}: "
          f"{'equal' if got == want else 'DIFFERENT'}; transformers: {'equal' if got == reference['page']['ids'] else 'DIFFERENT'}")  # fmt: skip
    ours.close()
    return {"page_as_llama_cpp": got == want, "page_as_transformers": got == reference["page"]["ids"]}


def speed(paths, threads, kinds):
    result = {}
    ids = [int(t) for t in np.random.default_rng(0).integers(100, 40000, READ)]
    for kind in kinds:
        sides = {"ours": Ours(paths[kind], threads), "llama_cpp": Theirs(paths[kind], threads)}
        rates = {(who, what): [] for who in sides for what in ("prefill", "decode")}
        for i in range(ROUNDS + 1):
            for who, side in sides.items():
                (read, _), (_, write) = side.speed(ids, 0), side.speed(ids[:PROMPT], WRITTEN)
                if i:  # the first warms up
                    rates[who, "prefill"].append(READ / read)
                    rates[who, "decode"].append(WRITTEN / write)
        sides["ours"].close()
        row = {f"{who}_{what}": statistics.median(all) for (who, what), all in rates.items()}
        result[kind] = row
        parts = [f"{what} {row[f'ours_{what}']:.0f} to {row[f'llama_cpp_{what}']:.0f} tokens/s, "
                 f"{row[f'ours_{what}'] / row[f'llama_cpp_{what}']:.2f} times" for what in ("prefill", "decode")]  # fmt: skip
        print(f"{kind}: {'; '.join(parts)}", flush=True)
    return result


def memory(paths, threads):
    result = {}
    for kind, path in paths.items():
        ours = Ours(path, threads)
        ours.speed(list(range(100, 100 + READ)), WRITTEN)
        peak, size = ours.ask("peak"), pathlib.Path(path).stat().st_size
        ours.close()
        result[kind] = {"peak": peak, "file": size}
        print(f"{kind}: at most {peak / 1e6:.0f} MB held, {(peak - size) / 1e6:.0f} MB beside the file of {size / 1e6:.0f}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["exact", "perplexity", "tokens", "speed", "memory"]
    parser.add_argument("parts", nargs="*", choices=parts, default=parts)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "target/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--kinds", type=lambda s: s.split(","), default=["q4_1", "q4_0", "q8_0", "f32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="also write what was found to this file")
    args = parser.parse_args()
    reference = json.loads(REFERENCE.read_text())["smol_lm"]
    paths, found = files(args.model), {"llama_cpp_python": llama_cpp.__version__, "threads": args.threads}
    for part in args.parts or parts:
        found[part] = {
            "exact": lambda: exact(paths, args.threads, reference),
            "perplexity": lambda: perplexity(paths, args.threads),
            "tokens": lambda: tokens(paths, args.threads, reference),
            "speed": lambda: speed(paths, args.threads, args.kinds),
            "memory": lambda: memory(paths, args.threads),
        }[part]()
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
