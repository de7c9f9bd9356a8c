"""The networks that find clouds: windows of a scene give what their own package gives; another package is refused."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import MissingExtraError, ModelError
from prithvi.mapping import mask_scene
from prithvi.mapping.maskproducts import CLEAR, CLOUDY, SHADOWED
from prithvi.modelio import cloud_networks
from prithvi.modelio.cloud_networks import ACCEPTED, CLASSES, cloud_network, step_for
from tests.conftest import SPAIN, needs_clouds

LABEL = SPAIN.parents[1] / "LabelHand" / SPAIN.name.replace("S2Hand", "LabelHand")
NAMES = ["blue", "green", "red", "nir", "swir16", "swir22"]
SIDE, STRIDE, SHIFT = 460, 204, 51
"""Two windows of 256 pixels along each axis, every 204 pixels as the package takes them, and how far it begins them
outside of an image."""
ALONE = slice(256, 408)
"""Rows, and columns, under one window only: ours at 204 and that of the package, which sees the image from 51 on."""


def spain() -> xr.DataArray:
    scene = prithvi.open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0, dates="2019-09-18")
    return scene.isel(y=slice(0, SIDE), x=slice(0, SIDE)).compute()


def louisiana(shared: Path) -> xr.DataArray:
    scene = prithvi.open_scene(shared / "proteus_hls_s30_dswx")
    return scene.isel(y=slice(540, 540 + SIDE), x=slice(540, 540 + SIDE)).compute()


@pytest.fixture(autouse=True)
def opened_anew() -> Iterator[None]:
    """A network is opened once a process, whatever is installed by then."""
    cloud_network.cache_clear()
    yield
    cloud_network.cache_clear()


@needs_clouds
@pytest.mark.filterwarnings("ignore:.* has pixels of 8.87 m")
@pytest.mark.parametrize(
    ("level", "package_level"), [("TOA", "l1c"), pytest.param("SR", "l2a", marks=pytest.mark.slow)]
)
def test_windows_give_what_the_package_gives(level: str, package_level: str, request: Any) -> None:
    """Where one window of both sees a pixel the classes are the same, and nearly everywhere else."""
    from ukis_csmask.mask import CSmask

    scene = spain() if level == "TOA" else louisiana(request.getfixturevalue("shared"))
    model = cloud_network(level)
    accepted = scene.sel(band=[*PRITHVI_BANDS])
    ours = prithvi.map(accepted, model, stride=STRIDE, batch_size=2, device="cpu", accept=ACCEPTED)["class"].values
    assert (ours != 255).all()
    image = np.moveaxis(accepted.values[0], 0, -1).astype(np.float32) * np.float32(scene.attrs["gain"])
    package = CSmask(
        image[SHIFT:, SHIFT:].copy(), NAMES, product_level=package_level, providers=["CPUExecutionProvider"],
        intra_op_num_threads=1,
    )  # fmt: skip
    found = np.full(ours.shape, 255)
    found[SHIFT:, SHIFT:] = package.csm[..., 0]
    np.testing.assert_array_equal(ours[ALONE, ALONE], found[ALONE, ALONE])
    assert (ours == found)[SHIFT:, SHIFT:].mean() > 0.94  # mirrored edges, other blending
    if level == "SR":  # a place with all three
        assert set(np.unique(ours[ALONE, ALONE])) == {CLEAR, CLOUDY, SHADOWED}
        other = prithvi.map(accepted.assign_attrs(level="TOA"), cloud_network("TOA"), device="cpu")["class"].values
        assert (ours != other).mean() > 0.001


@needs_clouds
def test_a_network_is_a_predictor() -> None:
    """With bands, units, level and classes of its record; a copy that was pickled says the same."""
    model = cloud_network("SR")
    assert (model.window, model.frames, model.contract.bands, model.contract.level) == (256, 1, PRITHVI_BANDS, "SR")
    assert (model.contract.scale, model.contract.resolution) == (1.0, 30.0)
    assert [entry.value for entry in model.classes] == [CLEAR, CLOUDY, SHADOWED]
    assert [entry.name for entry in CLASSES] == ["clear", "cloud", "cloud shadow"]
    assert model.name.startswith("ukis-csmask 1.")
    assert model.name.endswith("model_6b_l2a")
    assert model.sha256 != cloud_network("TOA").sha256
    torch.manual_seed(0)
    images = torch.rand(1, 6, 1, 256, 256) * 0.3
    images[..., :40] = torch.nan
    scores = model.module(images)
    assert scores.shape == (1, 3, 256, 256)
    assert torch.isfinite(scores).all()
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.module(images), scores)


def test_squares_are_averaged_over_what_has_data() -> None:
    images = torch.arange(2 * 6 * 6, dtype=torch.float32).reshape(1, 2, 1, 6, 6)
    images[0, 0, 0, :3, :3] = torch.nan
    images[0, 1, 0, 0, 0] = torch.nan

    class Seen(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return given[:, :, 0]

    found = cloud_networks.Averaged(Seen(), 3)(images)
    assert found.shape == (1, 2, 6, 6)
    for band in range(2):
        for row in (0, 3):
            for column in (0, 3):
                square = images[0, band, 0, row : row + 3, column : column + 3]
                expected = torch.nanmean(square).expand(3, 3)
                torch.testing.assert_close(found[0, band, row : row + 3, column : column + 3], expected, equal_nan=True)


@needs_clouds
def test_finer_pixels_are_averaged_so_that_water_is_no_shadow(tmp_path: Path) -> None:
    """Pixels of 8.87 m in squares of 3 x 3: without that 79 % of this flood's water is called shadow, and 26 % of the
    land cloud or shadow, where there is no cloud.
    """
    scene = prithvi.open_scene(SPAIN, sensor="sentinel-2-l1c", offset=0, dates="2019-09-18")
    made = mask_scene(scene, tmp_path / "fine.tif")
    with rasterio.open(made.path) as raster, rasterio.open(LABEL) as truth:
        found, label, told = raster.read(1), truth.read(1), raster.tags()
    assert (found[label == 1] != CLEAR).mean() < 0.06
    assert (found[label == 0] != CLEAR).mean() < 0.01
    assert told["PRITHVI_MODEL"].endswith("model_6b_l1c, 3 x 3 pixels averaged")
    squares = found[:510, :510].reshape(170, 3, 170, 3)
    assert (squares == squares[:, :1, :, :1]).all()


def test_how_many_pixels_are_averaged() -> None:
    assert [step_for(size) for size in (60, 30, 20, 15, 10, 8.87, 3)] == [1, 1, 1, 2, 3, 3, 10]


@needs_clouds
def test_another_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose record names other bands, or has another form: its answers would be read wrongly."""
    found = importlib.util.find_spec("ukis_csmask")
    assert found is not None
    assert found.origin is not None
    real = json.loads(Path(found.origin).with_name("model_6b_l2a.json").read_text())
    monkeypatch.setattr(cloud_networks.importlib.resources, "files", lambda _: tmp_path)
    (tmp_path / "model_6b_l2a.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds no model_6b_l2a.json.*pip install --force-reinstall"):
        cloud_network("SR")
    real["data"]["dataset_statistics"]["band_names"].reverse()
    (tmp_path / "model_6b_l2a.json").write_text(json.dumps(real))
    with pytest.raises(ModelError, match="is not the one that is known: pip install"):
        cloud_network("SR")
    (tmp_path / "model_6b_l2a.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        cloud_network("SR")


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what to install, whichever of the two is missing."""
    import sys

    for name in ("onnxruntime", "ukis_csmask"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(MissingExtraError, match=r"finding clouds needs .*pip install 'prithvi\[clouds\]'"):
                cloud_network("SR")
