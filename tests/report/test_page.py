"""What a page says is what the files say, and nothing in a file can act in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS, Geod, Transformer

from prithvi.errors import ConfigError, OutputError, SceneError
from prithvi.mapping import class_polygons
from prithvi.plot import pictures
from prithvi.report import series_sheets, sheets, view
from prithvi.scenes import open_scene
from tests.conftest import Answer

Cli = Callable[..., Answer]


def data_of(page: Path, what: str = "sheets") -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), flags=re.S)
    assert found is not None
    plain: list[dict[str, Any]] = json.loads(found[1])[what]
    return plain


def values_of(sheet: dict[str, Any], probe: int = 0) -> np.ndarray:
    packed = zlib.decompress(base64.b64decode(sheet["probes"][probe]["values"]))
    return np.frombuffer(packed, np.uint8).reshape(sheet["height"], sheet["width"])


def test_values_places_and_areas_are_those_of_the_map(flood: Path, tmp_path: Path) -> None:
    page = view(flood, tmp_path / "report.html")
    (sheet,) = data_of(page)
    with rasterio.open(flood) as raster, rasterio.open(flood.with_name("scene_confidence.tif")) as sure:
        np.testing.assert_array_equal(values_of(sheet), raster.read(1))
        np.testing.assert_array_equal(values_of(sheet, 1), sure.read(1))
        assert sheet["transform"] == list(raster.transform)[:6]
    assert sheet["crs"] == "EPSG:32630"
    text = page.read_text("utf-8")
    hectares = class_polygons(flood).groupby("name")["area_m2"].sum() / 1e4
    for name, area in hectares.items():
        assert re.search(rf"<span>{name}</span><b>{area:,.1f} ha|<span>{name}</span><b>{area:,.0f} ha", text)
    for said in ("swir_2, nir_narrow, red", "2022-05-31", "prithvi map", "120 x 150 pixels"):
        assert said in text


def test_a_page_asks_no_network_and_runs_its_own_script_alone(flood: Path, tmp_path: Path) -> None:
    text = view(flood, tmp_path / "report.html").read_text("utf-8")
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[a-z/]""", text)
    policy = re.search(r"default-src 'none'; .*script-src 'sha256-([^']+)'", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    assert policy is not None
    assert policy[1] == base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def test_names_out_of_files_are_text(flood: Path, tmp_path: Path) -> None:
    evil = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
    with rasterio.open(flood, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
        raster.update_tags(CLASS_1=evil, PRITHVI_COMMAND=evil)
    page = view(flood, tmp_path / "report.html", title=evil)
    text = page.read_text("utf-8")
    assert "<img src=x" not in text
    assert text.count("<script") == text.count("</script>") == 2
    assert data_of(page)[0]["probes"][0]["names"]["1"] == evil


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32660", Affine(30, 0, 300_000, 0, -30, 7_000_020)),
        ("EPSG:4326", Affine(0.001, 0, 178.5, 0, -0.001, 60)),
        ("EPSG:3035", Affine(20, 15, 4_500_000, 15, -20, 3_200_000)),
    ],
    ids=["UTM at the antimeridian", "degrees", "rotated"],
)
def test_longitude_and_latitude_between_the_nodes_are_right_to_two_metres(crs: str, transform: Affine) -> None:
    size = 3660
    places = sheets._places(transform, CRS(crs), size, size)
    assert places is not None
    nodes = places["nodes"]
    grid = {name: np.reshape(places[name], (nodes, nodes)) for name in ("longitude", "latitude")}
    rng = np.random.default_rng(0)
    u, v = rng.uniform(0, nodes - 1, (2, 500))
    left, top = np.minimum(u.astype(int), nodes - 2), np.minimum(v.astype(int), nodes - 2)
    found = {}
    for name, values in grid.items():
        above = values[top, left] * (1 - (u - left)) + values[top, left + 1] * (u - left)
        below = values[top + 1, left] * (1 - (u - left)) + values[top + 1, left + 1] * (u - left)
        found[name] = above * (1 - (v - top)) + below * (v - top)
    x, y = transform @ (u / (nodes - 1) * size, v / (nodes - 1) * size)
    true = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    off = Geod(ellps="WGS84").inv(found["longitude"], found["latitude"], *true)[2]
    assert np.max(off) < 2


def test_a_large_map_is_thinned_and_says_so(flood: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST", 64)
    page = view(flood, tmp_path / "report.html")
    (sheet,) = data_of(page)
    assert (sheet["height"], sheet["width"]) == (40, 50)
    assert "3 x 3 of the file" in page.read_text("utf-8")
    corner = Affine(*sheet["transform"]) @ (50, 40)
    with rasterio.open(flood) as raster:
        assert corner == pytest.approx(raster.transform @ (150, 120))
        assert set(np.unique(values_of(sheet))) <= set(np.unique(raster.read(1)))


def test_a_filled_series_has_a_sheet_a_date(filled: Path, tmp_path: Path) -> None:
    page = view(filled, tmp_path / "report.html")
    first, second = data_of(page)
    with rasterio.open(filled / "2022-05-01_filled.tif") as mask:
        np.testing.assert_array_equal(values_of(first), mask.read(1))
    assert not values_of(second).any()
    text = page.read_text("utf-8")
    assert [text.count(f'value="{number}">2022-05-') for number in (0, 1)] == [1, 1]
    assert f"<span>filled</span><b>{1600 / 96**2:.1%}" in text


def charted(page: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The chart of a page with its values (date, band, y, x) and states (date, y, x)."""
    (chart,) = data_of(page, "charts")
    shape = len(chart["dates"]), len(chart["bands"]), chart["height"], chart["width"]
    raw = [zlib.decompress(base64.b64decode(chart[name])) for name in ("values", "states")]
    return chart, np.frombuffer(raw[0], "<i2").reshape(shape), np.frombuffer(raw[1], np.uint8).reshape(-1, *shape[2:])


def test_a_series_has_one_chart_of_what_its_files_hold(filled: Path, tmp_path: Path) -> None:
    page = view(filled, tmp_path / "report.html")
    chart, values, states = charted(page)
    assert chart["dates"] == ["2022-05-01", "2022-05-17"]
    assert np.diff(chart["days"]) == 16
    assert [(sheet["chart"], sheet["number"]) for sheet in data_of(page)] == [(0, 0), (0, 1)]
    for k, date in enumerate(chart["dates"]):
        with rasterio.open(filled / f"{date}.tif") as raster, rasterio.open(filled / f"{date}_filled.tif") as mask:
            np.testing.assert_array_equal(values[k], raster.read())
            np.testing.assert_array_equal(states[k], mask.read(1))


def test_a_long_series_is_charted_on_fewer_pixels_and_says_so(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_sheets, "CHARTED", 2 * 6 * 40 * 40)
    page = view(filled, tmp_path / "report.html")
    chart, values, _ = charted(page)
    assert chart["step"] == 3
    with rasterio.open(filled / "2022-05-01.tif") as raster:
        np.testing.assert_array_equal(values[0], raster.read()[:, ::3, ::3])
    assert "The chart has one pixel of 3 x 3 of the page." in page.read_text("utf-8")


def test_a_zarr_cube_is_shown_as_its_files_are(write_tif: Callable[..., Path], six_bands: np.ndarray, tmp_path: Path,
                                               prithvi: Cli) -> None:  # fmt: skip
    first = six_bands[:, :70, :90].copy()
    first[:, 20:60, 30:70] = -9999
    files = [write_tif(first, "a.tif", nodata=-9999), write_tif(six_bands[:, :70, 4:94], "b.tif", nodata=-9999)]
    shared = ("--method", "nearest", *files, "--date", "2022-05-01", "--date", "2022-05-17", "--no-uncertainty")
    for out in ("cube.zarr", "folder"):
        answer = prithvi("fill", *shared, "-o", tmp_path / out)
        assert answer.code == 0, answer.err
    pages = [view(tmp_path / out, tmp_path / f"{out}.html") for out in ("cube.zarr", "folder")]
    (one, *of_cube), (other, *of_folder) = map(charted, pages)
    assert (one["dates"], one["days"]) == (other["dates"], other["days"])
    for found, wanted in zip(of_cube, of_folder, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(*map(data_of, pages), strict=True):
        assert found["transform"] == wanted["transform"]
        assert found["crs"] == wanted["crs"]
        np.testing.assert_array_equal(values_of(found), values_of(wanted))


def test_a_map_without_its_scene_is_shown_alone_and_one_is_taken_where_it_is_given(flood: Path, tmp_path: Path) -> None:
    scene = flood.parents[1] / "scene.tif"
    kept = scene.rename(scene.with_name("moved.tif"))
    alone = view(flood, tmp_path / "alone.html").read_text("utf-8")
    assert 'class="below"' not in alone
    given = view(flood, tmp_path / "given.html", scene=open_scene(kept)).read_text("utf-8")
    assert 'class="below"' in given
    other = open_scene(kept).isel(x=slice(0, 100))
    assert "What was mapped is not shown" in view(flood, tmp_path / "other.html", scene=other).read_text("utf-8")


def test_a_quantity_is_shown_with_its_unit(write_tif: Callable[..., Path], tmp_path: Path) -> None:
    values = np.linspace(0, 300, 48 * 40, dtype=np.float32).reshape(1, 48, 40)
    values[0, 0, 0] = np.nan
    path = write_tif(values, "biomass.tif", ("biomass",), None, nodata=float("nan"))
    with rasterio.open(path, "r+") as raster:
        raster.units = ["t/ha"]
    (sheet,) = data_of(view(path, tmp_path / "report.html"))
    probe, found = sheet["probes"][0], values_of(sheet)
    assert found[0, 0] == probe["nodata"]
    told = float(probe["names"][str(found[24, 20])].removesuffix(" t/ha"))
    assert told == pytest.approx(values[0, 24, 20], abs=1.5)


def test_the_command_and_the_option_write_pages(
    flood: Path, filled: Path, model_folder: Path, prithvi: Cli, tmp_path: Path
) -> None:
    for words in (
        ("view", flood.parent, filled, "-o", tmp_path / "a.html", "--title", "Both"),
        ("view", flood, "--scene", flood.parents[1] / "scene.tif", "-o", tmp_path / "b.html"),
        ("map", model_folder, flood.parents[1] / "scene.tif", "-o", tmp_path / "m", "--report", tmp_path / "c.html"),
    ):
        answer = prithvi(*words)
        assert answer.code == 0, answer.err
    assert len(data_of(tmp_path / "a.html")) == 3
    assert 'class="below"' in (tmp_path / "b.html").read_text("utf-8")
    assert 'class="below"' in (tmp_path / "c.html").read_text("utf-8")


def test_what_cannot_be_shown_is_said(flood: Path, prithvi: Cli, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"there is no .*nowhere.tif"):
        view(tmp_path / "nowhere.tif", tmp_path / "report.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="nothing to show"):
        view(tmp_path / "empty", tmp_path / "report.html")
    (tmp_path / "broken.tif").write_bytes(b"II*\x00no")
    with pytest.raises(SceneError, match=r"broken.tif is no map"):
        view(tmp_path / "broken.tif", tmp_path / "report.html")
    with pytest.raises(OutputError, match="cannot be written"):
        view(flood, tmp_path / "broken.tif" / "report.html")
    assert not (tmp_path / "report.html").exists()
    answer = prithvi("view", flood, "--sensor", "hls-l30", "-o", tmp_path / "report.html")
    assert answer.code == 2
    assert "--scene FILE" in answer.err
