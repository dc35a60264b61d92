"""Optimizers and schedules. The update is Rust's, one call for all parameters of a group."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, Callable, Iterable

from . import _rushlight as _r
from ._rushlight import Tensor


class Optimizer:
    """The base: groups of parameters with their settings."""

    _name = ""
    _defaults: dict[str, Any] = {}

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        self.defaults = settings
        self.param_groups: list[dict[str, Any]] = []
        self._rust: list[Any] = []
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
        for p in group["params"]:
            if not isinstance(p, Tensor) or not p.is_leaf:
                raise ValueError(f"{type(self).__name__}: parameters are tensors that are leaves, not {type(p).__name__}")
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


class LambdaLR:
    """The first learning rate times ``lr_lambda(epoch)``."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.optimizer, self.lr_lambda, self.last_epoch = optimizer, lr_lambda, -1
        self.step()

    def step(self) -> None:
        """The next epoch."""
        self.last_epoch += 1
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.lr_lambda(self.last_epoch)

    def get_last_lr(self) -> list[float]:
        """The rates now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self.last_epoch = state_dict["last_epoch"] - 1
        self.step()


class StepLR(LambdaLR):
    """Times ``gamma`` every ``step_size`` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer, lambda epoch: gamma ** (epoch // step_size))


class MultiStepLR(LambdaLR):
    """Times ``gamma`` at each of the milestones."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        marks = list(milestones)
        super().__init__(optimizer, lambda epoch: gamma ** sum(m <= epoch for m in marks))


class ExponentialLR(LambdaLR):
    """Times ``gamma`` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        super().__init__(optimizer, lambda epoch: gamma**epoch)


class LinearLR(LambdaLR):
    """From ``start_factor`` to ``end_factor`` within ``total_iters`` epochs."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5) -> None:
        super().__init__(
            optimizer, lambda epoch: start_factor + (end_factor - start_factor) * min(epoch, total_iters) / total_iters
        )


class CosineAnnealingLR(LambdaLR):
    """Half a cosine from the first rate to ``eta_min`` within ``T_max`` epochs."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        first = optimizer.param_groups[0]["initial_lr"]
        low = eta_min / first if first else 0.0
        super().__init__(optimizer, lambda epoch: low + (1 - low) * (1 + math.cos(math.pi * epoch / T_max)) / 2)


class ReduceLROnPlateau:
    """Times ``factor`` where the metric has not improved for ``patience`` epochs."""

    def __init__(self, optimizer: Optimizer, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
                 min_lr: float = 0.0) -> None:
        self.optimizer, self.factor, self.patience, self.threshold, self.min_lr = optimizer, factor, patience, threshold, min_lr
        self.best, self.bad = math.inf, 0

    def step(self, metrics: float) -> None:
        """The metric of an epoch."""
        value = float(metrics)
        if value < self.best * (1 - self.threshold):
            self.best, self.bad = value, 0
            return
        self.bad += 1
        if self.bad > self.patience:
            self.bad = 0
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)


lr_scheduler = SimpleNamespace(
    LambdaLR=LambdaLR, StepLR=StepLR, MultiStepLR=MultiStepLR, ExponentialLR=ExponentialLR, LinearLR=LinearLR,
    CosineAnnealingLR=CosineAnnealingLR, ReduceLROnPlateau=ReduceLROnPlateau,
)
