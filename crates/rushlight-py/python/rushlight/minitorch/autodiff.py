"""Module 1: derivatives, by differences and by walking back."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Protocol, Set, Tuple


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
    """What a function keeps for its derivative."""

    def __init__(self, no_grad: bool = False, saved_values: Tuple[Any, ...] = ()) -> None:
        self.no_grad = no_grad
        self.saved_values = saved_values

    def save_for_backward(self, *values: Any) -> None:
        """Keeps values, unless no derivative is wanted."""
        if not self.no_grad:
            self.saved_values = values

    @property
    def saved_tensors(self) -> Tuple[Any, ...]:
        """The same values."""
        return self.saved_values
