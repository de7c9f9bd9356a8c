"""Which file band is which band of which date: decided from metadata alone."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prithvi.catalog import Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError, SceneError
from prithvi.scenes.acquisition_dates import agree, as_time, day_in_name, granules_named, moments
from prithvi.scenes.band_naming import ask_for_bands, labels_of_single_files, refuse_unnamed
from prithvi.scenes.grids import difference
from prithvi.scenes.headers import File, inspect_all, onto_grid_of, without_alpha
from prithvi.scenes.info import Given
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
    """Of each step; times (`prithvi.scenes.acquisition_dates`) where two granules are of one day."""
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

    @property
    def finest(self) -> File:
        """A file with the pixels of the scene's grid."""
        return next(file for path, file in self.files.items() if self.repeat.get(path, 1) == 1)


def lay_out(paths: Sequence[str], given: Given) -> Layout:
    """Finds (date, band) in files; see `prithvi.open_scene` for what is given.

    Raises:
        SceneError, BandError: see `prithvi.open_scene`.

    """
    files = list(inspect_all(paths).values())
    _refuse_several_grids(files)
    where = shown(paths[0]) if len(paths) == 1 else f"{Path(shown(paths[0])).name} and {len(paths) - 1} more files"
    where = granules_named(paths) or where
    # File names of a known product state the sensor. HLS L30 and S30 have one scale and may stand side by side;
    # products whose values mean different things may not.
    if given.sensor is None:
        said = {name.sensor for name in map(read_file_name, paths) if name.sensor}
        if len(said) > 1 and len({sensor_named(s).gain for s in said}) > 1:
            raise SceneError(
                f"{where} mixes {' and '.join(sorted(said))}, which have other scales: open them one by one."
            )
        given = replace(given, sensor=sensor_named(min(said)) if said else None)
    # Several files of one band each say by their names which bands and dates they are; files of several bands by the
    # bands' names. An alpha band counts as neither, and is taken away first.
    single = len(files) > 1 and all(file.count == 1 + (file.alpha is not None) for file in files)
    files = [without_alpha(file, None if single else given.bands, given.sensor) for file in files]
    single = len(files) > 1 and all(file.count == 1 for file in files)
    table = _single_bands(files, given, where) if single else _stacks(files, given)
    used = {entry.path for step in table.values() for entry in step.values()}
    return _finish(table, [file for file in files if file.path in used], given, where)


def _single_bands(files: Sequence[File], given: Given, where: str) -> _Table:
    """Files of one band each; those whose names say nothing (masks) are left out, as in a file of several bands."""
    table: _Table = {}
    paths, descriptions = [file.path for file in files], [file.descriptions[0] for file in files]
    labels, times = labels_of_single_files(paths, descriptions, given), moments(paths)
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


def _stacks(files: Sequence[File], given: Given) -> _Table:
    """Files of several bands, each of one date or more."""
    table: _Table = {}
    times, dates = moments([file.path for file in files]), given.dates
    for position, file in enumerate(files):
        own = _stacked(file, given)
        day = dates[position] if dates and len(dates) == len(files) and len(own) == 1 else None
        for date, step in own.items():
            key = agree(_stated(file, date, own), day, file.path)
            if key is None and dates and len(files) > 1:
                raise SceneError(f"{len(files)} files and {len(dates)} dates were given: give the date of each file.")
            key = times.get(file.path, key)
            if key in table:
                mend = "give the date of each (--date)" if key is None else "open them one by one"
                raise SceneError(f"{file.path} and another file are of the same date ({key or 'unknown'}): {mend}.")
            table[key] = step
        # A name that follows no product's form may state any day, such as that of an export: it is told, not obeyed.
        if day is not None and (seen := day_in_name(file.path)) not in (None, day):
            warnings.warn(f"{file.path} has {seen} in its name; it is taken to be of {day}, as was said.", stacklevel=4)
    return table


def _stated(file: File, date: dt.date | None, own: _Table) -> dt.date | None:
    """The date of a step by its bands' names or the file's, which are not to contradict each other."""
    named = read_file_name(file.path).date
    if named is not None and named not in own:
        return agree(named, date, f"{file.path}, by its name,")
    return date


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


def _stacked(file: File, given: Given) -> _Table:
    """Bands of one file with several, by date (None where the file says none)."""
    where = str(file.path)
    if isinstance(given.bands, dict):
        refuse_numbers(given.bands, file.count, where)
        return {None: {name: FileBand(file.path, number) for name, number in given.bands.items()}}
    if given.bands is not None:
        return _by_order(file, given)
    # The file's own band descriptions: names, each perhaps with a date beside it ('blue 2022-05-01').
    split = [split_description(text) if text else (None, None) for text in file.descriptions]
    common = ask_for_bands([name for name, _ in split], file.count, given.sensor, where)
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


def _by_order(file: File, given: Given) -> _Table:
    """A file whose bands are said in order, for one date or, with the order of the two axes said, several."""
    bands, dates = given.names, given.dates
    steps, rest = divmod(file.count, len(bands))
    if rest or not steps:
        raise BandError(f"{file.path} has {file.count} bands, and {len(bands)} were named: name each of them.")
    if steps > 1:
        if given.order not in ("time-major", "band-major") or dates is None or len(dates) != steps:
            raise SceneError(
                f"{file.path} holds {file.count} bands, {steps} dates of {len(bands)} if all are named alike: say "
                "order= time-major (all bands of the first date first) or band-major, and the "
                f"{steps} dates. Neither is guessed."
            )
        if len(set(dates)) != len(dates):
            raise SceneError(f"{file.path}: a date is given twice among {', '.join(map(str, dates))}.")
    # Distance in the file from one date to the next, and from one band to the next.
    by_date, by_band = (1, steps) if given.order == "band-major" and steps > 1 else (len(bands), 1)
    return {
        date: {name: FileBand(file.path, 1 + step * by_date + place * by_band) for place, name in enumerate(bands)}
        for step, date in enumerate(dates if dates is not None and steps > 1 else [None])
    }


def _finish(table: _Table, files: Sequence[File], given: Given, where: str) -> Layout:
    """Puts the steps in order of time, with the same bands in each, and looks up what each band's values mean."""
    known, dates = [date for date in table if date is not None], given.dates
    if known and len(known) != len(table):
        raise SceneError(f"{where}: some bands have a date and some have none.")
    # Dates come from names of files or bands, all or none. Without any, a single step takes its date from the user.
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
    for stated, day in zip(when or (), sorted(dates or ()), strict=False):
        agree(stated, day, where)
    # Nodata and scale are looked up for each band of each date: files of one scene need not agree on them, and the
    # product may differ from file to file (L30 beside S30).
    by_path = {file.path: file for file in files}
    missing, scales = {}, {}
    for entry in (entry for step in steps for entry in step.values()):
        named = read_file_name(entry.path)
        product = sensor_named(named.sensor) if named.sensor else given.sensor
        missing[entry] = missing_of(by_path[entry.path], entry.index, given.nodata, product.nodata if product else None)
        scales[entry] = scale_tag(*by_path[entry.path].scaling[entry.index - 1]).of(product)
    dtype = next(by_path[entry.path].dtypes[entry.index - 1] for entry in missing)
    unnamed = given.bands is None and any(file.count > 1 and are_unnamed(file.descriptions) for file in files)
    unknown = _unknown(files, given.sensor) if given.bands is None else ()
    return Layout(steps, by_path, when, given.sensor, missing, where, dtype, scales, unknown, unnamed)


def _unknown(files: Sequence[File], told: Sensor | None) -> tuple[str, ...]:
    """Band names in the files that say nothing, for the message about a band that is missing."""
    unknown = []
    for file in files:
        names = [split_description(text)[0] if text else None for text in file.descriptions]
        if file.count > 1 and not are_unnamed(names):
            found = common_names(names, told, "")
            unknown += [name for name, common in zip(names, found, strict=True) if name and common is None]
    return tuple(unknown)


def missing_of(file: File, index: int, *said: float | None) -> tuple[float, ...]:
    """Values of pixels without data in a band: those that are said, that its file declares, that its name implies."""
    return values_of(*said, file.nodata[index - 1], read_file_name(file.path).nodata)


def values_of(*values: float | None) -> tuple[float, ...]:
    """The nodata values among what was said, each once; NaN is one anyway."""
    return tuple(dict.fromkeys(float(value) for value in values if value is not None and value == value))
