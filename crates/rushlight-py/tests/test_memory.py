"""Where the system refuses memory Python raises, and goes on once there is some again."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import rushlight as rl

x = rl.zeros(2)
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[1]),) * 2)
kept = []
try:
    while True:
        kept.append(x + 1)
except MemoryError:
    count = len(kept)
    kept.clear()
assert count > 0
assert (x + 1).tolist() == [1.0, 1.0]
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="the limit is set beside what /proc says is used")
@pytest.mark.parametrize("room", [(16 << 20) + k * 40_000 for k in range(12)])
def test_many_small_tensors_end_in_a_memory_error(room):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(room)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
