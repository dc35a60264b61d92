"""Types of arguments, and small named results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, NamedTuple, Protocol, Sequence, Tuple, Union

from ._rushlight import Tensor, dtype

if TYPE_CHECKING:
    from types import EllipsisType


class ValuesIndices(NamedTuple):
    """What max, min, sort and topk along a dim give."""

    values: Tensor
    indices: Tensor


class Array(Protocol):
    """A NumPy array, or one of its numbers: what shows its elements."""

    @property
    def __array_interface__(self) -> Any:
        """Where the elements lie."""


class NamedDType(Protocol):
    """A dtype of NumPy: what has the name of one of ours."""

    @property
    def name(self) -> str:
        """As ``float32``."""


class DLPack(Protocol):
    """A tensor of another library."""

    def __dlpack__(self) -> Any:
        """A capsule."""

    def __dlpack_device__(self) -> Tuple[Any, int]:
        """Where it is."""


Int = int
DType = dtype
Float = float
Bool = bool
Number = Union[bool, int, float]
TensorLike = Union[Tensor, Array]
Operand = Union[Tensor, Array, float, int, bool]
Ints = Union[int, Tuple[int, ...], List[int]]
DTypeLike = Union[dtype, NamedDType, str, type]
Data = Union[Number, Tensor, Array, Sequence["Data"]]
if TYPE_CHECKING:
    Place = Union[int, bool, slice, None, EllipsisType, Tensor, Array, Sequence["Data"]]
    Index = Union[Place, Tuple[Place, ...]]
