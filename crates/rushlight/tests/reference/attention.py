"""Attention: masks of both kinds, causal by both alignments, grouped queries, rows without keys."""

import math

import torch
import torch.nn.functional as F

from recording import bools, case, edge, exactly, fixed, normal, tracked

inf = math.inf


def attend(q, k, v, mask=None, causal="no", scale=None):
    if causal == "lower_right":
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(k.shape[-2] - q.shape[-2])
    heads = q.shape[-3] != k.shape[-3]
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal == "upper_left", scale=scale, enable_gqa=heads)


def attention():
    op = "scaled_dot_product_attention"
    sizes = [  # batch, heads, kv_heads, queries, keys, dim, value_dim
        (1, 1, 1, 1, 1, 1, 1), (2, 2, 2, 3, 5, 4, 4), (1, 2, 2, 5, 3, 3, 2), (1, 4, 2, 2, 3, 2, 2), (2, 3, 1, 3, 3, 2, 3),
        (1, 1, 1, 18, 19, 5, 3),
    ]
    for b, h, hk, t, s, d, dv in sizes:
        inputs = [normal(b, h, t, d, scale=2.0), normal(b, hk, s, d), normal(b, hk, s, dv)]
        for causal in ("no", "upper_left", "lower_right"):
            if causal != "lower_right" or s >= t:
                case("attention", op, attend, inputs, causal=causal)
        case("attention", op, attend, inputs, scale=0.3)
        case("attention", op, attend, inputs + [normal(t, s)])
        case("attention", op, attend, inputs + [fixed(normal(b, 1, 1, s))])
        diagonal = lambda g: bools(b, h, t, s)(g) | (torch.arange(s) == torch.arange(t)[:, None] % s)
        case("attention", op, attend, inputs + [diagonal])
    qkv = [normal(1, 1, 3, 2), normal(1, 1, 3, 2), normal(1, 1, 3, 2)]
    seen = exactly([True, False, True], [False, False, False], [False, True, False])
    case("attention", op, attend, qkv + [seen])
    case("attention", op, attend, qkv + [tracked([0.5, -inf, 0.0], [1.0, 2.0, -1.0], [-inf, 0.0, -inf])])
    case("attention", op, attend, [normal(3, 4, 2), normal(3, 5, 2), normal(3, 5, 2)])
    far = [[[[1e4, 0.0], [-1e4, 1.0], [0.0, 0.0]]], [[[1.0, 2.0], [1.0, 1e4], [-1.0, 0.0]]], [[[1.0], [2.0], [4.0]]]]
    edge("attention", op, attend, *far)
