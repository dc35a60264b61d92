"""Module 2: tensors that know how they came about."""

from __future__ import annotations

import operator
from typing import Any, Callable, List, Optional, Sequence, Tuple, Type, Union

import rushlight as rl

from .autodiff import History, Node, Variable, backpropagate
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


def _of_one(function: Type[Function], doc: str) -> Callable[[Tensor], Tensor]:
    def method(a: Tensor) -> Tensor:
        return function.apply(a)

    method.__doc__ = doc
    return method


def _of_two(rule: Callable[[Tensor, Tensor], Tensor], turned: bool = False) -> Callable[[Tensor, TensorLike], Tensor]:
    """An operator; a number beside a tensor becomes one of its backend."""

    def method(a: Tensor, b: TensorLike) -> Tensor:
        other = a._beside(b)
        return rule(other, a) if turned else rule(a, other)

    return method


def _minus(a: Tensor, b: Tensor) -> Tensor:
    return Add.apply(a, Neg.apply(b))


def _over(a: Tensor, b: Tensor) -> Tensor:
    return Mul.apply(a, Inv.apply(b))


def _laid_out(name: str, doc: str) -> Any:
    """What the tensor's data knows."""
    return property(operator.attrgetter(f"_tensor.{name}"), doc=doc)


class Tensor(Node):
    """A tensor of f64 in a graph. Its ``grad`` is there after ``backward`` of what was computed from it."""

    def __init__(
        self,
        v: TensorData,
        back: Optional[History] = None,
        name: Optional[str] = None,
        backend: Optional[TensorBackend] = None,
    ) -> None:
        self._enter(back, name)
        self._tensor = v
        self.backend = SimpleBackend if backend is None else backend
        self.grad: Optional[Tensor] = None

    @property
    def f(self) -> TensorBackend:
        """The backend, whose functions compute."""
        return self.backend

    def requires_grad(self) -> bool:
        """Whether a gradient is wanted."""
        return not self.is_constant()

    def to_numpy(self) -> Any:
        """A NumPy array of the same elements."""
        return self._tensor.view().contiguous().numpy()

    shape: Tuple[int, ...] = _laid_out("shape", "Its sizes.")
    size: int = _laid_out("size", "How many elements it has.")
    dims: int = _laid_out("dims", "How many dims it has.")

    def _with(self, data: TensorData) -> Tensor:
        """A constant of the same backend."""
        made = Tensor(data)
        made._type_(self.backend)
        return made

    def _of(self, values: Any) -> Tensor:
        """The same, around a tensor of the engine."""
        return self._with(TensorData.of(values))

    def _row(self, numbers: Sequence[float]) -> Tensor:
        """A constant vector, by which sizes and dims are handed to functions."""
        return self._of(rl.tensor(list(numbers), dtype=rl.float64))

    def _beside(self, b: TensorLike) -> Tensor:
        """``b`` itself, or a tensor of one element for a number."""
        return b if isinstance(b, Tensor) else self._row([b])

    def _type_(self, backend: TensorBackend) -> None:
        self.backend = backend

    @classmethod
    def make(
        cls,
        storage: Union[Storage, List[float]],
        shape: UserShape,
        strides: Optional[UserStrides] = None,
        backend: Optional[TensorBackend] = None,
    ) -> Tensor:
        """From numbers, a shape and strides."""
        made = cls(TensorData(storage, shape, strides))
        made._type_(backend or made.backend)
        return made

    __add__, __radd__ = _of_two(Add.apply), _of_two(Add.apply, turned=True)
    __sub__, __rsub__ = _of_two(_minus), _of_two(_minus, turned=True)
    __mul__, __rmul__ = _of_two(Mul.apply), _of_two(Mul.apply, turned=True)
    __truediv__, __rtruediv__ = _of_two(_over), _of_two(_over, turned=True)
    __matmul__ = _of_two(MatMul.apply)
    __lt__, __gt__ = _of_two(LT.apply), _of_two(LT.apply, turned=True)
    __eq__ = _of_two(EQ.apply)  # type: ignore[assignment]
    __hash__ = Node.__hash__
    is_close = _of_two(IsClose.apply)
    __neg__ = _of_one(Neg, "The negative of each element.")
    sigmoid = _of_one(Sigmoid, "The logistic sigmoid of each element.")
    relu = _of_one(ReLU, "Each element above 0, else 0.")
    log = _of_one(Log, "The logarithm of each element.")
    exp = _of_one(Exp, "The exponential of each element.")
    contiguous = _of_one(Copy, "A copy whose elements lie in order.")

    def _all_or(self, dim: Optional[int], function: Type[Function]) -> Tensor:
        x = self.contiguous().view(self.size) if dim is None else self
        return function.apply(x, self._row([dim or 0]))

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
        return Permute.apply(self, self._row(order))

    def view(self, *shape: int) -> Tensor:
        """Another shape over the same elements in order; of contiguous tensors only."""
        return View.apply(self, self._row(shape))

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
        return self._with(self._tensor)

    def accumulate_derivative(self, x: Any) -> None:
        """Adds to the gradient of a leaf."""
        if not self.is_leaf():
            raise ValueError("only leaves keep a gradient")
        self.grad = x.detach() if self.grad is None else (self.grad + x).detach()

    def chain_rule(self, d_output: Any) -> List[Tuple[Variable, Any]]:
        """What ``d_output`` brings to each input of the function that made it, in the input's shape."""
        return [(x, x.expand(x._beside(d))) for x, d in self._pulled_back(d_output)]

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
