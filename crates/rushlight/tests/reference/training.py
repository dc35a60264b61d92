"""Where parameters start, optimizers on fixed gradients, clipping, and schedules of the learning rate."""

import math
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, OneCycleLR, ReduceLROnPlateau, StepLR

from recording import drawn, record, seeded


def asked(method, fn):
    """What `fn` asks a random filling of tensors for: the bounds of uniform_, the mean and deviation of normal_."""
    with patch.object(torch.Tensor, method) as fill:
        fn()
    return [torch.tensor(call.args[:2]) for call in fill.call_args_list]


def init():
    start = lambda op, outputs, **args: record("init", op=op, args=args, inputs=[], outputs=outputs)
    shapes = [[3, 5], [4, 2, 3], [8, 3, 3, 3], [2, 4, 1, 2, 3], [1, 1]]
    gains = [("linear", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("leaky_relu", 0.2), ("selu", None)]
    for shape in shapes:
        fans = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
        start("fans", [torch.tensor(fan) for fan in fans], shape=shape)
    for name, slope in gains:
        args = dict(nonlinearity=name) | ({} if slope is None else {"slope": slope})
        gain = nn.init.calculate_gain(name, slope)
        start("gain", [torch.tensor(float(gain))], **args)
        for shape in shapes[:3]:
            for op, method in (("uniform", "uniform_"), ("normal", "normal_")):
                kaiming, xavier = getattr(nn.init, f"kaiming_{op}_"), getattr(nn.init, f"xavier_{op}_")
                fill = lambda: kaiming(torch.empty(shape), a=slope or 0, nonlinearity=name)
                start(f"kaiming_{op}", asked(method, fill), shape=shape, **args)
                start(f"xavier_{op}", asked(method, lambda: xavier(torch.empty(shape), gain)), shape=shape, **args)
    # Weight, then bias.
    for op, layer, sizes in [
            ("linear", nn.Linear, [5, 3]), ("conv1d", nn.Conv1d, [4, 6, 3]), ("conv2d", nn.Conv2d, [3, 8, 5]),
            ("conv3d", nn.Conv3d, [2, 2, 2]), ("conv_transpose2d", nn.ConvTranspose2d, [3, 8, 2])]:
        start(op, asked("uniform_", lambda: layer(*sizes)), sizes=sizes)
    start("embedding", asked("normal_", lambda: nn.Embedding(4, 3)), sizes=[4, 3])


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


def anneal(op, kind, **args):
    """Twelve steps with a rate that goes up and down."""
    g = seeded(op)
    start = drawn((2, 3), g)
    grads = [drawn((2, 3), g) for _ in range(12)]
    weight = start.clone().requires_grad_()
    optimizer = kind([weight], **args)
    cycle = OneCycleLR(optimizer, max_lr=args["lr"], total_steps=12, cycle_momentum=False)
    params, rates = [], []
    for step, grad in enumerate(grads):
        rates.append(optimizer.param_groups[0]["lr"])
        weight.grad = grad.clone()
        optimizer.step()
        if step < 11:
            cycle.step()
        params.append(weight.detach().clone())
    record("optim", op=op, args=args, start=start, grads=grads, lrs=rates, params=params)


def clip(op, fn, name, limits):
    for limit in limits:
        g = seeded(op)
        weights = [torch.zeros(2, 3), torch.zeros(4)]
        for weight in weights:
            weight.grad = drawn(weight.shape, g)
        inputs = [weight.grad.clone() for weight in weights]
        norm = fn(weights, limit)
        outputs = [weight.grad for weight in weights]
        more = {} if norm is None else {"norm": float(norm)}
        record("optim", op=op, args={name: limit}, inputs=inputs, outputs=outputs, **more)


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
    anneal("sgd", torch.optim.SGD, lr=0.5, momentum=0.9, dampening=0.0, weight_decay=0.01, nesterov=False)
    anneal("sgd", torch.optim.SGD, lr=0.5, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=True)
    anneal("adam", torch.optim.Adam, **adam | dict(weight_decay=0.01))
    anneal("adamw", torch.optim.AdamW, **adam | dict(weight_decay=0.1))
    anneal("rmsprop", torch.optim.RMSprop, lr=0.05, alpha=0.9, eps=1e-8, weight_decay=0.0, momentum=0.9, centered=True)
    anneal("adagrad", torch.optim.Adagrad,
           lr=0.5, lr_decay=0.1, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10)
    clip("clip_norm", clip_grad_norm_, "max_norm", (0.5, 1.0, 100.0, 0.0))
    clip("clip_value", clip_grad_value_, "max", (0.1, 0.5, 100.0, 0.0))


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
    losses = [1.0, 0.8, 0.79, 0.8, 0.81, 0.8, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.69, 0.695, 0.69, 0.69, 0.69, 0.68, 0.68,
              0.68]
    default = dict(factor=0.5, patience=2, threshold=1e-4, cooldown=0, min_lr=0.0)
    changes = ({}, dict(patience=0), dict(cooldown=2), dict(threshold=0.1), dict(factor=0.1, patience=1, min_lr=0.05))
    for change in changes:
        plateau(losses, **(default | change))
    # Losses below zero, where a part of the best is nearer to it; a rate too small to lower; losses not finite.
    plateau([-1.0, -1.00001, -1.5, -1.6, -1.5, -1.4, -1.6, -1.6, -1.6], **(default | dict(patience=1, threshold=0.1)))
    plateau([1.0] * 12, **(default | dict(factor=0.01, patience=0)))
    plateau([math.nan, 1.0, 0.9, math.nan, math.nan, math.nan, 0.8, 0.95], **default)
    plateau([1.0, math.inf, 1.0, 0.5, 0.6, 0.7, 0.8], **default)
    for total, end in ((10, 0.0), (7, 0.2)):
        # PyTorch goes up again behind the last step.
        cosine = lambda optimizer: CosineAnnealingLR(optimizer, T_max=total, eta_min=end)
        follow("cosine_annealing", cosine, total + 1, total=total, end=end)
        linear = lambda optimizer: LinearLR(optimizer, start_factor=1.0, end_factor=end, total_iters=total)
        follow("linear_lr", linear, total + 4, total=total, end=end)
