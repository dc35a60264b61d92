"""Layers: ``Module`` to subclass, and what is made of it."""

from .. import functional as functional
from . import init as init, utils as utils
from .containers import (
    ModuleDict as ModuleDict,
    ModuleList as ModuleList,
    ParameterDict as ParameterDict,
    ParameterList as ParameterList,
    Sequential as Sequential,
)
from .gates import *  # noqa: F403
from .layers import *  # noqa: F403
from .modules import Module as Module, Parameter as Parameter
from .norms import *  # noqa: F403
from .padding import *  # noqa: F403
from .parts import *  # noqa: F403
from .tables import *  # noqa: F403
