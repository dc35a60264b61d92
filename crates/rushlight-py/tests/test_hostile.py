"""No argument ends the process, and what comes out are Python's own exceptions, soon. Some 980,000 calls take two minutes, so it
runs only where RUSHLIGHT_HOSTILE is set."""

import os
import pathlib
import subprocess
import sys

import pytest

PARTS = 4
pytestmark = pytest.mark.skipif("RUSHLIGHT_HOSTILE" not in os.environ, reason="takes minutes; set RUSHLIGHT_HOSTILE=1")
SCRIPT = pathlib.Path(__file__).with_name("hostile.py")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """All parts at once, as each is busy with Python for the most part."""
    folder = tmp_path_factory.mktemp("hostile")

    def start(part):
        with open(folder / f"{part}.out", "w") as out, open(folder / f"{part}.err", "w") as err:
            return subprocess.Popen([sys.executable, SCRIPT, str(part), str(PARTS)], stdout=out, stderr=err, cwd=folder)

    processes = [start(part) for part in range(PARTS)]
    yield processes, folder
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("part", range(PARTS))
def test_only_exceptions_come_out(part, running):
    processes, folder = running
    code = processes[part].wait(timeout=1200)
    out, err = ((folder / f"{part}.{end}").read_text(errors="replace") for end in ("out", "err"))
    # The last lines of what it said tell which call it was.
    assert code == 0, f"code {code}\n{out[-4000:]}\n{err[-4000:]}"
    assert ", 0 wrong" in out
