"""Where formulas break: infinities, NaN, ties, zeros, numbers near the ends of their range. Forward only."""

import math

import torch
import torch.nn.functional as F

from recording import edge

inf, nan = math.inf, math.nan
FEW = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 3.0, 1e-310, 1e300, inf, -inf, nan]
ROWS = [
    [1.0, nan, 3.0, nan], [inf, 1.0, inf, -2.0], [-inf, -inf, -inf, -inf], [inf, -inf, 0.0, 1.0],
    [1e4, 9999.0, -1e4, 88.0], [2.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1e-310, -104.0, 5e-324, 0.0],
    [-inf, 3.0, -inf, 3.0], [inf, nan, -inf, 0.0],
]


def elementwise():
    column = [[x] for x in FEW]
    for op in "add sub mul div pow maximum minimum remainder floor_divide eq ne lt le gt ge".split():
        edge("elementwise", op, getattr(torch, op), column, FEW)
    edge("elementwise", "where", torch.where, [True, False, True, False], [nan, nan, inf, 1.0], [1.0, 2.0, nan, -inf])
    for op in ("isnan", "isinf", "isfinite"):
        edge("elementwise", op, getattr(torch, op))
    for low, high in ((-inf, inf), (0.0, 0.0), (-0.5, inf)):
        edge("elementwise", "clamp", torch.clamp, min=low, max=high)
    for power in (-2.0, -0.5, 4.0, 1.5):
        edge("elementwise", "powf", torch.pow, exponent=power)


def over(op):
    return lambda x, dims, keepdim: getattr(torch, op)(x, dims, keepdim)


def stable(op):
    return lambda x, dim, descending: getattr(torch, op)(x, dim=dim, descending=descending, stable=True)


def reduce():
    for dims, rows in (([1], ROWS), ([0], ROWS[4:8])):
        for op in "sum mean amax amin logsumexp".split():
            edge("reduce", op, over(op), rows, dims=dims, keepdim=False)
        edge("reduce", "prod", lambda x, dims, keepdim: x.prod(dims[0], keepdim), rows, dims=dims, keepdim=False)
        for op in ("var", "std"):
            fn = lambda x, dims, correction: getattr(torch, op)(x, dims, correction=correction)
            edge("reduce", op, fn, rows, dims=dims, correction=1)
        for p in (0.0, 1.0, 2.0, inf, -inf):
            edge("reduce", "norm", lambda x, p, dims: torch.linalg.vector_norm(x, p, dims), rows, p=p, dims=dims)
        for op in "max min argmax argmin cumsum cumprod".split():
            edge("reduce", op, getattr(torch, op), rows, dim=dims[0])
        for flag in (False, True):
            for op in ("sort", "argsort"):
                edge("reduce", op, stable(op), rows, dim=dims[0], descending=flag)
    for op in ("logsumexp", "sum", "mean"):
        edge("reduce", op, over(op), [[], []], dims=[1], keepdim=False)
    for op in ("any", "all"):
        edge("reduce", op, lambda x, dims: getattr(torch, op)(x, dims), ROWS, dims=[1])
    edge("reduce", "var", lambda x, dims, correction: torch.var(x, dims, correction=correction), [[1.0], [2.0]],
         dims=[1], correction=1)


def matmul():
    edge("matmul", "matmul", torch.matmul, [[1.0, inf], [0.0, nan], [-inf, 1.0]], [[1.0, 0.0], [2.0, -1.0]])
    edge("matmul", "matmul", torch.matmul, [[0.0, 1.0]], [[inf, 1.0], [1.0, 1.0]])


def softmax_pool():
    for op in ("softmax", "log_softmax"):
        edge("softmax_pool", op, getattr(F, op), ROWS, dim=1)
        edge("softmax_pool", op, getattr(F, op), ROWS[4:9], dim=0)
    # Not a number where it is alone in its window: PyTorch and NumPy differ in which of two is the first.
    image = [[[1.0, nan, inf, -inf], [2.0, 3.0, 0.0, inf], [-inf, -inf, -1e300, 1e300], [-inf, -inf, 1e-310, 0.0]]]
    args = dict(kernel=[2, 2], stride=[2, 2], padding=[0, 0], ceil_mode=False)
    pool = lambda x, kernel, stride, padding, dilation, ceil_mode: F.max_pool2d(
        x, kernel, stride, padding, dilation, ceil_mode, return_indices=True)
    edge("softmax_pool", "max_pool2d", pool, image, **args, dilation=[1, 1])
    pool = lambda x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override: F.avg_pool2d(
        x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)
    edge("softmax_pool", "avg_pool2d", pool, image, **args, count_include_pad=True, divisor_override=None)
    for kind, more in (("avg", {}), ("max", {"return_indices": True})):
        op = f"adaptive_{kind}_pool2d"
        edge("softmax_pool", op, lambda x, output: getattr(F, op)(x, output, **more), image, output=[2, 2])
    lp = lambda x, p, kernel, stride, ceil_mode: F.lp_pool2d(x, p, kernel, stride, ceil_mode)
    edge("softmax_pool", "lp_pool2d", lp, image, p=2.0, kernel=[2, 2], stride=[2, 2], ceil_mode=False)


def loss():
    logits = [[1e4, 0.0, -1e4], [88.0, -104.0, 0.0], [inf, 0.0, 1.0], [-inf, 0.0, 1.0], [-inf, 0.0, 1.0],
              [nan, 0.0, 1.0], [-inf, -inf, -inf], [1e-310, -0.0, 0.0]]
    for target in ([0, 1, 0, 0, 1, 2, 0, 1], [2, 0, 1, 2, 2, 0, 1, 2]):
        args = dict(ignore_index=-100, reduction="none")
        edge("loss", "cross_entropy", F.cross_entropy, logits, target, **args, label_smoothing=0.0)
        log_p = torch.tensor(logits).log_softmax(1).tolist()
        edge("loss", "nll_loss", F.nll_loss, log_p, target, **args)
    for reduction in ("mean", "sum", "none"):
        args = dict(ignore_index=2, reduction=reduction)
        edge("loss", "cross_entropy", F.cross_entropy, [[1.0, 2.0, 3.0]] * 2, [2, 2], **args, label_smoothing=0.0)
        edge("loss", "nll_loss", F.nll_loss, [[-1.0, -2.0, -3.0]] * 2, [2, 2], **args)
    far = [x for x in (1e4, -1e4, 88.0, -104.0, 0.0, inf, -inf, nan, 710.0) for _ in range(3)]
    answers = [0.0, 1.0, 0.5] * 9
    edge("loss", "bce_with_logits", lambda x, t, has_weight, has_pos_weight, reduction:
         F.binary_cross_entropy_with_logits(x, t, reduction=reduction), far, answers,
         has_weight=False, has_pos_weight=False, reduction="none")
    ends = [x for x in (0.0, 1.0, 1e-310, 1e-60) for _ in range(3)]
    edge("loss", "bce", lambda x, t, has_weight, reduction: F.binary_cross_entropy(x, t, reduction=reduction),
         ends, answers[:12], has_weight=False, reduction="none")
    for op, args in (("mse", {}), ("l1", {}), ("smooth_l1", dict(beta=1.0)), ("huber", dict(delta=1.0))):
        fn = getattr(F, f"{op}_loss")
        x, target = [inf, inf, nan, 1e200, 1e-310, -0.0], [0.0, -inf, 1.0, -1e200, 0.0, 0.0]
        edge("loss", op, fn, x, target, reduction="none", **args)
    edge("loss", "kl_div", F.kl_div, [-1.0, -inf, -inf, 0.0], [0.0, 0.0, 0.5, 1.0], log_target=False, reduction="none")


def norm():
    layer = lambda x, normalized_shape, eps: F.layer_norm(x, normalized_shape, eps=eps)
    rms = lambda x, normalized_shape, eps: F.rms_norm(x, normalized_shape, eps=eps)
    for op, fn in (("layer_norm", layer), ("rms_norm", rms)):
        edge("norm", op, fn, ROWS, normalized_shape=[4], eps=1e-5)


def edges():
    for table in (elementwise, reduce, matmul, softmax_pool, loss, norm):
        table()
