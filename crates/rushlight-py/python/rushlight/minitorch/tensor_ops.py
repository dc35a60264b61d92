"""Modules 2 and 3: what a backend offers. Functions of :mod:`.operators` run as kernels of the engine, in all threads;
any other is called for each element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Type

import rushlight as rl

from . import operators
from .tensor_data import TensorData, shape_broadcast

if TYPE_CHECKING:
    from .tensor import Tensor

MapFn = Callable[[float], float]
ZipFn = Callable[[float, float], float]

_MAPS: Dict[MapFn, Callable[[Any], Any]] = {
    operators.id: lambda x: x.clone(),
    operators.neg: lambda x: -x,
    operators.inv: lambda x: 1.0 / x,
    operators.exp: lambda x: x.exp(),
    operators.log: lambda x: (x + operators.EPS).log(),
    operators.sigmoid: lambda x: x.sigmoid(),
    operators.relu: lambda x: x.relu(),
}
_ZIPS: Dict[ZipFn, Callable[[Any, Any], Any]] = {
    operators.add: lambda a, b: a + b,
    operators.mul: lambda a, b: a * b,
    operators.lt: lambda a, b: (a < b).double(),
    operators.eq: lambda a, b: (a == b).double(),
    operators.max: lambda a, b: a.maximum(b),
    operators.is_close: lambda a, b: ((a - b).abs() < 1e-2).double(),
    operators.relu_back: lambda x, d: d * (x > 0).double(),
    operators.log_back: lambda x, d: d / (x + operators.EPS),
    operators.inv_back: lambda x, d: -d / (x * x),
}
_REDUCTIONS: Dict[ZipFn, Callable[[Any, int], Any]] = {
    operators.add: lambda x, dim: x.sum(dim, keepdim=True),
    operators.mul: lambda x, dim: x.prod(dim, keepdim=True),
    operators.max: lambda x, dim: x.amax(dim, keepdim=True),
}
_NEUTRAL: Dict[ZipFn, float] = {operators.add: 0.0, operators.mul: 1.0, operators.max: -math.inf}


class TensorOps:
    """Higher-order functions of tensors, by which a backend is made."""

    cuda = False

    @staticmethod
    def map(fn: MapFn) -> Callable[..., Tensor]:
        """``fn`` of each element, into ``out`` if that is given."""
        kernel = _MAPS.get(fn)

        def run(a: Tensor, out: Optional[Tensor] = None) -> Tensor:
            x = a._tensor.view()
            y = kernel(x) if kernel else rl.tensor([fn(v) for v in x.reshape(-1).tolist()], dtype=rl.float64)
            result = a._with(TensorData.of(y.reshape(x.shape)))
            if out is None:
                return result
            out._tensor.view()[...] = result._tensor.view().expand(out.shape)
            return out

        return run

    @staticmethod
    def cmap(fn: MapFn) -> Callable[[Tensor, Tensor], Tensor]:
        """:meth:`map`, into the second argument."""
        return TensorOps.map(fn)

    @staticmethod
    def zip(fn: ZipFn) -> Callable[[Tensor, Tensor], Tensor]:
        """``fn`` of elements at the same place, shapes being broadcast."""
        kernel = _ZIPS.get(fn)

        def run(a: Tensor, b: Tensor) -> Tensor:
            shape = shape_broadcast(a.shape, b.shape)
            x, y = a._tensor.view(), b._tensor.view()
            if kernel:
                return a._with(TensorData.of(kernel(x, y)))
            pairs = zip(x.expand(shape).reshape(-1).tolist(), y.expand(shape).reshape(-1).tolist())
            return a._with(TensorData([fn(v, w) for v, w in pairs], shape))

        return run

    @staticmethod
    def reduce(fn: ZipFn, start: float = 0.0) -> Callable[[Tensor, int], Tensor]:
        """All elements along a dim, which stays with size 1, combined by ``fn`` with ``start``."""
        kernel = _REDUCTIONS.get(fn)
        neutral = _NEUTRAL.get(fn)
        fold = operators.reduce(fn, start)

        def run(a: Tensor, dim: int) -> Tensor:
            x = a._tensor.view()
            if kernel is None:
                rows = x.movedim(dim, -1).reshape(-1, x.shape[dim]).tolist()
                shape = [1 if d == dim else size for d, size in enumerate(a.shape)]
                return a._with(TensorData([fold(row) for row in rows], shape))
            y = kernel(x, dim)
            if start != neutral:
                y = _ZIPS[fn](y, rl.full_like(y, start))
            return a._with(TensorData.of(y))

        return run

    @staticmethod
    def matrix_multiply(a: Tensor, b: Tensor) -> Tensor:
        """The product of matrices, their other dims broadcast."""
        return a._with(TensorData.of(a._tensor.view() @ b._tensor.view()))


class SimpleOps(TensorOps):
    """The backend of module 2. The engine is below all of them."""


class FastOps(TensorOps):
    """The backend of module 3. The engine is below all of them."""


class TensorBackend:
    """The functions of a tensor, made of some operations."""

    def __init__(self, ops: Type[TensorOps]) -> None:
        o = operators
        self.neg_map, self.inv_map = ops.map(o.neg), ops.map(o.inv)
        self.exp_map, self.log_map = ops.map(o.exp), ops.map(o.log)
        self.sigmoid_map, self.relu_map = ops.map(o.sigmoid), ops.map(o.relu)
        self.id_map, self.id_cmap = ops.map(o.id), ops.cmap(o.id)
        self.add_zip, self.mul_zip = ops.zip(o.add), ops.zip(o.mul)
        self.lt_zip, self.eq_zip, self.is_close_zip = ops.zip(o.lt), ops.zip(o.eq), ops.zip(o.is_close)
        self.relu_back_zip, self.log_back_zip = ops.zip(o.relu_back), ops.zip(o.log_back)
        self.inv_back_zip = ops.zip(o.inv_back)
        self.add_reduce, self.mul_reduce = ops.reduce(o.add, 0.0), ops.reduce(o.mul, 1.0)
        self.matrix_multiply = ops.matrix_multiply
        self.cuda = ops.cuda


SimpleBackend = TensorBackend(SimpleOps)
