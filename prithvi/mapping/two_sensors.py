"""A series of several sensors: which date is whose, and which dates of one day are written as one.

What sensor a date is of stands in the coordinate `sensor` along `time`. A date is filled in its own sensor's values:
the dates of the others, which it is filled from, are brought to these first (`prithvi.mapping.sensor_gains`). With a
target sensor one date is written of a day of several: the target's, whose pixels are what the target saw, bit for bit.
What another sensor alone saw on that day is filled from its date among the others, and not copied: a fit on the pixels
that both saw that day is nearer to what the target would have seen than gains of all days are, and has an error that is
known. A layer of sources says who saw a pixel.
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
from prithvi.mapping.asked_dates import AskedDates
from prithvi.mapping.inference import has_dates
from prithvi.mapping.result_files import SOURCE_FILLED, SourceLayer
from prithvi.mapping.sensor_gains import SensorGains, fit_gains
from prithvi.scenes.info import SceneInfo, name_of

Pixels = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.uint8]

SENSOR = "sensor"
"""Coordinate along `time`."""


@dataclass(frozen=True)
class SensorsOfTurn:
    """The sensors of the dates that a pass over a series reads; see `prithvi.mapping.window_filling.Turn`."""

    names: tuple[str, ...]
    """Of all sensors of the series, sorted: those that a layer of sources tells apart."""
    dates: tuple[str, ...]
    """The sensor of each date that is read."""
    beside: tuple[tuple[int, ...], ...]
    """For each date that is read the indices of the dates of other sensors on its day that are written as one with it,
    the nearest in time first.
    """
    gains: SensorGains

    def sources(self, pixels: Pixels, dates: Sequence[int]) -> Codes:
        """(date, y, x) of some dates which sensor saw each pixel on its day: its own, else another, else none.

        Args:
            pixels: (T, band, y, x) of all dates that are read.
            dates: some of them.

        """
        found = np.full((len(dates), *pixels.shape[2:]), SOURCE_FILLED, np.uint8)
        for source, date in zip(found, dates, strict=True):
            for other in (*reversed(self.beside[date]), date):  # the later ones count more
                known = np.isfinite(pixels[other]).all(axis=0)
                source[known] = self.names.index(self.dates[other]) + 1
        return found

    def brought(self, image: Pixels, wanted: str) -> Pixels:
        """(band, T, y, x) with the dates of all other sensors as the wanted one would have seen them."""
        dates = [self.gains.brought(image[:, date], name, wanted) for date, name in enumerate(self.dates)]
        return np.stack(dates, axis=1)


@dataclass(frozen=True)
class Sensors:
    """The sensors of a series of several."""

    dates: tuple[str, ...]
    """The sensor of each date."""
    one_with: dict[int, int]
    """Of each date that is not written: the date of the target, of the same day, that is."""
    target: str | None = None
    notes: tuple[str, ...] = ()
    gains: SensorGains | None = None

    @classmethod
    def of(cls, series: xr.DataArray, target: str | None = None) -> Sensors | None:
        """The sensors that a series states; None where it is of one.

        Args:
            series: (time, band, y, x), its dates as datetime64.
            target: the sensor whose date is written of a day of several.

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
        one_with = {}
        for place, word in enumerate(words):
            same = [date for date in np.flatnonzero(days == days[place]).tolist() if words[date] == target]
            if word != target and same:
                one_with[place] = min(same, key=lambda date: (abs(times[date] - times[place]), date))
        rest = [place for place in range(len(words)) if place not in one_with]
        _refuse_one_time(series, rest, words)
        both = sorted({str(day) for day in days if len({words[place] for place in rest if days[place] == day}) > 1})
        notes: tuple[str, ...] = ()
        if both and target is None:
            notes = (
                f"{both[0]}{f' and {len(both) - 1} more days have' if both[1:] else ' has'} dates of "
                f"{' and '.join(names)}, which are written apart, each under its time: --target {names[-1]} (target=) "
                "makes one of them.",
            )
        return cls(tuple(words), one_with, target, notes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all sensors, sorted."""
        return tuple(sorted(set(self.dates)))

    @property
    def usual(self) -> str:
        """In whose values a day is filled on which nothing was observed."""
        counts = Counter(self.dates)
        return self.target or max(self.names, key=lambda name: counts[name])

    def written(self, asked: AskedDates) -> AskedDates:
        """The dates that are asked for, those of one day that are written as one being one."""
        wanted = dict.fromkeys(self.one_with.get(place, place) for place in asked.wanted)
        return replace(asked, wanted=tuple(wanted))

    def fitted(
        self, series: xr.DataArray, bands: Sequence[str], asked: AskedDates, contract: Contract | None = None
    ) -> Sensors:
        """With gains that are fitted to the series.

        Args:
            series: (time, band, y, x), NaN where unknown and under clouds.
            bands: what its bands are called.
            asked: the dates that are asked for.
            contract: whose units the values are to have where they are filled; None takes them as they are.

        """
        gains = fit_gains(series, self.dates, bands, contract)
        notes = (*self.notes, *gains.notes)
        if asked.added and self.target is None:
            notes += (
                f"Days on which nothing was observed are filled as {self.usual} would have seen them, of which the "
                "series has the most dates: --target (target=) chooses another.",
            )
        return replace(self, gains=gains, notes=notes)

    def sensor_of(self, date: int) -> str:
        """The sensor in whose values a date is; one at a place behind the observed ones is an added day."""
        return self.dates[date] if date < len(self.dates) else self.usual

    def of_all(self, asked: AskedDates) -> list[str]:
        """`sensor_of` all dates, the added ones too."""
        return [self.sensor_of(date) for date in range(asked.observed + len(asked.added))]

    def of_turn(self, read: Sequence[int]) -> SensorsOfTurn:
        """Those of the dates at some places, which are read together."""
        assert self.gains is not None
        beside = tuple(
            tuple(read.index(other) for other, date in self.one_with.items() if date == place and other in read)
            for place in read
        )
        return SensorsOfTurn(self.names, tuple(map(self.sensor_of, read)), beside, self.gains)

    def layer(self, dates: Sequence[int]) -> SourceLayer:
        """What layers of sources of some dates are to say."""
        return SourceLayer(self.names, tuple(map(self.sensor_of, dates)))

    def facts(self) -> dict[str, Any]:
        """What the result depends on, as plain JSON values."""
        assert self.gains is not None
        one_with = [[other, date] for other, date in self.one_with.items()]
        return {"dates": self.dates, "one with": one_with, "usual": self.usual, "gains": self.gains.facts()}

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


def _refuse_one_time(series: xr.DataArray, written: Sequence[int], words: Sequence[str]) -> None:
    times = series["time"].values
    for place, date in enumerate(written):
        for other in written[:place]:
            if times[date] == times[other] and words[date] != words[other]:
                raise SceneError(
                    f"{name_of(series)} has a date of {words[other]} and one of {words[date]} on "
                    f"{str(times[date])[:10]}: name the sensor whose values that day is to have (--target "
                    f"{words[date]}, target=), or give both their times."
                )
