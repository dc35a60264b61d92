"""Per-call overhead and some large operations beside PyTorch, in one run: best of several rounds, taken in turns."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import torch

import rushlight as rl

torch.set_num_threads(2)


def best(f, seconds=0.15):
    f()
    out, end = float("inf"), time.perf_counter() + seconds
    n = 1
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(n):
            f()
        took = (time.perf_counter() - start) / n
        out = min(out, took)
        n = max(1, min(1000, int(0.01 / max(took, 1e-7))))
    return out


def step(lib, F):
    model = lib.nn.Sequential(lib.nn.Linear(2, 64), lib.nn.ReLU(), lib.nn.Linear(64, 64), lib.nn.ReLU(), lib.nn.Linear(64, 1))
    x, y = lib.randn(32, 2), lib.randn(32, 1)
    optimizer = lib.optim.SGD(model.parameters(), lr=1e-3)

    def run():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()

    return run


def rows(lib):
    F = lib.functional if lib is rl else lib.nn.functional
    a, b = lib.randn(1000), lib.randn(1000)
    m, big = lib.randn(1024, 1024), lib.randn(4096, 4096)
    image, kernel = lib.randn(8, 64, 56, 56), lib.randn(64, 64, 3, 3)
    return {
        "add of 1,000 floats": lambda: a + b, "add of a number": lambda: a + 1.0, "x[3]": lambda: a[3], "relu of 1,000": lambda: a.relu(),
        "step of 2-64-64-1": step(lib, F), "matmul 1024": lambda: m @ m, "add 16M": lambda: big + big,
        "softmax 4096 x 4096": lambda: big.softmax(1), "sum 16M": lambda: big.sum(), "conv2d 8x64x56x56 k3": lambda: F.conv2d(image, kernel, padding=1),
        "max_pool2d": lambda: F.max_pool2d(image, 2),
    }


def threads():
    rl.set_num_threads(1)
    m = rl.randn(1024, 1024)

    def work():
        for _ in range(20):
            m @ m

    start = time.perf_counter()
    work(), work()
    one = time.perf_counter() - start
    both = [threading.Thread(target=work) for _ in range(2)]
    start = time.perf_counter()
    [t.start() for t in both], [t.join() for t in both]
    return one / (time.perf_counter() - start)


def importing():
    code = "import time; s = time.perf_counter(); import rushlight; print(time.perf_counter() - s)"
    return min(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) for _ in range(5))


ours, theirs = rows(rl), rows(torch)
print(f"{'':24}{'Rushlight':>12}{'PyTorch':>12}{'ratio':>8}")
for name in ours:
    pair = [float("inf"), float("inf")]
    for _ in range(3):
        pair = [min(pair[0], best(ours[name])), min(pair[1], best(theirs[name]))]
    print(f"{name:24}{pair[0] * 1e6:10.2f}us{pair[1] * 1e6:10.2f}us{pair[1] / pair[0]:8.2f}")
print(f"import rushlight: {importing() * 1e3:.1f} ms; two threads of matmuls: {threads():.2f} times one")
