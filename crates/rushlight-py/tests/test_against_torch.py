"""Values, shapes, gradients and errors beside PyTorch's, over generated shapes, strides and dtypes."""

from __future__ import annotations

import numpy as np
import pytest

import rushlight as rl

torch = pytest.importorskip("torch")

UNARY = """abs exp expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan tanh sigmoid erf relu square neg sign floor ceil
round trunc isnan isinf isfinite logical_not""".split()
SHAPES = [(), (1,), (5,), (3, 4), (2, 1, 3), (0, 3)]
LAYOUTS = ["plain", "transposed", "strided", "expanded"]


def pair(shape, layout="plain", dtype="float64", seed=0, low=0.1, high=2.0):
    """The same values for both, laid out in the same way."""
    rng = np.random.default_rng(seed)
    array = rng.uniform(low, high, size=shape)
    ours, theirs = rl.tensor(array).to(getattr(rl, dtype)), torch.tensor(array).to(getattr(torch, dtype))
    if layout == "transposed" and len(shape) >= 2:
        return ours.transpose(0, -1), theirs.transpose(0, -1)
    if layout == "strided" and len(shape) >= 1:
        return ours[::2], theirs[::2]
    if layout == "expanded" and len(shape) >= 1:
        return ours.unsqueeze(0).expand(2, *shape), theirs.unsqueeze(0).expand(2, *shape)
    return ours, theirs


def close(ours, theirs, tolerance=1e-9):
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert repr(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    a = ours.detach().to(rl.float64).numpy()
    np.testing.assert_allclose(a, theirs.detach().to(torch.float64).numpy(), rtol=tolerance, atol=tolerance)


def both(f, inputs, grad=True, tolerance=1e-9):
    """`f(library, *tensors)` of both, forward and backward."""
    ours = [o.detach().requires_grad_() if grad else o for o, _ in inputs]
    theirs = [t.detach().requires_grad_() if grad else t for _, t in inputs]
    y, z = f(rl, *ours), f(torch, *theirs)
    close(y, z, tolerance)
    if grad and z.requires_grad:
        weights = np.linspace(0.5, 1.5, max(z.numel(), 1))[: z.numel()].reshape(tuple(z.shape))
        (y * rl.tensor(weights).to(y.dtype)).sum().backward()
        (z * torch.tensor(weights).to(z.dtype)).sum().backward()
        for o, t in zip(ours, theirs):
            if t.grad is not None:
                close(o.grad, t.grad, tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, shape, layout):
    both(lambda lib, x: getattr(lib, name)(x), [pair(shape, layout)])
    both(lambda lib, x: getattr(x, name)(), [pair(shape, layout)])


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 3), ()), ((0, 3), (3,))])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "remainder", "floor_divide"])
def test_binary(name, shapes):
    grad = name not in ("floor_divide", "remainder")
    both(lambda lib, a, b: getattr(lib, name)(a, b), [pair(shapes[0], seed=1), pair(shapes[1], seed=2)], grad)


@pytest.mark.parametrize("number", [2, 2.5, -3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_operators_with_numbers(dtype, number):
    if dtype == "uint8" and number == -3:
        pytest.skip("wraps around")
    a = pair((2, 3), dtype=dtype, low=1, high=9)
    for f in [lambda x: x + number, lambda x: number + x, lambda x: x - number, lambda x: number - x, lambda x: x * number,
              lambda x: x / number, lambda x: number / x, lambda x: x // number, lambda x: x % number, lambda x: x == number,
              lambda x: x < number, lambda x: number >= x]:
        if dtype == "uint8" and f(a[1]).min() > 200:
            continue
        close(f(a[0]), f(a[1]), 1e-6)


@pytest.mark.parametrize("a", ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("b", ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3,), ()), ((), (3,))])
def test_promotion(a, b, shapes):
    x, y = pair(shapes[0], dtype=a), pair(shapes[1], dtype=b)
    assert repr((x[0] * y[0]).dtype).split(".")[1] == str((x[1] * y[1]).dtype).split(".")[1]


@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2), (1,)])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "var", "std", "logsumexp"])
def test_reductions(name, dim, keepdim):
    if name == "logsumexp" and dim is None:
        dim = (0, 1, 2)
    for layout in LAYOUTS[:3]:
        both(lambda lib, x: getattr(lib, name)(x, dim=dim if dim is not None or name not in ("amax", "amin") else (0, 1, 2), keepdim=keepdim),
             [pair((4, 3, 4), layout)], tolerance=1e-8)


@pytest.mark.parametrize("name", ["max", "min", "sort", "topk", "argmax", "argmin", "cumsum", "cumprod", "prod"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_along_a_dim(name, dim):
    def f(lib, x):
        out = getattr(x, name)(2, dim) if name == "topk" else getattr(x, name)(dim=dim)
        return out[0] if isinstance(out, tuple) else out

    both(f, [pair((3, 4, 5))], grad=not name.startswith("arg"))


INDICES = [
    0, -1, slice(None), slice(1, 3), slice(None, None, 2), slice(-2, None), slice(5, 1), None, ..., (0, 1), (slice(None), 0), (..., 0),
    (None, 0), (0, ..., None), (slice(1, 3), slice(None), 1), [0, 1], ([[0, 1], [1, 0]],), ([0, 1], [1, 2]), (slice(None), [0, 2]),
    ([0, 1], slice(None), [1, 0]), (0, [0, 2]), ([1, 0], 0), (..., [0, 1]), (None, [0, 1]), True, False, (slice(0, 0),),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
@pytest.mark.parametrize("layout", LAYOUTS[:3])
def test_indexing_and_assignment(index, layout):
    ours, theirs = pair((4, 3, 4), layout)
    close(ours[index], theirs[index])
    if ours[index].numel():
        both(lambda lib, x: x[index], [(ours, theirs)])
    a, b = ours.clone(), theirs.clone()
    a[index], b[index] = 7.0, 7.0
    close(a, b)
    c, d = ours.clone(), theirs.clone()
    c[index], d[index] = ours[index] * 2, theirs[index] * 2
    close(c, d)


def test_negative_steps_and_masks_as_numpys():
    array = np.arange(24.0).reshape(4, 6)
    t = rl.tensor(array)
    for index in [np.s_[::-1], np.s_[:, ::-2], np.s_[3:0:-1, 1:5:2], np.s_[::-1, ::-1], np.s_[-1:-9:-2]]:
        np.testing.assert_array_equal(t[index].numpy(), array[index])
    mask = array % 3 == 0
    np.testing.assert_array_equal(t[rl.tensor(mask)].numpy(), array[mask])
    np.testing.assert_array_equal(t[mask].numpy(), array[mask])
    t[mask] = -1
    array[mask] = -1
    np.testing.assert_array_equal(t.numpy(), array)


VIEWS = [
    lambda x: x.transpose(0, 1), lambda x: x.permute(2, 0, 1), lambda x: x.reshape(-1), lambda x: x.unsqueeze(1),
    lambda x: x.flatten(1), lambda x: x.narrow(2, 1, 2), lambda x: x.select(1, -1), lambda x: x.diagonal(0, 0, 1),
    lambda x: x.movedim(0, -1), lambda x: x.unfold(2, 2, 2), lambda x: x.T if x.ndim == 2 else x.mT, lambda x: x.chunk(2)[1],
    lambda x: x.split([1, 2], 1)[1], lambda x: x.unbind(1)[2], lambda x: x[1:3, ..., 0],
]


@pytest.mark.parametrize("view", range(len(VIEWS)))
def test_views_share_their_base_both_ways(view):
    f = VIEWS[view]
    ours, theirs = pair((4, 3, 4))
    ours, theirs = ours.clone(), theirs.clone()
    a, b = f(ours), f(theirs)
    both(lambda lib, x: f(x), [(ours, theirs)])
    a.mul_(2), b.mul_(2)
    close(ours, theirs)
    ours.add_(1), theirs.add_(1)
    close(a, b)


FUNCTIONAL = {
    "gelu": lambda F, x: F.gelu(x), "gelu_tanh": lambda F, x: F.gelu(x, approximate="tanh"), "silu": lambda F, x: F.silu(x),
    "mish": lambda F, x: F.mish(x), "softplus": lambda F, x: F.softplus(x, 2.0), "elu": lambda F, x: F.elu(x, 0.7),
    "leaky_relu": lambda F, x: F.leaky_relu(x, 0.2), "softmax": lambda F, x: F.softmax(x, dim=1),
    "log_softmax": lambda F, x: F.log_softmax(x, dim=-1), "logsigmoid": lambda F, x: F.logsigmoid(x),
    "max_pool2d": lambda F, x: F.max_pool2d(x, 2), "max_pool2d_p": lambda F, x: F.max_pool2d(x, 3, 2, 1),
    "avg_pool2d": lambda F, x: F.avg_pool2d(x, (2, 3), stride=1), "avg_pool2d_p": lambda F, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive_avg_pool2d": lambda F, x: F.adaptive_avg_pool2d(x, (2, 3)), "adaptive_max_pool2d": lambda F, x: F.adaptive_max_pool2d(x, 2),
    "lp_pool2d": lambda F, x: F.lp_pool2d(x, 2.0, 2), "layer_norm": lambda F, x: F.layer_norm(x, x.shape[-1:]),
    "group_norm": lambda F, x: F.group_norm(x, 2), "pad": lambda F, x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "sdpa": lambda F, x: F.scaled_dot_product_attention(x, x * 0.5, x + 1, is_causal=True), "normalize": lambda F, x: F.normalize(x, dim=-1),
    "batch_norm": lambda F, x: F.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional(name, layout):
    inputs = [pair((2, 4, 5, 6), low=-2)] if layout == "plain" else [tuple(x.transpose(2, 3) for x in pair((2, 4, 6, 5), low=-2))]
    fs = {rl: rl.functional, torch: torch.nn.functional}
    both(lambda lib, x: FUNCTIONAL[name](fs[lib], x), inputs, tolerance=1e-8)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_convolutions(n, groups, stride):
    x, w, b = pair((2, 4, *[6] * n), low=-1), pair((6, 4 // groups, *[3] * n), seed=1), pair((6,), seed=2)
    fs = {rl: rl.functional, torch: torch.nn.functional}
    both(lambda lib, x, w, b: getattr(fs[lib], f"conv{n}d")(x, w, b, stride, 1, 1, groups), [x, w, b], tolerance=1e-8)
    w = pair((4, 6 // groups, *[3] * n), seed=1)
    both(lambda lib, x, w, b: getattr(fs[lib], f"conv_transpose{n}d")(x, w, b, stride, 1, 0, groups), [x, w, b], tolerance=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_losses(name, reduction):
    fs = {rl: rl.functional, torch: torch.nn.functional}
    inputs = [pair((3, 4), low=0.1, high=0.9), pair((3, 4), seed=1, low=0.1, high=0.9)]
    target = inputs[1]
    both(lambda lib, x: getattr(fs[lib], name)(x, target[0] if lib is rl else target[1], reduction=reduction), inputs[:1], tolerance=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    labels = [1, 0, 3]
    for reduction in ("mean", "sum", "none"):
        both(lambda lib, x: (rl.functional if lib is rl else torch.nn.functional).cross_entropy(
            x, lib.tensor(labels), reduction=reduction, label_smoothing=smoothing), [pair((3, 4))])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_linear_cross_entropy(reduction, smoothing):
    labels, inputs = [1, 0, 3], [pair((3, 5)), pair((4, 5), seed=1), pair((4,), seed=2)]
    fs = {rl: rl.functional, torch: torch.nn.functional}
    both(lambda lib, x, w, b: fs[lib].linear_cross_entropy(
        x, w, lib.tensor(labels), linear_bias=b, ignore_index=0, reduction=reduction, label_smoothing=smoothing), inputs)


OPTIMIZERS = [("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}), ("SGD", {"lr": 0.1, "weight_decay": 0.1}), ("Adam", {"lr": 0.05}),
              ("AdamW", {"lr": 0.05, "amsgrad": True}), ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}), ("Adagrad", {"lr": 0.1})]


@pytest.mark.parametrize("name,settings", OPTIMIZERS)
def test_optimizers(name, settings):
    a, b = pair((3, 4))
    p, q = rl.nn.Parameter(a), torch.nn.Parameter(b.clone())
    ours, theirs = getattr(rl.optim, name)([p], **settings), getattr(torch.optim, name)([q], **settings)
    for _ in range(7):
        for optimizer, t in ((ours, p), (theirs, q)):
            optimizer.zero_grad()
            (t.sin() * t).sum().backward()
            optimizer.step()
    close(p, q)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent(kind):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(3, 4, 2, batch_first=True, bidirectional=True)
    ours = getattr(rl.nn, kind)(3, 4, 2, batch_first=True, bidirectional=True)
    ours.load_state_dict({name: rl.tensor(v.numpy()) for name, v in theirs.state_dict().items()})
    x, z = pair((2, 5, 3), dtype="float32")
    y, w = ours(x)[0], theirs(z)[0]
    close(y, w, 1e-5)
    y.sum().backward()
    w.sum().backward()
    close(ours.weight_ih_l0.grad, theirs.weight_ih_l0.grad, 1e-4)


ERRORS = [
    (lambda lib: lib.ones(2) + lib.ones(3), ValueError), (lambda lib: lib.ones(2)[2], IndexError), (lambda lib: lib.ones(2).sum(3), IndexError),
    (lambda lib: lib.ones(2, 3) @ lib.ones(2, 3), ValueError), (lambda lib: lib.ones(2).reshape(3), ValueError),
    (lambda lib: lib.tensor([[1], [2, 3]]), ValueError), (lambda lib: lib.ones(2)[lib.tensor([5])], IndexError),
    (lambda lib: lib.ones(3).backward(), ValueError), (lambda lib: lib.tensor([1, 2]).requires_grad_(), TypeError),
    (lambda lib: lib.tensor("no"), TypeError), (lambda lib: lib.ones(2)["a"], IndexError), (lambda lib: lib.ones(2) + "a", TypeError),
    (lambda lib: lib.load("/no/such/file.safetensors"), FileNotFoundError), (lambda lib: bool(lib.ones(2)), ValueError),
    (lambda lib: lib.ones(1 << 60), ValueError), (lambda lib: lib.tensor([1, 2]).mean(), TypeError), (lambda lib: len(lib.tensor(1.0)), TypeError),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors_are_pythons(number):
    f, error = ERRORS[number]
    with pytest.raises(error) as raised:
        f(rl)
    assert str(raised.value)
    with pytest.raises(Exception):
        f(torch)


@pytest.mark.parametrize("name", ["mul", "add", "maximum", "minimum", "logical_xor", "eq", "true_divide"])
def test_two_bools(name):
    a, b = [True, True, False, False], [True, False, True, False]
    ours, theirs = getattr(rl, name)(rl.tensor(a), rl.tensor(b)), getattr(torch, name)(torch.tensor(a), torch.tensor(b))
    assert str(ours.dtype).split(".")[-1] == str(theirs.dtype).split(".")[-1]
    assert str(ours.tolist()) == str(theirs.tolist())
