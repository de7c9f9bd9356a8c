"""Files with several layers: features of one are read, and of several none without being asked which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
import shapely

from prithvi.errors import DatasetError, PrithviError, SceneError
from prithvi.products.zones import read_zones
from prithvi.scenes import Area
from prithvi.scenes.vector_files import read_vectors

READERS: list[Callable[[Path], object]] = [Area.from_file, read_zones, read_vectors]


def squares(*names: str) -> gpd.GeoDataFrame:
    shapes = [shapely.box(place, 0, place + 1, 1) for place in range(len(names))]
    return gpd.GeoDataFrame({"name": list(names)}, geometry=shapes, crs="EPSG:4326")


def with_style(path: Path) -> Path:
    """As QGIS saves a style in a GeoPackage: a table of its own, without places."""
    style = pd.DataFrame({"f_table_name": ["county"], "styleName": ["s"], "styleQML": ["<qgis/>"]})
    pyogrio.write_dataframe(style, path, layer="layer_styles", append=True)
    return path


@pytest.mark.parametrize("read", READERS)
def test_a_layer_is_not_taken_at_random_and_the_remedy_works(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "it's two.gpkg"
    squares("a").to_file(path, layer="county")
    squares("b", "c").to_file(path, layer="parcels")
    kind = SceneError if read == Area.from_file else DatasetError
    with pytest.raises(kind, match=r"has the layers county, parcels, and which is meant is not known") as said:
        read(with_style(path))
    remedy = str(said.value).partition("in Python ")[2].rstrip(".")
    eval(remedy, {"geopandas": gpd})
    assert gpd.read_file("ONE.gpkg")["name"].tolist() == ["a"]
    read(tmp_path / "ONE.gpkg")


@pytest.mark.parametrize("read", READERS)
def test_tables_and_empty_layers_are_none_to_choose(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "one.gpkg"
    squares("a")[:0].to_file(path, layer="begun")
    squares("a").to_file(path, layer="county")
    read(with_style(path))
    assert read_vectors(path)["name"].tolist() == ["a"]


def test_a_track_of_gpx_has_five_layers_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "points.gpx"
    path.write_text(
        '<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1"><wpt lat="1" lon="2"/></gpx>'
    )
    assert len(pyogrio.list_layers(path)) == 5
    assert read_vectors(path).geometry.tolist() == [shapely.Point(2, 1)]


def test_a_table_is_no_features(tmp_path: Path) -> None:
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), tmp_path / "t.gpkg", layer="t")
    with pytest.raises(PrithviError, match=r"is a table without geometries, not a vector file"):
        read_vectors(tmp_path / "t.gpkg")
