"""Rushlight: a deep-learning library small enough to read and fast enough to use.

Names, arguments and defaults are PyTorch's; the kernels are Rust. Two things differ, both for safety. Values in the graph
are never changed, so what backward needs stays right whatever is written to later. And an assignment ``x[i] = v`` is not
recorded, so it is refused on a tensor in the graph unless under ``no_grad()``.
"""

from __future__ import annotations

from . import _rushlight, _types
from ._rushlight import *  # noqa: F403
from ._rushlight import Tensor as Tensor, __version__, _where, dtype as dtype
from ._tensor import (
    Size as Size,
    allclose as allclose,
    as_tensor as as_tensor,
    broadcast_tensors as broadcast_tensors,
    cat as cat,
    concat as concat,
    device as device,
    einsum as einsum,
    equal as equal,
    from_dlpack as from_dlpack,
    from_numpy as from_numpy,
    is_tensor as is_tensor,
    meshgrid as meshgrid,
    multinomial as multinomial,
    numel as numel,
    stack as stack,
    where as where,
)
from .autograd import (
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)
from . import (
    autograd as autograd,
    functional as functional,
    linalg as linalg,
    models as models,
    nn as nn,
    optim as optim,
    utils as utils,
)
from .serialization import load as load, save as save
from ._threads import set_num_threads as set_num_threads

__all__ = [name for name in globals() if not name.startswith("_")]
