"""Module 2: functions of tensors and their gradients, as a table; and how tensors are made and checked."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, Tuple, Type

import rushlight as rl

from .autodiff import Context, History, Rule, rule
from .tensor_data import IndexingError, TensorData, UserIndex, UserShape
from .tensor_ops import SimpleBackend, TensorBackend

if TYPE_CHECKING:
    from .tensor import Tensor


class Function(Rule):
    """A function of tensors. To make one, derive from it and define ``forward`` and ``backward``."""

    @classmethod
    def apply(cls, *vals: Tensor) -> Tensor:
        """Its value, which knows how it came about if a gradient of an argument is wanted."""
        from .tensor import Tensor

        wanted = any(v.requires_grad() for v in vals)
        ctx = Context(not wanted)
        value = cls.forward(ctx, *(v.detach() for v in vals))
        return Tensor(value._tensor, History(cls, ctx, vals) if wanted else None, backend=value.backend)


def _map(name: str, doc: str, by: str, slope: Callable[[Any, Any, Any], Tensor]) -> Type[Function]:
    """A function of each element: ``by`` of the backend, and the argument's gradient of (d, y, a)."""
    return rule(Function, name, doc, lambda a: getattr(a.f, by)(a), lambda d, y, a: (slope(d, y, a),))


def _flat(name: str, doc: str, by: str) -> Type[Function]:
    """A function of pairs that is flat everywhere."""
    return rule(Function, name, doc, lambda a, b: getattr(a.f, by)(a, b), lambda d, y, a, b: (0.0, 0.0))


def _numbers(t: Tensor) -> List[int]:
    return [int(t[i]) for i in range(t.size)]


def _permuted(a: Tensor, dims: Sequence[int]) -> Tensor:
    return a._with(a._tensor.permute(*dims))


def _turned(a: Tensor) -> Tensor:
    """The last two dims exchanged."""
    *batch, rows, columns = range(a.dims)
    return _permuted(a, [*batch, columns, rows])


def _viewed(a: Tensor, shape: Tensor) -> Tensor:
    if not a._tensor.is_contiguous():
        raise IndexingError("view needs a contiguous tensor: call contiguous() before")
    return a._with(TensorData(a._tensor._storage, _numbers(shape)))


def _has_none(*_: Any) -> Tuple[Any, ...]:
    raise NotImplementedError("all() has no gradient")


# The name, what it is, what it computes; of the output's gradient d and value y, the gradients of its arguments.
Neg = _map("Neg", "``-a``", "neg_map", lambda d, y, a: -d)
Inv = _map("Inv", "``1 / a``", "inv_map", lambda d, y, a: d.f.inv_back_zip(a, d))
Log = _map("Log", "``ln a``", "log_map", lambda d, y, a: d.f.log_back_zip(a, d))
Exp = _map("Exp", "``e ** a``", "exp_map", lambda d, y, a: d * y)
Sigmoid = _map("Sigmoid", "``1 / (1 + e ** -a)``", "sigmoid_map", lambda d, y, a: d * y * (1.0 - y))
ReLU = _map("ReLU", "``a`` above 0, else 0", "relu_map", lambda d, y, a: d.f.relu_back_zip(a, d))
Copy = _map("Copy", "The same elements, in order", "id_map", lambda d, y, a: d)
LT = _flat("LT", "1.0 where ``a < b``", "lt_zip")
EQ = _flat("EQ", "1.0 where ``a == b``", "eq_zip")
IsClose = _flat("IsClose", "1.0 where the two differ by less than 0.01", "is_close_zip")
Add = rule(Function, "Add", "``a + b``", lambda a, b: a.f.add_zip(a, b), lambda d, y, a, b: (d, d))
Mul = rule(Function, "Mul", "``a * b``", lambda a, b: a.f.mul_zip(a, b), lambda d, y, a, b: (d * b, d * a))
MatMul = rule(
    Function,
    "MatMul",
    "The product of matrices, their other dims broadcast",
    lambda a, b: a.f.matrix_multiply(a, b),
    lambda d, y, a, b: (d.f.matrix_multiply(d, _turned(b)), d.f.matrix_multiply(_turned(a), d)),
)
# The gradient of a sum is the same for all, which Tensor.expand spreads.
Sum = rule(
    Function,
    "Sum",
    "The sum along a dim",
    lambda a, dim: a.f.add_reduce(a, int(dim.item())),
    lambda d, y, a, dim: (d, 0.0),
)
All = rule(
    Function,
    "All",
    "The product along a dim: 1.0 where all are. It has no gradient",
    lambda a, dim: a.f.mul_reduce(a, int(dim.item())),
    _has_none,
)
Permute = rule(
    Function,
    "Permute",
    "The same elements, their dims in another order",
    lambda a, order: _permuted(a, _numbers(order)),
    lambda d, y, a, order: (_permuted(d, [_numbers(order).index(i) for i in range(d.dims)]), 0.0),
)
View = rule(
    Function,
    "View",
    "The same elements in order, in another shape",
    _viewed,
    lambda d, y, a, shape: (d._of(d._tensor.view().reshape(a.shape)), 0.0),
)


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
