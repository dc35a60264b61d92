"""Layers that pad: with zeros or a number, by mirroring, by repeating the edge, or around."""

from __future__ import annotations

from .. import functional as F
from .._rushlight import Tensor
from .modules import Module, Sizes, many


class _Pad(Module):
    """``padding`` is one number, or two for each of the last dims, the last one's first."""

    _n = 0
    _mode = "constant"

    def __init__(self, padding: Sizes) -> None:
        super().__init__()
        self.padding, self.value = many(padding, 2 * self._n), 0.0
        if len(self.padding) != 2 * self._n:
            raise ValueError(f"{type(self).__name__}: expected 1 or {2 * self._n} sizes, got {self.padding}")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self._mode, self.value if self._mode == "constant" else None)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Sizes, value: float) -> None:
        super().__init__(padding)
        self.value = value


def _family(n: int) -> tuple[type[_Pad], ...]:
    docs = {
        "ZeroPad": ("constant", "Zeros"), "ReflectionPad": ("reflect", "The mirror image, without the edge,"),
        "ReplicationPad": ("replicate", "The edge"), "CircularPad": ("circular", "The other side"),
    }
    return tuple(
        type(f"{name}{n}d", (_Pad,), {"_n": n, "_mode": mode, "__doc__": f"{what} around the last {n} dims.", "__module__": __name__})
        for name, (mode, what) in docs.items()
    )


ZeroPad1d, ReflectionPad1d, ReplicationPad1d, CircularPad1d = _family(1)
ZeroPad2d, ReflectionPad2d, ReplicationPad2d, CircularPad2d = _family(2)
ZeroPad3d, ReflectionPad3d, ReplicationPad3d, CircularPad3d = _family(3)


class ConstantPad1d(_ConstantPad):
    """A number around the last dim."""

    _n = 1


class ConstantPad2d(_ConstantPad):
    """A number around the last 2 dims."""

    _n = 2


class ConstantPad3d(_ConstantPad):
    """A number around the last 3 dims."""

    _n = 3


__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d",
    "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]
