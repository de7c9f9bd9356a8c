"""What the pages print is run as it is printed, here or by the test that a block names (tests/pages.py)."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import geopandas as gpd
import matplotlib
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr

from prithvi.modelio import save
from tests.conftest import SPAIN, Answer, small_task
from tests.pages import PAGES, ROOT, blocks_of
from tests.test_docs import home  # noqa: F401 - a fixture

APART = ("mapping.md", "areas.md", "products.md")
"""Pages whose Python is run by tests of their own, which look at what comes out."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks_of(page):
        if block.mark == "not run":
            assert block.why
            assert len(block.why.split()) >= 3, f"{page.name}: {block.why!r} is no reason"
            assert all((ROOT / file).is_file() for file in re.findall(r"tests/[\w/]+\.py", block.why)), block.why
        elif block.mark == "run":
            assert f'printed_for("{block.why}", "{page.name}")' in (ROOT / str(block.why)).read_text(encoding="utf-8")
        elif block.kind not in ("python", "sql"):
            assert block.kind in ("", "sh"), f"{page.name}: nothing runs a block of {block.kind}"
            assert all(words[0] == "prithvi" for words in block.commands), f"{page.name}: nothing runs {block.code}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ("README.md", "api.md")], ids=lambda p: p.name
)
def test_no_code_is_printed_without_a_fence(page: Path) -> None:
    """Of it nobody would know whether it is run. Lists that go on in a second line are no code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert not re.findall(r"^(?: {4}|\t).*$", text, flags=re.M)


@pytest.fixture
def desk(
    home: Path,  # noqa: F811
    prithvi: Callable[..., Answer],
    six_bands: np.ndarray,
    write_tif: Callable[..., Path],
) -> Path:
    """Where the pages' examples lie: those of `home`, next.tif, my_scene.tif with 13 bands, three dates with their
    clouds, three with a model of three dates, demo/model, maps with polygons, and points of a known class.
    """
    copy(SPAIN, home / "my_scene.tif")
    write_tif(six_bands[:, 120:240, :150], "next.tif")
    copytree(home / "runs" / "flood" / "model", home / "demo" / "model")
    for number, name in enumerate("abc"):
        write_tif(six_bands[:, :64, number : number + 64], f"{name}.tif")
        cloud = np.zeros((1, 64, 64), np.uint8)
        cloud[0, 20 * number : 20 * number + 15, 10:40] = 1
        write_tif(cloud, f"{name}_clouds.tif", None, None)
    save(small_task(num_frames=3).fitted(seed=0), home / "runs" / "crops" / "model")
    for number, name in enumerate(("may", "june", "july")):
        write_tif(six_bands[:, :64, number : number + 64], f"{name}.tif")
    made = prithvi("map", "demo/model", "scene.tif", "-o", "maps", "--date", "2022-05-31")
    assert made.code == 0, made.err
    for suffix in (".tif", ".tif.aux.xml"):
        copy(f"maps/scene{suffix}", f"maps/flood{suffix}")
    with rasterio.open("maps/scene.tif") as raster:
        classes = raster.read(1)
        places = [(row, column) for row in range(5, 120, 10) for column in range(5, 150, 10)]
        truth = [int(classes[row, column]) if number % 9 else 1 for number, (row, column) in enumerate(places)]
        points = gpd.points_from_xy(*zip(*(raster.xy(*place) for place in places), strict=True), crs=raster.crs)
    gpd.GeoDataFrame({"truth": truth}, geometry=points).to_file("points.gpkg")
    return home


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive", "ignore:More than 20 figures")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.mark is None for block in blocks_of(page))],
    ids=lambda page: page.name,
)
def test_code_runs_as_printed(page: Path, desk: Path, prithvi: Callable[..., Answer]) -> None:
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "printed"}
    answers: list[Any] = []
    for block in blocks_of(page):
        if block.mark is None and block.kind == "python" and page.name not in APART:
            exec(compile(block.code, page.name, "exec"), names)
        elif block.mark is None and block.kind == "sql":
            duckdb = pytest.importorskip("duckdb", reason="duckdb comes with the extra 'dev'")
            answers.append(duckdb.sql(block.code).fetchall())  # in one session, as at its prompt
        elif block.mark is None and block.kind in ("", "sh"):
            for words in block.commands:
                answer = prithvi(*words[1:])
                assert answer.code == 0, f"{page.name}: {' '.join(words)}: {answer.err}"
    matplotlib.pyplot.close("all")
    if page.name == "getting_started.md":
        assert (desk / "maps" / "flood.tif").is_file()
    if page.name == "areas.md":
        table = pd.read_csv("flood_areas.csv")
        assert set(table["name"]) >= {"land", "water"}
    if page.name == "mapping.md":
        with rasterio.open("maps/may.tif") as raster:
            assert raster.tags()["PRITHVI_INPUT"] == "may.tif and 2 more files"
    if page.name == "embeddings.md":
        store = xr.open_zarr("scene_vectors.zarr", decode_coords="all")
        with rasterio.open('ZARR:"scene_vectors.zarr":/embedding') as gdal:
            np.testing.assert_array_equal(gdal.read(), store["embedding"].values[0])
            assert (gdal.crs, gdal.transform) == (store.rio.crs, store["embedding"].rio.transform())
    if page.name == "gis.md":
        assert set(np.unique(names["classes"])) <= {0, 1, 255}
        assert set(names["names"].values()) == {"land", "water"}
        for answer, maps in zip(answers, (["scene"], ["scene", "next"]), strict=True):
            assert dict(answer) == pytest.approx(areas_of(maps))


def areas_of(maps: list[str]) -> dict[str, float]:
    """km2 of each class by the polygons, which are close to what the pixels of 10 m make."""
    frame = pd.concat([gpd.read_parquet(f"maps/{name}.parquet") for name in maps])
    found = (frame.groupby("name")["area_m2"].sum() / 1e6).to_dict()
    pixels = np.zeros(2)
    for name in maps:
        with rasterio.open(f"maps/{name}.tif") as raster:
            pixels += [(raster.read(1) == value).sum() for value in (0, 1)]
    assert found == pytest.approx(dict(zip(("land", "water"), pixels / 1e4, strict=True)), rel=0.01)
    return found


def test_gdal_s_programs_run_as_printed_where_they_are(desk: Path, prithvi: Callable[..., Answer]) -> None:
    if shutil.which("gdalinfo") is None:
        pytest.skip("needs GDAL's programs (Debian: gdal-bin, python3-gdal)")
    page = next(page for page in PAGES if page.name == "gis.md")
    for words in [
        words for block in blocks_of(page) if block.kind == "sh" and block.mark != "run" for words in block.commands
    ]:
        if words[0] == "prithvi":
            assert prithvi(*words[1:]).code == 0
            continue
        program = shutil.which(words[0]) or shutil.which(f"{words[0]}.py")
        assert program is not None, words[0]
        done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    with rasterio.open("maps/scene.tif") as made, rasterio.open("maps/scene_confidence.tif") as confidence:
        expected = (made.read(1) == 1) & (confidence.read(1) >= 200)
    with rasterio.open("sure_water.tif") as sure:
        assert np.array_equal(sure.read(1) == 1, expected)
    assert list(desk.glob("tiles/*/*/*.png"))


def test_the_readme_s_commands_on_maps_and_its_error_are_as_printed(desk: Path, prithvi: Callable[..., Answer]) -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    (desk / "scenes").mkdir()
    for name in ("scene.tif", "next.tif"):
        (desk / name).rename(desk / "scenes" / name)
    commands = [shlex.split(line) for line in lines if line.startswith("    prithvi map ")]
    assert len(commands) == 3
    for _, *words in commands:
        scenes = sorted(map(str, Path().glob("scenes/*.tif")))
        answer = prithvi(*[each for word in words for each in (scenes if word == "scenes/*.tif" else [word])])
        assert answer.code == 0, answer.err
    assert {"my_scene.tif", "scene.tif", "next.tif", "scene_zones.csv"} <= {
        path.name for path in Path("maps").iterdir()
    }
    start = next(number for number, line in enumerate(lines) if line.startswith("    Error: "))
    with rasterio.open("my_scene.tif", "r+") as raster:
        raster.descriptions = [""] * raster.count
    answer = prithvi("map", "demo/model", "my_scene.tif", "-o", "maps")
    assert answer.code == 2
    assert answer.err.split() == " ".join(lines[start : lines.index("", start)]).split()
