"""The pixels of files as one (time, band, y, x) array that reads what it is asked for, and nothing before."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import tokenize
from rasterio.windows import Window

from prithvi.scenes.in_flight import in_order
from prithvi.scenes.layout import Layout
from prithvi.scenes.paths import is_remote
from prithvi.scenes.raster_files import Plane, convert, floating, read_window
from prithvi.scenes.validity import Floats, Range, Removed, Tally, Values, mask_impossible

Key = tuple[Any, ...]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ScenePixels:
    """Which pixels of which files a scene is, and how to read them: (time, band, y, x), NaN where there is no data.

    A selection of these is the same again, so that what is chosen step by step is read in one go. A thread keeps its
    files open, so that blocks of a file that GDAL remembers are not read again for the next rows.
    """

    planes: tuple[tuple[Plane, ...], ...]
    """By date and band."""
    rows: Places
    """Which rows of the scene's grid these are, counted from its top."""
    columns: Places
    dtype: np.dtype[Any]
    """Floating."""
    cache_bytes: int
    """GDAL cache that reads the scene once, top to bottom."""
    piece: tuple[int, int] = (256, sys.maxsize)
    """Rows and columns of the grid that Dask reads at once."""
    reflectance: tuple[float, float] | None = None
    """Gain and bias of the scene's values, where those that cannot be reflectance are to be NaN; None leaves them."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(time, band, y, x)."""
        return len(self.planes), len(self.planes[0]) if self.planes else 0, len(self.rows), len(self.columns)

    @property
    def ndim(self) -> int:
        """Number of dimensions, as `dask.array.from_array` asks for it."""
        return 4

    @property
    def remote(self) -> bool:
        """Whether any of them lie on a server."""
        return any(is_remote(plane.path) for step in self.planes for plane in step)

    def part(self, key: Key) -> ScenePixels:
        """A selection: for each axis a slice, a number, or numbers (which keep the axis), or bools."""
        times, bands, rows, columns = (
            np.arange(size)[part if isinstance(part, slice) else np.atleast_1d(part)]
            for size, part in zip(self.shape, key, strict=True)
        )
        planes = tuple(tuple(self.planes[time][band] for band in bands) for time in times)
        return replace(self, planes=planes, rows=self.rows[rows], columns=self.columns[columns])

    def without_impossible(self, gain: float, bias: float) -> ScenePixels:
        """With NaN for values that cannot be reflectance = value x gain + bias; see `prithvi.scenes.validity`."""
        return replace(self, reflectance=(gain, bias))

    def __getitem__(self, key: Key) -> Floats:
        """Reads a selection; see `part`. A number takes its axis away, as in numpy.

        Raises:
            SceneError: a file is damaged where it is read, or its server does not give it.

        """
        chosen = self.part(key)
        found = chosen.rows_of(0, len(chosen.rows))
        return found.squeeze(tuple(axis for axis, part in enumerate(key) if isinstance(part, (int, np.integer))))

    def rows_of(self, first: int, last: int, tally: Tally | None = None) -> Floats:
        """(time, band, rows, width) of whole rows.

        Args:
            first: the first row.
            last: the row after the last.
            tally: counts what cannot be reflectance.

        Raises:
            SceneError: see `__getitem__`.

        """
        found = np.empty((*self.shape[:2], last - first, len(self.columns)), self.dtype)
        if not found.size:
            return found
        rows = self.rows[first:last]
        # Of servers whole rows of pieces are read at a time: each is one request for the blocks of a file that lie side
        # by side, and several of them are under way while others are converted here.
        remote = self.remote
        ends = np.cumsum([0, *_runs(rows // self.piece[0])]).tolist() if remote else [0, len(rows)]
        parts = [slice(*both) for both in pairwise(ends)]
        pieces = [(time, part) for time in range(len(self.planes)) for part in parts]
        tasks = [
            partial(self._read, time, numbers, rows[part], found[time][:, part])
            for time, part in pieces
            for numbers in _by_file(self.planes[time])
        ]
        stored = in_order(tasks) if remote else (task() for task in tasks)
        for time, part in pieces:
            held: dict[int, Values] = {}
            for _ in _by_file(self.planes[time]):
                held |= next(stored)
            removed = self._masked(self.planes[time], held, found[time][:, part])
            if tally is not None:
                tally.add(time, first + part.start, removed, part.stop - part.start)
        return found

    def _read(self, time: int, numbers: Sequence[int], rows: Places, into: Floats) -> dict[int, Values]:
        """Some bands of one date, all of one file, as floats; and as they are stored, by band, where that is needed.

        The smallest window around the asked pixels is read; rows that are skipped, turned round or, of coarser files,
        repeated are then taken out of it.
        """
        planes = [self.planes[time][number] for number in numbers]
        down, along = rows // planes[0].repeat, self.columns // planes[0].repeat
        top, left = int(down.min()), int(along.min())
        window = Window(left, top, int(along.max()) + 1 - left, int(down.max()) + 1 - top)
        parts = read_window(planes[0].path, planes, window)
        down, along = down - top, along - left
        if not (np.array_equal(down, np.arange(window.height)) and np.array_equal(along, np.arange(window.width))):
            parts = [part[:, down][..., along] for part in parts]
        for place, number in enumerate(numbers):
            convert(parts, place, planes[place], into[number], self.reflectance is None)
        return dict(zip(numbers, parts[0], strict=True)) if self.reflectance is not None else {}

    def _masked(self, planes: Sequence[Plane], held: Mapping[int, Values], into: Floats) -> Removed:
        """One date's bands on the scene's scale, without what cannot be reflectance, which is given back."""
        removed: Removed = {}
        if self.reflectance is not None:
            # Masked before bands are brought to one scale: the range is that of the values as each file stores them.
            gain, bias = self.reflectance
            ranges = [Range.of(gain * factor, bias + gain * summand) for factor, summand in (p.adjust for p in planes)]
            removed = mask_impossible([held[number] for number in range(len(planes))], into, ranges)
        for plane, values in zip(planes, into, strict=True):
            if plane.adjust != (1.0, 0.0):
                factor, summand = map(values.dtype.type, plane.adjust)
                values *= factor
                values += summand
        return removed


def _by_file(planes: Sequence[Plane]) -> list[list[int]]:
    """Numbers of the bands that are read in one go, as interleaved files hold them together: of one file and type."""
    files: dict[tuple[str, int, str], list[int]] = {}
    for number, plane in enumerate(planes):
        files.setdefault((plane.path, plane.repeat, plane.dtype), []).append(number)
    return list(files.values())


class SceneArray(da.Array):
    """The Dask array of a scene, whose selections are selections of its files' pixels.

    Dask would read whole pieces and cut them. Here the selection itself goes to the files, whether xarray makes it in
    one step or in several, and `source_of` knows what was chosen. Anything else (arithmetic, `where`, concatenation)
    gives a plain Dask array, which reads this one piece by piece.
    """

    _read_as: tuple[str, ScenePixels]

    @classmethod
    def of(cls, pixels: ScenePixels) -> SceneArray:
        """The array of some pixels; its pieces lie where the scene's do, so that no block of a file is in two."""
        rows, columns = pixels.piece
        # Pieces are counted on the scene's own grid, also of a selection that begins within one: neighbours of a piece
        # border share no block of a file.
        pieces = _runs(pixels.rows // rows), _runs(pixels.columns // columns)
        chunks = ((1,) * pixels.shape[0], (pixels.shape[1],), *pieces)
        name = f"scene-{tokenize(pixels)}"
        plain = da.from_array(pixels, chunks=chunks, name=name, lock=False, asarray=False)
        array = cls(plain.dask, name, plain.chunks, meta=plain)
        array._read_as = name, pixels
        return array

    @property
    def pixels(self) -> ScenePixels | None:
        """What is read; None once something was assigned to the array, which gives it another name."""
        name, pixels = self._read_as
        return pixels if name == self.name else None

    def __getitem__(self, index: Any) -> da.Array:
        """A selection, read from the files where it is one number, slice or list for each axis."""
        pixels, key = self.pixels, index if isinstance(index, tuple) else (index,)
        key += (slice(None),) * (4 - len(key))
        # xarray asks axis by axis with numbers, slices and at most one list at a time. What else numpy and Dask allow
        # (masks, several lists, Dask arrays as indices) is theirs to do, on pieces that were read.
        numbers = [isinstance(part, (int, np.integer)) for part in key]
        lists = [isinstance(part, (list, np.ndarray)) and np.ndim(part) == 1 for part in key]
        known = sum(numbers) + sum(lists) + sum(isinstance(part, slice) for part in key)
        array: da.Array = self
        if pixels is not None and len(key) == known == 4 and sum(lists) <= 1:
            chosen = pixels.part(key)
            if 0 not in chosen.shape:
                # What a number chose is taken off by Dask, which hands that on to the read.
                array, index = SceneArray.of(chosen), tuple(0 if one else slice(None) for one in numbers)
        found: da.Array = da.Array.__getitem__(array, index)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None, **kwargs: Any) -> npt.NDArray[Any]:
        """All pixels; of servers in one go, as reads of whole rows are fewer and all under way at once."""
        pixels = self.pixels
        if pixels is None or not pixels.remote:
            plain: npt.NDArray[Any] = super().__array__(dtype, copy=copy, **kwargs)  # type: ignore[no-untyped-call]
            return plain
        values = pixels.rows_of(0, len(pixels.rows))
        return values if dtype is None else values.astype(dtype, copy=False)

    def copy(self) -> da.Array:
        """The same again; rioxarray copies whatever it writes a place to."""
        plain: da.Array = super().copy()  # type: ignore[no-untyped-call]
        return SceneArray.of(self.pixels) if self.pixels is not None else plain

    def __reduce__(self) -> tuple[Any, ...]:
        plain: tuple[Any, ...] = super().__reduce__()  # type: ignore[no-untyped-call]
        return (SceneArray.of, (self.pixels,)) if self.pixels is not None else plain


def _runs(numbers: Places) -> tuple[int, ...]:
    """Lengths of the runs of one number."""
    ends = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
    return tuple(int(length) for length in np.diff(ends))


def pixels_of(layout: Layout, piece: tuple[int, int] = (256, sys.maxsize)) -> ScenePixels:
    """The pixels of a layout on the grid of its finest file; `piece` is in rows and columns, see `ScenePixels`."""
    planes = tuple(tuple(step.values()) for step in layout.steps)
    dtype = np.result_type(*{floating(np.dtype(plane.dtype)) for step in planes for plane in step})
    cache_bytes = sum(
        file.blocks[0] * file.shape[1] * file.count * max(np.dtype(name).itemsize for name in file.dtypes)
        for file in layout.files.values()
    )
    rows, columns = map(np.arange, layout.finest.shape)
    return ScenePixels(planes, rows, columns, dtype, cache_bytes, piece)


def source_of(scene: xr.DataArray) -> ScenePixels | None:
    """What the pixels of a scene, or of a selection of one, are read from; None where they were calculated."""
    data: Any = scene.variable._data
    return data.pixels if isinstance(data, SceneArray) else None


def files_without_impossible(scene: xr.DataArray, gain: float, bias: float) -> xr.DataArray:
    """A scene with NaN for values that cannot be reflectance, if it is read from files; else as it is."""
    source = source_of(scene)
    return scene if source is None else scene.copy(data=SceneArray.of(source.without_impossible(gain, bias)))


def cache_bytes(scene: xr.DataArray) -> int:
    """GDAL cache that reads the scene's files once, top to bottom; 0 where that is not known."""
    source = source_of(scene)
    return source.cache_bytes if source is not None else 0
