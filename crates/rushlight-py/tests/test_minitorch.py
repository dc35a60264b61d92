"""The course's interface: what its own tests (course_tests.sh) would see, and where it is meant to differ."""

import math
import random
import subprocess
import sys

import pytest

import rushlight as rl
from rushlight import minitorch
from rushlight.minitorch import MathTest, MathTestVariable, Parameter, Scalar, TensorData, grad_check, operators

one, two, red = MathTestVariable._comp_testing()
BACKENDS = [minitorch.TensorBackend(minitorch.SimpleOps), minitorch.TensorBackend(minitorch.FastOps)]


def numbers(*shape, backend=None):
    values = [random.uniform(-20, 20) for _ in range(int(operators.prod(shape)))]
    return minitorch.Tensor.make(values, shape, backend=backend)


@pytest.mark.parametrize("name,base,fn", one)
def test_functions_of_one(name, base, fn):
    for value in (-20.5, -1.0, -0.1, 0.0, 0.7, 3.0, 20.0):
        assert fn(Scalar(value)).data == pytest.approx(base(value), rel=1e-12)
        minitorch.derivative_check(fn, Scalar(value))
    for backend in BACKENDS:
        x = numbers(2, 3, backend=backend)
        y = fn(x)
        assert y.backend is backend
        assert all(y[i] == pytest.approx(base(x[i]), rel=1e-9, abs=1e-60) for i in x._tensor.indices())
        grad_check(fn, x.permute(1, 0))


@pytest.mark.parametrize("name,base,fn", two)
def test_functions_of_two(name, base, fn):
    for a, b in ((-2.0, 3.0), (0.5, 0.25), (4.0, 4.0 - math.pi / 10)):
        assert fn(Scalar(a), Scalar(b)).data == pytest.approx(base(a, b))
        if name not in ("eq2", "lt2", "gt2"):
            minitorch.derivative_check(fn, Scalar(a), Scalar(b))
    for x, y in ((numbers(2, 3), numbers(2, 3)), (numbers(2, 3), numbers(3)), (numbers(2, 1), numbers(1, 3))):
        z = fn(x, y)
        assert z.shape == (2, 3)
        grad_check(fn, x, y)
    with pytest.raises(minitorch.IndexingError, match="broadcast"):
        fn(numbers(2, 3), numbers(2))


@pytest.mark.parametrize("name,base,fn", red)
def test_reductions(name, base, fn):
    x = numbers(4, 3)
    y = fn(x)
    assert y.shape == (1, 3)
    assert y[0, 1] == pytest.approx(base([x[i, 1] for i in range(4)]))
    grad_check(fn, x)


def test_a_function_of_ones_own_is_called_for_each_element():
    ops = minitorch.FastOps
    x, y = numbers(2, 3), numbers(3)
    assert ops.map(lambda v: v + 1)(x)[1, 2] == x[1, 2] + 1
    assert ops.zip(lambda v, w: v - w)(x, y)[1, 2] == x[1, 2] - y[2]
    assert ops.reduce(lambda v, w: v + 2 * w, 1.0)(x, 0)[0, 2] == 1 + 2 * x[0, 2] + 2 * x[1, 2]
    assert ops.reduce(operators.max, 1e9)(x, 1)[1, 0] == 1e9
    out = x.zeros()
    assert ops.map(operators.neg)(x, out) is out and out[0, 0] == -x[0, 0]


def test_a_function_with_a_gradient_of_its_own():
    class Double(minitorch.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a.f.add_zip(a, a)

        @staticmethod
        def backward(ctx, d):
            assert len(ctx.saved_values) == 1
            return d * 2.0

    grad_check(Double.apply, numbers(2, 2))


def test_tensor_data():
    data = TensorData(range(6), (2, 3), (1, 2))
    assert [data.get(i) for i in data.indices()] == [0, 2, 4, 1, 3, 5]
    assert not data.is_contiguous() and data.permute(1, 0).is_contiguous()
    assert all(0 <= i < n for i, n in zip(data.sample(), data.shape))
    out = [0, 0]
    minitorch.to_index(4, (2, 3), out)
    assert out == [1, 1] and minitorch.index_to_position(out, (3, 1)) == 4
    minitorch.broadcast_index((4, 1, 2), (5, 2, 3), (1, 3), out)
    assert out == [0, 2]
    assert minitorch.strides_from_shape((4, 2, 3)) == (6, 3, 1)
    for bad in ((2, 0, 0), (0,), (-1, 0), (2, 0), (0, 3)):
        with pytest.raises(minitorch.IndexingError):
            data.index(bad)
    with pytest.raises(minitorch.IndexingError):
        TensorData(range(6), (2, 3), (1,))
    with pytest.raises(minitorch.IndexingError):
        TensorData(range(6), (4, 3))
    with pytest.raises(minitorch.IndexingError, match="contiguous"):
        numbers(2, 3).permute(1, 0).view(6)


def test_views_and_products():
    x = numbers(2, 3, 4)
    grad_check(lambda a: a.permute(2, 0, 1).contiguous().view(8, 3), x)
    a, b = numbers(5, 2, 3), numbers(1, 3, 4)
    assert (a @ b).shape == (5, 2, 4)
    assert (a @ b)[3, 1, 2] == pytest.approx(sum(a[3, 1, k] * b[0, k, 2] for k in range(3)))
    grad_check(lambda a, b: a @ b, a, b)
    assert x.to_numpy().shape == (2, 3, 4) and x.mean().shape == (1,)


def test_convolutions_begin_at_their_place():
    out = minitorch.conv1d(numbers(1, 1, 4) * 0 + 1, minitorch.tensor([[[1, 10, 100]]]))
    assert [out[0, 0, i] for i in range(4)] == [111, 111, 11, 1]
    grad_check(minitorch.conv1d, numbers(2, 2, 6), numbers(3, 2, 2))
    grad_check(minitorch.conv2d, numbers(2, 2, 5, 4), numbers(3, 2, 2, 3))


def test_pools_and_softmax():
    x = minitorch.tensor([[[[0, 1, 5, 2], [3, 2, 4, 5]]]])
    assert minitorch.maxpool2d(x, (2, 2)).view(2).to_numpy().tolist() == [3, 5]
    assert minitorch.avgpool2d(x, (2, 2)).view(2).to_numpy().tolist() == [1.5, 4]
    y = numbers(2, 3, 4, 4)
    for f in (minitorch.avgpool2d, minitorch.maxpool2d):
        grad_check(lambda a: f(a, (2, 4)), y)
    for f in (minitorch.softmax, minitorch.logsoftmax, minitorch.max):
        grad_check(lambda a: f(a, 1), y)
    assert minitorch.softmax(y * 1000.0, 1).sum(1)[0, 0, 0, 0] == pytest.approx(1)
    with pytest.raises(ValueError, match="divide"):
        minitorch.maxpool2d(y, (3, 2))


def test_a_tie_gives_its_gradient_to_one():
    x = minitorch.tensor([[2, 5, 5]], requires_grad=True)
    minitorch.max(x, 1).backward()
    assert x.grad.to_numpy().tolist() == [[0, 1, 0]]


def test_dropout_keeps_the_mean_and_is_off_in_validation():
    rl.manual_seed(0)
    x = minitorch.tensor([1.0] * 10_000)
    y = minitorch.dropout(x, 0.25)
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert sorted(set(y.to_numpy().tolist())) == pytest.approx([0, 4 / 3])
    assert minitorch.dropout(x, 0.25, ignore=True) is x
    assert minitorch.dropout(x, 1.0).sum().item() == 0


def test_requires_grad_false_makes_a_constant():
    a, b = Scalar(2.0), Scalar(3.0)
    b.requires_grad_(False)
    (a * b).backward()
    assert a.derivative == 3 and b.derivative is None
    x, y = minitorch.tensor([2.0], requires_grad=True), minitorch.tensor([3.0], requires_grad=True)
    y.requires_grad_(False)
    (x * y).backward()
    assert x.grad.item() == 3 and y.grad is None
    assert (y * 2.0).is_constant()


def test_modules():
    class Inner(minitorch.Module):
        def __init__(self):
            super().__init__()
            self.p = Parameter(minitorch.tensor([1.0]))

        def forward(self, x):
            return x * self.p.value

    class Outer(minitorch.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.other = Inner(), 5
            self.add_parameter("q", Scalar(2.0))

    m = Outer()
    assert [n for n, _ in m.named_parameters()] == ["q", "inner.p"]
    assert m.other == 5 and m.q.value.data == 2 and "Inner" in repr(m)
    m.eval()
    assert not m.inner.training
    assert m.inner.p.value.name == "1" or not m.inner.p.value.is_constant()
    assert m.inner(minitorch.tensor([3.0])).item() == 3
    with pytest.raises(AttributeError, match="nothing"):
        m.nothing
    with pytest.raises(NotImplementedError, match="Outer"):
        m()


def test_a_deep_graph_needs_no_deep_stack():
    x = y = Scalar(1.0)
    for _ in range(5000):
        y = y + 1.0
    y.backward()
    assert x.derivative == 1


def test_a_network_learns_xor():
    random.seed(0)
    rl.manual_seed(0)
    points = minitorch.datasets["Xor"](60)
    assert points.N == 60 and set(points.y) == {0, 1}
    x, y = minitorch.tensor([list(p) for p in points.X]), minitorch.tensor([[float(c)] for c in points.y])

    class Net(minitorch.Module):
        def __init__(self):
            super().__init__()
            self.w1, self.b1 = Parameter(self.random(2, 16)), Parameter(self.random(1, 16))
            self.w2, self.b2 = Parameter(self.random(16, 1)), Parameter(self.random(1, 1))

        def random(self, *shape):
            return (minitorch.rand(shape) - 0.5) * 2.0

        def forward(self, x):
            hidden = (x @ self.w1.value + self.b1.value).relu()
            return (hidden @ self.w2.value + self.b2.value).sigmoid()

    net = Net()
    optimizer = minitorch.SGD(net.parameters(), lr=0.5)
    for _ in range(1500):
        optimizer.zero_grad()
        p = net(x)
        loss = -(y * p.log() + (1.0 - y) * (1.0 - p).log()).mean()
        loss.backward()
        optimizer.step()
    right = sum((p > 0.5) == (c == 1) for p, c in zip(net(x).to_numpy().ravel(), points.y))
    assert right >= 57


@pytest.mark.parametrize("name", sorted(minitorch.datasets))
def test_point_sets(name):
    graph = minitorch.datasets[name](50)
    assert len(graph.X) == len(graph.y) == 50
    assert all(-0.1 <= v <= 1.1 for p in graph.X for v in p)


def test_the_alias():
    code = (
        "import rushlight.minitorch; rushlight.minitorch.install()\n"
        "import minitorch, minitorch.operators\nfrom minitorch.operators import add\n"
        "assert minitorch is rushlight.minitorch and minitorch.FastOps.zip(add)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_operators_at_their_ends():
    assert operators.exp(1000) == math.inf and operators.sigmoid(-1000) == 0 and operators.sigmoid(1000) == 1
    assert MathTest._tests()[1]
