"""What a configuration says of the training images, in both forms that TerraTorch's data modules take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prithvi.errors import ConfigError
from prithvi.modelio.terratorch_config import Given, TerraTorchRun

STEPS = [
    {"class_path": "albumentations.Resize", "init_args": {"height": 256, "width": 192}},
    {"class_path": "albumentations.RandomCrop", "init_args": {"height": 64, "width": 96}},
    {"class_path": "albumentations.pytorch.ToTensorV2"},
]
COMPOSED = {"class_path": "albumentations.Compose", "init_args": {"transforms": STEPS, "is_check_shapes": False}}


def run(transform: Any) -> TerraTorchRun:
    return TerraTorchRun(None, "", {}, "Sen1Floods11NonGeoDataModule", {"train_transform": transform})


@pytest.mark.parametrize("transform", [STEPS, COMPOSED], ids=["a list", "a Compose of it"])
def test_the_window_is_that_of_the_last_and_resized_images_have_no_resolution(transform: Any) -> None:
    assert run(transform).side(224) == 96
    given = Given(bands=["blue", "red"], mean=[1000.0, 900.0], std=[500.0, 400.0])
    assert run(transform).contract(Path("flood.ckpt"), None, given).resolution is None
    assert run(STEPS[1:]).contract(Path("flood.ckpt"), None, given).resolution == 10


@pytest.mark.parametrize("transform", [None, "default", {"class_path": "albumentations.Compose"}])
def test_where_nothing_is_said_nothing_is_taken(transform: Any) -> None:
    assert run(transform).side(224) == 224


def test_options_that_are_no_table_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"train_transform\.init_args must be a table of settings; it is \[64\]"):
        run({"class_path": "albumentations.Compose", "init_args": [64]}).side(224)
