"""Module 2: functions of tensors and their gradients."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import rushlight as rl

from .autodiff import Context
from .tensor_data import IndexingError, TensorData, UserIndex, UserShape
from .tensor_ops import SimpleBackend, TensorBackend

if TYPE_CHECKING:
    from .tensor import Tensor


class Function:
    """A function with ``forward(ctx, *tensors)`` and ``backward(ctx, grad_output)``, static methods of those who derive."""

    forward: Any
    backward: Any

    @classmethod
    def _backward(cls, ctx: Context, grad_out: Tensor) -> Tuple[Any, ...]:
        back = cls.backward(ctx, grad_out)
        return back if isinstance(back, tuple) else (back,)

    @classmethod
    def apply(cls, *vals: Tensor) -> Tensor:
        """Its value, which knows how it came about if a gradient of an argument is wanted."""
        from .tensor import History, Tensor

        wanted = any(v.requires_grad() for v in vals)
        ctx = Context(not wanted)
        value = cls.forward(ctx, *(v.detach() for v in vals))
        return Tensor(value._tensor, History(cls, ctx, vals) if wanted else None, backend=value.backend)


class Neg(Function):
    """``-a``"""

    @staticmethod
    def forward(ctx: Context, a: Tensor) -> Tensor:
        return a.f.neg_map(a)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tensor:
        return grad_output.f.neg_map(grad_output)


class Inv(Function):
    """``1 / a``"""

    @staticmethod
    def forward(ctx: Context, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return a.f.inv_map(a)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tensor:
        (a,) = ctx.saved_values
        return grad_output.f.inv_back_zip(a, grad_output)


class Add(Function):
    """``a + b``"""

    @staticmethod
    def forward(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
        return a.f.add_zip(a, b)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, Tensor]:
        return grad_output, grad_output


class Mul(Function):
    """``a * b``"""

    @staticmethod
    def forward(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a.f.mul_zip(a, b)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, Tensor]:
        a, b = ctx.saved_values
        multiply = grad_output.f.mul_zip
        return multiply(grad_output, b), multiply(grad_output, a)


class Sigmoid(Function):
    """``1 / (1 + e ** -a)``"""

    @staticmethod
    def forward(ctx: Context, a: Tensor) -> Tensor:
        y = a.f.sigmoid_map(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tensor:
        y: Tensor = ctx.saved_values[0]
        return grad_output * y * (1.0 - y)


class ReLU(Function):
    """``a`` above 0, else 0."""

    @staticmethod
    def forward(ctx: Context, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return a.f.relu_map(a)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tensor:
        (a,) = ctx.saved_values
        return grad_output.f.relu_back_zip(a, grad_output)


class Log(Function):
    """``ln a``"""

    @staticmethod
    def forward(ctx: Context, a: Tensor) -> Tensor:
        ctx.save_for_backward(a)
        return a.f.log_map(a)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tensor:
        (a,) = ctx.saved_values
        return grad_output.f.log_back_zip(a, grad_output)


class Exp(Function):
    """``e ** a``"""

    @staticmethod
    def forward(ctx: Context, a: Tensor) -> Tensor:
        y = a.f.exp_map(a)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tensor:
        (y,) = ctx.saved_values
        return grad_output.f.mul_zip(grad_output, y)


class Sum(Function):
    """The sum along a dim. Its gradient is the same for all, which :meth:`Tensor.expand` spreads."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, dim: Tensor) -> Tensor:
        return a.f.add_reduce(a, int(dim.item()))

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, float]:
        return grad_output, 0.0


class All(Function):
    """The product along a dim: 1.0 where all are. It has no gradient."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, dim: Tensor) -> Tensor:
        return a.f.mul_reduce(a, int(dim.item()))

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[float, float]:
        raise NotImplementedError("all() has no gradient")


class LT(Function):
    """1.0 where ``a < b``: flat everywhere."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
        return a.f.lt_zip(a, b)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[float, float]:
        return 0.0, 0.0


class EQ(Function):
    """1.0 where ``a == b``: flat everywhere."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
        return a.f.eq_zip(a, b)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[float, float]:
        return 0.0, 0.0


class IsClose(Function):
    """1.0 where the two differ by less than 0.01: flat everywhere."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
        return a.f.is_close_zip(a, b)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[float, float]:
        return 0.0, 0.0


class Permute(Function):
    """The same elements, their dims in another order."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, order: Tensor) -> Tensor:
        dims = [int(order[i]) for i in range(order.size)]
        ctx.save_for_backward(dims)
        return a._new(a._tensor.permute(*dims))

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, float]:
        (dims,) = ctx.saved_values
        back = [dims.index(i) for i in range(len(dims))]
        return grad_output._new(grad_output._tensor.permute(*back)), 0.0


class View(Function):
    """The same elements in order, in another shape."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, shape: Tensor) -> Tensor:
        ctx.save_for_backward(a.shape)
        sizes = [int(shape[i]) for i in range(shape.size)]
        if not a._tensor.is_contiguous():
            raise IndexingError("view needs a contiguous tensor: call contiguous() before")
        return a._new(TensorData(a._tensor._storage, sizes))

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, float]:
        (shape,) = ctx.saved_values
        return grad_output._of(grad_output._tensor.view().reshape(shape)), 0.0


class Copy(Function):
    """The same elements, in order."""

    @staticmethod
    def forward(ctx: Context, a: Tensor) -> Tensor:
        return a.f.id_map(a)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tensor:
        return grad_output


class MatMul(Function):
    """The product of matrices, their other dims broadcast."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a.f.matrix_multiply(a, b)

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> Tuple[Tensor, Tensor]:
        a, b = ctx.saved_values

        def transposed(x: Tensor) -> Tensor:
            order = list(range(x.dims))
            return x._new(x._tensor.permute(*order[:-2], order[-1], order[-2]))

        multiply = grad_output.f.matrix_multiply
        return multiply(grad_output, transposed(b)), multiply(transposed(a), grad_output)


def zeros(shape: UserShape, backend: TensorBackend = SimpleBackend) -> Tensor:
    """Zeros."""
    from .tensor import Tensor

    return Tensor(TensorData.of(rl.zeros(tuple(shape), dtype=rl.float64)), backend=backend)


def rand(shape: UserShape, backend: TensorBackend = SimpleBackend, requires_grad: bool = False) -> Tensor:
    """Uniform numbers of 0 to 1, by the generator of :func:`rushlight.manual_seed`."""
    from .tensor import Tensor

    out = Tensor(TensorData.of(rl.rand(*shape, dtype=rl.float64)), backend=backend)
    out.requires_grad_(requires_grad)
    return out


def tensor(ls: Any, backend: TensorBackend = SimpleBackend, requires_grad: bool = False) -> Tensor:
    """From a number or nested lists."""
    from .tensor import Tensor

    values = rl.tensor(ls, dtype=rl.float64)
    out = Tensor(TensorData.of(values.reshape(1) if values.ndim == 0 else values), backend=backend)
    out.requires_grad_(requires_grad)
    return out


def grad_central_difference(f: Any, *vals: Tensor, arg: int = 0, epsilon: float = 1e-6, ind: UserIndex) -> float:
    """About the derivative of ``f(*vals).sum()`` with respect to element ``ind`` of argument ``arg``."""

    def at(change: float) -> float:
        moved: List[Tensor] = [v.detach() for v in vals]
        moved[arg] = moved[arg].f.id_map(moved[arg])
        moved[arg][ind] = vals[arg][ind] + change
        return float(f(*moved).sum().item())

    return (at(epsilon) - at(-epsilon)) / (2.0 * epsilon)


def grad_check(f: Any, *vals: Tensor, tolerance: float = 1e-2, seed: Optional[int] = None) -> None:
    """Compares a gradient at a random element of each argument with differences."""
    chosen = random.Random(seed)
    for v in vals:
        v.requires_grad_(True)
        v.zero_grad_()
    f(*vals).sum().backward()
    for i, v in enumerate(vals):
        ind = tuple(chosen.randrange(size) for size in v.shape)
        expected = grad_central_difference(f, *vals, arg=i, ind=ind)
        got = 0.0 if v.grad is None else v.grad[ind]
        assert abs(got - expected) <= tolerance * (1.0 + abs(expected)), (
            f"gradient of argument {i} at {ind}: {got}, by differences {expected}; arguments: {vals}"
        )
