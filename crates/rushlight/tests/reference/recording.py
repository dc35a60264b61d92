"""How a case is made, run and written down; what the inputs are drawn from."""

import json
import math
import pathlib
import zlib
from collections import Counter, defaultdict

import torch

HERE = pathlib.Path(__file__).parent
FILES = defaultdict(list)
COUNT = Counter()
DTYPES = {torch.float64: "f64", torch.int64: "i64", torch.bool: "bool"}
EDGES = [0.0, -0.0, 1e4, -1e4, 88, -104, math.inf, -math.inf, math.nan, 1e-310, 0.5, -0.5, 1, -1]

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


# Recording

def plain(value):
    """A value as JSON holds it: tensors spelled out, numbers that are not finite as strings."""
    if isinstance(value, torch.Tensor):
        data = value.detach().flatten()
        data = data.long() if value.dtype == torch.bool else data
        return {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data": plain(data.tolist())}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def seeded(op):
    """A generator of its own for every case, so that adding one leaves the other operations as they were."""
    COUNT[op] += 1
    return torch.Generator().manual_seed(zlib.crc32(op.encode()) + COUNT[op])


def drawn(shape, g):
    """Normal numbers of three decimals, short to write down."""
    return torch.randn(shape, generator=g).round(decimals=3)


def record(file, **fields):
    FILES[file].append(plain(fields))


def case(file, op, fn, inputs, **args):
    """Runs `fn(*inputs, **args)` forward, and backward from a random cotangent."""
    g = seeded(op)
    inputs = [make(g) for make in inputs]
    given = [x.detach().clone() for x in inputs]
    outputs = fn(*inputs, **args)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    cotangents = [drawn(y.shape, g) if y.requires_grad else None for y in outputs]
    sent = [(y, c) for y, c in zip(outputs, cotangents) if c is not None]
    if sent:
        torch.autograd.backward(*zip(*sent))
    record(file, op=op, args=args, inputs=given, outputs=outputs, grad_output=cotangents, grads=[x.grad for x in inputs])


def edge(file, op, fn, **args):
    """The values where formulas break, forward only."""
    x = torch.tensor(EDGES)
    record(file, op=op, edge=True, args=args, inputs=[x], outputs=[fn(x, **args)], grad_output=[None], grads=[None])


def write():
    """One file a table, one case a line."""
    for file, cases in FILES.items():
        lines = ",\n".join(json.dumps(each, allow_nan=False) for each in cases)
        version = json.dumps(torch.__version__.split("+")[0])
        (HERE / f"{file}.json").write_text(f'{{"torch": {version}, "cases": [\n{lines}\n]}}\n')
        print(f"{file}: {len(cases)} cases")


# Inputs: each maker takes the generator of the case

def normal(*shape, scale=1.0):
    return lambda g: drawn(shape, g).mul(scale).requires_grad_()


def uniform(low, high, *shape):
    return lambda g: (torch.rand(shape, generator=g) * (high - low) + low).round(decimals=3).requires_grad_()


def distinct(*shape):
    """Values of both signs, evenly spaced and shuffled: no ties."""
    size = math.prod(shape)
    return lambda g: ((torch.randperm(size, generator=g) - size / 2 + 0.25) / 8).view(shape).requires_grad_()


def ints(high, *shape):
    return lambda g: torch.randint(high, shape, generator=g)


def bools(*shape):
    return lambda g: torch.rand(shape, generator=g) < 0.5


def orders(dim, *shape):
    """Indices that never repeat along `dim`."""
    return lambda g: torch.rand(shape, generator=g).argsort(dim)


def whole(*shape):
    return lambda g: torch.randint(-2, 3, shape, generator=g).double()


def exactly(*values):
    return lambda g: torch.tensor(values)


def log_probabilities(*shape):
    return lambda g: torch.randn(shape, generator=g).log_softmax(1).requires_grad_()


def probabilities(*shape):
    return lambda g: torch.randn(shape, generator=g).softmax(1).requires_grad_()


def fixed(make):
    """The same input, asking for no gradient."""
    return lambda g: make(g).detach()
