"""Sequences of dates of each tile: clear ones, neither too near nor too far apart.

The published recipe for Prithvi-EO-2.0: a date is followed by the clearest one 4 to 12 weeks later, up to 16 dates in a
row, and samples of 4 dates are cut out of the row every 2 dates. Dates have at most 15 % clouds and 5 % missing pixels;
if that leaves fewer than 10 sequences, both shares are raised by 0.1 and the longest gap by four weeks, until the
shares add up to 0.6. Two things differ here: a step of relaxing that gains no sequence is undone, and where following
the clearest date ends a row too early, the clearest complete row is taken.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from rasterio.errors import RasterioError

from prithvi.errors import ConfigError, DatasetError, SceneError, counted
from prithvi.hls.granules import FILL, Granule, good
from prithvi.hls.items import MISSING, asset_href, by_tile, cloud_cover
from prithvi.parallel import Progress, run
from prithvi.scenes.paths import readable
from prithvi.scenes.remote import ask

SPLIT = "prithvi:split"
"""Property of an item: the part that chips of its tile belong to."""
SEQUENCES = "prithvi:sequences"
"""Property of an item: `number/position` of each sequence of its tile that it belongs to."""

_THIN = 8
"""Step in pixels at which an Fmask is sampled for its share of clouds."""
_TOLERANCE = 1e-9
_SUM = 0.6
"""Relaxing ends when cloud and missing share together pass this."""


@dataclass(frozen=True)
class DateRule:
    """Conditions on a sequence of dates."""

    frames: int = 3
    """Dates in a sample."""
    min_gap: int = 28
    """Days between two dates, at least."""
    max_gap: int = 84
    """Days between two dates, at most."""
    max_cloud: float = 0.15
    """Largest share of clouds over the whole granule."""
    max_missing: float = 0.05
    """Largest share of the granule without data."""
    wanted: int = 10
    """Sequences below which the rule is relaxed; 0 never relaxes."""
    longest: int = 16
    """Dates that are followed in a row before samples are cut out of the row."""
    step: int = 2
    """Dates from the start of one sample in a row to the start of the next."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.step < 1 or self.longest < self.frames or not 0 <= self.min_gap <= self.max_gap:
            found = f"{self.frames} dates in rows of {self.longest} with a step of {self.step}"
            raise ConfigError(f"{found} and gaps of {self.min_gap} to {self.max_gap} days: that cannot be.")

    @classmethod
    def of_percent(
        cls, frames: int, min_gap: int, max_gap: int, max_cloud: float, max_missing: float = 5.0, wanted: int = 10
    ) -> DateRule:
        """A rule with shares in per cent, as on the command line, and rows of at least one sample."""
        return cls(frames, min_gap, max_gap, max_cloud / 100, max_missing / 100, wanted, longest=max(16, frames))


@dataclass(frozen=True)
class Sequences:
    """The sequences of one tile."""

    dates: tuple[tuple[int, ...], ...]
    """Each a row of positions in the given dates, in order of time."""
    rule: DateRule
    """The rule by which they were found."""
    relaxed: int
    """Steps of relaxing that it took."""

    def sentence(self) -> str:
        """The number of sequences and the relaxed limits; empty if nothing was relaxed."""
        if not self.relaxed:
            return ""
        rule = self.rule
        return (
            f"{counted(len(self.dates), 'sequence')} after relaxing {counted(self.relaxed, 'time')}: "
            f"clouds up to {rule.max_cloud:.0%}, missing up to {rule.max_missing:.0%}, "
            f"gaps up to {counted(rule.max_gap, 'day')}"
        )


def date_sequences(
    times: Sequence[dt.datetime], cloud: Sequence[float], missing: Sequence[float], rule: DateRule
) -> Sequences:
    """Sequences of dates of one tile, the clearest dates preferred, the rule relaxed where it leaves too few.

    Args:
        times: of each granule.
        cloud: share of clouds of each, 0 to 1.
        missing: share without data of each, 0 to 1.
        rule: applied first; relaxed step by step.

    """
    # Loosened step by step, clouds, missing pixels and gaps together, until there are enough sequences.
    best = Sequences(_sequences(times, cloud, missing, rule), rule, 0)
    relaxed = 0
    while len(best.dates) < rule.wanted and rule.max_cloud + rule.max_missing <= _SUM + _TOLERANCE:
        rule = replace(
            rule, max_cloud=rule.max_cloud + 0.1, max_missing=rule.max_missing + 0.1, max_gap=rule.max_gap + 28
        )
        relaxed += 1
        found = _sequences(times, cloud, missing, rule)
        if len(found) > len(best.dates):  # a looser rule that gains nothing is not taken
            best = Sequences(found, rule, relaxed)
    return best


def _sequences(
    times: Sequence[dt.datetime], cloud: Sequence[float], missing: Sequence[float], rule: DateRule
) -> tuple[tuple[int, ...], ...]:
    # From every usable date a row is followed greedily, always on to the clearest date in reach, and samples of
    # `frames` dates are cut out of the row every `step` dates. Rows of different starts soon run together, so the same
    # sample comes up many times: a dictionary keeps each once, in the order of the first time.
    usable = [
        index
        for index in sorted(range(len(times)), key=lambda index: (times[index], index))
        if cloud[index] <= rule.max_cloud + _TOLERANCE and missing[index] <= rule.max_missing + _TOLERANCE
    ]
    if rule.frames == 1:
        return tuple((index,) for index in usable)
    # Days are counted from date to date: overpasses 16 days apart may lie a few seconds less than 16 x 24 hours apart.
    later = {
        index: [
            other
            for other in usable
            if rule.min_gap <= (times[other].date() - times[index].date()).days <= rule.max_gap
            and times[other] > times[index]
        ]
        for index in usable
    }
    burden = [clouds + gone for clouds, gone in zip(cloud, missing, strict=True)]
    found: dict[tuple[int, ...], None] = {}
    for start in usable:
        row = [start]
        while len(row) < rule.longest and later[row[-1]]:
            row.append(min(later[row[-1]], key=lambda index: (burden[index], times[index], index)))
        if len(row) < rule.frames:  # the clearest dates may lead past the end where others would not
            row = _clearest_row(start, rule.frames, later, burden)
        for first in range(0, len(row) - rule.frames + 1, rule.step):
            found[tuple(row[first : first + rule.frames])] = None
    return tuple(found)


def _clearest_row(start: int, frames: int, later: Mapping[int, Sequence[int]], burden: Sequence[float]) -> list[int]:
    """Of all rows of `frames` dates from `start` on the one with the least clouds and missing pixels; empty if none."""
    # Dynamic programming backwards in time: `rows` has, for each date, the best row that begins there, of one date at
    # first and of one more after each round. Ties go to the earlier dates, as `min` compares the rows themselves.
    rows = {index: (burden[index], [index]) for index in later}
    for _ in range(frames - 1):
        longer = {}
        for index, following in later.items():
            reach = [rows[other] for other in following if other in rows]
            if reach:
                total, best = min(reach)
                longer[index] = (burden[index] + total, [index, *best])
        rows = longer
    return rows[start][1] if start in rows else []


def choose_dates(
    items: Sequence[pystac.Item],
    rule: DateRule,
    *,
    split: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> list[pystac.Item]:
    """The items that form sequences of dates; each lists its sequences in the property `SEQUENCES`.

    Args:
        items: granules, of any number of tiles.
        rule: conditions on a sequence; relaxed tile by tile where they leave too few.
        split: tile to part (train or val); other tiles are left out. None keeps all.
        progress: called while Fmasks are looked at, where items do not state their shares of clouds and missing pixels.
        note: called with a sentence for each tile whose rule was relaxed.

    Raises:
        DatasetError: no sequence in any tile.

    """
    # Tile by tile, as dates of different tiles have nothing to do with each other. The choice is written into copies of
    # the items (`number/position` of each sequence), so that it travels in any file of items and a build repeats it.
    tiles = {tile: found for tile, found in by_tile(items).items() if split is None or tile in split}
    shares = measure([item for found in tiles.values() for item in found], progress)
    chosen = []
    for tile, found in tiles.items():
        times = [Granule.parse(item.id).time for item in found]
        cloud, missing = zip(*(shares[item.id] for item in found), strict=True)
        sequences = date_sequences(times, cloud, missing, rule)
        if sequences.sentence():
            note(f"T{tile}: {sequences.sentence()}.")
        belongs: dict[int, list[str]] = {}
        for number, dates in enumerate(sequences.dates):
            for position, index in enumerate(dates):
                belongs.setdefault(index, []).append(f"{number}/{position}")
        for index, words in sorted(belongs.items()):
            item = found[index].clone()
            item.properties |= {SEQUENCES: words} if split is None else {SEQUENCES: words, SPLIT: split[tile]}
            chosen.append(item)
    if not chosen:
        message = f"none of the {len(tiles)} tiles has {rule.frames} dates {rule.min_gap} to {rule.max_gap} days apart"
        raise DatasetError(f"{message} that are clear enough: search a longer time, or fewer --frames.")
    return chosen


def measure(items: Sequence[pystac.Item], progress: Progress | None = None) -> dict[str, tuple[float, float]]:
    """Shares of clouds and of missing pixels of each item, by id: as its properties state, else from its Fmask.

    Raises:
        SceneError: an Fmask cannot be read.

    """
    # Most archives state clouds and some state missing pixels; only where one is lacking is the Fmask opened, every
    # eighth pixel of it (an overview where the file has one), on threads as it is the network that takes the time.
    shares: dict[str, tuple[float, float]] = {}
    tasks: dict[str, Any] = {}
    for item in items:
        cloud, missing = cloud_cover(item), item.properties.get(MISSING)
        share = cloud / 100 if cloud is not None else None
        if share is not None and missing is not None:
            shares[item.id] = (share, float(missing))
        else:
            tasks[item.id] = (_look, (readable(asset_href(item, "fmask")), share))
    failed = run(tasks, workers=8, progress=progress, done=shares.__setitem__)
    for error in failed.values():
        raise error
    return shares


def _look(path: str, cloud: float | None) -> tuple[float, float]:
    """Shares of clouds (and their shadows, among pixels with data) and of missing pixels, by every eighth pixel."""

    def every_eighth(raster: rasterio.DatasetReader) -> npt.NDArray[np.uint8]:
        found: npt.NDArray[np.uint8] = raster.read(1, out_shape=tuple(max(1, size // _THIN) for size in raster.shape))
        return found

    try:
        small = ask(path, every_eighth)
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read ({error}): leave the granule out, or fetch it again.") from error
    there = small != FILL
    missing = 1 - float(there.mean())
    if cloud is None:
        cloud = 1 - float(good(small)[there].mean()) if there.any() else 1.0
    return float(np.clip(cloud, 0, 1)), missing
