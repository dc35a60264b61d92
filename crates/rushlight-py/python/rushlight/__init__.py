"""Rushlight: a deep-learning library small enough to read and fast enough to use.

Names, arguments and defaults are PyTorch's; the kernels are Rust. Two things differ, both for safety. Values in the graph
are never changed, so what backward needs stays right whatever is written to later. And an assignment ``x[i] = v`` is not
recorded, so it is refused on a tensor in the graph unless under ``no_grad()``.
"""

from __future__ import annotations

from . import _rushlight, _types
from ._rushlight import *  # noqa: F403
from ._rushlight import Tensor, __version__, _where, dtype
from ._tensor import (
    Size,
    allclose,
    as_tensor,
    broadcast_tensors,
    cat,
    concat,
    device,
    einsum,
    equal,
    from_dlpack,
    from_numpy,
    is_tensor,
    meshgrid,
    multinomial,
    numel,
    stack,
    where,
)
from .autograd import enable_grad, inference_mode, no_grad, set_grad_enabled
from . import autograd, functional, linalg, models, nn, optim, utils
from .serialization import load, save
from ._threads import set_num_threads

__all__ = [name for name in globals() if not name.startswith("_")]
