"""Activations, pools and losses as modules: functions with fixed arguments, as a table."""

from __future__ import annotations

from typing import Any, Callable

from .. import _rushlight as _r
from .._rushlight import Tensor
from .modules import Module


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

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss",
    "ELU", "GELU", "HuberLoss", "KLDivLoss", "L1Loss", "LPPool1d", "LPPool2d", "LPPool3d", "LeakyReLU", "LogSigmoid",
    "LogSoftmax", "MSELoss", "MaxPool1d", "MaxPool2d", "MaxPool3d", "Mish", "NLLLoss", "ReLU", "SiLU", "Sigmoid",
    "SmoothL1Loss", "Softmax", "SoftmaxPool1d", "SoftmaxPool2d", "SoftmaxPool3d", "Softplus", "Tanh",
]
