"""Class maps on disk, read strip by strip."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.errors import ConfigError, SceneError, nearest
from prithvi.products.ellipsoid import Floats, PixelAreas
from prithvi.products.provenance import classes_of
from prithvi.scenes.block_cache import room_for
from prithvi.scenes.grids import difference, grid_of
from prithvi.scenes.raster_files import refuse_unplaced

GDAL_CACHE = 16_000_000
"""GDAL block cache in bytes; small, since products read the map once from top to bottom."""
NONE = -1
"""Value of nodata pixels in the arrays that `ClassMap.read` returns."""


@dataclass(frozen=True)
class ClassMap:
    """An open class map, with its confidences if there are any."""

    path: Path
    raster: Any
    """An open rasterio dataset."""
    confidence: Any
    """The open confidence dataset on the same grid, or None."""
    titles: dict[int, str]
    """Class number to name, from the map's tags."""
    labels: dict[int, str] = field(default_factory=dict)
    """Label value to class name, from the tags LABEL_VALUE_<n>, where labels and map number the classes differently."""

    def areas(self) -> PixelAreas:
        """The ground area of its pixels; NaN where its CRS has no place on Earth."""
        return PixelAreas(self.raster.transform, self.raster.crs, self.raster.shape)

    def on_earth(self, areas: Floats) -> Floats:
        """Areas of pixels or polygons of classes, as they are.

        Raises:
            SceneError: one is NaN: it lies where the map's CRS has no place on Earth.

        """
        if not np.isfinite(areas).all():
            raise self.nowhere()
        return areas

    def nowhere(self) -> SceneError:
        """What is raised of a map whose CRS has no place on Earth for its pixels."""
        return SceneError(
            f"{self.path} has pixels where its coordinate reference system has no place on Earth: look at its CRS "
            f"and transform ('rio info {shlex.quote(str(self.path))}'), and write the right ones (rio edit-info)."
        )

    def title(self, value: int) -> str:
        """Name of a class, or its number as text if it has no name."""
        return self.titles.get(value, str(value))

    def numbers(self, names: Sequence[str] | None) -> list[int] | None:
        """Class numbers of the given names; None (all classes) for None.

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
        """(rows, columns) class numbers, `NONE` at nodata pixels."""
        values, known = _pixels(self.raster, window)
        return np.where(known, values.astype(np.int32), NONE)

    def read_confidence(self, window: Window) -> npt.NDArray[np.float64]:
        """(rows, columns) confidences after the band's scale and offset, NaN at nodata pixels."""
        values, known = _pixels(self.confidence, window)
        scaled = values.astype(np.float64) * self.confidence.scales[0] + self.confidence.offsets[0]
        return np.where(known, scaled, np.nan)

    def present(self, rows: int = 512) -> list[int]:
        """Sorted numbers of the classes that have a name or at least one pixel."""
        found = set(self.titles)
        for window in self.strips(rows):
            found.update(np.unique(self.read(window)).tolist())
        return sorted(found - {NONE})

    def strips(self, rows: int) -> Iterator[Window]:
        """Full-width windows of up to `rows` rows, from top to bottom."""
        height, width = self.raster.shape
        for row in range(0, height, rows):
            yield Window(0, row, width, min(rows, height - row))


@contextmanager
def open_classes(path: str | Path, confidence: str | Path | None = None) -> Iterator[ClassMap]:
    """Opens a class map and, optionally, a confidence raster on the same grid.

    Raises:
        SceneError: a file cannot be read, is not a class map, does not say where it lies, or the two grids differ.

    """
    with ExitStack() as stack:
        stack.enter_context(room_for(GDAL_CACHE))
        raster = stack.enter_context(_open(path, "a map"))
        if raster.count != 1 or raster.dtypes[0] not in ("uint8", "uint16"):
            found = f"{raster.count} bands of {raster.dtypes[0]}"
            raise SceneError(f"{path} has {found}; a class map has one of whole numbers (uint8).")
        refuse_unplaced(str(path), raster)
        beside = None if confidence is None else stack.enter_context(_open(confidence, "confidences"))
        if beside is not None and (differs := difference(grid_of(beside), grid_of(raster))) is not None:
            raise SceneError(f"{confidence} does not lie on the grid of {path}: {differs}.")
        tags = raster.tags()
        titles, values = classes_of(tags)
        labels = {value: titles.get(number, str(number)) for number, value in values.items()}
        yield ClassMap(Path(path), raster, beside, titles, labels)


def mapped_areas(path: str | Path, rows: int = 256) -> dict[str, float]:
    """Area of each class of a map by name, in square metres on the WGS 84 ellipsoid; 0 for a class without pixels.

    Raises:
        SceneError: the map cannot be read, or does not lie on Earth.

    """
    with open_classes(path) as classes:
        named: dict[str, float] = {}
        for value, area in sorted(class_areas(classes, rows).items()):
            named[classes.title(value)] = named.get(classes.title(value), 0.0) + area
        return named


def class_areas(classes: ClassMap, rows: int = 256) -> dict[int, float]:
    """Area of each class by number, as of `mapped_areas`."""
    found = dict.fromkeys(classes.titles, 0.0)
    pixels = classes.areas()
    for window in classes.strips(rows):
        values = classes.read(window)
        # Nodata is -1: shifted by one, it falls into bin 0, which is dropped.
        areas = pixels.window(window.row_off, 0, *values.shape)
        sums = np.bincount(values.ravel() + 1, weights=areas.ravel())[1:].astype(np.float64)
        for value in np.flatnonzero(classes.on_earth(sums)).tolist():
            found[value] = found.get(value, 0.0) + float(sums[value])
    return found


def _pixels(raster: Any, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """(rows, columns) values as they are stored, and where there is data."""
    try:
        return raster.read(1, window=window), raster.read_masks(1, window=window) != 0
    except RasterioError as error:
        raise SceneError(f"{raster.name} is damaged or cut short ({error}).") from error


def _open(path: str | Path, what: str) -> Any:
    try:
        return rasterio.open(path)
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read as {what} ({error}).") from error
