"""Labels of chips from polygons, points or a raster on any grid.

Polygons label the pixels whose centre they contain, points the pixel they lie in. A pixel that features of two classes
claim stays unlabelled. A coarser raster is resampled by its nearest value, a finer one by the mode.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.transform import array_bounds
from rasterio.warp import Resampling, reproject

from prithvi.catalog.datasets import check_classes
from prithvi.chips.label_values import PALETTE, classes_in
from prithvi.chips.spec import UNLABELLED
from prithvi.contract import Category
from prithvi.errors import DatasetError, nearest
from prithvi.files import refuse_unreachable
from prithvi.scenes.grids import has_place
from prithvi.scenes.polygons import RASTERIO_LOCK, clip, frames, mend, ring, sound, whole_turns
from prithvi.scenes.raster_files import refuse_unplaced
from prithvi.scenes.vector_files import read_vectors

Label = npt.NDArray[np.uint8]
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img")


def open_labels(
    path: str | Path,
    class_column: str | None = None,
    *,
    background: str | None = None,
    ignore: Sequence[str] = (),
    keep: Sequence[str] = (),
    label_product: str | None = None,
) -> VectorLabels | RasterLabels:
    """Labels of a vector file (GeoPackage, GeoParquet, GeoJSON, Shapefile, ...) or of a raster of class numbers.

    A class's value is what the file has: a raster's value, or a whole number in the column. Words have none, and are
    counted from 0 in the order of the alphabet, a background class first.

    Args:
        path: the file.
        class_column: the vector file's column with the classes, words or whole numbers.
        background: name of the class of all pixels outside every feature; None leaves them unlabelled.
        ignore: values of a raster, or classes of the column, that are no class: their pixels stay unlabelled.
        keep: values of a raster that are classes though they look like no data.
        label_product: what the raster is, a key of `prithvi.chips.label_values.LABEL_PRODUCTS`; None looks at its
            name and tags.

    Raises:
        DatasetError: no such file or column, no class, a file without a CRS, classes that differ by case or blanks
            alone, or a raster's value that may be no data; see `prithvi.chips.label_values`.

    Warns:
        UserWarning: features cross or cover themselves and are mended; area drawn twice counts once.

    """
    file = Path(path)
    refuse_unreachable(file, DatasetError)
    if not file.exists():
        raise DatasetError(f"there is no file of labels {file}.")
    if file.suffix.lower() in _RASTERS:
        if class_column is not None or background is not None:
            raise DatasetError(f"{file} is a raster: --class-column and --background are for vector files.")
        return _open_raster(file, ignore, keep, label_product)
    if keep or label_product is not None:
        raise DatasetError(f"{file} is a vector file: --keep and --label-product are for rasters.")
    return _open_vector(file, class_column, background, ignore)


@dataclass(frozen=True)
class VectorLabels:
    """Features with a class each."""

    path: str
    column: str
    values: tuple[Any, ...]
    """The column's values in the order of the classes."""
    classes: tuple[Category, ...]
    background: int | None
    """Class of pixels outside every feature."""
    crs: str
    """As well-known text."""
    columns: tuple[str, ...]
    """All columns of the file but its geometry."""
    turns: tuple[int, ...] = (0,)
    """Whole turns around the Earth that longitudes are written with: also 1 where they continue beyond 180 degrees."""
    ignored: tuple[Any, ...] = ()
    """The column's values that are no class."""
    summary: str = ""
    """Its classes in words."""
    features: Any = None
    """A GeoDataFrame of those around one tile, in its CRS; see `near`."""

    def near(self, crs: str, bounds: Sequence[float]) -> VectorLabels:
        """The features that touch a box (left, bottom, right, top in `crs`), in that CRS."""
        same = CRS(self.crs) == CRS(crs)
        parts = []
        # A tile's box, seen in the file's CRS, may fall into two at the date line, and features there may be written
        # with longitudes beyond 180: each box is read on its own, and all that is found is brought to the tile's CRS.
        for box in _boxes(crs, self.crs, bounds, self.turns):
            found = read_vectors(Path(self.path), bbox=box).set_crs(self.crs, allow_override=True)
            found = found[found.geometry.notna() & ~found.geometry.is_empty]
            shapes, _ = mend(found.geometry.to_numpy())
            if not same:
                # What a feature has far from here may have no place in this projection, and its edges bend in it.
                shapes = clip(shapes, shapely.box(*box))
                shapes = shapely.segmentize(shapes, max(box[2] - box[0], box[3] - box[1]) / 64)
            parts.append(found.set_geometry(gpd.GeoSeries(shapes, index=found.index, crs=self.crs)).to_crs(crs))
        features = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        return replace(self, features=features[~features.geometry.is_empty])

    def on(self, at: Affine, shape: tuple[int, int]) -> Label:
        """(y, x) class numbers on the grid with that affine and shape, `UNLABELLED` elsewhere."""
        inside = self._touching(at, shape)
        # Each class is burnt on its own and claims are counted: a pixel claimed once has that class, one claimed by
        # two classes is unknown. Features of no or an ignored class claim twice, so that they are never background.
        claims = np.zeros(shape, np.uint8)
        result = np.full(shape, UNLABELLED, np.uint8)
        for number, value in enumerate(self.values):
            shapes = inside.geometry[inside[self.column] == value]
            here = _inside(shapes, at, shape)
            result[here] = number
            claims += here
        column = inside[self.column]
        unsaid = inside.geometry[column.isna() | column.isin(self.ignored)]
        claims[_inside(unsaid, at, shape)] = 2
        result[claims > 1] = UNLABELLED
        if self.background is not None:
            result[claims == 0] = self.background
        return result

    def split_on(self, at: Affine, shape: tuple[int, int], column: str) -> str | None:
        """The value that all features on a chip have in a column; empty if they differ, None if there is none."""
        # A hundredth of a pixel smaller, so that a feature which ends at the chip's edge, or beside it, is not on it.
        inner = at @ Affine.translation(0.01, 0.01) @ Affine.scale(1 - 0.02 / shape[1], 1 - 0.02 / shape[0])
        words = set(self._touching(inner, shape, "intersects")[column].dropna().astype(str))
        if not words:
            return None
        return words.pop() if len(words) == 1 else ""

    def _touching(self, at: Affine, shape: tuple[int, int], predicate: str | None = None) -> gpd.GeoDataFrame:
        """The features on a chip; without a predicate also those beside it whose boxes touch it."""
        return self.features.iloc[self.features.sindex.query(shapely.box(*array_bounds(*shape, at)), predicate)]


@dataclass(frozen=True)
class RasterLabels:
    """A raster of class numbers on any grid."""

    path: str
    classes: tuple[Category, ...]
    """By ascending value."""
    summary: str = ""
    """Its classes in words, and the values that are none."""
    crs: str = ""
    """Of the grids that it is read onto."""

    def near(self, crs: str, bounds: Sequence[float]) -> RasterLabels:
        """The raster, to be read onto grids in `crs`."""
        return replace(self, crs=crs)

    def on(self, at: Affine, shape: tuple[int, int]) -> Label:
        """(y, x) class numbers on the grid with that affine and shape, `UNLABELLED` elsewhere."""
        result = np.full(shape, UNLABELLED, np.uint8)
        with rasterio.open(self.path) as raster:
            west, _, east, _ = raster.bounds
            turns = whole_turns(west, east) if raster.crs.is_geographic else (0,)
            for box in _boxes(self.crs, raster.crs.to_wkt(), array_bounds(*shape, at), turns):
                part = self._part(raster, box, at, shape)
                result[result == UNLABELLED] = part[result == UNLABELLED]
        return result

    def _part(
        self, raster: rasterio.DatasetReader, box: tuple[float, float, float, float], at: Affine, shape: tuple[int, int]
    ) -> Label:
        """The classes of the part of the raster in a box of its own coordinates, warped onto a grid."""
        result = np.full(shape, UNLABELLED, np.uint8)
        # The window of the raster under the box, with a margin for what resampling looks at, is read whole, its values
        # are turned into class numbers, and only these are warped: a mode of numbers never mixes in a value that is no
        # class, and memory depends on the chip, not on the raster.
        # All four corners, as rows may run from south to north or aslant; never boundless, which reads other pixels
        # than these of rotated rasters (rasterio 1.4.4).
        left, low, right, high = box
        columns, rows = ~raster.transform @ (np.array([left, left, right, right]), np.array([low, high, low, high]))
        row, below = max(0, math.floor(rows.min()) - 4), min(raster.height, math.ceil(rows.max()) + 4)
        column, behind = max(0, math.floor(columns.min()) - 4), min(raster.width, math.ceil(columns.max()) + 4)
        if row >= below or column >= behind:
            return result
        window = ((row, below), (column, behind))
        stored = raster.read(1, window=window)
        valid = raster.read_masks(1, window=window) > 0
        values = np.array([entry.value for entry in self.classes], np.int64)
        numbers = np.searchsorted(values, stored).clip(0, len(values) - 1)
        source = np.where(valid & (values[numbers] == stored), numbers, UNLABELLED).astype(np.uint8)
        # The warp knows longitudes from -180 to 180 only.
        turn = 360 * whole_turns(box[0], box[2])[0] if raster.crs.is_geographic else 0
        here = Affine.translation(-turn, 0) @ raster.transform @ Affine.translation(column, row)
        with RASTERIO_LOCK:
            reproject(
                source, result, src_transform=here, src_crs=raster.crs, dst_transform=at, dst_crs=self.crs,
                src_nodata=UNLABELLED, dst_nodata=UNLABELLED, resampling=_resampling(raster, self.crs, at, shape),
            )  # fmt: skip
        return result


def _boxes(
    crs: str, other: str, bounds: Sequence[float], turns: Sequence[int]
) -> list[tuple[float, float, float, float]]:
    """Boxes in another CRS that together contain a box; several where the longitudes of that CRS jump in it."""
    back = Transformer.from_crs(crs, other, always_xy=True)
    near = [frame.bounds for frame in frames(ring(*bounds), back)]
    return [(left + 360 * turn, low, right + 360 * turn, high) for left, low, right, high in near for turn in turns]


def _resampling(raster: rasterio.DatasetReader, crs: str, at: Affine, shape: tuple[int, int]) -> Resampling:
    """The mode if the raster's pixels are clearly smaller than the chip's, else the nearest value."""
    # The Jacobian at the chip's centre: how many pixels of the raster one step along and one step down a chip's row
    # are; their cross product is the area of a chip's pixel in pixels of the raster.
    to_raster = Transformer.from_crs(crs, raster.crs.to_wkt(), always_xy=True)
    x, y = at @ (shape[1] / 2, shape[0] / 2)
    steps = np.array(to_raster.transform([x, x + at.a, x + at.b], [y, y + at.d, y + at.e])).T / raster.res
    along, down = steps[1] - steps[0], steps[2] - steps[0]
    pixels = abs(along[0] * down[1] - along[1] * down[0])  # of the raster in one of the chip's
    return Resampling.mode if pixels > 1 / 0.75**2 else Resampling.nearest


def _inside(shapes: gpd.GeoSeries, at: Affine, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(y, x) bool: where a polygon contains a pixel's centre, or the pixel a point."""
    if not len(shapes):
        return np.zeros(shape, bool)
    with RASTERIO_LOCK:
        burnt: Label = rasterize(shapes, shape, fill=0, default_value=1, transform=at, dtype="uint8")
    return burnt.astype(bool)


def _open_vector(file: Path, column: str | None, background: str | None, ignore: Sequence[str]) -> VectorLabels:
    features = read_vectors(file)
    if features.crs is None:
        raise DatasetError(f"{file} has no CRS, so its features lie nowhere: write it with one.")
    names = [str(name) for name in features.columns if name != features.geometry.name]
    if column is None or column not in names:
        asked = "no class column was named" if column is None else f"there is no column {column!r}"
        raise DatasetError(f"{file}: {asked}; it has {', '.join(names)} (--class-column NAME).")
    kinds = set(features.geometry.geom_type.dropna())
    if not kinds <= {"Polygon", "MultiPolygon", "Point", "MultiPoint"}:
        raise DatasetError(f"{file} holds {', '.join(sorted(kinds))}: labels come from polygons or points.")
    if any(isinstance(value, (dict, list, np.ndarray)) for value in features[column]):
        raise DatasetError(f"{file}: column {column} holds lists or tables, and a class is a word or a whole number.")
    values = sorted(features[column].dropna().unique().tolist(), key=lambda value: (str(type(value)), value))
    west, _, east, _ = features.total_bounds
    turns = whole_turns(west, east) if features.crs.is_geographic and np.isfinite(west) else (0,)
    sound(features.geometry, str(file))
    if any(isinstance(value, float) and value != round(value) for value in values):
        raise DatasetError(f"{file}: column {column} holds {values[0]}, which is a measurement and no class.")
    named = {value: str(int(value) if isinstance(value, float) else value).strip() for value in values}
    where = f"{file}: column {column}"
    for word in ignore:
        if word not in named.values():
            raise DatasetError(f"{where} has no class {word!r} to ignore: {nearest(word, named.values())}")
    # Ignored features, and those without a class, are kept: what they cover is not background.
    nothing = tuple(value for value, word in named.items() if word in ignore or not word)
    kept = {value: word for value, word in named.items() if value not in nothing}
    if not kept:
        raise DatasetError(f"{where} names no class.")
    # Names that are whole numbers are the classes' own values (kept in maps); if a single one is a word, or two names
    # are one number (1 and 01), classes are counted from 0 in their order instead.
    rows: list[tuple[Any, str, str]] = [(value, word, str(value)) for value, word in kept.items()]
    own = [int(word) for _, word, _ in rows if word.removeprefix("-").isdecimal()]
    whole = len(set(own)) == len(rows)
    if background is not None and background not in kept.values():
        # The class outside every feature comes first, as land does before water.
        rows.insert(0, (None, background, background))
        free = [int(background)] if background.isdecimal() else []
        own.insert(0, next(number for number in itertools.chain(free, itertools.count()) if number not in own))
    in_column, words, spelled = zip(*rows, strict=True)
    check_classes([Category(number, text, "") for number, text in enumerate(spelled)], (), where)
    if len(rows) > UNLABELLED:
        raise DatasetError(f"{file} has {len(rows)} classes; at most {UNLABELLED} can be told apart.")
    classes = tuple(
        Category(own[place] if whole else place, word, PALETTE[place % len(PALETTE)])
        for place, word in enumerate(words)
    )
    summary = f"{file.name}: classes are {', '.join(f'{entry.value} ({entry.name})' for entry in classes)}."
    outside = words.index(background) if background is not None else None
    return VectorLabels(
        str(file), column, in_column, classes, outside, features.crs.to_wkt(), tuple(names), turns, nothing, summary
    )


def _open_raster(file: Path, ignore: Sequence[str], keep: Sequence[str], product: str | None) -> RasterLabels:
    try:
        with rasterio.open(file) as raster:
            refuse_unplaced(str(file), raster, DatasetError)
            if not has_place(raster.crs.to_wkt()):
                raise DatasetError(
                    f"the coordinate reference system of {file} has no known place on Earth: write the right one "
                    f"('rio edit-info {shlex.quote(str(file))} --crs EPSG:...')."
                )
            if raster.count != 1 or np.dtype(raster.dtypes[0]).kind not in "iuf":
                raise DatasetError(
                    f"{file} has {raster.count} bands of {raster.dtypes[0]}: labels are one of whole numbers."
                )
            classes, summary = classes_in(raster, ignore, keep, product)
    except RasterioError as error:
        raise DatasetError(f"{file} cannot be read ({error}).") from error
    return RasterLabels(str(file), classes, summary)
