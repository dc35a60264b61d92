"""Module 0: functions of numbers, and functions of functions."""

from __future__ import annotations

import builtins
import math
from typing import Callable, Iterable, List

EPS = 1e-6
"""Added to what a logarithm is taken of."""


def id(x: float) -> float:
    """``x``"""
    return x


def neg(x: float) -> float:
    """``-x``"""
    return -float(x)


def inv(x: float) -> float:
    """``1 / x``"""
    return 1.0 / x


def exp(x: float) -> float:
    """``e ** x``, infinite where that is larger than any float."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def log(x: float) -> float:
    """``ln(x + EPS)``"""
    return math.log(x + EPS)


def sigmoid(x: float) -> float:
    """``1 / (1 + e ** -x)``, of an exponent that cannot overflow."""
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1.0 + small)


def relu(x: float) -> float:
    """``x`` above 0, else 0."""
    return x if x > 0 else 0.0


def add(x: float, y: float) -> float:
    """``x + y``"""
    return x + y


def mul(x: float, y: float) -> float:
    """``x * y``"""
    return x * y


def max(x: float, y: float) -> float:
    """The larger."""
    return x if x > y else y


def lt(x: float, y: float) -> float:
    """1.0 where ``x < y``, else 0.0."""
    return float(x < y)


def eq(x: float, y: float) -> float:
    """1.0 where ``x == y``, else 0.0."""
    return float(x == y)


def is_close(x: float, y: float) -> float:
    """1.0 where they differ by less than 0.01, else 0.0."""
    return float(abs(x - y) < 1e-2)


def inv_back(x: float, d: float) -> float:
    """``d`` times the derivative of :func:`inv` at ``x``."""
    return -d / (x * x)


def log_back(x: float, d: float) -> float:
    """``d`` times the derivative of :func:`log` at ``x``."""
    return d / (x + EPS)


def relu_back(x: float, d: float) -> float:
    """``d`` times the derivative of :func:`relu` at ``x``; 0 at 0."""
    return d if x > 0 else 0.0


def map(fn: Callable[[float], float]) -> Callable[[Iterable[float]], List[float]]:
    """The function that applies ``fn`` to each element."""
    return lambda ls: [fn(x) for x in ls]


def zipWith(fn: Callable[[float, float], float]) -> Callable[[Iterable[float], Iterable[float]], List[float]]:
    """The function that applies ``fn`` to elements at the same place."""
    return lambda a, b: [fn(x, y) for x, y in builtins.zip(a, b)]


def reduce(fn: Callable[[float, float], float], start: float) -> Callable[[Iterable[float]], float]:
    """The function that combines ``start`` and all elements by ``fn``, from the left."""

    def combine(ls: Iterable[float]) -> float:
        total = start
        for x in ls:
            total = fn(total, x)
        return total

    return combine


def negList(ls: Iterable[float]) -> List[float]:
    """Each element's negative."""
    return map(neg)(ls)


def addLists(a: Iterable[float], b: Iterable[float]) -> List[float]:
    """The sums of elements at the same place."""
    return zipWith(add)(a, b)


def sum(ls: Iterable[float]) -> float:
    """The sum; 0 of nothing."""
    return reduce(add, 0.0)(ls)


def prod(ls: Iterable[float]) -> float:
    """The product; 1 of nothing."""
    return reduce(mul, 1.0)(ls)
