"""What a type checker knows of the package: read by mypy (test_typing.py), and run as it is."""

from __future__ import annotations

from typing import Iterator, List, Tuple, Union

from typing_extensions import assert_type

import rushlight as rl
from rushlight import Tensor, nn, optim

Number = Union[bool, int, float]

x = rl.tensor([[1.0, 2.0], [3.0, 4.0]])
assert_type(x, Tensor)
assert_type(rl.zeros(2, 3, dtype=rl.float64), Tensor)
assert_type(rl.zeros((2, 3), dtype="float64"), Tensor)
assert_type(x.shape, Tuple[int, ...])
assert_type(x.size(), Tuple[int, ...])
assert_type(x.size(0), int)
assert_type(x.dtype, rl.dtype)
assert_type(x.sum().item(), Number)
assert_type(x.numel(), int)
assert_type(x.requires_grad, bool)
assert_type(x.grad, Union[Tensor, None])

# Operators take tensors and numbers of Python.
assert_type(x + 1, Tensor)
assert_type(2.0 * x, Tensor)
assert_type(x @ x, Tensor)
assert_type(x < 3, Tensor)
assert_type(x == 1.0, Tensor)
assert_type(-x, Tensor)
x += 1
assert_type(x, Tensor)
assert_type((x > 0) & (x < 9), Tensor)

# Indices.
assert_type(x[0], Tensor)
assert_type(x[:, ::2], Tensor)
assert_type(x[..., None, 0], Tensor)
assert_type(x[x > 1], Tensor)
assert_type(x[[0, 1], rl.tensor([1, 0])], Tensor)
x[0, 0] = 5.0
rows: Iterator[Tensor] = iter(x)

# Reductions: with a dim max has two results.
assert_type(x.sum(), Tensor)
assert_type(x.mean((0, 1), keepdim=True), Tensor)
assert_type(x.max(), Tensor)
assert_type(x.max(0).values, Tensor)
assert_type(x.max(dim=1, keepdim=True).indices, Tensor)
assert_type(x.max(x), Tensor)
assert_type(rl.min(x), Tensor)
assert_type(rl.min(x, 0).indices, Tensor)
assert_type(x.topk(1).values, Tensor)
assert_type(x.argmax(-1), Tensor)
assert_type(x.split([1, 1]), List[Tensor])
assert_type(rl.cat([x, x], 0), Tensor)
assert_type(x.clamp(min=0.0), Tensor)
assert_type(x.add_(1, alpha=2), Tensor)
assert_type(x.type(), str)
assert_type(x.type(rl.float32), Tensor)
assert_type(x.div(2, rounding_mode="floor"), Tensor)

# What is wrong is seen before it runs. A comment that is not needed is an error, so each of these is one.
if len(x.shape) > 9:
    x + "a"  # type: ignore[operator]
    x.sum("rows")  # type: ignore[arg-type]
    x.div(2, rounding_mode="ceil")  # type: ignore[arg-type]
    x.reshape(2.0)  # type: ignore[arg-type]
    x.unknown  # type: ignore[attr-defined]
    nn.functional.mse_loss(x, x, reduction="man")  # type: ignore[arg-type]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second.forward(self.first.forward(x).relu())


net = Net()
optimizer = optim.SGD(net.parameters(), lr=0.1)
optimizer.zero_grad()
loss = nn.functional.mse_loss(net.forward(x), rl.zeros(2, 1))
assert_type(loss, Tensor)
loss.backward()
optimizer.step()
assert_type([name for name, _ in net.named_parameters()], List[str])
for p in net.parameters():
    assert_type(p, nn.Parameter)
with rl.no_grad():
    assert_type(net.forward(x), Tensor)
