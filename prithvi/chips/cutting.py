"""One MGRS tile to chips: its granules are read in strips as high as a chip, and what passes the filters is cut out.

Every date of a tile lies on one grid, so nothing is resampled. A strip of all dates is in memory at a time: memory
depends on the width of a tile and on the dates, never on how many tiles or chips there are.
"""

from __future__ import annotations

import datetime as dt
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.errors import RasterioError
from rasterio.warp import transform_geom
from rasterio.windows import Window
from shapely.geometry import box, shape

from prithvi.chips.filters import Filters, fill_holes, shares, to_int16
from prithvi.chips.labels import LabelsHere, RasterHere, RasterLabels, VectorLabels
from prithvi.chips.spec import NO_FMASK, UNLABELLED, Chip, Sample, StoreSpec
from prithvi.errors import ScaleError, SceneError
from prithvi.scenes.grids import difference, grid_of
from prithvi.scenes.headers import header
from prithvi.scenes.layout import values_of
from prithvi.scenes.planes import convert, plane_of, read_planes
from prithvi.scenes.validity import IMPOSSIBLE, Range, strike


@dataclass(frozen=True)
class GranuleFiles:
    """Where one granule's layers are."""

    name: str
    time: dt.datetime
    bands: tuple[str, ...]
    """Addresses in the order of the store's bands, as GDAL opens them."""
    fmask: str
    fill: float
    """Value of pixels without data."""
    split: str = ""


@dataclass(frozen=True)
class TileUnit:
    """A tile, the dates that go together, and what its chips have to fulfil."""

    tile: str
    granules: tuple[GranuleFiles, ...]
    sequences: tuple[tuple[int, ...], ...]
    """Rows of positions in `granules`."""
    filters: Filters = field(default_factory=Filters)
    per_place: int = 10
    """Most chips of one place."""
    seed: int = 0
    labels: VectorLabels | RasterLabels | None = None
    split_column: str | None = None
    """Column of the label file that names the part of a chip."""
    least_labelled: float = 0.0
    """Chips with no more than this share of labelled pixels are left out, where there are labels."""
    area: str | None = None
    """GeoJSON geometry in longitude and latitude that chips have to touch."""
    options: tuple[tuple[str, str], ...] = ()
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
        if not self.sequences:
            return
        used = sorted({index for sequence in self.sequences for index in sequence})
        with rasterio.Env(**dict(self.options)), ExitStack() as open_files:
            layers = {index: _Layers(self.granules[index], open_files) for index in used}
            grid = _one_grid(list(layers.values()))
            near = self.labels.near(grid.crs, grid.bounds) if self.labels is not None else None
            for row in range(0, grid.height - spec.height + 1, spec.height):
                columns = self._wanted(grid, row, spec)
                if columns:
                    strips = {index: layer.read(row, spec.height) for index, layer in layers.items()}
                    yield from self._cut(strips, grid, row, columns, near, spec)

    def _wanted(self, grid: _Grid, row: int, spec: StoreSpec) -> list[int]:
        """Numbers of the windows in a strip that touch the area."""
        count = grid.width // spec.width
        if self.area is None:
            return list(range(count))
        area = shape(transform_geom("EPSG:4326", grid.crs, json.loads(self.area)))
        return [
            number
            for number in range(count)
            if area.intersects(box(*grid.window(row, number * spec.width, spec.height, spec.width)))
        ]

    def _cut(
        self,
        strips: dict[int, tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]],
        grid: _Grid,
        row: int,
        columns: Sequence[int],
        near: LabelsHere | RasterHere | None,
        spec: StoreSpec,
    ) -> Iterator[Chip]:
        size = (spec.height, spec.width)
        measured = {index: shares(bands, fmask, size, self.filters) for index, (bands, fmask) in strips.items()}
        for number in columns:
            passes = [
                sequence
                for sequence in self.sequences
                if all(
                    measured[index][0][number] >= self.filters.good
                    and measured[index][1][number] <= self.filters.missing
                    for index in sequence
                )
            ]
            if not passes:
                continue
            at = grid.affine * Affine.translation(number * spec.width, row)
            label, part = self._label(near, at, size)
            share = float((label != UNLABELLED).mean()) if label is not None else 0.0
            if label is not None and share <= self.least_labelled:
                continue
            for sequence in self._few(passes, row, number):
                yield self._chip(strips, sequence, number, at, grid.crs, measured, label, share, part, spec)

    def _day(self, granule: GranuleFiles) -> str:
        """The day as a granule's name has it, with its time where another of the tile is of the same day."""
        alone = sum(other.time.date() == granule.time.date() for other in self.granules) == 1
        return f"{granule.time:%Y%j}" if alone else f"{granule.time:%Y%jT%H%M%S}"

    def _label(
        self, near: LabelsHere | RasterHere | None, at: Affine, size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8] | None, str]:
        if near is None:
            return None, ""
        part = ""
        if self.split_column is not None and isinstance(near, LabelsHere):
            part = near.split_on(at, size, self.split_column)
        return near.on(at, size), part

    def _few(self, passes: list[tuple[int, ...]], row: int, number: int) -> list[tuple[int, ...]]:
        """At most `per_place` of the sequences, drawn by a generator that belongs to the place."""
        if len(passes) <= self.per_place:
            return passes
        chance = np.random.default_rng([self.seed, zlib.crc32(self.tile.encode()), row, number])
        return [passes[i] for i in sorted(chance.choice(len(passes), self.per_place, replace=False).tolist())]

    def _chip(
        self,
        strips: dict[int, tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]],
        sequence: tuple[int, ...],
        number: int,
        at: Affine,
        crs: str,
        measured: dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]],
        label: npt.NDArray[np.uint8] | None,
        share: float,
        part: str,
        spec: StoreSpec,
    ) -> Chip:
        across = slice(number * spec.width, (number + 1) * spec.width)
        image, filled = fill_holes(np.stack([strips[index][0][:, :, across] for index in sequence]))
        fmask = np.stack([strips[index][1][:, across] for index in sequence])
        fmask[filled] = NO_FMASK
        granules = [self.granules[index] for index in sequence]
        x, y = at * (spec.width / 2, spec.height / 2)
        lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
        parts = {granule.split for granule in granules}
        sample = Sample(
            name=f"T{self.tile}_{int(at.c)}_{int(at.f)}_{self._day(granules[0])}",
            crs=crs,
            affine=tuple(at)[:6],
            lat=lat,
            lon=lon,
            times=tuple(granule.time for granule in granules),
            granules=tuple(granule.name for granule in granules),
            tile=self.tile,
            split=part or (parts.pop() if len(parts) == 1 else ""),
            good=tuple(float(measured[index][0][number]) for index in sequence),
            filled=tuple(int(count) for count in filled.sum(axis=(1, 2))),
            labelled=share,
            seed=self.seed,
        )
        return Chip(image, sample, fmask if spec.fmask else None, label if spec.classes else None)


@dataclass(frozen=True)
class _Grid:
    crs: str
    affine: Affine
    height: int
    width: int

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        return self.window(0, 0, self.height, self.width)

    def window(self, row: int, column: int, height: int, width: int) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of a part."""
        left, top = self.affine * (column, row)
        right, bottom = self.affine * (column + width, row + height)
        return left, bottom, right, top


class _Layers:
    """The open files of one granule."""

    def __init__(self, granule: GranuleFiles, files: ExitStack) -> None:
        self.granule = granule
        self.bands = [self._open(path, files) for path in granule.bands]
        self.fmask = self._open(granule.fmask, files)
        headers = [header(raster.name, raster) for raster in self.bands]
        self.planes = [plane_of(file, 1, values_of(granule.fill, file.nodata[0])) for file in headers]

    def _open(self, path: str, files: ExitStack) -> rasterio.DatasetReader:
        try:
            raster = files.enter_context(rasterio.open(path))
        except RasterioError as error:
            raise SceneError(f"{path} of {self.granule.name} cannot be opened ({error}).") from error
        if raster.crs is None:
            raise SceneError(f"{path} of {self.granule.name} has no coordinate reference system.")
        if raster.scales[0] not in (1.0, 1e-4) or raster.offsets[0] != 0:
            raise SceneError(
                f"{path} declares the scale {raster.scales[0]:g} and the offset {raster.offsets[0]:g}; HLS is "
                "reflectance x 10,000 without an offset."
            )
        return raster

    def read(self, row: int, height: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
        """Rows from `row` on: (band, height, width) with `NODATA`, and Fmask (height, width).

        What cannot be reflectance is missing, as it is in a map (see `prithvi.scenes.validity`).

        """
        window = Window(0, row, self.fmask.width, height)
        path = self.fmask.name
        try:
            fmask = self.fmask.read(1, window=window)
            values = np.empty((len(self.bands), height, self.fmask.width), np.float32)
            stored = []
            for place, (raster, plane) in enumerate(zip(self.bands, self.planes, strict=True)):
                path = raster.name
                parts = read_planes(raster, [plane], window)
                convert(parts, 0, plane, values[place], finite=False)
                stored.append(parts[0][0])
        except RasterioError as error:
            raise SceneError(f"{path} is damaged or cut short where rows {row} to {row + height} lie.") from error
        if fmask.dtype != np.uint8:
            raise SceneError(f"{self.fmask.name} is {fmask.dtype}; an Fmask is uint8.")
        there = np.isfinite(values).all(axis=0).sum()
        struck = strike(stored, values, [Range.of(1e-4, 0.0)] * len(stored)).get(IMPOSSIBLE)
        if struck is not None:
            self._refuse_scale(struck, int(there), row)
        return to_int16(values, 1e-4, ()), fmask

    def _refuse_scale(
        self, struck: tuple[npt.NDArray[np.bool_], npt.NDArray[np.generic]], there: int, row: int
    ) -> None:
        """Raises ScaleError where most pixels are no reflectance, and not for holding one and the same fill value."""
        where, held = struck
        values, numbers = np.unique(held[where], return_counts=True)
        others = int(numbers.sum() - numbers.max())
        if others > max(there - numbers.max(), 0) / 2:
            raise ScaleError(
                f"{self.granule.name} has values such as {values[numbers.argmin()]:g} from row {row} on, which are no "
                "HLS (reflectance x 10,000): leave it out, or bring it to that scale."
            )


def _one_grid(layers: Sequence[_Layers]) -> _Grid:
    """The grid that all files share.

    Raises:
        SceneError: one lies on another.

    """
    first = layers[0].fmask
    whole = grid_of(first)
    for layer in layers:
        for raster in (*layer.bands, layer.fmask):
            differs = difference(grid_of(raster), whole)
            if differs is not None:
                raise SceneError(
                    f"{raster.name} lies on another grid than {first.name}: {differs}; leave one of the granules out."
                )
    code = first.crs.to_epsg()
    return _Grid(f"EPSG:{code}" if code else first.crs.to_wkt(), first.transform, first.height, first.width)
