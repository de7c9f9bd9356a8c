"""A time series with holes to one without: every date a Cloud-Optimized GeoTIFF, and what was filled marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
import xarray as xr

from prithvi.bands import check_names
from prithvi.contract import Contract
from prithvi.errors import OutputError, SceneError
from prithvi.mapping.blend import blend
from prithvi.mapping.filledrows import FilledRows, FillWindows, KeptRows, Values, plan_of
from prithvi.mapping.gaps import Fillable, ModelFill, as_fill, called, dates_of
from prithvi.mapping.masks import refuse_nothing_left, without_clouds
from prithvi.mapping.memory import frugal
from prithvi.mapping.provenance import Provenance
from prithvi.mapping.rasters import Grid, Raster, RasterWriter
from prithvi.mapping.scoring import Ground
from prithvi.mapping.strips import look_over, rows_of
from prithvi.mapping.together import turns
from prithvi.scenes import conform, transform_of
from prithvi.scenes.acquisition_dates import dated, days_of
from prithvi.scenes.conform import units_of
from prithvi.scenes.validity import Tally

STORED, SCALE = -9999, 1e-4
OBSERVED, FILLED, NOTHING = 0, 1, 255
"""Values of the mask beside each date."""


@dataclass(frozen=True)
class FillResult:
    """What was written."""

    paths: tuple[Path, ...]
    """A file for each date, in order."""
    observed: int
    """Pixels and dates that were there."""
    filled: int
    empty: int
    """Those that could not be filled."""
    notes: tuple[str, ...] = ()
    """How each date's mask was read and what it leaves; which pixels were taken as missing though nobody declares them
    so, by date.
    """


def fill_series(
    series: xr.DataArray,
    folder: str | Path,
    model: Fillable,
    *,
    bands: Sequence[str] | None = None,
    clear: xr.DataArray | None = None,
    together: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    uncertainty: bool = True,
    resume: bool = False,
    device: str | torch.device | None = None,
    inputs: Sequence[str | Path] = (),
    command: str = "prithvi.mapping.fill_series",
    progress: Callable[[int, int], None] | None = None,
) -> FillResult:
    """Fills every date from the others and writes DATE.tif (int16, reflectance x 10,000, nodata -9999),
    DATE_filled.tif (0 observed, 1 filled, 255 nothing) and DATE_uncertainty.tif (as DATE.tif: the standard error, 0
    where observed).

    The values are those of `prithvi.fill`, rounded; uncertainty is rounded up. Pixels are held for a row of windows of
    the dates that are filled at once and the neighbours that may be of use to them, never for the whole height.

    Args:
        series: (time, band, y, x), what `prithvi.open_scene` gives for several dates.
        folder: where to.
        model: as of `prithvi.fill`; a function gets reflectance x 10,000.
        bands: common names; default the model's, or all of the series.
        clear: (time, y, x) True where clear, False under clouds, see `prithvi.fill`; what `prithvi.mapping.clear_of`
            makes of files. None where clouds are holes already.
        together: see `prithvi.fill`.
        window: side of the squares that are filled one by one, in pixels; default that of the model, 224 of any other.
        stride: pixels between them; default half a window, so that overlaps blend.
        uncertainty: whether to write it; it takes two more runs of every window with gaps.
        resume: go on from the rows that an interrupted run of the same finished.
        device: torch device; default a GPU where there is one.
        inputs: files or folders of the series and its masks, for the record in every file, and so that a run that is
            gone on with is one of the same; default what the series names as its source.
        command: what stands in the files as the command that made them.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError: fewer than two dates, a date twice, dates that are not known, or other dimensions; masks that are
            not of these dates and this grid, or leave nothing.
        BandError, ScaleError: see `prithvi.scenes.conform`.
        ModelError, CheckpointError: see `prithvi.load`.
        OutputError: a file cannot be written. The finished rows are kept.

    """
    fill = as_fill(model, device)
    if bands is None:
        bands = fill.contract.bands if isinstance(fill, ModelFill) else [str(name) for name in series["band"].values]
    names = check_names(list(bands))
    contract = Contract(names, (0.0,) * len(names), (1.0,) * len(names))
    series = dated(in_order(series))
    labels = _labels(series)
    series = without_clouds(conform(series, contract), clear)
    notes: tuple[str, ...] = ()
    if clear is not None:
        notes = tuple(map(str, clear.attrs.get("masks", ())))
        refuse_nothing_left(series)
    height, width, number = series.sizes["y"], series.sizes["x"], len(labels)
    plan = plan_of(fill, height, width, window, stride)
    seen = min(together or dates_of(fill), number)
    order = np.argsort(series["time"].values, kind="stable").tolist()
    rounds, folder = turns(order, seen), Path(folder)
    _refuse_itself(folder, labels, inputs)
    named = tuple(map(str, inputs)) or ((str(series.attrs["source"]),) if series.attrs.get("source") else ())
    accepted = tuple(map(str, series.attrs.get("accepted", ())))
    origin = Provenance(called(fill), str(getattr(fill, "sha256", "")), named, command, accepted)
    facts = {
        "input": _state(series, named), "clouds": list(notes) or clear is not None,
        "windows": [plan.window, plan.stride], "bands": names, "together": seen, "uncertainty": uncertainty,
        "fill": getattr(fill, "facts", origin.model), "software": origin.software,
    }  # fmt: skip
    for turn_number, turn in enumerate(rounds):
        held = list(turn.held)
        part = series.isel(time=held).assign_attrs(series.attrs)
        days = [labels[date] for date in turn.held]
        wanted = [days[place] for place in turn.wanted]
        rasters = [raster for day in wanted for raster in rasters_of(day, names, uncertainty, origin.tags())]
        key = {**facts, "dates": days, "wanted": wanted}
        with (
            frugal(series),
            RasterWriter(folder, Grid.of(series), rasters, key, resume) as writer,
        ):
            if writer.made:
                continue
            done = Done(turn_number * len(plan), len(rounds) * len(plan), progress)
            above = sum(row + plan.window <= writer.start for row in plan.rows) * len(plan.columns)
            done(above)
            tally = Tally(part.sizes["time"], height)
            pixels = rows_of(part, contract, tally)
            look_over(pixels, 0, writer.start)
            rows = KeptRows(pixels, tuple(turn.wanted))
            predict, begin = FillWindows(fill, Ground.of(part), turn, seen, uncertainty), writer.start
            inside = slice(begin, height), slice(0, width)
            for found in blend(rows, (height, width), predict, plan, batch_size=1, part=inside, progress=done):
                first = begin + found.start
                answers = FilledRows.of(found, rows.take(first, first + found.valid.shape[0]), uncertainty)
                writer.write(first, stored_dates(answers.image, answers.filled, answers.uncertainty))
                if found.last:
                    writer.keep()
            for place in turn.wanted:
                left_out = tally.sentence(*units_of(series, contract), place)
                writer.tag(replace(origin, left_out=left_out).tags(), days[place])
            writer.make()
            writer.publish()
    counts = np.zeros(256, dtype=np.int64)
    for label in labels:
        counts += _states(folder / f"{label}_filled.tif")
    paths = tuple(folder / f"{label}.tif" for label in labels)
    notes += tuple(f"{label}: {text}" for label, text in zip(labels, map(_left_out, paths), strict=True) if text)
    return FillResult(paths, int(counts[OBSERVED]), int(counts[FILLED]), int(counts[NOTHING]), notes)


class Done:
    """Counts windows for a progress bar.

    Args:
        before: those that were done earlier.
        whole: all.
        progress: called with the windows done and their number in all, or None.

    """

    def __init__(self, before: int, whole: int, progress: Callable[[int, int], None] | None) -> None:
        self.number, self.whole, self.progress = before, whole, progress

    def __call__(self, number: int) -> None:
        """So many more are done."""
        self.number += number
        if self.progress is not None:
            self.progress(self.number, self.whole)


def _refuse_itself(folder: Path, labels: Sequence[str], inputs: Sequence[str | Path]) -> None:
    """Raises OutputError where a file of the series would be written over."""
    there = [Path(file) for file in inputs if Path(file).exists()]
    for path in (folder / f"{label}{end}.tif" for label in labels for end in ("", "_filled", "_uncertainty")):
        if path.exists() and any(path.samefile(file) for file in there):
            raise OutputError(f"{path} is one of the series itself: choose another folder.")


def _state(series: xr.DataArray, inputs: Sequence[str]) -> dict[str, Any]:
    """What a series is told from another by, as long as its files are not written anew."""
    found = [Path(name) for name in inputs]
    files = [file for path in found for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
    states = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return {
        "inputs": list(inputs), "files": states, "shape": list(series.shape),
        "transform": list(transform_of(series))[:6], "gain": series.attrs.get("gain"), "bias": series.attrs.get("bias"),
    }  # fmt: skip


def in_order(series: xr.DataArray) -> xr.DataArray:
    """The series as (time, band, y, x).

    Raises:
        SceneError: no DataArray, or other dimensions.

    """
    if not isinstance(series, xr.DataArray):
        raise SceneError(
            f"the series is a {type(series).__name__}; it is to be a DataArray with the dimensions (time, band, y, x)."
        )
    if set(series.dims) != {"time", "band", "y", "x"}:
        raise SceneError(
            f"{series.attrs.get('source', 'the series')} has the dimensions ({', '.join(map(str, series.dims))}); a "
            "series has (time, band, y, x)."
        )
    return series.transpose("time", "band", "y", "x").assign_attrs(series.attrs)


def rasters_of(label: str, bands: Sequence[str], uncertainty: bool, tags: dict[str, str]) -> list[Raster]:
    """The files of a date."""
    found = [
        Raster(f"{label}.tif", tuple(bands), "int16", STORED, tags, SCALE),
        Raster(f"{label}_filled.tif", ("filled",), "uint8", NOTHING, tags, resampling="MODE"),
    ]
    if uncertainty:
        found.append(Raster(f"{label}_uncertainty.tif", tuple(bands), "int16", STORED, tags, SCALE))
    return found


def stored_dates(
    image: Values, filled: npt.NDArray[np.bool_], uncertainty: Values | None
) -> list[npt.NDArray[np.generic]]:
    """The values of `rasters_of`, date by date, out of (date, band, rows, width) and (date, rows, width) arrays."""
    values: list[npt.NDArray[np.generic]] = []
    for date, pixels in enumerate(image):
        there = np.isfinite(pixels).all(axis=0)
        values += [_whole(pixels), np.where(there, np.where(filled[date], FILLED, OBSERVED), NOTHING).astype(np.uint8)]
        if uncertainty is not None:
            values.append(_whole(np.ceil(uncertainty[date])))
    return values


def _whole(values: Values) -> npt.NDArray[np.int16]:
    stored = np.clip(np.round(np.nan_to_num(values)), STORED + 1, 32_767)
    return np.where(np.isfinite(values), stored, STORED).astype(np.int16)


def _states(path: Path) -> npt.NDArray[np.int64]:
    """Pixels of each value."""
    counts = np.zeros(256, dtype=np.int64)
    with rasterio.open(path) as raster:
        for _, part in raster.block_windows(1):
            counts += np.bincount(raster.read(1, window=part).ravel(), minlength=256)
    return counts


def _left_out(path: Path) -> str:
    with rasterio.open(path) as raster:
        return Provenance.from_tags(raster.tags()).left_out


def _labels(series: xr.DataArray) -> list[str]:
    """The dates as the files are called."""
    if series.sizes["time"] < 2 or days_of(series) is None:
        raise SceneError(
            f"{series.attrs.get('source', 'the series')} has {series.sizes['time']} dates, and a gap is filled from "
            "others: give files of two dates or more, with their dates (--date)."
        )
    labels = date_labels(series)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise SceneError(
            f"{series.attrs.get('source', 'the series')} has the date {twice} twice: leave one of them out."
        )
    return labels


def date_labels(series: xr.DataArray | xr.Dataset) -> list[str]:
    """What files of a series' dates are called: by the day, and by the time where two are of one day."""
    days = series["time"].dt.strftime("%Y-%m-%d").values.tolist()
    times = series["time"].dt.strftime("%Y-%m-%dT%H%M%S").values.tolist()
    return [str(time if days.count(day) > 1 else day) for day, time in zip(days, times, strict=True)]
