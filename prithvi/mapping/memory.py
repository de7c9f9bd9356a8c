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
_MALLOC = {"M_TRIM_THRESHOLD": (-1, 32_000_000), "M_MMAP_THRESHOLD": (-3, 32 * 1024**2), "M_ARENA_MAX": (-8, 1)}
"""glibc's numbers of these, and their values here."""


def frugal(scene: xr.DataArray | None = None) -> rasterio.Env:
    """An environment with GDAL's memory for a row of a scene's blocks and little more.

    GDAL would keep a share of all memory in blocks, which a map from top to bottom never asks for again. And a window's
    arrays are made and let go thousands of times: glibc's malloc would fetch most of them from the system each time,
    page by page, which takes a third of a heavy head's time, and keep a store of its own for every thread. Here, and
    later in this process, it keeps what was let go, up to 32 MB in one store for all.

    Args:
        scene: what is read; None where GDAL reads or writes something else.

    """
    _keep_little()
    return rasterio.Env(GDAL_CACHEMAX=min(GDAL_CACHE + (row_bytes(scene) if scene is not None else 0), _MOST))


@cache
def _keep_little() -> None:
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl has not
        if mallopt is not None:
            for number, value in _MALLOC.values():
                mallopt(number, value)
