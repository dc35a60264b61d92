"""Writes python/rushlight/_rushlight.pyi from the built module: names, arguments and defaults as they are, types by the tables
of stub_types.py. A name that no table has is an error, so nothing is untyped by oversight."""

from __future__ import annotations

import inspect
import pathlib
import sys
from typing import Any

import rushlight
from rushlight import _rushlight as module
from stub_types import ARGUMENTS, ATTRIBUTES, HEAD, OVERLOADS, RETURNS, SETTERS, Unknown

assert rushlight.__version__


def default(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else "..."


def parameters(owner: str, name: str, function: Any) -> str:
    """The arguments as the stub has them."""
    signature = inspect.signature(function)
    out, starred = [], False
    positional = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY]
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not starred:
            out.append("*")
            starred = True
        if p.name in ("self", "cls") or (owner == "Tensor" and p.name == "input"):
            text = p.name if p.name in ("self", "cls") else f"{p.name}: Tensor"
        else:
            text = f"{p.name}: {ARGUMENTS.of(owner, name, p.name)}"
            if p.kind is p.VAR_POSITIONAL:
                text, starred = f"*{text}", True
            elif p.default is None and not text.endswith("None"):
                text += " | None = None"
            elif p.default is not p.empty:
                text += f" = {default(p.default)}"
        out.append(text)
        if positional and p is positional[-1]:
            out.append("/")
    return ", ".join(out)


def function(name: str, value: Any, owner: str = "") -> list[str]:
    indent = "    " if owner else ""
    if (owner, name) in OVERLOADS:
        lines = OVERLOADS[owner, name]
        return [f"{indent}{line}" for arguments in lines for line in ("@overload", f"def {name}({arguments[0]}) -> {arguments[1]}: ...")]
    ignored = IGNORED.get((owner, name), "")
    return [f"{indent}def {name}({parameters(owner, name, value)}) -> {RETURNS.of(owner, name)}: ...{ignored}"]


# Comparisons give tensors; a power in place takes no modulus.
IGNORED = {
    ("Tensor", "__eq__"): "  # type: ignore[override]", ("Tensor", "__ne__"): "  # type: ignore[override]",
    ("Tensor", "__ipow__"): "  # type: ignore[misc]",
}
# The buffer's methods can be seen from Python 3.12 on only: the stub says always what memoryview() needs.
HIDDEN = ("__doc__", "__module__", "__weakref__", "__dict__", "__qualname__", "__getstate__", "__buffer__", "__release_buffer__")
BUFFER = "    def __buffer__(self, flags: Int, /) -> memoryview: ..."


def class_(name: str, cls: Any) -> list[str]:
    out = ["@disjoint_base" if name == "Tensor" else "@final", f"class {name}:"]
    for key, value in sorted(vars(cls).items()):
        if key in HIDDEN or (key == "__hash__" and value is None):
            continue
        if key == "__new__":
            arguments = parameters(name, "__new__", cls) if getattr(cls, "__text_signature__", None) else ""
            out.append(f"    def __new__(cls{', ' + arguments if arguments else ''}) -> {name}: ...")
        elif isinstance(value, (staticmethod, classmethod)):
            kind = type(value).__name__
            arguments = parameters(name, key, getattr(cls, key))
            out.append(f"    @{kind}\n    def {key}({'cls, ' if kind == 'classmethod' else ''}{arguments}) -> {RETURNS.of(name, key)}: ...")
        elif type(value).__name__ in ("getset_descriptor", "property"):
            out.append(f"    @property\n    def {key}(self) -> {RETURNS.of(name, key)}: ...")
            if (name, key) in SETTERS:
                out.append(f"    @{key}.setter\n    def {key}(self, value: {SETTERS[name, key]}) -> None: ...")
        elif callable(value):
            out += function(key, value, name)
        else:
            out.append(f"    {key}: ClassVar[{ATTRIBUTES[key]}]")
    if name == "Tensor":
        out.append(BUFFER)
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
        elif isinstance(value, module.dtype):
            out.append(f"{name}: dtype")
        else:
            raise Unknown(name)
    home = pathlib.Path(__file__).parent.parent / "python/rushlight/_rushlight.pyi"
    pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else home).write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
