"""What Python expects: autograd, modules, exchange without copies, copies, threads, files, and that nothing ends the process."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import rushlight as rl


def test_gradients_add_up_and_modes_nest():
    x = rl.tensor([2.0, 3.0], requires_grad=True)
    (x * x).sum().backward()
    grad = x.grad
    (x * x).sum().backward()
    assert x.grad is grad and grad.tolist() == [8.0, 12.0]
    with rl.no_grad():
        assert not (x * 2).requires_grad
        with rl.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad and rl.no_grad()(lambda: x * 2)().requires_grad is False
    y = (x * x).sum()
    y.backward()
    with pytest.raises(ValueError, match="freed"):
        y.backward()


def test_in_place_on_a_leaf_and_what_was_saved():
    x = rl.tensor([2.0], requires_grad=True)
    with pytest.raises(ValueError, match="leaf"):
        x += 1
    y = (x * x).sum()
    with rl.no_grad():
        x += 1
    y.backward()
    assert x.grad.item() == 4.0 and x.item() == 3.0 and x.is_leaf
    x.data.mul_(2)
    assert x.item() == 6.0
    z = x * 2
    z += 1
    z.sum().backward()
    assert x.grad.item() == 6.0


def test_hooks_functions_and_their_exceptions():
    x = rl.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    handle = y.register_hook(lambda g: g * 10)
    y.retain_grad()
    y.sum().backward()
    assert x.grad.tolist() == [30.0, 30.0] and y.grad.tolist() == [10.0, 10.0]
    handle.remove()

    class Bad(rl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x + 1

        @staticmethod
        def backward(ctx, a, b):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Bad.apply(x)[0].sum().backward()


def test_second_gradients_and_gradcheck():
    x = rl.rand(3, dtype=rl.float64, requires_grad=True)
    (g,) = rl.autograd.grad((x**3).sum(), x, create_graph=True)
    (h,) = rl.autograd.grad(g.sum(), x)
    assert rl.allclose(h, 6 * x.detach())
    assert rl.autograd.gradcheck(lambda x: x.sin() * x, [x])

    class Wrong(rl.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return 3 * ctx.saved_tensors[0] * g

    with pytest.raises(ValueError, match="central difference"):
        rl.autograd.gradcheck(Wrong.apply, [x])


def test_modules():
    class Net(rl.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = rl.nn.Linear(3, 4)
            self.norm = rl.nn.BatchNorm1d(4)
            self.scale = rl.nn.Parameter(rl.ones(1))

        def forward(self, x):
            return self.norm(self.a(x)) * self.scale

    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "a.weight", "a.bias", "norm.weight", "norm.bias"]
    net(rl.randn(8, 3)).sum().backward()
    assert net.norm.num_batches_tracked.item() == 1 and net.a.weight.grad.shape == (4, 3)
    other = copy.deepcopy(net)
    assert other.a.weight is not net.a.weight and rl.equal(other.a.weight, net.a.weight)
    again = pickle.loads(pickle.dumps(net.state_dict()))
    other.load_state_dict(again)
    with pytest.raises(ValueError, match="missing a.bias"):
        other.load_state_dict({k: v for k, v in again.items() if k != "a.bias"})
    assert "(a): Linear(in_features=3" in repr(net) and not net.eval().norm.training
    net.double()
    assert net.a.weight.dtype is rl.float64 and net.a.weight.requires_grad
    assert pickle.loads(pickle.dumps(rl.nn.LSTM(2, 3)))(rl.randn(4, 1, 2))[0].shape == (4, 1, 3)


def test_exchange_without_copies():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    t = rl.from_numpy(array)
    assert t.numpy().ctypes.data == array.ctypes.data
    assert rl.ones(3, 4).T[::2].numpy().shape == (2, 3)
    assert not t.numpy().flags.writeable
    t[0] = 5
    assert array[0, 1] == 1 and t[0, 1].item() == 5, "writing to the tensor copies first"
    view = rl.arange(6.0).numpy()
    gc.collect()
    np.testing.assert_array_equal(view, np.arange(6))
    np.testing.assert_array_equal(np.from_dlpack(rl.arange(6.0)[::2]), [0, 2, 4])
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6.0).reshape(2, 3)
    assert rl.from_dlpack(theirs).tolist() == theirs.tolist() and rl.from_dlpack(theirs.T).tolist() == theirs.T.tolist()
    assert torch.from_dlpack(rl.ones(2, 3)).sum() == 6
    for name in ("float64", "bfloat16", "float16", "int64", "uint8", "bool"):
        x = torch.ones(3).to(getattr(torch, name))
        assert rl.from_dlpack(x).tolist() == x.tolist() and torch.from_dlpack(rl.from_dlpack(x)).dtype == x.dtype
    with pytest.raises(ValueError, match="requires grad"):
        rl.ones(2, requires_grad=True).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16", "int64", "uint8", "bool"])
def test_pickle_lists_and_copies(dtype):
    x = rl.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(rl, dtype))
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), rl.tensor(x.tolist(), dtype=x.dtype)):
        assert y.dtype is x.dtype and y.tolist() == x.tolist()
    assert pickle.loads(pickle.dumps(x.dtype)) is x.dtype
    assert [row.tolist() for row in x] == x.tolist() and len(x) == 2


def test_files_and_data(tmp_path):
    state = {"a": rl.randn(2, 3), "b": rl.tensor([1, 2])}
    rl.save(state, tmp_path / "x.safetensors")
    loaded = rl.load(tmp_path / "x.safetensors")
    assert all(rl.equal(loaded[k], v) for k, v in state.items())
    loader = rl.utils.data.DataLoader([(rl.ones(3) * i, i) for i in range(10)], batch_size=4, shuffle=True)
    batches = list(loader)
    assert len(loader) == 3 and batches[0][0].shape == (4, 3) and sorted(sum((b[1].tolist() for b in batches), [])) == list(range(10))
    assert len(list(rl.utils.data.DataLoader(rl.utils.data.TensorDataset(rl.ones(5, 2), rl.arange(5)), 2))) == 3


def test_optimizers_refuse_what_would_spoil_parameters():
    p, q = (rl.ones(2, requires_grad=True) for _ in range(2))
    for params in ([p, q, p], [{"params": [p]}, {"params": [q, p]}]):
        with pytest.raises(ValueError, match="twice"):
            rl.optim.SGD(params, lr=0.5)
    with pytest.raises(TypeError, match="list of parameters"):
        rl.optim.SGD(p, lr=0.5)
    for grad in (rl.tensor([1, 1]), rl.ones(2, dtype=rl.float64)):
        with pytest.raises(TypeError, match="cast it"):
            q.grad = grad
    p.grad, q.grad = rl.ones(2), rl.ones(2)
    rl.optim.SGD([p, q], lr=0.5).step()
    assert p.tolist() == q.tolist() == [0.5, 0.5]


def test_pictures():
    assert "<table>" in rl.ones(2, 2)._repr_html_() and "<svg" in rl.rand(3, 3).picture().svg


def test_the_gil_is_free_in_long_operations():
    x, ticks, done = rl.randn(1500, 1500), [0], []

    def count():
        while not done:
            ticks[0] += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(5):
        x @ x
    done.append(True)
    thread.join()
    assert ticks[0] > 5


def test_nothing_ends_the_process():
    code = """
import rushlight as rl
def deep(n):
    x = []
    for _ in range(n): x = [x]
    return x
x = rl.ones(2, 2)
for _ in range(20000): x = x[:]
y = rl.ones(1, requires_grad=True); z = y
for _ in range(20000): z = z + 1
z.backward()
bad = [lambda: rl.tensor(deep(100000)), lambda: rl.zeros(1 << 62), lambda: rl.zeros(-1), lambda: rl.ones(2).reshape(1 << 62, -1),
       lambda: rl.arange(0, 1e300), lambda: rl.ones(2).as_strided((9, 9), (1 << 60, 1)), lambda: rl.eye(1 << 40), lambda: rl.ones(0).max(),
       lambda: rl.ones(3).repeat_interleave(1 << 62), lambda: rl.functional.conv2d(rl.ones(1, 1, 2, 2), rl.ones(1, 1, 3, 3)),
       lambda: rl.ones(2, 2).topk(5), lambda: rl.randint(5, 5, (2,)), lambda: rl.functional.one_hot(rl.tensor([1 << 62])),
       lambda: rl.ones(3)[:: 0], lambda: rl.ones(3).unfold(0, 5, 1), lambda: rl.functional.embedding(rl.tensor([9]), rl.ones(2, 2))]
for f in bad:
    try: f()
    except Exception as e: pass
    else: raise SystemExit(f"no error: {bad.index(f)}")
print("alive")
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert out.stdout.strip() == "alive", out.stderr + out.stdout


def test_more_than_memory_is_a_memory_error():
    code = """
import rushlight as rl
many = 1 << 45
x, none, true = rl.ones(1).expand(many), rl.zeros(many, 0), rl.tensor([True]).expand(many)
bad = [lambda: x.tolist(), lambda: none.tolist(), lambda: bytes(x), lambda: rl.tensor([1]).expand(many) << 1, lambda: x.unbind(),
       lambda: none.unbind(), lambda: x.split(1), lambda: x.chunk(many), lambda: true.nonzero(), lambda: x.masked_select(true),
       lambda: x[true], lambda: x + 1, lambda: rl.nn.functional.pad(rl.ones(3), (many, 0), "replicate"), lambda: rl.randperm(many),
       lambda: rl.nn.functional.pad(x, (1, 1), "circular"), lambda: rl.nn.functional.pad(x, (1, 1), "reflect")]
for i, f in enumerate(bad):
    try: f()
    except MemoryError: pass
    else: raise SystemExit(f"no error: {i}")
assert (none.unsqueeze(2) @ none.unsqueeze(1)).shape == (many, 0, 0)
print("alive")
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert out.stdout.strip() == "alive", out.stderr + out.stdout


def test_memoryview_by_way_of_numpy_shares_memory():
    x = rl.tensor([[1.0, 2.0], [3.0, 4.0]])
    view = memoryview(x.numpy())
    assert view.readonly and view.format == "f" and view.shape == (2, 2) and view.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    x.add_(1)
    array = x.numpy()
    assert np.asarray(memoryview(array)).__array_interface__["data"][0] == array.__array_interface__["data"][0]


def test_a_module_holds_modules_alone():
    for make in (lambda: rl.nn.ModuleList([1]), lambda: rl.nn.Sequential(rl.nn.ReLU(), "relu"), lambda: rl.nn.ModuleList(range(2**60)),
                 lambda: rl.nn.MixtureOfExperts(rl.nn.Linear(2, 2), range(2**60)), lambda: rl.nn.Module().add_module("x", rl.ones(2))):
        with pytest.raises(TypeError, match="is not a Module"):
            make()
    empty = rl.nn.Module()
    empty.add_module("nothing", None)
    assert empty.nothing is None
