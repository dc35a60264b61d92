"""Layers that multiply by what they learned, and those that only reshape or drop."""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

from .. import _rushlight as _r
from .. import functional as F
from .._rushlight import Tensor
from . import init
from .modules import Module, Parameter, Sizes, many

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
        own: dict[str, Any] = self._parameters
        return _r.linear(input, own["weight"], own["bias"])

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Conv(Module):
    weight: Parameter
    bias: Parameter | None
    _function: Callable[..., Tensor]
    _n = 0
    _transposed = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes | str = 0,
        dilation: Sizes = 1, groups: int = 1, bias: bool = True, output_padding: Sizes = 0,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{type(self).__name__}: {groups} groups do not divide {in_channels} and {out_channels} channels")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = many(kernel_size, self._n), many(stride, self._n)
        self.dilation, self.output_padding = many(dilation, self._n), many(output_padding, self._n)
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f'padding is a number, "same" or "valid", not {padding!r}')
        if padding == "same":
            padding = [d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation)]
            if any(k % 2 == 0 for k in self.kernel_size) or any(s != 1 for s in self.stride):
                raise ValueError('padding="same" needs odd kernels and a stride of 1')
        self.padding = many(0 if isinstance(padding, str) else padding, self._n)
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
        self.dim, self.unflattened_size = dim, many(unflattened_size, 1)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)


__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Dropout", "Embedding",
    "Flatten", "Identity", "Linear", "Unflatten",
]
