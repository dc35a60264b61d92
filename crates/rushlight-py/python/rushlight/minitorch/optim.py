"""Modules 1 and 2: stochastic gradient descent."""

from __future__ import annotations

from typing import Sequence

from .module import Parameter
from .scalar import Scalar
from .tensor import Tensor


class Optimizer:
    """Changes parameters by their gradients."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = parameters


class SGD(Optimizer):
    """``p -= lr * gradient``, for scalars and tensors."""

    def __init__(self, parameters: Sequence[Parameter], lr: float = 1.0) -> None:
        super().__init__(parameters)
        self.lr = lr

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for p in self.parameters:
            if isinstance(p.value, Scalar):
                p.value.derivative = None
            elif isinstance(p.value, Tensor):
                p.value.zero_grad_()

    def step(self) -> None:
        """Updates each parameter that has a gradient."""
        for p in self.parameters:
            v = p.value
            if isinstance(v, Scalar) and v.derivative is not None:
                p.update(Scalar(v.data - self.lr * v.derivative))
            elif isinstance(v, Tensor) and v.grad is not None:
                p.update(v.detach() - v.grad * self.lr)
