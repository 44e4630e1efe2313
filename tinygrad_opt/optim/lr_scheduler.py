"""Schedules of the learning rate, as in PyTorch: call ``scheduler.step()`` after every epoch.

Each schedule is a formula for the rate of epoch t, from the rate that the group had at the start. The rates are written
to ``optimizer.param_groups``, where the update rules read them. What others have made of a rate, another schedule or
the user, stays as a factor: so schedules may be combined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinygrad_opt.errors import StateDictError
from tinygrad_opt.optim.optimizer import Optimizer, check_range


class LRScheduler:
    """The base class: a schedule says in `rate` what the learning rate is in epoch t, and here is everything else.

    ``base_lrs`` are the rates at the start, ``last_epoch`` is t, counted from 0.

    Raises TypeError when it is not given an optimizer.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__} takes an optimizer first; got {optimizer!r:.80}")
        self.optimizer = optimizer
        self.base_lrs = self.get_last_lr()
        self.last_epoch = 0
        self._set(self._rates())

    def rate(self, base: float, t: int, group: int) -> float:
        """The learning rate in epoch ``t`` of a group that started with ``base``."""
        raise NotImplementedError(f"{type(self).__name__} has no formula for the rate")

    def step(self) -> None:
        """Go on to the next epoch."""
        before, now = self._rates(), self.get_last_lr()
        self.last_epoch += 1
        rates = self._rates()
        for i, (own, lr) in enumerate(zip(before, now, strict=False)):
            if lr != own and own != 0:  # another one has changed it: by the factor lr / own
                rates[i] *= lr / own
        self._set(rates)

    def get_last_lr(self) -> list[float]:
        """The learning rate of every group just now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands: what `load_state_dict` takes. Its settings are not part of it.

        ``lrs``, the rates, are there only where they are not those of the formula, because another one changed them.
        """
        state = {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}
        lrs = self.get_last_lr()
        return state if lrs == self._rates() else {**state, "lrs": lrs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`; raises StateDictError when it is that of another kind of schedule."""
        groups = len(self.optimizer.param_groups)
        fits = isinstance(state, Mapping) and state.keys() | {"lrs"} == {"last_epoch", "base_lrs", "lrs"}
        if not fits or any(len(rates) != groups for name, rates in state.items() if name != "last_epoch"):
            raise StateDictError(
                f"{type(self).__name__} with {groups} groups has a state of ['base_lrs', 'last_epoch'], a rate for "
                f"each group; got {state!r:.80}"
            )
        if not isinstance(state["last_epoch"], int) or state["last_epoch"] < 0:
            raise StateDictError(f"last_epoch is a whole number from 0 on; got {state['last_epoch']!r}")
        self.last_epoch, self.base_lrs = state["last_epoch"], list(state["base_lrs"])
        self._set(state.get("lrs") or self._rates())

    def _rates(self) -> list[float]:
        """What the formula says for this epoch."""
        return [self.rate(base, self.last_epoch, group) for group, base in enumerate(self.base_lrs)]

    def _set(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            group["lr"] = rate


class StepLR(LRScheduler):
    """αₜ = α₀ γ^⌊t / step_size⌋: times ``gamma`` every ``step_size`` epochs.

    >>> from tinygrad_opt import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=0.5)
    >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates += scheduler.get_last_lr()
    ...     scheduler.step()
    >>> rates
    [0.5, 0.5, 0.25, 0.25, 0.125]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        _check_count("step_size", step_size)
        check_range("gamma", gamma, 0, math.inf, open_low=True)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """α₀ γ^⌊t / step_size⌋."""
        return float(base * self.gamma ** (t // self.step_size))


class ExponentialLR(LRScheduler):
    """αₜ = α₀ γᵗ: times ``gamma`` every epoch.

    >>> from tinygrad_opt import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler.step(); scheduler.step()
    >>> optimizer.param_groups[0]["lr"]
    0.25
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        check_range("gamma", gamma, 0, math.inf, open_low=True)
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """α₀ γᵗ."""
        return float(base * self.gamma**t)


class LinearLR(LRScheduler):
    """αₜ = α₀ (s + (e - s) min(t / n, 1)): in a line from s to e times α₀, over n epochs; a warm-up.

    s is ``start_factor`` in (0, 1], e ``end_factor`` in (0, 1], n ``total_iters``.

    >>> from tinygrad_opt import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> rates = scheduler.get_last_lr()
    >>> for _ in range(3):
    ...     scheduler.step()
    ...     rates += scheduler.get_last_lr()
    >>> rates
    [0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        check_range("start_factor", start_factor, 0, 1, open_low=True, open_high=False)
        check_range("end_factor", end_factor, 0, 1, open_low=True, open_high=False)
        _check_count("total_iters", total_iters)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """α₀ (s + (e - s) min(t / n, 1))."""
        return base * (self.start_factor + (self.end_factor - self.start_factor) * min(t / self.total_iters, 1))


class CosineAnnealingLR(LRScheduler):
    """αₜ = e + (α₀ - e) (1 + cos(π t / T)) / 2: half a wave down from α₀ to e in T epochs, and up again after.

    T is ``T_max``, e is ``eta_min`` ≥ 0.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017),
    https://arxiv.org/abs/1608.03983.

    >>> from tinygrad_opt import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    >>> for _ in range(2):
    ...     scheduler.step()
    >>> round(optimizer.param_groups[0]["lr"], 6)
    0.5
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803 - as in PyTorch
        _check_count("T_max", T_max)
        check_range("eta_min", eta_min, 0, math.inf)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """e + (α₀ - e) (1 + cos(π t / T)) / 2."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


class LambdaLR(LRScheduler):
    """αₜ = α₀ f(t): times what a function of the epoch says; one function, or one for each group.

    >>> from tinygrad_opt import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t))
    >>> scheduler.step()
    >>> optimizer.param_groups[0]["lr"]
    0.5
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        groups = len(getattr(optimizer, "param_groups", ()))
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"LambdaLR needs one function, or one for each of the {groups} groups; got {len(self.lr_lambdas)}"
            )
        super().__init__(optimizer)

    def rate(self, base: float, t: int, group: int) -> float:
        """α₀ f(t)."""
        return base * self.lr_lambdas[group](t)


class ReduceLROnPlateau(LRScheduler):
    """Times ``factor`` when a number, such as the validation loss, has not improved for ``patience`` epochs.

    ``step(metric)`` takes the number. ``mode`` is "min" or "max", what improving means; it has to improve by the share
    ``threshold`` of the best so far (``threshold_mode="rel"``), or by ``threshold`` itself (``"abs"``). After a
    reduction it waits ``cooldown`` epochs. ``factor`` lies in (0, 1); no rate goes below ``min_lr``, nor changes by
    less than ``eps``. A NaN counts as no improvement.

    >>> from tinygrad_opt import nn, optim
    >>> optimizer = optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     scheduler.step(loss)
    >>> optimizer.param_groups[0]["lr"]
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max"; got {mode!r}')
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f'threshold_mode must be "rel" or "abs"; got {threshold_mode!r}')
        check_range("factor", factor, 0, 1, open_low=True)
        for name, value in {"patience": patience, "cooldown": cooldown, "min_lr": min_lr, "eps": eps}.items():
            check_range(name, value, 0, math.inf)
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.min_lr, self.eps = threshold, threshold_mode, min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(optimizer)

    def step(self, metric: Any = None) -> None:
        """Take note of the metric of an epoch, and reduce the rates when it has not improved for long enough."""
        if metric is None:
            raise TypeError("ReduceLROnPlateau.step(metric) needs the number to watch, such as the validation loss")
        value = float(metric)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                lr = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands: what `load_state_dict` takes."""
        own = {name: getattr(self, name) for name in ("best", "num_bad_epochs", "cooldown_counter")}
        return {"last_epoch": self.last_epoch, **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`; the rates are part of the optimizer's."""
        if not isinstance(state, Mapping) or state.keys() != self.state_dict().keys():
            raise StateDictError(f"this schedule has a state of {sorted(self.state_dict())}; got {state!r:.80}")
        vars(self).update(state)

    def rate(self, base: float, t: int, group: int) -> float:
        """It depends on what happened, not on the epoch: at the start, that of the optimizer."""
        return base

    def _better(self, value: float) -> bool:
        relative = self.threshold_mode == "rel"
        if self.mode == "min":
            return value < (self.best * (1 - self.threshold) if relative else self.best - self.threshold)
        return value > (self.best * (1 + self.threshold) if relative else self.best + self.threshold)


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer; got {value!r}")
