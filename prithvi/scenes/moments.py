"""When granules were seen, where a day does not tell them apart.

A scene has one step a date. Landsat and Sentinel-2 may see a place on one day, an L30 and an S30 granule of HLS then
have the same day and two times, which their names state (`2022145T105621`, UTC): these are two steps, in the order of
their times. Names without a time (HLS 1.x) say no order, and such granules are refused.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import PurePath

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
