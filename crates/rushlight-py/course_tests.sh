#!/usr/bin/env bash
# The course's own tests on rushlight.minitorch: course_tests.sh CHECKOUT [pytest options], of a checkout of
# minitorch/minitorch, with a Python ($PYTHON) that has rushlight, pytest and hypothesis. What the course leaves to
# students counts as skipped.
set -euo pipefail
checkout=$(cd "$1" && pwd)
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp -r "$checkout/tests" "$dir/tests"
cat >"$dir/conftest.py" <<'PY'
import sys
import types

import pytest

import rushlight.minitorch

rushlight.minitorch.install()
# The tests ask numba whether there is a GPU, and nothing else.
numba = types.ModuleType("numba")
numba.cuda = types.SimpleNamespace(is_available=lambda: False)
sys.modules["numba"] = numba


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if call.excinfo is not None and str(call.excinfo.value).startswith("Need to implement for Task"):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1], "left to students")
PY
cd "$dir"
"${PYTHON:-python3}" -m pytest -q -W ignore -p no:cacheprovider "$@" tests
