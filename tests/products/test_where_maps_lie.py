"""A map whose place another program lost has no areas: it is refused by name, and so is one that lies off the Earth."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from prithvi.chips.label_files import open_labels
from prithvi.errors import DatasetError, SceneError
from prithvi.evaluation.areas import estimate_areas
from prithvi.products.class_polygons import class_polygons
from prithvi.products.classmap import mapped_areas, open_classes
from prithvi.products.map_item import map_item
from prithvi.products.provenance import Provenance
from prithvi.products.zones import area_by_zone
from prithvi.report import view
from tests.products.test_class_polygons import UTM, write_map

VALUES = np.array([[0, 0, 1], [0, 1, 1]])
LOST = [Affine.identity(), Affine(0, 0, 0, 0, 0, 0), Affine(1e-300, 0, 0, 0, 1e-300, 0)]
BOX = gpd.GeoDataFrame(
    {"farm": ["a"]}, geometry=[shapely.box(600_000, 4_199_980, 600_030, 4_200_000)], crs="EPSG:32630"
)
POINTS = gpd.GeoDataFrame(
    {"class": ["land"]}, geometry=[shapely.Point(600_005, 4_199_995)], crs="EPSG:32630"
)  # fmt: skip
MEASURES: dict[str, Callable[[Path], object]] = {
    "areas": mapped_areas,
    "polygons": class_polygons,
    "zones": lambda path: area_by_zone(path, BOX),
    "sample": lambda path: estimate_areas(path, POINTS, column="class"),
    "item": lambda path: map_item(path, provenance=Provenance("m", "", ("a.tif",)), dates=[dt.date(2022, 5, 1)]),
    "labels": open_labels,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("transform", LOST, ids=["identity", "zero", "tiny"])
def test_a_map_without_a_geotransform_is_refused(measure: str, transform: Affine, tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", VALUES, transform)
    with pytest.raises((SceneError, DatasetError), match=r"map\.tif has no geotransform, so its pixels lie nowhere"):
        MEASURES[measure](path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_remedy_makes_it_whole(tmp_path: Path) -> None:
    right, lost = write_map(tmp_path / "a.tif", VALUES), write_map(tmp_path / "b.tif", VALUES, Affine.identity())
    with pytest.raises(SceneError) as refused:
        mapped_areas(lost)
    command = str(refused.value).split("'")[1].replace("[WIDTH,0,WEST,0,-HEIGHT,NORTH]", "[10,0,600000,0,-10,4200000]")
    program, *words = command.split()
    subprocess.run([Path(sys.executable).with_name(program), *words], check=True)
    assert mapped_areas(lost) == mapped_areas(right)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(30, 0, 1e9, 0, -30, 1e9), "EPSG:32630"),
        (Affine(1, 0, 0, 0, -1, 100), "EPSG:4326"),
        (Affine(1, 0, 10, 0, -1, 4_200_000), "EPSG:4326"),  # metres, called degrees
    ],
)
def test_no_area_is_told_of_what_lies_off_the_earth(transform: Affine, crs: str, tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", VALUES, transform, crs)
    for measure in (mapped_areas, class_polygons):
        with pytest.raises(SceneError, match=r"map\.tif has pixels where its coordinate reference system has no place"):
            measure(path)


def test_nodata_may_lie_off_the_earth_and_half_a_pixel_beyond_a_pole(tmp_path: Path) -> None:
    """As a world in sinusoidal tiles, or a grid of degrees whose first row is centred on the pole."""
    values = np.full((4, 4), 255)
    values[2:, 2:] = 1
    sinusoidal = "+proj=sinu +R=6371007.181 +units=m"
    corner = Affine(5_000, 0, -1_000_000 - 10_000, 0, -5_000, 9_900_000)  # the upper left pixel is nowhere
    assert mapped_areas(write_map(tmp_path / "tile.tif", values, corner, sinusoidal))["water"] > 0
    polar = write_map(tmp_path / "polar.tif", [[1], [1]], Affine(1, 0, 0, 0, -1, 90.5), "EPSG:4326")
    whole = write_map(tmp_path / "whole.tif", [[1]], Affine(1, 0, 0, 0, -1.5, 90), "EPSG:4326")
    assert mapped_areas(polar)["water"] == pytest.approx(mapped_areas(whole)["water"])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_page_counts_pixels_of_what_lies_nowhere(tmp_path: Path) -> None:
    right, lost = write_map(tmp_path / "a.tif", VALUES), write_map(tmp_path / "b.tif", VALUES, Affine.identity())
    assert "m²" in view(right, tmp_path / "a.html").read_text()
    page = view(lost, tmp_path / "b.html").read_text()
    assert "3 pixels, 50.0%" in page
    assert "Areas are counted pixels" not in page
    assert "m²" not in page


def test_tags_that_name_no_number_are_no_classes(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.tif", VALUES)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(CLASS_x="?", CLASS_99999999999="far", LABEL_VALUE_0="none", LABEL_VALUE_1="7")
    with open_classes(path) as classes:
        assert (classes.titles, classes.labels) == ({0: "land", 1: "water", 2: "crop"}, {7: "water"})
    assert mapped_areas(path)["land"] == pytest.approx(300, rel=2e-3)
    assert UTM.a == 10
