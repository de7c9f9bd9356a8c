"""`prithvi.fill`: a series with gaps to one without, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
import xarray as xr

from prithvi.bands import WAVELENGTHS, reflective
from prithvi.contract import Contract
from prithvi.errors import BandError, SceneError
from prithvi.mapping.asked_dates import AskedDates, refuse_unfillable
from prithvi.mapping.engine import Target, as_dataset, left_out
from prithvi.mapping.fillers import Fill, Fillable, ModelFill, as_fill, dates_of, origin_of
from prithvi.mapping.masks import Masks, clear_by, refuse_nothing_left, without_clouds
from prithvi.mapping.methods import Method
from prithvi.mapping.two_sensors import SENSOR, Sensors
from prithvi.mapping.window_filling import FillRun, Turn, plan_of, turns
from prithvi.scenes import conform
from prithvi.scenes.array_grids import readable, with_spatial_ref
from prithvi.scenes.conform import units_of, without_impossible
from prithvi.scenes.names import Date, dated
from prithvi.scenes.validity import Tally


def fill(
    series: xr.DataArray,
    model: Fillable = "auto",
    *,
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
        model: a method without weights by its name: `nearest`, `linear`, `regression`, `filling` or `local_regression`
            (see `prithvi.mapping.methods`), which `auto` is; name or folder of a pretrained model or of a gap filler
            that `prithvi fit` wrote, what `prithvi.load` gives for one; or any function (see
            `prithvi.mapping.fillers.Fill`), which gets the values as they are.
        clear: (time, y, x) True or 1 where clear, False or 0 under clouds; None where clouds are NaN already. Where it
            states dates each date gets its own, in whatever order; without, they are taken in order.
            `prithvi.mapping.clear_of` makes it of files.
        masks: instead of `clear`: cloud masks by date (`{"2022-05-31": "clouds.tif"}`) or in the order of the dates.
        masks_are: what the masks hold, where their names do not say it; see `prithvi.mapping.clear_of`.
        only: dates of the series, if only these are wanted; they are filled from all.
        on: days, if these are wanted: those on which nothing was observed are filled whole.
        every: `16d` or 16: a day every 16 days, likewise. With several of the three, the dates of all are wanted.
        start: the first of these days; default the first of the series.
        target: of a series of several sensors (which states them in the coordinate `sensor` along `time`) the one
            whose date is written of a day of several, and in whose values days are filled on which nothing was
            observed: `hls-s30`, or S30. Without it every date is written. See `prithvi.mapping.two_sensors`.
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
        With the dimensions and coordinates of `series`, and where dates are asked for these alone, in the order of
        time: `image`, observed values bit for bit and NaN where nothing can
        be said (float32, or float64 where the input's type does not fit into that); `filled` bool without `band`, True
        for pixels that were unknown, in a band or more, and are no longer; `uncertainty` float32 like `image`, the
        standard error, 0 where observed, above 0 where filled, NaN where nothing can be said. Of a series of several
        sensors also `source` uint8 without `band`: which of them saw a pixel, by its `flag_values` and
        `flag_meanings`. What is filled is in the values of the date's own sensor, which the coordinate `sensor` names;
        a sample of the pixels is read for the gains between them, of a lazy series too.

    Raises:
        SceneError: fewer than two dates, other dimensions, or smaller than a patch; no pixel has data; masks that are
            not of these dates and this grid, or leave nothing (of a lazy series that is not looked at); dates that are
            asked for and not there, outside of the series, or twice.
        ConfigError: windows that are not whole patches; `every` is no number of days.
        BandError: other bands than the model's.
        ScaleError: values that are not reflectance as stated, or not in the model's units where nothing is stated.
        ModelError: the method cannot fill a day on which nothing was observed, and such are asked for.
        ModelError, CheckpointError: see `prithvi.load`.
        SceneError, ConfigError: sensors or a target that are not clear, see `prithvi.mapping.two_sensors`.

    Warns:
        UserWarning: the series does not state its scale.

    """
    given, series = series, in_order(series)
    sensors = Sensors.of(series, target)
    asked = AskedDates.of(series, only, on, every, start)
    asked = sensors.written(asked) if sensors is not None else asked
    clear = clear_by(clear, masks, masks_are, series)
    if clear is not None and masks is not None and series.chunks is None:
        clear = clear.compute()  # so that the answer is in memory where the series is
    # The values are brought to what the filler takes, in this order: the model's bands; NaN for what cannot be
    # reflectance, which is judged in the units that the series states; the model's units; NaN under clouds.
    filler = as_fill(model, device)
    refuse_unfillable(filler, asked)
    tally = Tally(series.sizes["time"], series.sizes["y"]) if series.chunks is None else None
    contract = filler.contract if isinstance(filler, ModelFill) else None
    if isinstance(filler, Method):  # its bands are those of the series
        named = reflective(series["band"].values) if _has_names(series) else []
        names = named or list(WAVELENGTHS)[: series.sizes["band"]]
        contract = reflectance(names)
    if contract is not None:
        series = _bands_of(series, contract)
    series = without_thermal(series)
    stated = series
    if contract is not None or "gain" in series.attrs:
        series = without_impossible(series, *units_of(series, contract), tally)
    if contract is not None and "gain" in series.attrs:
        values = contract.from_reflectance(series.data, *units_of(series, contract))
        series = series.copy(data=values)
    if contract is not None:  # what the values are is known now, and is said of the result too
        series = series.assign_attrs(gain=1 / contract.scale, bias=0.0)
    series = series.astype(np.result_type(given.dtype, np.float32))
    plan = plan_of(filler, series.sizes["y"], series.sizes["x"], window, stride)
    series = without_clouds(series, clear)
    if clear is not None and series.chunks is None:
        refuse_nothing_left(series)
    if sensors is not None:
        bands = contract.bands if contract is not None else [str(number) for number in range(series.sizes["band"])]
        sensors = sensors.fitted(series, bands, asked)
    # A long series is filled by several runs, each of a few dates with the neighbours they may need.
    seen, rounds = rounds_of(asked, filler, together, sensors.of_all(asked) if sensors is not None else None)
    parts = []
    for turn in rounds:
        of_turn = sensors.of_turn(turn.dates_read) if sensors is not None else None
        run = FillRun(filler, turn, seen, uncertainty, sensors=of_turn)
        parts.append(as_dataset(run, Target.whole(asked.part(series, turn.dates_read), plan)))
    result = parts[0]
    if len(parts) > 1:
        result = xr.concat(
            parts, "time", data_vars="minimal", coords="minimal", compat="override", join="override",
            combine_attrs="override",
        )  # fmt: skip
    filled = [turn.dates_read[place] for turn in rounds for place in turn.dates_filled]
    if tuple(filled) != asked.wanted:
        result = result.isel(time=[filled.index(place) for place in asked.wanted])
    result = result.transpose(*given.dims)
    result.attrs = origin_of(filler).of_scene(series, "prithvi.fill").tags()
    if sensors is not None:
        result = result.assign_coords({SENSOR: ("time", list(sensors.layer(asked.wanted).dates))})
        result.attrs |= sensors.tags()
    if tally is not None and tally.found:
        result.attrs |= left_out(tally, stated, contract)
    return result


def in_order(series: xr.DataArray, least: int = 2) -> xr.DataArray:
    """The series as (time, band, y, x), its dates as datetime64.

    Raises:
        SceneError: no DataArray, other dimensions, or fewer dates than `least`.

    """
    if not isinstance(series, xr.DataArray):
        raise SceneError(f"the series is a {type(series).__name__}; it is to be a DataArray (time, band, y, x).")
    if set(series.dims) != {"time", "band", "y", "x"}:
        dims = ", ".join(map(str, series.dims))
        raise SceneError(f"{_name(series)} has the dimensions ({dims}); a series has (time, band, y, x).")
    if series.sizes["time"] < least:
        number = series.sizes["time"]
        told = f"{_name(series)} has {number or 'no'} date{'s' if number > 1 else ''}, and a gap is filled from others"
        raise SceneError(f"{told}: give two dates or more (files with their --date).")
    return dated(with_spatial_ref(readable(series, _name(series))).transpose("time", "band", "y", "x"))


def without_thermal(series: xr.DataArray) -> xr.DataArray:
    """A series that states what is reflectance without the thermal infrared, whose temperatures would be taken for
    impossible reflectance and each pixel for unknown. Complete granules of L30 have it.
    """
    if "gain" not in series.attrs or not _has_names(series):
        return series
    kept = reflective(series["band"].values)
    return series if len(kept) == series.sizes["band"] else series.sel(band=kept)


def _name(series: xr.DataArray) -> str:
    return str(series.attrs.get("source", "the series"))


def rounds_of(
    asked: AskedDates, fill: Fill, together: int | None, sensors: Sequence[str] | None = None
) -> tuple[int, list[Turn]]:
    """How many dates are seen together, and which are filled in one pass after another."""
    seen = min(together or dates_of(fill), asked.observed + bool(asked.added))
    return seen, turns(asked.order, seen, frozenset(asked.wanted), range(asked.observed), sensors)


def reflectance(bands: Sequence[str]) -> Contract:
    """What is asked of a series where no model does: its bands as reflectance x 10,000."""
    return Contract(tuple(map(str, bands)), (0.0,) * len(bands), (1.0,) * len(bands))


def _has_names(series: xr.DataArray) -> bool:
    return "band" in series.coords and series["band"].dtype.kind in "UOT"


def refuse_lacking(have: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises BandError for bands that a series lacks and a model wants. None stands in for another, with its name."""
    if lacking := [name for name in wanted if name not in have]:
        lacks, has, wants = (", ".join(names) for names in (lacking, have, wanted))
        raise BandError(
            f"the series lacks {lacks}; it has {has}, and the model wants {wants}: fill without a model "
            "(local_regression), which takes any bands."
        )


def _bands_of(series: xr.DataArray, contract: Contract) -> xr.DataArray:
    """The model's bands; a sample of the values is held against its units."""
    if _has_names(series):
        have = [str(name) for name in series["band"].values]
        refuse_lacking(have, contract.bands)
        order = [have.index(name) for name in contract.bands]
        series = series.isel(band=order)
    elif series.sizes["band"] != len(contract.bands):
        wants = ", ".join(contract.bands)
        raise BandError(f"the series has {series.sizes['band']} bands without names; the model wants {wants}.")
    # Without a place there is no size of a pixel to compare.
    place = contract.resolution if series.rio.crs is not None else None
    conform(series.assign_coords(band=list(contract.bands)), replace(contract, resolution=place))
    return series
