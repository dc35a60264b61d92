"""Writes the reference results the tests compare with: what PyTorch answers, in double precision, on one thread.

    python make.py

PyTorch 2.15.0 for the processor, on x86-64, gives the committed files to the last bit, on any processor.
Each file holds `{"torch": version, "cases": [...]}`, one case a line. A case names an operation, its arguments, its
inputs and outputs, the gradient that was sent back into each output, and the gradient that arrived at each input (null:
none).
With `"edge": true` only the outputs are meant to be compared. New cases of an operation go behind its old ones, whose
random numbers then stay as they are.
"""

import math

import torch
import torch.nn.functional as F

from attention import attention
from edges import edges
from gates import gates, recurrent
from layers import conv, loss, norm, softmax_pool
from recording import (
    bools, case, distinct, edge, exactly, fixed, ints, normal, orders, signed, tracked, uniform, whole, write)
from training import init, optim, schedule
from transformer import transformer
from views import view


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
        ("mish", F.mish, real, {}),
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

    for op in "add sub mul div maximum minimum remainder".split():
        case("elementwise", op, lambda x, other: getattr(torch, op)(x, torch.tensor(other)), [real], other=-1.5)
    case("elementwise", "floor_divide", torch.floor_divide, [fixed(real)], other=-1.5)
    for low, high in ((-math.inf, 0.5), (-0.5, math.inf)):
        case("elementwise", "clamp", torch.clamp, [real], min=low, max=high)
    for x, power in ((real, 4.0), (real, -2.0), (positive, 2.5), (positive, -0.5)):
        case("elementwise", "powf", torch.pow, [x], exponent=power)
    for shapes in (((0, 3), (3,)), ((), (2, 3)), ((1, 1), ()), ((2, 1, 3), (4, 1)), ((2, 0), (1, 1))):
        for op in ("add", "mul", "maximum"):
            case("elementwise", op, getattr(torch, op), [normal(*shape) for shape in shapes])
    for shape in ((), (0, 3), (1, 1)):
        for op in ("exp", "abs", "sigmoid"):
            case("elementwise", op, getattr(torch, op), [normal(*shape)])
    for op in "add sub mul maximum minimum remainder floor_divide eq lt".split():
        case("elementwise", op, getattr(torch, op), [signed(3, 1, 4), signed(2, 4)])
    for op in "abs neg sign square".split():
        case("elementwise", op, getattr(torch, op), [signed(3, 4)])
    for op in "logical_and logical_or logical_xor".split():
        case("elementwise", op, getattr(torch, op), [bools(3, 1, 4), bools(2, 4)])
    case("elementwise", "logical_not", torch.logical_not, [bools(3, 4)])

    # Gradients where a function has a corner, or two arguments are equal.
    corners = tracked(-2.0, -1.0, -0.0, 0.0, 1.0, 1.5)
    for op, fn, args in [
            ("abs", torch.abs, {}), ("relu", torch.relu, {}), ("leaky_relu", F.leaky_relu, dict(negative_slope=0.3)),
            ("elu", F.elu, dict(alpha=0.7)), ("clamp", torch.clamp, dict(min=-1.0, max=1.5)),
            ("sign", torch.sign, {}), ("powf", torch.pow, dict(exponent=2.0)), ("silu", F.silu, {})]:
        case("elementwise", op, fn, [corners], **args)
    for op in ("maximum", "minimum"):
        case("elementwise", op, getattr(torch, op), [corners, tracked(-2.0, 0.5, 0.0, 0.0, 2.0, 1.5)])


# Reductions

def prod(x, dims, keepdim):
    for dim in sorted((dim % x.dim() for dim in dims), reverse=True):
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

    for dims, keepdim in (([-1], False), ([-3, -1], True)):
        for op in "sum mean amax amin logsumexp".split():
            fn = lambda x, dims, keepdim: getattr(torch, op)(x, dims, keepdim=keepdim)
            case("reduce", op, fn, [x], dims=dims, keepdim=keepdim)
        case("reduce", "prod", prod, [x], dims=dims, keepdim=keepdim)
        for op in ("var", "std"):
            fn = lambda x, dims, correction: getattr(torch, op)(x, dims, correction=correction)
            case("reduce", op, fn, [x], dims=dims, correction=1)
        for p in (1.5, 4.0, -math.inf):
            case("reduce", "norm", lambda x, p, dims: torch.linalg.vector_norm(x, p, dims), [x], p=p, dims=dims)
        for op in ("any", "all"):
            case("reduce", op, lambda x, dims: getattr(torch, op)(x, dims), [bools(2, 3, 2)], dims=dims)
    var = lambda x, dims, correction, keepdim: torch.var(x, dims, correction=correction, keepdim=keepdim)
    case("reduce", "var", var, [x], dims=[0, -1], correction=1, keepdim=True)
    case("reduce", "var", var, [normal(3, 1)], dims=[1], correction=0, keepdim=False)
    for op in "max min argmax argmin cumsum cumprod".split():
        case("reduce", op, getattr(torch, op), [x], dim=-1)
    for op in ("max", "min"):
        case("reduce", op, getattr(torch, op), [x], dim=-2, keepdim=True)
    one_hot = lambda x, dim: F.one_hot(x.argmax(dim), x.shape[dim]).movedim(-1, dim).double()
    for dim in (0, 1, -1):
        case("reduce", "argmax_one_hot", one_hot, [x], dim=dim)
    for flag in (False, True):
        case("reduce", "sort", torch.sort, [x], dim=-2, descending=flag)
        case("reduce", "argsort", torch.argsort, [x], dim=-2, descending=flag)
        for k in (1, 4):
            case("reduce", "topk", torch.topk, [x], k=k, dim=-1, largest=flag)
    for op in "sum prod amax amin".split():
        fn = prod if op == "prod" else lambda x, dims, keepdim: getattr(torch, op)(x, dims, keepdim=keepdim)
        case("reduce", op, fn, [signed(3, 4)], dims=[1], keepdim=False)
    case("reduce", "sum", lambda x, dims, keepdim: x.sum(dims, keepdim), [bools(3, 4)], dims=[1], keepdim=False)
    for op in "max min argmax argmin cumsum".split():
        case("reduce", op, getattr(torch, op), [orders(1, 3, 4)], dim=1)
    case("reduce", "sort", torch.sort, [orders(1, 3, 4)], dim=1, descending=False)

    # Gradients at ties and zeros, and of nothing.
    ties = tracked([1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, -1.0, 0.0])
    zeros = tracked([0.0, 2.0, 3.0], [0.0, 0.0, 5.0], [1.0, 2.0, 4.0])
    for dim in (0, 1):
        for op in ("max", "min"):
            case("reduce", op, getattr(torch, op), [ties], dim=dim)
        stable = lambda x, dim, descending: torch.sort(x, dim=dim, descending=descending, stable=True)
        for flag in (False, True):
            case("reduce", "sort", stable, [ties], dim=dim, descending=flag)
        case("reduce", "prod", prod, [zeros], dims=[dim], keepdim=False)
        case("reduce", "cumprod", torch.cumprod, [zeros], dim=dim)
    for p in (1.0, 2.0):
        norm = lambda x, p, dims: torch.linalg.vector_norm(x, p, dims)
        case("reduce", "norm", norm, [tracked([0.0, 0.0], [3.0, 4.0])], p=p, dims=[1])
    for dims in ([1], [0], [0, 1]):
        for op in ("sum", "mean"):
            fn = lambda x, dims, keepdim: getattr(torch, op)(x, dims, keepdim=keepdim)
            case("reduce", op, fn, [normal(2, 0, 3)], dims=dims, keepdim=False)
        case("reduce", "prod", prod, [normal(2, 0, 3)], dims=dims, keepdim=False)


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
    for shape in ((4,), (2, 3, 4)):
        case("matmul", "linear", F.linear, [normal(*shape), normal(5, 4)])

    for a, b in [((2, 0), (0, 3)), ((0, 3), (3, 2)), ((0,), (0,)), ((1, 1), (1, 1)), ((3, 1, 2, 4), (2, 4, 1)),
                 ((1, 2, 3), (4, 3, 2)), ((3, 19), (19, 2))]:
        case("matmul", "matmul", torch.matmul, [normal(*a), normal(*b)])
    equations = [
        ("bii->bi", (2, 3, 3)), ("iij->j", (3, 3, 2)), ("iii", (3, 3, 3)), ("ijk->", (2, 3, 2)),
        ("...i->...", (2, 3, 4)), ("...ii->...i", (2, 3, 3)), ("i...->...i", (2, 3, 4)), ("cab", (2, 3, 4)),
        ("ii,i->i", (3, 3), (3,)), ("ij,ij->ij", (3, 4), (3, 4)), ("ij,ji", (3, 4), (4, 3)),
        ("ij,kl->lkji", (2, 3), (2, 2)),
        ("...,...", (2, 3), (3,)), ("b...,b...->b", (2, 3, 2), (2, 3, 2)), ("...ij,j", (2, 3, 4), (4,)),
        ("i...j,jk->k...i", (2, 3, 4), (4, 2)), ("i,ij,j->", (3,), (3, 4), (4,)), ("ij, jk -> ik", (2, 3), (3, 2)),
        ("ij,jk", (2, 0), (0, 3)), ("bij,bij->bi", (2, 1, 3), (2, 1, 3)),
    ]
    for equation, *shapes in equations:
        fn = lambda *xs, equation: torch.einsum(equation, *xs)
        case("matmul", "einsum", fn, [normal(*shape) for shape in shapes], equation=equation)
    for n in (1, 5):
        case("matmul", "dot", torch.dot, [normal(n), normal(n)])
        case("matmul", "outer", torch.outer, [normal(n), normal(3)])
        case("matmul", "trace", torch.trace, [normal(n, 3)])


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

    # Dims from the end, several outputs, indices that repeat, and empty ones.
    select = lambda x, i, dim: torch.index_select(x, dim, i)
    for picked, dim in (((2, 2, 0, 2), -2), ((1,), -3)):
        move("index_select", select, [x, exactly(*picked)], dim=dim)
    move("index_select", select, [x, ints(4, 0)], dim=1)
    move("gather", lambda x, i, dim: torch.gather(x, dim, i), [x, ints(2, 3, 4, 5)], dim=-1)
    move("take_along_dim", lambda x, i, dim: torch.take_along_dim(x, i, dim), [x, ints(4, 3, 6, 1)], dim=-2)
    scatter = lambda x, i, src, dim: torch.scatter(x, dim, i, src)
    move("scatter", scatter, [x, orders(-1, 2, 3, 2), normal(2, 3, 2)], dim=-1)
    scatter_add = lambda x, i, src, dim: torch.scatter_add(x, dim, i, src)
    move("scatter_add", scatter_add, [x, ints(4, 2, 6, 1), normal(2, 6, 1)], dim=-2)
    for inputs in ([normal(2, 3), normal(2, 0), normal(2, 1)], [normal(2, 3)], [signed(2, 3), signed(2, 2)]):
        move("cat", lambda *xs, dim: torch.cat(xs, dim), inputs, dim=-1)
    move("stack", lambda *xs, dim: torch.stack(xs, dim), [normal(3, 2)] * 2, dim=-1)
    for size, dim in ((2, 0), (3, 1), (1, -1), (9, 1)):
        move("split", lambda x, size, dim: torch.split(x, size, dim), [x], size=size, dim=dim)
    for sizes, dim in (([1, 2], 0), ([0, 3, 1], -2)):
        move("split_sizes", lambda x, sizes, dim: torch.split(x, sizes, dim), [x], sizes=sizes, dim=dim)
    for chunks, dim in ((2, 0), (3, 1), (2, -1), (5, 1)):
        move("chunk", lambda x, chunks, dim: torch.chunk(x, chunks, dim), [x], chunks=chunks, dim=dim)
    for dim in (0, 1, -1):
        move("unbind", torch.unbind, [x], dim=dim)
        repeat_interleave = lambda x, times, dim: torch.repeat_interleave(x, times, dim)
        move("repeat_interleave", repeat_interleave, [x], times=3, dim=dim)
    for times in ([1, 0, 1], [3, 1, 1, 1, 2], [1, 2, 1]):
        move("repeat", lambda x, times: x.repeat(times), [x], times=times)
    for shift, dim in ((0, 1), (-7, -2)):
        move("roll", lambda x, shift, dim: torch.roll(x, shift, dim), [x], shift=shift, dim=dim)
    for op in ("tril", "triu"):
        for diagonal in (-4, 5, 1):
            move(op, getattr(torch, op), [normal(4, 3)], diagonal=diagonal)
    for shape in ((4, 2), (3, 1, 2), (1,)):
        move("masked_fill", torch.masked_fill, [x, bools(*shape)], value=2.5)
    move("masked_select", torch.masked_select, [normal(3, 1, 2), bools(4, 1)])
    move("masked_select", torch.masked_select, [normal(3), exactly(False, False, False)])
    move("one_hot", lambda x, classes: F.one_hot(x, classes), [ints(3)], classes=5)
    move("nonzero", torch.nonzero, [signed(2, 2)])
    move("nonzero", torch.nonzero, [exactly(0.0, -0.0, 1e-300, -1.0)])
    for dims in ([-1], [0, -2], [0, 1, 2]):
        move("flip", lambda x, dims: torch.flip(x, dims), [x], dims=dims)
    for offset, dim1, dim2 in ((-2, 0, 1), (1, -1, -2), (3, 0, 1)):
        move("diagonal", torch.diagonal, [x], offset=offset, dim1=dim1, dim2=dim2)
    unfold = lambda x, dim, size, step: x.unfold(dim, size, step)
    move("unfold", unfold, [x], dim=-2, size=2, step=3)


if __name__ == "__main__":
    for table in (
            elementwise, reduce, matmul, index, view, softmax_pool, conv, attention, loss, norm, init, optim, schedule,
            edges, transformer, gates, recurrent):
        table()
    write()
