"""Dates and places as models take them."""

from __future__ import annotations

import datetime as dt

import numpy as np
from affine import Affine
from pyproj import Transformer

from prithvi.coords import latitude_longitude, year_and_day


def test_days_are_counted_from_0_and_a_missing_date_is_nan() -> None:
    days = [dt.date(2022, 1, 1), dt.datetime(2024, 12, 31, 23, 59, tzinfo=dt.UTC), None]
    np.testing.assert_array_equal(year_and_day(days), [[2022, 0], [2024, 365], [np.nan, np.nan]])
    moments = np.array(["1969-03-01T23:00", "2023-03-01T01:00", "NaT"], "datetime64[ns]")
    np.testing.assert_array_equal(year_and_day(moments), [[1969, 59], [2023, 59], [np.nan, np.nan]])


def test_places_of_a_turned_grid_are_those_of_its_coordinates() -> None:
    turned = Affine.translation(600_000, 5_000_000) @ Affine.rotation(20) @ Affine.scale(30, -30)
    found = latitude_longitude(turned, "EPSG:32631", [0.5, 100], [10, 0.5])
    back = Transformer.from_crs("EPSG:32631", "EPSG:4326")
    assert found.tolist() == [list(back.transform(*(turned @ at))) for at in ((10, 0.5), (0.5, 100))]
    assert np.isnan(latitude_longitude(turned, "", [1, 2], [3, 4])).all()
