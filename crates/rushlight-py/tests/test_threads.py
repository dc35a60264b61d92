"""Kernels run without the GIL: while one thread computes, another counts."""

import sys
import threading
import time

import pytest

import rushlight as rl
from rushlight import nn, optim

F = nn.functional
N = 1200


def made():
    """What the operations work on, made once; each takes some milliseconds or more."""
    square = rl.rand(N, N)
    return {
        "square": square, "long": rl.rand(1 << 21), "short": rl.rand(6000), "ints": rl.randint(0, 9, (1 << 21,)),
        "column": rl.rand(6000, 1), "row": rl.rand(1, 6000), "image": rl.rand(2, 16, 96, 96), "kernel": rl.rand(16, 16, 5, 5),
        # What is made beforehand, so that it is the walk and the layer alone that are watched.
        "loss": (square.clone().requires_grad_() @ square).sum(), "lstm": nn.LSTM(32, 64),
        "mask": rl.rand(N, N) > 0.5, "index": rl.randint(0, N, (N, N)), "heads": rl.rand(1, 4, 700, 32),
    }


@pytest.fixture(scope="module")
def data():
    rl.manual_seed(0)
    return made()


OPERATIONS = {
    "add": lambda d: d["long"] + d["long"] * 2, "exp": lambda d: d["long"].exp(), "spread": lambda d: d["column"] + d["row"],
    "spread_comparison": lambda d: d["column"] < d["row"], "outer": lambda d: d["short"].outer(d["short"]),
    "matmul": lambda d: d["square"] @ d["square"], "rmatmul": lambda d: d["square"].__rmatmul__(d["square"]),
    "sum": lambda d: d["square"].T.sum(0), "sort": lambda d: d["long"].sort(), "topk": lambda d: d["long"].topk(50),
    "cumsum": lambda d: d["long"].cumsum(0), "shift": lambda d: d["ints"] << 3, "bitwise": lambda d: d["ints"] & 5,
    "max": lambda d: d["square"].max(0), "softmax": lambda d: d["square"].softmax(0), "to": lambda d: d["long"].to(rl.float16),
    "contiguous": lambda d: d["square"].T.contiguous(), "reshape": lambda d: d["square"].T.reshape(-1),
    "repeat": lambda d: d["short"].repeat(2000), "gather": lambda d: d["square"].gather(0, d["index"]),
    "where": lambda d: rl.where(d["mask"], d["square"], 0.0), "masked_select": lambda d: d["square"].masked_select(d["mask"]),
    "getitem": lambda d: d["square"][d["index"][0]], "cat": lambda d: rl.cat([d["long"]] * 8),
    "stack": lambda d: rl.stack([d["long"]] * 8), "einsum": lambda d: rl.einsum("ij,kj->ik", d["square"], d["square"]),
    "conv2d": lambda d: F.conv2d(d["image"], d["kernel"]), "max_pool2d": lambda d: F.max_pool2d(d["image"], 3, 1),
    "layer_norm": lambda d: F.layer_norm(d["square"], (N,)), "linear": lambda d: F.linear(d["square"], d["square"]),
    "attention": lambda d: F.scaled_dot_product_attention(d["heads"], d["heads"], d["heads"]),
    "one_hot": lambda d: F.one_hot(d["ints"][:5000], 3000), "embedding": lambda d: F.embedding(d["index"], d["square"][:, :8]),
    "rand": lambda d: rl.rand(1 << 22), "randn": lambda d: rl.randn(1 << 22), "randperm": lambda d: rl.randperm(1 << 20),
    "randint": lambda d: rl.randint(0, 5, (1 << 21,)), "arange": lambda d: rl.arange(1 << 23), "full": lambda d: rl.full((1 << 24,), 3.0),
    "zeros_like": lambda d: rl.ones_like(d["column"].expand(6000, 3000)), "linspace": lambda d: rl.linspace(0, 1, 1 << 22),
    "eye": lambda d: rl.eye(4000), "bernoulli": lambda d: rl.bernoulli(d["long"]), "rand_like": lambda d: rl.rand_like(d["long"]),
    "lstm": lambda d: d["lstm"](d["heads"][0].transpose(0, 1)),
    "backward": lambda d: d["loss"].backward(retain_graph=True),
}


def step(d):
    weight = nn.Parameter(d["square"].clone())
    weight.grad = d["square"]
    optim.AdamW([weight]).step()


OPERATIONS["optimizer"] = step


def counted(operation, seconds=10.0):
    """Whether another thread ran during the operation. It runs only where the GIL is given away: none is taken by force.
    Tried for some seconds, as a short operation on a busy machine may be over before the other thread is awake."""
    count, stop, begun = 0, False, threading.Event()

    def work():
        nonlocal count
        begun.set()
        while not stop:
            count += 1
            time.sleep(0)

    old = sys.getswitchinterval()
    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    try:
        sys.setswitchinterval(1000.0)
        # Until the other has waited anew: it would still take the GIL after the old interval.
        before = count
        while count == before:
            time.sleep(0.001)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = count
            operation()
            if count > before:
                return True
        return False
    finally:
        sys.setswitchinterval(old)
        stop = True
        thread.join()


def test_the_counter_sees_who_holds_the_gil():
    assert not counted(lambda: sum(range(1 << 20)), 1.0)
    assert counted(lambda: time.sleep(0.01))


@pytest.mark.parametrize("name", OPERATIONS)
def test_another_thread_counts(name, data):
    assert counted(lambda: OPERATIONS[name](data)), f"{name} holds the GIL"


def test_another_thread_counts_while_files_are_written_and_read(data, tmp_path):
    path = tmp_path / "x.safetensors"
    assert counted(lambda: rl.save({"x": data["long"]}, path))
    assert counted(lambda: rl.load(path))
