"""Attention layers, Transformer layers and rotary positions. Parameters are inputs; their names stand in `names`."""

import torch
from torch import nn
from torch.func import functional_call

from recording import bools, case, exactly, fixed, normal

FILE = "transformer"
ONE_HIDDEN = [[False, False, True, False], [False, False, False, False]]


def layer_case(op, module, inputs, masks=None, call=dict, file=FILE, **args):
    """A layer with all its parameters drawn; masks are called by name, `true` where hidden, as PyTorch has them."""
    names = [name for name, _ in module.named_parameters()]
    parameters = [normal(*p.shape, scale=0.7) for _, p in module.named_parameters()]
    masks = masks or {}
    count, total = len(inputs), len(inputs) + len(names)

    def fn(*given, **_):
        values = dict(zip(names, given[count:total]))
        options = {**dict(zip(masks, given[total:])), **call()}
        return functional_call(module, values, given[:count], options)

    case(file, op, fn, inputs + parameters + list(masks.values()), names=names, masks=list(masks), **args)


def rotary(x, interleaved, base, offset):
    """By the definition: pairs as complex numbers."""
    *_, places, n = x.shape
    angles = torch.outer(torch.arange(offset, offset + places) * 1.0, base ** (-torch.arange(0, n, 2) / n))
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    y = torch.complex(a, b) * torch.polar(torch.ones_like(angles), angles)
    return torch.stack([y.real, y.imag], -1).flatten(-2) if interleaved else torch.cat([y.real, y.imag], -1)


def transformer():
    width, heads, hidden, batch, t, s = 4, 2, 5, 2, 3, 4
    x, z = normal(batch, t, width), normal(batch, s, width)

    twice = type("SelfAttention", (nn.MultiheadAttention,), dict(
        forward=lambda self, x, **kw: super(twice, self).forward(x, x, x, **kw)))
    cross = type("CrossAttention", (nn.MultiheadAttention,), dict(
        forward=lambda self, x, z, **kw: super(cross, self).forward(x, z, z, **kw)))
    weights = lambda: dict(need_weights=True, average_attn_weights=False)
    causal = lambda: dict(attn_mask=torch.ones(t, t, dtype=torch.bool).triu(1), is_causal=True, **weights())
    attention = "multi_head_attention"
    layer_case(attention, twice(width, heads, batch_first=True), [x], call=weights)
    layer_case(attention, twice(width, heads, batch_first=True, bias=False), [x], call=causal, causal=True)
    layer_case(attention, cross(width, heads, batch_first=True), [x, z], call=weights,
               masks=dict(key_padding_mask=exactly(*ONE_HIDDEN)))
    layer_case(attention, cross(width, heads, batch_first=True, kdim=3, vdim=3), [x, normal(batch, s, 3)], call=weights,
               masks=dict(attn_mask=fixed(normal(t, s))))
    layer_case(attention, cross(width, 4, batch_first=True), [x, z], call=weights,
               masks=dict(attn_mask=lambda g: bools(t, s)(g) & (torch.arange(s) > 0)))

    for activation in ("relu", "gelu"):
        for norm_first in (False, True):
            options = dict(dim_feedforward=hidden, dropout=0.0, activation=activation, norm_first=norm_first)
            said = dict(activation=activation, norm_first=norm_first)
            make = lambda kind, **kw: kind(width, heads, batch_first=True, **options, **kw)
            layer_case("encoder_layer", make(nn.TransformerEncoderLayer), [z], **said,
                       masks=dict(src_key_padding_mask=exactly(*ONE_HIDDEN)))
            hide = lambda: dict(tgt_mask=torch.ones(t, t, dtype=torch.bool).triu(1), tgt_is_causal=True)
            layer_case("decoder_layer", make(nn.TransformerDecoderLayer), [x, z], call=hide, **said,
                       masks=dict(memory_key_padding_mask=exactly(*ONE_HIDDEN)))
    plain = nn.TransformerEncoderLayer(width, heads, hidden, 0.0, bias=False, batch_first=True)
    layer_case("encoder_layer", plain, [x], activation="relu", norm_first=False)

    for interleaved in (False, True):
        for shape, base, offset in (((2, 2, 3, 6), 10000.0, 0), ((3, 4), 100.0, 7), ((1, 2, 1, 2), 10000.0, 1000)):
            case(FILE, "rotary", rotary, [normal(*shape)], interleaved=interleaved, base=base, offset=offset)
