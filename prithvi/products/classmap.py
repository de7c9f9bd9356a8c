"""A class map on disk, read in strips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.errors import ConfigError, SceneError, nearest
from prithvi.products.ellipsoid import PixelAreas
from prithvi.scenes.grids import difference, grid_of

GDAL_CACHE = 16_000_000
"""Bytes of file blocks that GDAL keeps where a product is made or read from top to bottom."""
NONE = -1
"""What stands for no data in the classes that are read."""


@dataclass(frozen=True)
class ClassMap:
    """An open class map."""

    path: Path
    raster: Any
    """An open rasterio dataset."""
    confidence: Any
    """The dataset of confidences on its grid; None without."""
    titles: dict[int, str]
    """Class number to name, as the map's tags say."""
    labels: dict[int, str] = field(default_factory=dict)
    """The labels' value to name, as its tags say where the map has other numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.raster.height, self.raster.width

    @property
    def crs(self) -> Any:
        return self.raster.crs

    @property
    def transform(self) -> Affine:
        transform: Affine = self.raster.transform
        return transform

    def areas(self) -> PixelAreas:
        """What its pixels measure on the ground."""
        return PixelAreas(self.transform, self.crs, self.shape)

    def title(self, value: int) -> str:
        """A class's name; its number where the map has no name for it."""
        return self.titles.get(value, str(value))

    def numbers(self, names: Sequence[str] | None) -> list[int] | None:
        """The numbers of classes by name; None for all.

        Raises:
            ConfigError: the map has no such class.

        """
        if names is None:
            return None
        known = {name: value for value, name in self.titles.items()}
        for name in names:
            if name not in known:
                told = nearest(name, known) if known else "its classes have no names."
                raise ConfigError(f"{self.path} has no class {name!r}: {told}")
        return [known[name] for name in names]

    def read(self, window: Window) -> npt.NDArray[np.int32]:
        """(rows, columns) class numbers, `NONE` where there are no data."""
        try:
            values: npt.NDArray[np.int32] = self.raster.read(1, window=window).astype(np.int32)
            values[self.raster.read_masks(1, window=window) == 0] = NONE
        except RasterioError as error:
            raise SceneError(f"{self.path} is damaged or cut short ({error}).") from error
        return values

    def read_confidence(self, window: Window) -> npt.NDArray[np.float64]:
        """(rows, columns) confidences by the band's scale, NaN where there are none."""
        try:
            values: npt.NDArray[np.float64] = self.confidence.read(1, window=window).astype(np.float64)
            values = values * self.confidence.scales[0] + self.confidence.offsets[0]
            values[self.confidence.read_masks(1, window=window) == 0] = np.nan
        except RasterioError as error:
            raise SceneError(f"{self.confidence.name} is damaged or cut short ({error}).") from error
        return values

    def present(self, rows: int = 512) -> list[int]:
        """The classes that have a name or a pixel, in order."""
        found = set(self.titles)
        for window in self.strips(rows):
            found.update(np.unique(self.read(window)).tolist())
        return sorted(found - {NONE})

    def strips(self, rows: int) -> Iterator[Window]:
        """Windows of all columns, from top to bottom."""
        height, width = self.shape
        for row in range(0, height, rows):
            yield Window(0, row, width, min(rows, height - row))


@contextmanager
def open_classes(path: str | Path, confidence: str | Path | None = None) -> Iterator[ClassMap]:
    """Opens a class map, and a raster of confidences on the same grid.

    Raises:
        SceneError: one cannot be read, is no class map, has no place, or lies on another grid than the other.

    """
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE))
        raster = stack.enter_context(_open(path, "a map"))
        if raster.count != 1 or raster.dtypes[0] not in ("uint8", "uint16"):
            raise SceneError(
                f"{path} has {raster.count} bands of {raster.dtypes[0]}; a class map has one of whole numbers (uint8)."
            )
        if raster.crs is None:
            raise SceneError(f"{path} has no coordinate reference system, so nobody knows where it lies.")
        beside = None if confidence is None else stack.enter_context(_open(confidence, "confidences"))
        if beside is not None and (differs := difference(grid_of(beside), grid_of(raster))) is not None:
            raise SceneError(f"{confidence} does not lie on the grid of {path}: {differs}.")
        tags = raster.tags()
        titles, values = classes_of(tags)
        labels = {value: titles.get(number, str(number)) for number, value in values.items()}
        yield ClassMap(Path(path), raster, beside, titles, labels)


def classes_of(tags: Mapping[str, str]) -> tuple[dict[int, str], dict[int, int]]:
    """Class number to name (`CLASS_<n>`), and to the value in the labels where that is another (`LABEL_VALUE_<n>`)."""
    found: dict[str, dict[int, str]] = {}
    for start in ("CLASS_", "LABEL_VALUE_"):
        numbers = {key.removeprefix(start): text for key, text in tags.items() if key.startswith(start)}
        found[start] = {int(number): text for number, text in sorted(numbers.items()) if number.isdecimal()}
    values = {number: int(text) for number, text in found["LABEL_VALUE_"].items()}
    return dict(sorted(found["CLASS_"].items())), values


def mapped_areas(path: str | Path, rows: int = 256) -> dict[str, float]:
    """Square metres of every class of a map on the WGS 84 ellipsoid; a class without a pixel has 0.

    Raises:
        SceneError: the map cannot be read.

    """
    with open_classes(path) as classes:
        found = dict.fromkeys(classes.titles, 0.0)
        pixels = classes.areas()
        for window in classes.strips(rows):
            values = classes.read(window)
            areas = pixels.window(window.row_off, 0, *values.shape)
            sums = np.bincount(values.ravel() + 1, weights=areas.ravel())
            for value in np.flatnonzero(sums[1:]).tolist():
                found[value] = found.get(value, 0.0) + float(sums[value + 1])
        named: dict[str, float] = {}
        for value, area in sorted(found.items()):
            named[classes.title(value)] = named.get(classes.title(value), 0.0) + area
        return named


def _open(path: str | Path, what: str) -> Any:
    try:
        return rasterio.open(path)
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read as {what} ({error}).") from error
