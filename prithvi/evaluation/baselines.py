"""Simple methods that every result stands beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.errors import DatasetError

Pixels = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class IndexThreshold:
    """Water where MNDWI, (green - swir_1) / (green + swir_1), is above a threshold (Xu 2006)."""

    threshold: float

    @staticmethod
    def mndwi(green: Pixels, swir_1: Pixels) -> Pixels:
        """The index, NaN where both bands are 0 or one is missing."""
        with np.errstate(divide="ignore", invalid="ignore"):
            index: Pixels = (green - swir_1) / (green + swir_1)
        return index

    @classmethod
    def fit(
        cls, green: Pixels, swir_1: Pixels, water: npt.NDArray[np.bool_], labelled: npt.NDArray[np.bool_]
    ) -> IndexThreshold:
        """The threshold of the highest water IoU on labelled pixels; every distinct split of them is tried.

        Raises:
            DatasetError: no labelled pixel is water, or none is land.

        """
        index = cls.mndwi(green, swir_1)
        use = labelled & np.isfinite(index)
        values, truth = index[use], water[use]
        if not truth.any() or truth.all():
            raise DatasetError("a threshold needs labelled pixels of both water and land.")
        order = np.argsort(values)[::-1]
        hits = np.cumsum(truth[order])
        iou = hits / (np.arange(1, len(order) + 1) + truth.sum() - hits)
        iou[:-1][np.diff(values[order]) == 0] = 0  # equal values fall on one side together
        best = int(iou.argmax())
        below = values[order[best + 1]] if best + 1 < len(order) else values[order[best]] - 1e-6
        return cls(float((values[order[best]] + below) / 2))

    def predict(self, green: Pixels, swir_1: Pixels) -> npt.NDArray[np.bool_]:
        """True where the index says water."""
        result: npt.NDArray[np.bool_] = self.mndwi(green, swir_1) > self.threshold
        return result
