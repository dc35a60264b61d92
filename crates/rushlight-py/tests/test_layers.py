"""Whole layers, optimizers, schedules and networks beside PyTorch's, with its parameters."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import rushlight as rl

torch = pytest.importorskip("torch")


def tensors(*shape, seed=0, scale=1.0):
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * scale
    return rl.tensor(values), torch.tensor(values)


def close(ours, theirs, tolerance=2e-5):
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


def translated(named):
    """By our names: queries, keys and values are three matrices, and the feed-forward network is a layer."""
    out = {}
    for name, value in named.items():
        name = name.replace("linear1.", "feed_forward.up_proj.").replace("linear2.", "feed_forward.down_proj.")
        if "in_proj_" in name:
            for letter, part in zip("qkv", value.chunk(3)):
                out[name.replace("in_proj_", f"{letter}_proj.")] = part
        else:
            out[name] = value
    return out


def adopt(ours, theirs):
    """Gives our layer PyTorch's parameters."""
    ours.load_state_dict({name: rl.tensor(v.numpy()) for name, v in translated(theirs.state_dict()).items()})


def compare(ours, theirs, run, inputs, tolerance=2e-5):
    """Output, gradients of inputs and of all parameters."""
    xs = [x.detach().requires_grad_() for x, _ in inputs]
    zs = [z.detach().requires_grad_() for _, z in inputs]
    y, w = run(ours, *xs), run(theirs, *zs)
    close(y, w, tolerance)
    weights = np.linspace(-1, 1.5, w.numel(), dtype=np.float32).reshape(tuple(w.shape))
    (y * rl.tensor(weights)).sum().backward()
    (w * torch.tensor(weights)).sum().backward()
    for x, z in zip(xs, zs):
        close(x.grad, z.grad, 10 * tolerance)
    expected = translated({name: p.grad for name, p in theirs.named_parameters()})
    assert {name for name, _ in ours.named_parameters()} == set(expected)
    for name, p in ours.named_parameters():
        close(p.grad, expected[name], 10 * tolerance)


# ---- attention and Transformers ----


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("masked", ["no", "causal", "padding"])
def test_multihead_attention(masked, cross, bias):
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)
    ours = rl.nn.MultiheadAttention(12, 3, bias=bias, batch_first=True)
    adopt(ours, theirs)
    length = 7 if cross else 5
    inputs = [tensors(2, 5, 12)] + ([tensors(2, length, 12, seed=1)] if cross else [])
    later = np.triu(np.ones((5, length), dtype=bool), 1)
    padding = np.zeros((2, length), dtype=bool)
    padding[1, -2:] = True

    def run(layer, x, memory=None):
        lib = rl if isinstance(x, rl.Tensor) else torch
        memory = x if memory is None else memory
        masks = {}
        if masked == "causal":
            masks["attn_mask"] = lib.tensor(later if lib is torch else ~later)
        if masked == "padding":
            masks["key_padding_mask"] = lib.tensor(padding if lib is torch else padding)
        y, weights = layer(x, memory, memory, need_weights=False, **masks)
        assert weights is None
        return y

    compare(ours, theirs, run, inputs)
    y, weights = ours(inputs[0][0])
    assert weights.shape[-1] == 5 and weights.sum(-1).allclose(rl.ones(*weights.shape[:-1]), atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer_layers(activation, norm_first):
    torch.manual_seed(0)
    settings = {"dim_feedforward": 20, "dropout": 0.0, "activation": activation, "norm_first": norm_first}
    theirs = torch.nn.TransformerEncoderLayer(12, 3, batch_first=True, **settings)
    ours = rl.nn.TransformerEncoderLayer(12, 3, **settings)
    adopt(ours, theirs)
    compare(ours, theirs, lambda layer, x: layer(x), [tensors(2, 5, 12)])
    theirs = torch.nn.TransformerDecoderLayer(12, 3, batch_first=True, **settings)
    ours = rl.nn.TransformerDecoderLayer(12, 3, **settings)
    adopt(ours, theirs)

    def decode(layer, x, memory):
        if isinstance(x, rl.Tensor):
            return layer(x, memory)
        return layer(x, memory, tgt_mask=torch.nn.Transformer.generate_square_subsequent_mask(5), tgt_is_causal=True)

    compare(ours, theirs, decode, [tensors(2, 5, 12), tensors(2, 6, 12, seed=1)])


def test_a_stack_of_encoder_layers():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    theirs = torch.nn.TransformerEncoder(layer, 3, torch.nn.LayerNorm(8), enable_nested_tensor=False)
    ours = rl.nn.TransformerEncoder(rl.nn.TransformerEncoderLayer(8, 2, 16, 0.0), 3, rl.nn.LayerNorm(8))
    adopt(ours, theirs)
    compare(ours, theirs, lambda layer, x: layer(x), [tensors(2, 4, 8)], 5e-5)


# ---- padding ----


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("kind", ["ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad"])
def test_padding(kind, n):
    for padding in (2, tuple(range(1, 2 * n + 1)) if kind in ("ZeroPad", "ConstantPad", "ReplicationPad") else (1, 0) * n):
        arguments = (padding, 1.5) if kind == "ConstantPad" else (padding,)
        layers = [getattr(lib.nn, f"{kind}{n}d")(*arguments) for lib in (rl, torch)]
        compare(*layers, lambda layer, x: layer(x), [tensors(2, 3, *[4, 5, 6][:n])])


def test_padding_that_does_not_fit():
    for layer, shape in ((rl.nn.ReflectionPad1d(4), (1, 4)), (rl.nn.CircularPad1d(5), (1, 4))):
        with pytest.raises(ValueError, match="do not fit"):
            layer(rl.ones(*shape))
    with pytest.raises(ValueError, match="mode"):
        rl.nn.functional.pad(rl.ones(3), (1, 1), mode="around")
    with pytest.raises(ValueError, match="sizes"):
        rl.nn.ZeroPad2d((1, 2, 3))


# ---- gates: PyTorch has none, so its own operations make them ----


def test_gates():
    torch.manual_seed(0)
    parts = [torch.nn.Linear(4, 4) for _ in range(3)]
    ours = rl.nn.Gate(*(rl.nn.Linear(4, 4) for _ in parts))
    theirs = torch.nn.ModuleDict(dict(zip(("first", "second", "gate"), parts)))
    adopt(ours, theirs)

    def gated(layer, x):
        if isinstance(x, rl.Tensor):
            return layer(x)
        r = layer["gate"](x).sigmoid()
        return r * layer["first"](x) + (1 - r) * layer["second"](x)

    compare(ours, theirs, gated, [tensors(5, 4)])


def test_a_highway():
    torch.manual_seed(0)
    linear = lambda: torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))  # noqa: E731
    theirs = torch.nn.ModuleDict({"transform": linear(), "gate": linear()})
    ours = rl.nn.Highway(4, 2)
    adopt(ours, theirs)

    def through(layer, x):
        if isinstance(x, rl.Tensor):
            return layer(x)
        for transform, gate in zip(layer["transform"], layer["gate"]):
            r = gate(x).sigmoid()
            x = r * transform(x).relu() + (1 - r) * x
        return x

    compare(ours, theirs, through, [tensors(5, 4)])


@pytest.mark.parametrize("k", [None, 2])
def test_a_mixture_of_experts(k):
    torch.manual_seed(0)
    theirs = torch.nn.ModuleDict({"gate": torch.nn.Linear(4, 3), "experts": torch.nn.ModuleList(torch.nn.Linear(4, 5) for _ in range(3))})
    ours = rl.nn.MixtureOfExperts(rl.nn.Linear(4, 3), [rl.nn.Linear(4, 5) for _ in range(3)], k)
    adopt(ours, theirs)

    def mixed(layer, x):
        if isinstance(x, rl.Tensor):
            return layer(x)
        logits = layer["gate"](x)
        if k:
            chosen = logits.topk(k, -1)
            logits = torch.full_like(logits, -torch.inf).scatter(-1, chosen.indices, chosen.values)
        return torch.einsum("bo,bon->bn", logits.softmax(-1), torch.stack([e(x) for e in layer["experts"]], 1))

    compare(ours, theirs, mixed, [tensors(6, 4)])


# ---- optimizers and schedules ----

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9}), ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}), ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.1}), ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("AdamW", {"lr": 0.05}), ("AdamW", {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True}), ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1}), ("RMSprop", {"lr": 0.01, "centered": True}),
    ("Adagrad", {"lr": 0.1}), ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2}),
]


@pytest.mark.parametrize("name,settings", OPTIMIZERS)
def test_optimizers_over_20_steps(name, settings):
    models = []
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    ours = rl.nn.Sequential(rl.nn.Linear(3, 5), rl.nn.Tanh(), rl.nn.Linear(5, 2))
    adopt(ours, theirs)
    for lib, model in ((rl, ours), (torch, theirs)):
        groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters()), "lr": settings["lr"] / 2}]
        models.append((lib, model, getattr(lib.optim, name)(groups, **settings)))
    x, y = tensors(8, 3), tensors(8, 2, seed=1)
    for _ in range(20):
        for i, (lib, model, optimizer) in enumerate(models):
            optimizer.zero_grad()
            lib.nn.functional.mse_loss(model(x[i]), y[i]).backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        close(p, q, 1e-4)


SCHEDULES = {
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda epoch: 1 / (1 + epoch)), "StepLR": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [2, 5, 11], gamma=0.3), "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "LinearLR": lambda s, o: s.LinearLR(o), "LinearLR to less": lambda s, o: s.LinearLR(o, 1.0, 0.1, 8),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 20, 0.01), "CosineAnnealingLR back": lambda s, o: s.CosineAnnealingLR(o, 7),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_over_20_steps(name):
    rates = []
    for lib in (rl, torch):
        p = lib.nn.Parameter(lib.ones(2))
        optimizer = lib.optim.SGD([p], lr=0.4)
        schedule = SCHEDULES[name](lib.optim.lr_scheduler, optimizer)
        seen = []
        for _ in range(20):
            seen.append(optimizer.param_groups[0]["lr"])
            (p * p).sum().backward()
            optimizer.step()
            schedule.step()
            assert schedule.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        rates.append(seen)
    assert rates[0] == pytest.approx(rates[1], rel=1e-9, abs=1e-12)
    assert len(set(rates[0])) > 1


def test_a_cosine_ends_at_the_same_rate_for_each_group():
    rates = []
    for lib in (rl, torch):
        groups = [{"params": [lib.nn.Parameter(lib.ones(2))], "lr": lr} for lr in (0.4, 0.1)]
        optimizer = lib.optim.SGD(groups, lr=1.0)
        schedule = lib.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, 0.01)
        rates.append([])
        for _ in range(10):
            optimizer.step()
            schedule.step()
            rates[-1] += schedule.get_last_lr()
    assert rates[0] == pytest.approx(rates[1], rel=1e-9) and rates[0][-2:] == pytest.approx([0.01, 0.01])


@pytest.mark.parametrize("settings", [
    {"mode": "max", "patience": 1}, {"threshold": 0.6, "threshold_mode": "abs", "patience": 1}, {"cooldown": 3, "patience": 0},
    {"mode": "max", "threshold": 0.5, "patience": 0, "eps": 0.03},
])
def test_what_counts_as_better(settings):
    rates = []
    for lib in (rl, torch):
        optimizer = lib.optim.SGD([lib.nn.Parameter(lib.ones(2))], lr=0.4)
        schedule = lib.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, **settings)
        rates.append([])
        for metric in [5, 4, 4.5, 6, 6.5, 3, 3, 3, 2.5, 2, 8, 8, 8, 9, 9, 9, 9, 9, 1, 1]:
            schedule.step(metric)
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(rates[1]) and len(set(rates[0])) >= 2
    with pytest.raises(ValueError, match="mode"):
        rl.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="most")


def test_a_schedule_by_the_metric():
    metrics = [5, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3.5, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    rates = []
    for lib in (rl, torch):
        optimizer = lib.optim.SGD([lib.nn.Parameter(lib.ones(2))], lr=0.4)
        schedule = lib.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, min_lr=0.04)
        rates.append([])
        for metric in metrics:
            schedule.step(metric)
            rates[-1].append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(rates[1]) and len(set(rates[0])) >= 3


def test_repeats_are_given_one_by_one_too():
    x = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(rl.tensor(x).repeat(2, 1, 3).numpy(), torch.tensor(x).repeat(2, 1, 3).numpy())
    assert np.array_equal(rl.tensor(x).repeat((2, 2)).numpy(), torch.tensor(x).repeat((2, 2)).numpy())


# ---- networks ----


def lenet(nn):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )


def test_lenet_learns_as_pytorchs_does():
    torch.manual_seed(0)
    ours, theirs = lenet(rl.nn), lenet(torch.nn)
    adopt(ours, theirs)
    compare(ours, theirs, lambda model, x: model(x), [tensors(2, 1, 28, 28)], 1e-4)
    x, labels = tensors(16, 1, 28, 28, seed=1), np.arange(16) % 10
    losses = [[], []]
    for i, (lib, model) in enumerate(((rl, ours), (torch, theirs))):
        optimizer = lib.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(10):
            optimizer.zero_grad()
            loss = lib.nn.functional.cross_entropy(model(x[i]), lib.tensor(labels))
            loss.backward()
            optimizer.step()
            losses[i].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0][-1] < losses[0][0]


GPT2 = pathlib.Path(__file__).parents[2] / "rushlight-models/tests/reference/pretrained/gpt2"


def test_a_gpt_writes_what_its_logits_say():
    model = rl.models.Gpt.from_pretrained(GPT2)
    tokens = [3, 1, 4, 1]
    new = model.generate(tokens, max_new_tokens=8, temperature=0)
    assert 1 <= len(new) <= 8
    for i, token in enumerate(new):
        assert token == model([tokens + new[:i]])[0, -1].argmax().item()
    drawn = [model.generate(tokens, max_new_tokens=8, temperature=1.5, seed=seed) for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len({tuple(d) for d in drawn}) > 1


def test_a_gpt_writes_what_transformers_writes():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(GPT2).eval()
    tokens = [3, 1, 4, 1]
    out = theirs.generate(torch.tensor([tokens]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    expected = out[0, len(tokens) :].tolist()
    new = rl.models.Gpt.from_pretrained(GPT2).generate(tokens, max_new_tokens=8, temperature=0)
    assert new == expected[: len(new)] and new
