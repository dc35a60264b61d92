#!/usr/bin/env python3
"""Writes llama_extras/: small networks of random weights with what Llama 3 and Qwen2 add, what Hugging Face's transformers
makes of them, and the tokens of a page by the rules of both.

    pip install torch transformers gguf safetensors && python3 llama_extras.py

PyTorch 2.15.0, transformers 5.24.0 and gguf 0.19.0 gave the committed files.
"""

import json
import shutil

import gguf
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from pretrained import HERE, PAGE, PROMPTS

SMALL = HERE / "llama_extras"
SIZES = dict(vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, rms_norm_eps=1e-5,
             tie_word_embeddings=True)  # fmt: skip
LLAMA3 = dict(rope_type="llama3", rope_theta=1000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)  # fmt: skip


def networks():
    torch.manual_seed(1)
    tokens = torch.randint(0, 24, (1, 40))
    llama3 = LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LLAMA3))
    linear = LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True,
                                          rope_parameters=dict(rope_type="linear", rope_theta=1000.0, factor=4.0)))
    qwen2 = Qwen2ForCausalLM(Qwen2Config(**SIZES, rope_parameters=dict(rope_type="default", rope_theta=1000.0)))
    for name, model in [("llama3", llama3), ("linear", linear), ("qwen2", qwen2)]:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        model.eval()
        folder = SMALL / name
        model.save_pretrained(folder)
        y = model(tokens).logits
        loss = torch.nn.functional.cross_entropy(y[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        expected = {f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
        expected |= {"tokens": tokens, "y": y.detach(), "loss": loss.detach()}
        save_file({n: t.contiguous() for n, t in expected.items()}, folder / "expected.safetensors")
        (folder / "generation_config.json").unlink(missing_ok=True)
    as_gguf(llama3, gguf.MODEL_ARCH.LLAMA, "llama", SMALL / "llama3.gguf", divisors=llama3_divisors(llama3))
    as_gguf(linear, gguf.MODEL_ARCH.LLAMA, "llama", SMALL / "linear.gguf", factor=4.0)
    as_gguf(qwen2, gguf.MODEL_ARCH.QWEN2, "qwen2", SMALL / "qwen2.gguf")


def llama3_divisors(model):
    """As llama.cpp's converter: what the plain frequencies are of the scaled ones."""
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, torch.device("cpu"))
    pairs = model.config.head_dim // 2
    return (1000.0 ** -(torch.arange(pairs).double() / pairs) / scaled.double()).float().numpy()


def as_gguf(model, arch, name, path, divisors=None, factor=None):
    config = model.config
    writer = gguf.GGUFWriter(path, name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(1000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if factor:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(factor)
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight":
            continue
        x = tensor.numpy()
        for part, heads in [("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)]:
            if part in key and name == "llama":
                x = x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")) , x.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokenizers():
    """Byte pairs learnt from the page itself, cut by the rule of each, with transformers' own regexes."""
    llama = TikTokenConverter.__init__.__defaults__ + TikTokenConverter.__init__.__code__.co_consts
    llama = next(x for x in llama if isinstance(x, str) and r"\p{N}{1,3}" in x)
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX as qwen

    out = {"text": PAGE}
    for name, rule in [("llama-bpe", llama), ("qwen2", qwen)]:
        tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
        if name == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(rule), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])  # fmt: skip
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
        tokenizer.train_from_iterator([PAGE, *PROMPTS], trainer)
        model = json.loads(tokenizer.to_str())["model"]
        tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda pair: pair[1])]
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        out[name] = {"tokens": tokens, "merges": merges, "ids": tokenizer.encode(PAGE).ids}
    (HERE / "llama_extras.json").write_text(json.dumps(out, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    shutil.rmtree(SMALL, ignore_errors=True)
    networks()
    tokenizers()
