"""Module 2: tensors that know how they came about."""

from __future__ import annotations

import itertools
from typing import Any, Iterable, List, Optional, Sequence, Tuple, Type, Union

import rushlight as rl

from .autodiff import Context, Variable, backpropagate
from .tensor_data import IndexingError, Storage, TensorData, UserIndex, UserShape, UserStrides, shape_broadcast
from .tensor_functions import (
    EQ,
    LT,
    Add,
    All,
    Copy,
    Exp,
    Function,
    Inv,
    IsClose,
    Log,
    MatMul,
    Mul,
    Neg,
    Permute,
    ReLU,
    Sigmoid,
    Sum,
    View,
)
from .tensor_ops import SimpleBackend, TensorBackend

TensorLike = Union[float, int, "Tensor"]
_numbers = itertools.count(1)


class History:
    """The function that made a tensor, and of what; no function for a leaf."""

    def __init__(
        self,
        last_fn: Optional[Type[Function]] = None,
        ctx: Optional[Context] = None,
        inputs: Sequence[Tensor] = (),
    ) -> None:
        self.last_fn = last_fn
        self.ctx = ctx
        self.inputs = inputs


class Tensor:
    """A tensor of f64 in a graph. Its ``grad`` is there after ``backward`` of what was computed from it."""

    def __init__(
        self,
        v: TensorData,
        back: Optional[History] = None,
        name: Optional[str] = None,
        backend: Optional[TensorBackend] = None,
    ) -> None:
        self.unique_id = next(_numbers)
        self._tensor = v
        self.history = back
        self.backend = SimpleBackend if backend is None else backend
        self.grad: Optional[Tensor] = None
        self.name = name or str(self.unique_id)

    @property
    def f(self) -> TensorBackend:
        """The backend, whose functions compute."""
        return self.backend

    def requires_grad_(self, x: bool) -> None:
        """Makes it a leaf, or a constant."""
        self.history = History() if x else None

    def requires_grad(self) -> bool:
        """Whether a gradient is wanted."""
        return self.history is not None

    def to_numpy(self) -> Any:
        """A NumPy array of the same elements."""
        return self._tensor.view().contiguous().numpy()

    @property
    def shape(self) -> Tuple[int, ...]:
        """Its sizes."""
        return self._tensor.shape

    @property
    def size(self) -> int:
        """How many elements it has."""
        return self._tensor.size

    @property
    def dims(self) -> int:
        """How many dims it has."""
        return self._tensor.dims

    def _new(self, tensor_data: TensorData) -> Tensor:
        return Tensor(tensor_data, backend=self.backend)

    def _of(self, values: Any) -> Tensor:
        return self._new(TensorData.of(values))

    def _type_(self, backend: TensorBackend) -> None:
        self.backend = backend

    @staticmethod
    def make(
        storage: Union[Storage, List[float]],
        shape: UserShape,
        strides: Optional[UserStrides] = None,
        backend: Optional[TensorBackend] = None,
    ) -> Tensor:
        """From numbers, a shape and strides."""
        return Tensor(TensorData(storage, shape, strides), backend=backend)

    def _ensure_tensor(self, b: TensorLike) -> Tensor:
        if isinstance(b, Tensor):
            return b
        return Tensor.make([float(b)], (1,), backend=self.backend)

    def __add__(self, b: TensorLike) -> Tensor:
        return Add.apply(self, self._ensure_tensor(b))

    def __radd__(self, b: TensorLike) -> Tensor:
        return self + b

    def __sub__(self, b: TensorLike) -> Tensor:
        return Add.apply(self, -self._ensure_tensor(b))

    def __rsub__(self, b: TensorLike) -> Tensor:
        return Add.apply(self._ensure_tensor(b), -self)

    def __mul__(self, b: TensorLike) -> Tensor:
        return Mul.apply(self, self._ensure_tensor(b))

    def __rmul__(self, b: TensorLike) -> Tensor:
        return self * b

    def __truediv__(self, b: TensorLike) -> Tensor:
        return Mul.apply(self, Inv.apply(self._ensure_tensor(b)))

    def __rtruediv__(self, b: TensorLike) -> Tensor:
        return Mul.apply(self._ensure_tensor(b), Inv.apply(self))

    def __matmul__(self, b: Tensor) -> Tensor:
        return MatMul.apply(self, b)

    def __neg__(self) -> Tensor:
        return Neg.apply(self)

    def __lt__(self, b: TensorLike) -> Tensor:
        return LT.apply(self, self._ensure_tensor(b))

    def __gt__(self, b: TensorLike) -> Tensor:
        return LT.apply(self._ensure_tensor(b), self)

    def __eq__(self, b: TensorLike) -> Tensor:  # type: ignore[override]
        return EQ.apply(self, self._ensure_tensor(b))

    def __hash__(self) -> int:
        return self.unique_id

    def is_close(self, y: Tensor) -> Tensor:
        """1.0 where the two differ by less than 0.01."""
        return IsClose.apply(self, y)

    def sigmoid(self) -> Tensor:
        """The logistic sigmoid of each element."""
        return Sigmoid.apply(self)

    def relu(self) -> Tensor:
        """Each element above 0, else 0."""
        return ReLU.apply(self)

    def log(self) -> Tensor:
        """The logarithm of each element."""
        return Log.apply(self)

    def exp(self) -> Tensor:
        """The exponential of each element."""
        return Exp.apply(self)

    def _all_or(self, dim: Optional[int], function: Type[Function]) -> Tensor:
        x = self.contiguous().view(self.size) if dim is None else self
        return function.apply(x, self._ensure_tensor(0 if dim is None else dim))

    def all(self, dim: Optional[int] = None) -> Tensor:
        """The product along a dim, which stays with size 1; without a dim that of all, of shape (1,)."""
        return self._all_or(dim, All)

    def sum(self, dim: Optional[int] = None) -> Tensor:
        """The sum along a dim, which stays with size 1; without a dim that of all, of shape (1,)."""
        return self._all_or(dim, Sum)

    def mean(self, dim: Optional[int] = None) -> Tensor:
        """The mean along a dim, which stays with size 1; without a dim that of all, of shape (1,)."""
        return self.sum(dim) / (self.size if dim is None else self.shape[dim])

    def permute(self, *order: int) -> Tensor:
        """Its dims in another order."""
        return Permute.apply(self, Tensor.make([float(i) for i in order], (len(order),), backend=self.backend))

    def view(self, *shape: int) -> Tensor:
        """Another shape over the same elements in order; of contiguous tensors only."""
        return View.apply(self, Tensor.make([float(s) for s in shape], (len(shape),), backend=self.backend))

    def contiguous(self) -> Tensor:
        """A copy whose elements lie in order."""
        return Copy.apply(self)

    def item(self) -> float:
        """The only element."""
        if self.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} has no single element")
        return self[(0,) * self.dims]

    def __repr__(self) -> str:
        return self._tensor.to_string()

    def __getitem__(self, key: Union[int, UserIndex]) -> float:
        return self._tensor.get(key)

    def __setitem__(self, key: Union[int, UserIndex], val: float) -> None:
        self._tensor.set(key, val)

    def expand(self, other: Tensor) -> Tensor:
        """``other``, which was computed with this tensor's broadcast form, as a gradient of this tensor's shape."""
        if other.shape == self.shape:
            return other
        shape = shape_broadcast(self.shape, other.shape)
        values = other._tensor.view().expand(shape)
        own = (1,) * (len(shape) - self.dims) + self.shape
        for dim, size in enumerate(own):
            if size == 1 and shape[dim] != 1:
                values = values.sum(dim, keepdim=True)
        return self._of(values.reshape(self.shape))

    def zeros(self, shape: Optional[UserShape] = None) -> Tensor:
        """Zeros, of the same shape or another."""
        return self._of(rl.zeros(tuple(self.shape if shape is None else shape), dtype=rl.float64))

    def tuple(self) -> Tuple[Storage, Tuple[int, ...], Tuple[int, ...]]:
        """Storage, shape and strides."""
        return self._tensor.tuple()

    def detach(self) -> Tensor:
        """The same values, as a constant."""
        return self._new(self._tensor)

    def accumulate_derivative(self, x: Any) -> None:
        """Adds to the gradient of a leaf."""
        if not self.is_leaf():
            raise ValueError("only leaves keep a gradient")
        self.grad = x.detach() if self.grad is None else (self.grad + x).detach()

    def is_leaf(self) -> bool:
        """Whether a gradient is wanted and no function made it."""
        return self.history is not None and self.history.last_fn is None

    def is_constant(self) -> bool:
        """Whether no gradient is wanted."""
        return self.history is None

    @property
    def parents(self) -> Iterable[Variable]:
        """What it was computed from."""
        return [] if self.history is None else self.history.inputs

    def chain_rule(self, d_output: Any) -> List[Tuple[Variable, Any]]:
        """What ``d_output`` brings to each input of the function that made it, in the input's shape."""
        h = self.history
        if h is None or h.last_fn is None or h.ctx is None:
            raise ValueError("no function made this tensor")
        grads = h.last_fn._backward(h.ctx, d_output)
        if len(grads) != len(h.inputs):
            raise ValueError(f"{h.last_fn.__name__} gave {len(grads)} gradients for {len(h.inputs)} inputs")
        return [(x, x.expand(self._ensure_tensor(d))) for x, d in zip(h.inputs, grads)]

    def backward(self, grad_output: Optional[Tensor] = None) -> None:
        """Adds to each leaf its gradient. Without ``grad_output`` it must have one element."""
        if grad_output is None:
            if self.size != 1:
                raise ValueError(f"a tensor of shape {self.shape} needs grad_output to walk back from")
            grad_output = self._of(rl.ones(self.shape, dtype=rl.float64))
        backpropagate(self, grad_output)

    def zero_grad_(self) -> None:
        """Forgets the gradient."""
        self.grad = None


__all__ = ["History", "IndexingError", "Tensor", "TensorLike"]
