"""Modules 1 and 2: stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from .module import Parameter
from .scalar import Scalar
from .tensor import Tensor


@dataclass(eq=False)
class Optimizer:
    """Changes parameters by their gradients."""

    parameters: Sequence[Parameter]


@dataclass(eq=False)
class SGD(Optimizer):
    """``p -= lr * gradient``, for scalars and tensors."""

    lr: float = 1.0

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for value in (p.value for p in self.parameters):
            if isinstance(value, Scalar):
                value.derivative = None
            elif isinstance(value, Tensor):
                value.zero_grad_()

    def step(self) -> None:
        """Updates each parameter that has a gradient."""
        for p in self.parameters:
            v = p.value
            if isinstance(v, Scalar) and v.derivative is not None:
                p.update(Scalar(v.data - self.lr * v.derivative))
            elif isinstance(v, Tensor) and v.grad is not None:
                p.update(v.detach() - v.grad * self.lr)
