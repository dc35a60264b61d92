"""Methods and functions of tensors that are simplest in Python."""

from __future__ import annotations

import builtins
import functools
from typing import Any, Callable, Iterable, Sequence

from . import _rushlight as _r
from ._rushlight import Tensor, dtype

Size = tuple[builtins.int, ...]
device = str


def _in_place(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # With the method's arguments, for help() and the stub.
    @functools.wraps(method)
    def function(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._store(name, method(self, *args, **kwargs))

    function.__name__ = name
    function.__qualname__ = f"Tensor.{name}"
    function.__doc__ = f"`{name[:-1]}`, the result in the place of this tensor's value."
    return function


def _alias(name: str, function: Callable[..., Any]) -> None:
    function.__name__ = name
    function.__qualname__ = f"Tensor.{name}"
    setattr(Tensor, name, function)


for _name in """abs add sub mul div pow exp log sqrt rsqrt reciprocal neg sign floor ceil round trunc sin cos tan tanh sigmoid
relu square clamp clip erf remainder floor_divide masked_fill scatter scatter_add lerp tril triu logical_not maximum minimum
eq ne lt le gt ge""".split():
    setattr(Tensor, _name + "_", _in_place(_name + "_", getattr(Tensor, _name)))

for _operator, _name in {
    "__iadd__": "add", "__isub__": "sub", "__imul__": "mul", "__itruediv__": "div", "__ipow__": "pow",
    "__ifloordiv__": "floor_divide", "__imod__": "remainder", "__iand__": "bitwise_and", "__ior__": "bitwise_or",
    "__ixor__": "bitwise_xor", "__ilshift__": "bitwise_left_shift", "__irshift__": "bitwise_right_shift",
}.items():
    setattr(Tensor, _operator, _in_place(_name + "_", getattr(Tensor, _name)))


def fill_(self: Tensor, value: float) -> Tensor:
    """Every element becomes ``value``."""
    return self._store("fill_", _r.full_like(self, float(value)))


def zero_(self: Tensor) -> Tensor:
    """Every element becomes 0."""
    return self._store("zero_", _r.zeros_like(self))


def copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Takes the values of ``src``, broadcast and cast."""
    return self._store("copy_", as_tensor(src).to(self.dtype).expand(*self.shape))


def uniform_(self: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Values uniform in [a, b)."""
    return self._store("uniform_", _r.rand_like(self) * (b - a) + a)


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal values."""
    return self._store("normal_", _r.randn_like(self) * std + mean)


def bernoulli_(self: Tensor, p: float = 0.5) -> Tensor:
    """1 with probability ``p``, else 0."""
    return self._store("bernoulli_", (_r.rand_like(self, dtype=_r.float32) < p).to(self.dtype))


_function: Callable[..., Any]
for _function in (fill_, zero_, copy_, uniform_, normal_, bernoulli_):
    _alias(_function.__name__, _function)

for _name in ("float32", "float64", "bfloat16", "float16", "int64", "uint8", "bool"):
    _short = {"float32": "float", "float64": "double", "float16": "half", "int64": "long", "uint8": "byte"}.get(_name, _name)

    def _cast(self: Tensor, _dtype: dtype = getattr(_r, _name)) -> Tensor:
        """Cast to the dtype of this name."""
        return self.to(_dtype)

    _alias(_short, _cast)
_alias("int", lambda self: self.to(_r.int64))


def _cpu(self: Tensor) -> Tensor:
    """Itself: there is only the CPU."""
    return self


_alias("cpu", _cpu)


def type(self: Tensor, dtype: dtype | None = None) -> Any:
    """Cast to ``dtype``; without one, the dtype's name."""
    return repr(self.dtype) if dtype is None else self.to(dtype)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """Cast to the dtype of ``other``."""
    return self.to(other.dtype)


def new_tensor(self: Tensor, data: Any, *, dtype: dtype | None = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of ``data``, of this tensor's dtype unless another is given."""
    return _r.tensor(data, dtype=dtype or self.dtype, requires_grad=requires_grad)


def new_zeros(self: Tensor, *size: Any, dtype: dtype | None = None, requires_grad: builtins.bool = False) -> Tensor:
    """Zeros of this tensor's dtype."""
    return _r.zeros(*size, dtype=dtype or self.dtype, requires_grad=requires_grad)


def new_ones(self: Tensor, *size: Any, dtype: dtype | None = None, requires_grad: builtins.bool = False) -> Tensor:
    """Ones of this tensor's dtype."""
    return _r.ones(*size, dtype=dtype or self.dtype, requires_grad=requires_grad)


def new_full(self: Tensor, size: Any, fill_value: float, *, dtype: dtype | None = None) -> Tensor:
    """Filled with ``fill_value``, of this tensor's dtype."""
    return _r.full(size, fill_value, dtype=dtype or self.dtype)


for _function in (type, type_as, new_tensor, new_zeros, new_ones, new_full):
    _alias(_function.__name__, _function)


def tensor_where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This where ``condition`` holds, else ``other``."""
    return _r._where(self, condition, other)


setattr(Tensor, "where", tensor_where)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` holds, else ``other``; alone: the places where it holds, one tensor for each dim."""
    if input is None and other is None:
        found = _r.nonzero(condition)
        return tuple(found[:, d] for d in range(condition.ndim))
    if not isinstance(input, Tensor):
        like = other.dtype if isinstance(other, Tensor) else None
        number = isinstance(input, float) and like is not None and not like.is_floating_point
        input = _r.tensor(input, dtype=None if number else like)
    return _r._where(input, condition, other)


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: builtins.bool = False) -> builtins.bool:
    """Whether ``|input − other| ≤ atol + rtol · |other|`` everywhere."""
    from .autograd import no_grad

    with no_grad():
        near = ((input - other).abs() <= other.abs() * rtol + atol) | (input == other)
        if equal_nan:
            near = near | (input.isnan() & other.isnan())
        return builtins.bool(near.all())


def equal(input: Tensor, other: Tensor) -> builtins.bool:
    """Whether shapes and all values are the same."""
    return input.shape == other.shape and builtins.bool((input == other).all())


for _function in (allclose, equal):
    setattr(Tensor, _function.__name__, _function)


def is_tensor(obj: object) -> builtins.bool:
    """Whether it is a tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> builtins.int:
    """The number of elements."""
    return input.numel()


def as_tensor(data: Any, dtype: dtype | None = None) -> Tensor:
    """The tensor itself, or one of ``data``, which shares its memory where that is possible."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return _r.tensor(data, dtype=dtype)


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor over an array's memory where its dtype is one of ours and its elements are in order; else of a copy.

    Writing to the tensor does not write to the array; the array is not to be written to while the tensor lives.
    """
    return _r._from_array(ndarray)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of another library's tensor, as :func:`from_numpy`."""
    return _r._from_dlpack(ext_tensor)


def _tensors(tensors: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        raise TypeError("expected a sequence of tensors, not a tensor; unbind() makes one of it")
    return list(tensors)


def cat(tensors: Iterable[Tensor], dim: builtins.int = 0) -> Tensor:
    """One after the other along ``dim``."""
    return _r._cat(_tensors(tensors), dim)


concat = cat


def stack(tensors: Iterable[Tensor], dim: builtins.int = 0) -> Tensor:
    """Beside each other along a new ``dim``."""
    return _r._stack(_tensors(tensors), dim)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Einstein's summation: ``einsum("ij,jk->ik", a, b)``."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    return _r._einsum(equation, list(operands))


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All expanded to one shape."""
    shape = sum((t.detach().to(_r.float32) * 0 for t in tensors[1:]), tensors[0].detach().to(_r.float32) * 0).shape
    return tuple(t.expand(*shape) for t in tensors)


def meshgrid(*tensors: Tensor, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid, one tensor for each dim; ``indexing`` is "ij" or "xy"."""
    if indexing not in ("ij", "xy"):
        raise ValueError(f'meshgrid: indexing is "ij" or "xy", not {indexing!r}')
    swap = indexing == "xy" and len(tensors) > 1
    order = [1, 0, *range(2, len(tensors))] if swap else list(range(len(tensors)))
    ordered = [tensors[i] for i in order]
    sizes = [t.numel() for t in ordered]
    out = []
    for d, t in enumerate(ordered):
        grid = t.reshape([-1 if i == d else 1 for i in range(len(sizes))]).expand(*sizes)
        out.append(grid.transpose(0, 1) if swap else grid)
    return tuple(out[i] for i in order)


def multinomial(input: Tensor, num_samples: builtins.int, replacement: builtins.bool = False) -> Tensor:
    """``num_samples`` places of the last dim, drawn with the weights that stand there."""
    weights = input.detach()
    if not weights.dtype.is_floating_point or weights.ndim not in (1, 2):
        raise ValueError("multinomial: expected float weights of 1 or 2 dims")
    if bool((weights < 0).any()) or bool((weights.sum(-1) <= 0).any()):
        raise ValueError("multinomial: weights are at least 0, and not all 0")
    if replacement:
        cumulated = weights.cumsum(-1)
        drawn = _r.rand(*weights.shape[:-1], num_samples, dtype=weights.dtype) * cumulated[..., -1:]
        places = (drawn.unsqueeze(-1) >= cumulated.unsqueeze(-2)).to(_r.int64).sum(-1)
        return places.clamp(max=weights.shape[-1] - 1)
    if num_samples > int((weights > 0).sum(-1).min().item()):
        raise ValueError(f"multinomial: {num_samples} samples without replacement from fewer weights above 0")
    # The exponential race: the smallest of Exp(1) / weight come first.
    race = -(_r.rand_like(weights) + 1e-30).log() / weights
    return race.topk(num_samples, dim=-1, largest=False).indices


def _reduce(self: Tensor) -> Any:
    raise_if = self.requires_grad and not self.is_leaf
    if raise_if:
        raise ValueError("pickle: only leaves can be pickled or deep-copied; detach() the tensor")
    return _rebuild, (self._to_bytes(), self.dtype, tuple(self.shape), self.requires_grad, builtins.type(self))


def _rebuild(data: bytes, dtype: dtype, shape: Sequence[builtins.int], requires_grad: builtins.bool, cls: Any) -> Tensor:
    value = _r._from_bytes(data, dtype, list(shape))
    if cls is not Tensor:
        return cls(value, requires_grad)  # type: ignore[no-any-return]
    return value.requires_grad_(requires_grad) if requires_grad else value


def _deepcopy(self: Tensor, memo: dict[builtins.int, Any]) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]  # type: ignore[no-any-return]
    if self.requires_grad and not self.is_leaf:
        raise ValueError("deepcopy: only leaves can be copied; detach() the tensor")
    copy = self.detach().clone()
    if builtins.type(self) is not Tensor:
        copy = builtins.type(self)(copy, self.requires_grad)
        copy.__dict__.update(self.__dict__)
    elif self.requires_grad:
        copy.requires_grad_()
    if self.grad is not None:
        copy.grad = self.grad.detach().clone()
    memo[id(self)] = copy
    return copy


def _repr_html_(self: Tensor) -> str:
    """For notebooks: a table of a matrix, the text of others."""
    import html

    if self.ndim != 2 or self.numel() == 0:
        return f"<pre>{html.escape(repr(self))}</pre>"
    most = 20
    rows, columns = self.shape
    shown = self.detach()[:most, :most].tolist()

    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    body = "".join(
        "<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row) + ("<td>…</td>" if columns > most else "") + "</tr>"
        for row in shown
    )
    more = "<tr><td>…</td></tr>" if rows > most else ""
    return f"<table>{body}{more}</table><small>{rows} × {columns}, {repr(self.dtype)}</small>"


class _Picture:
    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg


def picture(self: Tensor, cell: builtins.int = 8) -> _Picture:
    """A 2-d tensor as a picture for notebooks: dark is the smallest value, bright the largest. ``.svg`` is its text."""
    if self.ndim != 2 or self.numel() == 0:
        raise ValueError(f"picture: expected a tensor of 2 dims with elements, got shape {tuple(self.shape)}")
    if self.numel() > 1 << 18:
        raise ValueError(f"picture: {self.numel()} cells are too many; take a part")
    values = self.detach().to(_r.float64)
    low, high = float(values.min()), float(values.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    rows, columns = self.shape
    rects = []
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            level = builtins.int((value - low) * scale) if value == value else 0
            rects.append(f'<rect x="{j * cell}" y="{i * cell}" width="{cell}" height="{cell}" fill="rgb({level},{level},{level})"/>')
    size = f'width="{columns * cell}" height="{rows * cell}"'
    return _Picture(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(rects)}</svg>')


def numpy(self: Tensor, *, force: builtins.bool = False) -> Any:
    """A NumPy array over the tensor's memory, read only; ``force`` detaches, and widens bfloat16 to float32."""
    import numpy as np

    if self.requires_grad and not force:
        raise ValueError("numpy: the tensor requires grad; use detach().numpy()")
    value = self.detach()
    if value.dtype is _r.bfloat16:
        if not force:
            raise TypeError("numpy: NumPy has no bfloat16; use float().numpy()")
        value = value.to(_r.float32)
    return np.asarray(value._array())


def __array__(self: Tensor, dtype: Any = None, copy: builtins.bool | None = None) -> Any:
    import numpy as np

    array = numpy(self)
    if dtype is not None and array.dtype != np.dtype(dtype):
        return array.astype(dtype)
    return array.copy() if copy else array


for _name, _method in {
    "__reduce__": _reduce, "__deepcopy__": _deepcopy, "_repr_html_": _repr_html_, "picture": picture, "numpy": numpy,
    "__array__": __array__,
}.items():
    setattr(Tensor, _name, _method)
# NumPy leaves `array + tensor` to the tensor.
setattr(Tensor, "__array_priority__", 1000)
setattr(Tensor, "__array_ufunc__", None)
