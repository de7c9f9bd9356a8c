"""What is typed in the first hour and is wrong: each is told in one sentence, and what that says to do works."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.rio.main import main_group

from prithvi.catalog.sensors import SENSORS
from prithvi.report.result_sheets import area_texts
from tests.conftest import SPAIN, Answer
from tests.faults.test_bad_input import refused
from tests.pages import ROOT

Cli = Callable[..., Answer]
OPTIONS = ("--sensor", "sentinel-2-l1c", "--date", "2019-09-18")


@pytest.fixture
def desk(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with demo/model and scene.tif, 80 x 80 pixels of the shipped chip; no hub is in reach."""
    shutil.copytree(model_folder, tmp_path / "demo" / "model")
    with rasterio.open(SPAIN) as chip:
        profile = chip.profile | {"width": 80, "height": 80}
        with rasterio.open(tmp_path / "scene.tif", "w", **profile) as scene:
            scene.write(chip.read(window=((0, 80), (0, 80))))
            scene.descriptions = chip.descriptions
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_misspelt_folder_of_a_model_is_not_looked_for_on_the_hub(desk: Path, prithvi: Cli) -> None:
    answer = prithvi("map", "demo/modle", "scene.tif", "-o", "maps", *OPTIONS)
    refused(answer, "no demo/modle here", "did you mean demo/model?", "demo/modle@main asks the hub")
    assert prithvi("map", "demo/model", "scene.tif", "-o", "maps", *OPTIONS).code == 0
    refused(prithvi("map", "demo/modle@main", "scene.tif", "-o", "maps"), "config.json of demo/modle at main")
    refused(prithvi("map", "nobody/model", "scene.tif", "-o", "maps"), "no folder nobody/model here", "hub")


def test_the_folder_around_a_model_leads_to_it(desk: Path, prithvi: Cli) -> None:
    refused(prithvi("map", "demo", "scene.tif", "-o", "maps"), "demo holds no weights file", "mean demo/model?")


def test_a_scene_in_the_model_s_place_is_called_no_model(desk: Path, prithvi: Cli) -> None:
    answer = prithvi("map", "scene.tif", "demo/model", "-o", "maps")
    refused(answer, "scene.tif is no model", "a scene stands after the model")
    assert "weights but not their shape" not in answer.err


def test_a_picture_is_no_scene_and_a_raster_without_a_place_gets_one(desk: Path, prithvi: Cli) -> None:
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save("flood.png")
    answer = prithvi("map", "demo/model", "flood.png", "-o", "maps")
    refused(answer, "flood.png", "no coordinate reference system", "this picture was drawn from")
    assert "edit-info" not in answer.err
    folder = Path("my scenes")  # whose name has to be quoted
    folder.mkdir()
    with rasterio.open(shutil.copy("scene.tif", folder / "bare.tif")) as scene:
        profile, pixels, names = scene.profile, scene.read(), scene.descriptions
    where = str(profile.pop("crs"))
    with rasterio.open(folder / "bare.tif", "w", **profile) as scene:
        scene.write(pixels)
        scene.descriptions = names
    answer = prithvi("map", "demo/model", folder / "bare.tif", "-o", "maps", *OPTIONS)
    refused(answer, "no coordinate reference system", "rio edit-info")
    command = answer.err.partition("write it with '")[2].strip().removesuffix("'.").replace("EPSG:...", where)
    assert main_group.main(shlex.split(command)[1:], standalone_mode=False) in (None, 0)
    assert prithvi("map", "demo/model", folder / "bare.tif", "-o", "maps", *OPTIONS).code == 0


def test_a_map_is_not_mapped_again(desk: Path, prithvi: Cli) -> None:
    assert prithvi("map", "demo/model", "scene.tif", "-o", "maps", *OPTIONS).code == 0
    refused(prithvi("map", "demo/model", "maps/scene.tif", "-o", "again"), "'class' is that of a map", "was mapped")


@pytest.mark.filterwarnings("ignore:.* is SR, and the model", "ignore:.* has pixels of")
def test_one_band_of_a_folder_leads_to_all_of_them(desk: Path, prithvi: Cli) -> None:
    folder = Path("LC08_L2SP_200033_20190918_20190925_02_T1")
    folder.mkdir()
    with rasterio.open("scene.tif") as scene:
        profile = scene.profile | {"count": 1}
        for number, at in zip(range(2, 8), (2, 3, 4, 9, 12, 13), strict=True):
            with rasterio.open(folder / f"{folder}_SR_B{number}.TIF", "w", **profile) as band:
                band.write((scene.read(at) / 0.275 + 7273).astype(profile["dtype"]), 1)  # reflectance as Landsat's
    band = folder / f"{folder}_SR_B3.TIF"
    copied = shutil.copy(band, "green.tif")
    refused(prithvi("map", "demo/model", copied, "-o", "maps"), "1 band without a name", "folder", "--together")
    assert prithvi("map", "demo/model", folder, "-o", "maps").code == 0
    assert prithvi("map", "demo/model", *sorted(folder.iterdir()), "--together", "-o", "maps").code == 0


def test_one_date_is_told_in_the_singular(desk: Path, prithvi: Cli) -> None:
    refused(prithvi("fill", "scene.tif", "-o", "filled", *OPTIONS), "has 1 date, ", "two dates or more")


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_help_of_a_training_begins_with_what_to_type(verb: str, prithvi: Cli) -> None:
    answer = prithvi(verb, "--help")
    said = " ".join(answer.out.split())
    assert (answer.code, answer.err) == (0, "")
    assert "-c configs/flood.yaml --data.root DIR" in said
    assert "See `lightning" not in said
    for option in ("--model.help SegmentationTask", "--data.help ChipDataModule"):
        assert option in said
        told = prithvi(verb, *option.split())
        assert told.code == 0, told.err
        assert "Help for" in told.out


def test_every_sensor_is_named_by_the_help_and_the_page(prithvi: Cli) -> None:
    told = re.sub(r"-\s+", "-", prithvi("map", "--help").out)  # names are broken at their hyphens
    page = (ROOT / "docs" / "sensors.md").read_text("utf-8")
    assert [name for name in SENSORS if f"`{name}`" not in page or name not in told] == []


def test_areas_of_a_legend_are_in_one_unit() -> None:
    assert area_texts([14_600_000, 6_012_000, 120, 0]) == ["14.6 km²", "6.01 km²", "< 0.001 km²", "0 km²"]
    assert area_texts([150_000, 1_234]) == ["15 ha", "0.123 ha"]
    assert area_texts([99_000.4]) == ["99,000 m²"]
    assert area_texts([]) == []
