"""What keeps the memory of long runs small, beside reading little at once."""

from __future__ import annotations

import ctypes
import sys

import rasterio
import xarray as xr

from prithvi.scenes.pixels import row_bytes

GDAL_CACHE = 16_000_000
"""Bytes of file blocks that GDAL keeps where it makes a product."""
_SPARE = 4_000_000
"""Bytes that it keeps beside a row of the scene's blocks."""
_MOST = 1_000_000_000
_MALLOC = {
    "M_MMAP_THRESHOLD": (-3, 32 * 1024**2),
    "M_TRIM_THRESHOLD": (-1, 128 * 1024**2),
    "M_TOP_PAD": (-2, 128 * 1024**2),  # more than a thread's 64 MB: these are kept, and what nobody touches takes none
    "M_ARENA_MAX": (-8, 1),
}
"""glibc's numbers of these, and their values here."""


def frugal(scene: xr.DataArray | None = None) -> rasterio.Env:
    """An environment with GDAL's memory for a row of a scene's blocks and little more.

    GDAL would keep a share of all memory in blocks, which a map from top to bottom never asks for again. And a window's
    arrays are made and let go thousands of times: glibc's malloc would fetch most of them from the system each time,
    page by page, which takes a third of a heavy head's time, and make a store of its own for every thread. Here, and
    later in this process, it keeps what was let go. So whatever lasts longer than a window is made once and used
    again: an array that is made anew for every row would sooner or later lie between all others. What was let go before
    goes back to the system.

    Args:
        scene: what is read; None where GDAL reads or writes something else.

    """
    _keep_windows()
    return rasterio.Env(GDAL_CACHEMAX=min(_SPARE + row_bytes(scene), _MOST) if scene is not None else GDAL_CACHE)


def _keep_windows() -> None:
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):  # glibc has them, musl has not
            library.malloc_trim(0)
            for number, value in _MALLOC.values():
                library.mallopt(number, value)
