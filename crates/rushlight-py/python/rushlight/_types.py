"""Small named results."""

from __future__ import annotations

from typing import NamedTuple

from ._rushlight import Tensor


class ValuesIndices(NamedTuple):
    """What max, min, sort and topk along a dim give."""

    values: Tensor
    indices: Tensor
