"""The rows of the benchmark in PyTorch, as a server of the line protocol (src/serve.rs).

    python torch_rows.py THREADS SECONDS

prints who it is and the rows it has, then answers each name of a row on stdin with one line of JSON: the best and the
median time of a call, and the peak of the process's memory. The timing is that of src/measure.rs.
"""

import ctypes
import gc
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

ROWS = {}


def row(name):
    """Registers what makes the inputs of a row and returns its step."""

    def register(make):
        assert name not in ROWS, name
        ROWS[name] = make
        return make

    return register


def forward(f, *inputs):
    """The step that only computes `f`, of inputs that nothing tracks."""
    return lambda: f(*inputs)


def forward_backward(f, *inputs):
    """The step there and back: to the inputs' gradients, from a gradient of ones."""
    for x in inputs:
        x.requires_grad_()

    def step():
        for x in inputs:
            x.grad = None
        y = f(*inputs)
        y.backward(torch.ones_like(y))

    return step


# Products.


def square(n, dtype):
    return forward(torch.matmul, torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype))


row("matmul_f32_64")(lambda: square(64, torch.float32))
row("matmul_f32_256")(lambda: square(256, torch.float32))
row("matmul_f32_1024")(lambda: square(1024, torch.float32))
row("matmul_f32_2048")(lambda: square(2048, torch.float32))
row("matmul_bf16_1024")(lambda: square(1024, torch.bfloat16))
row("matmul_f64_1024")(lambda: square(1024, torch.float64))
row("bmm_96x256x64x256")(lambda: forward(torch.matmul, torch.randn(96, 256, 64), torch.randn(96, 64, 256)))

# Maps.

N = 1 << 24
row("ew_add_16M")(lambda: forward(torch.add, torch.randn(N), torch.randn(N)))
row("ew_gelu_tanh_16M")(lambda: forward(lambda x: F.gelu(x, approximate="tanh"), torch.randn(N)))
row("ew_exp_16M")(lambda: forward(torch.exp, torch.randn(N)))
row("ew_broadcast_add_4096x4096")(lambda: forward(torch.add, torch.randn(4096, 1), torch.randn(1, 4096)))


@row("ew_add_1K")
def _():
    # Without the unpacking of `forward`, which would be a part of the time.
    x, y = torch.randn(1024), torch.randn(1024)
    return lambda: x + y


# Reductions.


def reduction(f):
    return lambda: forward(f, torch.randn(4096, 4096))


row("sum_all_16M")(reduction(lambda x: x.sum()))
row("sum_dim0")(reduction(lambda x: x.sum(0)))
row("sum_dim1")(reduction(lambda x: x.sum(1)))
row("max_dim1")(reduction(lambda x: x.max(1)))
row("max_dim0")(reduction(lambda x: x.max(0)))
row("argmax_dim1")(reduction(lambda x: x.argmax(1)))

# Softmax and its like.

row("softmax_fwd_8192x1024")(lambda: forward(lambda x: x.softmax(-1), torch.randn(8192, 1024)))
row("softmax_fb_8192x1024")(lambda: forward_backward(lambda x: x.softmax(-1), torch.randn(8192, 1024)))
row("logsoftmax_fb_8192x1024")(lambda: forward_backward(lambda x: x.log_softmax(-1), torch.randn(8192, 1024)))


@row("cross_entropy_fb_1024x50257")
def _():
    target = torch.randint(0, 50257, (1024,))
    return forward_backward(lambda logits: F.cross_entropy(logits, target), torch.randn(1024, 50257))


# Pools.

IMAGES = (32, 64, 56, 56)
row("maxpool2_fwd_32x64x56x56")(lambda: forward(lambda x: F.max_pool2d(x, 2), torch.randn(IMAGES)))
row("maxpool2_fb")(lambda: forward_backward(lambda x: F.max_pool2d(x, 2), torch.randn(IMAGES)))
row("maxpool3s2p1_fb")(lambda: forward_backward(lambda x: F.max_pool2d(x, 3, 2, 1), torch.randn(IMAGES)))
row("avgpool2_fb")(lambda: forward_backward(lambda x: F.avg_pool2d(x, 2), torch.randn(IMAGES)))

# Norms.


@row("layernorm_fb_8192x768")
def _():
    f = lambda x, weight, bias: F.layer_norm(x, (768,), weight, bias)
    return forward_backward(f, torch.randn(8192, 768), torch.ones(768), torch.zeros(768))


# Convolutions.


def convolution(batch, channels, size, out, kernel, stride, padding):
    f = lambda x, w: F.conv2d(x, w, stride=stride, padding=padding)
    inputs = lambda: (torch.randn(batch, channels, size, size), torch.randn(out, channels, kernel, kernel))
    shape = f"{batch}x{channels}x{size}_k{kernel}s{stride}_co{out}"
    row(f"conv2d_fwd_{shape}")(lambda: forward(f, *inputs()))
    row(f"conv2d_fb_{shape}")(lambda: forward_backward(f, *inputs()))


convolution(32, 3, 112, out=64, kernel=7, stride=2, padding=3)
convolution(32, 64, 56, out=64, kernel=3, stride=1, padding=1)
convolution(32, 256, 14, out=256, kernel=3, stride=1, padding=1)
convolution(64, 1, 28, out=32, kernel=3, stride=1, padding=1)

# Optimizers.


@row("adamw_32M")
def _():
    parameters = [torch.randn(1 << 20, requires_grad=True) for _ in range(32)]
    for p in parameters:
        p.grad = torch.randn_like(p)
    # The fastest of its forms.
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True).step


# Steps of training.


def training(model, optimizer, loss, x, y, mixed=False):
    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            error = loss(model(x), y)
        error.backward()
        optimizer.step()

    return step


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.dense = nn.Linear(64 * 7 * 7, 128)
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # [B, 32, 14, 14]
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # [B, 64, 7, 7]
        x = F.relu(self.dense(x.flatten(1)))  # [B, 128]
        return self.out(self.dropout(x))  # [B, 10]


@row("lenet_train_step_b64")
def _():
    model = LeNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
    return training(model, optimizer, F.cross_entropy, x, y)


@row("mlp_tiny_train_step")
def _():
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x, y = torch.randn(50, 2), torch.rand(50, 1).round()
    return training(model, optimizer, F.binary_cross_entropy_with_logits, x, y)


class Block(nn.Module):
    """Causal attention, then a network for each place, each behind a norm and added to what comes in."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, T, C / heads] each
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(b, t, c))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, vocabulary, places, layers, width, heads):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(places, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight).flatten(0, 1)  # [B · T, vocabulary]


def gpt(name, batch, places, vocabulary, layers, width, heads, mixed=False):
    @row(name)
    def _():
        model = Gpt(vocabulary, places, layers, width, heads)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        x, y = torch.randint(0, vocabulary, (batch, places)), torch.randint(0, vocabulary, (batch * places,))
        return training(model, optimizer, F.cross_entropy, x, y, mixed)


gpt("gpt_tiny_train_step_B12_T64", 12, 64, 65, 4, 128, 4)
gpt("gpt_char_train_step_B16_T256", 16, 256, 65, 6, 384, 6)
gpt("gpt_124M_train_step_B4_T64", 4, 64, 50257, 12, 768, 12)
gpt("gpt_124M_train_step_B4_T256", 4, 256, 50257, 12, 768, 12)
gpt("gpt_char_bf16_train_step_B16_T256", 16, 256, 65, 6, 384, 6, mixed=True)
gpt("gpt_124M_bf16_train_step_B4_T64", 4, 64, 50257, 12, 768, 12, mixed=True)

# Attention.

CAUSAL = dict(is_causal=True)


def attention(pass_, f, *shape):
    name = f"sdpa_causal_{pass_}_" + "x".join(map(str, shape))
    row(name)(lambda: f(lambda *qkv: F.scaled_dot_product_attention(*qkv, **CAUSAL), *torch.randn(3, *shape)))


def leaves(f, *inputs):
    return forward_backward(f, *(x.clone() for x in inputs))


for shape in ((4, 12, 1024, 64), (8, 6, 256, 64)):
    attention("fwd", forward, *shape)
    attention("fb", leaves, *shape)

# How cost grows (src/rows/growth.rs).

for batch, places in [(4, t) for t in (128, 256, 512, 1024, 2048)] + [(b, 128) for b in (1, 2, 8, 16, 32, 64)]:
    gpt(f"growth_gpt_B{batch}_T{places}", batch, places, 65, 6, 384, 6)

for places in (512, 1024, 2048, 4096, 8192):
    f = lambda *qkv: F.scaled_dot_product_attention(*qkv, **CAUSAL)
    row(f"growth_attention_T{places}")(lambda t=places: leaves(f, *torch.randn(3, 1, 6, t, 64)))


# Timing: the constants and rules of src/measure.rs.

SAMPLE, WARM_UPS, FEWEST = 1e-3, 3, 3


def measure(seconds, step):
    """The best and the median seconds of a call."""
    now = time.perf_counter
    begin, shortest, calls, passed = now(), math.inf, 0, 0.0
    while not (calls >= WARM_UPS and passed >= seconds / 5) and passed < 4 * seconds:
        start = now()
        step()
        end = now()
        shortest, calls, passed = min(shortest, end - start), calls + 1, end - begin
    calls = range(max(1, math.ceil(SAMPLE / max(shortest, 1e-9))))
    samples, begin = [], now()
    while len(samples) < FEWEST or now() - begin < seconds:
        start = now()
        for _ in calls:
            step()
        samples.append((now() - start) / len(calls))
    samples.sort()
    return samples[0], samples[len(samples) // 2]


def free():
    """Gives what earlier rows left back to the system."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        pass  # not glibc


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def memory(field):
    """Bytes of `VmHWM` or `VmRSS`; None but on Linux."""
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith(field))
    except (OSError, StopIteration):
        return None


def answer(name, seconds):
    free()
    reset_peak()
    base = memory("VmRSS")
    try:
        best, median = measure(seconds, ROWS[name]())
    except Exception as e:
        return {"row": name, "error": f"{type(e).__name__}: {e}"}
    return {"row": name, "best": best, "median": median, "peak_rss": memory("VmHWM"), "base_rss": base}


def main():
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    hello = {"name": "PyTorch", "version": torch.__version__, "threads": torch.get_num_threads(), "rows": list(ROWS)}
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line.rstrip("\n"), seconds)), flush=True)


if __name__ == "__main__":
    main()
