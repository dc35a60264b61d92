"""Module 1: functions of scalars and their derivatives, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import operators
from .autodiff import Context, Rule, rule

if TYPE_CHECKING:
    from .scalar import Scalar, ScalarLike


class ScalarFunction(Rule):
    """A function of numbers. To make one, derive from it and define ``forward`` and ``backward``."""

    @classmethod
    def apply(cls, *vals: ScalarLike) -> Scalar:
        """Its value, which knows how it came about. Numbers are taken for scalars."""
        from .scalar import Scalar, ScalarHistory

        scalars = [v if isinstance(v, Scalar) else Scalar(v) for v in vals]
        ctx = Context()
        value = cls.forward(ctx, *(s.data for s in scalars))
        return Scalar(value, ScalarHistory(cls, ctx, scalars))


o, S = operators, ScalarFunction
# The name, what it computes, and of the output's derivative d and value y: the derivatives of its arguments.
Add = rule(S, "Add", "``a + b``", o.add, lambda d, y, a, b: (d, d))
Mul = rule(S, "Mul", "``a * b``", o.mul, lambda d, y, a, b: (d * b, d * a))
Neg = rule(S, "Neg", "``-a``", o.neg, lambda d, y, a: (-d,))
Inv = rule(S, "Inv", "``1 / a``", o.inv, lambda d, y, a: (o.inv_back(a, d),))
Log = rule(S, "Log", "``ln a``", o.log, lambda d, y, a: (o.log_back(a, d),))
Exp = rule(S, "Exp", "``e ** a``", o.exp, lambda d, y, a: (d * y,))
Sigmoid = rule(S, "Sigmoid", "``1 / (1 + e ** -a)``", o.sigmoid, lambda d, y, a: (d * y * (1.0 - y),))
ReLU = rule(S, "ReLU", "``a`` above 0, else 0", o.relu, lambda d, y, a: (o.relu_back(a, d),))
LT = rule(S, "LT", "1.0 where ``a < b``: flat everywhere", o.lt, lambda d, y, a, b: (0.0, 0.0))
EQ = rule(S, "EQ", "1.0 where ``a == b``: flat everywhere", o.eq, lambda d, y, a, b: (0.0, 0.0))
