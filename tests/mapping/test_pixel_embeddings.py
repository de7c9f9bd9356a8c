"""A vector of every pixel: the per-pixel branch, fused with the tokens of the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import prithvi
from prithvi.errors import ConfigError, ModelError
from prithvi.mapping import embed_scene
from prithvi.models import build
from prithvi.scenes import open_scene
from tests.mapping.test_embeddings import DAY, UTM, Write, read, tiny


def test_pixels_of_one_window_are_those_of_the_branch_by_hand(six_bands: np.ndarray, write_tif: Write) -> None:
    model, part = tiny(2, resolution=None), six_bands[:, 200:232, 300:332]
    with torch.no_grad():
        model.branch.fusion.gate.fill_(0.7)  # type: ignore[union-attr,operator]
    files = [write_tif(part, "a.tif"), write_tif(part[:, ::-1].copy(), "b.tif")]
    result = prithvi.embed(open_scene(files, dates=[DAY, "2019-10-01"]), model, pixels=True)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (model.contract.mean, model.contract.std))
    images = np.stack([(p.astype(np.float32).clip(0, 10_000) - mean) / std for p in (part, part[:, ::-1])], axis=1)
    # The middle of the window in degrees, and days of the year from 0.
    from rasterio.warp import transform as project

    (longitude,), (latitude,) = project("EPSG:32630", "EPSG:4326", [600_160], [4_199_840])
    dates = torch.tensor([[[2019.0, 260.0], [2019.0, 273.0]]])
    with torch.inference_mode():
        expected = model.pixel_features(torch.from_numpy(images)[None], dates, torch.tensor([[latitude, longitude]]))
    assert result["embedding"].shape == (2, 32, 32, 32)
    np.testing.assert_allclose(result["embedding"], expected[0].numpy(), rtol=2e-3, atol=2e-3)
    assert result.attrs["PRITHVI_PIXELS"] == "True"
    assert [str(day)[:10] for day in result["time"].values] == [DAY, "2019-10-01"]


def test_each_vector_lies_where_its_pixel_lies(six_bands: np.ndarray, write_tif: Write) -> None:
    scene = open_scene(write_tif(six_bands[:, :50, :70]), dates=[DAY])
    result = prithvi.embed(scene, tiny(), pixels=True)
    assert result["embedding"].shape == (1, 32, 50, 70)
    np.testing.assert_allclose(result["x"], scene["x"])
    np.testing.assert_allclose(result["y"], scene["y"])
    assert result.rio.transform() == UTM


def test_pixels_without_data_are_nan_and_files_hold_the_same(
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    holes = six_bands[:, :64, :96].copy()
    holes[:, 20:30, 40:50] = -9999
    scene = open_scene(write_tif(holes, nodata=-9999), dates=[DAY])
    expected = prithvi.embed(scene, tiny(), pixels=True)["embedding"].values
    assert np.isnan(expected[:, :, 20:30, 40:50]).all()
    assert np.isnan(expected).sum() == 32 * 100
    tif = embed_scene(tiny(), scene, tmp_path / "e.tif", pixels=True)
    np.testing.assert_array_equal(read(tif, (1, 32)), expected)
    store = embed_scene(tiny(), scene, tmp_path / "e.zarr", pixels=True)
    np.testing.assert_array_equal(xr.open_zarr(store)["embedding"].values, expected)


def test_the_command_writes_what_the_function_gives(
    prithvi: Callable[..., Any], six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    from prithvi.mapping import embed
    from prithvi.modelio import save_pretrained

    path = write_tif(six_bands[:, :64, :64])
    save_pretrained(tiny(), tmp_path / "model", {})
    answer = prithvi("embed", tmp_path / "model", path, "-o", tmp_path / "e.tif", "--pixels", "--date", DAY)
    assert (answer.code, answer.err.count("Error")) == (0, 0)
    assert answer.out.strip().endswith("a vector a pixel")
    expected = embed(open_scene(path, dates=[DAY]), tmp_path / "model", pixels=True)["embedding"]
    np.testing.assert_array_equal(read(tmp_path / "e.tif", (1, 32)), expected)


@pytest.mark.parametrize("options", [{"pooled": True}, {"layer": 0}])
def test_pixels_are_of_the_last_layer_alone(options: dict[str, Any], six_bands: np.ndarray, write_tif: Write) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :64]), dates=[DAY])
    with pytest.raises(ConfigError, match="leave out layer and pooled"):
        prithvi.embed(scene, tiny(), pixels=True, **options)


def test_a_model_without_a_branch_says_what_to_take_instead(six_bands: np.ndarray, write_tif: Write) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :64]), dates=[DAY])
    plain = build("prithvi_eo_tiny", img_size=32, depth=1, decoder_depth=1, resolution=None)
    with pytest.raises(ModelError, match="no per-pixel branch: take a vector a patch"):
        prithvi.embed(scene, plain, pixels=True)
    assert prithvi.embed(scene, plain)["embedding"].shape[1] == 256  # the remedy
    assert prithvi.embed(scene, tiny(), pixels=True)["embedding"].shape[1] == 32
