"""Functions to test with: of numbers, and the same of scalars and tensors."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Tuple

from . import operators as o

# No round number, so that values drawn at random do not meet where a function jumps.
_SHIFT = math.pi / 10

Named = Tuple[str, Callable[..., Any]]

# Of one argument: of floats, and of scalars or tensors where that is written differently.
_ONE: Dict[str, Tuple[Callable[[Any], Any], ...]] = {
    "neg": (lambda a: -a,),
    "addConstant": (lambda a: a + 2.25,),
    "subConstant": (lambda a: a - 3.75,),
    "multConstant": (lambda a: 1.5 * a,),
    "div": (lambda a: a / 4.0,),
    "square": (lambda a: a * a,),
    "cube": (lambda a: a * a * a,),
    "inv": (lambda a: o.inv(a * a + 1.5), lambda a: 1.0 / (a * a + 1.5)),
    "sig": (o.sigmoid, lambda a: a.sigmoid()),
    "log": (lambda a: o.log(a + 2e5), lambda a: (a + 2e5).log()),
    "relu": (lambda a: o.relu(a + _SHIFT), lambda a: (a + _SHIFT).relu()),
    "exp": (lambda a: o.exp(a - 150.0), lambda a: (a - 150.0).exp()),
    "complex": (
        lambda a: o.log(o.sigmoid(o.relu(0.1 * a + _SHIFT) - 0.5)) / 10.0,
        lambda a: ((0.1 * a + _SHIFT).relu() - 0.5).sigmoid().log() / 10.0,
    ),
}
_TWO: Dict[str, Tuple[Callable[[Any, Any], Any], ...]] = {
    "add2": (lambda a, b: a + b,),
    "mul2": (lambda a, b: a * b,),
    "div2": (lambda a, b: a / (b * b + 1.5),),
    "lt2": (lambda a, b: o.lt(a, b + _SHIFT), lambda a, b: a < b + _SHIFT),
    "gt2": (lambda a, b: o.lt(b + _SHIFT, a), lambda a, b: a > b + _SHIFT),
    "eq2": (lambda a, b: o.eq(a, b + _SHIFT), lambda a, b: a == b + _SHIFT),
}
_REDUCTIONS: Dict[str, Tuple[Callable[[Any], Any], ...]] = {
    "sum_red": (o.sum, lambda a: a.sum(0)),
    "mean_red": (lambda a: o.sum(a) / len(a), lambda a: a.mean(0)),
}
_TABLES: Tuple[Dict[str, Tuple[Callable[..., Any], ...]], ...] = (_ONE, _TWO, _REDUCTIONS)


class MathTest:
    """Functions of floats, each a static method. A name that ends with 2 has two arguments, one that ends with _red
    reduces."""

    # The column of the tables: the last one where a row is shorter.
    _column = 0

    def __init_subclass__(cls) -> None:
        _fill(cls)

    @classmethod
    def _tests(cls) -> Tuple[List[Named], List[Named], List[Named]]:
        """Those of one argument, of two, and the reductions, with their names."""
        one, two, red = ([(name, getattr(cls, name)) for name in sorted(table)] for table in _TABLES)
        return one, two, red

    @classmethod
    def _comp_testing(cls) -> Any:
        """The same with the functions of floats beside this class's."""
        return tuple([(name, getattr(MathTest, name), fn) for name, fn in kind] for kind in cls._tests())


def _fill(cls: type) -> None:
    column: int = vars(cls).get("_column", 0)
    for table in _TABLES:
        for name, row in table.items():
            if len(row) > column:
                setattr(cls, name, staticmethod(row[column]))


_fill(MathTest)


class MathTestVariable(MathTest):
    """The same functions of scalars or tensors."""

    _column = 1
