"""Autograd: modes, gradients as values, functions with a gradient rule of one's own, and the check of them."""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence, TypeVar

from . import _rushlight as _r
from ._rushlight import Tensor
from ._rushlight import backward as _backward

F = TypeVar("F", bound=Callable[..., Any])


class _Mode:
    """Recording on or off for a block, or as a decorator for a function."""

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before: list[bool | None] = []

    def __enter__(self) -> None:
        self._before.append(_r._set_grad_mode(self._mode))

    def __exit__(self, *_: object) -> None:
        _r._set_grad_mode(self._before.pop())

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)._of(self._mode):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    @staticmethod
    def _of(mode: bool) -> _Mode:
        return _Mode(mode)


class no_grad(_Mode):
    """Nothing is recorded in this block."""

    def __init__(self) -> None:
        super().__init__(False)


class inference_mode(_Mode):
    """As :class:`no_grad`."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)


class enable_grad(_Mode):
    """Operations are recorded in this block, also inside :class:`no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_Mode):
    """Recording is on or off from now on, or for a block."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._before.append(_r._set_grad_mode(mode))

    def __enter__(self) -> None:
        pass


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of the sum of ``outputs`` by each of ``inputs``; no ``.grad`` changes and the graph stays."""
    grads = None if grad_outputs is None else _list(grad_outputs)
    found: Any = _r._grad(_list(outputs), _list(inputs), grads, create_graph, allow_unused)
    return tuple(found)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Adds to ``.grad`` of every leaf the gradient of the sum of ``tensors``."""
    grads = None if grad_tensors is None else _list(grad_tensors)
    _backward(_list(tensors), grads, retain_graph, create_graph, None if inputs is None else _list(inputs))


class FunctionCtx:
    """What ``forward`` leaves for ``backward``."""

    def __init__(self) -> None:
        self.saved_tensors: tuple[Tensor | None, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Tensors that ``backward`` finds in ``saved_tensors``."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Taken for PyTorch's sake: whole-number outputs have no gradient anyway."""

    def set_materialize_grads(self, value: bool) -> None:
        """Taken for PyTorch's sake."""


class Function:
    """An operation with its own gradient: subclass it with static ``forward(ctx, …)`` and ``backward(ctx, *grads)``.

    Call it by ``apply``. ``backward`` returns a gradient (or None) for each argument of ``forward``.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """The result, computed outside the graph."""
        raise NotImplementedError("a Function needs a static forward(ctx, …)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """A gradient for each argument of ``forward``."""
        raise NotImplementedError("a Function needs a static backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs ``forward`` and records ``backward``."""
        ctx = FunctionCtx()
        inputs = [a if isinstance(a, Tensor) else None for a in args]
        ctx.needs_input_grad = tuple(a is not None and a.requires_grad for a in inputs)
        with no_grad():
            result = cls.forward(ctx, *args)
        single = isinstance(result, Tensor)
        outputs = [result] if single else list(result)

        def rule(*grads: Tensor) -> Any:
            back = cls.backward(ctx, *grads)
            return back if isinstance(back, tuple) else (back,)

        recorded = _r._record(cls.__name__, inputs, outputs, rule)
        return recorded[0] if single else tuple(recorded)


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compares the gradients of ``func`` with central differences; inputs that require grad are to be float64."""
    values = _list(inputs)
    watched = [i for i, x in enumerate(values) if isinstance(x, Tensor) and x.requires_grad]
    if not watched:
        raise ValueError("gradcheck: no input requires grad")
    for i in watched:
        if values[i].dtype is not _r.float64:
            raise TypeError(f"gradcheck: input {i} is of {values[i].dtype!r}; differences need float64")

    def outputs(args: list[Any]) -> list[Tensor]:
        return [y for y in _list(func(*args)) if isinstance(y, Tensor) and y.dtype.is_floating_point]

    results = outputs(values)
    for o, y in enumerate(results):
        for k in range(y.numel()):
            one = _r.zeros(y.numel(), dtype=y.dtype)
            one[k] = 1.0
            if not y.requires_grad:
                grads: tuple[Any, ...] = tuple(None for _ in watched)
            else:
                grads = grad(y, [values[i] for i in watched], one.reshape(y.shape), allow_unused=True)
            for g, i in zip(grads, watched):
                x = values[i].detach()
                got = ([0.0] * x.numel()) if g is None else g.reshape(-1).tolist()
                for j in range(x.numel()):
                    sides = []
                    for sign in (1.0, -1.0):
                        moved = x.clone().reshape(-1)
                        moved[j] = moved[j] + sign * eps
                        args = list(values)
                        args[i] = moved.reshape(x.shape)
                        with no_grad():
                            sides.append(outputs(args)[o].reshape(-1)[k].item())
                    numeric = (sides[0] - sides[1]) / (2 * eps)
                    if not abs(got[j] - numeric) <= atol + rtol * abs(numeric):
                        if not raise_exception:
                            return False
                        raise ValueError(
                            f"gradcheck: the gradient of output {o}[{k}] by element {j} of input {i} is {got[j]:.9g}, "
                            f"the central difference {numeric:.9g}"
                        )
    return True
