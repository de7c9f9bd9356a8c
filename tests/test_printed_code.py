"""Fenced blocks of the README and docs/: run, or marked with why not (`<!-- not run: reason -->` before the block)."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import duckdb
import geopandas as gpd
import matplotlib
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml

from tests.conftest import SPAIN, Answer
from tests.test_docs import PAGES, home  # noqa: F401 - a fixture

FENCED = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]*?) -->\n+)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", flags=re.M | re.S
)
APART = ("mapping.md", "areas.md", "products.md")
"""Pages whose code is run by tests of their own, which look at what comes out."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    kind: str
    code: str
    why: str | None
    """Why it is not run."""

    @property
    def commands(self) -> list[list[str]]:
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [Block(match["kind"], match["code"], match["why"]) for match in FENCED.finditer(text)]
    assert len(found) * 2 == len(re.findall(r"^```", text, flags=re.M)), f"{page.name}: a fence that is not closed"
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks_of(page):
        if block.why is not None:
            assert len(block.why.split()) >= 3, f"{page.name}: {block.why!r} is no reason"
        elif block.kind == "yaml":
            assert yaml.safe_load(block.code), f"{page.name}: {block.code}"
        elif block.kind not in ("python", "sql"):
            assert block.kind in ("", "sh"), f"{page.name}: nothing runs a block of {block.kind}"
            assert all(words[0] == "prithvi" for words in block.commands), f"{page.name}: nothing runs {block.code}"


@pytest.fixture
def desk(
    home: Path,  # noqa: F811
    prithvi: Callable[..., Answer],
    six_bands: np.ndarray,
    write_tif: Callable[..., Path],
) -> Path:
    """Where the pages' examples lie: those of `home`, next.tif, my_scene.tif with 13 bands, three dates with their
    clouds, demo/model, and a map with polygons.
    """
    copy(SPAIN, home / "my_scene.tif")
    write_tif(six_bands[:, 120:240, :150], "next.tif")
    copytree(home / "runs" / "flood" / "model", home / "demo" / "model")
    for number, name in enumerate("abc"):
        write_tif(six_bands[:, :64, number : number + 64], f"{name}.tif")
        cloud = np.zeros((1, 64, 64), np.uint8)
        cloud[0, 20 * number : 20 * number + 15, 10:40] = 1
        write_tif(cloud, f"{name}_clouds.tif", None, None)
    made = prithvi("map", "demo/model", "scene.tif", "-o", "maps", "--date", "2022-05-31")
    assert made.code == 0, made.err
    return home


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive", "ignore:More than 20 figures")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in APART and any(block.why is None for block in blocks_of(page))],
    ids=lambda page: page.name,
)
def test_code_runs_as_printed(page: Path, desk: Path, prithvi: Callable[..., Answer]) -> None:
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "printed"}
    answers: list[Any] = []
    for block in blocks_of(page):
        if block.why is None and block.kind == "python":
            exec(compile(block.code, page.name, "exec"), names)
        elif block.why is None and block.kind == "sql":
            answers.append(duckdb.sql(block.code).fetchall())  # in one session, as at its prompt
        elif block.why is None and block.kind in ("", "sh"):
            for words in block.commands:
                answer = prithvi(*words[1:])
                assert answer.code == 0, f"{page.name}: {' '.join(words)}: {answer.err}"
    matplotlib.pyplot.close("all")
    if page.name == "getting_started.md":
        assert (desk / "maps" / "flood.tif").is_file()
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
    for words in [words for block in blocks_of(page) if block.kind == "sh" for words in block.commands]:
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
