"""Class-balanced sampling of chips, with class counts learned while training instead of in a pass beforehand."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from prithvi.contract import IGNORE


class BalancedSampler(Sampler[int]):
    """Indices of a dataset: first each one once, in random order; later drawn by the class counts from `see`.

    A draw picks a class uniformly, then a chip in proportion to its mean number of pixels of that class, so that over
    many draws every class is the reason for an equal share of the chips. A chip without any label seen so far is drawn
    at a tenth of the uniform rate.

    Args:
        size: number of chips in the dataset.
        classes: number of classes.

    """

    def __init__(self, size: int, classes: int) -> None:
        self.counts = torch.zeros(size, classes, dtype=torch.float64)
        self.views = torch.zeros(size, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.views)

    def see(self, places: Tensor, labels: Tensor) -> None:
        """Counts the classes in (B, ...) labels (`IGNORE` where unlabelled) of the chips at (B,) indices `places`."""
        for place, label in zip(places.tolist(), labels, strict=True):
            known = label[label != IGNORE].long().flatten()
            self.counts[place] += torch.bincount(known, minlength=self.counts.shape[1]).double()
            self.views[place] += 1

    def weights(self) -> Tensor:
        """(size,) probabilities of the chips; uniform until a label was counted."""
        # Counts are divided by views because random crops show a different part of a chip each time. For each class the
        # chips' probabilities add up to 1; their mean over the classes found is the balanced probability.
        shown = self.counts / self.views.clamp(min=1).unsqueeze(1)
        of_class = shown.sum(dim=0)
        found = of_class > 0
        chances = torch.full((len(self),), 1 / len(self), dtype=torch.float64)
        if found.any():
            balanced = (shown[:, found] / of_class[found]).mean(dim=1)
            chances = torch.where(balanced > 0, balanced, 0.1 * chances)
        return chances / chances.sum()

    def __iter__(self) -> Iterator[int]:
        # Chips without a view come first, so that a resumed first epoch continues with the remaining ones.
        unseen = torch.nonzero(self.views == 0).flatten()
        yield from unseen[torch.randperm(len(unseen))].tolist()
        if len(unseen) < len(self):
            yield from torch.multinomial(self.weights(), len(self) - len(unseen), replacement=True).tolist()
