"""`open_scene`: files or arrays to one lazy (time, band, y, x) DataArray.

First every file is asked what it holds (metadata only); then each (date, band) gets exactly one file band; then the
lazy arrays are put together. Nothing is read before pixels are asked for.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from prithvi.bands import PRITHVI_BANDS, check_names
from prithvi.catalog import Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError, SceneError
from prithvi.scenes.layout import FileBand, Layout, ask_for_bands, lay_out
from prithvi.scenes.names import read_file_name

Source = str | Path | Sequence[str | Path] | xr.DataArray


def open_scene(
    source: Source,
    *,
    bands: Sequence[str] | Sequence[int] | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    dates: Sequence[dt.date | str] | None = None,
    order: str | None = None,
) -> xr.DataArray:
    """A raster as a lazily read (time, band, y, x) DataArray with band names, dates, CRS and transform.

    Pixels without data are NaN; small integers become float32, which holds them exactly. `attrs` keeps `gain` and
    `bias` (reflectance = value x gain + bias) where the scale is known, `level`, `sensor`, `missing` (the values that
    stood for no data) and `source`.

    Args:
        source: a GeoTIFF, VRT or any raster GDAL opens; a list of single-band files or of stacked files a date; a
            folder of single-band files; or a DataArray with dimensions (band, y, x) or (time, band, y, x).
        bands: names of the file's bands in their order; or a mapping from common name to the band's number in the
            file, counted from 1; or six numbers, which are then the bands blue, green, red, nir_narrow, swir_1, swir_2.
        sensor: a key of `prithvi.catalog.SENSORS`: names the bands by their ids or order, and sets scale and nodata.
        scale: value = reflectance x scale, where neither the sensor, the name nor the file's own scale says so.
        offset: added to every value before it is scaled (-1000 for Sentinel-2 of processing baseline 04.00 and later).
        nodata: value of pixels without data, where the file does not declare it.
        dates: the date of each step of the time axis, where names do not say them.
        order: `time-major` or `band-major`, for one file with the bands of several dates.

    Raises:
        SceneError: damaged, without a place, on several grids, or of an unknown date order.
        BandError: bands that cannot be named.

    """
    told = sensor_named(sensor) if sensor is not None else None
    when = [dt.date.fromisoformat(d) if isinstance(d, str) else d for d in dates] if dates is not None else None
    if isinstance(source, xr.DataArray):
        scene, layout = _from_array(source, bands, told, when)
    else:
        layout = lay_out(_files(source), _numbered(bands), told, when, order, nodata)
        scene = _from_files(layout)
    known = layout.sensor
    declared = layout.scaling or (scene.attrs.get("gain"), scene.attrs.get("bias", 0.0))
    gain = 1.0 / scale if scale is not None else known.gain if known else declared[0]
    if offset is not None and gain is None:
        raise SceneError(f"{layout.where}: an offset of {offset} needs a scale or a sensor beside it.")
    bias = 0.0 if scale is not None else known.bias if known else declared[1]
    if offset is not None and gain is not None:
        bias += offset * gain
    _refuse_unsaid_offset(layout, scene, offset)
    scene.attrs = {
        key: value
        for key, value in {
            "gain": gain,
            "bias": bias if gain is not None else None,
            "level": known.level if known else scene.attrs.get("level"),
            "sensor": known.name if known else scene.attrs.get("sensor"),
            "missing": sorted({value for values in layout.nodata.values() for value in values}),
            "source": layout.where,
            "dtype": layout.dtype,
        }.items()
        if value is not None
    }
    return scene.rename("reflectance")


def valid_mask(scene: xr.DataArray) -> xr.DataArray:
    """(time, y, x) bool, lazily: True where every band has data."""
    return scene.notnull().all("band").rename("valid")


def _files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of a source that hold bands."""
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(path) for path in source]
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in (".tif", ".tiff", ".jp2", ".vrt"))
            if not inside:
                raise SceneError(f"the folder {path} holds no .tif, .jp2 or .vrt file.")
            files += inside
        else:
            files.append(path)
    if not files:
        raise SceneError("no file was given.")
    missing = [
        str(path) for path in files if "://" not in str(path) and not path.exists() and not str(path).startswith("/vsi")
    ]
    if missing:
        raise SceneError(f"there is no file {', '.join(missing)}.")
    return [path for path in files if not read_file_name(path).ancillary]


def _numbered(
    bands: Sequence[str] | Sequence[int] | Mapping[str, int] | None,
) -> list[str] | dict[str, int] | None:
    if bands is None:
        return None
    if isinstance(bands, Mapping):
        return dict(zip(check_names(list(bands)), bands.values(), strict=True))
    values: list[Any] = list(bands)
    if all(isinstance(value, (int, np.integer)) for value in values):
        if len(values) != len(PRITHVI_BANDS):
            raise BandError(
                f"{len(values)} band numbers were given: six mean {', '.join(PRITHVI_BANDS)}; for others give a "
                "mapping from name to number."
            )
        return dict(zip(PRITHVI_BANDS, (int(value) for value in values), strict=True))
    return [str(value) for value in values]


def _open_lazily(path: Path, blocks: tuple[int, int]) -> xr.DataArray:
    rows = blocks[0] * max(1, 256 // blocks[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            # Strips of whole width: maps are made row by row, and each file block is then decoded once.
            opened = rioxarray.open_rasterio(path, chunks={"band": -1, "y": rows, "x": -1}, lock=False, cache=False)
        except RasterioIOError as error:
            raise SceneError(f"{path} cannot be opened ({error}).") from error
    if not isinstance(opened, xr.DataArray):
        raise SceneError(f"{path} holds several rasters: name one of its subdatasets.")
    return opened


def _from_files(layout: Layout) -> xr.DataArray:
    """The lazy array of a layout, missing pixels NaN."""
    opened = {path: _open_lazily(path, blocks) for path, blocks in layout.files.items()}
    steps = []
    for bands in layout.steps:
        paths = {entry.path for entry in bands.values()}
        entries = list(bands.values())
        groups = [entries] if len(paths) == 1 else [[entry] for entry in entries]  # a stacked file is read once
        parts = [_pick(opened[group[0].path], group, layout) for group in groups]
        steps.append(xr.concat(parts, dim="band", join="override", coords="minimal", compat="override"))
    scene = xr.concat(steps, dim="time", join="override", coords="minimal", compat="override")
    scene = scene.assign_coords(band=list(layout.steps[0]))
    if layout.dates is not None:
        scene = scene.assign_coords(time=np.array(layout.dates, dtype="datetime64[ns]"))
    first = opened[next(iter(layout.files))]
    scene = scene.rio.write_crs(first.rio.crs).rio.write_transform(first.rio.transform())
    scene.attrs = {}
    result: xr.DataArray = scene.transpose("time", "band", "y", "x")
    return result


def _pick(raster: xr.DataArray, entries: Sequence[FileBand], layout: Layout) -> xr.DataArray:
    """Bands of one file as floats, NaN where they have no data."""
    stored = raster.isel(band=[entry.index - 1 for entry in entries]).drop_vars("band").drop_attrs()
    if np.issubdtype(stored.dtype, np.integer):
        values = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    else:
        values = stored.where(np.isfinite(stored))
    return _without(values, stored, layout.nodata[entries[0].path])


def _without(values: xr.DataArray, stored: xr.DataArray, nodata: Sequence[float]) -> xr.DataArray:
    """`values` with NaN where the stored array has one of the nodata values."""
    for value in nodata:
        if not np.isnan(value):
            values = values.where(stored != value)
    return values


def _from_array(
    array: xr.DataArray,
    bands: Sequence[str] | Sequence[int] | Mapping[str, int] | None,
    told: Sensor | None,
    dates: list[dt.date] | None,
) -> tuple[xr.DataArray, Layout]:
    where = str(array.attrs.get("source") or array.name or "the array")
    if "band" not in array.dims or not {"y", "x"} <= set(array.dims):
        raise SceneError(f"{where} has dimensions {array.dims}; a scene has (band, y, x) or (time, band, y, x).")
    if "time" not in array.dims:
        array = array.expand_dims("time")
    array = array.transpose("time", "band", "y", "x")
    asked = _numbered(bands)
    if isinstance(asked, dict):
        array = array.isel(band=[number - 1 for number in asked.values()])
        names: list[str | None] = list(asked)
    else:
        named = (
            asked or [str(name) for name in np.atleast_1d(array["band"].values)] if "band" in array.coords else asked
        )
        names = ask_for_bands(named, array.sizes["band"], told, where)
    if array.rio.crs is None:
        raise SceneError(f"{where} has no coordinate reference system: set it with array.rio.write_crs(...).")
    declared = (array.rio.nodata, *array.attrs.get("missing", []), told.nodata if told else None)
    nodata = [float(value) for value in np.hstack([d for d in declared if d is not None] or [[]])]
    values = array.astype(np.float32) if array.dtype.kind in "iu" and array.dtype.itemsize <= 2 else array
    values = _without(values, array, nodata)
    values = values.assign_coords(band=names).assign_attrs(array.attrs)
    if dates is not None:
        values = values.assign_coords(time=np.array(dates, dtype="datetime64[ns]"))
    kept = [i for i, name in enumerate(names) if name]
    layout = Layout([], {}, None, told, {Path(where): tuple(nodata)}, where, str(array.dtype))
    return values.isel(band=kept), layout


def _refuse_unsaid_offset(layout: Layout, scene: xr.DataArray, offset: float | None) -> None:
    """Sentinel-2 from 25 January 2022 on carries +1000 unless somebody took it out; only the user can know."""
    known = layout.sensor
    if known is None or known.product != "sentinel-2" or offset is not None or "time" not in scene.coords:
        return
    if scene["time"].values.max() >= np.datetime64("2022-01-25"):
        raise SceneError(
            f"{layout.where} is a Sentinel-2 image after 2022-01-25, whose values are 1,000 too high unless that was "
            "taken out: say --offset -1000 if it was not (the archive's files), --offset 0 if it was."
        )
