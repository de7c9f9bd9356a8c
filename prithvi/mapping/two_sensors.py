"""A series of several sensors: which date is whose, and which dates of one day become one.

What sensor a date is of stands in the coordinate `sensor` along `time`. A date is filled in its own sensor's values:
the dates of the others, which it is filled from, are brought to these first (`prithvi.mapping.sensor_gains`). With a
target sensor the dates of one day become one, in the target's values: where the target saw a pixel it is what the
target saw, bit for bit, else what another sensor saw, brought to the target.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.contract import Contract
from prithvi.errors import SceneError, one_of
from prithvi.mapping.inference import has_dates
from prithvi.mapping.result_files import SOURCE_FILLED, SourceLayer
from prithvi.mapping.sensor_gains import SensorGains, fit_gains
from prithvi.scenes.info import SceneInfo, name_of

Pixels = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.uint8]

SENSOR = "sensor"
"""Coordinate along `time`."""


@dataclass(frozen=True)
class SensorsOfWindow:
    """The sensors of the dates that a pass over a series reads, as `prithvi.mapping.window_filling` needs them.

    The dates that become part of another stand behind all others.
    """

    names: tuple[str, ...]
    """Of all sensors of the series, sorted: those that a layer of sources tells apart."""
    dates: tuple[str, ...]
    """The sensor of each date that stays one."""
    others: tuple[tuple[int, str], ...]
    """Of each date that does not: the index of the date that it becomes part of, and its sensor; the first to be taken
    from first."""
    gains: SensorGains

    def merged(self, pixels: Pixels) -> tuple[Pixels, Codes]:
        """(date, band, y, x) of the dates that stay, and (date, y, x) which sensor each pixel is of, 0 for none.

        Args:
            pixels: (T, band, y, x) of all dates that were read.

        """
        number = len(self.dates)
        found = pixels[:number] if not self.others else pixels[:number].copy()
        known = np.asarray(np.isfinite(found).all(axis=1))
        codes = np.array([self.names.index(name) + 1 for name in self.dates], np.uint8)
        sources: Codes = np.where(known, codes[:, None, None], np.uint8(SOURCE_FILLED))
        for (date, name), values in zip(self.others, pixels[number:], strict=True):
            taken = np.asarray(~known[date] & np.isfinite(values).all(axis=0))
            own, more = found[date][:, taken], self.gains.brought(values[:, taken], name, self.dates[date])
            found[date][:, taken] = np.where(np.isfinite(own), own, more)
            sources[date][taken] = self.names.index(name) + 1
            known[date] |= taken
        return found, sources

    def brought(self, image: Pixels, wanted: str) -> Pixels:
        """(band, T, y, x) with the dates of all other sensors as the wanted one would have seen them."""
        dates = [self.gains.brought(image[:, date], name, wanted) for date, name in enumerate(self.dates)]
        return np.stack(dates, axis=1)


@dataclass(frozen=True)
class Sensors:
    """The sensors of a series of several, and the order in which its dates are to stand for it."""

    dates: tuple[str, ...]
    """The sensor of each date that stays one."""
    others: tuple[tuple[int, str], ...]
    """Of each date behind these: which of them it becomes part of, and its sensor."""
    order: tuple[int, ...]
    """The places in the series of the dates that stay and of those behind them."""
    target: str | None = None
    notes: tuple[str, ...] = ()
    gains: SensorGains | None = None
    added: int = 0
    """Days on which nothing was observed."""

    @classmethod
    def of(cls, series: xr.DataArray, target: str | None = None) -> Sensors | None:
        """The sensors that a series states; None where it is of one.

        Args:
            series: (time, band, y, x), its dates as datetime64.
            target: the sensor in whose values the dates of one day become one.

        Raises:
            SceneError: a date whose sensor is not known, among others; no dates; two sensors at one time without a
                target; a target where the sensor is not known.
            ConfigError: the series is not of the target.

        """
        words = _sensor_of_each(series)
        names = sorted(set(words))
        if target is not None:
            if names == [""]:
                raise SceneError(
                    f"which sensor each date of {name_of(series)} is of is not known, so that none can be the target "
                    "(target=, --target): leave it out, or say it with series.assign_coords(sensor=('time', "
                    "['hls-l30', 'hls-s30', ...]))."
                )
            short = [name for name in names if name.lower().rpartition("-")[2] == target.lower()]
            known = {name.lower(): name for name in names}.get(target.lower())
            target = known or (short[0] if len(short) == 1 else one_of(target, names, "the series has no sensor"))
        if len(names) == 1:
            return None
        if not has_dates(series):
            raise SceneError(
                f"the dates of {name_of(series)} are not known, and its sensors ({', '.join(names)}) are compared on "
                "dates near to each other: give them (dates=, --date)."
            )
        times = series["time"].values
        days = times.astype("datetime64[D]")
        own = [place for place, word in enumerate(words) if word == target]
        becomes: list[tuple[int, np.timedelta64, int]] = []  # the date of the target, how far from it, the other date
        for place, word in enumerate(words):
            beside = [date for date in own if days[date] == days[place]]
            if word != target and beside:
                apart, date = min((abs(times[date] - times[place]), date) for date in beside)
                becomes.append((date, apart, place))
        becomes.sort()
        away = {place for *_, place in becomes}
        stay = [place for place in range(len(words)) if place not in away]
        _refuse_one_time(series, stay, words)
        both = sorted({str(day) for day in days if len({words[place] for place in stay if days[place] == day}) > 1})
        notes: tuple[str, ...] = ()
        if both and target is None:
            notes = (
                f"{both[0]}{f' and {len(both) - 1} more days have' if both[1:] else ' has'} dates of "
                f"{' and '.join(names)}, which stay apart, each under its time: --target {names[-1]} (target=) makes "
                "one of them.",
            )
        others = tuple((stay.index(date), words[place]) for date, _, place in becomes)
        order = (*stay, *(place for *_, place in becomes))
        return cls(tuple(words[place] for place in stay), others, order, target, notes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all sensors, sorted."""
        return tuple(sorted({*self.dates, *(name for _, name in self.others)}))

    @property
    def usual(self) -> str:
        """In whose values a day is filled on which nothing was observed."""
        counts = Counter([*self.dates, *(name for _, name in self.others)])
        return self.target or max(self.names, key=lambda name: counts[name])

    def stay(self, series: xr.DataArray) -> xr.DataArray:
        """The dates of a series (or masks) that stay one."""
        return series.isel(time=list(self.order[: len(self.dates)]))

    def fitted(
        self, series: xr.DataArray, bands: Sequence[str], added: int, contract: Contract | None = None
    ) -> tuple[Sensors, xr.DataArray]:
        """With gains fitted to the series, and the series in the order for it.

        Args:
            series: (time, band, y, x) in its own order, NaN where unknown and under clouds.
            bands: what its bands are called.
            added: days on which nothing was observed that are filled, too.
            contract: whose units the values are to have where they are filled; None takes them as they are.

        """
        words = [
            word for _, word in sorted(zip(self.order, [*self.dates, *(name for _, name in self.others)], strict=True))
        ]
        gains = fit_gains(series, words, bands, contract)
        notes = (*self.notes, *gains.notes)
        if added and self.target is None:
            notes += (
                f"Days on which nothing was observed are filled as {self.usual} would have seen them, of which the "
                "series has the most dates: --target (target=) chooses another.",
            )
        # The coordinate is of the dates that are read; what is written has its own.
        ordered = series.isel(time=list(self.order)).drop_vars(SENSOR, errors="ignore")
        return replace(self, gains=gains, notes=notes, added=added), ordered

    def sensor_of(self, date: int) -> str:
        """The sensor in whose values a date is, counted as `prithvi.mapping.asked_dates.AskedDates` does."""
        return self.dates[date] if date < len(self.dates) else self.usual

    def beside(self, dates: Sequence[int]) -> list[int]:
        """The places of the others that become part of some dates."""
        return [len(self.dates) + number for number, (date, _) in enumerate(self.others) if date in dates]

    def of_window(self, dates: Sequence[int]) -> SensorsOfWindow:
        """Those of the dates at some places, and of the others that are read with them."""
        assert self.gains is not None
        others = tuple((dates.index(date), name) for date, name in self.others if date in dates)
        return SensorsOfWindow(self.names, tuple(map(self.sensor_of, dates)), others, self.gains)

    def layer(self, dates: Sequence[int]) -> SourceLayer:
        """What layers of sources of some dates are to say."""
        return SourceLayer(self.names, tuple(map(self.sensor_of, dates)))

    def facts(self) -> dict[str, Any]:
        """What the result depends on, as plain JSON values."""
        assert self.gains is not None
        dates = [self.sensor_of(date) for date in range(len(self.dates) + self.added)]
        return {"dates": dates, "others": [list(of) for of in self.others], "gains": self.gains.facts()}

    def tags(self) -> dict[str, str]:
        """What files and results say of it."""
        assert self.gains is not None
        gains = self.gains.facts()
        tags = {"PRITHVI_SENSORS": ", ".join(self.names), "PRITHVI_SENSOR_NOTES": " ".join(self.notes)}
        return tags | ({"PRITHVI_GAINS": json.dumps(gains)} if gains else {})


def _sensor_of_each(series: xr.DataArray) -> list[str]:
    """The sensor of each date; empty words where nothing is stated of any.

    Raises:
        SceneError: it is stated of some alone.

    """
    number = series.sizes["time"]
    stated = series.coords.get(SENSOR)
    if stated is None or stated.dims not in ((), ("time",)):
        return [SceneInfo.of(series).sensor or ""] * number
    words = [
        "" if word is None or word != word else str(word).strip() for word in np.atleast_1d(stated.values).tolist()
    ]
    words = words * number if stated.ndim == 0 else words
    if any(words) and not all(words):
        day = str(series["time"].values[words.index("")])[:10] if "time" in series.coords else words.index("") + 1
        raise SceneError(
            f"the sensor of some dates of {name_of(series)} is not known ({day}): name it in the coordinate sensor."
        )
    return words


def _refuse_one_time(series: xr.DataArray, stay: Sequence[int], words: Sequence[str]) -> None:
    times = series["time"].values
    for place, date in enumerate(stay):
        for other in stay[:place]:
            if times[date] == times[other] and words[date] != words[other]:
                raise SceneError(
                    f"{name_of(series)} has a date of {words[other]} and one of {words[date]} on "
                    f"{str(times[date])[:10]}: name the sensor whose values that day is to have (--target "
                    f"{words[date]}, target=), or give both their times."
                )
