"""Module 2: how a tensor lies in its storage."""

from __future__ import annotations

import itertools
import random
from typing import Any, Iterable, List, MutableSequence, Optional, Sequence, Tuple, Union

import rushlight as rl

from .operators import prod

MAX_DIMS = 32

UserIndex = Sequence[int]
UserShape = Sequence[int]
UserStrides = Sequence[int]
Index = Sequence[int]
Shape = Sequence[int]
Strides = Sequence[int]
OutIndex = MutableSequence[int]
Storage = Any
"""A vector of the engine, in f64."""


class IndexingError(RuntimeError):
    """An index or shape that does not fit."""


def index_to_position(index: Index, strides: Strides) -> int:
    """Where in the storage ``index`` is."""
    return sum(i * s for i, s in zip(index, strides))


def to_index(ordinal: int, shape: Shape, out_index: OutIndex) -> None:
    """Writes the index of the ``ordinal``-th element of ``shape``, the last dim running fastest."""
    for dim in reversed(range(len(shape))):
        ordinal, out_index[dim] = divmod(ordinal, int(shape[dim]))


def broadcast_index(big_index: Index, big_shape: Shape, shape: Shape, out_index: OutIndex) -> None:
    """Writes the index in ``shape`` of what is seen at ``big_index`` of the shape it is broadcast to."""
    before = len(big_shape) - len(shape)
    for dim, size in enumerate(shape):
        out_index[dim] = 0 if size == 1 else big_index[before + dim]


def shape_broadcast(shape1: UserShape, shape2: UserShape) -> Tuple[int, ...]:
    """The shape that both are broadcast to. IndexingError: sizes that differ, and neither is 1."""
    pairs = itertools.zip_longest(reversed(shape1), reversed(shape2), fillvalue=1)
    sizes: List[int] = []
    for a, b in pairs:
        if a != b and 1 not in (a, b):
            raise IndexingError(f"shapes {tuple(shape1)} and {tuple(shape2)} cannot be broadcast: {a} and {b}")
        sizes.append(b if a == 1 else a)
    return tuple(reversed(sizes))


def strides_from_shape(shape: UserShape) -> Tuple[int, ...]:
    """The strides of a contiguous tensor."""
    strides = [1]
    for size in reversed(shape[1:] if len(shape) else []):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides)) if len(shape) else ()


class TensorData:
    """Storage, shape and strides. The storage may be shared with others."""

    def __init__(
        self,
        storage: Union[Sequence[float], Storage],
        shape: UserShape,
        strides: Optional[UserStrides] = None,
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.strides = strides_from_shape(self.shape) if strides is None else tuple(strides)
        self._storage = storage if isinstance(storage, rl.Tensor) else rl.tensor(list(storage), dtype=rl.float64)
        self.dims = len(self.shape)
        self.size = int(prod(self.shape))
        if len(self.strides) != self.dims:
            raise IndexingError(f"strides {self.strides} are not those of shape {self.shape}: one for each dim")
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides)) + 1
        if self.size > 0 and reach > self._storage.numel():
            raise IndexingError(f"shape {self.shape} needs {reach} elements, the storage has {self._storage.numel()}")

    @classmethod
    def of(cls, values: Any) -> TensorData:
        """Around a tensor of the engine."""
        return cls(values.contiguous().reshape(-1), tuple(values.shape))

    def view(self) -> Any:
        """The engine's view of it."""
        return self._storage.as_strided(self.shape, self.strides)

    def is_contiguous(self) -> bool:
        """Whether elements lie one after the other in the order of their indices."""
        packed = zip(self.shape, self.strides, strides_from_shape(self.shape))
        return all(size <= 1 or stride == wanted for size, stride, wanted in packed)

    shape_broadcast = staticmethod(shape_broadcast)

    def index(self, index: Union[int, UserIndex]) -> int:
        """Where an element is in the storage. IndexingError: another number of dims; outside."""
        places = (index,) if isinstance(index, int) else tuple(index)
        if len(places) != self.dims:
            raise IndexingError(f"index {places} has {len(places)} dims, shape {self.shape} has {self.dims}")
        for place, size in zip(places, self.shape):
            if not 0 <= place < size:
                raise IndexingError(f"index {places} is outside of shape {self.shape}")
        return index_to_position(places, self.strides)

    def indices(self) -> Iterable[Tuple[int, ...]]:
        """All indices, the last dim running fastest."""
        return itertools.product(*map(range, self.shape))

    def sample(self) -> Tuple[int, ...]:
        """A random index."""
        place = [0] * self.dims
        to_index(random.randrange(self.size), self.shape, place)
        return tuple(place)

    def get(self, key: Union[int, UserIndex]) -> float:
        """The element at an index."""
        return float(self._storage[self.index(key)].item())

    def set(self, key: Union[int, UserIndex], val: float) -> None:
        """Writes the element at an index."""
        self._storage.select(0, self.index(key)).fill_(val)

    def tuple(self) -> Tuple[Storage, Tuple[int, ...], Tuple[int, ...]]:
        """Storage, shape and strides."""
        return self._storage, self.shape, self.strides

    def permute(self, *order: int) -> TensorData:
        """The same storage, its dims in another order."""
        if sorted(order) != list(range(self.dims)):
            raise IndexingError(f"{order} is not an order of {self.dims} dims")
        return TensorData(self._storage, [self.shape[i] for i in order], [self.strides[i] for i in order])

    def to_string(self) -> str:
        """As the engine prints it."""
        return str(self.view())
