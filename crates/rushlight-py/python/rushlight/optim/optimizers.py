"""Optimizers. The update is Rust's, one call for all parameters of a group."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from .. import _rushlight as _r
from .._rushlight import Tensor


class Optimizer:
    """The base: groups of parameters with their settings."""

    _name = ""
    _defaults: dict[str, Any] = {}

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        self.defaults = settings
        self.param_groups: list[dict[str, Any]] = []
        self._rust: list[Any] = []
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: expected a list of parameters, not one; give [parameter]")
        given = list(params)
        if not given:
            raise ValueError(f"{type(self).__name__}: no parameters")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """More parameters, with settings of their own."""
        group = {**self.defaults, **param_group}
        params = group["params"]
        group["params"] = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in group["params"]:
            if not isinstance(p, Tensor) or not p.is_leaf:
                raise ValueError(f"{type(self).__name__}: parameters are tensors that are leaves, not {type(p).__name__}")
            if id(p) in known:
                raise ValueError(f"{type(self).__name__}: a parameter of shape {tuple(p.shape)} is given twice")
            known.add(id(p))
        group.setdefault("initial_lr", group["lr"])
        self.param_groups.append(group)
        self._rust.append(_r._Optimizer(self._name, {k: v for k, v in group.items() if k not in ("params", "initial_lr")}))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = closure() if closure is not None else None
        for group, rust in zip(self.param_groups, self._rust):
            rust.step(group["params"], group["lr"])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, by the parameters' places."""
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        return {"param_groups": groups, "state": [dict(r.state_dict()) for r in self._rust]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what ``state_dict`` gave."""
        if len(state_dict["param_groups"]) != len(self.param_groups):
            raise ValueError(f"load_state_dict: {len(state_dict['param_groups'])} groups for {len(self.param_groups)}")
        for i, (group, saved) in enumerate(zip(self.param_groups, state_dict["param_groups"])):
            group.update(saved)
            settings = {k: v for k, v in group.items() if k not in ("params", "initial_lr")}
            self._rust[i] = _r._Optimizer(self._name, settings)
            self._rust[i].load_state_dict(list(state_dict["state"][i].items()))


class SGD(Optimizer):
    """Gradient descent with momentum."""

    _name = "sgd"

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)


class Adam(Optimizer):
    """Adam."""

    _name = "adam"

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, amsgrad: bool = False) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)


class AdamW(Optimizer):
    """Adam with the weight decay apart."""

    _name = "adamw"

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)


class RMSprop(Optimizer):
    """RMSprop."""

    _name = "rmsprop"

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered)


class Adagrad(Optimizer):
    """Adagrad."""

    _name = "adagrad"

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
                 initial_accumulator_value: float = 0.0, eps: float = 1e-10) -> None:
        super().__init__(params, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
                         initial_accumulator_value=initial_accumulator_value, eps=eps)
