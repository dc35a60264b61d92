"""Schedules: the learning rate of each group by the epoch, or by how the loss goes."""

from __future__ import annotations

import math
from typing import Any, Callable, Iterable, Sequence

from .optimizers import Optimizer


class LambdaLR:
    """The first learning rate times ``lr_lambda(epoch)``; a list has a function for each group."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"{type(self).__name__}: {len(self.lr_lambdas)} functions for {groups} groups")
        self.optimizer, self.last_epoch = optimizer, -1
        self.step()

    def step(self) -> None:
        """The next epoch."""
        self.last_epoch += 1
        for group, factor in zip(self.optimizer.param_groups, self.lr_lambdas):
            group["lr"] = group["initial_lr"] * factor(self.last_epoch)

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
        def from_rate(first: float) -> Callable[[int], float]:
            low = eta_min / first if first else 0.0
            return lambda epoch: low + (1 - low) * (1 + math.cos(math.pi * epoch / T_max)) / 2

        super().__init__(optimizer, [from_rate(group["initial_lr"]) for group in optimizer.param_groups])


class ReduceLROnPlateau:
    """Times ``factor`` where the metric has not improved for ``patience`` epochs. Improved: below (``mode="max"``: above) the
    best by ``threshold``, a share of it or, with ``threshold_mode="abs"``, an amount. For ``cooldown`` epochs after that
    nothing counts."""

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
        threshold_mode: str = "rel", cooldown: int = 0, min_lr: float = 0.0, eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ValueError(f"ReduceLROnPlateau: mode is min or max, threshold_mode rel or abs, not {mode!r}, {threshold_mode!r}")
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau: a factor of {factor} does not reduce")
        self.optimizer, self.factor, self.patience, self.threshold = optimizer, factor, patience, threshold
        self.min_lr, self.cooldown, self.eps = min_lr, cooldown, eps
        # As if it were to fall: what is to rise counts by its negative.
        self._sign, self._relative = (1.0 if mode == "min" else -1.0), threshold_mode == "rel"
        self.best, self.num_bad_epochs, self.cooldown_counter = math.inf, 0, 0

    def step(self, metrics: float) -> None:
        """The metric of an epoch."""
        value = float(metrics) * self._sign
        margin = self.threshold * (self.best * self._sign if self._relative else 1.0)
        if value < (self.best - margin if math.isfinite(self.best) else self.best):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group in self.optimizer.param_groups:
                new = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - new > self.eps:
                    group["lr"] = new

    def get_last_lr(self) -> list[float]:
        """The rates now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        return {key: getattr(self, key) for key in ("best", "num_bad_epochs", "cooldown_counter")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        for key in ("best", "num_bad_epochs", "cooldown_counter"):
            setattr(self, key, state_dict[key])
