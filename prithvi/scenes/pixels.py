"""The pixels of files as one (time, band, y, x) array that reads what it is asked for, and nothing before."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from dask.base import tokenize
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.errors import SceneError
from prithvi.scenes.headers import File
from prithvi.scenes.layout import Layout
from prithvi.scenes.remote import ask
from prithvi.scenes.validity import Mask, Range, Tally, Values, strike

Key = tuple[Any, ...]
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


@dataclass(frozen=True, eq=False)
class ScenePixels:
    """What dask and streaming read a scene from. A thread keeps its files open, so that blocks of a file that GDAL
    remembers are not read again for the next rows.
    """

    planes: tuple[tuple[Plane, ...], ...]
    """By date and band."""
    height: int
    width: int
    dtype: np.dtype[Any]
    """Floating; pixels without data are NaN."""
    row_bytes: int
    """What GDAL has to remember so that no block of a file is read twice from top to bottom."""
    rows: slice = field(default_factory=lambda: slice(0, None))
    """The part of the planes that this is."""
    columns: slice = field(default_factory=lambda: slice(0, None))
    reflectance: tuple[float, float] | None = None
    """Gain and bias of the scene's values, where those that cannot be reflectance are to be NaN; None leaves them."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(time, band, y, x)."""
        return len(self.planes), len(self.planes[0]), self.height, self.width

    @property
    def ndim(self) -> int:
        """Four."""
        return 4

    def __getitem__(self, key: Key) -> npt.NDArray[np.floating[Any]]:
        """Reads a part.

        Raises:
            SceneError: a file is damaged where it is read, or its server does not give it.

        """
        times, bands, rows, columns = (np.arange(size)[part] for size, part in zip(self.shape, key, strict=True))
        wanted = [np.atleast_1d(part) for part in (times, bands, rows, columns)]
        found = np.empty([len(part) for part in wanted], self.dtype)
        if found.size:
            down, along = wanted[2] + self.rows.start, wanted[3] + self.columns.start
            for place, time in enumerate(wanted[0]):
                self._read([self.planes[time][band] for band in wanted[1]], down, along, found[place])
        lost = tuple(axis for axis, part in enumerate((times, bands, rows, columns)) if part.ndim == 0)
        return found.squeeze(lost)

    def rows_of(self, first: int, last: int, tally: Tally | None = None) -> npt.NDArray[np.floating[Any]]:
        """(time, band, rows, width) of whole rows.

        Args:
            first: the first row.
            last: the row after the last.
            tally: counts what cannot be reflectance.

        Raises:
            SceneError: see `__getitem__`.

        """
        found = np.empty((*self.shape[:2], last - first, self.width), self.dtype)
        down, along = np.arange(first, last) + self.rows.start, np.arange(self.width) + self.columns.start
        for time, planes in enumerate(self.planes):
            struck = self._read(planes, down, along, found[time])
            if tally is not None:
                tally.add(time, first, struck, last - first)
        return found

    def _read(
        self, planes: Sequence[Plane], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp],
        into: npt.NDArray[np.floating[Any]],
    ) -> dict[str, tuple[Mask, Values]]:  # fmt: skip
        """One date's bands, those of one file in one go; what of them cannot be reflectance, see `strike`."""
        files: dict[tuple[str, int, str], list[int]] = {}
        for number, plane in enumerate(planes):
            files.setdefault((plane.path, plane.repeat, plane.dtype), []).append(number)
        held: dict[int, Values] = {}
        for (path, repeat, _), numbers in files.items():
            own_rows, own_columns = rows // repeat, columns // repeat
            top, left = int(own_rows.min()), int(own_columns.min())
            window = Window(left, top, int(own_columns.max()) + 1 - left, int(own_rows.max()) + 1 - top)
            parts = _read(path, [planes[number] for number in numbers], window)
            if repeat > 1 or len(rows) != window.height or len(columns) != window.width:
                parts = [part[:, own_rows - top][..., own_columns - left] for part in parts]
            for place, number in enumerate(numbers):
                convert(parts, place, planes[number], into[number], self.reflectance is None)
                held[number] = parts[0][place]
        struck: dict[str, tuple[Mask, Values]] = {}
        if self.reflectance is not None:
            struck = strike([held[number] for number in range(len(planes))], into, self._ranges(planes))
        for plane, values in zip(planes, into, strict=True):
            factor, summand = plane.adjust
            if (factor, summand) != (1.0, 0.0):
                values *= values.dtype.type(factor)
                values += values.dtype.type(summand)
        return struck

    def _ranges(self, planes: Sequence[Plane]) -> list[Range]:
        assert self.reflectance is not None
        gain, bias = self.reflectance
        return [Range.of(gain * factor, bias + gain * summand) for factor, summand in (p.adjust for p in planes)]

    def judged(self, gain: float, bias: float) -> ScenePixels:
        """With NaN for values that cannot be reflectance = value x gain + bias; see `prithvi.scenes.validity`."""
        return replace(self, reflectance=(gain, bias))

    def select(self, bands: Sequence[int]) -> ScenePixels:
        """Some bands, in another order."""
        return replace(self, planes=tuple(tuple(step[band] for band in bands) for step in self.planes))

    def at(self, times: Sequence[int]) -> ScenePixels:
        """Some dates, in another order."""
        return replace(self, planes=tuple(self.planes[time] for time in times))

    def crop(self, rows: slice, columns: slice) -> ScenePixels:
        """A part, of rows and columns counted from this one's first."""
        top, left = self.rows.start + rows.start, self.columns.start + columns.start
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return replace(
            self, rows=slice(top, top + height), columns=slice(left, left + width), height=height, width=width
        )


def pixels_of(layout: Layout) -> ScenePixels:
    """The pixels of a layout on the grid of its finest file."""
    finest = next(file for path, file in layout.files.items() if layout.repeat.get(path, 1) == 1)
    kinds, planes = [], []
    for step in layout.steps:
        found = []
        for entry in step.values():
            file = layout.files[entry.path]
            kinds.append(_floating(np.dtype(file.dtypes[entry.index - 1])))
            repeat, adjust = layout.repeat.get(entry.path, 1), layout.adjust.get(entry, (1.0, 0.0))
            found.append(plane_of(file, entry.index, layout.nodata[entry], repeat, adjust))
        planes.append(tuple(found))
    row_bytes = sum(_row_bytes(file) for file in layout.files.values())
    return ScenePixels(tuple(planes), *finest.shape, np.result_type(*kinds), row_bytes)


_known: weakref.WeakValueDictionary[str, ScenePixels] = weakref.WeakValueDictionary()


def lazily(pixels: ScenePixels, chunk: tuple[int, int]) -> da.Array:
    """The pixels as a dask array, which `source_of` knows again.

    Args:
        pixels: what to read.
        chunk: rows and columns of a piece.

    """
    rows, columns = min(chunk[0], pixels.height), min(chunk[1], pixels.width)
    chunks = (1, pixels.shape[1], rows, columns)
    # Two arrays of one name share what they read: else the name would be forgotten with the first that goes.
    name = f"scene-{tokenize(pixels, chunks)}"
    pixels = _known.setdefault(name, pixels)
    array: da.Array = da.from_array(pixels, chunks=chunks, name=name, lock=False, asarray=False)
    return array


def source_of(scene: xr.DataArray) -> ScenePixels | None:
    """What a scene's pixels are read from, where nothing was done to them since."""
    return _known.get(scene.data.name) if isinstance(scene.data, da.Array) else None


def replaced(scene: xr.DataArray, part: xr.DataArray, change: Callable[[ScenePixels], ScenePixels]) -> xr.DataArray:
    """A part of a scene, read from its files and not out of the scene's own pieces where that can be.

    Args:
        scene: the scene.
        part: bands, dates, rows or columns of it.
        change: the same of its pixels.

    """
    source = source_of(scene)
    if source is None:
        return part
    rows, columns = (max(sizes) for sizes in scene.data.chunks[2:])
    return part.copy(data=lazily(change(source), (rows, columns)))


def row_bytes(scene: xr.DataArray) -> int:
    """What GDAL has to remember so that no block of the scene's files is read twice from top to bottom; 0 where that
    is not known.
    """
    source = source_of(scene)
    return source.row_bytes if source is not None else 0


def _row_bytes(file: File) -> int:
    return file.blocks[0] * file.shape[1] * file.count * max(np.dtype(name).itemsize for name in file.dtypes)


def _floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Floats that hold a type's values exactly, as far as there are such."""
    if np.issubdtype(dtype, np.floating):
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


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


def of_file(path: str, question: Callable[[rasterio.DatasetReader], Answer]) -> Answer:
    """Asks a file, which then stays open in this thread to be read.

    Raises:
        SceneError: it cannot be opened.

    """
    try:
        return ask(path, question, _handles)
    except RasterioError as error:
        raise SceneError(f"{path} cannot be opened as a raster: it is damaged or of no known format.") from error


def _read(path: str, planes: Sequence[Plane], window: Window) -> list[Values]:
    try:
        return ask(path, lambda raster: read_planes(raster, planes, window), _handles)
    except RasterioError as error:
        raise SceneError(f"{path} is damaged or cut short: it opens, but pixels cannot be read.") from error


class _Handles(threading.local):
    """The files that a thread has open: GDAL forgets a file's blocks when it is closed.

    A forked process opens its own: with its parent's it would share one place in the file.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.open: OrderedDict[tuple[str, int, int], rasterio.DatasetReader] = OrderedDict()

    def take(self, path: str) -> rasterio.DatasetReader | None:
        """The open file, if it was not written anew since."""
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
