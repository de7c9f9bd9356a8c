"""95 % confidence intervals of areas and accuracies from a sample stratified by the map's classes.

The usual Wald intervals (1.96 standard errors to each side) have no width if a stratum's sample has no error, and are
too narrow if it has few. Here, each stratum contributes the exact interval of Clopper and Pearson: for x of n points,
the lower limit is a quantile of Beta(x, n - x + 1) and the upper limit of Beta(x + 1, n - x). An area is a weighted sum
of such proportions; its limits are quantiles of the weighted sum of these beta distributions (Fay, Proschan and
Brittain 2015, Biometrics 71, 146-156), approximated by the beta distribution with the same mean and variance, as Fay
and Feuer (1997, Statistics in Medicine 16, 791-801) do with the gamma distribution for rates. A producer's accuracy is
a part of such a sum; its limits are recovered from those of the part and of the rest (Donner and Zou 2012, Statistical
Methods in Medical Research 21, 347-359). `benchmarks/bench_area_intervals.py` measures their coverage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

Floats = npt.NDArray[np.float64]
TAIL = 0.025
"""Probability beyond each limit."""


@dataclass(frozen=True)
class Intervals:
    """Lower and upper limits in the last axis, between 0 and 1; NaN where the sample allows no estimate."""

    areas: Floats
    """(..., classes, 2) true fraction of the map's area in each class."""
    users: Floats
    """(..., classes, 2) user's accuracy of each class."""
    producers: Floats
    """(..., classes, 2) producer's accuracy of each class."""
    overall: Floats
    """(..., 2) overall accuracy."""


def intervals(weights: npt.NDArray[Any], counts: npt.NDArray[Any]) -> Intervals:
    """Confidence intervals of areas and accuracies of a map from a stratified sample.

    Args:
        weights: (classes,) mapped fraction of the area in each class, with sum 1.
        counts: (..., classes, classes) numbers of points: mapped class in rows, reference class in columns. A class
            with a positive weight must have points.

    """
    # Areas and overall accuracy are weighted sums over strata. A class's area is also the sum of the part that is
    # mapped correctly (in its own stratum) and the part omitted (in all others); the producer's accuracy is the ratio
    # of the first part to that sum.
    counts = np.asarray(counts)
    points, right = counts.sum(axis=-1), np.diagonal(counts, axis1=-2, axis2=-1)
    users = _proportion(right, points)
    by_class, strata = np.swapaxes(counts, -1, -2), points[..., None, :]
    others = weights * (1 - np.eye(len(weights)))
    omitted = _weighted_sum(others, by_class, strata)
    with np.errstate(invalid="ignore", divide="ignore"):
        mapped_right = np.where(points > 0, weights * right / np.maximum(points, 1), 0.0)
        missed = (others * by_class / np.maximum(strata, 1)).sum(axis=-1)
    certain = np.where(points[..., None] > 0, users, 0.0) * weights[:, None]
    return Intervals(
        _weighted_sum(weights, by_class, strata), users, _part(mapped_right, certain, missed, omitted),
        _weighted_sum(weights, right, points),
    )  # fmt: skip


def _proportion(found: npt.NDArray[Any], points: npt.NDArray[Any]) -> Floats:
    """(..., 2) Clopper-Pearson limits of a proportion; NaN without points."""
    with np.errstate(invalid="ignore"):
        low = np.where(found == 0, 0.0, beta.ppf(TAIL, found, points - found + 1))
        high = np.where(found == points, 1.0, beta.ppf(1 - TAIL, found + 1, points - found))
    return np.where(points[..., None] > 0, np.stack([low, high], axis=-1), np.nan)


def _weighted_sum(weights: Any, found: npt.NDArray[Any], points: npt.NDArray[Any]) -> Floats:
    """(..., 2) limits of the weighted sum of proportions over the last axis, with non-negative weights."""
    low = _quantile(TAIL, weights, found, points - found + 1)
    return np.stack([low, _quantile(1 - TAIL, weights, found + 1, points - found)], axis=-1)


def _quantile(probability: float, weights: Any, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Floats:
    """Quantile of the weighted sum of Beta(first, second) variables, from a beta distribution with equal moments."""
    size = first + second
    whole = np.broadcast_to(weights, size.shape).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weights * first / size).sum(axis=-1) / whole
        variance = (weights**2 * first * second / (size**2 * (size + 1))).sum(axis=-1) / whole**2
        spread = mean * (1 - mean) / variance - 1
        found = beta.ppf(probability, mean * spread, (1 - mean) * spread)
    # If the proportion is exactly 0 or 1 in every stratum, the variance is 0 and the quantile is the mean.
    quantile: Floats = np.where(whole > 0, whole * np.where(variance > 0, found, mean), 0.0)
    return quantile


def _part(part: Floats, of_part: Floats, rest: Floats, of_rest: Floats) -> Floats:
    """(..., 2) limits of part / (part + rest) from independent estimates of both; NaN where both are 0.

    These follow from the limits of the ratio r = rest / part, which are the values of r for which a limit of
    rest - r * part is 0 (the method of variance estimates recovery, MOVER).

    Args:
        part: (...) estimates of the part.
        of_part: (..., 2) limits of the part.
        rest: (...) estimates of the rest.
        of_rest: (..., 2) limits of the rest.

    """
    below, above = part - of_part[..., 0], of_part[..., 1] - part
    less, more = rest - of_rest[..., 0], of_rest[..., 1] - rest
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = part**2 - below**2
        most = np.where(scale > 0, (rest * part + np.sqrt(more**2 * scale + (below * rest) ** 2)) / scale, np.inf)
        root = rest * part + np.sqrt((less * part) ** 2 + above**2 * (rest**2 - less**2))
        least = np.where(root > 0, (rest**2 - less**2) / root, np.where(rest > 0, np.inf, 0.0))
        limits = np.stack([1 / (1 + most), 1 / (1 + least)], axis=-1)
    return np.where((part + rest > 0)[..., None], limits, np.nan)
