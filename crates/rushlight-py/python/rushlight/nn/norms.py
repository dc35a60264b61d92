"""Layers that bring means and variances to 0 and 1."""

from __future__ import annotations

from .. import _rushlight as _r
from .. import functional as F
from .._rushlight import Tensor
from .modules import Module, Parameter, Sizes, many


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last dims."""

    def __init__(self, normalized_shape: Sizes, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.normalized_shape, self.eps = many(normalized_shape, 1), eps
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
        self.normalized_shape, self.eps = many(normalized_shape, 1), eps
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


__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "LayerNorm", "RMSNorm",
]
