"""The few functions of linear algebra that there are."""

from __future__ import annotations

from ._rushlight import Tensor


def norm(x: Tensor, ord: float = 2.0, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Tensor:
    """``(Σ |x|ᵖ)^(1/p)`` over ``dim`` (None: all)."""
    return x.norm(ord, dim, keepdim)


def vector_norm(x: Tensor, ord: float = 2.0, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Tensor:
    """``(Σ |x|ᵖ)^(1/p)`` over ``dim`` (None: all)."""
    return x.norm(ord, dim, keepdim)
