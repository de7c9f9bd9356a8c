"""Simple baselines of segmentation: a threshold on a spectral index, and gradient boosting on single pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.errors import DatasetError, MissingExtraError
from prithvi.models.baseline_heads import best_threshold

Pixels = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]


def normalised_difference(first: Pixels, second: Pixels) -> Pixels:
    """(first - second) / (first + second), NaN where a value is missing or both are 0.

    Examples are MNDWI of green and swir_1 (Xu 2006), NDWI of green and nir_narrow (McFeeters 1996) and NBR of
    nir_narrow and swir_2 (Key and Benson 2006); dNBR is the NBR before a fire minus that after it.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        index: Pixels = (first - second) / (first + second)
    return index


@dataclass(frozen=True)
class IndexThreshold:
    """A classifier with two classes, on either side of a threshold of an index."""

    threshold: float
    above: bool = True
    """Whether the class is above the threshold, as water in MNDWI, or below, as burnt ground in NBR."""

    @classmethod
    def fit(cls, index: Pixels, positive: Flags, labelled: Flags, above: bool = True) -> IndexThreshold:
        """The threshold with the highest IoU of the class on labelled pixels, from all distinct splits.

        Args:
            index: values of the index, of any shape.
            positive: True at pixels of the class.
            labelled: True at labelled pixels.
            above: whether the class is above the threshold.

        Raises:
            DatasetError: none or all of the labelled pixels are of the class.

        """
        use = labelled & np.isfinite(index)
        truth = positive[use]
        if not truth.any() or truth.all():
            raise DatasetError("a threshold needs labelled pixels of the class and of what it is not.")
        return cls(best_threshold(index[use], truth, above)[0], above)

    def predict(self, index: Pixels) -> Flags:
        """True at pixels predicted as the class; False where the index is NaN."""
        result: Flags = index > self.threshold if self.above else index < self.threshold
        return result


class PixelTrees:
    """Gradient boosting on the bands (of all dates) of single pixels, with scikit-learn.

    Args:
        seed: random state of the trees.

    Raises:
        MissingExtraError: scikit-learn is not installed.

    """

    def __init__(self, seed: int = 0) -> None:
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier
        except ImportError as error:
            raise MissingExtraError("gradient boosting", "baselines") from error
        self.trees = HistGradientBoostingClassifier(random_state=seed)

    def fit(self, image: Pixels, label: npt.NDArray[np.int64], labelled: Flags) -> PixelTrees:
        """Fits the labelled pixels of an image.

        Args:
            image: (..., Y, X) values; all leading axes are features.
            label: (Y, X) class numbers.
            labelled: (Y, X) True at labelled pixels.

        Raises:
            DatasetError: fewer than two classes are labelled.

        """
        if len(np.unique(label[labelled])) < 2:
            raise DatasetError("trees need labelled pixels of two classes or more.")
        self.trees.fit(_rows(image)[labelled.ravel()], label[labelled])
        return self

    def predict(self, image: Pixels) -> npt.NDArray[np.int64]:
        """(Y, X) predicted class numbers of (..., Y, X) values."""
        found: npt.NDArray[np.int64] = self.trees.predict(_rows(image)).reshape(image.shape[-2:])
        return found


def _rows(image: Pixels) -> Pixels:
    """(..., Y, X) values as a (pixel, feature) matrix."""
    return image.reshape(-1, image.shape[-2] * image.shape[-1]).T
