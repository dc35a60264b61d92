"""Data sets and the DataLoader, over any Python sequence."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Sequence

from .. import _rushlight as _r
from .._rushlight import Tensor
from .._tensor import stack


class Dataset:
    """Samples by number: subclass it with ``__len__`` and ``__getitem__``. Any sequence serves as well."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError("a Dataset needs __getitem__(index)")

    def __len__(self) -> int:
        raise NotImplementedError("a Dataset needs __len__()")


class TensorDataset(Dataset):
    """Rows of tensors of one length."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors or any(len(t) != len(tensors[0]) for t in tensors):
            raise ValueError(f"TensorDataset: tensors of one length, got {[len(t) for t in tensors]}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset):
    """Some samples of another data set."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[int] | Tensor) -> list[Subset]:
    """The samples in random order, cut into parts."""
    lengths = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
    if sum(lengths) != len(dataset):
        raise ValueError(f"random_split: lengths {lengths} do not add up to {len(dataset)}")
    order: list[int] = _r.randperm(len(dataset)).tolist()
    parts, start = [], 0
    for length in lengths:
        parts.append(Subset(dataset, order[start : start + length]))
        start += length
    return parts


def default_collate(batch: Sequence[Any]) -> Any:
    """Samples to a batch: tensors stacked, numbers as a tensor, tuples, lists and dicts part by part."""
    first = batch[0]
    # A batch already: no list of its rows.
    if isinstance(batch, Tensor):
        return batch.clone()
    if hasattr(batch, "__array_interface__"):
        return _r.tensor(batch)
    if isinstance(first, Tensor):
        return stack(batch)
    if isinstance(first, (bool, int, float)):
        return _r.tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, dict):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, (tuple, list)):
        parts = [default_collate(part) for part in zip(*batch)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if hasattr(first, "__array_interface__"):
        return stack([_r.tensor(sample) for sample in batch])
    raise TypeError(f"default_collate: no way to batch {type(first).__name__}; give a collate_fn")


class DataLoader:
    """Batches of a data set: any sequence of samples."""

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Callable[[Any], Any] | None = None,
        num_workers: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"DataLoader: batch_size is at least 1, not {batch_size}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.collate_fn = collate_fn or default_collate

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        order = _r.randperm(n).tolist() if self.shuffle else list(range(n))
        whole = isinstance(self.dataset, TensorDataset) and self.collate_fn is default_collate
        for b in range(len(self)):
            places = order[b * self.batch_size : (b + 1) * self.batch_size]
            if whole:
                # Rows of tensors are taken at once.
                index = _r.tensor(places)
                yield [t[index] for t in self.dataset.tensors]
            else:
                yield self.collate_fn([self.dataset[i] for i in places])
