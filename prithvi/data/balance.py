"""Chips drawn such that rare classes are seen as often as common ones, without reading the dataset beforehand."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from prithvi.contract import IGNORE


class BalancedSampler(Sampler[int]):
    """Places of a dataset: at first each once, in random order; later drawn by what `see` has counted.

    A draw takes a class, each equally often, and then one of the chips by their share of the class's pixels: over many
    draws every class has an equal part in what chips are chosen for.

    Args:
        size: of the dataset.
        classes: how many there are.

    """

    def __init__(self, size: int, classes: int) -> None:
        self.counts = torch.zeros(size, classes, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.counts)

    def see(self, places: Tensor, labels: Tensor) -> None:
        """Counts (B, ...) class numbers with `IGNORE` of the chips at (B,) places."""
        for place, label in zip(places.tolist(), labels, strict=True):
            known = label[label != IGNORE].long().flatten()
            self.counts[place] += torch.bincount(known, minlength=self.counts.shape[1]).double()

    def weights(self) -> Tensor:
        """(size,) chances that add up to 1; equal ones as long as nothing is counted."""
        of_class = self.counts.sum(dim=0)
        found = of_class > 0
        if not found.any():
            return torch.full((len(self),), 1 / len(self), dtype=torch.float64)
        return (self.counts[:, found] / of_class[found]).mean(dim=1)

    def __iter__(self) -> Iterator[int]:
        if not self.counts.any():
            yield from torch.randperm(len(self)).tolist()
        else:
            yield from torch.multinomial(self.weights(), len(self), replacement=True).tolist()
