"""`prithvi.mapping.fill_series`: a series with gaps to files of one without, date by date, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from prithvi.bands import check_names, left_out_of_bands, reflective
from prithvi.errors import ConfigError, SceneError
from prithvi.files import fingerprint, refuse_overwrite, refuse_unwritable
from prithvi.mapping.asked_dates import AskedDates, refuse_unfillable
from prithvi.mapping.cog import RasterWriter, count_values, left_out_of
from prithvi.mapping.cubes import SeriesCube
from prithvi.mapping.engine import Progress, Target, write
from prithvi.mapping.fillers import Fill, Fillable, ModelFill, as_fill, origin_of
from prithvi.mapping.gap_filling import in_order, reflectance, refuse_lacking, rounds_of
from prithvi.mapping.gap_progress import by_gaps
from prithvi.mapping.masks import Masks, clear_by, laid_over, of_files, refuse_nothing_left, without_clouds
from prithvi.mapping.methods import Method
from prithvi.mapping.result_files import FILLED, NOTHING, OBSERVED, series_rasters
from prithvi.mapping.two_sensors import Sensors
from prithvi.mapping.window_filling import FillRun, plan_of
from prithvi.products.products import left_over
from prithvi.products.provenance import can_resume, checksum, identity
from prithvi.scenes import conform
from prithvi.scenes.conform import units_of
from prithvi.scenes.info import name_of
from prithvi.scenes.names import Date, days_of

_ENDS = ("", "_filled", "_uncertainty", "_source")
"""Of the names of a date's files."""


@dataclass(frozen=True)
class FillResult:
    """What was written."""

    paths: tuple[Path, ...]
    """A file for each date, in order; or the one cube."""
    dates: list[str]
    """What the dates are called."""
    observed: int
    """Pixels and dates that were there."""
    filled: int
    empty: int
    """Those that could not be filled."""
    notes: tuple[str, ...] = ()
    """How each date's mask was read and what it leaves; how the sensors of a series of several are brought to each
    other; which pixels were treated as nodata because they cannot be reflectance, by date; dates that stay empty.
    """


def fill_series(
    series: xr.DataArray,
    folder: str | Path,
    model: Fillable = "auto",
    *,
    bands: Sequence[str] | None = None,
    clear: xr.DataArray | None = None,
    masks: Masks | None = None,
    masks_are: str | None = None,
    only: Iterable[Date] | Date | None = None,
    on: Iterable[Date] | Date | None = None,
    every: int | str | None = None,
    start: Date | None = None,
    target: str | None = None,
    together: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    uncertainty: bool = True,
    resume: bool = False,
    device: str | torch.device | None = None,
    inputs: Sequence[str | Path] = (),
    zarr_format: int = 2,
    command: str = "prithvi.mapping.fill_series",
    progress: Progress | None = None,
) -> FillResult:
    """Fills every date from the others, or those that are asked for, and writes for each DATE.tif (int16, reflectance x
    10,000, nodata -9999), DATE_filled.tif (0 observed, 1 filled, 255 nothing) and DATE_uncertainty.tif (as DATE.tif:
    the standard error, 0 where observed).

    The values are those of `prithvi.fill`, rounded; uncertainty is rounded up. Pixels are held for a row of windows of
    the dates that are filled at once and the neighbours that may be of use to them, never for the whole height.

    Args:
        series: (time, band, y, x), what `prithvi.open_scene` gives for several dates.
        folder: where to; with the suffix `.zarr` the dates become one Zarr store instead of files, see
            `prithvi.mapping.cubes`: `image` and `uncertainty` (time, band, y, x) int16 with scale and nodata as in the
            files, `filled` (time, y, x) uint8. It appears when it is whole.
        model: as of `prithvi.fill`; a function gets reflectance x 10,000.
        bands: common names; default the model's, or all of the series.
        clear: (time, y, x) True where clear, False under clouds, see `prithvi.fill`; what `prithvi.mapping.clear_of`
            makes of files. None where clouds are holes already.
        masks: instead of `clear`, files; see `prithvi.fill`.
        masks_are: what the masks hold; see `prithvi.fill`.
        only: dates of the series, if only these are wanted; see `prithvi.fill`.
        on: days, if these are wanted, whether something was observed on them or not; see `prithvi.fill`.
        every: a day every so many days, likewise; see `prithvi.fill`.
        start: the first of these; see `prithvi.fill`.
        target: of a series of several sensors, see `prithvi.fill`: DATE_source.tif says of each pixel which of them saw
            it (1, 2, ... by their names, 0 filled, 255 nothing); of a cube it is `source` (time, y, x).
        together: see `prithvi.fill`.
        window: side of the squares that are filled one by one, in pixels; default that of the model, 224 of any other.
        stride: pixels between them; default half a window, three quarters for `local_regression`.
        uncertainty: whether to write it; it takes two more runs of every window with gaps.
        resume: keep the rows that an interrupted run with the same inputs and options has finished. Not of a lazy
            series that was calculated (`series.where(...)`), which cannot be told from another.
        device: torch device; default a GPU where there is one.
        inputs: files or folders of the series and its masks, for the record in every file, and so that a run that is
            gone on with is one of the same; default what the series names as its source.
        zarr_format: of a store; see `prithvi.mapping.zarrfile.FORMATS`.
        command: written to the files as the command that made them.
        progress: called with the work done and the whole of it, as windows with gaps tell; see `gap_progress`.

    Raises:
        SceneError: fewer than two dates, a date twice, dates that are not known, or other dimensions; masks that are
            not of these dates and this grid, or leave nothing; dates that are asked for and not there.
        BandError, ScaleError: see `prithvi.scenes.conform`.
        ModelError, CheckpointError: see `prithvi.load`.
        ConfigError: `resume` of a lazy series that was calculated; `every` is no number of days; the series is not of
            the target.
        OutputError: a file cannot be written. The finished rows are kept.

    """
    # What can be refused of the series, its dates and the folder is refused before a model is opened.
    folder, series = Path(folder), in_order(series)
    known = can_resume(series, resume)
    if days_of(series) is None:
        raise SceneError(f"the dates of {name_of(series)} are not known: give files with their dates (--date).")
    sensors = Sensors.of(series, target)
    asked = AskedDates.of(series, only, on, every, start)
    refuse_unwritable(folder.parent if folder.suffix == ".zarr" else folder)
    filler = as_fill(model, device)
    no_reflectance: list[str] = []
    if bands is None:
        bands = have = reflective(series["band"].values)
        if isinstance(filler, ModelFill):
            refuse_lacking(have, bands := list(filler.contract.bands))
        else:
            no_reflectance = left_out_of_bands(series["band"].values)
    names = check_names([str(name) for name in bands])
    contract, known = reflectance(names), known and _can_be_told(filler, resume)
    asked = sensors.written(asked) if sensors is not None else asked
    refuse_unfillable(filler, asked)
    every_label = asked.labels(series, sensors.one_with if sensors is not None else ())
    labels = [every_label[place] for place in asked.wanted]
    clear = clear_by(clear, masks, masks_are, series)
    series = conform(series, contract)
    origin = origin_of(filler).of_scene(series, command, tuple(map(str, inputs)))
    # What the rows depend on: an interrupted run is resumed only if all of it is the same.
    facts: dict[str, Any] = {"input": state_of(series, origin.inputs)}
    unmasked, series = series, without_clouds(series, clear)
    notes: tuple[str, ...] = ()
    if clear is not None:
        notes = tuple(map(str, clear.attrs.get("masks", ())))
        refuse_nothing_left(series)
        if not inputs or not of_files(clear):
            facts["clear"] = checksum(clear)
    tags, layer = origin.tags(), None
    if sensors is not None:
        sensors = sensors.fitted(series, names, asked, contract)
        tags, layer = tags | sensors.tags(), sensors.layer(asked.wanted)
        facts["sensors"] = sensors.facts()
    plan = plan_of(filler, series.sizes["y"], series.sizes["x"], window, stride)
    seen, rounds = rounds_of(asked, filler, together, sensors.of_all(asked) if sensors is not None else None)
    as_cube = folder.suffix == ".zarr"
    files = [folder / f"{label}{end}.tif" for label in labels for end in _ENDS]
    refuse_overwrite([folder] if as_cube else files, inputs)
    facts |= {
        "clouds": list(notes) or clear is not None, "windows": [plan.window, plan.stride], "bands": names,
        "together": seen, "uncertainty": uncertainty, "fill": getattr(filler, "facts", origin.model),
        "software": origin.software,
    }  # fmt: skip
    notes += (*no_reflectance, *(sensors.notes if sensors is not None else ()))

    if progress is not None:
        progress = by_gaps(progress, unmasked, None if clear is None else laid_over(clear, unmasked), rounds, plan)

    def fill_turns(make: Callable[..., RasterWriter]) -> None:
        for number, turn in enumerate(rounds):
            target = Target.whole(asked.part(series, turn.dates_read), plan)
            days = [every_label[place] for place in turn.dates_read]
            wanted = [days[place] for place in turn.dates_filled]
            of_turn = sources = None
            if sensors is not None:
                of_turn = sensors.of_turn(turn.dates_read)
                sources = sensors.layer([turn.dates_read[place] for place in turn.dates_filled])
            rasters = series_rasters(wanted, names, uncertainty, tags, sources=sources)
            key = {**facts, "dates": days, "wanted": wanted} if known else None
            with make(rasters, key, resume) as writer:
                if writer.made:
                    continue
                run = FillRun(filler, turn, seen, uncertainty, contract, of_turn)
                tally = write(run, target, writer, progress, (number, len(rounds)))
                for place in turn.dates_filled:
                    missing = tally.sentence(*units_of(series, contract), place)
                    writer.tag(replace(origin, left_out=missing).tags(), days[place])
                writer.publish()

    paths: tuple[Path, ...] = (folder,)
    if as_cube:
        assert asked.times is not None
        key = {**facts, "dates": every_label, "wanted": labels, "format": zarr_format} if known else None
        form = series, asked.times[list(asked.wanted)], labels, names, uncertainty
        with SeriesCube(folder, *form, key, resume, layer, zarr_format) as cube:
            if not cube.made:
                fill_turns(cube.writer)
                cube.publish(tags)
        counts, left_out = cube.counts(), cube.left_out
        notes += (left_out,) if left_out else ()
    else:
        fill_turns(partial(RasterWriter, folder, series))
        counts = np.array([count_values(folder / f"{label}_filled.tif") for label in labels])
        paths = tuple(folder / f"{label}.tif" for label in labels)
        notes += tuple(f"{path.stem}: {text}" for path in paths for text in left_out_of(path))
        ends = [*["_uncertainty"] * (not uncertainty), *["_source"] * (layer is None)]
        notes += left_over([folder / f"{label}{end}.tif" for label in labels for end in ends], (), "this run")
    notes += tuple(
        f"{label}: nothing of it is known, and nothing could be filled (by {origin.model})."
        for label, count in zip(labels, counts, strict=True)
        if count[NOTHING] == count.sum()
    )
    observed, filled, empty = (int(counts[:, kind].sum()) for kind in (OBSERVED, FILLED, NOTHING))
    return FillResult(paths, labels, observed, filled, empty, notes)


def _can_be_told(fill: Fill, asked: bool) -> bool:
    """Whether a later run can tell that it fills in the same way. Two functions of one name may do different things.

    Raises:
        ConfigError: it cannot tell, and is asked to.

    """
    known = isinstance(fill, Method) or hasattr(fill, "facts")
    if asked and not known:
        raise ConfigError(
            f"nobody can tell whether an interrupted run was filled by the same function ({origin_of(fill).model}): "
            "leave resume out, or give it an attribute `facts` of plain values that change when it does."
        )
    return known


def state_of(series: xr.DataArray, inputs: Sequence[str]) -> dict[str, Any]:
    """What tells a series from another: its files by size and time, and what `identity` says: which plane of which file
    is which band of which date, its place and units, or its pixels. Plain JSON values.
    """
    found = [Path(name) for name in inputs]
    files = [file for path in found for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
    return {"inputs": list(inputs), "files": [[str(file), *fingerprint(file)] for file in files], **identity(series)}
