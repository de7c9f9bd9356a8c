"""A series filled window by window: which dates are seen together, what is predicted, and finished rows out of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi import windows
from prithvi.contract import Contract
from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.engine import Arrays, Part, Target, blank
from prithvi.mapping.fillers import Fill, Known, Pixels, fill_dates
from prithvi.mapping.inference import PlaceAndDates
from prithvi.mapping.methods import Method
from prithvi.mapping.result_files import NOTHING, SourceLayer
from prithvi.mapping.sliding_window import BlendedRows, ReadRows, rows_of
from prithvi.mapping.two_sensors import SensorsOfTurn
from prithvi.process import one_blas_thread
from prithvi.windows import WindowPlan

SIDE = 224
"""Of the squares that a function fills which does not say what it was made for, in pixels."""
AT_ONCE = 4
"""Dates that are filled in one pass over a scene, and in blocks of which the dates have the same neighbours."""
REACH = 8
"""Dates before and after its block among which a date's neighbours are looked for."""


@dataclass(frozen=True)
class Turn:
    """One pass over a series: the dates that it reads and those that it fills."""

    dates_read: tuple[int, ...]
    """Indices into the series of all dates that are read, in the order of time."""
    dates_filled: tuple[int, ...]
    """Indices into `dates_read` of those that are filled."""
    near: tuple[tuple[int, ...], ...]
    """For each date that is filled the indices into `dates_read` of those that it may be filled from, and its own."""


def turns(
    order: Sequence[int],
    together: int,
    wanted: Collection[int] | None = None,
    observed: Collection[int] | None = None,
    sensors: Sequence[str] | None = None,
) -> list[Turn]:
    """The passes that fill every wanted date of a series once.

    What a date is filled from does not depend on which other dates are wanted: it is looked for among the observed
    dates in its reach, and never among dates that were added and hold nothing.

    Args:
        order: places in the series in the order of time.
        together: how many are seen together.
        wanted: the places that are filled; default all.
        observed: the places that hold anything; default all.
        sensors: of all places, where there are several. A date sees no fewer dates of its own sensor than it would if
            there were no other.

    Raises:
        ConfigError: fewer than two together.

    """
    if together < 2:
        raise ConfigError(f"{together} dates together: a gap is filled from at least one other.")
    reach, found = max(REACH, together), []
    seen = [at for at, place in enumerate(order) if observed is None or place in observed]
    # Each date's sensor, by its place in the order of time.
    own = dict.fromkeys(range(len(order)), "") if sensors is None else {at: sensors[of] for at, of in enumerate(order)}

    def around(at: int) -> set[int]:
        # Dates of one block are filled from the same ones, so that a method can share what it knows of these.
        block = bisect_left(seen, at) // AT_ONCE * AT_ONCE
        before, after = seen[:block], seen[block + AT_ONCE :]
        near = {at, *before[-reach:], *seen[block : block + AT_ONCE], *after[:reach]}
        for side in (before[::-1], after):
            near.update([date for date in side if own[date] == own[at]][:reach])
        return near

    def turn(filled: Sequence[int], read: Collection[int]) -> Turn:
        """Of places in the order of time."""
        index = {at: number for number, at in enumerate(sorted(read))}
        near = tuple(tuple(index[other] for other in sorted(around(at))) for at in filled)
        return Turn(tuple(order[at] for at in index), tuple(index[at] for at in filled), near)

    filled: list[int] = []
    read: set[int] = set()
    for at in (at for at, place in enumerate(order) if wanted is None or place in wanted):
        # Dates that lie far apart would bring too many neighbours into memory at once.
        if len(filled) == AT_ONCE or (
            filled and len(read | around(at)) > AT_ONCE + 2 * reach * (1 + (sensors is not None))
        ):
            found.append(turn(filled, read))
            filled, read = [], set()
        filled, read = [*filled, at], read | around(at)
    return [*found, turn(filled, read)] if filled else found


def plan_of(fill: Fill, height: int, width: int, window: int | None = None, stride: int | None = None) -> WindowPlan:
    """The squares that a scene is filled in.

    Args:
        fill: how; a model says what it was made for.
        height: rows of the scene.
        width: columns.
        window: side of a square; default the model's, or less where the scene is smaller than that.
        stride: pixels between squares; default half a square, or what the method says.

    Raises:
        SceneError: the scene is smaller than a patch of the model.
        ConfigError: patches do not divide the window, or the stride is larger.

    """
    side, patch = getattr(fill, "window", SIDE), getattr(fill, "patch", 1)
    if min(height, width) < patch:
        raise SceneError(f"the series has {height} x {width} pixels, fewer than one patch of the model ({patch}).")
    size = int(min(side, -(-max(height, width) // patch) * patch)) if window is None else window
    if size % patch:
        raise ConfigError(f"windows of {size} pixels are not whole patches of the model ({patch}): choose a multiple.")
    if stride is None:
        stride = max(1, int(size * getattr(fill, "step", 0.5)))
    return windows.plan(height, width, size, stride)


@dataclass(frozen=True)
class FillRun:
    """The dates of a turn filled from those beside them; a `prithvi.mapping.engine.Run` over the dates it holds."""

    fill: Fill
    turn: Turn
    together: int
    uncertainty: bool = True
    contract: Contract | None = None
    sensors: SensorsOfTurn | None = None
    """Where the series has several."""

    def outputs(self, target: Target) -> xr.Dataset:
        """What `fill` gives of the turn's dates, blank."""
        series = target.grid.isel(time=list(self.turn.dates_filled))
        (dates, _, *size), dims = series.shape, series.dims
        result = xr.Dataset({"image": (dims, blank(series.shape, series.dtype))}, coords=series.coords)
        result["image"].attrs = series.attrs
        result["filled"] = (("time", "y", "x"), blank((dates, *size), bool))
        if self.uncertainty:
            result["uncertainty"] = (dims, blank(series.shape, np.float32))
        if self.sensors is not None:
            layer = SourceLayer(self.sensors.names, ())
            result["source"] = (("time", "y", "x"), blank((dates, *size), np.uint8), layer.flags)
        return result

    def rows(self, scene: xr.DataArray, part: Part) -> Iterator[tuple[int, Arrays]]:
        """See `prithvi.mapping.engine.Run`."""
        kept = _KeptRows(rows_of(scene, self.contract, part.tally), list(self.turn.dates_filled), self.sensors)
        # Torch has threads of its own, and of a user's function nobody knows whether it may be called twice at once.
        cores = torch.get_num_threads() if isinstance(self.fill, Method) and self.fill.in_numpy else 1
        with ThreadPoolExecutor(cores, "filling") as pool:
            predict = partial(self._predict, part.place, pool)
            for rows in part.blend(kept, scene, predict, cores):
                first = part.rows.start + rows.start
                yield rows.start, self._finished(rows, kept.take(first, first + rows.valid.shape[0]))

    def _predict(
        self, place: PlaceAndDates, pool: ThreadPoolExecutor, pixels: torch.Tensor, centres: list[tuple[float, float]]
    ) -> torch.Tensor:
        """The dates of the turn filled in some windows; a `prithvi.mapping.sliding_window.Predict`."""
        places = place.places(centres).tolist()
        dates = place.dates()
        times = np.full((pixels.shape[2], 2), np.nan, np.float32) if dates is None else dates[0].numpy()
        with one_blas_thread():
            found = list(pool.map(partial(self._filled, times), pixels.numpy(), places))
        return torch.from_numpy(np.stack(found))

    def _filled(self, times: Pixels, image: Pixels, where: list[float]) -> Pixels:
        """The dates of the turn filled in one window.

        Its outputs are, date by date: the bands and their weight, with `uncertainty` also the bands' standard errors
        and the weight of these. The weight is 1 where a value is valid. Invalid values are 0 with weight 0, so that
        overlapping windows average the valid ones only.
        """
        known: Known = np.asarray(np.isfinite(image[0]))
        outputs = []
        for kinds in self._of_dates(image, known, times, (where[0], where[1])):
            for values in kinds[: 1 + self.uncertainty]:
                there = np.asarray(np.isfinite(values).all(axis=0))
                outputs += [np.where(there, values, np.float32(0)), there[None].astype(np.float32)]
        return np.concatenate(outputs)

    def _of_dates(
        self, image: Pixels, known: Known, times: Pixels, location: tuple[float, float]
    ) -> Iterator[tuple[Pixels, Pixels]]:
        """The dates of the turn, see `fill_dates`; those of each sensor from all dates as it would have seen them."""
        turn, sensors, options = self.turn, self.sensors, (self.together, self.uncertainty)
        if sensors is None:
            yield from fill_dates(self.fill, image, known, times, location, turn.dates_filled, *options, turn.near)
            return
        found: dict[int, tuple[Pixels, Pixels]] = {}
        for sensor in dict.fromkeys(sensors.dates[date] for date in turn.dates_filled):
            places = [place for place, date in enumerate(turn.dates_filled) if sensors.dates[date] == sensor]
            wanted, near = [turn.dates_filled[place] for place in places], [turn.near[place] for place in places]
            seen = sensors.brought(image, sensor)
            answers = fill_dates(self.fill, seen, known, times, location, wanted, *options, near)
            found.update(zip(places, answers, strict=True))
        yield from (found[place] for place in range(len(found)))

    def _finished(self, rows: BlendedRows, observed: npt.NDArray[Any]) -> Arrays:
        """Finished rows out of the blended answers.

        Args:
            rows: the answers.
            observed: (date, band, rows, width) what was there; see `_KeptRows.take`.

        Returns:
            `image` (date, band, rows, width): observed values as they were, NaN where nothing can be said; `filled`
            (date, rows, width): True for pixels of which a band or more was unknown, and none is any more;
            `uncertainty` (date, band, rows, width): standard error, 0 where observed, NaN where nothing can be said;
            of several sensors also `source` (date, rows, width), see `prithvi.mapping.result_files.SourceLayer`.

        """
        sources = observed[:, -1] if self.sensors is not None else None
        observed = observed if sources is None else observed[:, :-1]
        known, scores = np.isfinite(observed), rows.scores.numpy()
        dates, bands, *shape = observed.shape
        kinds = 1 + self.uncertainty
        if len(scores) == 0:  # no window with data was seen yet
            scores = np.zeros((dates * (bands + 1) * kinds, *shape), np.float32)
        # The order of outputs is that of `_filled`: date, then image or uncertainty, then bands and their weight.
        answers = scores.reshape(dates, kinds, bands + 1, *shape)
        weight = answers[:, :, -1:]
        means = np.where(weight > 0, answers[:, :, :-1] / np.where(weight > 0, weight, 1), np.float32(np.nan))
        image = np.where(known, observed, means[:, 0]).astype(observed.dtype)
        found = {"image": image, "filled": np.isfinite(image).all(axis=1) & ~known.all(axis=1)}
        if self.uncertainty:
            unsure = np.where(np.isfinite(image), means[:, 1], np.float32(np.nan))
            found["uncertainty"] = np.where(known, np.float32(0), unsure)
        if sources is not None:
            nothing = ~np.isfinite(image).all(axis=1)
            found["source"] = np.where(nothing, NOTHING, sources).astype(np.uint8)
        return found


@dataclass
class _KeptRows:
    """Rows of a scene, kept from when they are read until they are answered for.

    Args:
        rows: where pixels come from; asked for rows once and from top to bottom.
        dates: those that are kept.
        sensors: what tells which sensor saw a pixel; None where there is one.

    """

    rows: ReadRows
    dates: list[int]
    sensors: SensorsOfTurn | None = None
    parts: list[tuple[int, npt.NDArray[np.float32]]] = field(default_factory=list)

    def __call__(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """(T, band, rows, width) of all dates; see `ReadRows`."""
        pixels = self.rows(first, last)
        kept = pixels[self.dates]
        if self.sensors is not None:
            sources = self.sensors.sources(pixels, self.dates).astype(pixels.dtype)
            kept = np.concatenate([kept, sources[:, None]], axis=1)
        self.parts.append((first, kept))
        return pixels

    def take(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """(dates, band, rows, width) of rows that were read; what lies above them is kept no longer.

        Of several sensors there is one band more, which of them saw a pixel, see `SensorsOfTurn.sources`.
        """
        # This list is only changed in place, since the thread that reads appends to it meanwhile.
        while self.parts[0][0] + self.parts[0][1].shape[2] <= first:
            self.parts.pop(0)
        cut = [part[:, :, max(first - start, 0) : max(last - start, 0)] for start, part in self.parts]
        return np.concatenate(cut, axis=2)
