"""Module 1: functions of scalars and their derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Tuple

from . import operators
from .autodiff import Context

if TYPE_CHECKING:
    from .scalar import Scalar, ScalarLike


class ScalarFunction:
    """A function with ``forward(ctx, *numbers)`` and ``backward(ctx, d_output)``, static methods of those who derive."""

    forward: Any
    backward: Any

    @classmethod
    def _backward(cls, ctx: Context, d_out: float) -> Tuple[float, ...]:
        back = cls.backward(ctx, d_out)
        return back if isinstance(back, tuple) else (back,)

    @classmethod
    def apply(cls, *vals: ScalarLike) -> Scalar:
        """Its value, which knows how it came about. Numbers are taken for scalars."""
        from .scalar import Scalar, ScalarHistory

        scalars = [v if isinstance(v, Scalar) else Scalar(v) for v in vals]
        ctx = Context()
        value = cls.forward(ctx, *(s.data for s in scalars))
        return Scalar(value, ScalarHistory(cls, ctx, scalars))


class Add(ScalarFunction):
    """``a + b``"""

    @staticmethod
    def forward(ctx: Context, a: float, b: float) -> float:
        return operators.add(a, b)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> Tuple[float, float]:
        return d_output, d_output


class Mul(ScalarFunction):
    """``a * b``"""

    @staticmethod
    def forward(ctx: Context, a: float, b: float) -> float:
        ctx.save_for_backward(a, b)
        return operators.mul(a, b)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> Tuple[float, float]:
        a, b = ctx.saved_values
        return d_output * b, d_output * a


class Neg(ScalarFunction):
    """``-a``"""

    @staticmethod
    def forward(ctx: Context, a: float) -> float:
        return operators.neg(a)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> float:
        return -d_output


class Inv(ScalarFunction):
    """``1 / a``"""

    @staticmethod
    def forward(ctx: Context, a: float) -> float:
        ctx.save_for_backward(a)
        return operators.inv(a)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> float:
        (a,) = ctx.saved_values
        return operators.inv_back(a, d_output)


class Log(ScalarFunction):
    """``ln a``"""

    @staticmethod
    def forward(ctx: Context, a: float) -> float:
        ctx.save_for_backward(a)
        return operators.log(a)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> float:
        (a,) = ctx.saved_values
        return operators.log_back(a, d_output)


class Exp(ScalarFunction):
    """``e ** a``"""

    @staticmethod
    def forward(ctx: Context, a: float) -> float:
        y = operators.exp(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, d_output: float) -> float:
        (y,) = ctx.saved_values
        return float(d_output * y)


class Sigmoid(ScalarFunction):
    """``1 / (1 + e ** -a)``"""

    @staticmethod
    def forward(ctx: Context, a: float) -> float:
        y = operators.sigmoid(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, d_output: float) -> float:
        (y,) = ctx.saved_values
        return float(d_output * y * (1.0 - y))


class ReLU(ScalarFunction):
    """``a`` above 0, else 0."""

    @staticmethod
    def forward(ctx: Context, a: float) -> float:
        ctx.save_for_backward(a)
        return operators.relu(a)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> float:
        (a,) = ctx.saved_values
        return operators.relu_back(a, d_output)


class LT(ScalarFunction):
    """1.0 where ``a < b``: flat everywhere."""

    @staticmethod
    def forward(ctx: Context, a: float, b: float) -> float:
        return operators.lt(a, b)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> Tuple[float, float]:
        return 0.0, 0.0


class EQ(ScalarFunction):
    """1.0 where ``a == b``: flat everywhere."""

    @staticmethod
    def forward(ctx: Context, a: float, b: float) -> float:
        return operators.eq(a, b)

    @staticmethod
    def backward(ctx: Context, d_output: float) -> Tuple[float, float]:
        return 0.0, 0.0
