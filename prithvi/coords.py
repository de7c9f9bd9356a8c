"""Dates and places as models take them: (year, day of the year) and (latitude, longitude).

Prithvi-EO-2.0 was trained with both beside the pixels; every room computes them here, so that training and mapping
agree. No geo stack is imported before a place is asked for.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pyproj import Transformer


def year_and_day(times: Sequence[dt.date | None] | npt.NDArray[np.datetime64]) -> npt.NDArray[np.float32]:
    """(T, 2) year and day of the year counted from 0; NaN for a date that is None or NaT.

    Args:
        times: T dates, or moments in UTC.

    """
    if not isinstance(times, np.ndarray):  # numpy has no time zones: take the day off each moment first
        plain = [time.date() if isinstance(time, dt.datetime) else time for time in times]
        times = np.array(plain, dtype="datetime64[D]")
    days = times.astype("datetime64[D]")
    years = days.astype("datetime64[Y]")
    found = np.stack([years.astype(np.int64) + 1970, (days - years).astype(np.int64)], axis=-1).astype(np.float32)
    found[np.isnat(days)] = np.nan
    return found


def latitude_longitude(
    transform: Iterable[float], crs: str | None, rows: Sequence[float], columns: Sequence[float]
) -> npt.NDArray[np.float64]:
    """(N, 2) latitude and longitude in degrees of N positions in a grid; NaN where the grid has no CRS.

    Args:
        transform: the grid's affine coefficients a, b, c, d, e, f from column and row to x and y.
        crs: of the grid, as EPSG code or well-known text.
        rows: counted from the upper edge: 0.5 is the centre of the first row.
        columns: counted from the left edge, likewise.

    """
    if not crs:
        return np.full((len(rows), 2), np.nan)
    down, along = np.asarray(rows, np.float64), np.asarray(columns, np.float64)
    a, b, c, d, e, f = tuple(transform)[:6]
    longitude, latitude = _to_degrees(crs).transform(along * a + down * b + c, along * d + down * e + f)
    return np.stack([latitude, longitude], axis=-1)


@lru_cache(maxsize=64)
def _to_degrees(crs: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
