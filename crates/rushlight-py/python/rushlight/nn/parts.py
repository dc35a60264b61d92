"""Layers of the Rust library that consist of several: recurrent, attention, Transformer."""

from __future__ import annotations

from typing import Any

from .. import _rushlight as _r
from .._rushlight import Tensor
from .containers import ModuleList
from .modules import Module, Parameter

__all__ = [
    "RNN", "GRU", "LSTM", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer", "TransformerEncoder",
    "TransformerDecoder",
]


class _Part(Module):
    """A Rust layer whose parameters are this module's, by the layer's dotted names."""

    def __init__(self, kind: str, input: int, hidden: int, **settings: Any) -> None:
        super().__init__()
        self._kind, self._sizes = kind, (input, hidden)
        self._settings = {k: v for k, v in settings.items() if v is not None}
        self.__dict__["_layer"] = _r._Layer(kind, input, hidden, self._settings)
        self._paths: list[list[str]] = []
        for name, value in self._layer.parameters():
            *path, last = name.split(".")
            at: Module = self
            for part in path:
                if part not in at._modules:
                    at.add_module(part, Module())
                at = at._modules[part]  # type: ignore[assignment]
            at.register_parameter(last, Parameter(value))
            self._paths.append([*path, last])

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_layer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__["_layer"] = _r._Layer(self._kind, *self._sizes, self._settings)

    def _values(self) -> list[Any]:
        out = []
        for *path, last in self._paths:
            at: Any = self
            for part in path:
                at = at._modules[part]
            out.append(at._parameters[last])
        return out

    def _run(self, x: Tensor, **inputs: Any) -> list[Tensor]:
        return self._layer.forward(self._values(), self.training, x, **inputs)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return ", ".join([*map(str, self._sizes), *(f"{k}={v}" for k, v in self._settings.items())])


class _Recurrent(_Part):
    def __init__(
        self, kind: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, nonlinearity: str | None = None,
    ) -> None:
        super().__init__(
            kind, input_size, hidden_size, num_layers=num_layers, bias=bias, dropout=dropout, bidirectional=bidirectional,
            nonlinearity=nonlinearity,
        )
        self.input_size, self.hidden_size, self.batch_first = input_size, hidden_size, batch_first

    def _steps(self, input: Tensor, lengths: Any, a: Tensor | None, b: Tensor | None = None) -> list[Tensor]:
        flat = input.ndim == 2
        x = input.unsqueeze(0) if flat else input if self.batch_first else input.transpose(0, 1)
        if flat:
            a, b = (None if s is None else s.unsqueeze(1) for s in (a, b))
        lengths = lengths.tolist() if isinstance(lengths, Tensor) else lengths
        y, *states = self._run(x, a=a, b=b, lengths=lengths)
        if flat:
            return [y.squeeze(0), *(s.squeeze(1) for s in states)]
        return [y if self.batch_first else y.transpose(0, 1), *states]


class RNN(_Recurrent):
    """Elman's network: ``h = tanh(W x + b + U h + c)``."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", **kwargs: Any) -> None:
        super().__init__("rnn", input_size, hidden_size, num_layers, nonlinearity=nonlinearity, **kwargs)

    def forward(self, input: Tensor, hx: Tensor | None = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        y, h = self._steps(input, lengths, hx)
        return y, h


class GRU(_Recurrent):
    """Gated recurrent units."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **kwargs: Any) -> None:
        super().__init__("gru", input_size, hidden_size, num_layers, **kwargs)

    def forward(self, input: Tensor, hx: Tensor | None = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        y, h = self._steps(input, lengths, hx)
        return y, h


class LSTM(_Recurrent):
    """Long short-term memory."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **kwargs: Any) -> None:
        super().__init__("lstm", input_size, hidden_size, num_layers, **kwargs)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, h, c = self._steps(input, lengths, *(hx or (None, None)))
        return y, (h, c)


class MultiheadAttention(_Part):
    """Attention of several heads over ``[batch, length, width]`` (``batch_first``, unlike PyTorch's default)."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, batch_first: bool = True,
                 num_kv_heads: int | None = None) -> None:
        super().__init__("attention", embed_dim, num_heads, dropout=dropout, bias=bias, num_kv_heads=num_kv_heads)
        self.batch_first = batch_first

    def forward(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights of each head if asked for. Keys and values are of one tensor."""
        if value is not None and value is not key:
            raise ValueError("MultiheadAttention: keys and values come from one tensor; give it as key and value")
        x = query if self.batch_first else query.transpose(0, 1)
        memory = x if key is None or key is query else key if self.batch_first else key.transpose(0, 1)
        out = self._run(
            x, a=memory, key_padding_mask=key_padding_mask, attn_mask=attn_mask, causal=is_causal, weights=need_weights
        )
        y = out[0] if self.batch_first else out[0].transpose(0, 1)
        return y, out[1] if need_weights else None


class TransformerEncoderLayer(_Part):
    """Self-attention and a feed-forward network, each with a residual connection and a norm; ``[batch, length, width]``."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: str = "relu",
                 layer_norm_eps: float = 1e-5, norm_first: bool = False, bias: bool = True) -> None:
        super().__init__("encoder", d_model, nhead, dim_feedforward=dim_feedforward, dropout=dropout, activation=activation,
                         layer_norm_eps=layer_norm_eps, norm_first=norm_first, bias=bias)

    def forward(self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        return self._run(src, attn_mask=src_mask, key_padding_mask=src_key_padding_mask, causal=is_causal)[0]


class TransformerDecoderLayer(_Part):
    """Causal self-attention, attention to a memory, and a feed-forward network; ``[batch, length, width]``."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: str = "relu",
                 layer_norm_eps: float = 1e-5, norm_first: bool = False, bias: bool = True) -> None:
        super().__init__("decoder", d_model, nhead, dim_feedforward=dim_feedforward, dropout=dropout, activation=activation,
                         layer_norm_eps=layer_norm_eps, norm_first=norm_first, bias=bias)

    def forward(self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
                tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None) -> Tensor:
        return self._run(tgt, a=memory, attn_mask=tgt_mask, key_padding_mask=tgt_key_padding_mask, memory_mask=memory_mask,
                         memory_key_padding_mask=memory_key_padding_mask)[0]


def _copies(layer: Module, count: int) -> ModuleList:
    import copy

    return ModuleList(layer if i == 0 else copy.deepcopy(layer) for i in range(count))


class TransformerEncoder(Module):
    """Encoder layers over each other: copies of one."""

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers, self.norm = _copies(encoder_layer, num_layers), norm

    def forward(self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """Decoder layers over each other: copies of one."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers, self.norm = _copies(decoder_layer, num_layers), norm

    def forward(self, tgt: Tensor, memory: Tensor, **masks: Any) -> Tensor:
        for layer in self.layers:
            tgt = layer(tgt, memory, **masks)
        return tgt if self.norm is None else self.norm(tgt)
