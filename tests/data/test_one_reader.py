"""What is trained on is what is mapped: every kind of file gives the same pixels to both."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from prithvi.bands import PRITHVI_BANDS
from prithvi.catalog import LabelClass, folder_layout
from prithvi.catalog.folders import folder_of
from prithvi.data import Chip, ChipDataset
from prithvi.errors import ConfigError, DatasetError
from prithvi.scenes import conform, open_scene, read

Write = Callable[..., Path]
PLACE = from_origin(600_000, 4_200_000, 30, 30)
CLASSES = [LabelClass(0, "land", "E8E4D0")]


def differing(six: np.ndarray, write: Write) -> Path:
    path = write((six * np.array([1, 2, 1, 1, 1, 1])[:, None, None] + 500).astype(np.int16), scale=None)
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = [1e-4, 5e-5, 1e-4, 1e-4, 1e-4, 1e-4], [-0.05, -0.025] + [-0.05] * 4
    return path


def masked(six: np.ndarray, write: Write) -> Path:
    path = write(six)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as raster:
        raster.write_mask(np.arange(64 * 64).reshape(64, 64) > 90)
    return path


def with_alpha(six: np.ndarray, write: Write) -> Path:
    path = write(np.concatenate([six, np.where(np.arange(64) > 5, 255, 0)[None, None].repeat(64, 1)]).astype(np.int16))
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [*raster.colorinterp[:6], ColorInterp.alpha]
    return path


def filled(six: np.ndarray, write: Write, value: float, dtype: str, **more: Any) -> Path:
    pixels = six.astype(dtype)
    pixels[:, 5:9, 10:20] = value
    return write(pixels, **more)


KINDS: dict[str, tuple[Callable[[np.ndarray, Write], Path], dict[str, Any]]] = {
    "plain": (lambda six, write: write(six), {}),
    "no tags": (lambda six, write: write(six, scale=None), {}),
    "unnamed": (lambda six, write: write(six, names=None), {}),
    "names in another order": (lambda six, write: write(six[::-1], names=PRITHVI_BANDS[::-1]), {}),
    "scale and offset by band": (differing, {}),
    "said scale": (lambda six, write: write((six / 2).astype(np.int16), scale=None), {"scale": 5000.0}),
    "said offset": (lambda six, write: write(six + 1000), {"offset": -1000.0}),
    "reflectance": (lambda six, write: write((six / 1e4).astype(np.float32), scale=None), {"scale": 1.0}),
    "mask": (masked, {}),
    "alpha": (with_alpha, {}),
    "nodata": (lambda six, write: filled(six, write, 7, "int16", nodata=7), {}),
    "said nodata": (lambda six, write: filled(six, write, 7, "int16"), {"nodata": 7}),
    "fill": (lambda six, write: filled(six, write, -32768, "int16"), {}),
    "fill of every band": (lambda six, write: filled(six, write, -1, "int16"), {}),
    "float fill": (lambda six, write: filled(six, write, 1e20, "float32"), {}),
    "infinite": (lambda six, write: filled(six, write, float("inf"), "float32"), {}),
    "unsigned fill": (lambda six, write: filled(six, write, 65535, "uint16"), {}),
}


@pytest.mark.filterwarnings("ignore:.*hls-s30 usually has")
@pytest.mark.parametrize("kind", KINDS)
def test_training_and_mapping_see_the_same_pixels(kind: str, six_bands: np.ndarray, write_tif: Write) -> None:
    make, said = KINDS[kind]
    path = make(six_bands[:, :64, :64], partial(write_tif, transform=PLACE))
    label = write_tif(np.zeros((1, 64, 64), np.uint8), "label.tif", names=None, transform=PLACE)
    layout = folder_layout(
        "{id}.tif", "{id}_l.tif", bands=PRITHVI_BANDS, sensor="hls-s30", classes=CLASSES,
        **{**said, **({"nodata": [said["nodata"]]} if "nodata" in said else {})},
    )  # fmt: skip
    sample = ChipDataset([Chip("a", path, label)], layout)[0]
    more = {} if kind != "unnamed" and kind != "alpha" else {"bands": list(PRITHVI_BANDS)}
    mapped = read(conform(open_scene(path, sensor="hls-s30", **said, **more), layout.contract), layout.contract)
    there = np.isfinite(mapped).all(axis=1)
    np.testing.assert_array_equal(sample["valid"], there)
    assert there.all() == (kind not in ("mask", "alpha") and "nodata" not in kind and "fill" not in kind and
                           kind != "infinite")  # fmt: skip
    seen = sample["image"].transpose(0, 1).to(torch.float32).numpy()
    np.testing.assert_array_equal(np.where(there[:, None], seen, 0), np.where(there[:, None], mapped, 0))
    np.testing.assert_allclose(np.where(there, seen[0], 0), np.where(there, six_bands[:, :64, :64], 0), atol=1.01)


def test_a_sentinel_2_folder_says_its_offset_or_is_asked(six_bands: np.ndarray, write_tif: Write) -> None:
    """Trained on 2,416 and mapped on 1,416 it would be."""
    path = write_tif(six_bands[:, :32, :32] + 1000, "T30SXG_20230501T105619_B02.tif", scale=None)
    label = write_tif(np.zeros((1, 32, 32), np.uint8), "label.tif", names=None)

    def sample(dates: tuple[dt.date, ...] | None = None, **said: Any) -> dict[str, Any]:
        options = {"image": "{id}.tif", "label": "{id}_l.tif", "bands": list(PRITHVI_BANDS), **said}
        plain = {**options, "sensor": "sentinel-2-l2a", "classes": [{"value": 0, "name": "land"}]}
        return ChipDataset([Chip("a", path, label, dates=dates)], folder_of(plain, Path("folder")))[0]

    for dates in (None, (dt.date(2023, 5, 1),)):  # the file's name says it, too
        with pytest.raises(DatasetError, match=r"after 2022-01-25.*say data\.folder\.offset: -1000"):
            sample(dates)
    found = sample(offset=-1000)
    np.testing.assert_array_equal(found["image"][:, 0], six_bands[:, :32, :32])
    assert found["temporal_coords"].tolist() == [[2023, 120]]
    np.testing.assert_array_equal(sample(offset=0)["image"][:, 0], six_bands[:, :32, :32] + 1000)
    np.testing.assert_array_equal(sample((dt.date(2020, 5, 1),))["image"][:, 0], six_bands[:, :32, :32] + 1000)
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = [1e-4] * 6, [-0.1] * 6
    np.testing.assert_allclose(sample()["image"][:, 0], six_bands[:, :32, :32], atol=0.01)
    with pytest.raises(ConfigError, match=r"data\.folder has no 'ofset': did you mean offset"):
        sample(ofset=0)
    with pytest.raises(DatasetError, match="a scale of 0"):
        sample(scale=0)
