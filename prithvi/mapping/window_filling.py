"""A series filled window by window: what `blend` predicts, and finished rows out of the blended answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from prithvi import windows
from prithvi.contract import Contract
from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.engine import Arrays, Part, Target, blank
from prithvi.mapping.fillers import Fill, Filled, Known, fill_window
from prithvi.mapping.inference import Ground
from prithvi.mapping.sliding_window import BlendedRows, Rows, rows_of
from prithvi.mapping.temporal_context import Turn, neighbours
from prithvi.windows import WindowPlan

Values = npt.NDArray[np.floating[Any]]
SIDE = 224
"""Of the squares that a function fills which does not say what it was made for, in pixels."""


def plan_of(fill: Fill, height: int, width: int, window: int | None = None, stride: int | None = None) -> WindowPlan:
    """The squares that a scene is filled in.

    Args:
        fill: how; a model says what it was made for.
        height: rows of the scene.
        width: columns.
        window: side of a square; default the model's, or less where the scene is smaller than that.
        stride: pixels between squares; default half a square.

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
    return windows.plan(height, width, size, max(1, size // 2) if stride is None else stride)


@dataclass(frozen=True)
class FillRun:
    """The dates of a turn filled from those beside them; a `prithvi.mapping.engine.Run` over the dates it holds."""

    fill: Fill
    turn: Turn
    together: int
    uncertainty: bool = True
    contract: Contract | None = None

    def outputs(self, target: Target) -> xr.Dataset:
        """What `fill` gives of the turn's dates, blank."""
        series = target.grid.isel(time=list(self.turn.wanted))
        (dates, _, *size), dims = series.shape, series.dims
        result = xr.Dataset({"image": (dims, blank(series.shape, series.dtype))}, coords=series.coords)
        result["image"].attrs = series.attrs
        result["filled"] = (("time", "y", "x"), blank((dates, *size), bool))
        if self.uncertainty:
            result["uncertainty"] = (dims, blank(series.shape, np.float32))
        return result

    def rows(self, scene: xr.DataArray, part: Part) -> Iterator[tuple[int, Arrays]]:
        """See `prithvi.mapping.engine.Run`."""
        kept = KeptRows(rows_of(scene, self.contract, part.tally), self.turn.wanted)
        predict = FillWindows(self.fill, part.ground, self.turn, self.together, self.uncertainty)
        for rows in part.blend(kept, scene, predict, 1):
            first = part.rows.start + rows.start
            observed = kept.take(first, first + rows.valid.shape[0])
            yield rows.start, filled_rows(rows, observed, self.uncertainty)


@dataclass(frozen=True)
class FillWindows:
    """The dates of a turn filled in a window; a `prithvi.mapping.sliding_window.Predict`.

    Its outputs are, date by date: the bands and their weight, with `uncertainty` also the bands' standard errors and
    the weight of these. The weight is 1 where a value is valid. Invalid values are 0 with weight 0, so that overlapping
    windows average the valid ones only.
    """

    fill: Fill
    ground: Ground
    """Of the dates that are held."""
    turn: Turn
    together: int | None
    uncertainty: bool

    def __call__(self, pixels: torch.Tensor, centres: list[tuple[float, float]]) -> torch.Tensor:
        assert len(pixels) == 1
        latitude, longitude = self.ground.places(centres)[0].tolist()
        image = pixels[0].numpy()
        times = np.full((image.shape[1], 2), np.nan, np.float32)
        if self.ground.dates is not None:
            times = self.ground.dates[0].numpy()
        known: Known = np.asarray(np.isfinite(image[0]))
        # Dates with the same neighbours are filled by one call, which gives the answer for each of them.
        found: dict[tuple[int, ...], Filled] = {}
        outputs = []
        for date in self.turn.wanted:
            group = neighbours(known, date, self.together)
            key, place = tuple(group), group.index(date)
            if key not in found:
                part = image[:, group], known[group], times[group], (latitude, longitude)
                found[key] = fill_window(self.fill, *part, self.uncertainty)
            outputs += _saying(found[key].image[:, place])
            if self.uncertainty:
                outputs += _saying(found[key].uncertainty[:, place])
        return torch.from_numpy(np.concatenate(outputs))[None]


def _saying(values: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """(band, y, x) values and their (1, y, x) weight: both 0 where a band of the pixel is missing."""
    there: Known = np.asarray(np.isfinite(values).all(axis=0))
    return [np.where(there, values, np.float32(0)), there[None].astype(np.float32)]


class KeptRows:
    """Rows of a scene, kept from when they are read until they are answered for.

    Args:
        rows: where pixels come from; asked for rows once and from top to bottom.
        wanted: the dates that are kept.

    """

    def __init__(self, rows: Rows, wanted: tuple[int, ...]) -> None:
        self.rows, self.wanted = rows, list(wanted)
        self.parts: list[tuple[int, npt.NDArray[np.float32]]] = []

    def __call__(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """(T, band, rows, width) of all dates; see `Rows`."""
        pixels = self.rows(first, last)
        self.parts.append((first, pixels[self.wanted]))
        return pixels

    def take(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """(wanted, band, rows, width) of rows that were read; what lies above them is kept no longer."""
        self.parts = [(start, part) for start, part in self.parts if start + part.shape[2] > first]
        cut = [part[:, :, max(first - start, 0) : max(last - start, 0)] for start, part in self.parts]
        return np.concatenate(cut, axis=2)


def filled_rows(rows: BlendedRows, observed: npt.NDArray[Any], uncertainty: bool) -> dict[str, npt.NDArray[Any]]:
    """Finished rows out of the blended answers of a `FillWindows`.

    Args:
        rows: the answers.
        observed: (date, band, rows, width) what was there.
        uncertainty: whether they have it.

    Returns:
        `image` (date, band, rows, width): observed values as they were, NaN where nothing can be said; `filled` (date,
        rows, width): True for pixels of which a band or more was unknown, and none is any more; `uncertainty` (date,
        band, rows, width): standard error, 0 where observed, NaN where nothing can be said.

    """
    known, scores = np.isfinite(observed), rows.scores.numpy()
    dates, bands, *shape = observed.shape
    if len(scores) == 0:  # no window with data was seen yet
        scores = np.zeros((dates * (bands + 1) * (1 + uncertainty), *shape), np.float32)
    # The order of outputs is that of `FillWindows`: date, then image or uncertainty, then bands and their weight.
    answers = scores.reshape(dates, 1 + uncertainty, bands + 1, *shape)
    image = np.where(known, observed, _where_said(answers[:, 0])).astype(observed.dtype)
    found = {"image": image, "filled": np.isfinite(image).all(axis=1) & ~known.all(axis=1)}
    if uncertainty:
        unsure = np.where(np.isfinite(image), _where_said(answers[:, 1]), np.float32(np.nan))
        found["uncertainty"] = np.where(known, np.float32(0), unsure)
    return found


def _where_said(answers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(date, band + 1, y, x) blended values, their weight in the last band, to (date, band, y, x) means or NaN."""
    weight = answers[:, -1:]
    return np.where(weight > 0, answers[:, :-1] / np.where(weight > 0, weight, 1), np.float32(np.nan))
