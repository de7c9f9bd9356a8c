"""What the names of files state of product, band and date, and dates as users give them: one parser for every verb.

A scene has one step a date. Landsat and Sentinel-2 may see a place on one day; an L30 and an S30 granule of HLS then
have the same day and two times, which their names state (`2022145T105621`, UTC): these are two steps, in the order of
their times (see `moments`). Names without a time (HLS 1.x) say no order, and such granules are refused.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import xarray as xr

from prithvi.bands import band_id
from prithvi.errors import SceneError

Date = dt.date | np.datetime64 | str | int
"""A day: `2022-05-31`, `20220531` (also as a number), either with a time behind it, or a date, datetime, pandas
Timestamp, datetime64.
"""

_CALENDAR = re.compile(r"\d{4}(-\d{2}-\d{2}|\d{4})([T ].+)?")
_COARSE = {"Y", "M", "W", "generic"}
"""Units of datetime64 that name no day."""


@dataclass(frozen=True)
class Named:
    """What a file name says; None where it says nothing."""

    sensor: str | None = None
    band: str | None = None
    """A band id such as B8A."""
    date: dt.date | None = None
    ancillary: bool = False
    """A file of a granule that holds no band: quality, angles."""
    nodata: float | None = None
    """The product's nodata value, where its version has its own (HLS 1.5)."""


_FORMS = (
    (
        r"^HLS\.(?P<kind>[LS]30)\.T\w{5}\.(?P<date>\d{7})(?:T\d{6})?\.v(?P<version>\d+)\.\d+(?:\.(?P<band>\w+))?",
        "%Y%j",
        "hls-{}",
    ),
    (r"^T\d{2}[A-Z]{3}_(?P<date>\d{8})T\d{6}_(?P<band>B\d[\dA])", "%Y%m%d", ""),
    (
        r"^L[COTE](?P<kind>\d{2})_L2\w{2}_\d{6}_(?P<date>\d{8})_\d{8}_02_T\d_SR_(?P<band>B\d+)",
        "%Y%m%d",
        "landsat-{}-c2-l2",
    ),
    (r"^L[COTE](?P<kind>\d)\d{6}(?P<date>\d{7})\w*?_sr_(?P<band>band\d+)", "%Y%j", "landsat-{}-espa-sr"),
)
"""Names of files with one band: HLS, Sentinel-2, Landsat Collection 2 and ESPA; how they write dates; their sensor."""
_KINDS = {"L30": "l30", "S30": "s30", "08": "8", "09": "9", "8": "8"}
"""What sensors are called by what stands in names; Landsat 4 to 7 have one name together."""
_LANDSAT_SIDE = re.compile(
    r"^L[COTE]\d{2}_L2\w{2}_\d{6}_\d{8}_\d{8}_02_T\d_(QA|ST|SR_QA|SR_CLOUD|SR_ATMOS)"
    r"|^L[COTE]\d{14}.*_(cfmask|bqa|sr_cloud|sr_ipflag|sr_aerosol|cloud|fmask|pixel_qa)",
    re.IGNORECASE,
)
_DSWX = re.compile(r"^(OPERA_L3_)?DSWx[-_]HLS_", re.IGNORECASE)
"""Layers of the water product that OPERA makes of an HLS granule, which often lie beside it."""


def day_of(text: str, form: str, name: str) -> dt.date:
    """The day that a name states in some form of `strptime`.

    Raises:
        SceneError: there is no such day.

    """
    try:
        day = dt.datetime.strptime(text, form).date()
        if day.strftime(form) != text:  # day 366 of a year with 365
            raise ValueError(text)
        return day
    except ValueError as error:
        raise SceneError(f"{name} names the day {text}, which does not exist: rename it.") from error


def read_file_name(path: str | Path) -> Named:
    """What the names of HLS, Sentinel-2 and Landsat files say about them.

    Raises:
        SceneError: a name of such a form holds a day that does not exist.

    """
    name = PurePath(path).name
    if _LANDSAT_SIDE.match(name) or _DSWX.match(name):
        return Named(ancillary=True)
    for form, day, sensor in _FORMS:
        if match := re.match(form, name, re.IGNORECASE):
            said = match.groupdict()
            part, kind = said["band"], _KINDS.get(said.get("kind", "").upper(), "457")
            identifier = band_id(part) if part else None
            return Named(
                sensor.format(kind) or None,
                identifier,
                day_of(said["date"], day, name),
                ancillary=bool(part) and not identifier and part.lower() not in ("tif", "tiff", "hdf", "vrt"),
                nodata=-1000 if said.get("version") == "1" else None,
            )
    return Named()


_DATE = re.compile(
    r"(?<!\d)(?P<iso>\d{4}-\d{2}-\d{2})(?!\d)(?:T[\d:.]+Z?)?"
    r"|(?<![0-9A-Za-z])(?P<compact>(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?:T\d{6}(?:\d{3})?)?"
    r"(?![0-9A-Za-z])"
)


def split_description(description: str) -> tuple[str, dt.date | None]:
    """`blue 2022-05-01` or `20220501_B02` as its band name and date; the date is None where none stands there, or
    several (the day of the image and the day of its making).

    Raises:
        SceneError: the day does not exist.

    """
    days = {
        day_of(match["iso"] or match["compact"], "%Y-%m-%d" if match["iso"] else "%Y%m%d", f"band {description!r}")
        for match in _DATE.finditer(description)
    }
    rest = [part.strip(" _@:|-") for part in _DATE.sub("\0", description).split("\0")]
    return " ".join(part for part in rest if part), days.pop() if len(days) == 1 else None


def as_days(dates: Date | Iterable[Date] | xr.DataArray) -> list[dt.date]:
    """Days as they were given; of a time with a zone the day in UTC, which is how products count theirs.

    ISO 8601 is read in its two calendar forms. Its week dates (`2022-W20-6`) and days of the year (`2022141`) are
    refused, and the message says which day they would be: either may be a slip of the keyboard.

    Raises:
        SceneError: something that is no date.

    """
    if isinstance(dates, (xr.DataArray, np.ndarray)):
        dates = np.atleast_1d(np.asarray(dates))
    if isinstance(dates, str) or not isinstance(dates, Iterable):
        dates = [dates]
    return [as_time(date).date() for date in dates]


def as_time(date: Any) -> dt.datetime:
    """A date as the time at which it begins; the time of day too, where one is given, in UTC."""
    try:
        if isinstance(date, np.datetime64):
            if np.isnat(date) or np.datetime_data(date.dtype)[0] in _COARSE:
                raise ValueError(date)
            return date.astype("datetime64[us]").item()  # type: ignore[no-any-return]
        if isinstance(date, (int, np.integer)) and not isinstance(date, bool):  # 20220531 in a YAML file
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
    times = np.array([as_time(date) for date in np.atleast_1d(array["time"].values)], dtype="datetime64[ns]")
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
            with contextlib.suppress(ValueError):
                return dt.datetime.strptime(match[1], pattern).date()
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


def hls_granule_of(path: object) -> tuple[str, dt.datetime] | None:
    """Name and time (UTC) of the HLS granule that a file or folder belongs to, by its name; None where it says none."""
    if match := _GRANULE.match(PurePath(str(path)).name):
        with contextlib.suppress(ValueError):  # a day or time that does not exist: its own message tells
            return match[1], dt.datetime.strptime(match[2], "%Y%jT%H%M%S")
    return None


def moments(paths: Sequence[str]) -> dict[str, dt.datetime]:
    """The time of each path's granule; empty where no two granules are of one day, so that days tell them apart."""
    known = {path: granule for path in paths if (granule := hls_granule_of(path)) is not None}
    granules = set(known.values())
    if len({time.date() for _, time in granules}) == len(granules):
        return {}
    return {path: time for path, (_, time) in known.items()}


def granules_named(paths: Sequence[str]) -> str:
    """The granules by name and in order of time, for a message; empty where days tell them apart."""
    found = sorted({known for path in moments(paths) if (known := hls_granule_of(path))}, key=lambda known: known[1])
    return " and ".join(name for name, _ in found)
