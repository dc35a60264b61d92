"""Writes the reference results the tests compare with: what PyTorch answers, in double precision, on one thread.

    python make.py

Each file holds `{"torch": version, "cases": [...]}`, one case a line. A case names an operation, its arguments, its inputs
and outputs, the gradient that was sent back into each output, and the gradient that arrived at each input (null: none).
"""

import math

import torch
import torch.nn.functional as F

from recording import (
    bools, case, distinct, edge, exactly, fixed, ints, log_probabilities, normal, orders, probabilities, uniform, whole,
    write)
from training import optim, schedule


# Elementwise

def elementwise():
    real, positive = normal(3, 5, scale=2.0), uniform(0.2, 4.0, 3, 5)
    by_domain = [
        (real, "exp expm1 sin cos tanh sigmoid erf relu silu softplus abs neg square sign floor ceil round trunc"),
        (positive, "log log2 log10 log1p sqrt rsqrt reciprocal"),
        (uniform(-1.2, 1.2, 3, 5), "tan"),
    ]
    unary = [(op, getattr(torch, op, None) or getattr(F, op), x, {}) for x, ops in by_domain for op in ops.split()]
    unary += [
        ("gelu", F.gelu, real, {}),
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), real, {}),
        ("log_sigmoid", F.logsigmoid, real, {}),
        ("step", lambda x: torch.heaviside(x.detach(), torch.tensor(0.0)), real, {}),
    ]
    unary += [("leaky_relu", F.leaky_relu, real, dict(negative_slope=slope)) for slope in (0.01, 0.3)]
    unary += [("elu", F.elu, real, dict(alpha=alpha)) for alpha in (1.0, 0.7)]
    unary += [("clamp", torch.clamp, real, dict(min=-1.0, max=1.5))]
    unary += [("powf", torch.pow, real, dict(exponent=power)) for power in (2.0, 3.0, -1.0, 0.0)]
    unary += [("powf", torch.pow, positive, dict(exponent=0.5))]
    for op, fn, x, args in unary:
        case("elementwise", op, fn, [x], **args)
        edge("elementwise", op, fn, **args)

    a, b, away = normal(3, 1, 4), normal(2, 4), uniform(0.5, 2.0, 2, 4)
    for op in "add sub mul maximum minimum".split():
        case("elementwise", op, getattr(torch, op), [a, b])
    case("elementwise", "div", torch.div, [a, away])
    case("elementwise", "div", torch.div, [a, lambda g: (-away(g)).detach().requires_grad_()])
    case("elementwise", "pow", torch.pow, [uniform(0.2, 3.0, 3, 1, 4), b])
    for divisor in (away, uniform(-2.0, -0.5, 2, 4)):
        case("elementwise", "remainder", torch.remainder, [normal(3, 1, 4, scale=4.0), divisor])
        case("elementwise", "floor_divide", torch.floor_divide, [fixed(normal(3, 1, 4, scale=4.0)), fixed(divisor)])
    for op in "eq ne lt le gt ge".split():
        case("elementwise", op, getattr(torch, op), [whole(3, 1, 4), whole(2, 4)])
    case("elementwise", "where", torch.where, [bools(3, 1, 4), normal(2, 4), normal(3, 2, 1)])
    case("elementwise", "where", torch.where, [bools(4), normal(3, 4), normal(3, 4)])


# Reductions

def prod(x, dims, keepdim):
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim=keepdim)
    return x


def reduce():
    x = distinct(2, 3, 4)
    over = [([0], False), ([1], True), ([2], False), ([0, 2], False), ([1, 2], True), ([0, 1, 2], False)]
    for dims, keepdim in over:
        for op in "sum mean amax amin logsumexp".split():
            fn = lambda x, dims, keepdim: getattr(torch, op)(x, dims, keepdim=keepdim)
            case("reduce", op, fn, [x], dims=dims, keepdim=keepdim)
        case("reduce", "prod", prod, [x], dims=dims, keepdim=keepdim)
    for op in ("var", "std"):
        for dims, correction in [([0], 1), ([1], 0), ([2], 1), ([0, 2], 0), ([1, 2], 1), ([0, 1, 2], 1)]:
            fn = lambda x, dims, correction: getattr(torch, op)(x, dims, correction=correction)
            case("reduce", op, fn, [x], dims=dims, correction=correction)
    for p in (1.0, 2.0, 3.0, math.inf):
        for dims in ([1], [0, 2]):
            case("reduce", "norm", lambda x, p, dims: torch.linalg.vector_norm(x, p, dims), [x], p=p, dims=dims)
    for dim in range(3):
        for op in "max min argmax argmin cumsum cumprod".split():
            case("reduce", op, getattr(torch, op), [x], dim=dim)
        for flag in (False, True):
            case("reduce", "sort", torch.sort, [x], dim=dim, descending=flag)
            case("reduce", "argsort", torch.argsort, [x], dim=dim, descending=flag)
            case("reduce", "topk", torch.topk, [x], k=2, dim=dim, largest=flag)
    for dims in ([0], [2], [0, 2], [0, 1, 2]):
        for op in ("any", "all"):
            case("reduce", op, lambda x, dims: getattr(torch, op)(x, dims), [bools(2, 3, 2)], dims=dims)


# Products

def matmul():
    shapes = [
        ((4,), (4,)), ((3, 4), (4,)), ((3,), (3, 4)), ((3, 4), (4, 2)), ((1, 5), (5, 1)), ((2, 3, 4), (2, 4, 2)),
        ((2, 2, 3, 4), (4, 2)), ((2, 1, 3, 4), (5, 4, 2)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)),
    ]
    for a, b in shapes:
        case("matmul", "matmul", torch.matmul, [normal(*a), normal(*b)])
    equations = [
        ("ii->i", (4, 4)), ("ii", (4, 4)), ("ij->ji", (3, 4)), ("ij->j", (3, 4)), ("ba", (3, 4)),
        ("i,j->ij", (3,), (4,)), ("i,i", (4,), (4,)), ("ij,jk", (3, 4), (4, 2)), ("ij,kj->ik", (3, 4), (2, 4)),
        ("ij,ij->", (3, 4), (3, 4)), ("bij,bjk", (2, 3, 4), (2, 4, 2)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
        ("...ij,...jk->...ik", (2, 1, 3, 4), (3, 4, 2)), ("bqhd,bkhd->bhqk", (2, 3, 2, 2), (2, 4, 2, 2)),
        ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("bn,anm,bm->ba", (2, 3), (4, 3, 2), (2, 2)),
    ]
    for equation, *shapes in equations:
        fn = lambda *xs, equation: torch.einsum(equation, *xs)
        case("matmul", "einsum", fn, [normal(*shape) for shape in shapes], equation=equation)
    for shape in ((4,), (3, 4), (2, 3, 4)):
        case("matmul", "linear", F.linear, [normal(*shape), normal(5, 4), normal(5)])


# Indexing and moving

def index():
    x = normal(3, 4, 2)
    move = lambda op, fn, inputs, **args: case("index", op, fn, inputs, **args)
    for dim in range(3):
        size = (3, 4, 2)[dim]
        picked = [5 if d == dim else n for d, n in enumerate((3, 4, 2))]
        select = lambda x, i, dim: torch.index_select(x, dim, i)
        move("index_select", select, [x, ints(size, 5)], dim=dim)
        move("gather", lambda x, i, dim: torch.gather(x, dim, i), [x, ints(size, *picked)], dim=dim)
        move("take_along_dim", lambda x, i, dim: torch.take_along_dim(x, i, dim), [x, ints(size, *picked)], dim=dim)
        scatter = lambda x, i, src, dim: torch.scatter(x, dim, i, src)
        move("scatter", scatter, [x, orders(dim, 3, 4, 2), normal(3, 4, 2)], dim=dim)
        scatter_add = lambda x, i, src, dim: torch.scatter_add(x, dim, i, src)
        move("scatter_add", scatter_add, [x, ints(size, *picked), normal(*picked)], dim=dim)
        parts = [normal(*[n if d == dim else m for d, m in enumerate((3, 4, 2))]) for n in (1, 3, 2)]
        move("cat", lambda *xs, dim: torch.cat(xs, dim), parts, dim=dim)
        move("stack", lambda *xs, dim: torch.stack(xs, dim), [normal(3, 2)] * 3, dim=dim)
    move("gather", lambda x, i, dim: torch.gather(x, dim, i), [x, ints(4, 2, 3, 1)], dim=1)
    for value in (-1.5, -math.inf):
        move("masked_fill", torch.masked_fill, [x, bools(3, 4, 2)], value=value)
    move("masked_fill", torch.masked_fill, [x, bools(4, 1)], value=0.0)
    move("masked_select", torch.masked_select, [x, bools(3, 4, 2)])
    for times in ([2, 1, 3], [2, 1, 1, 2]):
        move("repeat", lambda x, times: x.repeat(times), [x], times=times)
    for shift, dim in ((1, 0), (-1, 1), (5, 2), (6, 1)):
        move("roll", lambda x, shift, dim: torch.roll(x, shift, dim), [x], shift=shift, dim=dim)
    for op in ("tril", "triu"):
        for diagonal in (-1, 0, 2):
            move(op, getattr(torch, op), [normal(2, 3, 4)], diagonal=diagonal)
    for shape in ((5,), (2, 3)):
        move("one_hot", lambda x, classes: F.one_hot(x, classes), [ints(4, *shape)], classes=4)
        move("nonzero", torch.nonzero, [fixed(whole(*shape))])
    move("nonzero", torch.nonzero, [bools(3, 4, 2)])
    for dims in ([0], [1], [0, 2]):
        move("flip", lambda x, dims: torch.flip(x, dims), [x], dims=dims)
    for offset, dim1, dim2 in ((0, 0, 1), (1, 0, 1), (-1, 1, 2), (0, 2, 0)):
        move("diagonal", torch.diagonal, [x], offset=offset, dim1=dim1, dim2=dim2)
    for dim, size, step in ((0, 2, 1), (1, 2, 2), (1, 3, 1)):
        unfold = lambda x, dim, size, step: x.unfold(dim, size, step)
        move("unfold", unfold, [x], dim=dim, size=size, step=step)
    for amounts, value in (([1, 2], 0.0), ([1, 0, 0, 2], -1.5), ([0, 1, 1, 1, 2, 0], 3.0), ([0, 0, 2, 1], -math.inf)):
        move("pad", lambda x, amounts, value: F.pad(x, amounts, value=value), [x], amounts=amounts, value=value)


# Softmax and pooling

def max_pool(rank):
    pool = getattr(F, f"max_pool{rank}d")
    return lambda x, kernel, stride, padding, dilation, ceil_mode: pool(
        x, kernel, stride, padding, dilation, ceil_mode, return_indices=True)


def avg_pool(rank):
    pool = getattr(F, f"avg_pool{rank}d")
    return lambda x, kernel, stride, padding, ceil_mode, count_include_pad, **divisor: pool(
        x, kernel, stride, padding, ceil_mode, count_include_pad, **divisor)


def lp_pool(rank):
    pool, one = getattr(F, f"lp_pool{rank}d"), lambda sizes: sizes[0] if rank == 1 else sizes
    return lambda x, p, kernel, stride, ceil_mode: pool(x, p, one(kernel), one(stride), ceil_mode)


def softmax_pool():
    file = "softmax_pool"
    for op in ("softmax", "log_softmax"):
        for dim in range(3):
            case(file, op, getattr(F, op), [normal(2, 3, 4, scale=2.0)], dim=dim)
        case(file, op, getattr(F, op), [normal(2, 5, scale=200.0)], dim=1)
    # kernel, stride, padding, dilation, ceil_mode
    windows = {
        1: [([2], [2], [0], [1], False), ([3], [2], [1], [1], True),
            ([3], [1], [1], [2], False), ([2], [3], [0], [1], True)],
        2: [([2, 2], [2, 2], [0, 0], [1, 1], False), ([2, 2], [1, 1], [0, 0], [1, 1], False),
            ([3, 3], [2, 2], [1, 1], [1, 1], False), ([3, 3], [2, 2], [1, 1], [1, 1], True),
            ([2, 2], [2, 2], [0, 0], [1, 1], True), ([3, 2], [2, 1], [1, 0], [1, 1], False),
            ([2, 3], [1, 2], [0, 1], [1, 1], True), ([2, 2], [1, 1], [0, 0], [2, 2], False),
            ([3, 2], [1, 2], [1, 1], [2, 1], True), ([2, 2], [3, 3], [1, 1], [1, 1], True),
            ([5, 6], [1, 1], [0, 0], [1, 1], False), ([1, 1], [2, 2], [0, 0], [1, 1], False)],
        3: [([2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1], False), ([2, 2, 2], [2, 1, 2], [1, 0, 1], [1, 1, 1], False),
            ([2, 3, 2], [1, 2, 2], [0, 1, 0], [1, 1, 1], True), ([2, 2, 2], [1, 1, 1], [0, 0, 0], [1, 2, 1], False)],
    }
    shapes = {1: (2, 2, 7), 2: (1, 2, 5, 6), 3: (1, 1, 3, 4, 3)}
    for rank, table in windows.items():
        x = distinct(*shapes[rank])
        for turn, (kernel, stride, padding, dilation, ceil_mode) in enumerate(table):
            args = dict(kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
            case(file, f"max_pool{rank}d", max_pool(rank), [x], **args, dilation=dilation)
            for include in (True, False):
                divisor = {} if rank == 1 else {"divisor_override": 3 if turn % 4 == 3 else None}
                case(file, f"avg_pool{rank}d", avg_pool(rank), [x], **args, count_include_pad=include, **divisor)
            if rank < 3:
                for p, values in ((2.0, x), (3.0, uniform(0.2, 2.0, *shapes[rank]))):
                    args = dict(p=p, kernel=kernel, stride=stride, ceil_mode=ceil_mode)
                    case(file, f"lp_pool{rank}d", lp_pool(rank), [values], **args)
    outputs = [[1], [3], [7], [9], [1, 1], [2, 3], [3, 4], [5, 6], [4, 2], [7, 5], [1, 1, 1], [2, 3, 2], [3, 1, 2]]
    for output in outputs:
        rank = len(output)
        for kind, more in (("avg", {}), ("max", {"return_indices": True})):
            op = f"adaptive_{kind}_pool{rank}d"
            fn = lambda x, output: getattr(F, op)(x, output, **more)
            case(file, op, fn, [distinct(*shapes[rank])], output=output)


# Convolution

def conv():
    # spatial size, kernel, stride, padding, dilation, groups
    table = [
        ([7], [3], [1], [0], [1], 1), ([7], [3], [2], [1], [1], 1), ([7], [2], [1], [2], [3], 1),
        ([7], [3], [2], [1], [1], 2),
        ([5, 4], [3, 3], [1, 1], [0, 0], [1, 1], 1), ([5, 4], [3, 3], [1, 1], [1, 1], [1, 1], 1),
        ([5, 4], [3, 2], [2, 1], [1, 0], [1, 1], 1), ([5, 5], [2, 2], [2, 2], [0, 0], [1, 1], 2),
        ([5, 5], [2, 3], [1, 2], [1, 2], [2, 1], 1), ([4, 4], [1, 1], [1, 1], [0, 0], [1, 1], 1),
        ([5, 4], [3, 3], [2, 2], [2, 2], [2, 2], 2), ([3, 4, 3], [2, 2, 2], [1, 1, 1], [0, 0, 0], [1, 1, 1], 1),
        ([3, 4, 3], [2, 3, 2], [1, 2, 1], [1, 1, 0], [1, 1, 2], 2),
    ]
    for size, kernel, stride, padding, dilation, groups in table:
        rank = len(size)
        x, bias = normal(2 if rank == 1 else 1, 2, *size), normal(4)
        args = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        op = f"conv{rank}d"
        case("conv", op, getattr(F, op), [x, normal(4, 2 // groups, *kernel), bias], **args)
        op = f"conv_transpose{rank}d"
        extra = [int(max(s, d) > 1) for s, d in zip(stride, dilation)]
        for output_padding in [[0] * rank] + [extra] * any(extra):
            weight = normal(2, 4 // groups, *kernel)
            case("conv", op, getattr(F, op), [x, weight, bias], **args, output_padding=output_padding)


# Losses

def loss():
    reductions = ("mean", "sum", "none")
    logits, target, weight = normal(4, 3), exactly(2, 0, 1, 2), fixed(uniform(0.2, 2.0, 3))
    deep, deep_target = normal(2, 3, 4), ints(3, 2, 4)
    soft, deep_soft = fixed(probabilities(4, 3)), fixed(probabilities(2, 3, 4))
    for reduction in reductions:
        for ignore in (-100, 2):
            args = dict(ignore_index=ignore, reduction=reduction)
            for inputs in ([logits, target], [logits, target, weight], [deep, deep_target], [deep, deep_target, weight]):
                for smoothing in (0.0, 0.1):
                    case("loss", "cross_entropy", F.cross_entropy, inputs, **args, label_smoothing=smoothing)
            for x, t in ((log_probabilities(4, 3), target), (log_probabilities(2, 3, 4), deep_target)):
                case("loss", "nll_loss", F.nll_loss, [x, t], **args)
                case("loss", "nll_loss", F.nll_loss, [x, t, weight], **args)
        for inputs in ([logits, soft], [logits, soft, weight], [deep, deep_soft]):
            for smoothing in (0.0, 0.1):
                args = dict(ignore_index=-100, label_smoothing=smoothing, reduction=reduction)
                case("loss", "cross_entropy", F.cross_entropy, inputs, **args)

        def bce_with_logits(x, t, *rest, has_weight, has_pos_weight, reduction):
            rest = list(rest)
            more = {"weight": rest.pop(0)} if has_weight else {}
            more |= {"pos_weight": rest.pop(0)} if has_pos_weight else {}
            return F.binary_cross_entropy_with_logits(x, t, reduction=reduction, **more)

        bce = lambda x, t, *rest, has_weight, reduction: F.binary_cross_entropy(x, t, *rest, reduction=reduction)
        answers, weights = fixed(uniform(0.0, 1.0, 4, 3)), fixed(uniform(0.2, 2.0, 4, 3))
        for first in (False, True):
            inputs = [uniform(0.05, 0.95, 4, 3), answers] + [weights] * first
            case("loss", "bce", bce, inputs, has_weight=first, reduction=reduction)
            for second in (False, True):
                inputs = [normal(4, 3, scale=3.0), answers] + [weights] * first + [weight] * second
                args = dict(has_weight=first, has_pos_weight=second, reduction=reduction)
                case("loss", "bce_with_logits", bce_with_logits, inputs, **args)

        pair = [normal(4, 3), normal(4, 3)]
        case("loss", "mse", F.mse_loss, pair, reduction=reduction)
        case("loss", "l1", F.l1_loss, pair, reduction=reduction)
        for width in (0.5, 1.0):
            case("loss", "smooth_l1", F.smooth_l1_loss, pair, beta=width, reduction=reduction)
            case("loss", "huber", F.huber_loss, pair, delta=width, reduction=reduction)
    for reduction in reductions + ("batchmean",):
        for log_target, answers in ((False, probabilities(4, 3)), (True, log_probabilities(4, 3))):
            args = dict(log_target=log_target, reduction=reduction)
            case("loss", "kl_div", F.kl_div, [log_probabilities(4, 3), answers], **args)


# Normalization

def batch_norm(x, mean, var, w, b, training, momentum, eps):
    mean, var = mean.clone(), var.clone()
    return F.batch_norm(x, mean, var, w, b, training, momentum, eps), mean, var


def norm():
    for shape in ((3, 4), (2, 3, 4), (5,)):
        last = shape[-1]
        for eps in (1e-5, 1e-2):
            layer = lambda x, w, b, eps: F.layer_norm(x, [last], w, b, eps)
            case("norm", "layer_norm", layer, [normal(*shape), normal(last), normal(last)], eps=eps)
            rms = lambda x, w, eps: F.rms_norm(x, [last], w, eps)
            case("norm", "rms_norm", rms, [normal(*shape), normal(last)], eps=eps)
    for shape in ((3, 4), (2, 4, 3), (2, 4, 2, 3)):
        w, b = normal(4), normal(4)
        for groups in (1, 2, 4) if len(shape) > 2 else (1, 2):
            group = lambda x, w, b, groups, eps: F.group_norm(x, groups, w, b, eps)
            case("norm", "group_norm", group, [normal(*shape), w, b], groups=groups, eps=1e-5)
        for training in (True, False):
            for momentum, eps in ((0.1, 1e-5), (0.3, 1e-3)):
                inputs = [normal(*shape), fixed(normal(4)), fixed(uniform(0.5, 2.0, 4)), w, b]
                case("norm", "batch_norm", batch_norm, inputs, training=training, momentum=momentum, eps=eps)
    for padding in (None, 0, 3):
        for shape in ((6,), (2, 4)):
            embed = lambda w, i, padding_idx: F.embedding(i, w, padding_idx)
            case("norm", "embedding", embed, [normal(5, 3), ints(5, *shape)], padding_idx=padding)


if __name__ == "__main__":
    for table in (elementwise, reduce, matmul, index, softmax_pool, conv, loss, norm, optim, schedule):
        table()
    write()
