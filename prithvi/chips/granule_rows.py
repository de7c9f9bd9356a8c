"""The files of one tile's granules, read a piece at a time: some rows and columns of all bands and Fmask of every date.

HLS as it is published (int16, nodata -9999) is read straight into the array that chips are cut from, and only values
that cannot be reflectance are looked for there. Any other file takes the way of `prithvi.scenes`, through floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.chips.date_plan import SPLIT
from prithvi.chips.spec import NODATA, crs_name, to_int16
from prithvi.errors import ScaleError, SceneError
from prithvi.hls.granules import Granule
from prithvi.hls.items import asset_href
from prithvi.scenes.block_cache import room_for
from prithvi.scenes.grids import difference
from prithvi.scenes.in_flight import begin
from prithvi.scenes.paths import is_remote, readable, shown
from prithvi.scenes.raster_files import File, Plane, convert, header, plane_of, read_planes
from prithvi.scenes.remote import Answer, ask
from prithvi.scenes.validity import IMPOSSIBLE, Range, Values, known_in, mask_impossible

Pixels = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]
"""(band, height, width) with `NODATA` where there is none, and Fmask (height, width)."""
_SPARE = 16_000_000
"""Bytes of GDAL's cache for whatever else is read meanwhile, such as labels."""
_POSSIBLE = Range.of(1e-4, 0.0)


@dataclass(frozen=True)
class GranuleFiles:
    """Where one granule's layers are."""

    granule: Granule
    bands: tuple[str, ...]
    """Paths or addresses in the order of the store's bands, as `prithvi.scenes.remote.ask` takes them."""
    fmask: str
    split: str

    @classmethod
    def of(cls, item: pystac.Item, bands: Sequence[str]) -> GranuleFiles:
        """The files of an item; raises BandError where it lacks a band."""
        *layers, fmask = (readable(asset_href(item, band)) for band in (*bands, "fmask"))
        return cls(Granule.parse(item.id), tuple(layers), fmask, str(item.properties.get(SPLIT, "")))


@dataclass
class OpenFiles:
    """The files of a tile, which stay open from piece to piece, however many there are."""

    options: dict[str, str]
    """Of GDAL."""
    rasters: dict[str, rasterio.DatasetReader] = field(default_factory=dict)

    def take(self, path: str) -> rasterio.DatasetReader | None:
        """Gives one away, if there is one."""
        return self.rasters.pop(path, None)

    def keep(self, path: str, raster: rasterio.DatasetReader) -> None:
        """Takes one back."""
        self.rasters[path] = raster

    def ask(self, path: str, question: Callable[[rasterio.DatasetReader], Answer]) -> Answer:
        """What a file answers; see `prithvi.scenes.remote.ask`."""
        return ask(path, question, self, self.options)

    def close(self) -> None:
        """Closes all."""
        for raster in self.rasters.values():
            raster.close()


@dataclass(frozen=True)
class Layers:
    """The files of one granule."""

    granule: Granule
    files: OpenFiles
    bands: list[File]
    fmask: File

    @classmethod
    def begin(cls, granule: GranuleFiles, files: OpenFiles) -> Callable[[], Layers]:
        """Asks for the headers of a granule's files; what is given waits for them.

        It raises SceneError where a file is missing or damaged, does not say where it lies, or is no HLS.
        """
        paths = (*granule.bands, granule.fmask)
        asked = [begin(path, partial(_header, path, granule.granule, files)) for path in paths]

        def end() -> Layers:
            *bands, fmask = (header() for header in asked)
            return cls(granule.granule, files, bands, fmask)

        return end

    def read(self, window: Window, into: npt.NDArray[np.int16]) -> Callable[[], Pixels]:
        """Asks for the pixels of a window; what is given waits for them.

        Values that cannot be reflectance are missing, as in a map (see `prithvi.scenes.validity`).

        It raises SceneError where a file is damaged or its server does not give it, and ScaleError where the values
        are no HLS.

        Args:
            window: rows and columns of the files.
            into: (band, height, width) that the bands are read into.

        """
        planes = [plane_of(file, 1, self.granule.fill) for file in self.bands]
        straight = all(map(_is_stored_alike, planes))

        def ask(path: str, question: Callable[[rasterio.DatasetReader], Answer]) -> Callable[[], Answer]:
            return begin(path, partial(self._ask, path, question, window))

        # Decoded by whichever thread reads: GDAL lets go of the interpreter meanwhile.
        quality = ask(self.fmask.path, lambda raster: raster.read(1, window=window))
        parts: list[Callable[[], Any]] = [
            ask(plane.path, partial(_read_into, window=window, out=out))
            if straight
            else ask(plane.path, partial(read_planes, planes=[plane], window=window))
            for plane, out in zip(planes, into, strict=True)
        ]

        def end() -> Pixels:
            fmask, read = quality(), [part() for part in parts]
            if fmask.dtype != np.uint8:
                raise SceneError(f"{shown(self.fmask.path)} is {fmask.dtype}; an Fmask is uint8.")
            if straight:
                self._mask(into, into, window, NODATA)
            else:
                values = np.empty(into.shape, np.float32)
                for plane, out, part in zip(planes, values, read, strict=True):
                    convert(part, 0, plane, out, finite=False)
                self._mask([stored[0] for stored, *_ in read], values, window)
                for band, out in zip(values, into, strict=True):
                    out[:] = to_int16(band, 1e-4, ())
            return into, fmask

        return end

    def cache_bytes(self, height: int) -> int:
        """Blocks of all files under a piece of so many rows, which the piece below may share."""
        return sum(
            (-(-height // file.blocks[0]) + 1) * file.blocks[0] * (file.shape[1] + file.blocks[1])
            * sum(np.dtype(name).itemsize for name in file.dtypes)
            for file in (*self.bands, self.fmask)
        )  # fmt: skip

    def _ask(self, path: str, question: Callable[[rasterio.DatasetReader], Answer], window: Window) -> Answer:
        try:
            return self.files.ask(path, question)
        except RasterioError as error:
            rows = f"rows {window.row_off} to {window.row_off + window.height}"
            raise SceneError(f"{path} is damaged or cut short in {rows}.") from error

    def _mask(
        self, stored: Sequence[Values] | Values, values: npt.NDArray[Any], window: Window, missing: float = np.nan
    ) -> None:
        """Takes out values that cannot be reflectance; raises ScaleError where these are most of them."""
        if all(_POSSIBLE.outside(band) is None for band in stored):
            mask_impossible(stored, values, [_POSSIBLE] * len(stored), missing=missing)
            return
        known = int(known_in(values, missing).all(axis=0).sum())
        removed = mask_impossible(stored, values, [_POSSIBLE] * len(stored), missing=missing).get(IMPOSSIBLE)
        if removed is not None:
            # Refused if most pixels cannot be reflectance, unless that is one fill value in all of them.
            where, held = removed
            strange, numbers = np.unique(held[where], return_counts=True)
            if numbers.sum() - numbers.max() > max(known - numbers.max(), 0) / 2:
                raise ScaleError(
                    f"{self.granule} has values such as {strange[numbers.argmax()]:g} from row {window.row_off} on, "
                    "which are no HLS (reflectance x 10,000): leave it out, or bring it to that scale."
                )


def _is_stored_alike(plane: Plane) -> bool:
    """Whether a file holds a band as a store does: nothing but values that cannot be reflectance has to be changed."""
    return plane.dtype == "int16" and set(plane.fill) == {NODATA} and not plane.masked and plane.alpha is None


def _read_into(raster: rasterio.DatasetReader, window: Window, out: npt.NDArray[np.int16]) -> None:
    raster.read(1, window=window, out=out)


def _header(path: str, granule: Granule, files: OpenFiles) -> File:
    def read(raster: rasterio.DatasetReader) -> File:
        if raster.crs is None:
            raise SceneError(f"{shown(path)} of {granule} has no coordinate reference system.")
        if raster.scales[0] not in (1.0, 1e-4) or raster.offsets[0] != 0:
            found = f"{shown(path)} declares the scale {raster.scales[0]:g} and the offset {raster.offsets[0]:g}"
            raise SceneError(f"{found}; HLS is reflectance x 10,000 without an offset.")
        return header(path, raster)

    try:
        return files.ask(path, read)
    except RasterioError as error:
        raise SceneError(f"{path} of {granule} cannot be opened ({error}).") from error


def read_pieces(layers: Mapping[int, Layers], windows: Sequence[Window]) -> Iterator[dict[int, Pixels]]:
    """What all granules hold in each window, from the first to the last; the next step writes over it.

    Files on servers are one window ahead, and no further: windows below one another share blocks, which GDAL remembers
    for the file that asked for them.
    """
    if not windows:
        return
    # Memory is used again: the system clears what it gives anew, which takes as long as filling it.
    sizes = [(window.height, window.width) for window in windows]
    ahead = any(is_remote(layer.fmask.path) for layer in layers.values())
    room = max(height * width for height, width in sizes)
    memory = {
        index: [np.empty(len(layer.bands) * room, np.int16) for _ in range(1 + ahead)]
        for index, layer in layers.items()
    }

    def begin_window(number: int) -> dict[int, Callable[[], Pixels]]:
        begun = {}
        for index, layer in layers.items():
            shape = (len(layer.bands), *sizes[number])
            into = memory[index][number % (1 + ahead)][: np.prod(shape)].reshape(shape)
            begun[index] = layer.read(windows[number], into)
        return begun

    highest = max(height for height, _ in sizes)
    with room_for(_SPARE + sum(layer.cache_bytes(highest) for layer in layers.values())):
        following = begin_window(0)
        for number in range(len(windows)):
            read = {index: wait() for index, wait in following.items()}
            if number + 1 < len(windows):
                following = begin_window(number + 1)
            yield read


def one_grid(layers: Sequence[Layers]) -> tuple[GeoBox, str]:
    """The grid that all files share, and its CRS as samples name it.

    Raises:
        SceneError: one lies on another.

    """
    first = layers[0].fmask
    for layer in layers:
        for file in (*layer.bands, layer.fmask):
            differs = difference(file.grid, first.grid)
            if differs is not None:
                raise SceneError(
                    f"{shown(file.path)} lies on another grid than {shown(first.path)}: {differs}; leave a granule out."
                )
    return first.grid, crs_name(CRS.from_wkt(first.wkt))
