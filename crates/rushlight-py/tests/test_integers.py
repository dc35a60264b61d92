"""Integers and bools beside PyTorch's: bits, division by 0, and what bools refuse."""

import itertools
import operator

import numpy as np
import pytest

import rushlight as rl

torch = pytest.importorskip("torch")

VALUES = {
    "int64": [5, -3, 0, 2**40, -(2**63), 2**63 - 1], "uint8": [200, 7, 0, 255, 1, 128],
    "bool": [True, False, True, True, False, False], "float32": [1.5, -2.0, 0.0, 3.0, 0.5, 8.0],
}


def pair(name, shape=(6,)):
    values = np.array(VALUES[name]).reshape(shape).tolist()
    return rl.tensor(values, dtype=getattr(rl, name)), torch.tensor(values, dtype=getattr(torch, name))


def same(ours, theirs):
    assert str(ours.dtype).split(".")[-1] == str(theirs.dtype).split(".")[-1]
    assert str(ours.tolist()) == str(theirs.tolist())


def outcome(f, *args):
    try:
        return f(*args)
    except Exception as error:  # noqa: BLE001: whatever either library raises is compared
        return error


def both(f, *pairs):
    """The same value of both, or an error of both: whose type is ours."""
    ours, theirs = (outcome(f, *(p[i] if isinstance(p, tuple) else p for p in pairs)) for i in (0, 1))
    if isinstance(theirs, Exception):
        assert isinstance(ours, Exception), f"PyTorch raises {theirs!r}, we give {ours}"
        return ours
    assert not isinstance(ours, Exception), f"we raise {ours!r}, PyTorch gives {theirs}"
    same(ours, theirs)
    return None


BITS = [operator.and_, operator.or_, operator.xor]


@pytest.mark.parametrize("f", BITS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("a,b", list(itertools.product(VALUES, VALUES)))
def test_bits(f, a, b):
    both(f, pair(a), pair(b))
    both(f, pair(a, (2, 3)), tuple(t[:3] for t in pair(b)))
    both(f, pair(a, (2, 3)), tuple(t[0] for t in pair(b)))
    both(f, tuple(t[0] for t in pair(a)), pair(b))
    for number in (3, True, 1.5):
        both(f, pair(a), number)
        both(lambda x: f(number, x), pair(a))


@pytest.mark.parametrize("name", VALUES)
def test_not(name):
    both(operator.invert, pair(name))
    if name != "float32":
        same(rl.bitwise_not(pair(name)[0]), torch.bitwise_not(pair(name)[1]))


@pytest.mark.parametrize("name", ["iand", "ior", "ixor"])
def test_bits_in_place(name):
    f = getattr(operator, name)
    a, b = pair("int64")
    same(f(a, pair("int64")[0].flip(0)), f(b, pair("int64")[1].flip(0)))


DIVISIONS = {
    "//": operator.floordiv, "%": operator.mod, "floor_divide": lambda a, b: rl.floor_divide(a, b) if isinstance(a, rl.Tensor)
    else torch.floor_divide(a, b), "floor": lambda a, b: a.div(b, rounding_mode="floor"),
    "trunc": lambda a, b: a.div(b, rounding_mode="trunc"), "in place": lambda a, b: operator.ifloordiv(a.clone(), b),
}


@pytest.mark.parametrize("kind", DIVISIONS)
@pytest.mark.parametrize("name", ["int64", "uint8"])
def test_integers_divided_by_0(kind, name):
    f = DIVISIONS[kind]
    for zero in (0, (rl.tensor(0), torch.tensor(0)), (rl.tensor([1, 2, 0, 1, 1, 1]), torch.tensor([1, 2, 0, 1, 1, 1]))):
        error = both(f, pair(name), zero)
        assert isinstance(error, ZeroDivisionError) and "0" in str(error)
    empty = (rl.tensor([], dtype=rl.int64), torch.tensor([], dtype=torch.int64))
    both(f, empty, 0)


def test_numbers_divided_by_tensors_with_a_0():
    for f in (operator.floordiv, operator.mod):
        error = both(lambda x: f(5, x), (rl.tensor([1, 0]), torch.tensor([1, 0])))
        assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("f", [operator.floordiv, operator.mod], ids=["//", "%"])
def test_floats_divided_by_0_are_not_an_error(f):
    both(f, pair("float32"), 0)
    both(f, pair("int64"), 0.0)


@pytest.mark.parametrize("f", [operator.sub, operator.pow, operator.floordiv, operator.mod, operator.truediv, operator.mul,
                               operator.add], ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", ["bool", "float32", True, False, 1, 2, 0.5])
def test_bools(f, other):
    ones = (rl.tensor([True, False]), torch.tensor([True, False]))
    others = (ones[0].flip(0), ones[1].flip(0)) if other == "bool" else (
        (rl.tensor([2.0, 1.0]), torch.tensor([2.0, 1.0])) if other == "float32" else other)
    if f in (operator.floordiv, operator.mod) and other is False:
        pytest.skip("by 0")
    both(f, ones, others)
    if isinstance(other, str):
        both(f, others, ones)
    elif f not in (operator.floordiv, operator.mod):
        both(lambda x: f(other, x), ones)


def test_what_bools_refuse_says_what_to_use():
    a = rl.tensor([True, False])
    for f in (lambda: a - a, lambda: a - True, lambda: 1 - a, lambda: rl.tensor([1]) - True, lambda: rl.subtract(a, 2)):
        with pytest.raises(TypeError, match="~"):
            f()
    for f in (lambda: a**a, lambda: a // a, lambda: a % a, lambda: -a):
        with pytest.raises(TypeError, match="bool"):
            f()


@pytest.mark.parametrize("name", ["int64", "uint8"])
@pytest.mark.parametrize("shift", [operator.lshift, operator.rshift], ids=["up", "down"])
def test_shifts_are_pytorchs(name, shift):
    ours, theirs = pair(name)
    for n in (0, 1, 3, 7, 8, 63, 64, 100, -1):
        same(shift(ours, n), shift(theirs, n))
        by = torch.tensor([n, 1, 0, 2, n, 5])
        same(shift(ours, rl.tensor(by.tolist())), shift(theirs, by))
    for x in (ours, theirs):
        y = x * 1
        y <<= 2
        y >>= 1
        assert y.tolist() == ((x << 2) >> 1).tolist()
    same(shift(100, rl.tensor([0, 1, 2])), shift(100, torch.tensor([0, 1, 2])))
    same(shift(rl.tensor([True, False]), 1), shift(torch.tensor([True, False]), 1))
    assert rl.bitwise_left_shift(ours, 1).tolist() == (theirs << 1).tolist()
    assert ours.bitwise_right_shift(1).tolist() == (theirs >> 1).tolist()


@pytest.mark.parametrize("shift", [operator.lshift, operator.rshift], ids=["up", "down"])
def test_what_has_no_places_is_not_shifted(shift):
    for x, by in [([True], [True]), ([1.5], 1), ([1], 1.5), ([1.5], [1])]:
        for library in (rl, torch):
            number = library.tensor(by) if isinstance(by, list) else by
            with pytest.raises((TypeError, NotImplementedError)):
                shift(library.tensor(x), number)


def test_absolutes_of_bools_and_negative_powers_of_integers_are_refused():
    for library in (rl, torch):
        with pytest.raises((TypeError, NotImplementedError)):
            library.tensor([True]).abs()
        with pytest.raises((TypeError, NotImplementedError)):
            abs(library.tensor([True]))
        for values in ([2], [1], [True]):
            for power in (-1, -2, -(2**40)):
                with pytest.raises((ValueError, RuntimeError)):
                    library.tensor(values) ** power
        with pytest.raises((ValueError, RuntimeError)):
            library.tensor([2], dtype=library.uint8) ** -1
    bases, powers = [0, 1, -1, 2, 5, -1], [-1, -2, -3, -2, -9, -2]
    same(rl.tensor(bases) ** rl.tensor(powers), torch.tensor(bases) ** torch.tensor(powers))
    same(2 ** rl.tensor([-1, 3]), 2 ** torch.tensor([-1, 3]))
