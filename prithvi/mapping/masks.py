"""Cloud masks of a series: one raster a date, or an array; each is laid over the date that it belongs to."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.maskproducts import MASK_PRODUCTS, MaskProduct, product_called, product_named, product_of
from prithvi.scenes.grids import difference, grid_of, grid_of_array, repeats
from prithvi.scenes.names import Date, as_days, day_in_name, days_of, granule_of, moments
from prithvi.scenes.opening import open_scene

Mask = str | Path | None
"""A raster; None where a date has no mask, and all that was observed counts as clear."""


def clear_of(
    masks: Sequence[Mask] | Mapping[Date, Mask],
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
    kind = product_called(product) if product is not None else None
    number, days = series.sizes["time"], days_of(series)
    if isinstance(masks, Mapping):
        masks = _by_day(masks, days)
    paths = _paired([None if mask is None else Path(mask) for mask in masks], days, number, dates)
    read = [_open(path, series, kind) if path is not None else _no_mask(series) for path in paths]
    labels = [f"{day}" for day in days] if days is not None else [f"Date {place + 1}" for place in range(number)]
    told = tuple(f"{label}: {mask.told}" for label, mask in zip(labels, read, strict=True))
    if not any(mask.some_clear for mask in read):
        raise SceneError(
            f"not one pixel of any date is clear by these masks ({told[0][:-1]}): say what they hold with --clouds-are "
            f"(product=): {', '.join(MASK_PRODUCTS)}."
        )
    coords = {name: series[name] for name in ("time", "y", "x") if name in series.coords}
    clear = da.stack([mask.clear for mask in read])
    return xr.DataArray(clear, dims=("time", "y", "x"), coords=coords, attrs={"masks": told})


def clear_by(
    clear: xr.DataArray | None,
    masks: Sequence[Mask] | Mapping[Date, Mask] | None,
    masks_are: str | None,
    series: xr.DataArray,
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


def clear_of_sources(
    sources: Sequence[str],
    series: xr.DataArray,
    masks: Sequence[Mask] = (),
    *,
    dates: Sequence[Date] | None = None,
    product: str | None = None,
    **opening: Any,
) -> xr.DataArray | None:
    """`clear_of` for a series that was opened from several sources, whose masks are in the order of these.

    Args:
        sources: files or granule folders.
        series: what `prithvi.open_scene` gives for them: its dates are in the order of time.
        masks: a raster for each source, None for one without; default those that lie in the granules' folders.
        dates: the day of each source, where these do not state it.
        product: see `clear_of`.
        **opening: how the sources are opened, see `prithvi.open_scene`.

    Returns:
        What `clear_of` gives; None where there is no mask.

    Raises:
        SceneError: see `clear_of`.
        ConfigError: a product is named, and there are no masks.

    """
    number = series.sizes["time"]
    masks = list(masks) or masks_beside(sources, number)
    if not masks:
        if product is not None:
            raise ConfigError("--clouds-are says what masks hold, and there are none: give them by --clouds.")
        return None
    if len(sources) == len(masks) == number > 1:
        # Into the order of time, of two granules of a day by the times in their names.
        opened = [] if dates is not None else [open_scene(source, **opening) for source in sources]
        dates = dates or [str(scene["time"].dt.strftime("%Y-%m-%d").values[0]) for scene in opened]
        times = moments(sources)
        ranks = sorted(range(number), key=lambda place: str(times.get(sources[place], "")))
        masks, dates = [masks[place] for place in ranks], [dates[place] for place in ranks]
    return clear_of(masks, series, dates=dates, product=product)


def masks_beside(sources: Sequence[str], dates: int) -> list[Mask]:
    """The masks that lie in granule folders (HLS, Landsat, Sentinel-2) or were given among their files.

    Args:
        sources: what a series is opened from.
        dates: how many it has. As many sources have a mask each, or None.

    Returns:
        As many as there are dates, None where there is no mask for one; empty where there is none at all.

    Raises:
        SceneError: a source has several masks of a date.

    """
    found = [_masks_in(Path(source)) for source in sources]
    if not any(found):
        return []
    if len(sources) == dates:
        for source, masks in zip(sources, found, strict=True):
            if len(masks) > 1:
                raise SceneError(
                    f"{source} has several masks ({', '.join(m.name for m in masks)}): choose by --clouds."
                )
        return [masks[0] if masks else None for masks in found]
    every: list[Mask] = [mask for masks in found for mask in masks]
    return every + [None] * (dates - len(every))


@dataclass(frozen=True)
class _Read:
    """A mask that was looked through."""

    clear: da.Array
    """(y, x) bool on the series' grid."""
    told: str
    some_clear: bool


def _no_mask(series: xr.DataArray) -> _Read:
    clear = da.ones((series.sizes["y"], series.sizes["x"]), bool, chunks=(512, -1))
    return _Read(clear, "no mask, so that all that was observed counts as clear.", True)


def _open(path: Path, series: xr.DataArray, product: MaskProduct | None) -> _Read:
    try:
        with rasterio.open(path) as raster:
            counts = _counts(raster)
            bands, nodata, grid = raster.count, raster.nodata, grid_of(raster)
        pixels = rioxarray.open_rasterio(path, chunks={"y": 512, "x": -1})
    except (RasterioError, OSError) as error:
        raise SceneError(f"the cloud mask {path} cannot be read ({error}).") from error
    if bands != 1:
        raise SceneError(f"the cloud mask {path} has {bands} bands, and which is the mask is not known: give one.")
    assert isinstance(pixels, xr.DataArray)
    repeat = _repeat(path, grid, series)
    values = np.array(list(counts))
    number = np.array(list(counts.values()))
    kind = product or MASK_PRODUCTS[product_of(path, values[values != nodata])]
    if values.dtype.kind == "f" and (np.rint(values) != values)[np.isfinite(values)].any():
        raise SceneError(f"the cloud mask {path} has fractions ({some(values)}), such as probabilities: set a limit.")
    if strange := kind.strange(values, nodata):
        raise SceneError(
            f"the cloud mask {path} is read as {kind.title}, which has no value {some(strange)}: say what it is with "
            f"--clouds-are (product=): {', '.join(MASK_PRODUCTS)}."
        )
    is_clear, observed, every = kind.is_clear(values, nodata), kind.observed(values, nodata), number.sum()
    clear, lost = number[is_clear].sum() / every, number[~observed].sum() / every
    cloudy = values[observed & ~is_clear]
    told = f"{path.name}, read as {kind.title}"
    if not kind.name and kind.clear and len(cloudy):
        told += f" (so that {some(cloudy)} {'is' if len(cloudy) == 1 else 'are'} cloud)"
    told += f": {clear:.1%} clear, {1 - clear - lost:.1%} cloud or shadow" + (f", {lost:.1%} not seen" if lost else "")
    if nodata is not None and nodata in kind.clear:
        told += f"; its {nodata:g} is tagged as no data, and counts as clear"
    flags = da.map_blocks(partial(_clear, product=kind, nodata=nodata), pixels.data[0], dtype=bool)
    for axis in (0, 1) if repeat > 1 else ():
        flags = da.repeat(flags, repeat, axis=axis)
    return _Read(flags[: series.sizes["y"], : series.sizes["x"]], f"{told}.", bool(is_clear.any()))


def _clear(values: npt.NDArray[np.generic], product: MaskProduct, nodata: float | None) -> npt.NDArray[np.bool_]:
    """`MaskProduct.is_clear`, of small numbers by a table of all of them."""
    if values.dtype not in (np.uint8, np.uint16):
        return product.is_clear(values, nodata)
    table = product.is_clear(np.arange(256**values.dtype.itemsize), nodata)
    flags: npt.NDArray[np.bool_] = table[values]
    return flags


def _counts(raster: rasterio.DatasetReader) -> Counter[float]:
    """Pixels of each value of a raster's first band, strip by strip."""
    counts: Counter[float] = Counter()
    rows = max(raster.block_shapes[0][0], 256)
    for first in range(0, raster.height, rows):
        pixels = raster.read(1, window=Window(0, first, raster.width, min(rows, raster.height - first)))
        if pixels.dtype in (np.uint8, np.uint16):
            every = np.bincount(pixels.ravel())
            values, number = np.flatnonzero(every), every[every > 0]
        else:
            values, number = np.unique(pixels, return_counts=True)
        counts.update(dict(zip(values.tolist(), number.tolist(), strict=True)))
    return counts


def _repeat(path: Path, mask: GeoBox, series: xr.DataArray) -> int:
    """How many pixels of the series lie beside and below each other in one of the mask's.

    Raises:
        SceneError: their grids do not begin at one corner, or their pixels do not divide each other.

    """
    here = grid_of_array(series)
    repeat = repeats(mask, here)
    if repeat is None:
        raise SceneError(f"the cloud mask {path} and the series do not lie on one grid: {difference(mask, here)}.")
    return repeat


def _by_day(masks: Mapping[Date, Mask], days: Sequence[dt.date] | None) -> list[Mask]:
    """The masks of a series' days in their order."""
    named = dict(zip(as_days(masks), masks.values(), strict=True))
    if days is None or len(set(days)) < len(days):
        raise SceneError("masks by date are of a series with one date a day: give them as a list, in order of time.")
    if unknown := [day for day in named if day not in days]:
        raise SceneError(f"a cloud mask is given for {unknown[0]}, and the series has {listed(days)}.")
    return [named.get(day) for day in days]


def _paired(
    masks: Sequence[Path | None], days: Sequence[dt.date] | None, number: int, dates: Iterable[Date] | None
) -> list[Path | None]:
    """The mask of each date of a series, of which there are `number`."""
    if len(masks) != number:
        raise SceneError(
            f"{len(masks)} cloud masks for {number} dates: give one for each, in order, and none (None) for a date "
            "without."
        )
    if days is None:
        return list(masks)
    given = list(days) if dates is None else as_days(dates)
    said = _said(masks, days)
    if any(said) and all(day is not None for mask, day in zip(masks, said, strict=True) if mask is not None):
        left = iter([day for day in days if day not in said])
        given = [said[place] or next(left, days[0]) for place in range(number)]
    if Counter(given) != Counter(days):
        raise SceneError(
            f"the cloud masks are of {listed(given)}, and the series of {listed(days)}: give one for each."
        )
    for mask, day, named in zip(masks, given, said, strict=True):
        if named not in (None, day):
            raise SceneError(f"the cloud mask {mask} is of {named} by its name, and stands at the place of {day}.")
    # Of several masks of one day, in the order of the times that their granules' names state.
    in_time = sorted(zip(given, masks, strict=True), key=lambda pair: _time_in_name(pair[1]))
    return [in_time.pop([own for own, _ in in_time].index(day))[1] for day in days]


def _time_in_name(mask: Path | None) -> str:
    granule = granule_of(mask)
    return str(granule[1]) if granule is not None else ""


def _said(masks: Sequence[Path | None], days: Sequence[dt.date]) -> list[dt.date | None]:
    """The day that each mask's name states. Those of no product's form may be days of anything else, such as an
    export; they count if one of them is a day of the series.
    """
    said = [None if mask is None else day_in_name(mask) for mask in masks]
    own = [mask is not None and product_named(mask) is not None for mask in masks]
    if any(day in days for day, of_product in zip(said, own, strict=True) if not of_product):
        return said
    return [day if of_product else None for day, of_product in zip(said, own, strict=True)]


def _masks_in(source: Path) -> list[Path]:
    """Masks of a granule's own product: DSWx is made of granules later."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    rasters = [file for file in files if file.suffix.lower() in (".tif", ".tiff", ".jp2", ".vrt") and file.is_file()]
    named = [file for file in rasters if product_named(file) not in (None, "dswx_cloud")]
    return named or sorted(source.rglob("*_SCL_20m.jp2") if source.is_dir() else ())


def some(values: Iterable[object]) -> str:
    """The first of the different values, for a message."""
    found = sorted(set(np.asarray(values).tolist()))
    return ", ".join(f"{value:g}" for value in found[:6]) + (" ..." if len(found) > 6 else "")


def listed(days: Iterable[object]) -> str:
    """Days, for a message."""
    return ", ".join(map(str, days))
