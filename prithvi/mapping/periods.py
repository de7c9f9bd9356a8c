"""The periods of a series that become one composite each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.asked_dates import days_in
from prithvi.scenes.info import name_of
from prithvi.scenes.names import Date, as_time, days_of


@dataclass(frozen=True)
class Period:
    """The dates that one composite is made of."""

    first: np.datetime64
    """Its first day."""
    last: np.datetime64
    """Its last."""
    places: tuple[int, ...]
    """Its dates' places in the series, the one nearest to the day that is wanted first, of two as near the earlier."""

    @property
    def label(self) -> str:
        """What its files are called."""
        return f"{self.first}_{self.last}"


def periods_of(
    series: xr.DataArray, every: int | str | None, start: Date | None, target_day: Date | None
) -> list[Period]:
    """The periods from the one that holds a series' first date to the one that holds its last.

    Raises:
        SceneError: the series has no dates; a day that is none, or lies after its last.
        ConfigError: `every` is no number of days; `start` without it.

    """
    if days_of(series) is None:
        raise SceneError(f"the dates of {name_of(series)} are not known: give files with their dates (--date).")
    if start is not None and every is None:
        raise ConfigError("start (--start) is the first day of every (--every), which is not given: give both.")
    times = series["time"].values
    days = times.astype("datetime64[D]")
    begin, end = days.min(), days.max()
    length = int((end - begin).astype(int)) + 1
    if every is not None:
        length = days_in(every)
        if start is not None:
            begin = np.datetime64(as_time(start).date())
            if begin > end:
                raise SceneError(
                    f"the first period would begin on {begin} (start=, --start), after the last date of the series "
                    f"({end}): choose a day up to that."
                )
            begin += max(0, int((days.min() - begin).astype(int))) // length * length
    wanted = None if target_day is None else np.datetime64(as_time(target_day).date())
    middle = (length - 1) / 2 if wanted is None else 0.0
    found = []
    for first in np.arange(begin, end + 1, length):
        last = first + length - 1
        inside = np.flatnonzero((days >= first) & (days <= last))
        # In days: dates of a day are as near as each other, at whatever time they were observed.
        apart = np.abs((days[inside] - (first if wanted is None else wanted)).astype(float) - middle)
        order = np.lexsort((times[inside], apart))
        found.append(Period(first, last, tuple(inside[order].tolist())))
    return found
