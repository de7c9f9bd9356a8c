"""One MGRS tile to chips: its granules are read in strips as high as a chip, and windows that pass the filters are cut.

Every date of a tile lies on one grid, so nothing is resampled. A strip of all dates is in memory at a time: memory
depends on the width of a tile and the number of dates, not on the number of tiles or chips.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_geom
from rasterio.windows import Window
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from prithvi.chips.date_plan import SEQUENCES, SPLIT
from prithvi.chips.filters import Recipe, fill_holes, shares
from prithvi.chips.label_files import RasterLabels, VectorLabels
from prithvi.chips.spec import NO_FMASK, UNLABELLED, Chip, Sample, StoreSpec, crs_name, to_int16
from prithvi.errors import DatasetError, ScaleError, SceneError
from prithvi.hls.granules import Granule
from prithvi.hls.items import asset_href, by_tile
from prithvi.hls.search import read_area
from prithvi.scenes.grids import difference
from prithvi.scenes.in_flight import begin
from prithvi.scenes.raster_files import File, convert, header, plane_of, read_planes
from prithvi.scenes.remote import Answer, ask, gdal_environment, readable, shown
from prithvi.scenes.validity import IMPOSSIBLE, Range, Values, mask_impossible


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


@dataclass(frozen=True)
class Strip:
    """Rows of one date as high as a chip, with shares for each window from the left."""

    bands: npt.NDArray[np.int16]
    """(band, height, width), `NODATA` where there is none."""
    fmask: npt.NDArray[np.uint8]
    """(height, width)."""
    good: npt.NDArray[np.float64]
    """(windows,) share of good pixels."""
    missing: npt.NDArray[np.float64]
    """(windows,) share of missing pixels of the band that has most."""


@dataclass(frozen=True)
class TileUnit:
    """A tile, its sequences of dates, and how chips are cut out of them."""

    tile: str
    granules: tuple[GranuleFiles, ...]
    sequences: list[list[int]]
    """Rows of positions in `granules`."""
    recipe: Recipe
    seed: int
    labels: VectorLabels | RasterLabels | None
    split_column: str | None
    """Column of the label file that names the part of a chip."""
    area: BaseGeometry | None
    """Geometry in longitude and latitude that chips have to touch."""
    options: dict[str, str]
    """GDAL options under which the files are opened."""

    @property
    def key(self) -> str:
        """The tile's name."""
        return f"T{self.tile}"

    def chips(self, spec: StoreSpec) -> Iterator[Chip]:
        """Its chips, place by place from the upper left.

        Raises:
            SceneError: a file is missing or damaged, or lies on another grid than the others.

        """
        size = (spec.height, spec.width)
        used = sorted({index for sequence in self.sequences for index in sequence})
        with closing(_OpenFiles(self.options)) as files:
            # The headers of all files are asked for before the first is waited for.
            opening = {index: _Layers.begin(self.granules[index], files) for index in used}
            layers = {index: opened() for index, opened in opening.items()}
            if not layers:
                return
            grid, crs = _one_grid(list(layers.values()))
            near = self.labels.near(crs, grid.boundingbox) if self.labels is not None else None
            area = shape(transform_geom("EPSG:4326", crs, self.area)) if self.area is not None else None
            # Strip by strip from the top: all bands and dates of as many rows as a chip has are read once, whatever
            # number of chips and sequences of dates is cut out of them.
            lefts = range(0, grid.shape[1] - spec.width + 1, spec.width)
            places = {}
            for row in range(0, grid.shape[0] - spec.height + 1, spec.height):
                windows = [grid[row : row + spec.height, left : left + spec.width] for left in lefts]
                here = [area is None or area.intersects(box(*window.boundingbox)) for window in windows]
                if any(here):
                    places[row] = windows, here
            for row, read in _rows(layers, list(places), spec.height):
                strips = {
                    index: Strip(bands, fmask, *shares(bands, fmask, size, self.recipe.filters))
                    for index, (bands, fmask) in read.items()
                }
                windows, here = places[row]
                for number in np.flatnonzero(here).tolist():
                    yield from self._chips_at(windows[number].affine, crs, strips, row, number, near, spec)

    def _chips_at(
        self,
        at: Affine,
        crs: str,
        strips: Mapping[int, Strip],
        row: int,
        number: int,
        near: VectorLabels | RasterLabels | None,
        spec: StoreSpec,
    ) -> Iterator[Chip]:
        """The chips of one place: a window of a strip, on each sequence of dates that passes there."""
        filters, size = self.recipe.filters, (spec.height, spec.width)
        passing = {
            index
            for index, strip in strips.items()
            if strip.good[number] >= filters.good and strip.missing[number] <= filters.missing
        }
        sequences = [sequence for sequence in self.sequences if passing.issuperset(sequence)]
        if not sequences:
            return
        label, part, labelled = None, "", 0.0
        if near is not None:
            label = near.on(at, size)
            labelled = float((label != UNLABELLED).mean())
            if labelled <= self.recipe.least_labelled:
                return
            if self.split_column is not None and isinstance(near, VectorLabels):
                part = near.split_on(at, size, self.split_column)
        if len(sequences) > self.recipe.per_place:
            # A generator of the place's own: what is drawn here does not depend on other places.
            chance = np.random.default_rng([self.seed, zlib.crc32(self.tile.encode()), row, number])
            drawn = chance.choice(len(sequences), self.recipe.per_place, replace=False)
            sequences = [sequences[index] for index in sorted(drawn.tolist())]
        across = slice(number * spec.width, (number + 1) * spec.width)
        for sequence in sequences:
            dates = [strips[index] for index in sequence]
            granules = [self.granules[index].granule for index in sequence]
            image, filled = fill_holes(np.stack([strip.bands[:, :, across] for strip in dates]))
            fmask = np.stack([strip.fmask[:, across] for strip in dates])
            fmask[filled] = NO_FMASK
            parts = {self.granules[index].split for index in sequence}
            sample = Sample.at(
                at,
                crs,
                size,
                name=f"T{self.tile}_{int(at.c)}_{int(at.f)}_{self._day(granules[0].time)}",
                times=tuple(granule.time for granule in granules),
                granules=tuple(map(str, granules)),
                tile=self.tile,
                split=part or (parts.pop() if len(parts) == 1 else ""),
                good=tuple(float(strip.good[number]) for strip in dates),
                filled=tuple(filled.sum(axis=(1, 2)).tolist()),
                labelled=labelled,
                seed=self.seed,
            )
            yield Chip(image, sample, fmask if spec.fmask else None, label if spec.classes else None)

    def _day(self, time: dt.datetime) -> str:
        """The day as in a granule's name, with the time if the tile has another granule of that day."""
        alone = sum(other.granule.time.date() == time.date() for other in self.granules) == 1
        return f"{time:%Y%j}" if alone else f"{time:%Y%jT%H%M%S}"


def tile_units(
    items: Sequence[pystac.Item],
    recipe: Recipe,
    seed: int,
    labels: VectorLabels | RasterLabels | None,
    split_column: str | None,
) -> list[TileUnit]:
    """One unit a tile, from items that list their sequences.

    Args:
        items: what `prithvi.chips.date_plan.choose_dates` gives.
        recipe: how chips are cut.
        seed: of every draw.
        labels: of the chips.
        split_column: see `TileUnit`.

    Raises:
        DatasetError: sequences of another length than the recipe's; an area that cannot be read.
        BandError: a granule lacks a band.

    """
    area = read_area(recipe.area) if recipe.area is not None else None
    units = []
    for tile, found in by_tile(items).items():
        # Each item says `number/position` of its sequences: turned round, each number's items in order of position.
        sequences: dict[int, dict[int, int]] = {}
        for index, item in enumerate(found):
            for word in item.properties.get(SEQUENCES, []):
                number, position = map(int, str(word).split("/"))
                sequences.setdefault(number, {})[position] = index
        rows = [[row[position] for position in sorted(row)] for _, row in sorted(sequences.items())]
        if any(len(row) != recipe.frames for row in rows):
            message = f"the dates of T{tile} were chosen in sequences of {len(rows[0])}"
            raise DatasetError(f"{message}, and {recipe.frames} were asked for: choose again.")
        granules = tuple(GranuleFiles.of(item, recipe.bands) for item in found)
        options = gdal_environment([granule.fmask for granule in granules])
        units.append(TileUnit(tile, granules, rows, recipe, seed, labels, split_column, area, options))
    return units


@dataclass
class _OpenFiles:
    """The files of a tile, which stay open from strip to strip, however many there are."""

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


_Pixels = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class _Layers:
    """The files of one granule."""

    granule: Granule
    files: _OpenFiles
    bands: list[File]
    fmask: File

    @classmethod
    def begin(cls, granule: GranuleFiles, files: _OpenFiles) -> Callable[[], _Layers]:
        """Asks for the headers of a granule's files; what is given waits for them.

        It raises SceneError where a file is missing or damaged, does not say where it lies, or is no HLS.
        """
        paths = (*granule.bands, granule.fmask)
        asked = [begin(path, partial(_header, path, granule.granule, files)) for path in paths]

        def end() -> _Layers:
            *bands, fmask = (header() for header in asked)
            return cls(granule.granule, files, bands, fmask)

        return end

    def read(self, row: int, height: int) -> Callable[[], _Pixels]:
        """Asks for rows from `row` on; what is given waits for them.

        It gives (band, height, width) with `NODATA`, and Fmask (height, width). Values that cannot be reflectance are
        missing, as in a map (see `prithvi.scenes.validity`).

        It raises SceneError where a file is damaged or its server does not give it, and ScaleError where the values
        are no HLS.
        """
        width = self.fmask.shape[1]
        window = Window(0, row, width, height)
        planes = [plane_of(file, 1, self.granule.fill) for file in self.bands]

        def ask(path: str, question: Callable[[rasterio.DatasetReader], Answer]) -> Answer:
            try:
                return self.files.ask(path, question)
            except RasterioError as error:
                raise SceneError(f"{path} is damaged or cut short in rows {row} to {row + height}.") from error

        def read_fmask(raster: rasterio.DatasetReader) -> npt.NDArray[Any]:
            found: npt.NDArray[Any] = raster.read(1, window=window)
            return found

        quality = begin(self.fmask.path, partial(ask, self.fmask.path, read_fmask))
        asked = [
            begin(plane.path, partial(ask, plane.path, partial(read_planes, planes=[plane], window=window)))
            for plane in planes
        ]

        def end() -> _Pixels:
            fmask, values, stored = quality(), np.empty((len(planes), height, width), np.float32), []
            for plane, out, answer in zip(planes, values, asked, strict=True):
                parts = answer()
                convert(parts, 0, plane, out, finite=False)
                stored.append(parts[0][0])
            if fmask.dtype != np.uint8:
                raise SceneError(f"{shown(self.fmask.path)} is {fmask.dtype}; an Fmask is uint8.")
            self._mask(stored, values, row)
            # Band by band, whose memory is used again: of whole strips each step would have to ask for it anew.
            return np.stack([to_int16(band, 1e-4, ()) for band in values]), fmask

        return end

    def _mask(self, stored: Sequence[Values], values: npt.NDArray[np.float32], row: int) -> None:
        """Makes values NaN that cannot be reflectance; raises ScaleError where these are most of them."""
        known = int(np.isfinite(values).all(axis=0).sum())
        removed = mask_impossible(stored, values, [Range.of(1e-4, 0.0)] * len(stored)).get(IMPOSSIBLE)
        if removed is not None:
            # Refused if most pixels cannot be reflectance, unless that is one fill value in all of them.
            where, held = removed
            strange, numbers = np.unique(held[where], return_counts=True)
            if numbers.sum() - numbers.max() > max(known - numbers.max(), 0) / 2:
                raise ScaleError(
                    f"{self.granule} has values such as {strange[numbers.argmax()]:g} from row {row} on, which are no "
                    "HLS (reflectance x 10,000): leave it out, or bring it to that scale."
                )


def _header(path: str, granule: Granule, files: _OpenFiles) -> File:
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


def _rows(layers: Mapping[int, _Layers], rows: Sequence[int], height: int) -> Iterator[tuple[int, dict[int, _Pixels]]]:
    """Each of `rows` with what all granules hold from there on.

    Files on servers are one strip ahead, and no further: a file's strips share blocks, which GDAL remembers for the one
    that asked for them.
    """
    following = {index: layer.read(rows[0], height) for index, layer in layers.items()} if rows else {}
    for number, row in enumerate(rows):
        read = {index: wait() for index, wait in following.items()}
        if number + 1 < len(rows):
            following = {index: layer.read(rows[number + 1], height) for index, layer in layers.items()}
        yield row, read


def _one_grid(layers: Sequence[_Layers]) -> tuple[GeoBox, str]:
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
