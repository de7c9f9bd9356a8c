"""One MGRS tile to chips: its granules are read in strips as high as a chip, and windows that pass the filters are cut.

Every date of a tile lies on one grid, so nothing is resampled. A strip of all dates is in memory at a time: memory
depends on the width of a tile and the number of dates, not on the number of tiles or chips.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_geom
from rasterio.windows import Window
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from prithvi.chips.date_plan import SEQUENCES
from prithvi.chips.filters import Recipe, fill_holes, shares
from prithvi.chips.granule_rows import GranuleFiles, Layers, OpenFiles, one_grid, read_pieces
from prithvi.chips.label_files import RasterLabels, VectorLabels
from prithvi.chips.spec import NO_FMASK, UNLABELLED, Chip, Sample, StoreSpec
from prithvi.errors import DatasetError
from prithvi.hls.items import by_tile
from prithvi.hls.search import read_area
from prithvi.scenes.remote import gdal_environment

_APART = 1024
"""Columns of a strip that no chip needs are left out where at least so many lie side by side: each piece of a strip is
a request of its own for every band."""


@dataclass(frozen=True)
class Piece:
    """Windows side by side in one strip, that are read together."""

    row: int
    """Of the upper edge."""
    first: int
    """Number of the leftmost window, counted from the left of the tile."""
    boxes: list[GeoBox | None]
    """Where each window lies; None for one that no chip is wanted of."""

    def window(self, size: tuple[int, int], columns: int) -> Window:
        """The pixels of the piece, of windows of that height and width in a grid of so many columns."""
        left, right = self.first * size[1], (self.first + len(self.boxes)) * size[1]
        # With what is left beside the last window: its blocks are small, and where only they are left out, GDAL takes
        # the next row of blocks for the next piece of a file that is read in order, and asks for twice as much.
        right = columns if columns - right < size[1] else right
        return Window(left, self.row, right - left, size[0])


@dataclass(frozen=True)
class Strip:
    """A piece of one date, with shares for each window from the left."""

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
        with closing(OpenFiles(self.options)) as files:
            # The headers of all files are asked for before the first is waited for.
            opening = {index: Layers.begin(self.granules[index], files) for index in used}
            layers = {index: opened() for index, opened in opening.items()}
            if not layers:
                return
            grid, crs = one_grid(list(layers.values()))
            near = self.labels.near(crs, grid.boundingbox) if self.labels is not None else None
            area = shape(transform_geom("EPSG:4326", crs, self.area)) if self.area is not None else None
            # Strip by strip from the top: all bands and dates of as many rows as a chip has are read once, whatever
            # number of chips and sequences of dates is cut out of them.
            pieces = _pieces(grid, size, area)
            windows = [piece.window(size, grid.shape[1]) for piece in pieces]
            for piece, read in zip(pieces, read_pieces(layers, windows), strict=True):
                strips = {
                    index: Strip(bands, fmask, *shares(bands, fmask, size, self.recipe.filters))
                    for index, (bands, fmask) in read.items()
                }
                for place, here in enumerate(piece.boxes):
                    if here is not None:
                        yield from self._chips_at(here.affine, crs, strips, piece, place, near, spec)

    def _chips_at(
        self,
        at: Affine,
        crs: str,
        strips: Mapping[int, Strip],
        piece: Piece,
        place: int,
        near: VectorLabels | RasterLabels | None,
        spec: StoreSpec,
    ) -> Iterator[Chip]:
        """The chips of one place: a window of a piece, on each sequence of dates that passes there."""
        filters, size = self.recipe.filters, (spec.height, spec.width)
        passing = {
            index
            for index, strip in strips.items()
            if strip.good[place] >= filters.good and strip.missing[place] <= filters.missing
        }
        sequences = [sequence for sequence in self.sequences if passing.issuperset(sequence)]
        if not sequences:
            return
        label, labelled = None, 0.0
        part: str | None = None  # of no feature: the tile's own
        if near is not None:
            label = near.on(at, size)
            labelled = float((label != UNLABELLED).mean())
            if labelled <= self.recipe.least_labelled:
                return
            if self.split_column is not None and isinstance(near, VectorLabels):
                part = near.split_on(at, size, self.split_column)
        if len(sequences) > self.recipe.per_place:
            # A generator of the place's own: what is drawn here does not depend on other places.
            own = [self.seed, zlib.crc32(self.tile.encode()), piece.row, piece.first + place]
            chance = np.random.default_rng(own)
            drawn = chance.choice(len(sequences), self.recipe.per_place, replace=False)
            sequences = [sequences[index] for index in sorted(drawn.tolist())]
        across = slice(place * spec.width, (place + 1) * spec.width)
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
                split=part if part is not None else parts.pop() if len(parts) == 1 else "",
                good=tuple(float(strip.good[place]) for strip in dates),
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
        # Of all files: a login may reach none of another host.
        options = gdal_environment([path for granule in granules for path in (*granule.bands, granule.fmask)])
        units.append(TileUnit(tile, granules, rows, recipe, seed, labels, split_column, area, options))
    return units


def _pieces(grid: GeoBox, size: tuple[int, int], area: BaseGeometry | None) -> list[Piece]:
    """What is read of a grid that is cut into windows: those that touch the area, and what lies between near ones."""
    height, width = size
    pieces: list[Piece] = []
    for row in range(0, grid.shape[0] - height + 1, height):
        last = -1
        for number in range(grid.shape[1] // width):
            window = grid[row : row + height, number * width : (number + 1) * width]
            if area is not None and not area.intersects(box(*window.boundingbox)):
                continue
            if last < 0 or (number - last - 1) * width >= _APART:
                pieces.append(Piece(row, number, []))
            else:
                pieces[-1].boxes.extend([None] * (number - last - 1))
            pieces[-1].boxes.append(window)
            last = number
    return pieces
