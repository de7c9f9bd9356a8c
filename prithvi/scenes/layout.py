"""Which file band is which band of which date: decided from metadata alone."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.transform import array_bounds

from prithvi.bands import check_names
from prithvi.catalog import Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError, SceneError
from prithvi.scenes.labels import ask_for_bands, labels_of_single_files, refuse_unnamed
from prithvi.scenes.names import are_unnamed, common_names, read_file_name, split_description
from prithvi.scenes.remote import ask, is_remote, shown

_AT_ONCE = 8
"""Files on servers whose headers are fetched at the same time."""


OFFSET_SINCE = dt.date(2022, 1, 25)
"""When processing baseline 04.00 of Sentinel-2 began, whose values are 1,000 higher."""


@dataclass(frozen=True)
class FileBand:
    """One band of one file."""

    path: str
    index: int
    """Counted from 1."""


_Table = dict[dt.date | None, dict[str, FileBand]]
"""Date (None where unknown) to common band name to file band."""


@dataclass(frozen=True)
class File:
    """A raster file's header."""

    path: str
    count: int
    descriptions: tuple[str | None, ...]
    nodata: float | None
    scaling: tuple[tuple[float, float], ...]
    """GDAL's scale and offset of each band."""
    dtype: str
    blocks: tuple[int, int]
    """Height and width."""
    wkt: str
    transform: Affine
    shape: tuple[int, int]

    @property
    def pixel_area(self) -> float:
        """In units of the coordinate reference system, squared."""
        return abs(self.transform.determinant)

    @property
    def grid(self) -> tuple[object, ...]:
        """Where the pixels lie."""
        return self.wkt, tuple(self.transform)[:6], self.shape


@dataclass
class Layout:
    """A scene before any pixel is read."""

    steps: list[dict[str, FileBand]]
    """One table a date: common name to file band, the same names in each."""
    files: dict[str, File]
    """Every file by its path."""
    dates: list[dt.date] | None
    sensor: Sensor | None
    nodata: dict[str, tuple[float, ...]]
    """Values of pixels without data in each file: what it declares and what its product says."""
    where: str
    """How to call the scene in a message."""
    dtype: str
    scaling: tuple[float, float] | None = None
    """Gain and bias that the files themselves declare for all bands used (GDAL's scale and offset)."""
    unknown: tuple[str, ...] = ()
    """Band names that nobody understood."""
    unnamed: bool = False
    """Whether bands without names were taken in the sensor's order."""
    repeat: dict[str, int] = field(default_factory=dict)
    """How often a file's pixels stand beside themselves on the scene's grid, where they are coarser."""
    stated: tuple[float, float] | None = None
    """Gain and bias, all that was said taken in; None leaves them to the sensor or the files."""
    adjust: dict[FileBand, tuple[float, float]] = field(default_factory=dict)
    """Factor and summand that bring a band's values to what `stated` says."""
    offset: float | None = None
    """What `stated` adds to each value of Sentinel-2, where that is known."""


def lay_out(
    paths: Sequence[str],
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
    files = list(inspect_all(paths).values())
    _refuse_several_grids(files)
    where = shown(paths[0]) if len(paths) == 1 else f"{Path(shown(paths[0])).name} and {len(paths) - 1} more files"
    if told is None:
        said = {name.sensor for name in map(read_file_name, paths) if name.sensor}
        if len(said) > 1 and len({sensor_named(s).gain for s in said}) > 1:
            raise SceneError(
                f"{where} mixes {' and '.join(sorted(said))}, which have other scales: open them one by one."
            )
        told = sensor_named(min(said)) if said else None
    if len(files) > 1 and all(file.count == 1 for file in files):
        table = _single_bands(files, bands, told, where)
    else:
        table = _stacks(files, bands, told, dates, order)
    used = {entry.path for step in table.values() for entry in step.values()}
    files = [file for file in files if file.path in used]
    unknown = _unknown(files, told) if bands is None else ()
    layout = _finish(table, files, dates, told, nodata, where, unknown)
    layout.unnamed = bands is None and any(file.count > 1 and are_unnamed(file.descriptions) for file in files)
    return layout


def _single_bands(
    files: Sequence[File], bands: list[str] | dict[str, int] | None, told: Sensor | None, where: str
) -> _Table:
    """Files of one band each; those whose names say nothing (masks) are left out, as in a file of several bands."""
    table: _Table = {}
    paths, descriptions = [file.path for file in files], [file.descriptions[0] for file in files]
    labels = labels_of_single_files(paths, descriptions, bands, told)
    if not any(common for common, _ in labels):
        refuse_unnamed(where, len(files))
    for file, (common, date) in zip(files, labels, strict=True):
        if common is None:
            continue
        step = table.setdefault(date, {})
        if common in step:
            raise BandError(f"{file.path} and {step[common].path} are both {common} of the same date.")
        step[common] = FileBand(file.path, 1)
    return table


def _stacks(
    files: Sequence[File],
    bands: list[str] | dict[str, int] | None,
    told: Sensor | None,
    dates: list[dt.date] | None,
    order: str | None,
) -> _Table:
    """Files of several bands, each of one date or more."""
    table: _Table = {}
    for position, file in enumerate(files):
        for date, step in _stacked(file, bands, told, dates, order).items():
            given = dates[position] if dates and len(dates) == len(files) else None
            key = date or read_file_name(file.path).date or given
            if key in table:
                mend = "give the date of each (--date)" if key is None else "open them one by one"
                raise SceneError(f"{file.path} and another file are of the same date ({key or 'unknown'}): {mend}.")
            table[key] = step
    return table


def _unknown(files: Sequence[File], told: Sensor | None) -> tuple[str, ...]:
    """Band names in the files that say nothing, for the message about a band that is missing."""
    unknown = []
    for file in files:
        names = [split_description(text)[0] if text else None for text in file.descriptions]
        if file.count > 1 and not are_unnamed(names):
            found = common_names(names, told, "")
            unknown += [name for name, common in zip(names, found, strict=True) if name and common is None]
    return tuple(unknown)


def inspect_all(paths: Sequence[str]) -> dict[str, File]:
    """Headers of files by their paths; several at once from servers.

    Raises:
        SceneError: one cannot be opened, says not where it lies, or carries a mask.

    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if not any(map(is_remote, paths)):
            return {path: _inspect(path) for path in paths}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                return dict(zip(paths, pool.map(_inspect, paths), strict=True))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _inspect(path: str) -> File:
    try:
        return ask(path, lambda raster: _header(path, raster))
    except RasterioIOError as error:
        raise SceneError(f"{path} cannot be opened as a raster: it is damaged or of no known format.") from error


def _header(path: str, raster: rasterio.DatasetReader) -> File:
    _check_georeference(shown(path), raster)
    if raster.count == 0:
        raise SceneError(f"{shown(path)} holds no band: name one of its subdatasets.")
    height, width = raster.block_shapes[0]
    _refuse_mask(shown(path), raster)
    return File(
        path,
        raster.count,
        raster.descriptions,
        raster.nodata,
        tuple(zip(raster.scales, raster.offsets, strict=True)),
        raster.dtypes[0],
        (height, width),
        raster.crs.to_wkt(),
        raster.transform,
        raster.shape,
    )


def _check_georeference(path: str, raster: rasterio.DatasetReader) -> None:
    """Raises SceneError for a file that does not say where it lies."""
    if raster.crs is None or raster.transform.is_identity:
        what, option = (
            ("coordinate reference system", "--crs EPSG:...")
            if raster.crs is None
            else ("geotransform", "--transform [WIDTH,0,WEST,0,-HEIGHT,NORTH]")
        )
        raise SceneError(
            f"{path} has no {what}, so a map of it would lie nowhere: write it with "
            f"'rio edit-info {Path(path).name} {option}'."
        )


def _refuse_mask(path: str, raster: rasterio.DatasetReader) -> None:
    if any(MaskFlags.per_dataset in flags for flags in raster.mask_flag_enums):
        raise SceneError(
            f"{path} carries a mask (or alpha band) beside its values, which is not read: write it into them "
            "('gdalwarp -dstnodata -9999 IN OUT', for unsigned values -dstnodata 0)."
        )


def refuse_numbers(bands: dict[str, int], count: int, where: str) -> None:
    """Raises BandError for band numbers that a file of `count` bands lacks or that are said twice."""
    for name, number in bands.items():
        if not 1 <= number <= count:
            raise BandError(f"{where} has bands 1 to {count}; band {number} was asked for as {name}.")
        twin = next(other for other, same in bands.items() if same == number)
        if twin != name:
            raise BandError(f"band {number} of {where} was asked for twice, as {twin} and as {name}.")


def onto_grid_of(file: File) -> str:
    """The command that brings another file onto the grid of this one. gdalwarp keeps names, scale, offset and nodata of
    the bands, where gdalbuildvrt -separate drops the names (GDAL 3.6.2) and rio warp all but nodata (rasterio 1.4.4).
    """
    left, bottom, right, top = array_bounds(*file.shape, file.transform)
    code = CRS.from_wkt(file.wkt).to_epsg()
    reference = f"-t_srs EPSG:{code} " if code else ""
    width, height = abs(file.transform.a), abs(file.transform.e)
    return (
        f"'gdalwarp {reference}-te {left:.12g} {bottom:.12g} {right:.12g} {top:.12g} -tr {width:.12g} {height:.12g} "
        f"OLD NEW' for each of the others, as on {Path(shown(file.path)).name}"
    )


def _refuse_several_grids(files: Sequence[File]) -> None:
    for file in files[1:]:
        if file.grid != files[0].grid:
            raise SceneError(
                f"{Path(file.path).name} {file.grid[2]} and {Path(files[0].path).name} {files[0].grid[2]} lie on other "
                f"grids: bring them onto one first ({onto_grid_of(min(files, key=lambda file: file.pixel_area))})."
            )


def _stacked(
    file: File,
    bands: list[str] | dict[str, int] | None,
    told: Sensor | None,
    dates: list[dt.date] | None,
    order: str | None,
) -> _Table:
    """Bands of one file with several, by date (None where the file says none)."""
    where = str(file.path)
    if isinstance(bands, dict):
        refuse_numbers(bands, file.count, where)
        return {None: {name: FileBand(file.path, number) for name, number in bands.items()}}
    if bands is not None:
        return _by_order(file, list(check_names(bands, told.product if told else None)), dates, order)
    split = [split_description(text) if text else (None, None) for text in file.descriptions]
    common = ask_for_bands([name for name, _ in split], file.count, told, where)
    table: _Table = {}
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


def _by_order(file: File, bands: list[str], dates: list[dt.date] | None, order: str | None) -> _Table:
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
    if len(set(dates)) != len(dates):
        raise SceneError(f"{file.path}: a date is given twice among {', '.join(map(str, dates))}.")
    table: _Table = {}
    for step, date in enumerate(dates):
        for place, name in enumerate(bands):
            index = step * len(bands) + place if order == "time-major" else place * steps + step
            table.setdefault(date, {})[name] = FileBand(file.path, index + 1)
    return table


def _finish(
    table: _Table,
    files: Sequence[File],
    dates: list[dt.date] | None,
    told: Sensor | None,
    nodata: float | None,
    where: str,
    unknown: tuple[str, ...] = (),
) -> Layout:
    known = [date for date in table if date is not None]
    if known and len(known) != len(table):
        raise SceneError(f"{where}: some bands have a date and some have none.")
    order = sorted(known) if known else [None]  # without a date there is one step
    steps = [table[date] for date in order]
    first = list(steps[0])
    for date, step in zip(order, steps, strict=True):
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
        values = (nodata, file.nodata, product.nodata if product else None, read_file_name(file.path).nodata)
        missing[file.path] = tuple(dict.fromkeys(value for value in values if value is not None))
    by_path = {file.path: file for file in files}
    scaling = {by_path[entry.path].scaling[entry.index - 1] for step in steps for entry in step.values()}
    common = scaling.pop() if len(scaling) == 1 and scaling != {(1.0, 0.0)} else None
    return Layout(steps, by_path, when, told, missing, where, files[0].dtype, common, unknown)
