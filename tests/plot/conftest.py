"""What is drawn, and a clean slate after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from prithvi.scenes import open_scene


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def scene(six_bands: np.ndarray, write_tif: Callable[..., Path]) -> xr.DataArray:
    """(1, 6, 60, 80) in UTM, upper left at 600,000, 4,200,000, pixels of 10 m; ten rows without data."""
    pixels = six_bands[:, 40:100, 200:280].copy()
    pixels[:, :10] = -9999
    return open_scene(write_tif(pixels, nodata=-9999), dates=["2019-09-18"])


def drawn(ax: plt.Axes) -> np.ndarray:
    """The array of an Axes' one image."""
    (image,) = ax.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def texts(ax: plt.Axes) -> list[str]:
    """Of a legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]
