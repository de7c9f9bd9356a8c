"""Chips drawn such that rare classes are seen as often as common ones, without reading the dataset beforehand."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from prithvi.contract import IGNORE


class BalancedSampler(Sampler[int]):
    """Places of a dataset: at first each once, in random order; later drawn by what `see` has counted.

    A draw takes a class, each equally often, and then one of the chips by their share of the class's pixels in what was
    seen of them on average: over many draws every class has an equal part in what chips are chosen for. A chip that
    showed no label is drawn a tenth as often as if all were drawn alike.

    Args:
        size: of the dataset.
        classes: how many there are.

    """

    def __init__(self, size: int, classes: int) -> None:
        self.counts = torch.zeros(size, classes, dtype=torch.float64)
        self.views = torch.zeros(size, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.views)

    def see(self, places: Tensor, labels: Tensor) -> None:
        """Counts (B, ...) class numbers with `IGNORE` of the chips at (B,) places."""
        for place, label in zip(places.tolist(), labels, strict=True):
            known = label[label != IGNORE].long().flatten()
            self.counts[place] += torch.bincount(known, minlength=self.counts.shape[1]).double()
            self.views[place] += 1

    def weights(self) -> Tensor:
        """(size,) chances that add up to 1; equal ones as long as nothing is counted."""
        shown = self.counts / self.views.clamp(min=1).unsqueeze(1)
        of_class = shown.sum(dim=0)
        found = of_class > 0
        chances = torch.full((len(self),), 1 / len(self), dtype=torch.float64)
        if found.any():
            balanced = (shown[:, found] / of_class[found]).mean(dim=1)
            chances = torch.where(balanced > 0, balanced, 0.1 * chances)
        return chances / chances.sum()

    def __iter__(self) -> Iterator[int]:
        unseen = torch.nonzero(self.views == 0).flatten()
        yield from unseen[torch.randperm(len(unseen))].tolist()
        if len(unseen) < len(self):
            yield from torch.multinomial(self.weights(), len(self) - len(unseen), replacement=True).tolist()
