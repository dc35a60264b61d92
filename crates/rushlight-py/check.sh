#!/usr/bin/env bash
# The Python package's own check: builds it in a virtual environment, then pytest, mypy and stubtest.
set -euo pipefail
cd "$(dirname "$0")" && here=$PWD
python=${PYTHON:-python3}
venv=${VENV:-$(mktemp -d)/venv}
"$python" -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check numpy pytest mypy nbclient nbformat ipykernel matplotlib torch \
  || { echo "the test packages cannot be had here"; exit 1; }
"$venv/bin/pip" install -q --disable-pip-version-check .
wheel_bytes=$("$venv/bin/python" -c "import rushlight._rushlight as m, os; print(os.path.getsize(m.__file__))")
echo "the module has $wheel_bytes bytes"
# The stub is what the module says now.
stub=$(mktemp) && trap 'rm -f "$stub"' EXIT
"$venv/bin/python" scripts/make_stubs.py "$stub"
diff python/rushlight/_rushlight.pyi "$stub"
"$venv/bin/python" -m pytest -q tests
# From elsewhere, so that the installed package is meant.
(cd / && "$venv/bin/mypy" --strict -p rushlight && "$venv/bin/python" -m mypy.stubtest --allowlist "$here/scripts/stubtest_allowed.txt" \
  --ignore-unused-allowlist rushlight._rushlight)
