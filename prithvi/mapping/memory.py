"""What keeps the memory of long runs small, beside reading little at once."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import rasterio
import xarray as xr

from prithvi.scenes.pixels import row_bytes

GDAL_CACHE = 16_000_000
"""Bytes of file blocks that GDAL keeps beside those of the scene that is read."""
_MOST = 1_000_000_000
_TRIM, _MMAP, _THRESHOLD = -1, -3, 131_072
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, and the value that both begin with."""


def frugal(scene: xr.DataArray | None = None) -> rasterio.Env:
    """An environment with GDAL's memory for a row of a scene's blocks and little more.

    GDAL would keep a share of all memory in blocks, which a map from top to bottom never asks for again. And glibc's
    malloc, once it was asked for large arrays, would keep up to twice their size for others of that kind: setting its
    thresholds to what they begin with keeps it from raising them, here and later in this process.

    Args:
        scene: what is read; None where GDAL reads or writes something else.

    """
    _return_memory()
    return rasterio.Env(GDAL_CACHEMAX=min(GDAL_CACHE + (row_bytes(scene) if scene is not None else 0), _MOST))


@cache
def _return_memory() -> None:
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl has not
        if mallopt is not None:
            mallopt(_MMAP, _THRESHOLD)
            mallopt(_TRIM, _THRESHOLD)
