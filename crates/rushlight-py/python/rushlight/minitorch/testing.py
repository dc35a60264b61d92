"""Functions to test with: of numbers, and the same of scalars and tensors."""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, Tuple

from . import operators

Named = Tuple[str, Callable[..., Any]]


class MathTest:
    """Functions of floats. A name that ends with 2 has two arguments, one that ends with _red reduces."""

    @staticmethod
    def neg(a: Any) -> Any:
        return -a

    @staticmethod
    def addConstant(a: Any) -> Any:
        return a + 2.25

    @staticmethod
    def subConstant(a: Any) -> Any:
        return a - 3.75

    @staticmethod
    def multConstant(a: Any) -> Any:
        return 1.5 * a

    @staticmethod
    def div(a: Any) -> Any:
        return a / 4.0

    @staticmethod
    def square(a: Any) -> Any:
        return a * a

    @staticmethod
    def cube(a: Any) -> Any:
        return a * a * a

    @staticmethod
    def inv(a: Any) -> Any:
        return operators.inv(a * a + 1.5)

    @staticmethod
    def sig(a: Any) -> Any:
        return operators.sigmoid(a)

    @staticmethod
    def log(a: Any) -> Any:
        return operators.log(a + 200_000.0)

    @staticmethod
    def relu(a: Any) -> Any:
        return operators.relu(a + 0.3137)

    @staticmethod
    def exp(a: Any) -> Any:
        return operators.exp(a - 150.0)

    @staticmethod
    def complex(a: Any) -> Any:
        return operators.log(operators.sigmoid(operators.relu(0.1 * a + 0.3137) - 0.5)) / 10.0

    @staticmethod
    def add2(a: Any, b: Any) -> Any:
        return a + b

    @staticmethod
    def mul2(a: Any, b: Any) -> Any:
        return a * b

    @staticmethod
    def div2(a: Any, b: Any) -> Any:
        return a / (b * b + 1.5)

    @staticmethod
    def lt2(a: Any, b: Any) -> Any:
        return operators.lt(a, b + 0.3137)

    @staticmethod
    def gt2(a: Any, b: Any) -> Any:
        return operators.lt(b + 0.3137, a)

    @staticmethod
    def eq2(a: Any, b: Any) -> Any:
        return operators.eq(a, b + 0.3137)

    @staticmethod
    def sum_red(a: Iterable[Any]) -> Any:
        return operators.sum(a)

    @staticmethod
    def mean_red(a: Iterable[Any]) -> Any:
        values = list(a)
        return operators.sum(values) / len(values)

    @classmethod
    def _tests(cls) -> Tuple[List[Named], List[Named], List[Named]]:
        """Those of one argument, of two, and the reductions, with their names."""
        one: List[Named] = []
        two: List[Named] = []
        red: List[Named] = []
        for name in sorted(n for n in vars(MathTest) if not n.startswith("_")):
            kind = two if name.endswith("2") else red if name.endswith("_red") else one
            kind.append((name, getattr(cls, name)))
        return one, two, red

    @classmethod
    def _comp_testing(cls) -> Any:
        """The same with the functions of floats beside this class's."""
        pairs = zip(MathTest._tests(), cls._tests())
        return tuple([(name, base, fn) for (name, base), (_, fn) in zip(a, b)] for a, b in pairs)


class MathTestVariable(MathTest):
    """The same functions of scalars or tensors."""

    @staticmethod
    def inv(a: Any) -> Any:
        return 1.0 / (a * a + 1.5)

    @staticmethod
    def sig(a: Any) -> Any:
        return a.sigmoid()

    @staticmethod
    def log(a: Any) -> Any:
        return (a + 200_000.0).log()

    @staticmethod
    def relu(a: Any) -> Any:
        return (a + 0.3137).relu()

    @staticmethod
    def exp(a: Any) -> Any:
        return (a - 150.0).exp()

    @staticmethod
    def complex(a: Any) -> Any:
        return ((0.1 * a + 0.3137).relu() - 0.5).sigmoid().log() / 10.0

    @staticmethod
    def lt2(a: Any, b: Any) -> Any:
        return a < b + 0.3137

    @staticmethod
    def gt2(a: Any, b: Any) -> Any:
        return a > b + 0.3137

    @staticmethod
    def eq2(a: Any, b: Any) -> Any:
        return a == b + 0.3137

    @staticmethod
    def sum_red(a: Any) -> Any:
        return a.sum(0)

    @staticmethod
    def mean_red(a: Any) -> Any:
        return a.mean(0)
