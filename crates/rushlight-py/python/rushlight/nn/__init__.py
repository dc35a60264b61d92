"""Layers: ``Module`` to subclass, and what is made of it."""

from .. import functional
from . import init, utils
from .containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from .gates import *  # noqa: F403
from .layers import *  # noqa: F403
from .modules import Module, Parameter
from .norms import *  # noqa: F403
from .padding import *  # noqa: F403
from .parts import *  # noqa: F403
from .tables import *  # noqa: F403
