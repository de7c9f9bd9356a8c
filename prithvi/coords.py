"""Dates and locations as model inputs: (year, day of year) and (latitude, longitude).

Prithvi-EO-2.0 was trained with both in addition to pixels. All of the package computes them here, so that training and
mapping agree. pyproj is imported only when a location is requested.
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
    """(T, 2) float32 year and day of year from 0; NaN for dates that are None or NaT.

    Args:
        times: T dates, or times in UTC.

    """
    if not isinstance(times, np.ndarray):  # numpy has no time zones, so times are reduced to dates first
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
    """(N, 2) latitude and longitude in degrees of N positions in a grid; NaN if the grid has no CRS.

    Args:
        transform: affine coefficients a, b, c, d, e, f of the grid, from (column, row) to (x, y).
        crs: CRS of the grid as EPSG code or WKT.
        rows: (N,) row coordinates from the upper edge; 0.5 is the centre of the first row.
        columns: (N,) column coordinates from the left edge; 0.5 is the centre of the first column.

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
