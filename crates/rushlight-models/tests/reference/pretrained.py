#!/usr/bin/env python3
"""Writes pretrained.json, what Hugging Face's transformers says with the weights that scripts/fetch_models.sh fetches, and
small networks of random weights under pretrained/, with their logits and gradients.

    pip install torch transformers accelerate gguf regex safetensors && python3 pretrained.py ../../../../target/models

PyTorch 2.15.0, transformers 5.24.0, gguf 0.19.0 and safetensors 0.8.0 gave the committed files.
"""

import json
import shutil
import sys
from pathlib import Path

import gguf
import regex
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModel, AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig,
    LlamaForCausalLM,
)

HERE = Path(__file__).parent
SMALL = HERE / "pretrained"
torch.set_num_threads(2)

SENTENCES = [
    "A cat sat on the mat.",
    "The kitten was sitting on a rug, and slept there all the afternoon while it rained outside.",
    "Stocks fell 3.5% on Monday.",
    "Ünïcode Äcçents, 日本語 and 🦀 emoji; e-mail me@example.com!",
    "",
]

PAGE = """The quick brown fox jumps over 13 lazy dogs — it's 3,141.59 times faster, isn't it?  Two  spaces,\ttab.

def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)   # O(φ^n)


fn main() { let xs: Vec<u8> = (0..=255).collect(); println!("{:?}\\n", &xs[1..]); }
<div class="a">&amp; &#39;quoted&#39;</div> $x^2 + \\frac{1}{2}$ https://example.com/?q=a%20b&c=1#top
Emoji: 🦀🚀👩‍👩‍👧‍👦 🇪🇸 ☃️ 👍🏽.  Combining: e\u0301 Å n\u0303 ﬁ ½ ² ⅷ ٣٤٥ १२३.
Español: ¿Dónde está el niño? Français : « où êtes-vous ? »  Deutsch: Straße, größer. Ελληνικά: καλημέρα κόσμε.
Русский: Съешь же ещё этих мягких булок. עברית: שלום עולם. العربية: مرحبا بالعالم. हिन्दी: नमस्ते दुनिया। ไทย: สวัสดีชาวโลก
中文：今天天气很好，我们去公园吧！ 日本語：吾輩は猫である。 한국어: 안녕하세요 세계. \u00a0no-break\u3000wide\u200bzero
I'll I'LL we've they'd don't DON'T 'tis 'S   trailing spaces   \r\nCRLF\r\n\n\n\x00\x07 control 1234567890 12 345 <|im_end|><|endoftext|> <|im_start|
"""

PROMPTS = [
    "The history of the bicycle begins in the early nineteenth century, when a German baron built a wooden machine with two "
    "wheels that was pushed along by the feet. In the years that followed, inventors in France and England",
    "Once upon a time there was a little mouse who lived under the floor of a bakery. Every night, when the baker had gone "
    "home and the ovens were cold, she climbed up to the table to see what was left. One night she found",
    "def quicksort(items):\n    \"\"\"Sorts a list of numbers and returns a new list.\"\"\"\n    if len(items) <= 1:\n        "
    "return items\n    pivot = items[len(items) // 2]\n    smaller = [x for x in items if x < pivot]\n",
    "Water boils at 100 degrees Celsius at sea level, but at a lower temperature on a high mountain, because the pressure of "
    "the air is lower there. For this reason, cooking pasta in the mountains takes longer, and",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n"
    "What is the capital of Spain, and which river flows through it?<|im_end|>\n<|im_start|>assistant\n",
]
WRITTEN = 24


def small():
    """Networks of random weights as transformers saves them, and beside them what they give."""
    shutil.rmtree(SMALL, ignore_errors=True)
    torch.manual_seed(0)
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [22, 7, 1, 8, 2, 8, 1, 8]])
    bert = BertModel(
        BertConfig(vocab_size=24, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                   max_position_embeddings=12, initializer_range=0.5, hidden_dropout_prob=0.1))
    gpt = GPT2LMHeadModel(
        GPT2Config(vocab_size=24, n_positions=12, n_embd=8, n_layer=2, n_head=2, initializer_range=0.5,
                   bos_token_id=0, eos_token_id=0))
    sizes = dict(vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=12, initializer_range=0.3, rms_norm_eps=1e-5)
    llama = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False, rope_theta=1000.0))
    tied = LlamaForCausalLM(LlamaConfig(**{**sizes, "head_dim": 8, "num_hidden_layers": 1}, tie_word_embeddings=True))
    for name, model in [("bert", bert), ("gpt2", gpt), ("llama", llama), ("llama-tied", tied)]:
        # Norms start as 1 and biases as 0, which would hide one that is left out.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        model.eval()
        folder = SMALL / name
        model.save_pretrained(folder, max_shard_size="12KB" if name == "llama" else "1GB")
        mask = torch.ones_like(tokens)
        if name == "bert":
            mask[1, 5:] = 0
            y = model(tokens, attention_mask=mask).last_hidden_state
            loss = (y[0].square().sum() + y[1, :5].square().sum()) / 10
        else:
            y = model(tokens).logits
            loss = torch.nn.functional.cross_entropy(y[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        expected = {f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
        expected |= {"tokens": tokens, "mask": mask, "y": y.detach().contiguous(), "loss": loss.detach()}
        save_file({n: t.contiguous() for n, t in expected.items()}, folder / "expected.safetensors")
        (folder / "generation_config.json").unlink(missing_ok=True)
    as_gguf(llama, SMALL / "llama.gguf")


def as_gguf(model, path):
    """As llama.cpp's converter does: other names, and the rows of queries and keys for neighbouring pairs."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(1000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        x = tensor.numpy()
        for part, heads in [("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)]:
            if part in name:
                x = x.reshape(heads, 2, -1, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), x.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def mini_lm(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval().float()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(2).float()
    mean = (hidden * mask).sum(1) / mask.sum(1)
    vectors = torch.nn.functional.normalize(mean, dim=1)
    ids = [tokenizer(s)["input_ids"] for s in SENTENCES]
    rounded = [[round(x, 7) for x in row] for row in vectors.tolist()]
    return {"sentences": SENTENCES, "ids": ids, "vectors": rounded}


class BytePairs:
    """The tokenizer of a GGUF file, written out: transformers' own reading of these files forgets that each digit is a word
    (`tokenizer.ggml.pre` is smollm)."""

    WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

    def __init__(self, path):
        fields = gguf.GGUFReader(path).fields
        of = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
        assert of("pre") == "smollm"
        self.tokens = of("tokens")
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.rank = {tuple(merge.split(" ")): i for i, merge in enumerate(of("merges"))}
        special = [token for token, kind in zip(self.tokens, of("token_type")) if kind == 3]
        self.special = regex.compile("(" + "|".join(map(regex.escape, special)) + ")")
        # Bytes that can be printed stand for themselves, the others for letters from 256 on.
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [b for b in range(256) if b not in plain]
        self.letters = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}

    def encode(self, text, special=True):
        """The ids of a text; special tokens are found in it, or are text like any other."""
        ids = []
        for part in self.special.split(text) if special else [text]:
            if special and part in self.ids and self.special.fullmatch(part):
                ids.append(self.ids[part])
                continue
            for piece in regex.findall(r"\p{N}|\P{N}+", part):
                for word in self.WORD.findall(piece):
                    ids += [self.ids[token] for token in self.merged([self.letters[b] for b in word.encode()])]
        return ids

    def merged(self, parts):
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda pair: self.rank.get(pair, len(self.rank)))
            if best not in self.rank:
                break
            out, i = [], 0
            while i < len(parts):
                both = tuple(parts[i:i + 2]) == best
                out.append("".join(best) if both else parts[i])
                i += 2 if both else 1
            parts = out
        return parts


def smol_lm(path):
    tokenizer = BytePairs(path)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    prompts = []
    for text in PROMPTS:
        ids = tokenizer.encode(text)
        assert len(ids) >= 40, len(ids)
        said, top = list(ids), []
        with torch.no_grad():
            for _ in range(WRITTEN):
                logits = model(torch.tensor([said])).logits[0, -1]
                values, tokens = logits.topk(5)
                top.append([[t, round(v, 4)] for t, v in zip(tokens.tolist(), values.tolist())])
                said.append(tokens[0].item())
        prompts.append({"text": text, "ids": ids, "top": top})
        print("".join(tokenizer.tokens[i] for i in said[len(ids):]))
    page = {"text": PAGE, "ids": tokenizer.encode(PAGE), "plain_ids": tokenizer.encode(PAGE, special=False)}
    return {"prompts": prompts, "page": page}


if __name__ == "__main__":
    small()
    models = Path(sys.argv[1])
    out = {
        "mini_lm": mini_lm(models / "all-MiniLM-L6-v2"),
        "smol_lm": smol_lm(models / "SmolLM2-135M-Instruct.Q4_1.gguf"),
    }
    (HERE / "pretrained.json").write_text(json.dumps(out, ensure_ascii=False) + "\n", encoding="utf-8")
