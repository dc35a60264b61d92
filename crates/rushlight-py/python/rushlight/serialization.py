"""Saving and loading: safetensors, and whatever the library reads (GGUF, NumPy, PyTorch's files)."""

from __future__ import annotations

import os
from typing import Mapping

from . import _rushlight as _r
from ._rushlight import Tensor


def save(obj: Mapping[str, Tensor], f: str | os.PathLike[str]) -> None:
    """Writes named tensors, as ``state_dict()`` gives them, to a safetensors file: whole or not at all."""
    for name, value in obj.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"save: {name} is {type(value).__name__}; a file holds named tensors")
    _r._save(dict(obj), os.fspath(f))


def load(f: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The named tensors of a file: safetensors, GGUF, npz, npy or a PyTorch state dict. Nothing in it is ever run."""
    return _r._load(os.fspath(f))


save_file, load_file = save, load
