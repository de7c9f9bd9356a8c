"""A reference column by names, numbers or labels' values: never the wrong class, and asked where two are meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import Point

from prithvi.errors import DatasetError
from prithvi.evaluation.areas import matched
from tests.conftest import Answer
from tests.products.test_class_polygons import write_map

TWO = {10: "land", 20: "water"}
OLD = {0: "1", 1: "2", 2: "3"}
"""A map of labels 1, 2, 3 as older versions wrote it: numbers are places, names the labels' values."""
MASK = {0: "land", 1: "water"}
"""A map of labels 255 (land) and 1 (water), of which 255 is too large for a map."""


@pytest.mark.parametrize(
    ("entries", "numbers", "labels", "meant", "told"),
    [
        ([10, 20, 10], TWO, {}, ["land", "water", "land"],
         "by number in the map (10 is land, 20 is water)"),
        ([10.0, "20"], TWO, {}, ["land", "water"], "by number in the map (10 is land, 20 is water)"),
        (["water", " land "], TWO, {}, ["water", "land"], "by name"),
        (["water", "10"], TWO, {}, ["water", "land"], "by name and number in the map (10 is land)"),
        ([1, 2, 3], OLD, {}, ["1", "2", "3"], "by name"),
        ([0, 1, 2], OLD, {}, ["1", "2", "3"], "by number in the map (0 is 1, 1 is 2, 2 is 3)"),
        ([1, 255], MASK, {255: "land", 1: "water"}, ["water", "land"],
         "by value in the labels (1 is water, 255 is land)"),
        ([0, 1], MASK, {255: "land", 1: "water"}, ["land", "water"], "by number in the map (0 is land, 1 is water)"),
        ([0, 1, 2], {0: "0", 1: "1", 2: "2"}, {}, ["0", "1", "2"], "by name"),
        ([], {0: "a"}, {}, [], ""),
    ],
)  # fmt: skip
def test_a_column_is_read_in_the_one_way_that_fits_all_of_it(
    entries: list[Any], numbers: dict[int, str], labels: dict[int, str], meant: list[str], told: str
) -> None:
    assert matched(entries, list(numbers.values()), numbers, labels) == (meant, told)


def test_a_number_that_is_two_classes_is_asked_about_and_the_remedies_work() -> None:
    with pytest.raises(DatasetError) as asked:
        matched([1, 2], OLD.values(), OLD, {}, source="p.gpkg")
    told = str(asked.value)
    assert told.startswith(
        "p.gpkg hold 1, which is the name of the class '1' and the number in the map of the class '2'"
    )
    ways = re.findall(r"--match (\w+)", told)
    assert ways == ["name", "number"]
    assert matched([1, 2], OLD.values(), OLD, {}, ways[0])[0] == ["1", "2"]
    assert matched([1, 2], OLD.values(), OLD, {}, ways[1])[0] == ["2", "3"]
    labels = {1: "land", 7: "water"}
    with pytest.raises(DatasetError, match="--match number or --match label"):
        matched([1], MASK.values(), MASK, labels)
    assert matched([1], MASK.values(), MASK, labels, "label")[0] == ["land"]
    with pytest.raises(DatasetError, match="found --match value"):
        matched([1], MASK.values(), MASK, labels, "value")
    with pytest.raises(DatasetError, match="have a number 'land' that the map does not have"):
        matched(["land"], MASK.values(), MASK, labels, "number")


def test_the_command_asks_and_takes_the_answer(tmp_path: Path, prithvi: Callable[..., Answer]) -> None:
    """Labels 1 and 2 became 0 and 1 in an older map; the reference has 1 and 2, or is it 0 and 1?"""
    values = np.zeros((20, 20), np.uint8)
    values[:, 10:] = 1
    path = write_map(tmp_path / "old.tif", values, names={0: "1", 1: "2"})
    places = [(x + 0.5, y + 0.5) for x in range(20) for y in range(0, 20, 5)]
    with rasterio.open(path) as raster:
        points = [Point(raster.transform @ place) for place in places]
        crs = raster.crs
    truth = [1 + values[int(y), int(x)] for x, y in places]
    gpd.GeoDataFrame({"class": truth}, geometry=points, crs=crs).to_file(tmp_path / "points.gpkg")
    words = ["area", path, "--reference", tmp_path / "points.gpkg"]
    answer = prithvi(*words)
    assert answer.code == 0, answer.err  # 2 is a name alone, so that all are names
    assert "overall accuracy 1.00" in answer.out
    gpd.GeoDataFrame({"class": [1] * 80}, geometry=points, crs=crs).to_file(tmp_path / "points.gpkg")
    asked = prithvi(*words)
    assert asked.code == 2
    (remedy, other) = re.findall(r"--match \w+", asked.err)
    assert "overall accuracy 0.50" in prithvi(*words, *shlex.split(remedy)).out
    assert "Their classes were read by number in the map (1 is 2)." in prithvi(*words, *shlex.split(other)).out
