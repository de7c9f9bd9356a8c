"""`prithvi.fill` and `prithvi.mapping.fill_series`: a series with gaps to one without, as arrays and as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from prithvi.bands import WAVELENGTHS, check_names
from prithvi.contract import Contract
from prithvi.errors import BandError, SceneError
from prithvi.files import fingerprint, refuse_overwrite
from prithvi.mapping.cog import RasterWriter, count_values, left_out_of
from prithvi.mapping.engine import Progress, Target, as_dataset, left_out, write
from prithvi.mapping.fillers import Fill, Fillable, ModelFill, as_fill, dates_of, origin_of
from prithvi.mapping.inference import has_dates
from prithvi.mapping.masks import Masks, clear_by, of_files, refuse_nothing_left, without_clouds
from prithvi.mapping.methods import Method
from prithvi.mapping.result_files import FILLED, NOTHING, OBSERVED, date_labels, series_rasters
from prithvi.mapping.window_filling import FillRun, Turn, plan_of, turns
from prithvi.products.provenance import can_resume, checksum, content_of, layout_of
from prithvi.scenes import conform
from prithvi.scenes.conform import units_of, without_impossible
from prithvi.scenes.names import dated, days_of
from prithvi.scenes.pixels import source_of
from prithvi.scenes.validity import Tally


def fill(
    series: xr.DataArray,
    model: Fillable = "prithvi_hls_tiny",
    *,
    clear: xr.DataArray | None = None,
    masks: Masks | None = None,
    masks_are: str | None = None,
    together: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    uncertainty: bool = True,
    device: str | torch.device | None = None,
) -> xr.Dataset:
    """A series without its gaps.

    A pixel that lacks one band is unknown to the model as a whole; what it has of it stays in the answer all the same,
    with an uncertainty of 0, and only the other bands are filled.

    Args:
        series: (time, band, y, x), the dimensions in any order, in the model's units (reflectance x 10,000 for HLS and
            for methods without weights), NaN where a pixel is unknown; of any size from one patch up. What
            `prithvi.open_scene` gives for several dates is brought to these units, and a sample of the values is read
            to see that they are in them, of a lazy series too. With the names of bands in `band` the model's are taken
            from it; without, it has to have just these. Dates in `time` and a coordinate reference system are made use
            of where they are there. Where it is lazy the answer is, and is computed by rows when asked for.
        model: name or folder of a pretrained model or of a gap filler that `prithvi fit` wrote, what `prithvi.load`
            gives for one; a method without weights by its name: `nearest`, `linear`, `regression`, `filling` or
            `local_regression` (see `prithvi.mapping.methods`); or any function (see `prithvi.mapping.fillers.Fill`),
            which gets the values as they are.
        clear: (time, y, x) True or 1 where clear, False or 0 under clouds; None where clouds are NaN already. Where it
            states dates each date gets its own, in whatever order; without, they are taken in order.
            `prithvi.mapping.clear_of` makes it of files.
        masks: instead of `clear`: cloud masks by date (`{"2022-05-31": "clouds.tif"}`) or in the order of the dates.
        masks_are: what the masks hold, where their names do not say it; see `prithvi.mapping.clear_of`.
        together: number of dates given to the filler at once (temporal context), the filled one included; by default
            as many as the model was made for, all for `nearest` and `linear`, five for `local_regression`, or three. In
            each window they are those next in time, within eight dates, that know something there; of
            `local_regression` those, within eight dates, that tell most of it.
        window: side of the squares that are filled one by one, in pixels; default that of the model, or less where the
            series is smaller than that.
        stride: pixels between them; default half a window, three quarters for `local_regression`.
        uncertainty: whether to give it; it takes two more runs of every window with gaps, and about half as much again
            for `local_regression`.
        device: torch device; default a GPU where there is one.

    Returns:
        With the dimensions and coordinates of `series`: `image`, observed values bit for bit and NaN where nothing can
        be said (float32, or float64 where the input's type does not fit into that); `filled` bool without `band`, True
        for pixels that were unknown, in a band or more, and are no longer; `uncertainty` float32 like `image`, the
        standard error, 0 where observed, above 0 where filled, NaN where nothing can be said.

    Raises:
        SceneError: fewer than two dates, other dimensions, or smaller than a patch; no pixel has data; masks that are
            not of these dates and this grid, or leave nothing (of a lazy series that is not looked at).
        ConfigError: windows that are not whole patches.
        BandError: other bands than the model's.
        ScaleError: values that are not reflectance as stated, or not in the model's units where nothing is stated.
        ModelError, CheckpointError: see `prithvi.load`.

    Warns:
        UserWarning: the series does not state its scale.

    """
    given, series = series, in_order(series)
    clear = clear_by(clear, masks, masks_are, series)
    # The values are brought to what the filler takes, in this order: the model's bands; NaN for what cannot be
    # reflectance, which is judged in the units that the series states; the model's units; NaN under clouds.
    filler = as_fill(model, device)
    tally = Tally(series.sizes["time"], series.sizes["y"]) if series.chunks is None else None
    contract = filler.contract if isinstance(filler, ModelFill) else None
    if isinstance(filler, Method):  # its bands are those of the series
        names = series["band"].values.tolist() if _has_names(series) else list(WAVELENGTHS)[: series.sizes["band"]]
        contract = _reflectance(names)
    if contract is not None:
        series = _bands_of(series, contract)
    stated = series
    if contract is not None or "gain" in series.attrs:
        series = without_impossible(series, *units_of(series, contract), tally)
    if contract is not None and "gain" in series.attrs:
        values = contract.from_reflectance(series.data, *units_of(series, contract))
        series = series.copy(data=values)
    if contract is not None:  # what the values are is known now, and is said of the result too
        series = series.assign_attrs(gain=1 / contract.scale, bias=0.0)
    series = series.astype(np.result_type(series.dtype, np.float32))
    plan = plan_of(filler, series.sizes["y"], series.sizes["x"], window, stride)
    series = without_clouds(series, clear)
    if clear is not None and series.chunks is None:
        refuse_nothing_left(series)
    # A long series is filled by several runs, each of a few dates with the neighbours they may need.
    seen, rounds = _rounds(series, filler, together)
    parts = []
    for turn in rounds:
        target = Target.whole(series.isel(time=list(turn.dates_read)), plan)
        parts.append(as_dataset(FillRun(filler, turn, seen, uncertainty), target))
    result = parts[0]
    if len(parts) > 1:
        result = xr.concat(
            parts, "time", data_vars="minimal", coords="minimal", compat="override", join="override",
            combine_attrs="override",
        )  # fmt: skip
    filled = [turn.dates_read[place] for turn in rounds for place in turn.dates_filled]
    if filled != sorted(filled):
        result = result.isel(time=np.argsort(filled))
    result = result.transpose(*given.dims)
    result.attrs = origin_of(filler).of_scene(series, "prithvi.fill").tags()
    if tally is not None and tally.found:
        result.attrs |= left_out(tally, stated, contract)
    return result


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
    """How each date's mask was read and what it leaves; which pixels were treated as nodata because they cannot be
    reflectance, by date.
    """


def fill_series(
    series: xr.DataArray,
    folder: str | Path,
    model: Fillable,
    *,
    bands: Sequence[str] | None = None,
    clear: xr.DataArray | None = None,
    masks: Masks | None = None,
    masks_are: str | None = None,
    together: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    uncertainty: bool = True,
    resume: bool = False,
    device: str | torch.device | None = None,
    inputs: Sequence[str | Path] = (),
    command: str = "prithvi.mapping.fill_series",
    progress: Progress | None = None,
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
        masks: instead of `clear`, files; see `prithvi.fill`.
        masks_are: what the masks hold; see `prithvi.fill`.
        together: see `prithvi.fill`.
        window: side of the squares that are filled one by one, in pixels; default that of the model, 224 of any other.
        stride: pixels between them; default half a window, so that overlaps blend.
        uncertainty: whether to write it; it takes two more runs of every window with gaps.
        resume: keep the rows that an interrupted run with the same inputs and options has finished. Not of a lazy
            series that was calculated (`series.where(...)`), which cannot be told from another.
        device: torch device; default a GPU where there is one.
        inputs: files or folders of the series and its masks, for the record in every file, and so that a run that is
            gone on with is one of the same; default what the series names as its source.
        command: written to the files as the command that made them.
        progress: called with the windows done and their number in all.

    Raises:
        SceneError: fewer than two dates, a date twice, dates that are not known, or other dimensions; masks that are
            not of these dates and this grid, or leave nothing.
        BandError, ScaleError: see `prithvi.scenes.conform`.
        ModelError, CheckpointError: see `prithvi.load`.
        ConfigError: `resume` of a lazy series that was calculated.
        OutputError: a file cannot be written. The finished rows are kept.

    """
    filler = as_fill(model, device)
    if bands is None:
        bands = filler.contract.bands if isinstance(filler, ModelFill) else series["band"].values.tolist()
    names = check_names([str(name) for name in bands])
    contract, series = _reflectance(names), in_order(series)
    known = can_resume(series, resume)
    if days_of(series) is None:
        raise SceneError(f"the dates of {_name(series)} are not known: give files with their dates (--date).")
    labels = date_labels(series)
    clear = clear_by(clear, masks, masks_are, series)
    series = conform(series, contract)
    origin = origin_of(filler).of_scene(series, command, tuple(map(str, inputs)))
    # What the rows depend on: an interrupted run is resumed only if all of it is the same.
    facts: dict[str, Any] = {"input": _state(series, origin.inputs), **content_of(series)}
    series = without_clouds(series, clear)
    notes: tuple[str, ...] = ()
    if clear is not None:
        notes = tuple(map(str, clear.attrs.get("masks", ())))
        refuse_nothing_left(series)
        if not inputs or not of_files(clear):
            facts["clear"] = checksum(clear)
    plan = plan_of(filler, series.sizes["y"], series.sizes["x"], window, stride)
    (seen, rounds), folder = _rounds(series, filler, together), Path(folder)
    files = [f"{label}{end}.tif" for label in labels for end in ("", "_filled", "_uncertainty")]
    refuse_overwrite((folder / name for name in files), inputs)
    facts |= {
        "clouds": list(notes) or clear is not None, "windows": [plan.window, plan.stride], "bands": names,
        "together": seen, "uncertainty": uncertainty, "fill": getattr(filler, "facts", origin.model),
        "software": origin.software,
    }  # fmt: skip
    for number, turn in enumerate(rounds):
        held = list(turn.dates_read)
        target = Target.whole(series.isel(time=held), plan)
        days = [labels[date] for date in held]
        wanted = [days[place] for place in turn.dates_filled]
        rasters = series_rasters(wanted, names, uncertainty, origin.tags())
        key = {**facts, "dates": days, "wanted": wanted} if known else None
        with RasterWriter(folder, series, rasters, key, resume) as writer:
            if writer.made:
                continue
            run = FillRun(filler, turn, seen, uncertainty, contract)
            tally = write(run, target, writer, progress, (number, len(rounds)))
            for place in turn.dates_filled:
                missing = tally.sentence(*units_of(series, contract), place)
                writer.tag(replace(origin, left_out=missing).tags(), days[place])
            writer.publish()
    counts = np.sum([count_values(folder / f"{label}_filled.tif") for label in labels], axis=0)
    paths = tuple(folder / f"{label}.tif" for label in labels)
    notes += tuple(f"{label}: {text}" for label, path in zip(labels, paths, strict=True) for text in left_out_of(path))
    return FillResult(paths, int(counts[OBSERVED]), int(counts[FILLED]), int(counts[NOTHING]), notes)


def _state(series: xr.DataArray, inputs: Sequence[str]) -> dict[str, Any]:
    """What tells a series from another: its files by size and time, its size, place and units. Plain JSON values."""
    found, pixels = [Path(name) for name in inputs], source_of(series)
    files = [file for path in found for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]
    if not files and pixels is not None:  # several, which the source does not name one by one
        paths = dict.fromkeys(Path(plane.path) for step in pixels.planes for plane in step)
        files = [path for path in paths if fingerprint(path)]
    return {"inputs": list(inputs), "files": [[str(file), *fingerprint(file)] for file in files], **layout_of(series)}


def in_order(series: xr.DataArray) -> xr.DataArray:
    """The series as (time, band, y, x), its dates as datetime64.

    Raises:
        SceneError: no DataArray, other dimensions, or fewer than two dates.

    """
    if not isinstance(series, xr.DataArray):
        raise SceneError(f"the series is a {type(series).__name__}; it is to be a DataArray (time, band, y, x).")
    if set(series.dims) != {"time", "band", "y", "x"}:
        dims = ", ".join(map(str, series.dims))
        raise SceneError(f"{_name(series)} has the dimensions ({dims}); a series has (time, band, y, x).")
    if series.sizes["time"] < 2:
        told = f"{_name(series)} has {series.sizes['time']} dates, and a gap is filled from others"
        raise SceneError(f"{told}: give two dates or more (files with their --date).")
    return dated(series.transpose("time", "band", "y", "x"))


def _name(series: xr.DataArray) -> str:
    return str(series.attrs.get("source", "the series"))


def _rounds(series: xr.DataArray, fill: Fill, together: int | None) -> tuple[int, list[Turn]]:
    """How many dates are seen together, and which are filled in one pass after another."""
    seen, order = min(together or dates_of(fill), series.sizes["time"]), range(series.sizes["time"])
    if has_dates(series):
        order = np.argsort(series["time"].values, kind="stable").tolist()
    return seen, turns(order, seen)


def _reflectance(bands: Sequence[str]) -> Contract:
    """What is asked of a series where no model does: its bands as reflectance x 10,000."""
    return Contract(tuple(map(str, bands)), (0.0,) * len(bands), (1.0,) * len(bands))


def _has_names(series: xr.DataArray) -> bool:
    return "band" in series.coords and series["band"].dtype.kind in "UOT"


def _bands_of(series: xr.DataArray, contract: Contract) -> xr.DataArray:
    """The model's bands; a sample of the values is held against its units."""
    wants = f"the model wants {', '.join(contract.bands)}."
    if _has_names(series):
        have = [str(name) for name in series["band"].values]
        lacking = [name for name in contract.bands if name not in have]
        if lacking:
            raise BandError(f"the series lacks {', '.join(lacking)}; it has {', '.join(have)}, and {wants}")
        order = [have.index(name) for name in contract.bands]
        series = series.isel(band=order)
    elif series.sizes["band"] != len(contract.bands):
        raise BandError(f"the series has {series.sizes['band']} bands without names; {wants}")
    # Without a place there is no size of a pixel to compare.
    place = contract.resolution if series.rio.crs is not None else None
    conform(series.assign_coords(band=list(contract.bands)), replace(contract, resolution=place))
    return series
