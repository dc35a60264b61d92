"""Layers with at most a few parameters: linear, convolutions, norms, pools, activations, losses, gates."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

from .. import _rushlight as _r
from .. import functional as F
from .._rushlight import Tensor
from . import init
from .modules import Module, ModuleList, Parameter

Sizes = Any


class Identity(Module):
    """Its input."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """``x Wᵀ + b``"""

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: _r.dtype | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(in_features) if in_features > 0 else 0.0
        self.weight = Parameter(init.uniform_(_r.empty(out_features, in_features, dtype=dtype), -bound, bound))
        if bias:
            self.bias = Parameter(init.uniform_(_r.empty(out_features, dtype=dtype), -bound, bound))
        else:
            self.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:
        own = self._parameters
        return _r.linear(input, own["weight"], own["bias"])

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _many(value: Sizes, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


class _Conv(Module):
    weight: Parameter
    bias: Parameter | None
    _function: Callable[..., Tensor]
    _n = 0
    _transposed = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0,
        dilation: Sizes = 1, groups: int = 1, bias: bool = True, output_padding: Sizes = 0,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{type(self).__name__}: {groups} groups do not divide {in_channels} and {out_channels} channels")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = _many(kernel_size, self._n), _many(stride, self._n)
        self.dilation, self.output_padding = _many(dilation, self._n), _many(output_padding, self._n)
        if padding == "same":
            padding = [d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation)]
            if any(k % 2 == 0 for k in self.kernel_size) or any(s != 1 for s in self.stride):
                raise ValueError('padding="same" needs odd kernels and a stride of 1')
        self.padding = _many(0 if padding == "valid" else padding, self._n)
        channels = (in_channels, out_channels // groups) if self._transposed else (out_channels, in_channels // groups)
        weight = _r.empty(*channels, *self.kernel_size)
        bound = 1 / math.sqrt(max(1, channels[1] * math.prod(self.kernel_size)))
        self.weight = Parameter(init.uniform_(weight, -bound, bound))
        if bias:
            self.bias = Parameter(init.uniform_(_r.empty(out_channels), -bound, bound))
        else:
            self.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:
        f = type(self)._function
        if self._transposed:
            return f(input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return f(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class Conv1d(_Conv):
    """Convolution over 1 dim."""

    _n, _function = 1, staticmethod(_r.conv1d)


class Conv2d(_Conv):
    """Convolution over 2 dims."""

    _n, _function = 2, staticmethod(_r.conv2d)


class Conv3d(_Conv):
    """Convolution over 3 dims."""

    _n, _function = 3, staticmethod(_r.conv3d)


class _ConvTransposed(_Conv):
    _transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0,
        output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, output_padding)


class ConvTranspose1d(_ConvTransposed):
    """Transposed convolution over 1 dim."""

    _n, _function = 1, staticmethod(_r.conv_transpose1d)


class ConvTranspose2d(_ConvTransposed):
    """Transposed convolution over 2 dims."""

    _n, _function = 2, staticmethod(_r.conv_transpose2d)


class ConvTranspose3d(_ConvTransposed):
    """Transposed convolution over 3 dims."""

    _n, _function = 3, staticmethod(_r.conv_transpose3d)


class Embedding(Module):
    """A row for each number."""

    weight: Parameter

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        weight = _r.randn(num_embeddings, embedding_dim)
        if padding_idx is not None:
            weight[padding_idx] = 0.0
        self.weight = Parameter(weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last dims."""

    def __init__(self, normalized_shape: Sizes, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.normalized_shape, self.eps = _many(normalized_shape, 1), eps
        self.register_parameter("weight", Parameter(_r.ones(*self.normalized_shape)) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(_r.zeros(*self.normalized_shape)) if elementwise_affine and bias else None)

    def forward(self, input: Tensor) -> Tensor:
        return _r.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """Mean square 1 over the last dims."""

    def __init__(self, normalized_shape: Sizes, eps: float | None = None, elementwise_affine: bool = True) -> None:
        super().__init__()
        self.normalized_shape, self.eps = _many(normalized_shape, 1), eps
        self.register_parameter("weight", Parameter(_r.ones(*self.normalized_shape)) if elementwise_affine else None)

    def forward(self, input: Tensor) -> Tensor:
        return _r.rms_norm(input, self.normalized_shape, self.weight, self.eps)


class GroupNorm(Module):
    """Mean 0 and variance 1 over groups of channels."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.register_parameter("weight", Parameter(_r.ones(num_channels)) if affine else None)
        self.register_parameter("bias", Parameter(_r.zeros(num_channels)) if affine else None)

    def forward(self, input: Tensor) -> Tensor:
        return _r.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class _BatchNorm(Module):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, track_running_stats: bool = True
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.track_running_stats = track_running_stats
        self.register_parameter("weight", Parameter(_r.ones(num_features)) if affine else None)
        self.register_parameter("bias", Parameter(_r.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", _r.zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", _r.ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", _r.tensor(0) if track_running_stats else None)

    def forward(self, input: Tensor) -> Tensor:
        batch = self.training or not self.track_running_stats
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, batch, self.momentum, self.eps
        )

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Mean 0 and variance 1 of each channel over the batch, of ``[B, C]`` or ``[B, C, L]``."""


class BatchNorm2d(_BatchNorm):
    """Mean 0 and variance 1 of each channel over the batch, of ``[B, C, H, W]``."""


class BatchNorm3d(_BatchNorm):
    """Mean 0 and variance 1 of each channel over the batch, of ``[B, C, D, H, W]``."""


class Dropout(Module):
    """In training each element is 0 with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: {p} is no probability")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return _r.dropout(input, self.p, True) if self.training and self.p > 0 else input

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """Dims ``start_dim`` to ``end_dim`` merged."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)


class Unflatten(Module):
    """``dim`` split into sizes."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)


class _Settings(Module):
    """A function with fixed arguments: the table below names them."""

    _function: Callable[..., Tensor]
    _defaults: dict[str, Any] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        names = list(self._defaults)
        kwargs.pop("inplace", None)
        given = dict(zip(names, args), **kwargs)
        unknown = [k for k in given if k not in names]
        missing = [k for k in names if self._defaults[k] is ... and k not in given]
        if unknown or missing or len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names) or 'no arguments'}")
        self._given = {**self._defaults, **given}
        for name, value in self._given.items():
            setattr(self, name, value)

    def forward(self, input: Tensor, *args: Tensor) -> Tensor:
        return type(self)._function(input, *args, **self._given)

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self._given.items())


def _layer(name: str, function: Callable[..., Tensor], **defaults: Any) -> type[_Settings]:
    doc = f"As a module: {(function.__doc__ or name).strip()}"
    return type(name, (_Settings,), {"_function": staticmethod(function), "_defaults": defaults, "__doc__": doc, "__module__": __name__})


class ReLU(_Settings):
    """``max(x, 0)``"""

    def forward(self, input: Tensor, *args: Tensor) -> Tensor:
        return input.relu()


Sigmoid = _layer("Sigmoid", _r.sigmoid)
Tanh = _layer("Tanh", _r.tanh)
GELU = _layer("GELU", _r.gelu, approximate="none")
SiLU = _layer("SiLU", _r.silu)
Mish = _layer("Mish", _r.mish)
Softplus = _layer("Softplus", _r.softplus, beta=1.0)
LogSigmoid = _layer("LogSigmoid", _r.logsigmoid)
LeakyReLU = _layer("LeakyReLU", _r.leaky_relu, negative_slope=0.01)
ELU = _layer("ELU", _r.elu, alpha=1.0)
Softmax = _layer("Softmax", _r.softmax, dim=-1)
LogSoftmax = _layer("LogSoftmax", _r.log_softmax, dim=-1)
_WINDOW: dict[str, Any] = {"kernel_size": ..., "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
MaxPool1d = _layer("MaxPool1d", _r.max_pool1d, **_WINDOW)
MaxPool2d = _layer("MaxPool2d", _r.max_pool2d, **_WINDOW)
MaxPool3d = _layer("MaxPool3d", _r.max_pool3d, **_WINDOW)
SoftmaxPool1d = _layer("SoftmaxPool1d", _r.softmax_pool1d, **_WINDOW)
SoftmaxPool2d = _layer("SoftmaxPool2d", _r.softmax_pool2d, **_WINDOW)
SoftmaxPool3d = _layer("SoftmaxPool3d", _r.softmax_pool3d, **_WINDOW)
_MEAN: dict[str, Any] = {
    "kernel_size": ..., "stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True, "divisor_override": None,
}
AvgPool1d = _layer("AvgPool1d", _r.avg_pool1d, **_MEAN)
AvgPool2d = _layer("AvgPool2d", _r.avg_pool2d, **_MEAN)
AvgPool3d = _layer("AvgPool3d", _r.avg_pool3d, **_MEAN)
LPPool1d = _layer("LPPool1d", _r.lp_pool1d, norm_type=..., kernel_size=..., stride=None, ceil_mode=False)
LPPool2d = _layer("LPPool2d", _r.lp_pool2d, norm_type=..., kernel_size=..., stride=None, ceil_mode=False)
LPPool3d = _layer("LPPool3d", _r.lp_pool3d, norm_type=..., kernel_size=..., stride=None, ceil_mode=False)
AdaptiveAvgPool1d = _layer("AdaptiveAvgPool1d", _r.adaptive_avg_pool1d, output_size=...)
AdaptiveAvgPool2d = _layer("AdaptiveAvgPool2d", _r.adaptive_avg_pool2d, output_size=...)
AdaptiveAvgPool3d = _layer("AdaptiveAvgPool3d", _r.adaptive_avg_pool3d, output_size=...)
AdaptiveMaxPool1d = _layer("AdaptiveMaxPool1d", _r.adaptive_max_pool1d, output_size=...)
AdaptiveMaxPool2d = _layer("AdaptiveMaxPool2d", _r.adaptive_max_pool2d, output_size=...)
AdaptiveMaxPool3d = _layer("AdaptiveMaxPool3d", _r.adaptive_max_pool3d, output_size=...)
MSELoss = _layer("MSELoss", _r.mse_loss, reduction="mean")
L1Loss = _layer("L1Loss", _r.l1_loss, reduction="mean")
SmoothL1Loss = _layer("SmoothL1Loss", _r.smooth_l1_loss, reduction="mean", beta=1.0)
HuberLoss = _layer("HuberLoss", _r.huber_loss, reduction="mean", delta=1.0)
KLDivLoss = _layer("KLDivLoss", _r.kl_div, reduction="mean", log_target=False)
CrossEntropyLoss = _layer(
    "CrossEntropyLoss", _r.cross_entropy, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0
)
NLLLoss = _layer("NLLLoss", _r.nll_loss, weight=None, ignore_index=-100, reduction="mean")
BCELoss = _layer("BCELoss", _r.binary_cross_entropy, weight=None, reduction="mean")
BCEWithLogitsLoss = _layer(
    "BCEWithLogitsLoss", _r.binary_cross_entropy_with_logits, weight=None, reduction="mean", pos_weight=None
)


class Gate(Module):
    """``r · first(x) + (1 − r) · second(x)`` with ``r = σ(gate(x))``."""

    def __init__(self, first: Module, second: Module, gate: Module) -> None:
        super().__init__()
        self.first, self.second, self.gate = first, second, gate

    def openness(self, x: Tensor) -> Tensor:
        """How far the gate is open."""
        return self.gate(x).sigmoid()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x).gate(self.second(x), self.openness(x))  # type: ignore[no-any-return]


class Highway(Module):
    """Layers that each let through as much of their input as their gate says."""

    def __init__(self, width: int, layers: int, activation: Callable[[Tensor], Tensor] = _r.relu) -> None:
        super().__init__()
        self.activation = activation
        self.transform = ModuleList(Linear(width, width) for _ in range(layers))
        self.gate = ModuleList(Linear(width, width) for _ in range(layers))
        for gate in self.gate:
            # At first most of the input goes through.
            init.constant_(gate.bias, -1.0)

    def forward(self, x: Tensor) -> Tensor:
        for transform, gate in zip(self.transform, self.gate):
            x = self.activation(transform(x)).gate(x, gate(x).sigmoid())
        return x


class MixtureOfExperts(Module):
    """``Σ gᵢ(x) · expertᵢ(x)``, the gates a softmax over the ``k`` largest logits."""

    def __init__(self, gate: Module, experts: Sequence[Module], k: int | None = None) -> None:
        super().__init__()
        self.gate, self.experts, self.k = gate, ModuleList(experts), k or len(experts)

    def gates(self, x: Tensor) -> Tensor:
        """The weights of the experts, ``[…, experts]``."""
        logits: Tensor = self.gate(x)
        if self.k < len(self.experts):
            least = logits.detach().topk(self.k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits.detach() < least, float("-inf"))
        return logits.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gates(x)
        out = self.experts[0](x) * gates[..., 0:1]
        for i in range(1, len(self.experts)):
            out = out + self.experts[i](x) * gates[..., i : i + 1]
        return out  # type: ignore[no-any-return]


__all__ = [name for name, value in list(globals().items()) if isinstance(value, type) and issubclass(value, Module)
           and not name.startswith("_") and name not in ("Module", "ModuleList")]
