"""Layers: ``Module`` to subclass, and what is made of it."""

from .. import functional
from . import init, utils
from .layers import *  # noqa: F403
from .modules import Module, ModuleDict, ModuleList, Parameter, ParameterDict, ParameterList, Sequential
from .parts import *  # noqa: F403
