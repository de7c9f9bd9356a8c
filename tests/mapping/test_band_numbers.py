"""`--bands` with numbers, as the refusal of bands without names says, of the verbs that need no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from prithvi.bands import PRITHVI_BANDS
from tests.conftest import SPAIN, Answer, needs_clouds

Cli = Callable[..., Answer]
PLACES = (1, 2, 3, 8, 11, 12)


@pytest.fixture
def words(write_tif: Callable[..., Path]) -> tuple[np.ndarray, list[object]]:
    """Two dates of 13 bands without names, of which the six are (date, band, y, x), and what is said of them."""
    with rasterio.open(SPAIN) as raster:
        pixels = raster.read(window=((160, 224), (160, 224)))
    pixels = np.stack([pixels, np.roll(pixels, 7, axis=2)])
    files = [write_tif(date, f"{number}.tif", names=None) for number, date in enumerate(pixels)]
    said = ["--date", "2019-09-18", "--date", "2019-09-28", "--scale", 10000, "--offset", 0, "--level", "TOA"]
    return pixels[:, list(PLACES)], [*files, *said]


@pytest.mark.parametrize("verb", ["fill", "composite", pytest.param("mask", marks=needs_clouds)])
def test_numbers_are_of_the_usual_six(
    verb: str, words: tuple[np.ndarray, list[object]], prithvi: Cli, tmp_path: Path
) -> None:
    pixels, said = words
    line = [verb, *said, "-o", tmp_path / "out", *(["--together"] if verb == "mask" else [])]
    refused = prithvi(*line)
    assert refused.code == 2
    assert f"say which are {', '.join(PRITHVI_BANDS)}: --bands with the number in the file of each" in refused.err
    few = prithvi(*line, "--bands", "2,3,4,9")
    assert "--bands has 4 numbers; wanted are 6, one each for blue, green, red," in few.err
    assert few.err.rstrip().endswith("or the names of all bands.")
    answer = prithvi(*line, "--bands", "2,3,4,9,12,13")
    assert answer.code == 0, answer.err
    made = sorted((tmp_path / "out").glob("2019-09-??*.tif"))
    assert made
    if verb == "mask":
        return
    with rasterio.open(made[0]) as raster:
        assert raster.descriptions == PRITHVI_BANDS
        np.testing.assert_array_equal(raster.read(), pixels[0])
