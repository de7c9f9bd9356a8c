"""Which file band is which band of which date: decided from metadata alone."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from prithvi.bands import PRITHVI_BANDS, check_names, common_name
from prithvi.catalog import Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError, SceneError
from prithvi.scenes.names import common_names, read_file_name, split_description


@dataclass(frozen=True)
class FileBand:
    """One band of one file."""

    path: Path
    index: int
    """Counted from 1."""


@dataclass
class Layout:
    """A scene before any pixel is read."""

    steps: list[dict[str, FileBand]]
    """One table a date: common name to file band, the same names in each."""
    files: dict[Path, tuple[int, int]]
    """Every file with the height and width of its blocks."""
    dates: list[dt.date] | None
    sensor: Sensor | None
    nodata: dict[Path, tuple[float, ...]]
    """Values of pixels without data in each file: what it declares and what its product says."""
    where: str
    """How to call the scene in a message."""
    dtype: str
    scaling: tuple[float, float] | None = None
    """Gain and bias that the files themselves declare (GDAL's scale and offset)."""


@dataclass(frozen=True)
class _File:
    path: Path
    count: int
    descriptions: tuple[str | None, ...]
    nodata: float | None
    scaling: tuple[float, float] | None
    dtype: str
    blocks: tuple[int, int]
    grid: tuple[object, ...]


def lay_out(
    paths: Sequence[Path],
    bands: list[str] | dict[str, int] | None,
    told: Sensor | None,
    dates: list[dt.date] | None,
    order: str | None,
    nodata: float | None,
) -> Layout:
    """Finds (date, band) in files; see `prithvi.open_scene` for the arguments.

    Raises:
        SceneError, BandError: see `prithvi.open_scene`.

    """
    files = [_inspect(path) for path in paths]
    _refuse_several_grids(files)
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more files"
    names = [read_file_name(path) for path in paths]
    if told is None:
        said = {name.sensor for name in names if name.sensor}
        if len(said) > 1 and len({sensor_named(s).gain for s in said}) > 1:
            raise SceneError(
                f"{where} mixes {' and '.join(sorted(said))}, which have other scales: open them one by one."
            )
        told = sensor_named(min(said)) if said else None
    single = len(files) > 1 and all(file.count == 1 for file in files)
    table: dict[dt.date | None, dict[str, FileBand]] = {}
    if single:
        labels = _labels_of_single_files(files, bands)
        for position, (file, name) in enumerate(zip(files, names, strict=True)):
            # Each file by its own product: S30 and L30 granules of one place may lie side by side.
            own = sensor_named(name.sensor) if name.sensor else told
            (common,) = common_names([labels[position]], own, str(file.path)) if labels[position] else (None,)
            if common is None:
                _refuse_unnamed(where, len(files), bands)
            step = table.setdefault(name.date, {})
            if common in step:
                raise BandError(f"{file.path.name} and {step[common].path.name} are both {common} of the same date.")
            step[str(common)] = FileBand(file.path, 1)
    else:
        for position, (file, name) in enumerate(zip(files, names, strict=True)):
            for date, step in _stacked(file, bands, told, dates, order).items():
                key = date or name.date or (dates[position] if dates and len(dates) == len(files) else None)
                if key in table:
                    raise SceneError(f"{file.path} and another file are of the same date ({key}): give dates.")
                table[key] = step
    return _finish(table, files, dates, told, nodata, where)


def _inspect(path: Path) -> _File:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as raster:
                _check_georeference(path, raster)
                if raster.count == 0:
                    raise SceneError(f"{path} holds no band: name one of its subdatasets.")
                height, width = raster.block_shapes[0]
                scaling = set(zip(raster.scales, raster.offsets, strict=True))
                return _File(
                    path,
                    raster.count,
                    raster.descriptions,
                    raster.nodata,
                    scaling.pop() if len(scaling) == 1 and scaling != {(1.0, 0.0)} else None,
                    raster.dtypes[0],
                    (height, width),
                    (raster.crs.to_wkt(), tuple(raster.transform)[:6], raster.shape),
                )
        except RasterioIOError as error:
            raise SceneError(f"{path} cannot be opened as a raster: it is damaged or of no known format.") from error


def _check_georeference(path: Path, raster: rasterio.DatasetReader) -> None:
    """Raises SceneError for a file that does not say where it lies."""
    if raster.crs is None or raster.transform.is_identity:
        what = "coordinate reference system" if raster.crs is None else "geotransform"
        raise SceneError(
            f"{path} has no {what}, so a map of it would lie nowhere: write it with "
            "'rio edit-info --crs EPSG:... --transform ...'."
        )


def _refuse_several_grids(files: Sequence[_File]) -> None:
    for file in files[1:]:
        if file.grid != files[0].grid:
            raise SceneError(
                f"{file.path.name} {file.grid[2]} and {files[0].path.name} {files[0].grid[2]} lie on other grids: "
                "bring them onto one first ('gdalbuildvrt -separate -resolution highest scene.vrt FILES')."
            )


def _labels_of_single_files(files: Sequence[_File], bands: list[str] | dict[str, int] | None) -> list[str | None]:
    if isinstance(bands, dict):
        numbers = {number: name for name, number in bands.items()}
        return [numbers.get(position + 1) for position in range(len(files))]
    if bands is not None:
        if len(bands) != len(files):
            raise BandError(f"{len(files)} single-band files and {len(bands)} band names were given.")
        return list(check_names(bands))
    return [read_file_name(file.path).band or file.descriptions[0] for file in files]


def ask_for_bands(names: Sequence[str | None] | None, count: int, told: Sensor | None, where: str) -> list[str | None]:
    """Common names of `count` bands out of their names or the sensor's own order.

    Raises:
        BandError: neither says it; the message lists what was found and the three ways to say it.

    """
    if names is not None and any(names):
        return common_names(list(names), told, where)
    if told is not None and count == len(told.stack):
        return [common_name(identifier, told.product) for identifier in told.stack]
    if told is not None:
        raise BandError(f"{where} has {count} bands without names; {told.name} has {len(told.stack)}: say --bands.")
    _refuse_unnamed(where, count, None)
    return []


def _refuse_unnamed(where: str, count: int, bands: object) -> None:
    raise BandError(
        f"{where} has {count} {'band' if count == 1 else 'bands'} without names; say which are "
        f"{', '.join(PRITHVI_BANDS)}: --bands 2,3,4,9,12,13 (numbers in the file, in this order), or "
        "--sensor sentinel-2-l1c, or name them in the file."
    )


def _stacked(
    file: _File,
    bands: list[str] | dict[str, int] | None,
    told: Sensor | None,
    dates: list[dt.date] | None,
    order: str | None,
) -> dict[dt.date | None, dict[str, FileBand]]:
    """Bands of one file with several, by date (None where the file says none)."""
    where = str(file.path)
    if isinstance(bands, dict):
        wrong = [number for number in bands.values() if not 1 <= number <= file.count]
        if wrong:
            raise BandError(f"{where} has bands 1 to {file.count}; band {wrong[0]} was asked for.")
        return {None: {name: FileBand(file.path, number) for name, number in bands.items()}}
    if bands is not None:
        return _by_order(file, list(check_names(bands)), dates, order)
    split = [split_description(text) if text else (None, None) for text in file.descriptions]
    common = ask_for_bands([name for name, _ in split], file.count, told, where)
    table: dict[dt.date | None, dict[str, FileBand]] = {}
    for index, (name, (_, date)) in enumerate(zip(common, split, strict=True), start=1):
        if name is None:
            continue
        step = table.setdefault(date, {})
        if name in step:
            raise BandError(
                f"{where} has {name} twice (bands {step[name].index} and {index}): write dates into the band names "
                f"('{name} 2022-05-01'), or give bands, dates and order."
            )
        step[name] = FileBand(file.path, index)
    return table


def _by_order(
    file: _File, bands: list[str], dates: list[dt.date] | None, order: str | None
) -> dict[dt.date | None, dict[str, FileBand]]:
    """A file whose bands are said in order, for one date or, with the order of the two axes said, several."""
    if file.count == len(bands):
        return {None: {name: FileBand(file.path, index) for index, name in enumerate(bands, start=1)}}
    steps, rest = divmod(file.count, len(bands))
    if rest:
        raise BandError(f"{file.path} has {file.count} bands, and {len(bands)} were named: name each of them.")
    if order not in ("time-major", "band-major") or dates is None or len(dates) != steps:
        raise SceneError(
            f"{file.path} holds {file.count} bands, {steps} dates of {len(bands)} if all are named alike: say order= "
            "time-major (all bands of the first date first) or band-major, and the "
            f"{steps} dates. Neither is guessed."
        )
    table: dict[dt.date | None, dict[str, FileBand]] = {}
    for step, date in enumerate(dates):
        for place, name in enumerate(bands):
            index = step * len(bands) + place if order == "time-major" else place * steps + step
            table.setdefault(date, {})[name] = FileBand(file.path, index + 1)
    return table


def _finish(
    table: dict[dt.date | None, dict[str, FileBand]],
    files: Sequence[_File],
    dates: list[dt.date] | None,
    told: Sensor | None,
    nodata: float | None,
    where: str,
) -> Layout:
    known = [date for date in table if date is not None]
    if known and len(known) != len(table):
        raise SceneError(f"{where}: some bands have a date and some have none.")
    steps = [table[date] for date in sorted(known)] if known else list(table.values())
    first = list(steps[0])
    for date, step in zip(sorted(known), steps, strict=False):
        if set(step) != set(first):
            differ = sorted(set(first) ^ set(step))
            raise BandError(f"{where}: {', '.join(differ)} is not there on every date ({date} differs).")
    steps = [{name: step[name] for name in first} for step in steps]
    when: list[dt.date] | None = sorted(known) if known else dates
    if when is not None and len(when) != len(steps):
        raise SceneError(f"{where} has {len(steps)} dates and {len(when)} were given.")
    missing = {}
    for file in files:
        own = read_file_name(file.path).sensor
        product = sensor_named(own) if own else told
        values = (nodata,) if nodata is not None else (file.nodata, product.nodata if product else None)
        missing[file.path] = tuple(dict.fromkeys(value for value in values if value is not None))
    scaling = files[0].scaling if len({file.scaling for file in files}) == 1 else None
    blocks = {file.path: file.blocks for file in files}
    return Layout(steps, blocks, when, told, missing, where, files[0].dtype, scaling)
