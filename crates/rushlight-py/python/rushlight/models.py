"""Models that others trained: ``Gpt``, ``Llama`` and ``Bert`` from a Hugging Face folder or a GGUF file."""

from __future__ import annotations

import os
from typing import Any

from . import _rushlight as _r
from ._rushlight import SentenceEncoder, Tensor

__all__ = ["Bert", "Gpt", "Llama", "SentenceEncoder"]


class _Model:
    _architecture = ""

    def __init__(self, rust: Any) -> None:
        self._rust = rust

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> Any:
        """From a folder with ``config.json``, or a GGUF file."""
        rust = _r._Pretrained(os.fspath(path))
        if rust.architecture != cls._architecture:
            raise ValueError(f"{cls.__name__}: {os.fspath(path)} holds a network of {rust.architecture}")
        return cls(rust)

    def __call__(self, tokens: Any) -> Tensor:
        return self._rust.forward(tokens if isinstance(tokens, Tensor) else _r.tensor(tokens))  # type: ignore[no-any-return]

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return self._rust.encode(text)  # type: ignore[no-any-return]

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens."""
        return self._rust.decode(tokens)  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return dict(self._rust.state_dict())

    def __repr__(self) -> str:
        return repr(self._rust)


class _Writer(_Model):
    def generate(
        self, prompt: str | list[int], max_new_tokens: int = 50, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, min_p: float | None = None, repetition_penalty: float = 1.0, seed: int = 0,
    ) -> Any:
        """What follows the prompt: a text for a text, tokens for tokens. ``temperature=0`` takes the likeliest always."""
        tokens = self.encode(prompt) if isinstance(prompt, str) else list(prompt)
        new = self._rust.generate(tokens, max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed)
        return self.decode(new) if isinstance(prompt, str) else new


class Gpt(_Writer):
    """GPT-2."""

    _architecture = "gpt2"


class Llama(_Writer):
    """Llama and its kin (SmolLM2)."""

    _architecture = "llama"


class Bert(_Model):
    """BERT: vectors of tokens. Vectors of sentences: :class:`SentenceEncoder`."""

    _architecture = "bert"
