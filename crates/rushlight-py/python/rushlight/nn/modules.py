"""``Parameter`` and ``Module``: parameters, buffers and children are registered by assignment."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Callable, Iterator, Mapping, Sequence, Union

from .. import _rushlight as _r
from .._rushlight import Tensor
from ..autograd import no_grad


Sizes = Union[int, Sequence[int]]
"""One number for all dims, or one for each."""


def many(value: Sizes, n: int) -> tuple[int, ...]:
    """``n`` numbers of one, or the numbers that were given."""
    if isinstance(value, int):
        return (value,) * n
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"expected a number or a tuple of numbers, not {type(value).__name__}")
    return tuple(value)


class Parameter(Tensor):
    """A tensor that a module trains: a leaf with the values of ``data``."""

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Any:
        value = data.detach() if isinstance(data, Tensor) else data
        return super().__new__(cls, value, requires_grad)

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        pass

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class RemovableHandle:
    """Taken off by ``remove()``."""

    def __init__(self, hooks: dict[int, Any], number: int) -> None:
        self._hooks, self._number = hooks, number

    def remove(self) -> None:
        """The hook is not called any more."""
        self._hooks.pop(self._number, None)


class Module:
    """Subclass it: assign parameters, buffers and modules to attributes in ``__init__``, and define ``forward``."""

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        put = super().__setattr__
        put("training", True)
        put("_parameters", {})
        put("_buffers", {})
        put("_modules", {})
        put("_transient", set())
        put("_forward_hooks", {})
        put("_forward_pre_hooks", {})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output for an input."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._forward_pre_hooks or self._forward_hooks:
            return self._hooked(args, kwargs)
        return self.forward(*args, **kwargs)

    def _hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in list(self._forward_pre_hooks.values()):
            new = hook(self, args)
            if new is not None:
                args = new if isinstance(new, tuple) else (new,)
        out = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            new = hook(self, args, out)
            out = out if new is None else new
        return out

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """``hook(module, args, output)`` is called after ``forward``; what it returns takes the output's place."""
        hooks: dict[int, Any] = self._forward_hooks
        number = max(hooks, default=-1) + 1
        hooks[number] = hook
        return RemovableHandle(hooks, number)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """``hook(module, args)`` is called before ``forward``; what it returns takes the arguments' place."""
        hooks: dict[int, Any] = self._forward_pre_hooks
        number = max(hooks, default=-1) + 1
        hooks[number] = hook
        return RemovableHandle(hooks, number)

    # ---- registration ----

    def _registries(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        try:
            return self.__dict__["_parameters"], self.__dict__["_buffers"], self.__dict__["_modules"]
        except KeyError:
            raise AttributeError("call super().__init__() before assigning parameters or modules") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module)):
            parameters, buffers, modules = self._registries()
            for registry in (parameters, buffers, modules, self.__dict__):
                registry.pop(name, None)
            (parameters if isinstance(value, Parameter) else modules)[name] = value
            return
        known = self.__dict__
        if name in known.get("_parameters", ()):
            if value is not None:
                raise TypeError(f"{name} is a parameter: assign a Parameter or None, not {type(value).__name__}")
            known["_parameters"][name] = None
        elif name in known.get("_modules", ()):
            if value is not None:
                raise TypeError(f"{name} is a module: assign a Module or None, not {type(value).__name__}")
            known["_modules"][name] = None
        elif name in known.get("_buffers", ()) and (value is None or isinstance(value, Tensor)):
            known["_buffers"][name] = value
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        for registry in ("_parameters", "_modules", "_buffers"):
            found = self.__dict__.get(registry)
            if found is not None and name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for registry in ("_parameters", "_modules", "_buffers"):
            if name in self.__dict__.get(registry, ()):
                del self.__dict__[registry][name]
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._modules, *self._buffers})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """As assigning it; None keeps the place."""
        self._registries()[0][name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """A tensor that is saved (if ``persistent``) but not trained."""
        self._registries()[1][name] = tensor
        if not persistent:
            self.__dict__["_transient"].add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """As assigning it. TypeError: it is no module."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module")
        self._registries()[2][name] = module

    register_module = add_module

    # ---- walks ----

    def named_modules(self, memo: set[int] | None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This and all below it, each once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This and all below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules assigned to this one."""
        return ((name, module) for name, module in self._modules.items() if module is not None)

    def children(self) -> Iterator[Module]:
        """The modules assigned to this one."""
        return (module for _, module in self.named_children())

    def _named(self, registry: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix=prefix) if recurse else [(prefix, self)]:
            for name, value in module.__dict__[registry].items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names."""
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their dotted names."""
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name."""
        module: Any = self
        for part in target.split(".") if target else []:
            module = module._modules.get(part)
            if module is None:
                raise AttributeError(f"{type(self).__name__} has no module {target!r}")
        return module  # type: ignore[no-any-return]

    # ---- state ----

    def _entries(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for name, p in self._parameters.items():
            if p is not None:
                yield prefix + name, p
        for name, b in self._buffers.items():
            if b is not None and name not in self.__dict__["_transient"]:
                yield prefix + name, b
        for name, module in self.named_children():
            yield from module._entries(f"{prefix}{name}.")

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """Parameters and buffers by name, outside the graph."""
        return OrderedDict((name, t.detach()) for name, t in self._entries())

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> tuple[list[str], list[str]]:
        """Takes the values of parameters and buffers; nothing changes on an error. Returns missing and unknown names."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: expected a mapping of names to tensors, not {type(state_dict).__name__}")
        own = dict(self._entries())
        missing = [name for name in own if name not in state_dict]
        unknown = [name for name in state_dict if name not in own]
        problems = []
        if strict:
            problems += [f"missing {name} {list(own[name].shape)}" for name in missing]
            problems += [f"unknown {name}" for name in unknown]
        for name, t in own.items():
            if name in state_dict and tuple(state_dict[name].shape) != tuple(t.shape):
                problems.append(f"{name} has shape {list(state_dict[name].shape)}, the module's is {list(t.shape)}")
        if problems:
            raise ValueError("load_state_dict: " + "; ".join(problems))
        with no_grad():
            for name, t in own.items():
                if name in state_dict:
                    t.copy_(state_dict[name])
        return missing, unknown

    def train(self, mode: bool = True) -> Any:
        """Training mode, for this and all below it."""
        for module in self.modules():
            module.__dict__["training"] = mode
        return self

    def eval(self) -> Any:
        """Evaluation mode: dropout off, batch norm by its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Whether gradients are computed for the parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        for p in self.parameters():
            p.grad = None

    def apply(self, fn: Callable[[Module], None]) -> Any:
        """Calls ``fn`` with every module, the deepest first."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Casts float parameters and buffers to a dtype."""
        for module in self.modules():
            for registry in (module._parameters, module._buffers):
                for t in registry.values():
                    if t is not None and t.dtype.is_floating_point:
                        new = t.detach().to(*args, **kwargs)
                        if new.dtype is not t.dtype:
                            t._recast(new)
        return self

    def double(self) -> Any:
        """Casts to float64."""
        return self.to(_r.float64)

    def float(self) -> Any:
        """Casts to float32."""
        return self.to(_r.float32)

    # ---- printout ----

    def extra_repr(self) -> str:
        """The settings, for the printout."""
        return ""

    def __repr__(self) -> str:
        lines = [self.extra_repr()] if self.extra_repr() else []
        for name, module in self._modules.items():
            lines.append(f"({name}): " + repr(module).replace("\n", "\n  "))
        name = type(self).__name__
        if not self._modules:
            return f"{name}({lines[0] if lines else ''})"
        return f"{name}(\n  " + "\n  ".join(lines) + "\n)"
