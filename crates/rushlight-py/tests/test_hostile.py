"""No argument ends the process, and what comes out are Python's own exceptions. Takes many minutes, so it runs only where
RUSHLIGHT_HOSTILE is set."""

import os
import pathlib
import subprocess
import sys

import pytest

PARTS = 4
SCRIPT = pathlib.Path(__file__).with_name("hostile.py")


@pytest.mark.skipif("RUSHLIGHT_HOSTILE" not in os.environ, reason="takes many minutes; set RUSHLIGHT_HOSTILE=1")
@pytest.mark.parametrize("part", range(PARTS))
def test_only_exceptions_come_out(part, tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, str(part), str(PARTS)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, f"code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert "0 wrong" in done.stdout
