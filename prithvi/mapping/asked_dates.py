"""Which dates of a series are asked for: some of its own, or days on which nothing was observed, which are added."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import ConfigError, ModelError, SceneError
from prithvi.mapping.fillers import Fill
from prithvi.mapping.inference import has_dates
from prithvi.mapping.methods import Method
from prithvi.mapping.result_files import date_labels
from prithvi.scenes.names import Date, as_time

Times = npt.NDArray[np.datetime64]
_STEP = re.compile(r"([1-9]\d*) *d?")


@dataclass(frozen=True)
class AskedDates:
    """The dates of a series and those that are added to it, and which of them are wanted."""

    observed: int
    """How many dates the series has. Places from here on are those of added dates."""
    wanted: tuple[int, ...]
    """Places of the dates that are wanted: in the order of the series where all are, else in the order of time."""
    times: Times | None = None
    """(T,) of all, the added ones last; None where the series has no dates."""

    @classmethod
    def of(
        cls,
        series: xr.DataArray,
        only: Iterable[Date] | Date | None = None,
        on: Iterable[Date] | Date | None = None,
        every: int | str | None = None,
        start: Date | None = None,
    ) -> AskedDates:
        """What `prithvi.fill` is asked for.

        Args:
            series: (time, band, y, x), its dates as datetime64.
            only: dates of the series.
            on: days, whether something was observed on them or not.
            every: a day every so many days, `16d`.
            start: the first of these; default the first of the series.

        Raises:
            SceneError: dates are asked for of a series without; a date of `only` that it has not; a date twice; a day
                before its first or after its last.
            ConfigError: `every` is no number of days; `start` without it.

        """
        number = series.sizes["time"]
        times = series["time"].values if has_dates(series) else None
        if start is not None and every is None:
            raise ConfigError("start (--start) is the first day of every (--every), which is not given: give both.")
        if only is None and on is None and every is None:
            return cls(number, tuple(range(number)), times)
        if times is None:
            name = series.attrs.get("source", "the series")
            raise SceneError(f"the dates of {name} are not known, so that none can be asked for: give them (--date).")
        days = times.astype("datetime64[D]")
        wanted: set[int] = set()
        added: list[np.datetime64] = []
        for date in _once(only, "only", as_time):
            places = _places(date, times)
            if not places:
                beside = sorted(map(str, np.unique(days[np.argsort(np.abs(times - np.datetime64(date)))][:2])))
                raise SceneError(
                    f"{date:%Y-%m-%d} is asked for (only=, --only) and is no date of the series; nearest are "
                    f"{' and '.join(beside)}: ask for one of these, or by on= (--on) for a day on which nothing was "
                    "observed."
                )
            wanted.update(places)
        for date in [*_once(on, "on", _day_of), *_regular(every, start, days)]:
            day = np.datetime64(date.date())
            if not days.min() <= day <= days.max():
                raise SceneError(
                    f"{day} lies outside of the series, which goes from {days.min()} to {days.max()}: ask for days "
                    "between these, or open it with observations around that day; nothing is extrapolated."
                )
            places = _places(date, times)
            wanted.update(places)
            if not places and day not in added:
                added.append(day)
        whole = np.concatenate([times, np.array(sorted(added), times.dtype)])
        wanted.update(range(number, len(whole)))
        return cls(number, tuple(sorted(wanted, key=lambda place: (whole[place], place))), whole)

    @property
    def added(self) -> list[str]:
        """The days that are added."""
        return [] if self.times is None else [str(day) for day in self.times[self.observed :].astype("datetime64[D]")]

    @property
    def order(self) -> list[int]:
        """All places in the order of time."""
        return list(range(self.observed)) if self.times is None else np.argsort(self.times, kind="stable").tolist()

    def labels(self, series: xr.DataArray, without: Collection[int] = ()) -> list[str]:
        """What the files of all dates are called; see `date_labels`; some have none, and are called by their time."""
        assert self.times is not None
        named = [place for place in range(len(self.times)) if place not in without]
        coords, attrs = {"time": self.times[named]}, {"source": series.attrs.get("source", "the series")}
        found = dict(zip(named, date_labels(xr.Dataset(coords=coords, attrs=attrs)), strict=True))
        return [found.get(place, str(time)) for place, time in enumerate(self.times)]

    def part(self, series: xr.DataArray, places: Sequence[int]) -> xr.DataArray:
        """The dates at these places; those that are added are NaN, and lazy where the series is.

        Where dates are added, the other coordinates of `time` are dropped of all: of an added date nobody knows them.
        """
        own = [place for place in places if place < self.observed]
        found = series.isel(time=own)
        if len(own) == len(places):
            dropped = [name for name, values in found.coords.items() if "time" in values.dims and name != "time"]
            return found.drop_vars(dropped) if self.added else found
        assert self.times is not None
        more = [place for place in places if place >= self.observed]
        shape = (len(more), *series.shape[1:])
        if series.chunks is None:
            data: Any = np.concatenate([found.values, np.full(shape, np.nan, series.dtype)])
        else:
            blank = da.full(shape, np.nan, dtype=series.dtype, chunks=((1,) * len(more), *series.chunks[1:]))
            data = da.concatenate([found.data, blank])
        coords = {name: values for name, values in series.coords.items() if "time" not in values.dims}
        coords["time"] = ("time", self.times[[*own, *more]])
        whole = xr.DataArray(data, dims=series.dims, coords=coords, attrs=series.attrs)
        return whole.isel(time=[[*own, *more].index(place) for place in places])


def _day_of(date: Any) -> dt.datetime:
    return dt.datetime.combine(as_time(date), dt.time())


def _once(dates: Iterable[Date] | Date | None, name: str, read: Callable[[Any], dt.datetime]) -> list[dt.datetime]:
    """Dates as they are read.

    Raises:
        SceneError: something is no date, or is there twice.

    """
    if dates is None:
        return []
    if isinstance(dates, (xr.DataArray, np.ndarray)):
        dates = list(np.atleast_1d(np.asarray(dates)))
    several = not isinstance(dates, str) and isinstance(dates, Iterable)
    found = [read(date) for date in (dates if several else [dates])]  # type: ignore[union-attr]
    if not found:
        raise SceneError(f"{name}= (--{name}) names no date: leave it out, or name one.")
    if twice := [date for date, count in Counter(found).items() if count > 1]:
        raise SceneError(f"{twice[0]:%Y-%m-%d} is asked for twice ({name}=, --{name}): leave one of them out.")
    return found


def _places(date: dt.datetime, times: Times) -> list[int]:
    """Where a series has a date: at this time, or for midnight at any time of the day."""
    moment = np.datetime64(date)
    same = times == moment if date.time() != dt.time() else times.astype("datetime64[D]") == moment
    return np.flatnonzero(same).tolist()


def days_in(every: int | str) -> int:
    """The number of days of `16d`, `"16"` or 16.

    Raises:
        ConfigError: something else.

    """
    match = _STEP.fullmatch(str(every).strip())
    if match is None:
        raise ConfigError(f"every (--every) is a number of days from 1, such as 16d, and not {str(every)!r}.")
    return int(match[1])


def _regular(every: int | str | None, start: Date | None, days: Times) -> list[dt.datetime]:
    """The regular days up to the last of a series."""
    if every is None:
        return []
    first = days.min() if start is None else np.datetime64(as_time(start).date())
    found = np.arange(first, max(days.max() + 1, first + 1), days_in(every))
    return [as_time(day) for day in found]


def refuse_unfillable(fill: Fill, asked: AskedDates) -> None:
    """Checks on three small dates that a method can fill one of which nothing is known, where such dates were added.

    Models can; of a function of the user's own nobody knows before, so it is not tried on pixels that are not his.

    Raises:
        ModelError: it cannot.

    """
    if not asked.added or not isinstance(fill, Method):
        return
    image = np.random.default_rng(0).uniform(500, 3000, (2, 3, 16, 16)).astype(np.float32)
    known = np.ones((3, 16, 16), bool)
    known[1] = False
    times = np.array([[2022, 100], [2022, 108], [2022, 116]], np.float32)
    filled = fill(np.where(known, image, np.float32(np.nan)), known, times, (40.0, 10.0))
    if not np.isfinite(filled[:, 1]).all():
        raise ModelError(
            f"{fill.name} learns from what a date itself shows, and nothing was observed on {asked.added[0]}: take "
            "local_regression (the default), filling, linear, nearest or a model for such days (on=, every=)."
        )
