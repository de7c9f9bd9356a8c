"""Dates as users give them, and as names and arrays state them: one parser for every verb and function.

A scene has one step a date. Landsat and Sentinel-2 may see a place on one day; an L30 and an S30 granule of HLS then
have the same day and two times, which their names state (`2022145T105621`, UTC): these are two steps, in the order of
their times (see `moments`). Names without a time (HLS 1.x) say no order, and such granules are refused.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import xarray as xr

from prithvi.errors import SceneError
from prithvi.scenes.names import read_file_name

Date = dt.date | np.datetime64 | str
"""A day: `2022-05-31`, `20220531`, either with a time behind it, or a date, datetime, pandas Timestamp, datetime64."""

_CALENDAR = re.compile(r"\d{4}(-\d{2}-\d{2}|\d{4})([T ].+)?")
_COARSE = {"Y", "M", "W", "generic"}
"""Units of datetime64 that name no day."""


def as_days(dates: Date | Iterable[Date] | xr.DataArray) -> list[dt.date]:
    """Days as they were given; of a time with a zone the day in UTC, which is how products count theirs.

    ISO 8601 is read in its two calendar forms. Its week dates (`2022-W20-6`) and days of the year (`2022141`) are
    refused, and the message says which day they would be: either may be a slip of the keyboard.

    Raises:
        SceneError: something that is no date.

    """
    if isinstance(dates, xr.DataArray):
        dates = np.atleast_1d(dates.values)
    if isinstance(dates, (str, dt.date, np.datetime64)):
        dates = [dates]
    return [_day(date) for date in dates]


def _day(date: Any) -> dt.date:
    return _time(date).date()


def _time(date: Any) -> dt.datetime:
    """The time of day too, where one is given, in UTC; else midnight."""
    try:
        if isinstance(date, np.datetime64):
            if np.isnat(date) or np.datetime_data(date.dtype)[0] in _COARSE:
                raise ValueError(date)
            return date.astype("datetime64[us]").item()  # type: ignore[no-any-return]
        if isinstance(date, int) and not isinstance(date, bool):  # 20220531 in a YAML file
            date = str(date)
        if isinstance(date, str):
            if not _CALENDAR.fullmatch(date.strip()):
                raise ValueError(date)
            date = dt.datetime.fromisoformat(date.strip())
        if date != date:  # pandas' NaT, which is a datetime
            raise ValueError(date)
        if isinstance(date, dt.datetime):
            return date.astimezone(dt.UTC).replace(tzinfo=None) if date.tzinfo else date
        if isinstance(date, dt.date):
            return dt.datetime.combine(date, dt.time())
        raise ValueError(date)
    except (ValueError, TypeError) as error:
        raise SceneError(f"the date {str(date)!r} is not understood: write {_meant(str(date))}.") from error


def _meant(text: str) -> str:
    """What to write instead of a date in another form."""
    with contextlib.suppress(ValueError):
        if re.fullmatch(r"\d{4}-?W\d{2}-?\d", text):
            return f"{dt.date.fromisoformat(text)} if that day of a week is meant"
        if re.fullmatch(r"\d{4}-?\d{3}", text):
            day = dt.datetime.strptime(text.replace("-", ""), "%Y%j").date()
            return f"{day} if that day of the year is meant"
    return "2022-05-31"


def dated(array: xr.DataArray) -> xr.DataArray:
    """An array whose `time`, where it states dates in words or as Python's dates, has them as datetime64.

    Numbers are steps and no dates: they stay.

    Raises:
        SceneError: words that are no dates.

    """
    if "time" not in array.coords or array["time"].dtype.kind not in "UOT":
        return array
    times = np.array([_time(date) for date in np.atleast_1d(array["time"].values)], dtype="datetime64[ns]")
    return array.assign_coords(time=times if array["time"].ndim else times[0]).assign_attrs(array.attrs)


def days_of(array: xr.DataArray) -> list[dt.date] | None:
    """The days of an array's `time`; None where it states none."""
    with contextlib.suppress(SceneError):
        array = dated(array)
    return as_days(array["time"]) if "time" in array.coords and array["time"].dtype.kind == "M" else None


_IN_NAME = (
    (re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2})(?!\d)"), "%Y-%m-%d"),
    (re.compile(r"(?<!\d)((?:19|20)\d{6})(?!\d)"), "%Y%m%d"),
    (re.compile(r"^L[COTE]\d{7}((?:19|20)\d{5})", re.I), "%Y%j"),
    (re.compile(r"^HLS\.[LS]30\.T\w{5}\.((?:19|20)\d{5})", re.I), "%Y%j"),
)
"""The first date of a name that one of these finds is when it was seen; Landsat names the day of processing second."""


def day_in_name(path: object) -> dt.date | None:
    """The day that a file's name seems to state, by its product's form or any other; None where it has none."""
    name = PurePath(str(path)).name
    if (known := read_file_name(name).date) is not None:
        return known
    for form, pattern in _IN_NAME:
        if match := form.search(name):
            try:
                return dt.datetime.strptime(match[1], pattern).date()
            except ValueError:
                continue
    return None


def agree(stated: dt.date | None, given: dt.date | None, what: str) -> dt.date | None:
    """The one date that a source and the user say.

    Raises:
        SceneError: they say two.

    """
    day = stated.date() if isinstance(stated, dt.datetime) else stated
    if day is not None and given is not None and day != given:
        raise SceneError(
            f"{what} is of {day}, and {given} was given as its date: leave the date out, or correct whichever is wrong."
        )
    return stated or given


_GRANULE = re.compile(r"^(HLS\.[LS]30\.T\w{5}\.(\d{7}T\d{6})\.v\d+\.\d+)", re.I)


def granule_of(path: object) -> tuple[str, dt.datetime] | None:
    """Name and time (UTC) of the HLS granule that a file or folder belongs to, by its name; None where it says none."""
    match = _GRANULE.match(PurePath(str(path)).name)
    if match is None:
        return None
    try:
        return match[1], dt.datetime.strptime(match[2], "%Y%jT%H%M%S")
    except ValueError:  # a day or time that does not exist: its own message tells
        return None


def moments(paths: Sequence[str]) -> dict[str, dt.datetime]:
    """The time of each path's granule; empty where no two granules are of one day, so that days tell them apart."""
    known = {path: granule for path in paths if (granule := granule_of(path)) is not None}
    granules = set(known.values())
    if len({time.date() for _, time in granules}) == len(granules):
        return {}
    return {path: time for path, (_, time) in known.items()}


def granules_named(paths: Sequence[str]) -> str:
    """The granules by name and in order of time, for a message; empty where days tell them apart."""
    found = sorted({known for path in moments(paths) if (known := granule_of(path))}, key=lambda known: known[1])
    return " and ".join(name for name, _ in found)


def as_time(when: dt.date) -> dt.datetime:
    """A date as the time at which it begins; a time as it is."""
    return when if isinstance(when, dt.datetime) else dt.datetime.combine(when, dt.time())
