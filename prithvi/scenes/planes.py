"""One band of one date: where it stands in a file, and how it is read into floats with NaN where there is no data."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.errors import SceneError
from prithvi.scenes.headers import File
from prithvi.scenes.remote import ask
from prithvi.scenes.validity import Values

Answer = TypeVar("Answer")


_OPEN = 64
"""Files that a thread keeps open."""


@dataclass(frozen=True)
class Plane:
    """One band of one date."""

    path: str
    index: int
    """Band of the file, counted from 1."""
    missing: tuple[float, ...]
    """Values of pixels without data."""
    repeat: int = 1
    """How often each pixel of the file stands beside and below itself: nearest neighbours on a finer grid."""
    adjust: tuple[float, float] = (1.0, 0.0)
    """Factor and summand that bring values to the scene's scale."""
    masked: bool = False
    """Whether the file has a mask of the band beside its values."""
    alpha: int | None = None
    """A band of the file whose 0 means that a pixel has no data."""
    dtype: str = ""
    """Of the band; rasterio reads those of one type together."""


def plane_of(
    file: File, index: int, nodata: Sequence[float], repeat: int = 1, adjust: tuple[float, float] = (1.0, 0.0)
) -> Plane:
    """A band of a file with all that reading it right takes; see `Plane`."""
    missing = _of_type(nodata, np.dtype(file.dtypes[index - 1]))
    return Plane(file.path, index, missing, repeat, adjust, file.masked[index - 1], file.alpha, file.dtypes[index - 1])


def _of_type(values: Sequence[float], dtype: np.dtype[Any]) -> tuple[float, ...]:
    """The numbers among values that a type can hold, as it holds them: compared with those nothing is converted."""
    if dtype.kind not in "iu":
        return tuple(values)
    limits = np.iinfo(dtype)
    return tuple(int(value) for value in values if limits.min <= value <= limits.max and value == int(value))


def convert(
    parts: Sequence[Values], place: int, plane: Plane, into: npt.NDArray[np.floating[Any]], finite: bool
) -> None:
    """One band of what `read_planes` gave as floats, NaN where it is declared missing or, with `finite`, infinite."""
    stored, *masks = parts
    values = stored[place]
    into[...] = values
    if finite and values.dtype.kind == "f":
        into[~np.isfinite(values)] = np.nan
    for value in plane.missing:
        into[values == value] = np.nan
    for mask in masks:
        into[mask[place % len(mask)] == 0] = np.nan


def read_planes(raster: rasterio.DatasetReader, planes: Sequence[Plane], window: Window) -> list[Values]:
    """(band, y, x) values of an open file, then masks of all bands or of each, whose 0 means that there is no data."""
    # One call for all bands: files that interleave them decode each block once. Masks are asked for only where a header
    # says that there is one, as GDAL would make them up from nodata otherwise.
    indexes = [plane.index for plane in planes]
    alpha, masked = planes[0].alpha, [plane.masked for plane in planes]
    parts = [raster.read(indexes, window=window)]
    if alpha is not None:
        parts.append(raster.read([alpha], window=window))
    if any(masked):
        masks = raster.read_masks(indexes, window=window)
        masks[[not own for own in masked]] = 255
        parts.append(masks)
    return parts


def of_file(
    path: str,
    question: Callable[[rasterio.DatasetReader], Answer],
    broken: str = "cannot be opened as a raster: it is damaged or of no known format.",
) -> Answer:
    """Asks a file, which then stays open in this thread to be read.

    Raises:
        SceneError: it cannot be asked; `broken` ends the sentence.

    """
    try:
        return ask(path, question, _handles)
    except RasterioError as error:
        raise SceneError(f"{path} {broken}") from error


def read_window(path: str, planes: Sequence[Plane], window: Window) -> list[Values]:
    """`read_planes` of a file by its path.

    Raises:
        SceneError: it is damaged where it is read, or its server does not give it.

    """
    damaged = "is damaged or cut short: it opens, but pixels cannot be read."
    return of_file(path, lambda raster: read_planes(raster, planes, window), damaged)


class _Handles(threading.local):
    """The files that a thread has open: GDAL forgets a file's blocks when it is closed.

    A forked process opens its own: with its parent's it would share one place in the file.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.open: OrderedDict[tuple[str, int, int], rasterio.DatasetReader] = OrderedDict()

    def take(self, path: str) -> rasterio.DatasetReader | None:
        """The open file, if it was not written anew since."""
        # GDAL's handles share a position in the file with those of a parent process, so a forked worker starts without
        # any.
        if self.process != os.getpid():
            self.__init__()  # type: ignore[misc]
        return self.open.pop(self._key(path), None)

    def keep(self, path: str, raster: rasterio.DatasetReader) -> None:
        """Leaves it open."""
        self.open[self._key(path)] = raster
        while len(self.open) > _OPEN:
            self.open.popitem(last=False)[1].close()

    @staticmethod
    def _key(path: str) -> tuple[str, int, int]:
        try:
            state = Path(path).stat()
        except OSError:  # an address, a virtual file or a subdataset
            return path, 0, 0
        return path, state.st_size, state.st_mtime_ns


_handles = _Handles()
