"""The soft gate and layers of gates, by their definitions; recurrent layers, PyTorch's own."""

import math

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recording import case, edge, normal
from transformer import layer_case


def gate(x, y, r):
    return x * torch.sigmoid(r) + y * (1 - torch.sigmoid(r))


# Layers of gates

class Gate(nn.Module):
    def __init__(self, scores):
        super().__init__()
        self.first, self.second, self.gate = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, scores)

    def forward(self, x):
        r = self.gate(x)
        return gate(self.first(x), self.second(x), r), torch.sigmoid(r)


class Highway(nn.Module):
    def __init__(self, width, layers, activation):
        super().__init__()
        parts = lambda: nn.ModuleDict(dict(transform=nn.Linear(width, width), gate=nn.Linear(width, width)))
        self.layers, self.activation = nn.ModuleList(parts() for _ in range(layers)), activation

    def forward(self, x):
        for layer in self.layers:
            x = gate(self.activation(layer["transform"](x)), x, layer["gate"](x))
        return x


class Mixture(nn.Module):
    def __init__(self, width, out, experts, top_k, renormalize):
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(nn.Linear(width, out) for _ in range(experts))
        self.top_k, self.renormalize = top_k, renormalize

    def forward(self, x):
        p = self.gate(x).softmax(-1)
        n = p.shape[-1]
        importance = p.reshape(-1, n).mean(0)
        if self.top_k is None:
            weights, used = p, importance
        else:
            kept = torch.zeros_like(p).scatter(-1, p.topk(self.top_k).indices, 1.0)
            weights = p * kept / ((p * kept).sum(-1, keepdim=True) if self.renormalize else 1)
            used = kept.reshape(-1, n).mean(0) / self.top_k
        y = sum(weights[..., i, None] * expert(x) for i, expert in enumerate(self.experts))
        return y, weights, n * (used * importance).sum()


def gates():
    for shapes in ([(2, 3)] * 3, [(2, 3), (3,), (2, 1)], [(1, 3), (2, 1), ()], [(), (1,), (2, 2)], [(2, 0), (1, 0), (1,)]):
        case("elementwise", "gate", gate, [normal(*shape, scale=2.0) for shape in shapes])
    values = [1.5, -2.0, math.inf, -math.inf, math.nan, 1e308, 0.0]
    scores = [0.0, 1.0, -1.0, 40.0, -40.0, 800.0, -800.0, math.inf, -math.inf, math.nan]
    every = [list(row) for row in zip(*((x, y, r) for x in values for y in values for r in scores))]
    edge("elementwise", "gate", gate, *every)

    record = lambda op, module, inputs, **args: layer_case(op, module, inputs, file="gates", **args)
    for scores in (1, 2):
        record("gate", Gate(scores), [normal(2, 3, 3)], scores=scores)
    for layers, activation in ((1, "tanh"), (3, "relu")):
        act = getattr(torch, activation)
        record("highway", Highway(3, layers, act), [normal(2, 2, 3)], layers=layers, activation=activation)
    for top_k, renormalize in ((None, True), (1, True), (2, True), (3, True), (1, False), (2, False)):
        args = dict(top_k=top_k, renormalize=renormalize)
        record("mixture", Mixture(3, 2, 4, **args), [normal(2, 4, 3)], **args)


# Recurrent layers

def sequences(kind, **options):
    """A layer that takes its states one by one, and rows of `lengths`."""
    class Recurrent(kind):
        def forward(self, x, *state, lengths=None):
            state = (state if kind is nn.LSTM else state[0]) if state else None
            if lengths is None:
                y, state = super().forward(x, state)
            else:
                packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
                y, state = super().forward(packed, state)
                y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
            return (y, *state) if kind is nn.LSTM else (y, state)

    return Recurrent(3, 2, batch_first=True, **options)


def cell(kind, **options):
    class Cell(kind):
        def forward(self, x, *state):
            state = (state if kind is nn.LSTMCell else state[0]) if state else None
            return super().forward(x, state)

    return Cell(3, 2, **options)


def recurrent():
    batch, steps = 3, 4
    kinds = [
        ("rnn", nn.RNN, dict(nonlinearity="tanh")), ("rnn", nn.RNN, dict(nonlinearity="relu")),
        ("gru", nn.GRU, {}), ("lstm", nn.LSTM, {})]
    for op, kind, own in kinds:
        for options, lengths, given in (
                (dict(num_layers=1), None, False), (dict(num_layers=2, bidirectional=True), None, True),
                (dict(num_layers=1, bias=False), None, True), (dict(num_layers=2), [2, 4, 1], False),
                (dict(num_layers=2, bidirectional=True), [3, 1, 2], True)):
            ways = options["num_layers"] * (1 + options.get("bidirectional", False))
            states = [normal(ways, batch, 2)] * (given * (1 + (op == "lstm")))
            call = dict if lengths is None else lambda lengths=lengths: dict(lengths=lengths)
            layer_case(op, sequences(kind, **own, **options), [normal(batch, steps, 3)] + states, call=call,
                       file="recurrent", lengths=lengths, **own, **options)
    cells = [
        ("rnn_cell", nn.RNNCell, dict(nonlinearity="tanh")), ("rnn_cell", nn.RNNCell, dict(nonlinearity="relu")),
        ("gru_cell", nn.GRUCell, {}), ("lstm_cell", nn.LSTMCell, {})]
    for op, kind, own in cells:
        for bias, given in ((True, True), (False, False)):
            states = [normal(batch, 2)] * (given * (1 + (op == "lstm_cell")))
            layer_case(op, cell(kind, bias=bias, **own), [normal(batch, 3)] + states, file="recurrent", bias=bias, **own)
