"""GDAL's memory of decoded blocks, as small as the work at hand allows.

By itself GDAL keeps a twentieth of all memory for them, whatever is read: of files read from top to bottom most
of it is never asked for again. A `rasterio.Env(GDAL_CACHEMAX=...)` within another one, of the caller's, would not give
the bound back (rasterio 1.4.4, `findings/rasterio_inner_env_keeps_its_cache.sh`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from rasterio.env import get_gdal_config, set_gdal_config

_lock = Lock()
_needs: list[int] = []
_before = 0


@contextmanager
def room_for(needed: int) -> Iterator[None]:
    """Bounds GDAL's cache to what all work in such a context needs, on whichever threads; never above what it was.

    The bound is of the process and goes when the last context ends.

    Args:
        needed: bytes of blocks that will be asked for again.

    """
    global _before
    with _lock:
        if not _needs:
            _before = int(get_gdal_config("GDAL_CACHEMAX"))
        _needs.append(needed)
        _bound()
    try:
        yield
    finally:
        with _lock:
            _needs.remove(needed)
            _bound()


def _bound() -> None:
    set_gdal_config("GDAL_CACHEMAX", min(_before, sum(_needs)) if _needs else _before)
