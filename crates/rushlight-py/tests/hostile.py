"""Calls everything that is public with arguments that nobody should give. Run by test_hostile.py in a process of its own:
``hostile.py PART PARTS``. What may come out are Python's exceptions; anything else is printed and is an error."""

import faulthandler
import inspect
import itertools
import math
import os
import resource
import sys

import numpy as np

import rushlight as rl
from rushlight import _rushlight

ALLOWED = (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError, OSError, NotImplementedError,
           BufferError, StopIteration, RecursionError)
# A tensor is asked for and something else is given: Python's own words for it.
DUCKS = (AttributeError, KeyError)
# What ends, changes or waits for more than its own result.
LEFT_OUT = {"_set_grad_mode", "set_grad_enabled", "set_default_dtype", "inference_mode"}


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


def bad():
    yield from (None, True, 0, -1, 1, 3, 2**31, 2**62, 2**63 - 1, -(2**63), 2**63, 2**100, -0.0, math.nan, math.inf, -math.inf, 1e308)
    yield from ("", "mean", "float32", "\0", "x" * 1000, b"", b"x", [], [[]], (), {}, [[1], [1, 2]], deep(50), deep(3000), loop())
    yield from ((2**62, 2**62), (2**32, 2**32), (-1, -1), (0, 2**62), (3, -(2**63)), [2**31] * 3, [1] * 100, (math.nan,), [None], ["a"])
    yield from (object(), len, iter([1]), range(2**62), slice(None, None, 0), ..., type, rl.float32, 1j)
    interface = {"version": 3, "typestr": "<f4", "shape": (3,), "data": (0, True)}
    yield from (np.broadcast_to(np.float32(1), (2**40,)), np.broadcast_to(np.float64(1), (2**20, 2**20, 2**19)), np.zeros((0, 2**40)))
    yield from (Liar(None), Liar({}), Liar(interface | {"typestr": "<x9"}), Liar(interface | {"shape": (-1,)}), Liar(interface))
    yield from (rl.zeros(0), rl.zeros(0, 3), rl.zeros(3, 0, dtype=rl.int64), rl.tensor(math.nan), rl.tensor(2**62), rl.tensor(True))
    yield from (rl.tensor([math.nan, math.inf, -math.inf]), rl.tensor([2**62, -(2**63), 5]), rl.ones(2, 3, dtype=rl.float16))
    yield from (rl.ones(2, 3, dtype=rl.bfloat16), rl.tensor([0, 255], dtype=rl.uint8), rl.ones(2, 3).T, rl.ones(1).expand(3, 3))
    yield from (rl.ones(2, 3, requires_grad=True), rl.ones(1, 1, 1, 1, 1, 1, 1, 1), [rl.ones(2), rl.ones(3)], [rl.ones(2, 3)] * 2)


RECEIVERS = [
    lambda: rl.ones(2, 3), lambda: rl.zeros(0, 3), lambda: rl.tensor(1.5), lambda: rl.tensor([[1, 0], [2**62, -(2**63)]]),
    lambda: rl.tensor([True, False]), lambda: rl.ones(2, 3, 4, 5, requires_grad=True), lambda: rl.ones(4, 3)[::-2].T,
]


def places():
    """Everything public, as ``(name, call, whether it is a method)``."""
    modules = [rl, rl.nn, rl.nn.functional, rl.nn.init, rl.nn.utils, rl.linalg, rl.optim, rl.optim.lr_scheduler, rl.autograd,
               rl.utils.data, rl.models, _rushlight]
    seen = set()
    for module in modules:
        for name, value in sorted(vars(module).items()):
            private = name.startswith("_") and module is not _rushlight
            if private or name.startswith("__") or not callable(value) or name in LEFT_OUT or id(value) in seen:
                continue
            if not getattr(value, "__module__", "rushlight").startswith(("rushlight", "_rushlight")):
                continue
            seen.add(id(value))
            yield f"{module.__name__}.{name}", value, False
    for name, value in sorted(vars(rl.Tensor).items()):
        if callable(value) and name not in ("__class_getitem__", "__new__", "__init_subclass__", "__getattribute__", "__setattr__",
                                            "__delattr__", "__release_buffer__"):
            yield f"Tensor.{name}", value, True


def arity(value):
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return 2
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 4
    return min(len([p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]), 6)


def calls(value, method):
    """Arguments: one bad among plain ones in each place, all bad, by name, and too many."""
    n = arity(value)
    plain = [lambda: rl.ones(2, 3), lambda: 1, lambda: rl.ones(2, 3), lambda: 1, lambda: 1, lambda: 1]
    numbers = [lambda: rl.ones(2, 3)] + [lambda: rl.tensor([0, 1])] * 5
    for receiver in RECEIVERS if method else [None]:
        for place, base, index in itertools.product(range(method, n), (plain, numbers), range(BAD)):
            for last in {place + 1, n}:
                arguments = [(receiver or base[i])() if method and i == 0 else base[i]() for i in range(last)]
                arguments[place] = argument(index)
                yield arguments
        for index, count in itertools.product(range(BAD), (1, 2, 3, 7)):
            yield ([receiver()] if method else []) + [argument(index) for _ in range(count)]


def argument(index):
    return next(itertools.islice(bad(), index, None))


BAD = sum(1 for _ in bad())


def tell(text):
    os.write(2, (text + "\n").encode())


def show(argument):
    if isinstance(argument, rl.Tensor):
        return f"<{argument.dtype!r} {argument.shape}>"
    try:
        return repr(argument)[:60]
    except RecursionError:
        return "<deep>"


def main(part, parts):
    faulthandler.enable()
    # A size that is taken seriously ends in a MemoryError and not in the machine's.
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    wrong, made = 0, 0
    for name, value, method in list(places())[part::parts]:
        if os.environ.get("ONLY", name) != name:
            continue
        found = set()
        # The last line tells where a process ended that should not have.
        tell(name)
        for arguments in calls(value, method):
            made += 1
            faulthandler.dump_traceback_later(120, exit=True)
            if os.environ.get("TRACE"):
                tell(f"{name}({', '.join(map(show, arguments))})")
            try:
                value(*arguments)
            except ALLOWED:
                pass
            except BaseException as error:
                if isinstance(error, DUCKS) and "rushlight" in name and not name.startswith("rushlight._rushlight"):
                    continue
                if type(error).__name__ not in found:
                    found.add(type(error).__name__)
                    said = f"{type(error).__name__}: {str(error)[:200]}"
                    print(f"{name}({', '.join(map(show, arguments))}): {said}", flush=True)
                    wrong += 1
    faulthandler.cancel_dump_traceback_later()
    print(f"{made} calls, {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
