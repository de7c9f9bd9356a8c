"""The scene of the mapping benchmarks: the shipped sample, repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin


def read_sample() -> Any:
    """(6, 512, 512) int16 of the shipped sample, in the order of `PRITHVI_BANDS`."""
    from prithvi.catalog import data_catalog

    with rasterio.open(data_catalog() / "sen1floods11/samples/S2Hand/Spain_7370579_S2Hand.tif") as raster:
        return raster.read([2, 3, 4, 9, 12, 13])


def write_scene(path: Path, height: int, width: int) -> None:
    """(6, height, width) int16, tiled and compressed, a strip at a time."""
    from prithvi.bands import PRITHVI_BANDS

    sample = read_sample()
    sample = np.tile(sample, (1, 1, -(-width // sample.shape[2])))[:, :, :width]
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 6, "dtype": "int16", "tiled": True,
               "compress": "deflate", "crs": "EPSG:32630", "transform": from_origin(6e5, 4.2e6, 10, 10)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        for row in range(0, height, sample.shape[1]):
            rows = min(sample.shape[1], height - row)
            raster.write(sample[:, :rows], window=rasterio.windows.Window(0, row, width, rows))
        raster.descriptions = PRITHVI_BANDS
        raster.scales = [1e-4] * 6
