"""Gaps in a series filled without a model: the baselines of gap filling.

Each function takes (band, T, Y, X) pixels (reflectance for `regression`, in any unit for the others), (T, Y, X) which
of them are known, and (T,) days, and gives the series with every pixel that it can fill filled; NaN where it cannot.
Known pixels stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prithvi.errors import ConfigError, nearest
from prithvi.mapping import local_regression as local
from prithvi.models.gapfill import LANDMARKS
from prithvi.models.interpolation import fill

Pixels = npt.NDArray[np.floating[Any]]
Known = npt.NDArray[np.bool_]
Days = npt.NDArray[np.floating[Any]]


def nearest_date(image: Pixels, known: Known, days: Days) -> Pixels:
    """Each pixel as on the nearest date that knows it; of two as near, the earlier."""
    found = np.where(known, image, np.nan)
    for date in range(len(days)):
        for other in np.argsort(np.abs(days - days[date]), kind="stable"):
            lacking = np.isnan(found[:, date]) & known[other]
            found[:, date] = np.where(lacking, image[:, other], found[:, date])
    return found


def linear_in_time(image: Pixels, known: Known, days: Days) -> Pixels:
    """Each pixel on the line between the dates before and after that know it, or as on the only one that does."""
    found = np.where(known, image, np.nan)
    order = np.argsort(days, kind="stable")
    for date in order:
        before, after = (np.full(image.shape[2:], -1) for _ in range(2))
        for other in order:
            if days[other] <= days[date] and other != date:  # another of the same day tells all of it
                before[known[other]] = other
        for other in order[::-1]:
            if days[other] > days[date]:
                after[known[other]] = other
        first, second = np.where(before < 0, after, before), np.where(after < 0, before, after)
        length = days[second] - days[first]
        share = np.where(length > 0, (days[date] - days[first]) / np.where(length > 0, length, 1), 0.0)
        rows, columns = np.indices(first.shape)
        line = (1 - share) * image[:, first, rows, columns] + share * image[:, second, rows, columns]
        found[:, date] = np.where(known[date], image[:, date], np.where(first < 0, np.nan, line))
    return found


def regression(image: Pixels, known: Known, days: Days, ridge: float = 1e-3) -> Pixels:
    """Each date by a linear regression on all bands of the dates next to it, fitted where all of them are known.

    Args:
        image: reflectance, 0 to 1, which is what `ridge` (added to the sums of squares) belongs to.
        known: which pixels are.
        days: of the dates.
        ridge: the penalty.

    """
    found = np.where(known, image, np.nan)
    order = np.argsort(days, kind="stable")
    for place, date in enumerate(order):
        neighbours = [order[other] for other in (place - 1, place + 1) if 0 <= other < len(order)]
        there = known[neighbours].all(axis=0)
        fitted = there & known[date]
        if not neighbours or not fitted.any():
            continue
        features = image[:, neighbours].reshape(-1, *image.shape[2:])
        x, y = features[:, fitted].T, image[:, date][:, fitted].T
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        x = x - x_mean
        coefficients = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (y - y_mean))
        line = np.tensordot(coefficients.T, features - x_mean[:, None, None], 1) + y_mean[:, None, None]
        found[:, date] = np.where(there & ~known[date], line, found[:, date])
    return found


def filling(image: Pixels, known: Known, days: Days) -> Pixels:
    """`prithvi.models.interpolation.fill`: regression on the other dates, likeness, and a smooth surface."""
    if not known.any():
        return np.full(image.shape, np.nan)
    mean, std = (np.array([of(band[known]) for band in image])[:, None, None, None] for of in (np.mean, np.std))
    std = np.maximum(std, 1e-6)
    scaled = torch.from_numpy(np.where(known, (image - mean) / std, 0.0)).float()[None]
    dates = torch.from_numpy(np.stack([np.zeros(len(days)), days], axis=1)).float()[None]
    filled = fill(scaled, torch.from_numpy(known)[None], dates, landmarks=LANDMARKS)[0].numpy() * std + mean
    return np.where(known, image, filled)


def local_regression(image: Pixels, known: Known, days: Days) -> Pixels:
    """`prithvi.mapping.local_regression.fill_dates`: regressions on the dates most like each, and a smooth rest."""
    filled, _ = local.fill_dates(image, known, days, uncertainty=False)
    return np.where(known, image, filled)


GAP_METHODS: dict[str, Callable[[Pixels, Known, Days], Pixels]] = {
    "nearest": nearest_date,
    "linear": linear_in_time,
    "regression": regression,
    "filling": filling,
    "local_regression": local_regression,
}
"""Name to method, as `prithvi.fill` and `prithvi fill --method` take them."""
AUTO = "local_regression"
"""What fills where nobody says how, and what the name `auto` stands for: the best on average of what was measured."""
_OF_ALL_DATES = ("nearest", "linear")


@dataclass(frozen=True)
class Method:
    """A method by its name, on reflectance x 10,000; a `prithvi.mapping.fillers.Fill`.

    Args:
        name: of `GAP_METHODS`, or `auto`.

    Raises:
        ConfigError: there is no such method.

    """

    name: str

    def __post_init__(self) -> None:
        if self.name == "auto":
            object.__setattr__(self, "name", AUTO)
        if self.name not in GAP_METHODS:
            raise ConfigError(f"there is no method {self.name!r}: {nearest(self.name, ('auto', *GAP_METHODS))}")

    @property
    def dates(self) -> int:
        """How many it sees together where nobody says: all, what was found best, or 0 where it leaves that open."""
        if self.chooses:
            return local.TOGETHER
        return sys.maxsize if self.name in _OF_ALL_DATES else 0

    @property
    def chooses(self) -> bool:
        """Whether it chooses itself, of all dates at hand, those that it fills one with; see `fill_dates`."""
        return self.name == "local_regression"

    @property
    def in_numpy(self) -> bool:
        """Whether it computes in the thread that calls it, so that several windows are filled by as many threads."""
        return self.name != "filling"

    @property
    def step(self) -> float:
        """From one window to the next where nobody says, as a share of the window."""
        return 0.75 if self.chooses else 0.5

    def fill_dates(
        self, image: Pixels, known: Known, times: npt.NDArray[np.float32], wanted: Sequence[int], together: int,
        uncertainty: bool,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:  # fmt: skip
        """(band, date, y, x) the wanted dates filled, and their standard errors, by a method that `chooses`.

        See `prithvi.mapping.local_regression.fill_dates`; `times` are (T, 2) year and day of the year.
        """
        return local.fill_dates(image, known, days_of(times), wanted, together, uncertainty)

    def __call__(
        self, image: Pixels, known: Known, times: npt.NDArray[np.float32], location: tuple[float, float]
    ) -> npt.NDArray[np.float32]:
        """See `prithvi.mapping.fillers.Fill`."""
        filled: Pixels = 1e4 * GAP_METHODS[self.name](image / 1e4, known, days_of(times))
        return filled.astype(np.float32)


def days_of(coordinates: npt.NDArray[np.floating[Any]]) -> Days:
    """(T,) days, counted over the turn of years, of (T, 2) year and day of the year from 0; 0, 1, 2, ... where they are
    not known.
    """
    if not np.isfinite(coordinates).all():
        return np.arange(len(coordinates), dtype=np.float64)
    years = (coordinates[:, 0].astype(np.int64) - 1970).astype("datetime64[Y]")
    days: Days = years.astype("datetime64[D]").astype(np.float64) + coordinates[:, 1]
    return days
