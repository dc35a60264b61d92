"""Module 1: numbers that know how they came about."""

from __future__ import annotations

import itertools
from typing import Any, Iterable, List, Optional, Sequence, Tuple, Type, Union

from .autodiff import Context, Variable, backpropagate, central_difference
from .scalar_functions import EQ, LT, Add, Exp, Inv, Log, Mul, Neg, ReLU, ScalarFunction, Sigmoid

ScalarLike = Union[float, int, "Scalar"]
_numbers = itertools.count(1)


class ScalarHistory:
    """The function that made a scalar, and of what; no function for a leaf."""

    def __init__(
        self,
        last_fn: Optional[Type[ScalarFunction]] = None,
        ctx: Optional[Context] = None,
        inputs: Sequence[Scalar] = (),
    ) -> None:
        self.last_fn = last_fn
        self.ctx = ctx
        self.inputs = inputs


class Scalar:
    """A number in a graph. Its ``derivative`` is there after ``backward`` of what was computed from it."""

    history: Optional[ScalarHistory]
    derivative: Optional[float]

    def __init__(self, v: float, back: Optional[ScalarHistory] = None, name: Optional[str] = None) -> None:
        self.unique_id = next(_numbers)
        self.data = float(v)
        self.history = ScalarHistory() if back is None else back
        self.derivative = None
        self.name = name or str(self.unique_id)

    def requires_grad_(self, x: bool) -> None:
        """Makes it a leaf, or a constant."""
        self.history = ScalarHistory() if x else None

    def __repr__(self) -> str:
        return f"Scalar({self.data})"

    def __bool__(self) -> bool:
        return bool(self.data)

    def __hash__(self) -> int:
        return self.unique_id

    def __add__(self, b: ScalarLike) -> Scalar:
        return Add.apply(self, b)

    def __radd__(self, b: ScalarLike) -> Scalar:
        return self + b

    def __mul__(self, b: ScalarLike) -> Scalar:
        return Mul.apply(self, b)

    def __rmul__(self, b: ScalarLike) -> Scalar:
        return self * b

    def __sub__(self, b: ScalarLike) -> Scalar:
        return Add.apply(self, Neg.apply(b))

    def __rsub__(self, b: ScalarLike) -> Scalar:
        return Add.apply(b, -self)

    def __truediv__(self, b: ScalarLike) -> Scalar:
        return Mul.apply(self, Inv.apply(b))

    def __rtruediv__(self, b: ScalarLike) -> Scalar:
        return Mul.apply(b, Inv.apply(self))

    def __neg__(self) -> Scalar:
        return Neg.apply(self)

    def __lt__(self, b: ScalarLike) -> Scalar:
        return LT.apply(self, b)

    def __gt__(self, b: ScalarLike) -> Scalar:
        return LT.apply(b, self)

    def __eq__(self, b: ScalarLike) -> Scalar:  # type: ignore[override]
        return EQ.apply(self, b)

    def log(self) -> Scalar:
        """Its logarithm."""
        return Log.apply(self)

    def exp(self) -> Scalar:
        """Its exponential."""
        return Exp.apply(self)

    def sigmoid(self) -> Scalar:
        """Its logistic sigmoid."""
        return Sigmoid.apply(self)

    def relu(self) -> Scalar:
        """Itself above 0, else 0."""
        return ReLU.apply(self)

    def accumulate_derivative(self, x: Any) -> None:
        """Adds to the derivative of a leaf."""
        if not self.is_leaf():
            raise ValueError("only leaves keep a derivative")
        self.derivative = (self.derivative or 0.0) + x

    def is_leaf(self) -> bool:
        """Whether no function made it."""
        return self.history is not None and self.history.last_fn is None

    def is_constant(self) -> bool:
        """Whether no derivative is wanted."""
        return self.history is None

    @property
    def parents(self) -> Iterable[Variable]:
        """What it was computed from."""
        return [] if self.history is None else self.history.inputs

    def chain_rule(self, d_output: Any) -> List[Tuple[Variable, Any]]:
        """What ``d_output`` brings to each input of the function that made it."""
        h = self.history
        if h is None or h.last_fn is None or h.ctx is None:
            raise ValueError("no function made this scalar")
        return list(zip(h.inputs, h.last_fn._backward(h.ctx, d_output)))

    def backward(self, d_output: Optional[float] = None) -> None:
        """Adds to each leaf its derivative."""
        backpropagate(self, 1.0 if d_output is None else d_output)


def derivative_check(f: Any, *scalars: Scalar) -> None:
    """Compares the derivatives of ``f`` at ``scalars`` with differences."""
    for x in scalars:
        x.requires_grad_(True)
        x.derivative = None
    f(*scalars).backward()
    for i, x in enumerate(scalars):
        expected = central_difference(lambda *v: f(*map(Scalar, v)).data, *(s.data for s in scalars), arg=i)
        got = x.derivative or 0.0
        values = ", ".join(str(s.data) for s in scalars)
        assert abs(got - expected) <= 1e-2 + 1e-2 * abs(expected), (
            f"derivative of argument {i} of f({values}): {got}, by differences {expected}"
        )
