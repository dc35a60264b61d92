"""``rushlight.nn.functional``: functions of tensors without state."""

from __future__ import annotations

from typing import Sequence

from . import _rushlight as _r
from ._rushlight import (
    Tensor,
    adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d,
    attention_weights, avg_pool1d, avg_pool2d, avg_pool3d, binary_cross_entropy, binary_cross_entropy_with_logits, conv1d,
    conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d, cross_entropy, dropout, elu, gelu, group_norm,
    huber_loss, kl_div, l1_loss, layer_norm, leaky_relu, linear, linear_cross_entropy, log_softmax, logsigmoid, lp_pool1d, lp_pool2d, lp_pool3d,
    max_pool1d, max_pool1d_with_indices, max_pool2d, max_pool2d_with_indices, max_pool3d, max_pool3d_with_indices, mish,
    mse_loss, nll_loss, one_hot, relu, rms_norm, scaled_dot_product_attention, sigmoid, silu, smooth_l1_loss, softmax,
    softmax_pool1d, softmax_pool2d, softmax_pool3d, softplus, tanh,
)

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "attention_weights", "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "cosine_similarity", "cross_entropy", "dropout", "elu", "embedding", "gate",
    "gelu", "group_norm", "huber_loss", "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear", "linear_cross_entropy",
    "log_softmax",
    "logsigmoid", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool1d_with_indices", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices", "mish", "mse_loss", "nll_loss", "normalize",
    "one_hot", "pad", "relu", "rms_norm", "scaled_dot_product_attention", "sigmoid", "silu", "smooth_l1_loss",
    "softmax", "softmax_pool1d", "softmax_pool2d", "softmax_pool3d", "softplus", "tanh",
]


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of ``weight`` that ``input`` names."""
    return _r.embedding(input, weight, padding_idx)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised by the batch in training (running statistics follow), else by running statistics."""
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: without running statistics only training=True is possible")
        return _r._batch_norm(input, running_mean, running_var, weight, bias, eps)
    y, mean, var = _r._batch_norm_train(input, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        # `var` divides by the number less one, as PyTorch's running variance does.
        running_mean.copy_(running_mean.detach() * (1 - momentum) + mean.detach() * momentum)
        running_var.copy_(running_var.detach() * (1 - momentum) + var.detach() * momentum)
    return y


def _places(mode: str, size: int, before: int, after: int) -> Tensor:
    """Where each place of a padded dim is read."""
    places = _r.arange(-before, size + after)
    if mode == "replicate":
        return places.clamp(0, size - 1)
    if mode == "circular":
        return places % size
    return size - 1 - (size - 1 - places.abs()).abs()


def pad(input: Tensor, pad: int | Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """More places around the last dims: ``(left, right, top, bottom, …)``, of ``value`` or, by ``mode``, of the input:
    "reflect" without the edge, "replicate" the edge, "circular" from the other side. Constant padding may be negative."""
    amounts = [pad] if isinstance(pad, int) else list(pad)
    if mode == "constant":
        return _r.pad(input, amounts, "constant", value)
    most = {"reflect": -1, "replicate": None, "circular": 0}
    if mode not in most:
        raise ValueError(f'pad: mode is "constant", "reflect", "replicate" or "circular", not {mode!r}')
    if value is not None:
        raise ValueError(f"pad: no value is taken in mode {mode!r}")
    if len(amounts) % 2 or len(amounts) // 2 > input.ndim:
        raise ValueError(f"pad: {len(amounts)} amounts for shape {list(input.shape)}")
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i : 2 * i + 2]
        dim, size, over = input.ndim - 1 - i, input.shape[input.ndim - 1 - i], most[mode]
        limit = max(before, after) if over is None else size + over
        if min(before, after) < 0 or max(before, after) > limit or size == 0:
            raise ValueError(f"pad: {before} and {after} places of mode {mode!r} do not fit dim {dim} of size {size}")
        if before or after:
            input = input.index_select(dim, _places(mode, size, before, after))
    return input


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divided by its norm along ``dim``."""
    return input / input.norm(p, dim, True).clamp(min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle along ``dim``."""
    return (x1 * x2).sum(dim) / (x1.norm(2.0, dim).clamp(min=eps) * x2.norm(2.0, dim).clamp(min=eps))


def gate(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """The gate of a score: ``σ(r) · x + (1 − σ(r)) · y``."""
    return x.gate(y, r)
