"""Layers in which one network decides how much of another is let through."""

from __future__ import annotations

from typing import Callable, Sequence

from .. import _rushlight as _r
from .._rushlight import Tensor
from . import init
from .containers import ModuleList
from .layers import Linear
from .modules import Module


class Gate(Module):
    """``σ(r) · first(x) + (1 − σ(r)) · second(x)`` with the score ``r = gate(x)``."""

    def __init__(self, first: Module, second: Module, gate: Module) -> None:
        super().__init__()
        self.first, self.second, self.gate = first, second, gate

    def openness(self, x: Tensor) -> Tensor:
        """How far the gate is open."""
        return self.gate(x).sigmoid()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x).gate(self.second(x), self.gate(x))  # type: ignore[no-any-return]


class Highway(Module):
    """Layers that each let through as much of their input as their gate says."""

    def __init__(self, width: int, layers: int, activation: Callable[[Tensor], Tensor] = _r.relu) -> None:
        super().__init__()
        self.activation = activation
        self.transform = ModuleList(Linear(width, width) for _ in range(layers))
        self.gate = ModuleList(Linear(width, width) for _ in range(layers))
        for gate in self.gate:
            # At first most of the input goes through.
            init.constant_(gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        for transform, gate in zip(self.transform, self.gate):
            x = self.activation(transform(x)).gate(x, gate(x))
        return x


class MixtureOfExperts(Module):
    """``Σ gᵢ(x) · expertᵢ(x)``, the gates a softmax over the ``k`` largest logits."""

    def __init__(self, gate: Module, experts: Sequence[Module], k: int | None = None) -> None:
        super().__init__()
        self.gate, self.experts, self.k = gate, ModuleList(experts), k or len(experts)

    def gates(self, x: Tensor) -> Tensor:
        """The weights of the experts, ``[…, experts]``."""
        logits: Tensor = self.gate(x)
        if self.k < len(self.experts):
            least = logits.detach().topk(self.k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits.detach() < least, float("-inf"))
        return logits.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gates(x)
        out = self.experts[0](x) * gates[..., 0:1]
        for i in range(1, len(self.experts)):
            out = out + self.experts[i](x) * gates[..., i : i + 1]
        return out  # type: ignore[no-any-return]


__all__ = [
    "Gate", "Highway", "MixtureOfExperts",
]
