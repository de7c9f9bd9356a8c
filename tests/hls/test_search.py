"""Searching: a real STAC API, a folder and a catalog give the same granules, whatever the API ignores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from shapely.geometry import Polygon, box

from prithvi.errors import AddressError, ConfigError, DatasetError, HubError
from prithvi.hls import read_items, search
from prithvi.hls.search import days, read_area
from tests.conftest import needs_search
from tests.http_files import serve_folder
from tests.synthetic_hls import Archive, serve_stac

EVERYWHERE = (-10.0, 40.0, 20.0, 60.0)


@pytest.fixture(autouse=True)
def files_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API on this machine points to files of this machine."""
    monkeypatch.setenv("PRITHVI_ALLOW_PRIVATE", "file:")


@pytest.fixture(scope="module")
def api(archive: Archive) -> Iterator[str]:
    with serve_stac(archive) as address:
        yield address


@needs_search
@pytest.mark.parametrize("where", ["api", "folder", "catalog", "collection"])
def test_all_sources_answer_alike(archive: Archive, api: str, where: str) -> None:
    places = {"folder": archive.root, "catalog": archive.catalog, "collection": archive.root / "items.json"}
    source = api if where == "api" else str(places[where])
    everything = search(source, bbox=EVERYWHERE)
    assert [item.id for item in everything] == [item.id for item in read_items(archive.root)]
    west = box(*everything[0].bbox)
    near = search(source, area=west.centroid.buffer(0.01))
    assert {item.id[9:14] for item in near} == {"31UDS"}
    spring = search(source, bbox=EVERYWHERE, start="2022-03", end="2022-03")
    assert {item.datetime.month for item in spring} == {3}
    assert len(spring) == 6
    day = search(source, bbox=EVERYWHERE, start="2022-03-16", end="2022-03-16")
    assert {str(item.datetime.date()) for item in day} == {"2022-03-16"}
    clear = search(source, bbox=EVERYWHERE, max_cloud=5)
    expected = [item.id for item in everything if item.properties["eo:cloud_cover"] <= 5]
    assert [item.id for item in clear] == expected
    assert 0 < len(clear) < len(everything)
    landsat = search(source, bbox=EVERYWHERE, products=["L30"], limit=3)
    assert [item.id[4:7] for item in landsat] == ["L30"] * 3


@needs_search
def test_both_spellings_of_the_collections_are_understood(archive: Archive, tmp_path: Path) -> None:
    for spelling in (("HLSL30.v2.0", "HLSS30.v2.0"), ("hls2-l30", "hls2-s30")):
        folder = tmp_path / spelling[0]
        (folder / "catalog").mkdir(parents=True)
        names = dict(zip(("HLSL30_2.0", "HLSS30_2.0"), spelling, strict=True))
        items = json.loads((archive.root / "items.json").read_text())
        for item in items["features"]:
            item["collection"] = names[item["collection"]]
        (folder / "items.json").write_text(json.dumps(items))
        for path in archive.catalog.parent.glob("*/collection.json"):
            plain = json.loads(path.read_text())
            plain["id"] = names[plain["id"]]
            (folder / "catalog" / plain["id"]).mkdir()
            (folder / "catalog" / plain["id"] / "collection.json").write_text(json.dumps(plain))
        other = Archive(folder, archive.items, folder / "catalog" / "catalog.json", archive.fields)
        with serve_stac(other) as address:
            assert len(search(address, bbox=EVERYWHERE)) == 8


@needs_search
def test_files_of_this_machine_in_the_answer_of_an_api_are_refused(
    archive: Archive, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRITHVI_ALLOW_PRIVATE")
    with pytest.raises(AddressError, match=r"points to file:///.*prithvi --allow-private file: \.\.\."):
        search(api, bbox=EVERYWHERE)


def test_dates_mean_whole_years_months_and_days() -> None:
    assert [str(day) for day in days("2022", "2023")] == ["2022-01-01", "2023-12-31"]
    assert [str(day) for day in days("2022-02", "2024-02")] == ["2022-02-01", "2024-02-29"]
    assert [str(day) for day in days("2022-02-03", "2022-02-03")] == ["2022-02-03", "2022-02-03"]
    for wrong in ("22-01", "2022-13", "2022-02-30", "spring"):
        with pytest.raises(ConfigError, match="is no date: write 2022, 2022-03 or 2022-03-15"):
            days(wrong, None)
    with pytest.raises(ConfigError, match=r"would end \(2022-01\) before it starts \(2022-03\)"):
        days("2022-03", "2022-01")


def test_an_empty_result_says_which_filter_emptied_it(archive: Archive) -> None:
    with pytest.raises(DatasetError, match=r"8 granules, 8 of these products, 8 in the place, 0 in the time"):
        search(str(archive.root), bbox=EVERYWHERE, start="1999", end="1999")
    with pytest.raises(DatasetError, match="in the time, 0 with at most 0 % clouds"):
        search(str(archive.root), bbox=EVERYWHERE, start="2022-03-10", end="2022-04-10", max_cloud=0)


def test_granules_that_do_not_state_their_clouds_are_kept_and_counted(archive: Archive, tmp_path: Path) -> None:
    plain = json.loads((archive.root / "items.json").read_text())
    for item in plain["features"][:2]:
        del item["properties"]["eo:cloud_cover"]
    plain["features"][2]["properties"]["eo:cloud_cover"] = None  # says as little
    (tmp_path / "items.json").write_text(json.dumps(plain))
    with pytest.warns(UserWarning, match="3 of . granules do not state their clouds and are kept"):
        found = search(str(tmp_path / "items.json"), bbox=EVERYWHERE, max_cloud=1)
    assert {item["id"] for item in plain["features"][:3]} <= {item.id for item in found}


@needs_search
def test_what_does_not_answer_as_an_api_does_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"http://127\.0\.0\.1:9 cannot be reached: check"):
        search("http://127.0.0.1:9", bbox=EVERYWHERE)
    (tmp_path / "index.html").write_text("<html>maintenance</html>")
    with serve_folder(tmp_path) as server:
        for path in ("/index.html", "/nothing"):
            with pytest.raises(HubError, match="does not answer as a STAC API does"):
                search(server.url + path, bbox=EVERYWHERE)


@needs_search
def test_an_api_that_is_out_of_order_is_said_to_be(tmp_path: Path) -> None:
    with (
        serve_folder(tmp_path, broken="/", status=503) as server,
        pytest.raises(HubError, match=rf"{server.url} answers with status 503: try later"),
    ):
        search(server.url, bbox=EVERYWHERE)


@needs_search
def test_arguments_that_cannot_be_are_refused(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"would be 359\.6 degrees wide across the date line: exchange west and east"):
        search(str(archive.root), bbox=(3.4, 41.2, 3.0, 41.5))
    with pytest.raises(ConfigError, match="exchange west and east"):
        search(str(archive.root), bbox=(EVERYWHERE[2], EVERYWHERE[1], EVERYWHERE[0], EVERYWHERE[3]))
    assert len(search(str(archive.root), bbox=EVERYWHERE)) == 8
    with pytest.raises(ConfigError, match="there is no product M30"):
        search(str(archive.root), products=["M30"])
    with pytest.raises(ConfigError, match="is only searched for a place"):
        search("http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="a box and an area were given"):
        search(str(archive.root), bbox=EVERYWHERE, area=box(*EVERYWHERE))
    gpd.GeoDataFrame(geometry=[box(600_000, 4_500_000, 610_000, 4_510_000)], crs="EPSG:32631").to_file(
        tmp_path / "a.gpkg"
    )
    assert read_area(tmp_path / "a.gpkg").centroid.x == pytest.approx(4.24, abs=0.02)
    with pytest.raises(DatasetError, match="cannot be read as a vector file"):
        read_area(tmp_path / "none.gpkg")


def test_an_area_of_any_projection_is_cut_at_the_date_line(tmp_path: Path) -> None:
    whole = shapely.segmentize(box(179.9, -17, 180.2, -16), 0.01)
    for crs in ("EPSG:4326", "EPSG:32760", "EPSG:32701"):
        gpd.GeoDataFrame(geometry=gpd.GeoSeries([whole], crs=4326).to_crs(crs)).to_file(tmp_path / "area.gpkg")
        area = read_area(tmp_path / "area.gpkg")
        assert area.geom_type == "MultiPolygon"
        assert sorted(part.bounds[0] for part in area.geoms) == pytest.approx([-180, 179.9], abs=1e-3)
        assert area.area == pytest.approx(0.3, rel=1e-3)


def test_an_area_that_covers_itself_is_mended_and_said(tmp_path: Path) -> None:
    bow = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    gpd.GeoDataFrame(geometry=[bow, box(1, 0, 3, 2)], crs=4326).to_file(tmp_path / "area.gpkg")
    with pytest.warns(UserWarning, match="area.gpkg: 1 of 2 features cross or cover themselves"):
        assert read_area(tmp_path / "area.gpkg").area == pytest.approx(5)
