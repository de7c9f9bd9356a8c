"""`open_scene`: files or arrays to one lazy (time, band, y, x) DataArray.

First every file is asked what it holds (metadata only); then each (date, band) gets exactly one file band; then the
lazy arrays are put together. Nothing is read before pixels are asked for.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr

from prithvi.bands import PRITHVI_BANDS, check_names
from prithvi.catalog import Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.contract import LEVELS
from prithvi.errors import BandError, SceneError, one_of
from prithvi.files import refuse_unreachable
from prithvi.scenes.dataarrays import adjusted, from_array, refuse_plain
from prithvi.scenes.grids import write_grid
from prithvi.scenes.info import Given, SceneInfo, ask_for_offset, settle
from prithvi.scenes.layout import Layout, lay_out
from prithvi.scenes.names import Date, as_days, read_file_name
from prithvi.scenes.paths import is_remote
from prithvi.scenes.pixels import SceneArray, pixels_of
from prithvi.scenes.safe import items_of
from prithvi.scenes.stac_items import lay_out_items

if TYPE_CHECKING:
    import pystac

    Source = (
        str | Path | pystac.Item | pystac.ItemCollection | Sequence[str | Path] | Sequence[pystac.Item]
        | xr.DataArray | xr.Dataset
    )  # fmt: skip


def open_scene(
    source: Source,
    *,
    bands: Sequence[str] | Sequence[int] | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    dates: Date | Iterable[Date] | None = None,
    order: str | None = None,
    level: str | None = None,
) -> xr.DataArray:
    """A raster as a lazily read (time, band, y, x) DataArray with band names, dates, CRS and transform.

    Pixels without data are NaN; small integers become float32, which holds them exactly. Where the sensor of each date
    is known, the coordinate `sensor` along `time` names it. `attrs` keeps `gain` and
    `bias` (reflectance = value x gain + bias) where the scale is known, `level`, `sensor`, `missing` (the values that
    stood for no data) and `source`.

    Args:
        source: a GeoTIFF, VRT or any raster GDAL opens, by its path or http address; a list of single-band files or
            of stacked files a date; a folder of single-band files; a STAC item (its JSON file or address, or a
            `pystac.Item`) or a list of items, one a date; a DataArray with dimensions (band, y, x) or
            (time, band, y, x); or a Dataset with one such variable, or with a variable for each band.
        bands: names of the file's bands in their order; or a mapping from common name to the band's number in the
            file, counted from 1; or six numbers, which are then the bands blue, green, red, nir_narrow, swir_1, swir_2.
            Of STAC items: common names of the bands to open, all reflective ones that every item has if left out.
        sensor: a key of `prithvi.catalog.SENSORS`: names the bands by their ids or order, and sets scale and nodata.
        scale: reflectance = (value + offset) / scale. Counts more than what the file says of each band (its scale and
            offset tags, a STAC item's, an array's `scale_factor` and `add_offset`), and that more than what the sensor
            usually has; alone it leaves the file's own offset as it is. See docs/contract.md.
        offset: added to every value before it is scaled (-1000 for Sentinel-2 of processing baseline 04.00 and later;
            items of an earlier baseline are left as they are); likewise.
        nodata: value of pixels without data, beside those that each band and the product declare.
        dates: the date of each file or item in the order they are given in, or of each step of one that holds several;
            see `prithvi.scenes.names.as_days` for their forms. Needed only where names do not say them, and
            never another than a name says.
        order: `time-major` or `band-major`, for one file with the bands of several dates.
        level: `SR` (surface reflectance) or `TOA` (top of atmosphere), where the sensor does not say it.

    Raises:
        SceneError: damaged, without a place, on several grids, of an unknown date order, or of a date that is not the
            one given.
        BandError: bands that cannot be named.
        ConfigError: there is no such sensor or level.

    Warns:
        UserWarning: level, scale or offset that the file states is not what was said, or not what the product has.

    """
    if level is not None:
        one_of(level, LEVELS, "there is no level of reflectance")
    given_sensor = sensor_named(sensor) if sensor is not None else None
    if scale is not None and not 0 < scale < float("inf"):
        raise SceneError(f"a scale of {scale:g} was given; value = reflectance x scale needs one above 0.")
    when = as_days(dates) if dates is not None else None
    given = Given(_numbered(bands, given_sensor), given_sensor, when, order, scale, offset, nodata)
    # Whatever the source is, it becomes a Layout: one file band for each date and band name, decided from metadata
    # alone. Arrays have their pixels already, and only take their names, dates and place from theirs.
    array: xr.DataArray | None = None
    if isinstance(source, (xr.DataArray, xr.Dataset)):
        array, layout = from_array(source, given)
    else:
        layout = _laid_out(source, given)
    # What the values mean is settled once for all bands, by the rule of precedence in `info`: bands and dates that
    # state another scale than the reference are converted when they are read.
    info, known = settle(layout, scale, offset), layout.sensor
    scene = _from_files(layout) if array is None else adjusted(array, layout)
    if offset is None and info.offset is None and known is not None and known.name.startswith("sentinel-2"):
        last = scene["time"].values.max().astype("datetime64[D]").item() if "time" in scene.coords else None
        ask_for_offset(layout.where, last, number=-0.1 / (info.gain or known.gain), dated="--date, or ")
    # The attributes are written anew: whatever else a file or array carried (names of bands, statistics, its own scale)
    # need not hold of what this scene is by now.
    stated = SceneInfo.of(scene)  # by an array that was a scene before
    product_level = known.level if known is not None else stated.level
    if level is not None and product_level not in (None, level):
        warnings.warn(f"{layout.where} is taken for {level}, and its product is {product_level}.", stacklevel=2)
    scene.attrs = replace(
        info,
        source=layout.where,
        level=level or product_level,
        sensor=known.name if known else stated.sensor,
        dtype=layout.dtype,
        missing=sorted({value for step in layout.steps for plane in step.values() for value in plane.missing}),
        unknown_bands=list(layout.unknown) or (),
        unnamed=layout.unnamed,
    ).attrs()
    if "time" in scene.coords and "sensor" not in scene.coords and (sensors := _sensors(layout, scene.sizes["time"])):
        scene = scene.assign_coords(sensor=("time", sensors))
    return scene.rename("reflectance")


def _sensors(layout: Layout, number: int) -> list[str]:
    """The sensor of each of a number of dates; none where they are not all known."""
    steps = [{plane.stated_scale.product for plane in step.values()} for step in layout.steps]
    if layout.sensor is not None and len(steps) != number:  # an array has all of its dates in one step
        return [layout.sensor.name] * number
    return [min(names) for names in steps] if all(len(names) == 1 and "" not in names for names in steps) else []


def valid_mask(scene: xr.DataArray) -> xr.DataArray:
    """(time, y, x) bool, lazily: True where every band has data."""
    return scene.notnull().all("band").rename("valid")


_SENTINEL = re.compile(r"\.(jp2|zip|xml|safe)$|^SENTINEL2_", re.IGNORECASE)
"""Names that may be of Sentinel-2's archive, as folders may be."""
_ITEM = re.compile(r"\.(geo)?json$|/items/[^/]+/?$", re.IGNORECASE)


def _laid_out(source: Any, given: Given) -> Layout:
    """The layout of what is no array: a product of Sentinel-2's archive, STAC items or files; names tell which."""
    if hasattr(source, "shape") and hasattr(source, "dtype"):
        refuse_plain(source)
    kind = type(source).__name__ if type(source).__module__.startswith("pystac") else ""
    if kind not in ("", "Item", "ItemCollection"):
        raise SceneError(f"a STAC {kind} is no scene: give one of its items, or a list of them.")
    parts = [source] if isinstance(source, (str, Path)) or kind == "Item" else list(source)
    names = [str(part) for part in parts if isinstance(part, (str, Path))]
    local = [name for name in names if not is_remote(name)]
    for name in local:
        refuse_unreachable(name, SceneError)
    if len(names) == len(parts) and any(_SENTINEL.search(name) or Path(name).is_dir() for name in local):
        products = items_of(names)
        if products is not None:
            return lay_out_items(products, given)
    refuse_no_scene(local, given.scale is not None)
    items = [type(part).__name__ == "Item" or _is_item(str(part)) for part in parts]
    if any(items) and not all(items):
        raise SceneError("STAC items and files were given together: give items, or files.")
    return lay_out_items(parts, given) if any(items) else lay_out(_files(map(str, parts)), given)


def _is_item(name: str) -> bool:
    """Whether a name is that of a STAC item's file or address."""
    name = name.partition("?")[0]
    return bool(_ITEM.search(name)) and (is_remote(name) or not Path(name).is_dir())


def _files(names: Iterable[str]) -> list[str]:
    """The files and addresses that hold bands, of these and in these folders."""
    files: list[str] = []
    for name in names:
        if is_remote(name):
            files.append(name)
            continue
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in _RASTERS)
            if not inside:
                raise SceneError(f"the folder {path} holds no .tif, .jp2, .vrt or .hdf file.")
            files += map(str, inside)
        elif path.exists() or _ADDRESS.match(name):
            files.append(name)
        else:
            raise SceneError(f"there is no file {name}.")
    # Quality and angle files of a granule often lie in the folder, or match the same pattern, as its bands.
    bands = [name for name in files if not read_file_name(name).ancillary]
    if not bands:
        raise SceneError(f"no file with bands was given{': only ' + ', '.join(files) if files else ''}.")
    return bands


_RASTERS = (".tif", ".tiff", ".jp2", ".vrt", ".hdf")
"""Suffixes of files in a folder that may hold bands."""
_ADDRESS = re.compile(r"^(\w{2,}://|/vsi|[A-Za-z0-9_]{3,}:)")
"""What GDAL opens and no folder lists: an address, a virtual file, a subdataset."""


def _numbered(
    bands: Sequence[str] | Sequence[int] | Mapping[str, int] | None, sensor: Sensor | None
) -> list[str] | dict[str, int] | None:
    if bands is None:
        return None
    if isinstance(bands, Mapping):
        product = sensor.product if sensor else None
        return dict(zip(check_names(list(bands), product), bands.values(), strict=True))
    values: list[Any] = list(bands)
    if all(isinstance(value, (int, np.integer)) for value in values):
        if len(values) != len(PRITHVI_BANDS):
            raise BandError(
                f"{len(values)} band numbers were given: six mean {', '.join(PRITHVI_BANDS)}; for others give a "
                "mapping from name to number."
            )
        return dict(zip(PRITHVI_BANDS, (int(value) for value in values), strict=True))
    return [str(value) for value in values]


def _chunk(layout: Layout) -> tuple[int, int]:
    """Rows and columns of a piece: strips of whole width of local files, as maps are made row by row; whole blocks of
    about 512 x 2,048 pixels of files on servers, and of bands half as fine.
    """
    # A piece is a whole number of the file's blocks, so that no block is decoded for two pieces. Bands of a coarser
    # grid count with the size that their blocks have on the scene's; far coarser ones would make pieces too large for
    # memory, and are read again instead.
    near = [file for file in layout.files.values() if file.repeat <= 2]
    rows, columns = (max(file.blocks[axis] * file.repeat for file in near) for axis in (0, 1))
    if any(is_remote(path) for path in layout.files):
        return rows * max(1, 512 // rows), columns * max(1, 2048 // columns)
    return rows * max(1, 256 // rows), sys.maxsize


def _from_files(layout: Layout) -> xr.DataArray:
    """The lazy array of a layout, missing pixels NaN."""
    pixels = pixels_of(layout, _chunk(layout))
    scene = xr.DataArray(SceneArray.of(pixels), dims=("time", "band", "y", "x"), coords={"band": list(layout.steps[0])})
    if layout.dates is not None:
        scene = scene.assign_coords(time=np.array(layout.dates, dtype="datetime64[ns]"))
    placed: xr.DataArray = scene.rio.write_crs(layout.finest.wkt)
    return write_grid(placed, layout.finest.grid)


_LANDSAT_1 = re.compile(r"^(?P<sensor>L[COTE]\d{2})_L1\w{2}_(?P<scene>\d{6}_\d{8})_\w+_B\d+\.tiff?$", re.IGNORECASE)
_LANDSAT_METADATA = re.compile(r"^L[COTEM]\d{2}_L\w{3}_.*_(MTL|ANG)\.(txt|json|xml)$", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(tar|tar\.gz|tgz|tar\.bz2|7z|zip)$", re.IGNORECASE)


def refuse_no_scene(paths: Iterable[str], scaled: bool) -> None:
    """Stops at files that hold no reflectance, or do not hold it as they are.

    Args:
        paths: files and folders.
        scaled: whether somebody said what the values mean.

    Raises:
        SceneError: the metadata of a Landsat product, an archive, or bands of Landsat level 1 of unknown scale.

    """
    for path in map(Path, paths):
        folder = path if path.is_dir() else path.parent
        if _LANDSAT_METADATA.match(path.name):
            raise SceneError(f"{path} is the metadata of a Landsat product: give its folder, {path.parent}.")
        if _ARCHIVE.search(path.name) and path.is_file():
            raise SceneError(f"{path} is an archive: unpack it, and give the folder.")
        files = sorted(file.name for file in folder.iterdir()) if path.is_dir() else [path.name]
        raw = next((match for match in map(_LANDSAT_1.match, files) if match), None)
        if raw is not None and not scaled:
            raise SceneError(
                f"{folder / raw[0]} is of Landsat level 1, which is no surface reflectance: get the level 2 of the "
                f"same image, {raw['sensor']}_L2SP_{raw['scene']}_...; or say --scale, if these values are reflectance "
                "by now."
            )
