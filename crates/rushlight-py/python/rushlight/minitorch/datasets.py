"""Points of the unit square in two classes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Callable, List, Tuple

Point = Tuple[float, float]


@dataclass
class Graph:
    """``N`` points ``X`` and their classes ``y``."""

    N: int
    X: List[Point]
    y: List[int]


def make_pts(N: int) -> List[Point]:
    """Uniform random points."""
    return [(random.random(), random.random()) for _ in range(N)]


def _by(N: int, rule: Callable[[float, float], bool]) -> Graph:
    points = make_pts(N)
    return Graph(N, points, [int(rule(a, b)) for a, b in points])


def simple(N: int) -> Graph:
    """Left and right."""
    return _by(N, lambda a, b: a < 0.5)


def diag(N: int) -> Graph:
    """A corner."""
    return _by(N, lambda a, b: a + b < 0.5)


def split(N: int) -> Graph:
    """Both sides, and the middle."""
    return _by(N, lambda a, b: not 0.2 <= a <= 0.8)


def xor(N: int) -> Graph:
    """Two quarters across from each other."""
    return _by(N, lambda a, b: (a < 0.5) != (b < 0.5))


def circle(N: int) -> Graph:
    """Outside and inside of a circle."""
    return _by(N, lambda a, b: (a - 0.5) ** 2 + (b - 0.5) ** 2 > 0.1)


def spiral(N: int) -> Graph:
    """Two arms, half of the points each, in order along the arms."""
    half = N // 2

    def arm(sign: int, count: int) -> List[Point]:
        turns = [10.0 * (i + 5) / (count + 5) for i in range(count)]
        return [(0.5 + sign * t * math.cos(t) / 20, 0.5 + sign * t * math.sin(t) / 20) for t in turns]

    return Graph(N, arm(1, half) + arm(-1, N - half), [0] * half + [1] * (N - half))


datasets = {"Simple": simple, "Diag": diag, "Split": split, "Xor": xor, "Circle": circle, "Spiral": spiral}
