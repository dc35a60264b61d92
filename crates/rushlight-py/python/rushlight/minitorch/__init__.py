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

from . import operators as operators, scalar_functions as scalar_functions
from .autodiff import (
    Context as Context,
    Variable as Variable,
    backpropagate as backpropagate,
    central_difference as central_difference,
    topological_sort as topological_sort,
)
from .datasets import datasets as datasets
from .fast_conv import Conv1dFun as Conv1dFun, Conv2dFun as Conv2dFun, conv1d as conv1d, conv2d as conv2d
from .module import Module as Module, Parameter as Parameter
from .nn import (
    Max as Max,
    argmax as argmax,
    avgpool2d as avgpool2d,
    dropout as dropout,
    logsoftmax as logsoftmax,
    max as max,
    maxpool2d as maxpool2d,
    softmax as softmax,
    tile as tile,
)
from .operators import prod as prod
from .optim import SGD as SGD, Optimizer as Optimizer
from .scalar import Scalar as Scalar, ScalarHistory as ScalarHistory, derivative_check as derivative_check
from .scalar_functions import ScalarFunction as ScalarFunction
from .tensor import History as History, Tensor as Tensor
from .tensor_data import (
    MAX_DIMS as MAX_DIMS,
    Index as Index,
    IndexingError as IndexingError,
    OutIndex as OutIndex,
    Shape as Shape,
    Storage as Storage,
    Strides as Strides,
    TensorData as TensorData,
    UserIndex as UserIndex,
    UserShape as UserShape,
    UserStrides as UserStrides,
    broadcast_index as broadcast_index,
    index_to_position as index_to_position,
    shape_broadcast as shape_broadcast,
    strides_from_shape as strides_from_shape,
    to_index as to_index,
)
from .tensor_functions import (
    Function as Function,
    grad_central_difference as grad_central_difference,
    grad_check as grad_check,
    rand as rand,
    tensor as tensor,
    zeros as zeros,
)
from .tensor_ops import (
    FastOps as FastOps,
    SimpleBackend as SimpleBackend,
    SimpleOps as SimpleOps,
    TensorBackend as TensorBackend,
    TensorOps as TensorOps,
)
from .testing import MathTest as MathTest, MathTestVariable as MathTestVariable

version = "0.4"

__all__ = [name for name in globals() if not name.startswith("_") and name != "sys"]


def install() -> None:
    """Has ``import minitorch`` give this module from now on, for code that was written for the course's."""
    for name, module in list(sys.modules.items()):
        if name == __name__ or name.startswith(__name__ + "."):
            sys.modules["minitorch" + name[len(__name__) :]] = module
