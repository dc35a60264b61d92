"""Module 1: derivatives, by differences and by walking back."""

from __future__ import annotations

import itertools
from typing import Any, Callable, Dict, Iterable, List, Optional, Protocol, Sequence, Set, Tuple, Type, TypeVar

R = TypeVar("R", bound="Rule")


def central_difference(f: Any, *vals: Any, arg: int = 0, epsilon: float = 1e-6) -> Any:
    """About the derivative of ``f`` with respect to its argument ``arg`` at ``vals``: a difference of two values."""
    up, down = list(vals), list(vals)
    up[arg] = vals[arg] + epsilon
    down[arg] = vals[arg] - epsilon
    return (f(*up) - f(*down)) / (2 * epsilon)


class Variable(Protocol):
    """What a graph is made of."""

    def accumulate_derivative(self, x: Any) -> None:
        """Adds to the derivative of a leaf."""

    @property
    def unique_id(self) -> int:
        """Tells it from all others."""

    def is_leaf(self) -> bool:
        """Whether it was made by no function."""

    def is_constant(self) -> bool:
        """Whether no derivative is wanted."""

    @property
    def parents(self) -> Iterable[Variable]:
        """What it was computed from."""

    def chain_rule(self, d_output: Any) -> Iterable[Tuple[Variable, Any]]:
        """What ``d_output`` brings to each parent."""


def topological_sort(variable: Variable) -> List[Variable]:
    """All that ``variable`` was computed from, itself first, each before what it was computed from; no constants."""
    order: List[Variable] = []
    seen: Set[int] = set()
    # A stack of our own: a graph may be deeper than Python's.
    stack = [(variable, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node.unique_id not in seen and not node.is_constant():
            seen.add(node.unique_id)
            stack.append((node, True))
            if not node.is_leaf():
                stack.extend((parent, False) for parent in node.parents)
    return order[::-1]


def backpropagate(variable: Variable, deriv: Any) -> None:
    """Adds to each leaf its derivative, where that of ``variable`` is ``deriv``."""
    derivs: Dict[int, Any] = {variable.unique_id: deriv}
    for node in topological_sort(variable):
        if node.unique_id not in derivs:
            continue
        d = derivs.pop(node.unique_id)
        if node.is_leaf():
            node.accumulate_derivative(d)
            continue
        for parent, more in node.chain_rule(d):
            if not parent.is_constant():
                known = derivs.get(parent.unique_id)
                derivs[parent.unique_id] = more if known is None else known + more


class Context:
    """What a function keeps for its derivative; nothing where none is wanted."""

    saved_values: Tuple[Any, ...]

    def __init__(self, no_grad: bool = False, saved_values: Tuple[Any, ...] = ()) -> None:
        self.no_grad, self.saved_values = no_grad, saved_values

    def save_for_backward(self, *values: Any) -> None:
        """Keeps values, unless no derivative is wanted."""
        self.saved_values = () if self.no_grad else values

    saved_tensors = property(lambda self: self.saved_values, doc="The values under their other name.")


class Rule:
    """A function with ``forward(ctx, *values)`` and ``backward(ctx, d_output)``, static methods of those who derive.
    Backward gives a derivative for each argument, one alone without a tuple."""

    forward: Any
    backward: Any

    @classmethod
    def derivatives(cls, ctx: Context, d_output: Any) -> Tuple[Any, ...]:
        """One for each argument."""
        found = cls.backward(ctx, d_output)
        return (found,) if not isinstance(found, tuple) else found


def rule(base: Type[R], name: str, doc: str, value: Callable[..., Any], slopes: Callable[..., Tuple[Any, ...]]) -> Type[R]:
    """A class over ``base`` from a row of a table: ``value(*arguments)``, and the derivatives of the arguments,
    ``slopes(d, y, *arguments)`` of the output's derivative ``d`` and the output ``y``."""

    def forward(ctx: Context, *arguments: Any) -> Any:
        y = value(*arguments)
        ctx.save_for_backward(y, *arguments)
        return y

    def backward(ctx: Context, d_output: Any) -> Any:
        return slopes(d_output, *ctx.saved_values)

    body = {"forward": staticmethod(forward), "backward": staticmethod(backward), "__doc__": doc}
    return type(name, (base,), {**body, "__module__": base.__module__})


class History:
    """The function that made a value, and of what; no function for a leaf."""

    def __init__(
        self,
        last_fn: Optional[Type[Any]] = None,
        ctx: Optional[Context] = None,
        inputs: Sequence[Any] = (),
    ) -> None:
        self.last_fn, self.ctx, self.inputs = last_fn, ctx, inputs


class Node:
    """What scalars and tensors have in common: a number of their own, and a place in the graph."""

    history: Optional[History]
    unique_id: int
    name: str
    _count = itertools.count(1)

    def _enter(self, history: Optional[History], name: Optional[str]) -> None:
        self.unique_id = next(Node._count)
        self.name = name or f"{self.unique_id}"
        self.history = history

    def requires_grad_(self, x: bool) -> None:
        """Makes it a leaf, or a constant."""
        self.history = History() if x else None

    def _made_by(self) -> Optional[Tuple[Type[Any], Context, Sequence[Any]]]:
        """The function, what it kept, and its arguments; None of what no function made."""
        h = self.history
        return None if h is None or h.last_fn is None or h.ctx is None else (h.last_fn, h.ctx, h.inputs)

    def is_constant(self) -> bool:
        """Whether no derivative is wanted."""
        return not self.history

    def is_leaf(self) -> bool:
        """Whether a derivative is wanted and no function made it."""
        return not (self.is_constant() or self._made_by())

    @property
    def parents(self) -> Iterable[Variable]:
        """What it was computed from."""
        made = self._made_by()
        return made[2] if made else []

    def _pulled_back(self, d_output: Any) -> List[Tuple[Any, Any]]:
        """Each argument of the function that made it, with its derivative."""
        made = self._made_by()
        if made is None:
            raise ValueError(f"no function made this {type(self).__name__.lower()}")
        function, ctx, inputs = made
        found = function.derivatives(ctx, d_output)
        if len(found) != len(inputs):
            raise ValueError(f"{function.__name__} gave {len(found)} gradients for {len(inputs)} inputs")
        return list(zip(inputs, found))

    def __hash__(self) -> int:
        return self.unique_id
