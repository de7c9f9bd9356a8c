"""How far overlapping windows differ, against every window run by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr

import prithvi as package
from prithvi import windows
from prithvi.errors import ConfigError
from prithvi.mapping import Products, map_scene
from prithvi.modelio.predictor import Predictor
from prithvi.report import view
from prithvi.scenes import Area, open_scene
from prithvi.tasks import RegressionTask
from tests.conftest import small_task

SIZE = 80
"""Rows and columns: windows of 32 start at 0, 16, 32 and 48."""


@pytest.fixture(scope="module")
def model() -> Predictor:
    found = small_task().fitted().mappable()
    found.temperature = 0.1  # random weights are hardly sure of anything
    return found


@pytest.fixture
def scene(six_bands: np.ndarray, write_tif: Callable[..., Path]) -> xr.DataArray:
    pixels = six_bands[:, 100 : 100 + SIZE, 200 : 200 + SIZE].copy()
    pixels[:, 40:44, 40:44] = -9999
    return open_scene(write_tif(pixels, nodata=-9999), sensor="sentinel-2-l1c", dates=["2019-09-18"])


def by_hand(model: Predictor, scene: xr.DataArray, meaning: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    """(values, windows, y, x): what each window says of each pixel, NaN outside of it."""
    pixels = torch.from_numpy(scene.values.astype(np.float32)).transpose(0, 1)[None]
    plan, said = windows.plan(SIZE, SIZE, 32), []
    for row in plan.rows:
        for column in plan.columns:
            part = (..., slice(row, row + 32), slice(column, column + 32))
            with torch.no_grad():
                values = meaning(model.module(pixels[part])[0])
            everywhere = np.full((len(values), SIZE, SIZE), np.nan)
            everywhere[part] = values
            said.append(everywhere)
    return np.stack(said, axis=1)


def test_it_is_the_standard_deviation_of_the_windows_probabilities(model: Predictor, scene: xr.DataArray) -> None:
    found = package.map(scene, model, disagreement=True).compute()["disagreement"].values
    said = by_hand(model, scene, lambda scores: (scores / 0.1).softmax(dim=0))
    number = np.isfinite(said[0]).sum(axis=0)
    with np.errstate(invalid="ignore"):
        expected = np.where(number > 1, np.nanstd(said[1], axis=0), np.nan)
    expected[40:44, 40:44] = np.nan  # without data
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.nanmax(found) > 0.02
    # A single window sees the corners, two the edges, and four the rest.
    assert np.isnan(found[:16, :16]).all()
    assert np.isnan(found[-16:, -16:]).all()
    assert np.isfinite(found[16:40]).all()


def test_it_changes_nothing_else_and_is_the_same_by_blocks_and_parts(
    model: Predictor, scene: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = package.map(scene, model, overlap=0.5).compute()
    whole = package.map(scene, model, disagreement=True).compute()  # windows that are compared overlap by half
    assert "disagreement" not in plain
    xr.testing.assert_identical(whole[["class", "confidence"]], plain)
    alone = package.map(scene, model, disagreement=True, batch_size=1).compute()
    np.testing.assert_allclose(alone["disagreement"], whole["disagreement"], atol=1e-6)
    x, y = scene.x.values, scene.y.values
    area = Area.box(*_degrees(scene, float(x[20]), float(y[70]), float(x[60]), float(y[30])))
    part = package.map(scene, model, disagreement=True, area=area).compute()
    known = part["class"].values != 255
    again = whole.sel(x=part.x, y=part.y)["disagreement"].values
    np.testing.assert_allclose(part["disagreement"].values[known], again[known], atol=1e-6)
    monkeypatch.setattr("prithvi.mapping.engine.ROWS", 24)
    blocks = package.map(scene, model, disagreement=True)
    assert blocks["disagreement"].chunks[0] == (24, 24, 24, 8)
    xr.testing.assert_identical(blocks.compute(), whole)


def _degrees(scene: xr.DataArray, *box: float) -> tuple[float, float, float, float]:
    from rasterio.warp import transform_bounds

    return transform_bounds(scene.rio.crs, "EPSG:4326", *box)


def test_its_file_stands_beside_the_map_and_is_read_back(model: Predictor, scene: xr.DataArray, tmp_path: Path) -> None:
    whole = package.map(scene, model, disagreement=True).compute()
    made = map_scene(model, scene, tmp_path / "map.tif", products=Products(disagreement=True, item=True))
    beside = tmp_path / "map_disagreement.tif"
    assert beside in made.files
    with rasterio.open(beside) as raster:
        stored, scale = raster.read(1), raster.scales[0]
        assert (raster.nodata, raster.descriptions[0], raster.profile["tiled"]) == (255, "disagreement", True)
        assert raster.tags()["PRITHVI_MODEL"] == model.name
    expected = whole["disagreement"].values
    assert (np.isnan(expected) == (stored == 255)).all()
    np.testing.assert_allclose(stored[stored != 255] * scale, expected[stored != 255], atol=0.5 / 250 + 1e-6)
    item = json.loads((tmp_path / "map.json").read_text(encoding="utf-8"))
    assert item["assets"]["disagreement"]["href"] == "./map_disagreement.tif"
    page = view(tmp_path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert '"label":"disagreement"' in page
    assert page.count("map_disagreement") == 0  # it is shown with its map and not as one

    whole.prithvi.to_cog(tmp_path / "again" / "map.tif", disagreement=True)
    with rasterio.open(tmp_path / "again" / "map_disagreement.tif") as raster:
        assert (raster.read(1) == stored).all()
    whole.prithvi.to_stac(tmp_path / "again" / "map.tif")
    again = json.loads((tmp_path / "again" / "map.json").read_text(encoding="utf-8"))
    assert set(again["assets"]) == {"classes", "disagreement"}
    with pytest.raises(ConfigError, match="no disagreement between windows"):
        package.map(scene, model).prithvi.to_cog(tmp_path / "other.tif", disagreement=True)


def test_an_interrupted_map_ends_in_the_same_disagreement(
    model: Predictor, scene: xr.DataArray, tmp_path: Path
) -> None:
    wanted: dict[str, Any] = {"products": Products(disagreement=True), "resume": True}
    whole = map_scene(model, scene, tmp_path / "whole" / "map.tif", **wanted)

    def stop(done: int, of: int) -> None:
        if done >= of // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_scene(model, scene, tmp_path / "map.tif", progress=stop, **wanted)
    assert not (tmp_path / "map.tif").exists()
    resumed = map_scene(model, scene, tmp_path / "map.tif", **wanted)
    beside = "map_disagreement.tif"
    assert resumed.path.with_name(beside).read_bytes() == whole.path.with_name(beside).read_bytes()


def test_of_a_quantity_it_is_in_its_unit(scene: xr.DataArray, tmp_path: Path) -> None:
    quantity = {"name": "biomass", "unit": "t/ha", "mean": 120.0, "std": 40.0}
    options = {"window": 32, "head": "light", "model_options": {"embed_dim": 64, "depth": 2, "num_heads": 2}}
    torch.manual_seed(0)
    contract = small_task().contract.to_dict()
    model = RegressionTask(quantity=quantity, contract=contract, **options).fitted().mappable()
    found = package.map(scene, model, disagreement=True).compute()
    said = by_hand(model, scene, lambda scores: scores * 40 + 120)
    inside = np.isfinite(found["disagreement"].values)
    np.testing.assert_allclose(
        found["disagreement"].values[inside], np.nanstd(said[0], axis=0)[inside], rtol=1e-3, atol=1e-3
    )
    assert found["disagreement"].attrs["units"] == "t/ha"
    map_scene(model, scene, tmp_path / "map.tif", products=Products(disagreement=True))
    with rasterio.open(tmp_path / "map_disagreement.tif") as raster:
        assert (raster.dtypes[0], raster.units[0]) == ("float32", "t/ha")
        np.testing.assert_array_equal(raster.read(1), found["disagreement"].values)
    page = view(tmp_path / "map.tif", tmp_path / "report.html").read_text(encoding="utf-8")
    assert '"label":"disagreement"' in page


def test_windows_that_do_not_overlap_cannot_disagree(model: Predictor, scene: xr.DataArray, tmp_path: Path) -> None:
    small = scene.isel(x=slice(0, 30), y=slice(0, 32))
    for part, stride in ((scene.isel(x=slice(0, 64), y=slice(0, 64)), 32), (small, None)):
        with pytest.raises(ConfigError, match=r"do not overlap.*leave out the disagreement"):
            package.map(part, model, disagreement=True, stride=stride)
        with pytest.raises(ConfigError, match=r"do not overlap.*leave out the disagreement"):
            map_scene(model, part, tmp_path / "m.tif", products=Products(disagreement=True), stride=stride)
    assert not list(tmp_path.glob("m*"))
    assert not windows.plan(64, 64, 32, 32).overlaps
    assert windows.plan(80, 64, 32, 32).overlaps  # the last row of windows ends where the scene does
