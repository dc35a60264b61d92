"""Module 0: modules and parameters."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple, Union


class Parameter:
    """A value that is learned. ``value`` may be anything; a scalar or tensor is tracked from here on."""

    value: Any

    def __init__(self, x: Any, name: Optional[str] = None) -> None:
        self.name = name
        self.update(x)

    def update(self, x: Any) -> None:
        """Takes another value in place of the one before."""
        track = getattr(x, "requires_grad_", None)
        if track is not None:
            track(True)
            x.name = self.name or getattr(x, "name", None)
        self.value = x

    def __repr__(self) -> str:
        return f"{self.value!r}"


class Module:
    """A tree of modules with parameters: what is assigned to an attribute becomes a member if it is one of the two.

    Members are there before ``__init__`` runs, so one that derives need not call its base's.
    """

    _members: Dict[str, Union[Parameter, Module]]
    training: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        vars(made).update(_members={}, training=True)
        return made

    def _children(self) -> Iterator[Tuple[str, Module]]:
        return ((name, m) for name, m in self._members.items() if isinstance(m, Module))

    def modules(self) -> List[Module]:
        """The modules right below this one."""
        return [module for _, module in self._children()]

    def train(self, mode: bool = True) -> None:
        """Has this module and all below it train, or evaluate."""
        waiting = [self]
        while waiting:
            module = waiting.pop()
            module.training = mode
            waiting += module.modules()

    def eval(self) -> None:
        """Has this module and all below it evaluate."""
        self.train(False)

    def _walk(self, prefix: str) -> Iterator[Tuple[str, Parameter]]:
        for name, member in self._members.items():
            if isinstance(member, Parameter):
                yield prefix + name, member
        for name, module in self._children():
            yield from module._walk(f"{prefix}{name}.")

    def named_parameters(self) -> List[Tuple[str, Parameter]]:
        """All parameters by dotted names, the module's own first."""
        return list(self._walk(""))

    def parameters(self) -> List[Parameter]:
        """All parameters."""
        return [parameter for _, parameter in self._walk("")]

    def add_parameter(self, k: str, v: Any) -> Parameter:
        """A new parameter of the name ``k``, for modules that count them only at run time."""
        new = self._members[k] = Parameter(v, name=k)
        return new

    def __setattr__(self, key: str, val: Any) -> None:
        member = isinstance(val, (Parameter, Module))
        home, other = (self._members, vars(self)) if member else (vars(self), self._members)
        # A name means one thing: what it meant before is gone.
        other.pop(key, None)
        home[key] = val

    def __getattr__(self, key: str) -> Any:
        # Asked only for what is no ordinary attribute.
        try:
            return vars(self)["_members"][key]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute {key!r}") from None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes: to be defined by those who derive from it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """What :meth:`forward` computes."""
        compute = self.forward
        return compute(*inputs, **named)

    def __repr__(self) -> str:
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._children()]
        inside = "\n  ".join(lines)
        return f"{type(self).__name__}(\n  {inside}\n)" if lines else f"{type(self).__name__}()"
