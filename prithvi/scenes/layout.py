"""Which file band is which band of which date: decided from metadata alone."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prithvi.bands import PRODUCTS
from prithvi.catalog import Sensor
from prithvi.catalog import sensor as sensor_named
from prithvi.errors import BandError, SceneError, counted
from prithvi.scenes.band_naming import are_unnamed, ask_for_bands, common_names, labels_of_single_files, refuse_unnamed
from prithvi.scenes.grids import called, difference, repeats, same_crs
from prithvi.scenes.info import Given
from prithvi.scenes.names import agree, as_time, day_in_name, granules_named, moments, read_file_name, split_description
from prithvi.scenes.paths import shown
from prithvi.scenes.raster_files import File, Plane, inspect_all, onto_grid_of, plane_of, without_alpha

_Table = dict[dt.date | None, dict[str, Plane]]
"""Date (None where unknown) to common band name to file band."""


@dataclass
class Layout:
    """A scene before any pixel is read."""

    steps: list[dict[str, Plane]]
    """One table a date: common name to file band, the same names in each."""
    files: dict[str, File]
    """Every file by its path."""
    dates: list[dt.date] | None
    """Of each step; times (`prithvi.scenes.names`) where two granules are of one day."""
    sensor: Sensor | None
    where: str
    """How to call the scene in a message."""
    unknown: tuple[str, ...] = ()
    """Band names that nobody understood."""
    unnamed: bool = False
    """Whether bands without names were taken in the sensor's order."""

    @property
    def finest(self) -> File:
        """A file with the pixels of the scene's grid."""
        return next(file for file in self.files.values() if file.repeat == 1)

    @property
    def dtype(self) -> str:
        """Type in which the values of the first band are stored."""
        return next((plane.dtype for plane in self.steps[0].values()), "")


def lay_out(paths: Sequence[str], given: Given) -> Layout:
    """Finds (date, band) in files; see `prithvi.open_scene` for what is given.

    Raises:
        SceneError, BandError: see `prithvi.open_scene`.

    """
    files = list(inspect_all(paths).values())
    for file in files[1:]:
        differs = difference(file.grid, files[0].grid)
        if differs is not None:
            finest = min(files, key=lambda file: abs(file.transform.determinant))
            raise SceneError(
                f"{Path(file.path).name} and {Path(files[0].path).name} do not lie on one grid: {differs}. Bring them "
                f"onto one first ({onto_grid_of(finest)})."
            )
    where = shown(paths[0]) if len(paths) == 1 else f"{Path(shown(paths[0])).name} and {len(paths) - 1} more files"
    where = granules_named(paths) or where
    # File names of a known product state the sensor. HLS L30 and S30 have one scale and may stand side by side;
    # products whose values mean different things may not.
    if given.sensor is None:
        said = {name.sensor for name in map(read_file_name, paths) if name.sensor}
        if len({sensor_named(name).gain for name in said}) > 1:
            raise SceneError(
                f"{where} mixes {' and '.join(sorted(said))}, which have other scales: open them one by one."
            )
        given = replace(given, sensor=sensor_named(min(said)) if said else None)
    # Several files of one band each say by their names which bands and dates they are; files of several bands by the
    # bands' names. An alpha band counts as neither, and is taken away first.
    single = len(files) > 1 and all(file.count == 1 + (file.alpha is not None) for file in files)
    files = [without_alpha(file, None if single else given.bands, given.sensor) for file in files]
    single = len(files) > 1 and all(file.count == 1 for file in files)
    table = _of_both_products(_single_bands(files, given, where) if single else _stacks(files, given))
    used = {plane.path for step in table.values() for plane in step.values()}
    return _in_order(table, [file for file in files if file.path in used], given, where)


def _of_both_products(table: _Table) -> _Table:
    """Of L30 and S30 of HLS the bands that both products have: L30 knows no red edge and S30 no thermal infrared."""
    if {plane.stated_scale.product for step in table.values() for plane in step.values()} != {"hls-l30", "hls-s30"}:
        return table
    common = set(PRODUCTS["hls-l30"].values()) & set(PRODUCTS["hls-s30"].values())
    return {date: {name: step[name] for name in step if name in common} for date, step in table.items()}


def on_finest(files: Mapping[str, File], where: str) -> dict[str, File]:
    """The files, with how often their pixels are repeated to lie on the finest grid."""
    # Coarser bands are repeated, never interpolated: each value stays one that was measured.
    fine = min(files.values(), key=lambda file: abs(file.transform.determinant))
    found = {}
    for file in files.values():
        if not same_crs(file.grid, fine.grid):
            raise SceneError(
                f"{shown(file.path)} and {shown(fine.path)} of {where} lie in two coordinate reference systems, "
                f"{called(file.grid)} and {called(fine.grid)}: a scene has one; open the items one by one, or bring "
                "the files onto one grid with gdalwarp."
            )
        ratio = repeats(file.grid, fine.grid)
        if ratio is None:
            raise SceneError(
                f"{shown(file.path)} and {shown(fine.path)} of {where} do not begin at the same corner with pixels "
                f"that divide each other: {difference(file.grid, fine.grid)}. Bring them onto one grid first "
                f"({onto_grid_of(fine)})."
            )
        found[file.path] = replace(file, repeat=ratio)
    return found


def _plane(file: File, index: int, given: Given) -> Plane:
    """A band with its nodata and scale: files of one scene need not agree on them, nor on the product (L30, S30)."""
    named = read_file_name(file.path).sensor
    product = sensor_named(named) if named else given.sensor
    return plane_of(file, index, given.nodata, product.nodata if product else None, product=product)


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
        step = table.setdefault(times.get(file.path, date or file.date), {})
        if common in step:
            raise BandError(f"{file.path} and {step[common].path} are both {common} of the same date.")
        step[common] = _plane(file, 1, given)
    return table


def _stacks(files: Sequence[File], given: Given) -> _Table:
    """Files of several bands, each of one date or more."""
    table: _Table = {}
    times, dates = moments([file.path for file in files]), given.dates
    for position, file in enumerate(files):
        own = _stacked(file, given)
        day = dates[position] if dates and len(dates) == len(files) and len(own) == 1 else None
        for date, step in own.items():
            # The dates that the file's name, its bands' names and the user say are not to contradict each other.
            named, key = read_file_name(file.path).date, date
            if named is not None and named not in own:
                key = agree(named, date, f"{file.path}, by its name,")
            key = agree(key or file.date, day, file.path)
            if key is None and dates and len(files) > 1:
                raise SceneError(
                    f"{counted(len(files), 'file')} and {counted(len(dates), 'date')} were given: "
                    "give the date of each file."
                )
            key = times.get(file.path, key)
            if key in table:
                mend = "give the date of each (--date)" if key is None else "open them one by one"
                raise SceneError(f"{file.path} and another file are of the same date ({key or 'unknown'}): {mend}.")
            table[key] = step
        # A name that follows no product's form may state any day, such as that of an export: it is told, not obeyed.
        if day is not None and (seen := day_in_name(file.path)) not in (None, day):
            warnings.warn(f"{file.path} has {seen} in its name; it is taken to be of {day}, as was said.", stacklevel=5)
    return table


def refuse_numbers(bands: dict[str, int], count: int, where: str) -> None:
    """Raises BandError for band numbers that a file of `count` bands lacks or that are said twice."""
    twins: dict[int, str] = {}
    for name, number in bands.items():
        if not 1 <= number <= count:
            raise BandError(f"{where} has bands 1 to {count}; band {number} was asked for as {name}.")
        twin = twins.setdefault(number, name)
        if twin != name:
            raise BandError(f"band {number} of {where} was asked for twice, as {twin} and as {name}.")


def _stacked(file: File, given: Given) -> _Table:
    """Bands of one file with several, by date (None where the file says none)."""
    if isinstance(given.bands, dict):
        refuse_numbers(given.bands, file.count, file.path)
        return {None: {name: _plane(file, number, given) for name, number in given.bands.items()}}
    if given.bands is not None:
        return _by_order(file, given)
    # The file's own band descriptions: names, each perhaps with a date beside it ('blue 2022-05-01').
    split = [split_description(text or "") for text in file.descriptions]
    common = ask_for_bands([name for name, _ in split], file.count, given.sensor, file.path)
    table: _Table = {}
    for index, (name, (_, date)) in enumerate(zip(common, split, strict=True), start=1):
        if name is None:
            continue
        step = table.setdefault(date, {})
        if name in step:
            raise BandError(
                f"{file.path} has {name} twice (bands {step[name].index} and {index}): write dates into the band names "
                f"('{name} 2022-05-01'), or give bands, dates and order."
            )
        step[name] = _plane(file, index, given)
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
                f"order= time-major (all bands of the first date first) or band-major, and the {steps} dates. Neither "
                "is guessed."
            )
        if len(set(dates)) != len(dates):
            raise SceneError(f"{file.path}: a date is given twice among {', '.join(map(str, dates))}.")
    # Distance in the file from one date to the next, and from one band to the next.
    by_date, by_band = (1, steps) if given.order == "band-major" else (len(bands), 1)
    return {
        date: {name: _plane(file, 1 + step * by_date + place * by_band, given) for place, name in enumerate(bands)}
        for step, date in enumerate(dates if dates is not None and steps > 1 else [None])
    }


def _in_order(table: _Table, files: Sequence[File], given: Given, where: str) -> Layout:
    """Puts the steps in order of time, with the same bands in each."""
    known, dates = sorted((date for date in table if date is not None), key=as_time), given.dates
    if known and len(known) != len(table):
        raise SceneError(f"{where}: some bands have a date and some have none.")
    # Dates come from names of files or bands, all or none. Without any there is one step, whose date the user says.
    days: list[dt.date | None] = [*known] or [None]
    ordered = [table[day] for day in days]
    first = list(ordered[0])
    for date, step in zip(days, ordered, strict=True):
        if set(step) != set(first):
            differ = sorted(set(first) ^ set(step))
            raise BandError(f"{where}: {', '.join(differ)} is not there on every date ({date} differs).")
    if dates is not None and len(dates) != len(ordered):
        raise SceneError(f"{where} has {counted(len(ordered), 'date')} and {len(dates)} were given.")
    for stated, day in zip(known, sorted(dates), strict=True) if known and dates is not None else ():
        agree(stated, day, where)
    steps = [{name: step[name] for name in first} for step in ordered]
    # Names that say nothing are for the message about a band that is missing.
    unnamed, unknown = False, []
    for file in files if given.bands is None else ():
        names = [split_description(text or "")[0] for text in file.descriptions]
        if file.count > 1 and not are_unnamed(names):
            found = common_names(names, given.sensor, "")
            unknown += [name for name, common in zip(names, found, strict=True) if name and common is None]
        unnamed |= file.count > 1 and are_unnamed(file.descriptions)
    by_path = {file.path: file for file in files}
    return Layout(steps, by_path, known or dates, given.sensor, where, tuple(unknown), unnamed)
