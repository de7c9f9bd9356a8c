"""Gaps of a series filled by regressions on the dates most like each, and how far off each pixel is likely to be.

The method has no weights. A date is the mean of others, plus a fit over the whole window, plus fits place by place,
plus a smooth rest (`prithvi.mapping.local_fits`), each fitted to what the ones before it miss. Its standard errors come
from pixels hidden on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from prithvi.mapping.local_fits import LocalFit, blurred, fit_window, smooth

Pixels = npt.NDArray[np.float32]
Known = npt.NDArray[np.bool_]
Days = npt.NDArray[np.floating]

TOGETHER = 5
"""Dates that are seen together to fill one; nine were 1 % better on the development series, at half the cost again."""
COMPARED_ON = 400
"""Pixels on which two dates are compared."""
NO_SHARE = 1.5
"""What a pixel counts that another date does not know, where 1 is one that it knows and says nothing of."""
SURFACE = 2.0
"""Pixels' worth of prior in the smooth surface that completes a date other dates are filled from."""
SAME_DAY = 0.05
"""Days that two dates of one day are apart: what another sensor saw that day tells far more than other days do."""
LEAST = 1e-4
"""Below this, in standard deviations of a band, nothing is taken to be known."""
FEW = 32
"""Pixels below which a date's own errors are not taken for it."""
SQUARE = 32
"""Side of the squares that are hidden where a date's own gaps hide too little of it or too much."""
# Standard errors, fitted on the development series: exponents of the usual error at like pixels and of the distance to
# known ones; how much more uncertain dates are of which nearly nothing is known, or nearly all (small gaps are often
# bright ground that a mask takes for cloud, which is hard to fill); how much the error of interpolation in time counts
# where other dates have gaps; and the factor with which 1.645 standard errors hold 90 % of the errors.
LIKE, DISTANCE, SHARE, INTERPOLATED, WIDTH = 0.59, 0.27, 0.5, 0.8, 1.26


def fill_dates(
    image: npt.NDArray[np.floating],
    known: Known,
    days: Days,
    wanted: Sequence[int] | None = None,
    together: int = TOGETHER,
    uncertainty: bool = True,
) -> tuple[Pixels, Pixels]:
    """Fills some dates of a window from all of them.

    Args:
        image: (band, T, y, x) in any unit; what stands at unknown pixels does not matter.
        known: (T, y, x) which pixels are known, in all bands.
        days: (T,) days, in any order.
        wanted: the dates to fill; None for all.
        together: how many dates are seen together to fill one, itself included: the others are those that tell most of
            it, by what they know under its gaps and how well they predict it beside them.
        uncertainty: whether standard errors are asked for; they cost a second fit of each date.

    Returns:
        The wanted dates (band, date, y, x) filled: known pixels as they were; and their standard errors in the same
        unit, 0 where known, NaN where it cannot be known or is not asked for. All is NaN without any known pixel.

    """
    dates = range(len(known)) if wanted is None else wanted
    window = _Window.of(image, known, days)
    found = np.empty((len(image), len(dates), *known.shape[1:]), np.float32)
    errors = np.empty_like(found)
    for place, date in enumerate(dates):
        found[:, place], errors[:, place] = np.nan, np.nan
        if known.any() and not known[date].all():
            found[:, place], errors[:, place] = window.filled(date, together, uncertainty)
        found[:, place] = np.where(known[date], image[:, date], found[:, place])
        errors[:, place] = np.where(known[date], np.float32(0), errors[:, place])
    return found, errors


@dataclass
class _Window:
    """A window of a series, standardised: each band has mean 0 and standard deviation 1 over all known pixels."""

    image: Pixels
    """(band, T, y, x), 0 where unknown."""
    known: Known
    days: Days
    mean: Pixels
    """(band, 1, 1)."""
    deviation: Pixels
    completed: dict[int, Pixels]
    """Dates without gaps, (band, y, x), as others are filled from them."""
    off: dict[int, Pixels]
    """Of these, (band,) the mean absolute error of the interpolation in time that fills their gaps."""

    @classmethod
    def of(cls, image: npt.NDArray[np.floating], known: Known, days: Days) -> _Window:
        values = np.where(known, image, 0).astype(np.float32)
        count = max(int(known.sum()), 1)
        mean = values.sum(axis=(1, 2, 3), dtype=np.float64) / count
        squares = np.array([np.square(band, dtype=np.float64).sum() for band in values]) / count
        deviation = np.sqrt(np.maximum(squares - mean**2, 1e-12 + 1e-10 * squares))
        middle, scale = (of.astype(np.float32)[:, None, None] for of in (mean, deviation))
        values = np.where(known, (values - middle[:, None]) / scale[:, None], np.float32(0))
        return cls(values, known, np.asarray(days, np.float64), middle, scale, {}, {})

    def filled(self, date: int, together: int, uncertainty: bool) -> tuple[Pixels, Pixels]:
        """(band, y, x) of a date in the units of the image, and standard errors."""
        others = self.others(date, together - 1)
        values, error = _DateFit(self, date, others).filled(uncertainty)
        return values * self.deviation + self.mean, error * self.deviation

    def others(self, date: int, number: int) -> list[int]:
        """The dates that one is filled from, those that tell most of it, in their order in the series."""
        known, gap = self.known, ~self.known[date]
        candidates = [other for other in range(len(known)) if other != date and known[other].any()]
        if len(candidates) <= number:
            return candidates
        costs = []
        for other in candidates:
            share = float(known[other][gap].mean())
            costs.append(self._unexplained(date, other) * share + NO_SHARE * (1 - share))
        # Of dates that cost the same, the nearest in time.
        apart = np.abs(self.days[candidates] - self.days[date])
        order = np.lexsort((apart, np.round(costs, 6)))
        return sorted(candidates[place] for place in order[:number])

    def _unexplained(self, date: int, other: int) -> float:
        """Share of a date's variance that a regression on another date leaves, on some pixels that both know."""
        both = np.flatnonzero(self.known[date] & self.known[other])
        if len(both) < FEW:
            return 1.0
        both = both[:: -(-len(both) // COMPARED_ON)]
        pair = self.image[:, [date, other]].reshape(len(self.image), 2, -1)[:, :, both].astype(np.float64)
        target, features = (pair - pair.mean(axis=2, keepdims=True)).swapaxes(0, 1)
        normal = features @ features.T + 0.02 * len(both) * np.eye(len(features))
        rest = target - (np.linalg.solve(normal, features @ target.T)).T @ features
        return float(np.square(rest).sum() / max(float(np.square(target).sum()), 1e-9))

    def complete(self, date: int) -> Pixels:
        """(band, y, x) a date without its gaps: interpolated in time, plus a surface through what that misses."""
        if date not in self.completed:
            own, known = self.image[:, date], self.known[date]
            self.off[date] = np.zeros(len(own), np.float32)
            if not known.all():
                line = self.between(date)
                missed = np.where(known, own - line, np.float32(0))
                self.off[date] = np.abs(missed).sum(axis=(1, 2)) / np.float32(np.count_nonzero(known))
                own = np.where(known, own, line + smooth(missed, known.astype(np.float32), SURFACE))
            self.completed[date] = own
        return self.completed[date]

    def between(self, date: int) -> Pixels:
        """(band, y, x) on the line between the next dates before and after that know a pixel; 0 where none does."""
        bands, _, *shape = self.image.shape
        total, sums = np.zeros(shape, np.float32).ravel(), np.zeros((bands, shape[0] * shape[1]), np.float32)
        apart = self.days - self.days[date]
        order = np.argsort(np.abs(apart), kind="stable")
        for side in (order[apart[order] < 0], order[(apart[order] >= 0) & (order != date)]):
            missing = np.ones(len(total), bool)
            for other in side:
                pixels = np.flatnonzero(missing & self.known[other].ravel())
                weight = np.float32(1 / max(abs(apart[other]), SAME_DAY))
                sums[:, pixels] += weight * self.image[:, other].reshape(bands, -1)[:, pixels]
                total[pixels] += weight
                missing[pixels] = False
                if not missing.any():
                    break
        sums /= np.where(total > 0, total, np.float32(1))
        return sums.reshape(bands, *shape)


class _DateFit:
    """One date fitted to others, to all of its known pixels and to a part of them."""

    def __init__(self, window: _Window, date: int, others: list[int]) -> None:
        self.window, self.date, self.others = window, date, others
        self.image, self.known = window.image[:, date], window.known[date]
        bands, *shape = self.image.shape
        self.mean = np.zeros((bands, *shape), np.float32)
        self.unsure = np.zeros((bands, *shape), np.float32)
        near = 1 / np.maximum(np.abs(window.days[others] - window.days[date]), SAME_DAY)
        for other, weight in zip(others, near / max(near.sum(), 1e-12), strict=True):
            self.mean += np.float32(weight) * window.complete(other)
            if not window.known[other].all():
                self.unsure += ~window.known[other] * (window.off[other] / np.float32(len(others)))[:, None, None]

    def __call__(self, parts: Sequence[Known]) -> list[tuple[Pixels, Pixels]]:
        """(band, y, x) the date fitted to each of some parts of its known pixels, and how far off that usually is."""
        if not parts[0].any():
            return [(self.mean, np.ones_like(self.mean))]
        others = [np.zeros((0, *self.known.shape), np.float32), *(self.window.complete(other) for other in self.others)]
        features = np.concatenate(others)
        features -= features[:, self.known].mean(axis=1)[:, None, None]
        # A mean over neighbouring pixels is less noisy than a pixel, and holds where bands are coarser than the grid.
        both = np.concatenate([features, blurred(features)])
        target = np.where(self.known, self.image - self.mean, np.float32(0))
        weights = [part.astype(np.float32) for part in parts]
        by_place, fits = LocalFit(features), fit_window(both, target, weights)
        for (found, _), part, weight in zip(fits, parts, weights, strict=True):
            for fit in (by_place, smooth):
                found += fit(np.where(part, target - found, np.float32(0)), weight)
            found += self.mean
        return fits

    def filled(self, uncertainty: bool) -> tuple[Pixels, Pixels]:
        """(band, y, x) the date, and standard errors; NaN where there is nothing to learn them from."""
        if not uncertainty:
            ((found, usual),) = self([self.known])
            return found, np.full_like(usual, np.nan)
        if np.count_nonzero(self.known) < 2 * FEW:
            ((found, _),) = self([self.known])
            return found, self._of_others()
        hidden = part_to_hide(self.known)
        left = self.known & ~hidden
        (found, usual), (without, of_less) = self([self.known, left])
        missed = np.abs(without - self.image)[:, hidden] - INTERPOLATED * self.unsure[:, hidden]
        expected = _shape_of_errors(of_less, left)[:, hidden]
        # Pixels that other dates know tell how well these are fitted; what one band tells little of, all bands do.
        weight = 1 / (1 + 20 * self.unsure[:, hidden])
        ratios = (np.maximum(missed, 0) * weight).sum(axis=1) / np.maximum((expected * weight).sum(axis=1), 1e-12)
        count = missed.shape[1]
        level = np.maximum((ratios * count + ratios.mean() * FEW) / (count + FEW), LEAST)
        level *= np.exp(SHARE * (2 * self.known.mean() - 1) ** 2)
        error = level[:, None, None].astype(np.float32) * _shape_of_errors(usual, self.known)
        return found, WIDTH * (error + INTERPOLATED * self.unsure)

    def _of_others(self) -> Pixels:
        """Errors of a date that knows next to nothing: those of the other dates' means, had they known nothing."""
        squares, count = np.zeros(len(self.image)), 0
        for other in self.others:
            known = self.window.known[other]
            rest = [date for date in self.others if date != other]
            if not rest or not known.any():
                continue
            near = 1 / np.maximum(np.abs(self.window.days[rest] - self.window.days[other]), SAME_DAY)
            dates = np.stack([self.window.complete(date)[:, known] for date in rest])
            mean = np.tensordot(near / near.sum(), dates, 1)
            squares += np.square(mean - self.window.image[:, other][:, known]).sum(axis=1)
            count += int(known.sum())
        error = np.sqrt(squares / count) if count else np.full(len(squares), np.nan)
        return np.broadcast_to(error.astype(np.float32)[:, None, None], self.image.shape)


def _shape_of_errors(usual: Pixels, known: Known) -> Pixels:
    """(band, y, x) what errors are in proportion to where the other dates have no gaps."""
    distance = np.asarray(distance_transform_edt(~known), np.float32)
    return np.exp(LIKE * np.log(np.maximum(usual, np.float32(LEAST))) + DISTANCE * np.log1p(distance))


def part_to_hide(known: Known) -> Known:
    """Known pixels to hide, about a third: under the date's own gaps, mirrored, else in squares, else every third."""
    gaps, total = ~known, np.count_nonzero(known)
    tries = [known & mirrored for mirrored in (gaps[::-1], gaps[:, ::-1], gaps[::-1, ::-1])]
    best: Known = min(tries, key=lambda hidden: abs(np.count_nonzero(hidden) / total - 1 / 3))
    if FEW <= np.count_nonzero(best) <= 0.6 * total:
        return best
    y, x = np.indices(known.shape)
    for side in (SQUARE, SQUARE // 4):
        best = known & ((y // side + x // side) % 3 == 0)
        if FEW <= np.count_nonzero(best) <= 0.6 * total:
            return best
    best = np.zeros_like(known)
    best.flat[np.flatnonzero(known)[::3]] = True
    return best
