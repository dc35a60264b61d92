"""Module 4: pooling, max, softmax, dropout."""

from __future__ import annotations

from typing import Callable, Tuple, Type

import rushlight as rl

from .autodiff import Context
from .tensor import Tensor
from .tensor_functions import Function


def tile(input: Tensor, kernel: Tuple[int, int]) -> Tuple[Tensor, int, int]:
    """``input`` (batch, channel, height, width) folded to (batch, channel, new_height, new_width, kh * kw), and the new
    height and width. ValueError: sizes that the kernel does not divide."""
    batch, channel, height, width = input.shape
    kh, kw = kernel
    if height % kh or width % kw:
        raise ValueError(f"a kernel of {kernel} does not divide a picture of {(height, width)}")
    down, across = height // kh, width // kw
    folded = input.contiguous().view(batch, channel, down, kh, across, kw)
    windows = folded.permute(0, 1, 2, 4, 3, 5).contiguous().view(batch, channel, down, across, kh * kw)
    return windows, down, across


def avgpool2d(input: Tensor, kernel: Tuple[int, int]) -> Tensor:
    """The mean of each window."""
    windows, height, width = tile(input, kernel)
    return windows.mean(4).view(*input.shape[:2], height, width)


def maxpool2d(input: Tensor, kernel: Tuple[int, int]) -> Tensor:
    """The largest element of each window."""
    windows, height, width = tile(input, kernel)
    return max(windows, 4).view(*input.shape[:2], height, width)


def argmax(input: Tensor, dim: int) -> Tensor:
    """1 at the largest element along a dim (of several the first), 0 at the others."""
    return input._of(input._tensor.view().argmax_one_hot(dim).double())


class Max(Function):
    """The largest along a dim. All the gradient goes to where :func:`argmax` is, also where others are as large."""

    @staticmethod
    def forward(ctx: Context, input: Tensor, dim: Tensor) -> Tensor:
        d = int(dim.item())
        ctx.save_for_backward(input, d)
        return input._of(input._tensor.view().amax(d, keepdim=True))

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, float]:
        input, dim = ctx.saved_values
        return grad_output * argmax(input, dim), 0.0


class Softmax(Function):
    """``exp(x) / Σ exp(x)`` along a dim."""

    @staticmethod
    def forward(ctx: Context, input: Tensor, dim: Tensor) -> Tensor:
        d = int(dim.item())
        y = input._of(input._tensor.view().softmax(d))
        ctx.save_for_backward(y, d)
        return y

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, float]:
        y, dim = ctx.saved_values
        return y * (grad_output - (grad_output * y).sum(dim)), 0.0


class LogSoftmax(Function):
    """The logarithm of softmax along a dim, ``x - max - ln Σ exp(x - max)``."""

    @staticmethod
    def forward(ctx: Context, input: Tensor, dim: Tensor) -> Tensor:
        d = int(dim.item())
        y = input._of(input._tensor.view().log_softmax(d))
        ctx.save_for_backward(y, d)
        return y

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, float]:
        y, dim = ctx.saved_values
        return grad_output - y.exp() * grad_output.sum(dim), 0.0


def _along(function: Type[Function], doc: str) -> Callable[[Tensor, int], Tensor]:
    def call(input: Tensor, dim: int) -> Tensor:
        return function.apply(input, input._row([dim]))

    call.__doc__ = doc
    return call


max = _along(Max, "The largest along a dim, which stays with size 1.")
softmax = _along(Softmax, "The soft argmax along a dim.")
logsoftmax = _along(LogSoftmax, "Its logarithm.")


def dropout(input: Tensor, rate: float, ignore: bool = False) -> Tensor:
    """Zeros at random places, as many as ``rate`` says, the rest divided by ``1 - rate``; ``input`` itself where it is to be
    ignored, as in validation."""
    if ignore or rate <= 0.0:
        return input
    if rate >= 1.0:
        return input * input.zeros()
    kept = (rl.rand(*input.shape, dtype=rl.float64) >= rate).double()
    return input * input._of(kept / (1.0 - rate))
