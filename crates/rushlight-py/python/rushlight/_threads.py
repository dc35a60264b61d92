"""How many threads compute."""

from __future__ import annotations

from ._rushlight import _set_num_threads


def set_num_threads(num: int) -> None:
    """Uses ``num`` threads from now on. Results do not depend on it."""
    if num < 1:
        raise ValueError(f"set_num_threads: at least 1, not {num}")
    _set_num_threads(num)
