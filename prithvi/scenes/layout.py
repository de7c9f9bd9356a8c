"""Which file band is which band of which date: decided from metadata alone."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prithvi.bands import check_names
from prithvi.catalog import Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError, SceneError
from prithvi.scenes.dates import agree, day_in_name
from prithvi.scenes.grids import difference
from prithvi.scenes.headers import File, inspect_all, onto_grid_of, without_alpha
from prithvi.scenes.labels import ask_for_bands, labels_of_single_files, refuse_unnamed
from prithvi.scenes.moments import as_time, granules_named, moments
from prithvi.scenes.names import are_unnamed, common_names, read_file_name, split_description
from prithvi.scenes.remote import shown
from prithvi.scenes.scales import Scales, scale_tag


@dataclass(frozen=True)
class FileBand:
    """One band of one file."""

    path: str
    index: int
    """Counted from 1."""


_Table = dict[dt.date | None, dict[str, FileBand]]
"""Date (None where unknown) to common band name to file band."""


@dataclass
class Layout:
    """A scene before any pixel is read."""

    steps: list[dict[str, FileBand]]
    """One table a date: common name to file band, the same names in each."""
    files: dict[str, File]
    """Every file by its path."""
    dates: list[dt.date] | None
    """Of each step; times (`prithvi.scenes.moments`) where two granules are of one day."""
    sensor: Sensor | None
    nodata: dict[FileBand, tuple[float, ...]]
    """Values of pixels without data in each band: what it declares and what its product says."""
    where: str
    """How to call the scene in a message."""
    dtype: str
    scales: dict[FileBand, Scales] = field(default_factory=dict)
    """What is said of each band's values."""
    unknown: tuple[str, ...] = ()
    """Band names that nobody understood."""
    unnamed: bool = False
    """Whether bands without names were taken in the sensor's order."""
    repeat: dict[str, int] = field(default_factory=dict)
    """How often a file's pixels stand beside themselves on the scene's grid, where they are coarser."""
    adjust: dict[FileBand, tuple[float, float]] = field(default_factory=dict)
    """Factor and summand that bring a band's values to the scale of the others."""


def lay_out(
    paths: Sequence[str],
    bands: list[str] | dict[str, int] | None,
    told: Sensor | None,
    dates: list[dt.date] | None,
    order: str | None,
    nodata: Sequence[float] | None,
    placed: bool = True,
) -> Layout:
    """Finds (date, band) in files; see `prithvi.open_scene` for the arguments.

    Args:
        paths: files.
        bands: names, or numbers by name.
        told: the sensor.
        dates: of the files.
        order: of bands and dates.
        nodata: values without data beside those that files and products declare.
        placed: whether files have to say where they lie.

    Raises:
        SceneError, BandError: see `prithvi.open_scene`.

    """
    files = list(inspect_all(paths, placed).values())
    _refuse_several_grids(files)
    where = shown(paths[0]) if len(paths) == 1 else f"{Path(shown(paths[0])).name} and {len(paths) - 1} more files"
    where = granules_named(paths) or where
    if told is None:
        said = {name.sensor for name in map(read_file_name, paths) if name.sensor}
        if len(said) > 1 and len({sensor_named(s).gain for s in said}) > 1:
            raise SceneError(
                f"{where} mixes {' and '.join(sorted(said))}, which have other scales: open them one by one."
            )
        told = sensor_named(min(said)) if said else None
    one_each = len(files) > 1 and all(file.count == 1 + (file.alpha is not None) for file in files)
    files = [without_alpha(file, None if one_each else bands, told) for file in files]
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
    labels, times = labels_of_single_files(paths, descriptions, bands, told), moments(paths)
    if not any(common for common, _ in labels):
        refuse_unnamed(where, len(files))
    for file, (common, date) in zip(files, labels, strict=True):
        if common is None:
            continue
        step = table.setdefault(times.get(file.path, date), {})
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
    times = moments([file.path for file in files])
    for position, file in enumerate(files):
        own = _stacked(file, bands, told, dates, order)
        given = dates[position] if dates and len(dates) == len(files) and len(own) == 1 else None
        for date, step in own.items():
            key = agree(_stated(file, date, own), given, file.path)
            if key is None and dates and len(files) > 1:
                raise SceneError(f"{len(files)} files and {len(dates)} dates were given: give the date of each file.")
            key = times.get(file.path, key)
            if key in table:
                mend = "give the date of each (--date)" if key is None else "open them one by one"
                raise SceneError(f"{file.path} and another file are of the same date ({key or 'unknown'}): {mend}.")
            table[key] = step
        if given is not None:
            _warn_of_name(file, given)
    return table


def _stated(file: File, date: dt.date | None, own: _Table) -> dt.date | None:
    """The date of a step by its bands' names or the file's, which are not to contradict each other."""
    named = read_file_name(file.path).date
    if named is not None and named not in own:
        return agree(named, date, f"{file.path}, by its name,")
    return date


def _warn_of_name(file: File, given: dt.date) -> None:
    """A name that follows no product's form may state any day, such as that of an export: it is told, not obeyed."""
    seen = day_in_name(file.path)
    if seen not in (None, given):
        warnings.warn(f"{file.path} has {seen} in its name; it is taken to be of {given}, as was said.", stacklevel=5)


def _unknown(files: Sequence[File], told: Sensor | None) -> tuple[str, ...]:
    """Band names in the files that say nothing, for the message about a band that is missing."""
    unknown = []
    for file in files:
        names = [split_description(text)[0] if text else None for text in file.descriptions]
        if file.count > 1 and not are_unnamed(names):
            found = common_names(names, told, "")
            unknown += [name for name, common in zip(names, found, strict=True) if name and common is None]
    return tuple(unknown)


def refuse_numbers(bands: dict[str, int], count: int, where: str) -> None:
    """Raises BandError for band numbers that a file of `count` bands lacks or that are said twice."""
    for name, number in bands.items():
        if not 1 <= number <= count:
            raise BandError(f"{where} has bands 1 to {count}; band {number} was asked for as {name}.")
        twin = next(other for other, same in bands.items() if same == number)
        if twin != name:
            raise BandError(f"band {number} of {where} was asked for twice, as {twin} and as {name}.")


def _refuse_several_grids(files: Sequence[File]) -> None:
    for file in files[1:]:
        differs = difference(file.grid, files[0].grid)
        if differs is not None:
            raise SceneError(
                f"{Path(file.path).name} and {Path(files[0].path).name} do not lie on one grid: {differs}. Bring them "
                f"onto one first ({onto_grid_of(min(files, key=lambda file: file.pixel_area))})."
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
    nodata: Sequence[float] | None,
    where: str,
    unknown: tuple[str, ...] = (),
) -> Layout:
    known = [date for date in table if date is not None]
    if known and len(known) != len(table):
        raise SceneError(f"{where}: some bands have a date and some have none.")
    order = sorted(known, key=as_time) if known else [None]  # without a date there is one step
    steps = [table[date] for date in order]
    first = list(steps[0])
    for date, step in zip(order, steps, strict=True):
        if set(step) != set(first):
            differ = sorted(set(first) ^ set(step))
            raise BandError(f"{where}: {', '.join(differ)} is not there on every date ({date} differs).")
    steps = [{name: step[name] for name in first} for step in steps]
    when: list[dt.date] | None = sorted(known, key=as_time) if known else dates
    if dates is not None and len(dates) != len(steps):
        raise SceneError(f"{where} has {len(steps)} dates and {len(dates)} were given.")
    for stated, given in zip(when or (), sorted(dates or ()), strict=False):
        agree(stated, given, where)
    by_path = {file.path: file for file in files}
    missing, scales = {}, {}
    for step in steps:
        for entry in step.values():
            file, named = by_path[entry.path], read_file_name(entry.path)
            product = sensor_named(named.sensor) if named.sensor else told
            usual = product.nodata if product else None
            missing[entry] = values_of(*(nodata or ()), file.nodata[entry.index - 1], usual, named.nodata)
            scales[entry] = scale_tag(*file.scaling[entry.index - 1]).of(product)
    entries = list(missing)
    dtype = by_path[entries[0].path].dtypes[entries[0].index - 1]
    return Layout(steps, by_path, when, told, missing, where, dtype, scales, unknown)


def values_of(*values: float | None) -> tuple[float, ...]:
    """The nodata values among what was said, each once; NaN is one anyway."""
    return tuple(dict.fromkeys(float(value) for value in values if value is not None and value == value))
