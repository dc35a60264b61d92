"""How a case is made, run and written down; what the inputs are drawn from."""

import json
import math
import os
import pathlib
import zlib
from collections import Counter, defaultdict

# Plain kernels of PyTorch, compatible ones of MKL: the same numbers on every x86-64 processor. Set before they load.
os.environ.update(ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE")

import torch

HERE = pathlib.Path(__file__).parent
FILES = defaultdict(list)
COUNT = Counter()
DTYPES = {torch.float64: "f64", torch.int64: "i64", torch.bool: "bool"}
EDGES = [0.0, -0.0, 1e4, -1e4, 88, -104, math.inf, -math.inf, math.nan, 1e-310, 0.5, -0.5, 1, -1,
         5e-324, -1e-310, 1e-8, -1e-8, 709.5, 710, -746, 1e300, -1e300, 1.5, -1.5, 2.5]

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
torch.backends.mkldnn.enabled = False


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


def listed(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def case(file, op, fn, inputs, **args):
    """Runs `fn(*inputs, **args)` forward, and backward from a random cotangent."""
    g = seeded(op)
    inputs = [make(g) for make in inputs]
    given = [x.detach().clone() for x in inputs]
    outputs = listed(fn(*inputs, **args))
    cotangents = [drawn(y.shape, g) if y.requires_grad else None for y in outputs]
    sent = [(y, c) for y, c in zip(outputs, cotangents) if c is not None]
    if sent:
        torch.autograd.backward(*zip(*sent))
    grads = [x.grad for x in inputs]
    record(file, op=op, args=args, inputs=given, outputs=outputs, grad_output=cotangents, grads=grads)


def edge(file, op, fn, *inputs, **args):
    """The values where formulas break, or those given, forward only."""
    inputs = [torch.tensor(x) for x in inputs or [EDGES]]
    outputs = listed(fn(*inputs, **args))
    none = dict(grad_output=[None] * len(outputs), grads=[None] * len(inputs))
    record(file, op=op, edge=True, args=args, inputs=inputs, outputs=outputs, **none)


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


def signed(*shape):
    """Integers of both signs, none of them 0."""
    return lambda g: torch.randint(1, 6, shape, generator=g) * (torch.randint(2, shape, generator=g) * 2 - 1)


def exactly(*values):
    return lambda g: torch.tensor(values)


def tracked(*values):
    """Exactly these numbers, asking for their gradient."""
    return lambda g: torch.tensor(values).requires_grad_()


def log_probabilities(*shape):
    return lambda g: torch.randn(shape, generator=g).log_softmax(1).requires_grad_()


def probabilities(*shape):
    return lambda g: torch.randn(shape, generator=g).softmax(1).requires_grad_()


def fixed(make):
    """The same input, asking for no gradient."""
    return lambda g: make(g).detach()
