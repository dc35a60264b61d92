"""Module 0: modules and parameters."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple


class Parameter:
    """A value that is learned."""

    def __init__(self, x: Any, name: Optional[str] = None) -> None:
        self.name = name
        self.update(x)

    def update(self, x: Any) -> None:
        """Takes another value, which is tracked if it can be."""
        self.value = x
        if hasattr(x, "requires_grad_"):
            x.requires_grad_(True)
            if self.name:
                x.name = self.name

    def __repr__(self) -> str:
        return repr(self.value)


class Module:
    """A tree of modules with parameters. What is assigned to an attribute finds its place by its type."""

    _modules: Dict[str, Module]
    _parameters: Dict[str, Parameter]
    training: bool

    def __init__(self) -> None:
        self._modules = {}
        self._parameters = {}
        self.training = True

    def modules(self) -> List[Module]:
        """The modules right below this one."""
        return list(self._modules.values())

    def train(self) -> None:
        """Has this module and all below it train."""
        self._set_training(True)

    def eval(self) -> None:
        """Has this module and all below it evaluate."""
        self._set_training(False)

    def _set_training(self, training: bool) -> None:
        self.training = training
        for module in self.modules():
            module._set_training(training)

    def named_parameters(self) -> List[Tuple[str, Parameter]]:
        """All parameters by dotted names, the module's own first."""
        own = list(self._parameters.items())
        below = [(f"{m}.{p}", v) for m, module in self._modules.items() for p, v in module.named_parameters()]
        return own + below

    def parameters(self) -> List[Parameter]:
        """All parameters."""
        return [parameter for _, parameter in self.named_parameters()]

    def add_parameter(self, k: str, v: Any) -> Parameter:
        """A new parameter of the name ``k``, for modules that count them only at run time."""
        parameter = Parameter(v, k)
        self._parameters[k] = parameter
        return parameter

    def __setattr__(self, key: str, val: Any) -> None:
        if isinstance(val, Parameter):
            self.__dict__["_parameters"][key] = val
        elif isinstance(val, Module):
            self.__dict__["_modules"][key] = val
        else:
            super().__setattr__(key, val)

    def __getattr__(self, key: str) -> Any:
        for table in ("_parameters", "_modules"):
            if key in self.__dict__.get(table, {}):
                return self.__dict__[table][key]
        raise AttributeError(f"{type(self).__name__} has no attribute {key!r}")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes: to be defined by those who derive from it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._modules.items()]
        inside = "\n  ".join(lines)
        return f"{type(self).__name__}(\n  {inside}\n)" if lines else f"{type(self).__name__}()"
