"""Calls everything that is public with arguments that nobody should give. Run by test_hostile.py in a process of its own:
``hostile.py PART PARTS``. What may come out are Python's exceptions, soon; anything else is printed and is an error.

``EVERY=n`` makes one call of n, ``ONLY=name`` calls one function, ``TRACE=1`` prints each call before it is made, ``TIMES=1`` what
takes longest."""

import faulthandler
import inspect
import itertools
import math
import os
import resource
import sys
import time

import numpy as np

import rushlight as rl
from rushlight import _rushlight, nn, optim

ALLOWED = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError, OSError, NotImplementedError,
           BufferError, StopIteration, RecursionError)
# A tensor is asked for and something else is given: Python's own words for it.
DUCKS = (AttributeError, KeyError)
# What ends, changes or waits for more than its own result; and what copies a layer as often as it is told, in Python.
LEFT_OUT = {"_set_grad_mode", "set_grad_enabled", "set_default_dtype", "inference_mode", "TransformerEncoder", "TransformerDecoder"}
# What one call may take, beside what is taken at first; and in seconds of all its threads.
MEMORY, SECONDS = 1 << 30, 20.0


def loop():
    out = []
    out.append(out)
    return out


def deep(depth):
    out = [1.0]
    for _ in range(depth):
        out = [out]
    return out


class Liar:
    """Says that it is an array, a number, a sequence; and is none."""

    def __init__(self, interface):
        self.__array_interface__ = interface

    def __len__(self):
        return 2**62

    def __getitem__(self, index):
        raise IndexError

    def __index__(self):
        return 2**100

    def __float__(self):
        return math.nan


INTERFACE = {"version": 3, "typestr": "<f4", "shape": (3,), "data": (0, True)}
# One object for all calls: nothing writes to it.
FIXED = [
    None, True, 0, -1, 1, 3, 2**31, 2**62, 2**63 - 1, -(2**63), 2**63, 2**100, -0.0, math.nan, math.inf, -math.inf, 1e308,
    "", "mean", "float32", "\0", "x" * 1000, b"", b"x", [], [[]], (), {}, [[1], [1, 2]], deep(50), deep(3000), loop(),
    (2**62, 2**62), (2**32, 2**32), (-1, -1), (0, 2**62), (3, -(2**63)), [2**31] * 3, [1] * 100, (math.nan,), [None], ["a"],
    object(), len, range(2**62), slice(None, None, 0), ..., type, rl.float32, 1j,
    np.broadcast_to(np.float32(1), (2**40,)), np.broadcast_to(np.float64(1), (2**20, 2**20, 2**19)), np.zeros((0, 2**40)),
    Liar(None), Liar({}), Liar(INTERFACE | {"typestr": "<x9"}), Liar(INTERFACE | {"shape": (-1,)}), Liar(INTERFACE),
]
# Made for each call, as it may be changed.
FRESH = [
    lambda: iter([1]), lambda: rl.zeros(0), lambda: rl.zeros(0, 3), lambda: rl.zeros(3, 0, dtype=rl.int64), lambda: rl.tensor(math.nan),
    lambda: rl.tensor(2**62), lambda: rl.tensor(True), lambda: rl.tensor([math.nan, math.inf, -math.inf]),
    lambda: rl.tensor([2**62, -(2**63), 5]), lambda: rl.ones(2, 3, dtype=rl.float16), lambda: rl.ones(2, 3, dtype=rl.bfloat16),
    lambda: rl.tensor([0, 255], dtype=rl.uint8), lambda: rl.ones(2, 3).T, lambda: rl.ones(1).expand(3, 3),
    lambda: rl.ones(2, 3, requires_grad=True), lambda: rl.ones(1, 1, 1, 1, 1, 1, 1, 1), lambda: [rl.ones(2), rl.ones(3)],
    lambda: [rl.ones(2, 3)] * 2,
]
BAD = [lambda value=value: value for value in FIXED] + FRESH

TENSORS = [
    lambda: rl.ones(2, 3), lambda: rl.zeros(0, 3), lambda: rl.tensor(1.5), lambda: rl.tensor([[1, 0], [2**62, -(2**63)]]),
    lambda: rl.tensor([True, False]), lambda: rl.ones(2, 3, 4, 5, requires_grad=True), lambda: rl.ones(4, 3)[::-2].T,
]
# Many elements in no memory: what keeps as many of something is refused, the rest takes its time once.
LARGE = [lambda: rl.zeros(2**40, 0), lambda: rl.zeros(0, 2**40, dtype=rl.int64), lambda: rl.ones(1).expand(2**24),
         lambda: rl.zeros(1, dtype=rl.int64).expand(2**12, 2**12), lambda: rl.tensor([True]).expand(2**24)]
# Objects whose methods are called; of all layers `forward`, of one the rest too.
OBJECTS = {
    "Linear": lambda: nn.Linear(3, 2), "Conv1d": lambda: nn.Conv1d(2, 2, 3), "Conv2d": lambda: nn.Conv2d(2, 2, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(2, 2, 3), "Embedding": lambda: nn.Embedding(4, 3), "Dropout": lambda: nn.Dropout(),
    "Flatten": lambda: nn.Flatten(), "Unflatten": lambda: nn.Unflatten(1, (1, 3)), "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3), "LayerNorm": lambda: nn.LayerNorm(3), "GroupNorm": lambda: nn.GroupNorm(1, 3),
    "RMSNorm": lambda: nn.RMSNorm(3), "RNN": lambda: nn.RNN(3, 2), "GRU": lambda: nn.GRU(3, 2), "LSTM": lambda: nn.LSTM(3, 2),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2), "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(4, 2, 4),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(4, 2, 4), "MaxPool2d": lambda: nn.MaxPool2d(2),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(2), "CrossEntropyLoss": lambda: nn.CrossEntropyLoss(),
    "ReflectionPad2d": lambda: nn.ReflectionPad2d(1), "Sequential": lambda: nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
    "ModuleList": lambda: nn.ModuleList([nn.Linear(3, 2)]), "ModuleDict": lambda: nn.ModuleDict({"a": nn.Linear(3, 2)}),
    "ParameterList": lambda: nn.ParameterList([nn.Parameter(rl.ones(3))]), "Highway": lambda: nn.Highway(3, 1),
    "SGD": lambda: optim.SGD([rl.ones(3, requires_grad=True)], lr=0.1), "AdamW": lambda: optim.AdamW([rl.ones(3, requires_grad=True)]),
    "StepLR": lambda: optim.lr_scheduler.StepLR(optim.SGD([rl.ones(3, requires_grad=True)]), 1),
    "ReduceLROnPlateau": lambda: optim.lr_scheduler.ReduceLROnPlateau(optim.SGD([rl.ones(3, requires_grad=True)])),
    "DataLoader": lambda: rl.utils.data.DataLoader(rl.utils.data.TensorDataset(rl.ones(3, 2)), 2),
    "TensorDataset": lambda: rl.utils.data.TensorDataset(rl.ones(3, 2)), "dtype": lambda: rl.float32,
}


def usable():
    """Arguments with which a call succeeds, by name: one of them bad gets further than one among any."""
    x, ints, mask = rl.ones, lambda *rows: rl.tensor(list(rows)), lambda: rl.tensor([[True, False, True]] * 2)
    table = {
        "embedding": lambda: [ints(0, 1), x(4, 3), None], "one_hot": lambda: [ints(0, 1), 3],
        "cross_entropy": lambda: [x(2, 3), ints(0, 1), None, -100, "mean", 0.0], "nll_loss": lambda: [x(2, 3), ints(0, 1), None, -100, "mean"],
        "scaled_dot_product_attention": lambda: [*[x(1, 2, 4, 3)] * 3, None, 0.0, False, None],
        "attention_weights": lambda: [x(1, 2, 4, 3), x(1, 2, 4, 3), None, False, None], "layer_norm": lambda: [x(2, 3), 3, x(3), x(3), 1e-5],
        "group_norm": lambda: [x(2, 4), 2, x(4), x(4), 1e-5], "rms_norm": lambda: [x(2, 3), 3, x(3), 1e-5],
        "batch_norm": lambda: [x(2, 3), x(3), x(3), x(3), x(3), True, 0.1, 1e-5], "gather": lambda: [x(2, 3), 0, ints([0, 1, 0])],
        "scatter": lambda: [x(2, 3), 0, ints([0, 1, 0]), x(1, 3)], "scatter_add": lambda: [x(2, 3), 0, ints([0, 1, 0]), x(1, 3)],
        "take_along_dim": lambda: [x(2, 3), ints([0, 1, 0]), 0], "index_select": lambda: [x(2, 3), 0, ints(0, 1)],
        "masked_fill": lambda: [x(2, 3), mask(), 1.0], "masked_select": lambda: [x(2, 3), mask()], "where": lambda: [mask(), x(2, 3), x(2, 3)],
        "as_strided": lambda: [x(6), (2, 3), (3, 1), 0], "unfold": lambda: [x(6), 0, 2, 1], "narrow": lambda: [x(6), 0, 0, 2],
        "unflatten": lambda: [x(6), 0, (2, 3)], "diagonal": lambda: [x(3, 3), 0, 0, 1], "repeat_interleave": lambda: [x(3), 2, 0],
        "roll": lambda: [x(3), 1, 0], "topk": lambda: [x(6), 2, 0, True], "split": lambda: [x(6), 2, 0], "chunk": lambda: [x(6), 2, 0],
        "linspace": lambda: [0, 1, 5], "arange": lambda: [0, 5, 1], "eye": lambda: [3, 3], "randint": lambda: [0, 5, (2,)],
        "normal": lambda: [0.0, 1.0, (2,)], "full": lambda: [(2,), 1.0], "multinomial": lambda: [x(3), 2, True],
        "einsum": lambda: ["ij,jk->ik", x(2, 3), x(3, 2)], "clip_grad_norm_": lambda: [[x(3, requires_grad=True)], 1.0, 2.0],
        "cat": lambda: [[x(2, 3), x(2, 3)], 0], "stack": lambda: [[x(2, 3), x(2, 3)], 0], "norm": lambda: [x(2, 3), 2.0, 0, False],
        "bmm": lambda: [x(2, 2, 3), x(2, 3, 2)], "matmul": lambda: [x(2, 3), x(3, 2)], "linear": lambda: [x(2, 3), x(4, 3), x(4)],
        "_from_bytes": lambda: [b"1234", rl.float32, [1]], "_record": lambda: ["f", [x(2, requires_grad=True)], [x(2)], len],
        "gradcheck": lambda: [lambda x: x * 2, [x(2, dtype=rl.float64, requires_grad=True)], 1e-6, 1e-5, 1e-3, True],
        "Conv2d": lambda: [2, 2, 3, 1, 0, 1, 1, True], "ConvTranspose2d": lambda: [2, 2, 3, 1, 0, 0, 1, True, 1], "Linear": lambda: [3, 2, True],
        "Embedding": lambda: [4, 3, 0], "LayerNorm": lambda: [3], "MultiheadAttention": lambda: [4, 2], "LSTM": lambda: [3, 2],
        "SGD": lambda: [[x(3, requires_grad=True)], 0.1, 0.9, 0.0, 0.1, False], "AdamW": lambda: [[x(3, requires_grad=True)], 0.1, (0.9, 0.99)],
    }
    for mode in ("constant", "reflect", "replicate", "circular"):
        table[f"pad {mode}"] = lambda mode=mode: [x(2, 3, 4), (1, 1), mode, 0.0 if mode == "constant" else None]
    for n in (1, 2, 3):
        image = lambda n=n: x(1, 2, *[6] * n)
        table[f"conv{n}d"] = lambda n=n, image=image: [image(), x(2, 2, *[3] * n), x(2), 1, 0, 1, 1]
        table[f"conv_transpose{n}d"] = lambda n=n, image=image: [image(), x(2, 2, *[3] * n), x(2), 1, 0, 0, 1, 1]
        table[f"avg_pool{n}d"] = lambda image=image: [image(), 2, 1, 0, False, True, None]
        table[f"lp_pool{n}d"] = lambda image=image: [image(), 2.0, 2, 1, False]
        for pool in (f"max_pool{n}d", f"max_pool{n}d_with_indices", f"softmax_pool{n}d"):
            table[pool] = lambda image=image: [image(), 2, 1, 0, 1, False]
        for pool in (f"adaptive_avg_pool{n}d", f"adaptive_max_pool{n}d"):
            table[pool] = lambda image=image: [image(), 2]
    return table


USABLE = usable()


def places():
    """Everything public, as ``(name, call, what makes the first argument of a method)``."""
    modules = [rl, nn, nn.functional, nn.init, nn.utils, rl.linalg, optim, optim.lr_scheduler, rl.autograd, rl.utils.data,
               rl.models, _rushlight]
    seen = set()
    for module in modules:
        for name, value in sorted(vars(module).items()):
            private = name.startswith("_") and module is not _rushlight
            if private or name.startswith("__") or not callable(value) or name in LEFT_OUT or id(value) in seen:
                continue
            if not getattr(value, "__module__", "rushlight").startswith(("rushlight", "_rushlight")):
                continue
            seen.add(id(value))
            yield f"{module.__name__}.{name}", value, None
    for name, value in sorted(vars(rl.Tensor).items()):
        if callable(value) and name not in ("__class_getitem__", "__new__", "__init_subclass__", "__getattribute__", "__setattr__",
                                            "__delattr__", "__release_buffer__"):
            yield f"Tensor.{name}", value, TENSORS
    for kind, make in OBJECTS.items():
        for name, value in inspect.getmembers(type(make()), callable):
            if id(value) in seen or name.startswith("_") and name not in ("__getitem__", "__setitem__", "__call__"):
                continue
            if name != "forward":
                seen.add(id(value))
            yield f"{kind}().{name}", value, [make]


def arity(value):
    """How many arguments in places, and the names of those that have none."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return 2, []
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 4, named
    return min(len([p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]), 6), named


def calls(name, value, receivers):
    """Arguments: one bad among plain ones in each place, all bad, by name, and too many."""
    n, named = arity(value)
    for key, make in USABLE.items():
        if key.split()[0] == name.split(".")[-1]:
            for place, bad in itertools.product(range(len(make())), BAD if isinstance(value, type) else BAD + LARGE):
                arguments = make()
                arguments[place] = bad()
                yield arguments, {}
    first = 1 if receivers else 0
    plain = [lambda: rl.ones(2, 3), lambda: 1, lambda: rl.ones(2, 3), lambda: 1, lambda: 1, lambda: 1]
    numbers = [lambda: rl.ones(2, 3)] + [lambda: rl.tensor([0, 1])] * 5
    for large, place in itertools.product(LARGE, range(min(n, 2))):
        arguments = [receivers[0]() if receivers and i == 0 else plain[i]() for i in range(n)]
        arguments[place] = large()
        if receivers is TENSORS or not (receivers or isinstance(value, type)):
            yield arguments, {}
    for receiver in receivers or [None]:
        # Every receiver meets every bad value in every place; the first one meets more.
        once = receiver is (receivers or [None])[0]
        for place, base, bad in itertools.product(range(first, n), (plain, numbers) if once else (plain,), BAD):
            for last in {place + 1, n}:
                arguments = [receiver() if i < first else base[i]() for i in range(last)]
                arguments[place] = bad()
                yield arguments, {}
        for bad, count in itertools.product(BAD, (1, 2, 3, 7) if once else (1,)):
            yield ([receiver()] if first else []) + [bad() for _ in range(count)], {}
        for bad, name, count in itertools.product(BAD, named, {first, n}):
            yield [receiver() if i < first else plain[i]() for i in range(count)], {name: bad()}


def tell(text):
    os.write(2, (text + "\n").encode())


def show(name, arguments, keywords):
    def one(argument):
        if isinstance(argument, rl.Tensor):
            return f"<{argument.dtype!r} {argument.shape}>"
        try:
            return repr(argument)[:60]
        except RecursionError:
            return "<deep>"

    return f"{name}({', '.join([*map(one, arguments), *(f'{k}={one(v)}' for k, v in keywords.items())])})"


def main(part, parts):
    faulthandler.enable()
    # A size that is taken seriously ends in a MemoryError and not in the machine's.
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if os.path.exists("/proc/self/statm") else 7 << 30
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    only, trace, watched = os.environ.get("ONLY"), os.environ.get("TRACE"), 0.0
    every, turn = int(os.environ.get("EVERY", "1")), 0
    wrong, made, times = 0, 0, []
    for name, value, receivers in list(places())[part::parts]:
        if only not in (None, name):
            continue
        found, begun, before = set(), time.monotonic(), made
        # The last line tells where a process ended that should not have.
        tell(name)
        for arguments, keywords in calls(name, value, receivers):
            turn += 1
            if turn % every:
                continue
            made += 1
            if trace:
                tell(show(name, arguments, keywords))
            start = time.monotonic()
            if start > watched:
                # A call that hangs ends the process.
                try:
                    faulthandler.dump_traceback_later(120, exit=True)
                    watched = start + 5
                except RuntimeError:
                    pass  # No memory for its thread just now.
            busy = time.process_time()
            said = None
            try:
                value(*arguments, **keywords)
            except ALLOWED:
                pass
            except BaseException as error:
                if not (isinstance(error, DUCKS) and not name.startswith("rushlight._rushlight")):
                    said = type(error).__name__, f"{type(error).__name__}: {str(error)[:200]}"
            if time.process_time() - busy > SECONDS:
                said = "slow", f"takes {time.process_time() - busy:.1f} s"
            if said is not None and said[0] not in found:
                found.add(said[0])
                print(f"{show(name, arguments, keywords)}: {said[1]}", flush=True)
                wrong += 1
        times.append((time.monotonic() - begun, made - before, name))
    faulthandler.cancel_dump_traceback_later()
    if os.environ.get("TIMES"):
        for took, count, name in sorted(times)[-25:]:
            print(f"{took:8.2f} s {count:7} calls  {name}")
    print(f"{made} calls, {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
