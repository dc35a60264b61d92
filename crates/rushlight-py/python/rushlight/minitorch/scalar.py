"""Module 1: numbers that know how they came about."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Tuple, Type, Union

from .autodiff import History, Node, Variable, backpropagate, central_difference
from .scalar_functions import EQ, LT, Add, Exp, Inv, Log, Mul, Neg, ReLU, ScalarFunction, Sigmoid

ScalarLike = Union[float, int, "Scalar"]
ScalarHistory = History


def _of_one(function: Type[ScalarFunction], doc: str) -> Callable[[Scalar], Scalar]:
    def method(a: Scalar) -> Scalar:
        return function.apply(a)

    method.__doc__ = doc
    return method


def _of_two(rule: Callable[[ScalarLike, ScalarLike], Scalar], turned: bool = False) -> Callable[[Scalar, ScalarLike], Scalar]:
    def method(a: Scalar, b: ScalarLike) -> Scalar:
        return rule(b, a) if turned else rule(a, b)

    return method


def _minus(a: ScalarLike, b: ScalarLike) -> Scalar:
    return Add.apply(a, Neg.apply(b))


def _over(a: ScalarLike, b: ScalarLike) -> Scalar:
    return Mul.apply(a, Inv.apply(b))


class Scalar(Node):
    """A number in a graph. Its ``derivative`` is there after ``backward`` of what was computed from it."""

    derivative: Optional[float] = None

    def __init__(self, v: float, back: Optional[History] = None, name: Optional[str] = None) -> None:
        self._enter(back or ScalarHistory(), name)
        self.data = float(v)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data})"

    def __bool__(self) -> bool:
        return self.data != 0.0

    __add__, __radd__ = _of_two(Add.apply), _of_two(Add.apply, turned=True)
    __sub__, __rsub__ = _of_two(_minus), _of_two(_minus, turned=True)
    __mul__, __rmul__ = _of_two(Mul.apply), _of_two(Mul.apply, turned=True)
    __truediv__, __rtruediv__ = _of_two(_over), _of_two(_over, turned=True)
    __lt__, __gt__ = _of_two(LT.apply), _of_two(LT.apply, turned=True)
    __eq__ = _of_two(EQ.apply)  # type: ignore[assignment]
    __hash__ = Node.__hash__
    __neg__ = _of_one(Neg, "Its negative.")
    log = _of_one(Log, "Its logarithm.")
    exp = _of_one(Exp, "Its exponential.")
    sigmoid = _of_one(Sigmoid, "Its logistic sigmoid.")
    relu = _of_one(ReLU, "Itself above 0, else 0.")

    def accumulate_derivative(self, x: Any) -> None:
        """Adds to the derivative of a leaf."""
        if not self.is_leaf():
            raise ValueError("only leaves keep a derivative")
        self.derivative = (self.derivative or 0.0) + x

    def chain_rule(self, d_output: Any) -> List[Tuple[Variable, Any]]:
        """What ``d_output`` brings to each input of the function that made it."""
        return self._pulled_back(d_output)

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
