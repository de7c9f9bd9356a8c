"""Files that stay open from one read to the next, as GDAL forgets a file's blocks when it is closed."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from prithvi.errors import SceneError
from prithvi.files import fingerprint
from prithvi.scenes.file_states import states_of_rasters
from prithvi.scenes.paths import is_remote
from prithvi.scenes.remote import Answer, Kept, ask

_OPEN = 64
"""Files that a thread keeps open; of those on servers a process, and three dates of its bands may be asked at once."""
_HELD = 1_000_000_000
"""Bytes of blocks that the open files of all threads may hold, beside GDAL's cache; see `_block_of`."""
_Key = tuple[str, tuple[tuple[int, ...], ...]]
"""Path, and the state of the files behind it."""
_threads: weakref.WeakSet[_Thread] = weakref.WeakSet()


_FEW = 8
"""So many files behind one are looked at before every read; more, the tiles of a mosaic, once a second."""


class _Thread:
    """One that has files open, as long as it lives."""


class _Handles(threading.local):
    """The files on this machine that a thread has open.

    A forked process opens its own: with its parent's it would share one place in the file.
    """

    def __init__(self) -> None:
        self.process, self.thread = os.getpid(), _Thread()
        self.open: OrderedDict[_Key, rasterio.DatasetReader] = OrderedDict()
        self.held: dict[_Key, int] = {}
        """Bytes of the block that each of them holds."""
        self.behind: dict[str, list[str]] = {}
        """The files that each is read from: of a VRT, a subdataset, an archive others than its path."""
        self.looked: dict[str, tuple[float, _Key]] = {}
        """When the files behind one of many tiles were looked at, and what was found."""
        _threads.add(self.thread)

    def take(self, path: str) -> rasterio.DatasetReader | None:
        """The open file, if neither it nor a file behind it was written anew since."""
        # GDAL's handles share a position in the file with those of a parent process, so a forked worker starts without
        # any.
        if self.process != os.getpid():
            self.__init__()  # type: ignore[misc]
        raster = self.open.pop(self._key(path), None)
        if raster is None:  # what is opened anew may be read from other files
            self._forget(path)
        return raster

    def keep(self, path: str, raster: rasterio.DatasetReader) -> None:
        """Leaves it open; those that were used longest ago are closed where these are too many, or hold too much."""
        if path not in self.behind:
            self.behind[path] = list(states_of_rasters([path]))
        key, share = self._key(path), _HELD // len(_threads)
        self.open[key] = raster
        if key not in self.held:
            self.held[key] = _block_of(raster)
        held = sum(self.held[other] for other in self.open)
        while len(self.open) > 1 and (len(self.open) > _OPEN or held > share):
            old, other = self.open.popitem(last=False)
            held -= self.held.pop(old)
            self._forget(old[0])
            other.close()

    def _forget(self, path: str) -> None:
        self.behind.pop(path, None)
        self.looked.pop(path, None)

    def _key(self, path: str) -> _Key:
        files = self.behind.get(path, ())
        if len(files) > _FEW:
            at, known = self.looked.get(path, (-math.inf, (path, ())))
            if time.monotonic() < at + 1:
                return known
        found = path, tuple(tuple(fingerprint(file)) for file in files)
        if len(files) > _FEW:
            self.looked[path] = time.monotonic(), found
        return found


def _block_of(raster: rasterio.DatasetReader) -> int:
    """Bytes that GDAL (3.10) holds of an open file until it is closed: a block of all bands where they lie together."""
    if raster.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") not in ("PIXEL", "LINE"):
        return 0
    rows, columns = raster.block_shapes[0]
    return int(rows * columns * sum(np.dtype(dtype).itemsize for dtype in raster.dtypes))


class OnServers:
    """Open files on servers, which any thread may take: reads of them are dealt out to whichever thread is free.

    A file has as many as are asked at once, and the one that was used last is taken first, as GDAL remembers blocks for
    each of them.
    """

    def __init__(self, most: int) -> None:
        self.most, self.process = most, os.getpid()
        self.lock = threading.Lock()
        self.open: list[tuple[str, rasterio.DatasetReader]] = []
        """The one used last comes last."""

    def take(self, path: str) -> rasterio.DatasetReader | None:
        """An open file, if there is one that nobody uses."""
        if self.process != os.getpid():  # a forked process shares its parent's connections with it
            self.__init__(self.most)  # type: ignore[misc]
        with self.lock:
            for place in reversed(range(len(self.open))):
                if self.open[place][0] == path:
                    return self.open.pop(place)[1]
        return None

    def keep(self, path: str, raster: rasterio.DatasetReader) -> None:
        """Leaves it open; of too many the one that was used longest ago is closed."""
        with self.lock:
            self.open.append((path, raster))
            old = [self.open.pop(0)[1] for _ in range(len(self.open) - self.most)]
        for other in old:
            other.close()

    def close(self) -> None:
        """Closes all."""
        with self.lock:
            old, self.open = [raster for _, raster in self.open], []
        for raster in old:
            raster.close()


_handles, _on_servers = _Handles(), OnServers(_OPEN)


def of_file(
    path: str,
    question: Callable[[rasterio.DatasetReader], Answer],
    broken: str = "cannot be opened as a raster: it is damaged or of no known format.",
    keep: bool = True,
) -> Answer:
    """Asks a file, which then stays open to be read unless `keep` is False.

    Raises:
        SceneError: it cannot be asked; `broken` ends the sentence.

    """
    kept: Kept = _on_servers if is_remote(path) else _handles
    try:
        return ask(path, question, kept if keep else None)
    except (RasterioError, UnicodeDecodeError) as error:  # the second where a name or tag in it is no text
        raise SceneError(f"{path} {broken}") from error
