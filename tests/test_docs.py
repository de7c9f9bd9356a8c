"""What the pages print works: the code on maps runs, and every option of a printed command exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copytree
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import typer.main

import prithvi
from prithvi.cli import app
from prithvi.mapping import Products, vectorise
from tests.pages import PAGES, ROOT

PASSED_ON = ("fit", "test", "compare", "distil")
"""Verbs whose options are those of classes; configurations are tested in tests/end_to_end/test_presets.py."""


def code_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.S)


@pytest.fixture
def home(
    six_bands: np.ndarray,
    write_tif: Callable[..., Path],
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder to work in: scene.tif, runs/flood/model, county.geojson and districts.gpkg over parts of the scene."""
    write_tif(six_bands[:, :120, :150])
    copytree(model_folder, tmp_path / "runs" / "flood" / "model")
    county = shapely.Polygon([(600_105, 4_199_895), (601_295, 4_199_705), (600_395, 4_199_105)])
    place = gpd.GeoDataFrame({"name": ["the county"]}, geometry=[county], crs="EPSG:32630")
    place.to_file(tmp_path / "county.geojson")
    place.to_file(tmp_path / "districts.gpkg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_on_mapping_runs_as_printed(home: Path, six_bands: np.ndarray) -> None:
    found: list[dict[str, Any]] = [{}, {}]
    for block, names in zip(code_of("mapping.md"), found, strict=True):
        exec(block, names)
    flood = found[0]["flood"]
    assert flood["class"].chunks is not None
    np.testing.assert_array_equal(found[0]["first"], flood["class"][:50])
    assert {file.name for file in (home / "maps").iterdir()} == {
        "flood.tif", "flood.tif.aux.xml", "flood_confidence.tif", "flood.parquet", "flood.json", "ndwi.tif",
        "ndwi.tif.aux.xml",
    }  # fmt: skip
    whole = prithvi.map(found[0]["scene"], "runs/flood/model").compute()
    with rasterio.open("maps/flood.tif") as raster:
        part = raster.read(1)
        left, top = (raster.bounds.left - 600_000) / 10, (4_200_000 - raster.bounds.top) / 10
    there = whole["class"].isel(y=slice(int(top), int(top) + len(part)), x=slice(int(left), int(left) + part.shape[1]))
    inside = part != 255
    assert 0.3 < inside.mean() < 0.7
    np.testing.assert_array_equal(part[inside], there.values[inside])
    pixels = six_bands[:, :120, :150].astype(np.float32)
    with rasterio.open("maps/ndwi.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), pixels[1] > pixels[3])


def test_the_code_on_areas_and_products_runs_as_printed(home: Path) -> None:
    names: dict[str, Any] = {"model": prithvi.load("runs/flood/model")}
    names["scene"] = prithvi.open_scene("scene.tif", dates=["2022-05-31"])
    prithvi.map_scene(names["model"], names["scene"], "maps/flood.tif", products=Products(confidence=True))
    prithvi.map_scene(names["model"], names["scene"], "maps/biomass.tif")
    vectorise("maps/flood.tif", "maps/flood.parquet")
    for block in (*code_of("areas.md"), *code_of("products.md")):
        exec(block, names)
    assert set(gpd.read_parquet("flood.parquet")["name"]) == {"water"}
    assert names["table"]["zone_name"].tolist() == ["the county"] * 2
    assert {"flood_zones.csv", "flood_zones.parquet", "flood.json", "flood.qml", "biomass.qml"} <= {
        file.name for file in (home / "maps").iterdir()
    }


def test_the_code_on_models_runs_as_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = code_of("models.md")
    exec(block, {})
    assert capsys.readouterr().out.startswith("['land', 'water']")


@cache
def whole_command() -> Any:
    """`prithvi` with its verbs; made once, as it takes a tenth of a second."""
    return typer.main.get_command(app)


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "notebooks").glob("*.ipynb"))], ids=lambda page: page.name)
def test_every_option_of_a_printed_command_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    if page.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    lines = re.findall(r"^(?: {4}|\$ )?prithvi (.*)$", text, flags=re.M) + re.findall(r"`prithvi ([^`\n]*)`", text)
    for line in lines:
        words = line.partition("  #")[0].split()
        command: Any = whole_command()
        verb: list[str] = []
        of_all = {name: each for each in command.params for name in each.opts}
        while words and words[0] in of_all:  # what stands before a verb, with its value
            words = words[1 if of_all[words[0]].is_flag else 2 :]
        if words == ["--help"]:
            continue
        while words and hasattr(command, "commands") and words[0].rstrip(",") in command.commands:
            verb.append(words.pop(0).rstrip(","))
            command = command.commands[verb[-1]]
        assert verb or not words, f"{page.name}: prithvi {line}"
        if verb[:1] and verb[0] not in PASSED_ON:
            known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
            used = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
            assert used <= known | {"--help"}, f"{page.name}: prithvi {line}"


def test_every_option_that_the_page_on_mapping_names_is_one_of_prithvi_map() -> None:
    command: Any = whole_command()
    known = {name for each in command.commands["map"].params for name in each.opts}
    named = set(re.findall(r"--[a-z][a-z-]*", (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")))
    assert named <= known


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_what_a_page_leads_to_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    files = re.findall(r"`((?:docs|benchmarks|configs|tests)/[\w/.-]+\.\w+)`", text)
    missing = [name for name in links if not (page.parent / name).exists()]
    missing += [name for name in files if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.slow
def test_the_pages_become_a_site(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs comes with the extra 'docs'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    made = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert made.returncode == 0, made.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages <= {folder.name for folder in (tmp_path / "site").iterdir()}
    text = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("open_scene", "map_scene", "SegmentationTask", "ChipStore"):
        assert f"{name}</code>" in text or f">{name}<" in text, name
    assert not re.search(r"https?://fonts", text)
