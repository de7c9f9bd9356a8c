"""Class numbers are the label files' values, from the labels to every file of a map and to its areas."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
import yaml
from shapely.geometry import Point, box

import prithvi as package
from prithvi.catalog.folders import folder_of
from prithvi.chips.recipes import store_of_dataset
from prithvi.modelio import open_folder, save
from prithvi.modelio.program import export
from prithvi.plot.result_plots import _entries
from tests.conftest import Answer, small_task

Cli = Callable[..., Answer]
Write = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:The number of training batches")
GRID = rasterio.Affine(30, 0, 600_000, 0, -30, 4_200_000)
DAY = ("--date", "2022-05-25")
LAND, WATER = 2500, 300
"""Reflectance x 10,000 in every band."""


def scene_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(6, 64, 64) pixels, dark where there is water, and (64, 64) bool of that; about a third is water."""
    generator = np.random.default_rng(seed)
    water = np.zeros((64, 64), bool)
    for row, column in generator.integers(0, 3, (5, 2)) * 16:
        water[row : row + 20, column : column + 20] = True
    return np.where(water, WATER, LAND)[None] + generator.integers(-90, 90, (6, 64, 64)), water


def folder(tmp_path: Path, write_tif: Write, values: dict[str, int], dtype: str = "uint8") -> dict[str, Any]:
    """Six chips with masks that hold `values`, and their description; water stands first in it, land second."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(6):
        pixels, water = scene_of(number)
        write_tif(pixels.astype(np.int16), f"images/{number}.tif", names=None, transform=GRID)
        mask = np.where(water, values["water"], values["land"]).astype(dtype)
        write_tif(mask[None], f"masks/{number}.tif", names=None, transform=GRID)
    for part, some in (("train", "0 1 2 3"), ("val", "4"), ("test", "5")):
        (tmp_path / f"{part}.txt").write_text("\n".join(some.split()) + "\n")
    return {
        "image": "images/{id}.tif", "label": "masks/{id}.tif", "sensor": "hls-s30",
        "bands": ["blue", "green", "red", "nir_narrow", "swir_1", "swir_2"],
        "classes": [
            {"value": values["water"], "name": "water", "color": "0000FF"},
            {"value": values["land"], "name": "land", "color": "00FF00"},
        ],
        "lists": {part: f"{part}.txt" for part in ("train", "val", "test")}, "mean": [1500] * 6, "std": [900] * 6,
    }  # fmt: skip


def fit(prithvi: Cli, tmp_path: Path, data: dict[str, Any], *more: object) -> Answer:
    settings = {
        "trainer": {
            "max_epochs": 8, "accelerator": "cpu", "logger": False, "default_root_dir": str(tmp_path / "run"),
            "enable_progress_bar": False, "enable_model_summary": False,
            "callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                           "init_args": {"monitor": "val/mIoU", "mode": "max"}}],
        },
        "data": {"class_path": "prithvi.data.ChipDataModule",
                 "init_args": {"crop": 32, "batch_size": 2, "num_workers": 0, **data}},
        "model": {"class_path": "prithvi.tasks.SegmentationTask",
                  "init_args": {"head": "detail", "window": 32, "lr": 3e-3,
                                "model_options": {"embed_dim": 64, "depth": 1, "num_heads": 2}}},
    }  # fmt: skip
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    return prithvi("fit", "-c", tmp_path / "settings.yaml", *more)


def unseen(tmp_path: Path, write_tif: Write) -> tuple[Path, np.ndarray]:
    """A scene that nothing was trained on, and where its water is."""
    pixels, water = scene_of(99)
    return write_tif(pixels.astype(np.int16), "scene.tif", nodata=-9999, transform=GRID), water


def points(path: Path, values: np.ndarray, **classes: list[Any]) -> Path:
    """A place in the middle of every fourth pixel, with columns of classes made of its value there."""
    rows, columns = (axis.ravel() for axis in np.mgrid[1:64:4, 1:64:4])
    places = [Point(600_015 + 30 * column, 4_199_985 - 30 * row) for row, column in zip(rows, columns, strict=True)]
    frame = {key: [table[value] for value in values[rows, columns].tolist()] for key, table in classes.items()}  # type: ignore[call-overload]
    gpd.GeoDataFrame(frame, geometry=places, crs="EPSG:32630").to_file(path)
    return path


def test_maps_and_all_beside_them_have_the_numbers_of_the_labels(
    prithvi: Cli, tmp_path: Path, write_tif: Write
) -> None:
    """Water is 20 and land 10 in the masks, and water stands first among the model's outputs."""
    options = folder(tmp_path, write_tif, {"land": 10, "water": 20})
    answer = fit(prithvi, tmp_path, {"root": str(tmp_path), "folder": options})
    assert answer.code == 0, answer.err
    model = tmp_path / "run/model"
    plain = json.loads((model / "config.json").read_text())
    assert plain["classes"] == [
        {"value": 20, "name": "water", "color": "0000FF"}, {"value": 10, "name": "land", "color": "00FF00"},
    ]  # fmt: skip
    assert "| 20 | water | 0000FF |" in (model / "README.md").read_text()
    output = json.loads((model / "item.json").read_text())["properties"]["mlm:output"][0]
    assert [entry["value"] for entry in output["classification:classes"]] == [20, 10]

    scene, water = unseen(tmp_path, write_tif)
    zones = tmp_path / "zones.gpkg"
    gpd.GeoDataFrame(
        {"district": ["all"]}, geometry=[box(600_000, 4_198_080, 601_920, 4_200_000)], crs="EPSG:32630"
    ).to_file(zones)
    out = tmp_path / "out"
    answer = prithvi("map", model, scene, "-o", out, *DAY, "--confidence", "--zones", zones)
    assert answer.code == 0, answer.err
    with rasterio.open(out / "scene.tif") as raster:
        values, tags, colors = raster.read(1), raster.tags(), raster.colormap(1)
    assert set(np.unique(values)) == {10, 20}
    assert np.mean((values == 20) == water) > 0.9  # and not its opposite
    assert {key: text for key, text in tags.items() if key.startswith(("CLASS_", "LABEL_"))} == {
        "CLASS_10": "land", "CLASS_20": "water",
    }  # fmt: skip
    assert (colors[20][:3], colors[10][:3]) == ((0, 0, 255), (0, 255, 0))
    counts = {name: int((values == number).sum()) for number, name in ((20, "water"), (10, "land"))}
    style = ElementTree.parse(out / "scene.qml").getroot()
    assert {(entry.get("value"), entry.get("label")) for entry in style.iter("paletteEntry")} == {
        ("20", "water"), ("10", "land"),
    }  # fmt: skip
    categories = [entry.text for entry in ElementTree.parse(out / "scene.tif.aux.xml").getroot().iter("Category")]
    assert (categories[10], categories[20], len(categories)) == ("land", "water", 21)
    item = json.loads((out / "scene.json").read_text())
    told = item["assets"]["classes"]["classification:classes"]
    assert [(entry["value"], entry["description"], entry["color_hint"]) for entry in told] == [
        (10, "land", "00FF00"), (20, "water", "0000FF"),
    ]  # fmt: skip
    polygons = gpd.read_parquet(out / "scene.parquet")
    assert set(zip(polygons["class"], polygons["name"], strict=True)) == {(10, "land"), (20, "water")}
    for number, name in ((20, "water"), (10, "land")):
        whole = polygons.loc[polygons["class"] == number].area.sum()
        assert whole == pytest.approx(900 * counts[name])
    with (out / "scene_zones.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["class"], row["name"]) for row in rows} == {("10", "land"), ("20", "water")}
    shares = {row["name"]: float(row["share"]) for row in rows}
    assert shares["water"] == pytest.approx(counts["water"] / 64**2, rel=1e-3)

    numbers, names = {10: 10, 20: 20}, {10: "land", 20: "water"}
    reference = points(tmp_path / "points.gpkg", values, number=numbers, name=names)
    for column, read in (("number", "by number in the map (10 is land, 20 is water)"), ("name", "by name")):
        answer = prithvi("area", out / "scene.tif", "--reference", reference, "--column", column, "--json")
        found = json.loads(answer.out)
        assert (answer.code, found["overall_accuracy"]) == (0, 1.0)
        assert found["classes_read"].startswith(read) or found["classes_read"] == (
            "by number in the map (20 is water, 10 is land)"
        )
        areas = {row["name"]: row["area_m2"] for row in found["classes"]}
        assert areas["water"] == pytest.approx(900 * counts["water"], rel=2e-3)

    opened = package.open_scene(scene, dates=["2022-05-25"])
    result = package.map(opened, model)
    np.testing.assert_array_equal(result["class"].values, values)
    assert result["class"].attrs["flag_values"] == [20, 10]
    assert result["class"].attrs["flag_meanings"] == "water land"
    drawn = {(entry.value, entry.name, entry.color) for entry in _entries(result["class"], (), ())}
    assert drawn == {(10, "land", "00FF00"), (20, "water", "0000FF")}
    result.prithvi.to_cog(tmp_path / "array.tif")
    with rasterio.open(tmp_path / "array.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), values)
        assert raster.tags()["CLASS_20"] == "water"
    answer = prithvi("view", out / "scene.tif", "-o", tmp_path / "page.html")
    assert answer.code == 0, answer.err
    program = export(open_folder(model), tmp_path / "program.pt2")
    np.testing.assert_array_equal(package.map(opened, program)["class"].values, values)

    answer = prithvi("test", "-c", tmp_path / "settings.yaml", "--ckpt_path", model)
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "run/metrics.json").read_text())["test/mIoU"] > 0.8


def test_a_store_keeps_the_values_of_its_labels_for_the_maps(prithvi: Cli, tmp_path: Path, write_tif: Write) -> None:
    options = folder(tmp_path, write_tif, {"land": 10, "water": 20})
    store = store_of_dataset(folder_of(options, tmp_path), tmp_path, tmp_path / "chips.zarr")
    assert [(entry.value, entry.name) for entry in store.spec.classes] == [(20, "water"), (10, "land")]
    opened = xr.open_zarr(store.path, consolidated=True, chunks=None)
    about = opened["label"].attrs
    assert (about["flag_values"], about["flag_meanings"], about["label_values"]) == ([0, 1], "water land", [20, 10])
    assert set(np.unique(opened["label"].values)) == {0, 1}
    answer = fit(prithvi, tmp_path, {"root": str(store.path)}, "--trainer.max_epochs", "1")
    assert answer.code == 0, answer.err
    assert [entry.value for entry in open_folder(tmp_path / "run/model").classes] == [20, 10]
    shown = prithvi("data", "show", store.path)
    assert " 20 water" in shown.out


def test_values_that_no_map_can_hold_are_told_in_tags(prithvi: Cli, tmp_path: Path, write_tif: Write) -> None:
    """Masks of 0 and 255 are common, and 255 is no data in a map."""
    options = folder(tmp_path, write_tif, {"land": 255, "water": 0})
    answer = fit(prithvi, tmp_path, {"root": str(tmp_path), "folder": options}, "--trainer.max_epochs", "1")
    assert answer.code == 0, answer.err
    assert "maps of this model have 0 for water (labels: 0), 1 for land (labels: 255)" in answer.out
    scene, _ = unseen(tmp_path, write_tif)
    model = open_folder(tmp_path / "run/model")
    assert [(entry.value, entry.label) for entry in model.classes] == [(0, 0), (1, 255)]
    answer = prithvi("map", tmp_path / "run/model", scene, "-o", tmp_path / "out", *DAY)
    assert answer.code == 0, answer.err
    with rasterio.open(tmp_path / "out/scene.tif") as raster:
        assert {key: text for key, text in raster.tags().items() if key.startswith(("CLASS_", "LABEL_"))} == {
            "CLASS_0": "water", "CLASS_1": "land", "LABEL_VALUE_0": "0", "LABEL_VALUE_1": "255",
        }  # fmt: skip
    values = np.zeros((64, 64), np.uint8)
    values[:, 30:] = 1
    with rasterio.open(tmp_path / "out/scene.tif") as raster, rasterio.open(
        tmp_path / "map.tif", "w", **{**raster.profile, "driver": "GTiff"}
    ) as changed:  # fmt: skip
        changed.update_tags(**raster.tags())
        changed.write(values, 1)
    reference = points(tmp_path / "points.gpkg", values, number={0: 0, 1: 255})
    answer = prithvi("area", tmp_path / "map.tif", "--reference", reference, "--column", "number")
    assert answer.code == 0, answer.err
    assert "overall accuracy 1.00" in answer.out
    assert "read by value in the labels (0 is water, 255 is land)" in answer.out


@pytest.mark.parametrize("values", [[0, 300], [-1, 5], [255, 7]])
def test_a_value_below_0_or_above_254_numbers_all_classes_by_their_place(values: list[int]) -> None:
    model = small_task(values=values).fitted()
    assert [entry.value for entry in model.classes] == [0, 1]
    assert [entry.label for entry in model.classes] == values


def test_a_folder_that_an_older_version_wrote_opens_as_it_was(model_folder: Path, tmp_path: Path) -> None:
    """The JSON as earlier versions wrote it: class numbers are places, and nothing says what the labels had."""
    made = save(open_folder(model_folder), tmp_path / "old")
    plain = json.loads((made / "config.json").read_text())
    assert plain["classes"] == [
        {"value": 0, "name": "land", "color": "E8E4D0"}, {"value": 1, "name": "water", "color": "2B6CB0"},
    ]  # fmt: skip
    fitted = open_folder(made)
    assert [(entry.value, entry.label) for entry in fitted.classes] == [(0, None), (1, None)]
    # A model of today with places for numbers writes the same file, so that older versions open it, too.
    assert small_task(values=[0, 1]).fitted().classes == fitted.classes


def test_damaged_class_numbers_are_refused_by_name(model_folder: Path, tmp_path: Path) -> None:
    made = save(open_folder(model_folder), tmp_path / "model")
    plain = json.loads((made / "config.json").read_text())
    for values in ([3, 3], [0, 255], [0, -1], [0, 1.5]):
        for entry, value in zip(plain["classes"], values, strict=True):
            entry["value"] = value
        (made / "config.json").write_text(json.dumps(plain))
        with pytest.raises(package.errors.ConfigError, match=r"config\.json: class values must be different whole"):
            open_folder(made)


def test_the_numbers_are_those_of_the_labels_on_every_way_to_an_answer() -> None:
    """The one place that turns outputs into numbers: without rows, without data, and for any order."""
    from prithvi.mapping.score_values import values_of
    from prithvi.mapping.sliding_window import BlendedRows

    model = small_task(values=[20, 10]).fitted().mappable()
    scores = torch.tensor([[[0.0, 1.0, 5.0]], [[1.0, 0.0, 0.0]]])
    rows = BlendedRows(0, scores, np.array([[True, True, False]]))
    assert values_of(model, rows)["class"].tolist() == [[10, 20, 255]]
