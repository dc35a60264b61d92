"""Writes python/rushlight/_rushlight.pyi from the built module: names, arguments and defaults as they are, types by name."""

from __future__ import annotations

import inspect
import pathlib
import re
import sys
from typing import Any

import rushlight
from rushlight import _rushlight as module

ARGS = {
    "dim": "Dims", "dims": "Dims", "keepdim": "bool", "dtype": "DType | None", "requires_grad": "bool", "weight": "Tensor | None",
    "bias": "Tensor | None", "eps": "float | None", "training": "bool", "reduction": "str", "input": "Tensor", "p": "float",
    "descending": "bool", "largest": "bool", "k": "int", "index": "Any", "mask": "Any", "kernel_size": "Dims",
    "stride": "Dims", "padding": "Dims", "dilation": "Dims", "ceil_mode": "bool", "groups": "int", "seed": "int", "path": "str",
}
RETURNS = {
    "item": "Any", "tolist": "Any", "size": "Any", "stride": "Any", "shape": "tuple[int, ...]", "dtype": "dtype", "device": "str",
    "ndim": "int", "dim": "int", "numel": "int", "nelement": "int", "itemsize": "int", "nbytes": "int", "element_size": "int",
    "is_contiguous": "bool", "is_floating_point": "bool", "is_leaf": "bool", "requires_grad": "bool", "grad": "Tensor | None",
    "grad_fn": "str | None", "backward": "None", "retain_grad": "None", "split": "list[Tensor]", "chunk": "list[Tensor]",
    "unbind": "list[Tensor]", "max": "Any", "min": "Any", "sort": "ValuesIndices", "topk": "ValuesIndices", "_base": "Tensor | None",
    "_recast": "None", "_array": "Any", "_to_bytes": "bytes", "register_hook": "RemovableHandle", "_shares_memory": "bool",
    "is_grad_enabled": "bool", "_set_grad_mode": "builtins.bool | None", "_grad": "list[Any]", "_record": "list[Tensor]",
    "manual_seed": "None", "_where": "Tensor", "_cat": "Tensor", "_stack": "Tensor", "_einsum": "Tensor",
    "_from_array": "Tensor", "_from_dlpack": "Tensor", "_from_bytes": "Tensor", "_batch_norm": "Tensor", "get_num_threads": "int", "set_default_dtype": "None", "get_default_dtype": "dtype",
    "promote_types": "dtype", "_set_num_threads": "None", "_save": "None", "_load": "dict[str, Tensor]",
    "_batch_norm_train": "tuple[Tensor, Tensor, Tensor]", "max_pool1d_with_indices": "tuple[Tensor, Tensor]",
    "max_pool2d_with_indices": "tuple[Tensor, Tensor]", "max_pool3d_with_indices": "tuple[Tensor, Tensor]", "T": "Tensor",
    "mT": "Tensor", "data": "Tensor", "remove": "None", "__len__": "int", "__bool__": "bool", "__int__": "int",
    "__float__": "float", "__index__": "int", "__repr__": "str", "__format__": "str", "__contains__": "bool", "__hash__": "int",
    "__iter__": "Iterator[Tensor]", "__setitem__": "None", "__delitem__": "None", "__dlpack__": "Any",
    "__dlpack_device__": "tuple[int, int]", "__class_getitem__": "Any", "step": "None", "width": "int", "__next__": "Tensor",
    "allclose": "bool", "equal": "bool", "numpy": "Any", "picture": "Any", "type": "Any", "_repr_html_": "str", "__reduce__": "Any",
    "__array__": "Any", "__deepcopy__": "Tensor", "embed": "Tensor", "from_pretrained": "SentenceEncoder",
}
HEAD = '''"""The Rust half of the package. Written by scripts/make_stubs.py from the built module."""

import builtins
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, final

from typing_extensions import disjoint_base

from ._types import ValuesIndices

'''


def default(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else "..."


def parameters(function: Any) -> str:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return "self, *args: Any, **kwargs: Any"
    out, starred = [], False
    positional = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY]
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not starred:
            out.append("*")
            starred = True
        text = p.name
        if p.kind is p.VAR_POSITIONAL:
            text, starred = f"*{p.name}: Any", True
        elif p.kind is p.VAR_KEYWORD:
            text = f"**{p.name}: Any"
        elif p.name not in ("self", "cls"):
            text += ": Any"
            if p.default is not p.empty:
                text += f" = {default(p.default)}"
        out.append(text)
        if positional and p is positional[-1]:
            out.append("/")
    return ", ".join(out)


def function(name: str, value: Any, indent: str = "", owner: str = "") -> list[str]:
    returns = RETURNS.get(name, "Any" if owner not in ("", "Tensor") or name.startswith("_") and owner == "" else "Tensor")
    args = parameters(value)
    if name in ("__eq__", "__ne__"):
        return [f"{indent}def {name}(self, value: Any, /) -> Tensor: ...  # type: ignore[override]"]
    return [f"{indent}def {name}({args}) -> {returns}: ..."]


def class_(name: str, cls: Any) -> list[str]:
    out = ["@disjoint_base", f"class {name}:"] if name == "Tensor" else ["@final", f"class {name}:"]
    for key in sorted(vars(cls)):
        value = vars(cls)[key]
        if key in ("__doc__", "__module__", "__weakref__", "__dict__", "__qualname__", "__getstate__"):
            continue
        if key == "__hash__" and value is None:
            continue
        if key == "__new__":
            signature = parameters(cls) if getattr(cls, "__text_signature__", None) else ""
            out.append(f"    def __new__(cls{', ' + signature if signature else ''}) -> {name}: ...")
        elif isinstance(value, (staticmethod, classmethod)):
            kind = type(value).__name__
            out.append(f"    @{kind}")
            args = parameters(getattr(cls, key))
            out.append(f"    def {key}({'cls, ' if kind == 'classmethod' else ''}{args}) -> {RETURNS.get(key, 'Any')}: ...")
        elif type(value).__name__ in ("getset_descriptor", "property"):
            kind = RETURNS.get(key, "Any")
            out.append(f"    @property\n    def {key}(self) -> {kind}: ...")
            if key in ("grad", "data", "requires_grad"):
                out.append(f"    @{key}.setter\n    def {key}(self, value: Any) -> None: ...")
        elif callable(value):
            out += function(key, value, "    ", name)
        else:
            out.append(f"    {key}: ClassVar[Any]")
    return out if len(out) > 2 else out + ["    ..."]


def main() -> None:
    out = [HEAD]
    for name in sorted(vars(module)):
        value = getattr(module, name)
        if name in ("__doc__", "__name__", "__package__", "__loader__", "__spec__", "__file__"):
            continue
        if name == "__all__":
            out.append("__all__ = [\n" + "".join(f"    {n!r},\n" for n in value) + "]")
        elif name == "__version__":
            out.append("__version__: str")
        elif isinstance(value, type):
            out += class_(name, value)
        elif callable(value):
            out += function(name, value)
        else:
            out.append(f"{name}: {'dtype' if isinstance(value, module.dtype) else 'Any'}")
    target = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "python/rushlight/_rushlight.pyi")
    text = "\n".join(out) + "\n"
    # Inside the stub `bool`, `int` and `float` are a tensor's methods and the module's dtypes.
    text = re.sub(r"(?<=-> )(bool|int|float)\b|(?<=tuple\[)(int)\b", lambda m: "builtins." + m.group(0), text)
    target.write_text(text)


if __name__ == "__main__":
    main()
