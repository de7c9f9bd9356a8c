"""Cloud masks of a series: one raster a date, or an array; each is laid over its date, and clouds become NaN."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import ConfigError, SceneError, counted
from prithvi.mapping.maskproducts import (
    MASK_PRODUCTS,
    NOT_CLEAR,
    ReadMask,
    product_called,
    product_named,
    read_mask,
    some,
)  # fmt: skip
from prithvi.scenes.info import SceneInfo, name_of
from prithvi.scenes.names import Date, as_days, as_time, dated, day_in_name, days_of, hls_granule_of
from prithvi.scenes.paths import local_path, shown

Mask = str | Path | None
"""A raster; None where a date has no mask, and all that was observed counts as clear."""
Masks = Sequence[Mask] | Mapping[Date, Mask]
"""In the order of the dates, or by date."""


def clear_of(
    masks: Masks,
    series: xr.DataArray,
    *,
    dates: Iterable[Date] | None = None,
    product: str | None = None,
) -> xr.DataArray:
    """(time, y, x) lazy bool on the series' dates and grid: True where a pixel was seen and is clear.

    Which date a mask belongs to is taken from the masks' names where all of them state a day (those of HLS, Sentinel-2
    and Landsat do, and so does 2022-05-31_clouds.tif), else from their order; no name may contradict it.

    Args:
        masks: a raster for each date in their order, None for a date without; or date to raster, dates that are not
            among them having none. They are read once at once, to tell what each leaves.
        series: what they are laid over. A mask of pixels that are twice as large (or three times ...) and begin at the
            same corner is taken as it is: Sentinel-2's SCL of 20 m over bands of 10 m.
        dates: the days of masks whose names state none, in their order; default the days of the series.
        product: what they are, a key of `prithvi.mapping.maskproducts.MASK_PRODUCTS`; default what their names say,
            and masks of your own, 0 where it is clear, where these say nothing.

    Returns:
        `attrs["masks"]` has a sentence for each mask: how it was read, and what it leaves.

    Raises:
        SceneError: another number of masks than dates, a mask that belongs to none of them or to another than its
            place, one that cannot be read, has values that its product has not, lies on another grid; or nothing is
            clear on any date.
        ConfigError: there is no such product.

    """
    ranks = ranks_of(masks, series, dates=dates, product=product)
    clear: xr.DataArray = ranks != NOT_CLEAR
    return clear.assign_attrs(masks=ranks.attrs["masks"], dask_name=clear.data.name)


def ranks_of(
    masks: Masks,
    series: xr.DataArray,
    *,
    dates: Iterable[Date] | None = None,
    product: str | None = None,
) -> xr.DataArray:
    """(time, y, x) lazy uint8 as `clear_of` has bool: `MaskProduct.rank`, 0 the best and 255 what is not clear."""
    kind = product_called(product) if product is not None else None
    number, days = series.sizes["time"], days_of(series)
    paths = masks_in_order(masks, series, dates)
    whole = da.zeros((series.sizes["y"], series.sizes["x"]), np.uint8, chunks=(512, -1))
    none = ReadMask(whole, "no mask, so that all that was observed counts as clear.", True)
    read = [none if path is None else read_mask(path, series, kind) for path in paths]
    labels = [f"{day}" for day in days] if days is not None else [f"Date {place + 1}" for place in range(number)]
    told = tuple(f"{label}: {mask.told}" for label, mask in zip(labels, read, strict=True))
    if not any(mask.some_clear for mask in read):
        raise SceneError(
            f"not one pixel of any date is clear by these masks ({told[0][:-1]}): say what they hold with --clouds-are "
            f"(product=): {', '.join(MASK_PRODUCTS)}."
        )
    coords = {name: series[name] for name in ("time", "y", "x") if name in series.coords}
    ranks = da.stack([mask.rank for mask in read])
    return xr.DataArray(ranks, dims=("time", "y", "x"), coords=coords, attrs={"masks": told, "dask_name": ranks.name})


def masks_in_order(masks: Masks, series: xr.DataArray, dates: Iterable[Date] | None = None) -> list[Path | None]:
    """The mask of each date, in the order of the series; see `clear_of`."""
    number, days = series.sizes["time"], days_of(series)
    if isinstance(masks, Mapping):
        masks = _by_day(masks, days)
    given = [None if mask is None else file_of(mask) for mask in masks]
    if len(given) != number:
        raise SceneError(
            f"{counted(len(given), 'cloud mask')} for {counted(number, 'date')}: give one for each, "
            "none (None) without."
        )
    if days is None:
        return given
    return [given[place] for place in np.argsort(_date_of_each(given, series, dates))]


def file_of(mask: str | Path) -> Path:
    """The file of a mask.

    Raises:
        SceneError: it lies on a server.

    """
    path = local_path(str(mask))
    if path is None:
        raise SceneError(
            f"the cloud mask {shown(str(mask))} lies on a server, and masks are read from files of this machine: "
            "download it and give the copy."
        )
    return path


def level_of(scene: xr.DataArray) -> str:
    """`SR` or `TOA`, for which the networks that find clouds differ.

    Raises:
        SceneError: nobody says it.

    """
    level = SceneInfo.of(scene).level
    if level is None:
        raise SceneError(
            f"{name_of(scene)} does not say whether it is surface reflectance (SR) or reflectance at the top of the "
            "atmosphere (TOA), for which the networks that find clouds differ: say --level SR or --level TOA (level=), "
            "or its --sensor."
        )
    return level


def of_files(clear: xr.DataArray) -> bool:
    """Whether this is what `clear_of` gives, and nothing was done to it since: Dask names each step anew."""
    return "dask_name" in clear.attrs and getattr(clear.data, "name", None) == clear.attrs["dask_name"]


def clear_by(
    clear: xr.DataArray | None, masks: Masks | None, masks_are: str | None, series: xr.DataArray
) -> xr.DataArray | None:
    """What is clear by the arguments `clear`, `masks` and `masks_are` of `prithvi.fill`.

    Raises:
        ConfigError: both are given.
        SceneError: see `clear_of`.

    """
    if masks is None:
        return clear
    if clear is not None:
        raise ConfigError("clear= and masks= both say where a series is clear: give one of them.")
    return clear_of(masks, series, product=masks_are)


def _by_day(masks: Mapping[Date, Mask], days: Sequence[dt.date] | None) -> list[Mask]:
    """The masks of a series' days in their order."""
    named = dict(zip(as_days(masks), masks.values(), strict=True))
    if days is None or len(set(days)) < len(days):
        raise SceneError("masks by date are of a series with one date a day: give them as a list, in order of time.")
    if unknown := [day for day in named if day not in days]:
        raise SceneError(f"a cloud mask is given for {unknown[0]}, and the series has {listed(days)}.")
    return [named.get(day) for day in days]


def _date_of_each(masks: Sequence[Path | None], series: xr.DataArray, dates: Iterable[Date] | None) -> list[int]:
    """The index of each mask's date in a series."""
    times = [as_time(time) for time in dated(series)["time"].values]
    days = [time.date() for time in times]
    places = list(range(len(times)))
    if dates is not None:
        places = _matched([as_time(date) for date in dates], times, places)
    said = _said(masks, days)
    wanted: list[dt.datetime | None] = [times[place] for place in places]
    if any(said) and all(day is not None for mask, day in zip(masks, said, strict=True) if mask is not None):
        wanted = [None if day is None else as_time(day) for day in said]
    for number, mask in enumerate(masks):  # of several masks of one day, each has its granule's own time
        granule, time = hls_granule_of(mask), wanted[number]
        if granule is not None and time is not None and granule[1].date() == time.date():
            wanted[number] = granule[1]
    found = _matched(wanted, times, places)
    for mask, day, place in zip(masks, said, found, strict=True):
        if day not in (None, days[place]):
            raise SceneError(
                f"the cloud mask {mask} is of {day} by its name, and stands at the place of {days[place]}."
            )
    return found


def _matched(wanted: Sequence[dt.datetime | None], times: Sequence[dt.datetime], preferred: Sequence[int]) -> list[int]:
    """For each of some dates the index of its own among `times`: the same time, else the same day, of several of these
    the preferred one, else the first. None takes what is left.

    Raises:
        SceneError: they are not the same days.

    """
    pairs = []
    for number, date in enumerate(wanted):
        for place, time in enumerate(times):
            if date is None or date.date() == time.date():
                rank = 2 if date is None else int(date != time)
                pairs.append((rank, place != preferred[number], number, place))
    found: dict[int, int] = {}
    for *_, number, place in sorted(pairs):  # the best first
        if number not in found and place not in found.values():
            found[number] = place
    if len(wanted) != len(times) or len(found) != len(times):
        told = f"the cloud masks are of {listed(date.date() for date in wanted if date is not None)}"
        raise SceneError(f"{told}, and the series of {listed(time.date() for time in times)}: give one for each.")
    return [found[number] for number in range(len(times))]


def _said(masks: Sequence[Path | None], days: Sequence[dt.date]) -> list[dt.date | None]:
    """The day that each mask's name states. Those of no product's form may be days of anything else, such as an
    export; they count if one of them is a day of the series.
    """
    said = [None if mask is None else day_in_name(mask) for mask in masks]
    own = [mask is not None and product_named(mask) is not None for mask in masks]
    if any(day in days for day, of_product in zip(said, own, strict=True) if not of_product):
        return said
    return [day if of_product else None for day, of_product in zip(said, own, strict=True)]


def listed(days: Iterable[object]) -> str:
    """Days, for a message."""
    return ", ".join(map(str, days))


def without_clouds(series: xr.DataArray, clear: xr.DataArray | None) -> xr.DataArray:
    """The series with NaN where it is not clear; lazy if one of the two is.

    Args:
        series: (time, band, y, x).
        clear: (time, y, x) True or 1 where clear, False or 0 where not, its dimensions in any order. Where both state
            dates each date gets its own; without, they are taken in order.

    Raises:
        SceneError: masks of another form, on another grid, without a date of the series, or with other values.

    """
    if clear is None:
        return series
    mask = xr.DataArray(clear_over(clear, series).data, dims=("time", "y", "x"))
    hidden: xr.DataArray = series.where(mask).transpose("time", "band", "y", "x").assign_attrs(series.attrs)
    return hidden


def clear_over(clear: xr.DataArray, series: xr.DataArray) -> xr.DataArray:
    """`laid_over` as bool."""
    clear = laid_over(clear, series)
    if clear.dtype == bool:
        return clear
    flags: xr.DataArray = xr.apply_ufunc(_flags, clear, dask="parallelized", output_dtypes=[bool])
    return flags


def laid_over(clear: xr.DataArray, series: xr.DataArray) -> xr.DataArray:
    """Masks (time, y, x) of the series' dates, in their order.

    Raises:
        SceneError: see `without_clouds`.

    """
    if not isinstance(clear, xr.DataArray):
        raise SceneError(f"the masks are a {type(clear).__name__}; they are to be a DataArray (time, y, x).")
    if set(clear.dims) == {"time", "y", "x"}:
        clear = _of_the_same_dates(clear, series).transpose("time", "y", "x")
    sizes = {name: series.sizes[name] for name in ("time", "y", "x")}
    if dict(clear.sizes) != sizes or not _same_coordinates(clear, series):
        raise SceneError(
            f"the masks have the shape {tuple(clear.sizes.values())} ({', '.join(map(str, clear.dims))}){_from(clear)} "
            f"and the series {tuple(sizes.values())} (time, y, x){_from(series)}: they do not lie on one grid."
        )
    return clear


def refuse_nothing_left(series: xr.DataArray) -> None:
    """Raises SceneError where masks left no pixel of a series; reads rows until there is one.

    Args:
        series: (time, band, y, x) with NaN under clouds.

    """
    rows = series.chunks[2][0] if series.chunks is not None else 256
    for first in range(0, series.sizes["y"], rows):
        for date in range(series.sizes["time"]):
            if np.isfinite(series[date, :, first : first + rows].values).all(axis=0).any():
                return
    raise SceneError("the masks leave not one pixel of any date: clear is True (1) where clear, False under clouds.")


def _of_the_same_dates(clear: xr.DataArray, series: xr.DataArray) -> xr.DataArray:
    """The masks of the series' dates, in their order."""
    clear, series = dated(clear), dated(series)
    ours, theirs = days_of(series), days_of(clear)
    if ours is None or theirs is None:
        return clear
    own, other = list(map(str, ours)), list(map(str, theirs))
    if len(set(own)) < len(own):  # several times of one day
        own, other = (list(map(str, array["time"].values.astype("datetime64[s]"))) for array in (series, clear))
    lacking = [day for day in own if day not in other]
    if lacking:
        raise SceneError(f"the masks have none of {lacking[0]}; they are of {listed(other)}.")
    if len(set(other)) < len(other):
        raise SceneError(f"the masks have a date twice: {listed(other)}.")
    return clear.isel(time=[other.index(day) for day in own])


def _same_coordinates(clear: xr.DataArray, series: xr.DataArray) -> bool:
    """Whether the pixels' middles, where both state them, are the same to a thousandth of a pixel."""
    for name in ("y", "x"):
        if name in clear.coords and name in series.coords and series.sizes[name] > 1:
            here, there = series[name].values, clear[name].values
            if np.abs(there - here).max() > 1e-3 * abs(here[1] - here[0]):
                return False
    return True


def _flags(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """1 and 0 as True and False; NaN, which an outer join leaves, is not clear."""
    if values.dtype.kind not in "iuf":
        raise SceneError(f"the masks are of the type {values.dtype}: clear is True or 1 where a pixel is clear.")
    strange = ~np.isin(values, (0, 1)) & ~np.isnan(values)
    if strange.any():
        raise SceneError(
            f"the masks hold {some(values[strange])}: clear is True or 1 where a pixel is clear, else False or 0; the "
            "files of a mask product are read by prithvi.mapping.clear_of."
        )
    flags: npt.NDArray[np.bool_] = values == 1
    return flags


def _from(array: xr.DataArray) -> str:
    if "x" not in array.coords or "y" not in array.coords or 0 in array.sizes.values():
        return ""
    return f" from {array['x'].values.flat[0]:.12g}, {array['y'].values.flat[0]:.12g}"
