"""Small chips out of the shipped flood sample, with a place and dates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import pytest

from prithvi.catalog.datasets import LabelClass
from prithvi.chips.spec import Chip, Sample, StoreSpec

CLASSES = (LabelClass(0, "land", "E8E4D0"), LabelClass(1, "water", "2B6CB0"))


@pytest.fixture
def spec() -> StoreSpec:
    return StoreSpec(32, 32, 2, classes=CLASSES, shard=4)


def sample_chips(six_bands: np.ndarray, count: int) -> list[Chip]:
    """The first n 32 x 32 chips of the sample, on two dates (the second mirrored), every third for validation."""
    made = []
    for number in range(count):
        row, column = divmod(number, 16)
        window = six_bands[:, row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        image = np.stack([window, window[:, ::-1]]).astype(np.int16)
        image[0, :, 0, : number % 5] = -9999
        fmask = np.full((2, 32, 32), 64, np.uint8)
        fmask[1, 3, : number % 7] = 255
        label = (window[1] > window[4]).astype(np.uint8)
        label[-1] = 255
        at = (30.0, 0.0, 600_000.0 + column * 960, 0.0, -30.0, 4_200_000.0 - row * 960)
        time = dt.datetime(2022, 5, 1, 10, 56, 21, tzinfo=dt.UTC)
        sample = Sample(
            f"c{number}", "EPSG:32630", at, 37.9, -1.8, (time, None), (f"HLS.{number}", ""), "30SXG",
            "val" if number % 3 == 0 else "train", (1.0, 0.875), (number % 5, 0), 0.96875,
        )  # fmt: skip
        made.append(Chip(image, sample, fmask, label))
    return made


@pytest.fixture
def chips(six_bands: np.ndarray) -> Callable[[int], list[Chip]]:
    return lambda count: sample_chips(six_bands, count)
