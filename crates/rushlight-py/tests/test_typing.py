"""The types that the stub promises: a program with assertions is checked, and then run."""

import pathlib
import re
import runpy
import subprocess
import sys

import pytest

import rushlight

HERE = pathlib.Path(__file__).parent
PROGRAM = HERE / "typed_usage.py"


def test_a_program_has_the_types_it_asserts():
    pytest.importorskip("mypy")
    package = pathlib.Path(rushlight.__file__).parent
    assert (package / "py.typed").exists()
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(PROGRAM)], capture_output=True, text=True, cwd="/",
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_program_runs():
    pytest.importorskip("typing_extensions")
    runpy.run_path(str(PROGRAM))


def test_little_of_the_stub_is_untyped():
    text = (pathlib.Path(rushlight.__file__).parent / "_rushlight.pyi").read_text()
    untyped = [line for line in text.splitlines() if re.search(r": Any\b|-> Any\b", line)]
    # What the protocols of others hand over, nested lists, and arrays of NumPy, which need not be installed.
    names = {re.search(r"def (\w+)", line)[1] for line in untyped}
    assert names == {"__array__", "__class_getitem__", "__dlpack__", "numpy", "picture", "tolist"}
