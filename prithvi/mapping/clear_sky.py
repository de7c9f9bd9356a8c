"""Masks of clear pixels laid over a series: clouds become NaN."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import SceneError
from prithvi.mapping.masks import listed, some
from prithvi.scenes.names import dated, days_of


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
    if not isinstance(clear, xr.DataArray):
        raise SceneError(
            f"the masks are a {type(clear).__name__}; they are to be a DataArray with the dimensions (time, y, x)."
        )
    if set(clear.dims) == {"time", "y", "x"}:
        clear = _of_the_same_dates(clear, series).transpose("time", "y", "x")
    sizes = {name: series.sizes[name] for name in ("time", "y", "x")}
    if dict(clear.sizes) != sizes or not _same_coordinates(clear, series):
        raise SceneError(
            f"the masks have the shape {tuple(clear.sizes.values())} ({', '.join(map(str, clear.dims))}){_from(clear)} "
            f"and the series {tuple(sizes.values())} (time, y, x){_from(series)}: they do not lie on one grid."
        )
    flags = clear if clear.dtype == bool else xr.apply_ufunc(_flags, clear, dask="parallelized", output_dtypes=[bool])
    mask = xr.DataArray(flags.data, dims=("time", "y", "x"))
    attributes = series.attrs
    hidden: xr.DataArray = series.where(mask).transpose("time", "band", "y", "x").assign_attrs(attributes)
    return hidden


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
    raise SceneError(
        "the masks leave not one pixel of any date: clear is True (1) where a pixel is clear, and False under clouds."
    )


def _of_the_same_dates(clear: xr.DataArray, series: xr.DataArray) -> xr.DataArray:
    """The masks of the series' dates, in their order."""
    clear, series = dated(clear), dated(series)
    ours, theirs = days_of(series), days_of(clear)
    if ours is None or theirs is None:
        return clear
    if len(set(ours)) < len(ours):  # several times of one day
        ours, theirs = (array["time"].values.tolist() for array in (series, clear))
    lacking = [day for day in ours if day not in theirs]
    if lacking:
        raise SceneError(f"the masks have none of {lacking[0]}; they are of {listed(theirs)}.")
    if len(set(theirs)) < len(theirs):
        raise SceneError(f"the masks have a date twice: {listed(theirs)}.")
    return clear.isel(time=[theirs.index(day) for day in ours])


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
