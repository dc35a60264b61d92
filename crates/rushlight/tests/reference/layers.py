"""Layers and losses: softmax, pooling, convolution, losses, normalization, embedding."""

import math

import torch.nn.functional as F

from recording import (
    case, distinct, exactly, fixed, ints, log_probabilities, normal, probabilities, tracked, uniform, whole)
from views import windows


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
    return lambda x, p, kernel, stride, ceil_mode: pool(x, p, one(kernel), stride and one(stride), ceil_mode)


def softmax_windows(x, kernel, stride, padding, dilation, ceil_mode):
    """The sum of each window weighted by its softmax, composed: padding is -inf, and weighs nothing."""
    rank, stride = len(kernel), stride or kernel
    outer = max_pool(rank)(x, kernel, stride, padding, dilation, ceil_mode)[0].shape[-rank:]
    amounts = []
    for d in reversed(range(rank)):
        reach = (outer[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1
        amounts += [padding[d], reach - x.shape[d - rank] - padding[d]]
    seen = windows(F.pad(x, amounts, value=-math.inf), kernel, stride, dilation).flatten(-rank)
    return (seen.softmax(-1) * seen.masked_fill(seen == -math.inf, 0.0)).sum(-1)


def softmax_pool():
    file = "softmax_pool"
    for op in ("softmax", "log_softmax"):
        for dim in range(3):
            case(file, op, getattr(F, op), [normal(2, 3, 4, scale=2.0)], dim=dim)
        case(file, op, getattr(F, op), [normal(2, 5, scale=200.0)], dim=1)
    # kernel, stride, padding, dilation, ceil_mode
    windows_of = {
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
    for rank, table in windows_of.items():
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

    for op in ("softmax", "log_softmax"):
        for dim, shape in ((-1, (2, 3, 4)), (-3, (2, 3, 4)), (0, (5,)), (1, (2, 1, 3)), (0, (0, 3)), (1, (3, 0)),
                           (2, (2, 1, 2, 3))):
            case(file, op, getattr(F, op), [normal(*shape)], dim=dim)
    for rank, table in windows_of.items():
        for kernel, stride, padding, dilation, ceil_mode in table[-8:]:
            args = dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
            case(file, f"softmax_pool{rank}d", softmax_windows, [normal(*shapes[rank])], **args)
        # No batch, and the kernel as the stride.
        x, kernel = distinct(*shapes[rank][1:]), [2] * rank
        args = dict(kernel=kernel, stride=None, padding=[0] * rank, ceil_mode=False)
        case(file, f"max_pool{rank}d", max_pool(rank), [x], **args, dilation=[1] * rank)
        case(file, f"softmax_pool{rank}d", softmax_windows, [x], **args, dilation=[1] * rank)
        divisor = {} if rank == 1 else {"divisor_override": None}
        case(file, f"avg_pool{rank}d", avg_pool(rank), [x], **args, count_include_pad=True, **divisor)
        case(file, f"lp_pool{rank}d", lp_pool(rank), [x], p=2.0, kernel=kernel, stride=None, ceil_mode=False)
        # At a tie the first of the largest has the gradient.
        args = dict(kernel=kernel, stride=[1] * rank, padding=[1] * rank, dilation=[1] * rank, ceil_mode=False)
        tied = lambda g: whole(*shapes[rank])(g).requires_grad_()
        case(file, f"max_pool{rank}d", max_pool(rank), [tied], **args)
        case(file, f"adaptive_max_pool{rank}d",
             lambda x, output: getattr(F, f"adaptive_max_pool{rank}d")(x, output, return_indices=True),
             [tied], output=[2] * rank)
    for kernel, stride, ceil_mode in (([2, 2, 2], [1, 2, 1], False), ([2, 3, 2], [2, 2, 2], True)):
        for p, values in ((2.0, normal(*shapes[3])), (3.0, uniform(0.2, 2.0, *shapes[3]))):
            case(file, "lp_pool3d", lp_pool(3), [values], p=p, kernel=kernel, stride=stride, ceil_mode=ceil_mode)
    for rank, p in ((1, 1.0), (2, 1.0), (2, 1.5), (3, 4.0)):
        args = dict(p=p, kernel=[2] * rank, stride=[2] * rank, ceil_mode=False)
        case(file, f"lp_pool{rank}d", lp_pool(rank), [uniform(0.2, 2.0, *shapes[rank])], **args)


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

    # Without bias: each channel by itself, a kernel as large as the input, no batch.
    for rank, size in ((1, [5]), (2, [4, 3]), (3, [2, 3, 2])):
        options = dict(stride=[1] * rank, padding=[0] * rank, dilation=[1] * rank)
        for batch, channels, out, kernel, groups in [
                ([1], 3, 6, [2] * rank, 3), ([2], 2, 1, size, 1), ([], 2, 3, [1] * rank, 1)]:
            x, args = normal(*batch, channels, *size), options | dict(groups=groups)
            weight = normal(out, channels // groups, *kernel)
            case("conv", f"conv{rank}d", getattr(F, f"conv{rank}d"), [x, weight], **args)
            if kernel != size:
                weight, args = normal(channels, out // groups, *kernel), args | dict(output_padding=[0] * rank)
                case("conv", f"conv_transpose{rank}d", getattr(F, f"conv_transpose{rank}d"), [x, weight], **args)


# Losses

def loss():
    reductions = ("mean", "sum", "none")
    logits, target, weight = normal(4, 3), exactly(2, 0, 1, 2), fixed(uniform(0.2, 2.0, 3))
    deep, deep_target = normal(2, 3, 4), ints(3, 2, 4)
    soft, deep_soft = fixed(probabilities(4, 3)), fixed(probabilities(2, 3, 4))
    for reduction in reductions:
        for ignore in (-100, 2):
            args = dict(ignore_index=ignore, reduction=reduction)
            for inputs in (
                    [logits, target], [logits, target, weight], [deep, deep_target], [deep, deep_target, weight]):
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

    def linear_cross_entropy(x, w, t, *rest, has_bias, **args):
        rest = list(rest)
        more = {"linear_bias": rest.pop(0)} if has_bias else {}
        return F.linear_cross_entropy(x, w, t, weight=rest.pop(0) if rest else None, **more, **args)

    for reduction in reductions:
        for ignore, smoothing, bias, more in ((-100, 0.0, [], []), (2, 0.1, [normal(3)], []), (2, 0.1, [normal(3)], [weight])):
            args = dict(ignore_index=ignore, label_smoothing=smoothing, reduction=reduction, has_bias=bool(bias))
            inputs = [normal(4, 5), normal(3, 5), target] + bias + more
            case("loss", "linear_cross_entropy", linear_cross_entropy, inputs, **args)

    for reduction in reductions:
        # One sample without a batch, two more dims, and targets that learn.
        args = dict(ignore_index=-100, reduction=reduction, label_smoothing=0.1)
        wide = [normal(2, 3, 2, 2), ints(3, 2, 2, 2)]
        for inputs in ([normal(3), ints(3)], wide, wide + [weight], [logits, probabilities(4, 3)]):
            case("loss", "cross_entropy", F.cross_entropy, inputs, **args)
        # Where the difference is 0, and where a loss changes from one form to the other.
        pair = [tracked(0.0, 0.5, -0.5, 2.0, -3.0, 1.0), tracked(0.0, 0.0, 0.0, 1.5, -2.0, -1.0)]
        case("loss", "l1", F.l1_loss, pair, reduction=reduction)
        case("loss", "smooth_l1", F.smooth_l1_loss, pair, beta=0.5, reduction=reduction)
        case("loss", "smooth_l1", F.smooth_l1_loss, pair, beta=0.0, reduction=reduction)
        case("loss", "huber", F.huber_loss, pair, delta=0.5, reduction=reduction)
    # A target of 0 adds nothing.
    sparse = exactly([0.5, 0.5, 0.0], [0.0, 1.0, 0.0])
    case("loss", "kl_div", F.kl_div, [log_probabilities(2, 3), sparse], log_target=False, reduction="sum")


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

    # Over several dims, with some of the parameters or none; rows and channels that are all the same.
    layer = lambda x, *wb, normalized_shape, eps: F.layer_norm(x, normalized_shape, *wb, eps=eps)
    rms = lambda x, *w, normalized_shape, eps: F.rms_norm(x, normalized_shape, *w, eps=eps)
    for shape, inner in (((2, 3, 4), (4,)), ((2, 3, 4), (3, 4)), ((2, 2, 3), (2, 2, 3))):
        for more in range(3):
            args = dict(normalized_shape=list(inner), eps=1e-5)
            case("norm", "layer_norm", layer, [normal(*shape)] + [normal(*inner)] * more, **args)
            if more < 2:
                case("norm", "rms_norm", rms, [normal(*shape)] + [normal(*inner)] * more, **args)
    same = tracked([2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1000.0, 1001.0, 1002.0, 1003.0])
    case("norm", "layer_norm", layer, [same], normalized_shape=[4], eps=1e-5)
    case("norm", "rms_norm", rms, [same], normalized_shape=[4], eps=1e-5)
    group = lambda x, groups, eps: F.group_norm(x, groups, eps=eps)
    plain = lambda x, mean, var, **args: batch_norm(x, mean, var, None, None, **args)
    for x in (normal(2, 4, 3), lambda g: same(g).detach().T.reshape(2, 2, 3).requires_grad_()):
        case("norm", "group_norm", group, [x], groups=2, eps=1e-5)
    for training in (True, False):
        inputs = [normal(3, 4, 2), fixed(normal(4)), fixed(uniform(0.5, 2.0, 4))]
        case("norm", "batch_norm", plain, inputs, training=training, momentum=0.1, eps=1e-5)
