"""Module 4: convolution. An output is as long as its input: the kernel begins at its place, with zeros beyond the end."""

from __future__ import annotations

from typing import Any, Callable, Tuple

from rushlight import functional

from .autodiff import Context
from .tensor import Tensor
from .tensor_functions import Function


def _conv1d(x: Any, w: Any) -> Any:
    return functional.conv1d(functional.pad(x, (0, w.shape[-1] - 1)), w)


def _conv2d(x: Any, w: Any) -> Any:
    return functional.conv2d(functional.pad(x, (0, w.shape[-1] - 1, 0, w.shape[-2] - 1)), w)


def _gradients(f: Callable[[Any, Any], Any], ctx: Context, grad_output: Tensor) -> Tuple[Tensor, Tensor]:
    leaves = [t._tensor.view().contiguous().requires_grad_(True) for t in ctx.saved_values]
    f(*leaves).backward(grad_output._tensor.view().contiguous())
    x, w = (grad_output._of(leaf.grad) for leaf in leaves)
    return x, w


class Conv1dFun(Function):
    """``input`` (batch, in_channels, width) with ``weight`` (out_channels, in_channels, k) to (batch, out_channels, width)."""

    @staticmethod
    def forward(ctx: Context, input: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return input._of(_conv1d(input._tensor.view(), weight._tensor.view()))

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, Tensor]:
        return _gradients(_conv1d, ctx, grad_output)


class Conv2dFun(Function):
    """``input`` (batch, in, height, width) with ``weight`` (out, in, kh, kw) to (batch, out, height, width)."""

    @staticmethod
    def forward(ctx: Context, input: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(input, weight)
        return input._of(_conv2d(input._tensor.view(), weight._tensor.view()))

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, Tensor]:
        return _gradients(_conv2d, ctx, grad_output)


conv1d = Conv1dFun.apply
conv2d = Conv2dFun.apply
