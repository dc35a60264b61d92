"""Optimizers on fixed gradients, clipping, and schedules of the learning rate."""

import math

import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR

from recording import drawn, record, seeded


def descend(op, kind, defaults, *changes):
    """Eight steps with the defaults, then with each change to them."""
    for change in ({},) + changes:
        g, args = seeded(op), defaults | change
        start = drawn((2, 3), g)
        grads = [drawn((2, 3), g) for _ in range(8)]
        weight = start.clone().requires_grad_()
        optimizer = kind([weight], **args)
        params = []
        for grad in grads:
            weight.grad = grad.clone()
            optimizer.step()
            params.append(weight.detach().clone())
        record("optim", op=op, args=args, start=start, grads=grads, params=params)


def clip(op, fn, name, limits):
    for limit in limits:
        g = seeded(op)
        weights = [torch.zeros(2, 3), torch.zeros(4)]
        for weight in weights:
            weight.grad = drawn(weight.shape, g)
        inputs = [weight.grad.clone() for weight in weights]
        fn(weights, limit)
        record("optim", op=op, args={name: limit}, inputs=inputs, outputs=[weight.grad for weight in weights])


def optim():
    descend("sgd", torch.optim.SGD, dict(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False),
            dict(weight_decay=0.05), dict(momentum=0.9), dict(momentum=0.9, dampening=0.3),
            dict(momentum=0.8, nesterov=True), dict(lr=0.03, momentum=0.9, nesterov=True, weight_decay=0.1),
            dict(momentum=0.5, dampening=0.5, weight_decay=0.2))
    adam = dict(lr=0.01, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.0, amsgrad=False)
    changes = (dict(weight_decay=0.1), dict(amsgrad=True), dict(lr=0.1, betas=[0.5, 0.9]), dict(eps=1e-2),
               dict(lr=0.2, betas=[0.6, 0.7], eps=1e-4, weight_decay=0.3, amsgrad=True))
    descend("adam", torch.optim.Adam, adam, *changes)
    descend("adamw", torch.optim.AdamW, adam | dict(weight_decay=0.01), *changes)
    descend("rmsprop", torch.optim.RMSprop,
            dict(lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False),
            dict(alpha=0.7), dict(weight_decay=0.1), dict(momentum=0.9), dict(centered=True), dict(eps=1e-2),
            dict(lr=0.05, alpha=0.8, eps=1e-4, weight_decay=0.2, momentum=0.5, centered=True))
    descend("adagrad", torch.optim.Adagrad,
            dict(lr=0.1, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10),
            dict(lr_decay=0.1), dict(weight_decay=0.1), dict(initial_accumulator_value=0.5), dict(eps=1e-2),
            dict(lr=0.3, lr_decay=0.05, weight_decay=0.2, initial_accumulator_value=0.1))
    clip("clip_norm", clip_grad_norm_, "max_norm", (0.5, 1.0, 100.0))
    clip("clip_value", clip_grad_value_, "max", (0.1, 0.5, 100.0))


def follow(op, make, steps, **args):
    """The rate of each step, from a rate of one."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for step in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()
    record("schedule", op=op, args=args, factors=factors)


def warm(op, warmup, total=None, end=None):
    """A straight climb, then the shape of the schedule from one to `end`."""
    def factor(step):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if op == "constant":
            return 1.0
        t = min(1.0, (step - warmup) / (total - warmup))
        return 1 + (end - 1) * t if op == "linear" else end + (1 - end) * (1 + math.cos(math.pi * t)) / 2

    args = dict(warmup=warmup) if op == "constant" else dict(warmup=warmup, total=total, end=end)
    follow(op, lambda optimizer: LambdaLR(optimizer, factor), (total or warmup) + 4, **args)


def plateau(losses, **args):
    """The rate after each loss."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = ReduceLROnPlateau(optimizer, **args)
    factors = []
    for loss in losses:
        scheduler.step(loss)
        factors.append(optimizer.param_groups[0]["lr"])
    record("schedule", op="plateau", args=args | dict(losses=losses), factors=factors)


def schedule():
    for size, gamma in ((1, 0.9), (3, 0.5), (5, 0.1)):
        follow("step", lambda optimizer: StepLR(optimizer, size, gamma), 17, size=size, gamma=gamma)
    cycles = [
        (20, 0.3, 25.0, 1e4, "cos"), (20, 0.3, 25.0, 1e4, "linear"),
        (17, 0.5, 10.0, 100.0, "cos"), (11, 0.2, 4.0, 5.0, "linear"),
    ]
    for total, start, div, final, anneal in cycles:
        cycle = lambda optimizer: OneCycleLR(
            optimizer, max_lr=1.0, total_steps=total, pct_start=start, anneal_strategy=anneal, cycle_momentum=False,
            div_factor=div, final_div_factor=final)
        follow("one_cycle", cycle, total, total=total, pct_start=start, div=div, final_div=final, anneal=anneal)
    for op in ("linear", "cosine"):
        for warmup, total, end in ((0, 10, 0.0), (4, 16, 0.1), (1, 7, 0.5)):
            warm(op, warmup, total, end)
    for warmup in (0, 1, 5):
        warm("constant", warmup)
    losses = [1.0, 0.8, 0.79, 0.8, 0.81, 0.8, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.69, 0.695, 0.69, 0.69, 0.69, 0.68, 0.68, 0.68]
    default = dict(factor=0.5, patience=2, threshold=1e-4, cooldown=0, min_lr=0.0)
    for change in ({}, dict(patience=0), dict(cooldown=2), dict(threshold=0.1), dict(factor=0.1, patience=1, min_lr=0.05)):
        plateau(losses, **(default | change))
