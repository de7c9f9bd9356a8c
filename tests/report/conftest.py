"""A map and a filled series to make pages of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Answer

Write = Callable[..., Path]


@pytest.fixture
def flood(write_tif: Write, six_bands: np.ndarray, model_folder: Path, prithvi: Callable[..., Answer]) -> Path:
    """A map of the sample's upper left corner, with its confidence; the scene lies beside its folder."""
    scene = write_tif(six_bands[:, :120, :150])
    folder = scene.parent / "maps"
    answer = prithvi("map", model_folder, scene, "-o", folder, "--date", "2022-05-31", "--confidence")
    assert answer.code == 0, answer.err
    return folder / "scene.tif"


@pytest.fixture
def filled(write_tif: Write, six_bands: np.ndarray, prithvi: Callable[..., Answer]) -> Path:
    """Two dates, a hole in the first."""
    first = six_bands[:, :96, :96].copy()
    first[:, 20:60, 30:70] = -9999
    files = [write_tif(first, "a.tif", nodata=-9999), write_tif(six_bands[:, :96, 4:100], "b.tif", nodata=-9999)]
    folder = files[0].parent / "filled"
    dates = ("--date", "2022-05-01", "--date", "2022-05-17")
    answer = prithvi("fill", "--method", "nearest", *files, "-o", folder, *dates, "--no-uncertainty")
    assert answer.code == 0, answer.err
    return folder
