"""Small stores to stream from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prithvi.chips import ChipStore, StoreSpec
from tests.chips.conftest import CLASSES, sample_chips


@pytest.fixture
def store(six_bands: np.ndarray, tmp_path: Path) -> Callable[..., ChipStore]:
    """Makes a store of `count` chips of two dates, named after it; `edit` may change them."""

    def make(name: str = "a", count: int = 30, edit: Callable | None = None, **spec: object) -> ChipStore:
        chips = [
            dataclasses.replace(
                chip, sample=dataclasses.replace(chip.sample, name=f"{name}{number}", tile=f"t{number % 3}")
            )
            for number, chip in enumerate(sample_chips(six_bands, count))
        ]
        if edit is not None:
            chips = [edit(chip) for chip in chips]
        fields = {"frames": 2, "classes": CLASSES, "shard": 4, **spec}
        return ChipStore.create(tmp_path / f"{name}.zarr", StoreSpec(32, 32, **fields), chips)

    return make
