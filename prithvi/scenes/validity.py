"""Which stored values cannot be reflectance: one rule for maps, filled series, embeddings, chips and training.

A value that is not finite, or means a reflectance below -0.2 or above 2.0, is no measurement, whatever the file says. A
value that could be one (0, -1, or 65535 in Landsat Collection 2, which would be 1.602) is taken for fill only where
every band of the pixel holds it and no surface would: it is not above 0, or the last number of a 16-bit type.
Both become NaN, as a declared nodata value does, and are counted so that results can say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

LOWEST, HIGHEST = -0.2, 2.0
"""Reflectance that pixels can have: a little below zero after atmospheric correction, above 1 on bright slopes."""
_SLACK = 1e-6
"""Reflectance, so that -0.2 itself (0 in Landsat Collection 2) is not below -0.2 by rounding."""
_NAMED = 3
"""Values that a sentence names."""
_KEPT = 64
"""Different values of a read that are counted by themselves; of bright clouds there may be thousands."""

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
Removed = dict[str, tuple[Mask, Values]]
"""Maps a reason to the mask (y, x) of pixels it removed and one stored value (y, x) each; reasons without pixels are
absent.
"""
IMPOSSIBLE, UNIFORM = "impossible", "uniform"


@dataclass(frozen=True)
class Range:
    """The stored values of a band that can be reflectance."""

    low: float
    high: float

    @classmethod
    def of(cls, gain: float, bias: float) -> Range:
        """Of a band with reflectance = value x gain + bias."""
        return cls((LOWEST - _SLACK - bias) / gain, (HIGHEST + _SLACK - bias) / gain)

    def outside(self, values: Values) -> Mask | None:
        """Where values lie outside; None where none does. NaN lies inside."""
        low, high = self.low, self.high
        if values.dtype.kind in "iu":
            low, high = int(np.ceil(low)), int(np.floor(high))  # so that nothing is converted to compare it
        if values.size == 0 or (low <= values.min() and values.max() <= high):  # false where there is a NaN
            return None
        found: Mask = (values < low) | (values > high)
        return found if found.any() else None


@dataclass
class Tally:
    """Counts the pixels that a result takes as missing though no file declares them so, each row of a date once.

    Args:
        dates: of the scene.
        height: rows of the scene.
        rows: those that count; default all.
        columns: those that count; default all.
        wanted: (rows, width) bool of rows, False for pixels that do not count; None counts all.

    """

    dates: int
    height: int
    rows: slice = field(default_factory=lambda: slice(None))
    columns: slice = field(default_factory=lambda: slice(None))
    wanted: Callable[[int, int], Mask] | None = None
    found: dict[tuple[int, str], Counter[float]] = field(default_factory=dict)
    """Date and reason to how many pixels hold which value; beside the commonest ones NaN stands for all others."""

    def __post_init__(self) -> None:
        self._new = np.zeros((self.dates, self.height), bool)
        self._new[:, self.rows] = True

    def add(self, date: int, first: int, found: Removed, height: int) -> None:
        """Counts what a read of rows found.

        Args:
            date: place of the date.
            first: row of the first that was read.
            found: reason to where (y, x), and the (y, x) value there.
            height: rows that were read.

        """
        # Rows are read more than once (overlapping windows, a sample beforehand) and count the first time only.
        new = self._new[date, first : first + height]
        for reason, (where, values) in found.items():
            here = np.zeros_like(where)
            here[:, self.columns] = (where & new[:, None])[:, self.columns]
            if self.wanted is not None:
                here &= self.wanted(first, first + height)
            kept, numbers = np.unique(values[here], return_counts=True)
            common = np.argsort(-numbers, kind="stable")
            counter = self.found.setdefault((date, reason), Counter())
            for place in common[:_KEPT]:
                counter[float(kept[place])] += int(numbers[place])
            counter[np.nan] += int(numbers[common[_KEPT:]].sum())
        new[:] = False

    def sentence(self, gain: float, bias: float = 0.0, date: int | None = None) -> str:
        """What is to be said of them, empty for none.

        Args:
            gain: reflectance = value x gain + bias.
            bias: see gain.
            date: place of the date; None tells of all.

        """
        scale = f"scale {1 / gain:,.6g}" + (f" and offset {bias / gain:,.6g}" if bias else "")
        ends = {
            IMPOSSIBLE: f", which cannot be reflectance at {scale}: taken as no data.",
            UNIFORM: " in every band, which nobody declares to be no data: taken as that.",
        }
        said = []
        for reason, end in ends.items():
            counter: Counter[float] = Counter()
            for (own, why), found in self.found.items():
                if why == reason and date in (None, own):
                    counter.update(found)
            number = counter.total()
            if number:
                named = [value for value, count in counter.most_common() if count and not np.isnan(value)][:_NAMED]
                words = ", ".join(f"{value:.7g}" for value in named)
                others = " or other values" if sum(counter[value] for value in named) < number else ""
                said.append(f"{number:,} {'pixel holds' if number == 1 else 'pixels hold'} {words}{others}{end}")
        return " ".join(said)


def known_in(values: Values, missing: float = np.nan) -> Mask:
    """Where values are not what stands for missing ones."""
    found: Mask = ~np.isnan(values) if np.isnan(missing) else values != missing
    return found


def mask_impossible(
    stored: Sequence[Values] | Values,
    into: Values,
    ranges: Sequence[Range],
    whole: Sequence[np.dtype[Any]] | None = None,
    missing: float = np.nan,
) -> Removed:
    """Makes values of one date missing that cannot be reflectance.

    Args:
        stored: (y, x) values of each band that is used, as they are stored.
        into: (band, y, x) the same with `missing` where they are declared to be; it is changed, and may be `stored`.
        ranges: of each band.
        whole: the types of the bands in the file, where `stored` has another; default its own.
        missing: stands for missing values in `into`.

    """
    found: Removed = {}
    kinds = whole if whole is not None else [values.dtype for values in stored]
    # Fill is looked for before impossible values are masked: a pixel of -9999 in every band is both, and is told as
    # impossible.
    alike = _uniform(stored, kinds)
    if alike is not None:
        alike &= known_in(into, missing).any(axis=0)
    for number, (values, own) in enumerate(zip(stored, ranges, strict=True)):
        out = own.outside(values)
        if out is None:
            continue
        out &= known_in(into[number], missing)
        if not out.any():
            continue
        if IMPOSSIBLE not in found:
            found[IMPOSSIBLE] = out, values.astype(np.float64)
        else:
            where, held = found[IMPOSSIBLE]
            np.copyto(held, values, where=out & ~where)
            where |= out
        into[number][out] = missing
    if alike is not None:
        if IMPOSSIBLE in found:
            alike &= ~found[IMPOSSIBLE][0]
        if alike.any():
            found[UNIFORM] = alike, stored[0].copy()
            into[:, alike] = missing
    return found


def values_without_impossible(
    values: Floats, gain: float, bias: float, dtype: str = "", tally: Tally | None = None, first: int = 0
) -> Floats:
    """(time, band, y, x) values with NaN where `mask_impossible` finds any that cannot be reflectance; then copied.

    Args:
        values: NaN where missing.
        gain: reflectance = value x gain + bias.
        bias: see gain.
        dtype: the type in which they were stored.
        tally: counts what is found.
        first: the row of the first, for the tally.

    """
    result = values
    ranges = [Range.of(gain, bias)] * values.shape[1]
    kinds = [np.dtype(dtype) if dtype else values.dtype] * values.shape[1]
    for date, stack in enumerate(values):
        found: Removed = {}
        if _uniform(stack, kinds) is not None or any(
            own.outside(band) is not None for own, band in zip(ranges, stack, strict=True)
        ):
            changed = stack.copy()
            found = mask_impossible(stack, changed, ranges, kinds)
        if tally is not None:
            tally.add(date, first, found, stack.shape[1])
        if found:
            if result is values:
                result = values.copy()
            result[date] = changed
    return result


def fill_like(stored: Values, ranges: Sequence[Range], kinds: Sequence[np.dtype[Any]]) -> Mask:
    """(band, n) values of pixels: where every band holds the same value and no surface would."""
    alike = _uniform(stored, kinds)
    same: Mask = (stored == stored[0]).all(axis=0)
    for values, own in zip(stored, ranges, strict=True):
        same &= (values < own.low) | (values > own.high)
    return same if alike is None else same | alike


def _uniform(stored: Sequence[Values] | Values, kinds: Sequence[np.dtype[Any]]) -> Mask | None:
    """Where all bands hold one value that is not above 0 or the last of its type; None where none does."""
    first = stored[0]
    last = [int(np.iinfo(kind).max) for kind in dict.fromkeys(kinds) if kind.kind in "iu" and kind.itemsize >= 2]
    if len(stored) < 2 or first.size == 0:
        return None
    for values in stored:
        # Most reads have no such value in some band, which the smallest and the largest tell. NaN tells nothing.
        if values.min() > 0 and not any(values.max() >= value for value in last):
            return None
    alike: Mask = first <= 0
    for value in last:
        alike |= first == value
    for values in stored[1:]:
        if not alike.any():
            return None
        alike &= first == values
    return alike if alike.any() else None
