"""How the values of one sensor are brought to those of another: lines fitted where both saw the same ground clear.

Two sensors see one ground a little differently: their bands are not the same to the nanometre, nor are their angles and
the corrections of their products. What belongs to the sensors is the same on all dates; what belongs to one date (haze
that no mask knows, a field that was mown in between) is not. So the lines are fitted to several pairs of dates
together, which have no date in common, and kept for a band only where they also bring those pairs nearer to each other
that they were not fitted on.

The difference of the sensors is fitted as a function of their mean, which treats both alike: the line back is the line
there, read the other way, and noise in the one is not taken for a lower gain of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.optimize import least_squares

from prithvi.contract import Contract
from prithvi.scenes.conform import read

Values = npt.NDArray[np.floating[Any]]

APART = 3
"""Days between two dates that are compared, at most."""
PAIRS = 16
"""Pairs of dates that are compared, at most."""
LEAST_PAIRS = 2
"""With one pair alone nobody can tell what belongs to the sensors and what to these two dates."""
LEAST_PIXELS = 300
"""Of a sample that are clear on both dates of a pair, for it to count."""
STRIPS, STRIP = 5, 32
"""The rows of a date that are looked at: so many strips of so many rows, evenly spread."""
SAMPLE = 20_000
"""Pixels of a date that are looked at, at most."""
KEPT = 2048
"""Pixels that a pair of dates counts with, at most, so that no pair outvotes the others."""
FOLDS = 5
"""Parts that the pairs are put into, each of which is left out once."""
BETTER = 0.99
"""What is left out has to differ by less than this share of what it did, for a line, or for a shift, to be kept."""
STEEPEST = 0.3
"""Of a tilt: gains from .74 to 1.35. Beyond that it is no difference of sensors."""
FURTHEST = 0.5
"""Of a shift, as a share of the values' level."""


@dataclass(frozen=True)
class Line:
    """What becomes of one band's values: value x slope + offset, where that was fitted."""

    slope: float = 1.0
    offset: float = 0.0
    low: float = 0.0
    high: float = 0.0
    """The values that it was fitted on lie between these; beyond them the correction stays what it is there."""

    def __call__(self, values: Values) -> Values:
        """The values corrected; NaN stays."""
        inside = np.clip(values, self.low, self.high)
        correction: Values = (self.slope - 1) * inside + self.offset
        return values + correction.astype(values.dtype)


@dataclass(frozen=True)
class SensorGains:
    """The lines between the sensors of a series."""

    bands: tuple[str, ...]
    lines: Mapping[tuple[str, str], tuple[Line, ...]] = field(default_factory=dict)
    """(from, to) to a line for each band; a pair of sensors that is not among these stays as it is."""
    notes: tuple[str, ...] = ()
    """What was fitted on what, or why nothing was, in a sentence for each two sensors."""

    def brought(self, values: Values, own: str, wanted: str) -> Values:
        """(band, ...) values of one sensor as another would have them."""
        lines = self.lines.get((own, wanted)) if own != wanted else None
        if lines is None:
            return values
        return np.stack([line(band) for line, band in zip(lines, values, strict=True)])

    def facts(self) -> dict[str, Any]:
        """The lines as plain JSON values."""
        return {
            f"{own} to {wanted}": {band: list(asdict(line).values()) for band, line in zip(self.bands, of, strict=True)}
            for (own, wanted), of in sorted(self.lines.items())
        }


def fit_gains(
    series: xr.DataArray, sensors: Sequence[str], bands: Sequence[str], contract: Contract | None = None
) -> SensorGains:
    """The lines between the sensors of a series, fitted on a sample of its pixels, which is read for it.

    Args:
        series: (time, band, y, x), NaN where unknown and under clouds, its dates as datetime64.
        sensors: of its dates.
        bands: what its bands are called.
        contract: whose units the lines are for; None takes the values as they are.

    Returns:
        Lines for each two sensors with enough pairs of dates. `notes` has a sentence for each two, also without.

    """
    times = series["time"].values
    height, width = series.sizes["y"], series.sizes["x"]
    starts = np.linspace(0, height - STRIP, STRIPS).astype(int)
    rows = [slice(0, height)] if height * width <= SAMPLE * 4 else [slice(at, at + STRIP) for at in starts]

    @lru_cache(maxsize=8)
    def sample(date: int) -> Values:
        """(band, n) some pixels of a date, the same of all dates."""
        parts = [read(series[[date], :, part], contract)[0] for part in rows]
        values = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        return values[:, :: -(-values.shape[1] // SAMPLE)]

    lines: dict[tuple[str, str], tuple[Line, ...]] = {}
    notes = []
    for one, other in combinations(sorted(set(sensors)), 2):
        candidates = [
            (abs(times[first] - times[second]) / np.timedelta64(1, "D"), first, second)
            for first in np.flatnonzero(np.array(sensors) == one).tolist()
            for second in np.flatnonzero(np.array(sensors) == other).tolist()
        ]
        # The nearest first, and of those as near not only the first of the series (7919 is a large prime).
        near = sorted(
            (pair for pair in candidates if pair[0] <= APART),
            key=lambda pair: (int(pair[0]), (pair[1] + 1) * 7919 % (len(times) + 1), pair[2]),
        )
        pairs: list[Values] = []
        used: set[int] = set()
        for _, first, second in near:
            if len(pairs) == PAIRS or used & {first, second}:
                continue
            both = np.stack([sample(first), sample(second)])
            both = both[:, :, np.isfinite(both).all(axis=(0, 1))]
            if both.shape[2] >= LEAST_PIXELS:
                pairs.append(both[:, :, :: -(-both.shape[2] // KEPT)].astype(np.float64))
                used |= {first, second}
        number = sum(pair.shape[2] for pair in pairs)
        if len(pairs) < LEAST_PAIRS:
            few = "no pair of dates is" if not pairs else f"{len(pairs)} pair of dates alone is"
            notes.append(
                f"{one} and {other} are taken as they are, without gains: {few} up to {APART} days apart and clear on "
                f"both at {LEAST_PIXELS} pixels of the sample, and {LEAST_PAIRS} are needed."
            )
            continue
        there, back, told = zip(
            *(_of_band(name, [pair[:, band] for pair in pairs]) for band, name in enumerate(bands)), strict=True
        )
        lines[one, other], lines[other, one] = there, back
        notes.append(
            f"{one} is brought to {other} where it helps to fill it, and the other way round, by lines fitted on "
            f"{number:,} pixels of {len(pairs)} pairs of dates up to {APART} days apart: {', '.join(told)}."
        )
    return SensorGains(tuple(bands), lines, tuple(notes))


def _of_band(name: str, pairs: Sequence[Values]) -> tuple[Line, Line, str]:
    """The line from the first of two sensors to the second, the line back, and what is said of them.

    Args:
        name: of the band.
        pairs: (2, n) values of both, for each pair of dates.

    """
    means, differences = [pair.mean(axis=0) for pair in pairs], [pair[1] - pair[0] for pair in pairs]
    folds = [list(range(fold, len(pairs), FOLDS)) for fold in range(min(FOLDS, len(pairs)))]
    left = np.zeros(3)  # by what is left of the differences: without, with a shift, with a line
    for fold in folds:
        rest = [place for place in range(len(pairs)) if place not in fold]
        mean, difference = (np.concatenate([of[place] for place in rest]) for of in (means, differences))
        fits = (0.0, 0.0, 0.0), *_fits(mean, difference)
        for place in fold:
            left += [np.median(np.abs(differences[place] - _at(fit, means[place]))) for fit in fits]
    mean, difference = np.concatenate(means), np.concatenate(differences)
    shift, line = _fits(mean, difference)
    chosen, kept = (0.0, 0.0, 0.0), 0
    for place, (middle, offset, tilt) in enumerate((shift, line), start=1):
        sane = abs(tilt) <= STEEPEST and abs(offset) <= FURTHEST * abs(middle)
        if sane and left[place] < BETTER * left[kept]:
            chosen, kept = (middle, offset, tilt), place
    if kept == 0:
        return Line(), Line(), f"{name} as it is"
    middle, offset, tilt = chosen
    low, high = np.percentile(mean, [1, 99])
    there, back = (
        # The difference as a function of one of the two, where it was one of their mean.
        _rounded(1 + sign * tilt / (1 - sign * tilt / 2), sign * (offset - tilt * middle) / (1 - sign * tilt / 2),
                 *(end - sign * _at(chosen, end) / 2 for end in (low, high)))
        for sign in (1, -1)
    )  # fmt: skip
    sign = "-" if there.offset < 0 else "+"
    return there, back, f"{name} x {there.slope:.3f} {sign} {abs(there.offset):.4g}"


def _fits(mean: Values, difference: Values) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The middle of the means, the difference there and its change by the mean: without such a change, and with it."""
    middle, usual = float(np.median(mean)), float(np.median(difference))
    spread = max(float(np.median(np.abs(difference - usual))) * 1.4826, 1e-9)
    apart = mean - middle
    width = max(float(np.std(apart)), 1e-9)
    # Changed ground and haze lie far off the line; Cauchy's loss counts what lies far off ever less.
    design = np.stack([np.ones_like(apart), apart / width], axis=1)
    found = least_squares(
        lambda line: design @ line - difference, [usual, 0.0], lambda line: design.copy(), loss="cauchy", f_scale=spread
    ).x
    return (middle, usual, 0.0), (middle, float(found[0]), float(found[1]) / width)


def _at(fit: tuple[float, float, float], mean: Any) -> Any:
    middle, offset, tilt = fit
    return offset + tilt * (mean - middle)


def _rounded(*numbers: float) -> Line:
    """Of as many digits as are written, so that a run that is gone on with has the same line."""
    return Line(*(float(f"{number:.6g}") for number in numbers))
