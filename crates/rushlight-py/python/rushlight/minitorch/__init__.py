"""The interface of the MiniTorch course over this engine: its modules 0 to 4, with tensors of f64.

>>> import rushlight.minitorch
>>> rushlight.minitorch.install()      # from here on, `import minitorch` is this
>>> import minitorch
>>> minitorch.tensor([[1, 2], [3, 4]]).sum(0)
tensor([[4., 6.]], dtype=f64)

Functions of :mod:`.operators` run as the engine's kernels in every backend; any other that is given to ``map``, ``zip`` or
``reduce`` is called for each element. Where it differs from the course's own code it is on purpose: the gradient of max goes
to one element also at a tie; ``requires_grad_(False)`` makes a constant; dropout scales what it keeps, and does nothing where
it is to be ignored.
"""

import sys

from . import operators, scalar_functions
from .autodiff import Context, Variable, backpropagate, central_difference, topological_sort
from .datasets import datasets
from .fast_conv import Conv1dFun, Conv2dFun, conv1d, conv2d
from .module import Module, Parameter
from .nn import Max, argmax, avgpool2d, dropout, logsoftmax, max, maxpool2d, softmax, tile
from .operators import prod
from .optim import SGD, Optimizer
from .scalar import Scalar, ScalarHistory, derivative_check
from .scalar_functions import ScalarFunction
from .tensor import History, Tensor
from .tensor_data import (
    MAX_DIMS,
    Index,
    IndexingError,
    OutIndex,
    Shape,
    Storage,
    Strides,
    TensorData,
    UserIndex,
    UserShape,
    UserStrides,
    broadcast_index,
    index_to_position,
    shape_broadcast,
    strides_from_shape,
    to_index,
)
from .tensor_functions import Function, grad_central_difference, grad_check, rand, tensor, zeros
from .tensor_ops import FastOps, SimpleBackend, SimpleOps, TensorBackend, TensorOps
from .testing import MathTest, MathTestVariable

version = "0.4"

__all__ = [name for name in globals() if not name.startswith("_") and name != "sys"]


def install() -> None:
    """Has ``import minitorch`` give this module from now on, for code that was written for the course's."""
    for name, module in list(sys.modules.items()):
        if name == __name__ or name.startswith(__name__ + "."):
            sys.modules["minitorch" + name[len(__name__) :]] = module
