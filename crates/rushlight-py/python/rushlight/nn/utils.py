"""Gradients of many parameters at once, and parameters as one vector."""

from __future__ import annotations

from typing import Iterable

from .. import _rushlight as _r
from .._rushlight import Tensor
from .._tensor import cat, stack
from ..autograd import no_grad


def _list(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Makes all gradients smaller by one factor where their norm is above ``max_norm``; returns the norm before."""
    grads = [p.grad for p in _list(parameters) if p.grad is not None]
    if not grads:
        return _r.tensor(0.0)
    with no_grad():
        total = stack([g.detach().norm(norm_type) for g in grads]).norm(norm_type)
        factor = max_norm / (float(total) + 1e-6)
        if factor < 1:
            for g in grads:
                g.mul_(factor)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Cuts every gradient to ``±clip_value``."""
    with no_grad():
        for p in _list(parameters):
            if p.grad is not None:
                p.grad.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """All elements in one vector."""
    return cat([p.reshape(-1) for p in _list(parameters)])


def vector_to_parameters(vec: Tensor, parameters: Tensor | Iterable[Tensor]) -> None:
    """And back."""
    start = 0
    with no_grad():
        for p in _list(parameters):
            p.copy_(vec[start : start + p.numel()].reshape(p.shape))
            start += p.numel()
