"""Polygons of a class map, streamed: memory holds one strip of the map and the areas that its lower edge cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prithvi.products.classmap import NONE, ClassMap, open_classes
from prithvi.products.ellipsoid import geometry_areas, metres_of, ragged_areas
from prithvi.products.outlines import NO_CORNERS, Corners, corners_of, rings_of
from prithvi.products.provenance import Provenance
from prithvi.products.vectorfiles import write_vectors

BATCH = 20_000
"""Polygons per write."""

Whole = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Areas:
    """4-connected regions of one class each, complete or read so far; `len` is their number."""

    value: Whole
    """(n,) class number."""
    total: npt.NDArray[np.float64]
    """(n,) sum of the confidences of the region's pixels."""
    count: npt.NDArray[np.int64]
    """(n,) number of its pixels with a confidence."""
    corners: Corners
    """Corners of the outlines read so far, by the region's number from 0 on."""

    def __len__(self) -> int:
        return len(self.value)

    def chosen(self, numbers: npt.NDArray[np.int64]) -> Areas:
        """The regions of these numbers, numbered from 0 in this order."""
        places = np.full(len(self), -1, dtype=np.int32)
        places[numbers] = np.arange(len(numbers))
        return Areas(self.value[numbers], self.total[numbers], self.count[numbers], self.corners.renumbered(places))

    def followed_by(self, other: Areas) -> Areas:
        """These regions and others, which are numbered on."""
        shifted = replace(other.corners, area=other.corners.area + np.int32(len(self)))
        return Areas(
            np.concatenate([self.value, other.value]),
            np.concatenate([self.total, other.total]),
            np.concatenate([self.count, other.count]),
            Corners.joined([self.corners, shifted]),
        )


NO_AREAS = Areas(np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int64), NO_CORNERS)


def vectorise(
    path: str | Path,
    target: str | Path,
    *,
    confidence: str | Path | None = None,
    names: Sequence[str] | None = None,
    minimum_area: float = 0.0,
    simplify: float = 0.0,
    provenance: Provenance | None = None,
    rows: int = 256,
) -> int:
    """Writes the 4-connected regions of a class map as polygons with holes, in the map's CRS.

    Columns are `class` (number), `name`, `area_m2` (of the written polygon, on the WGS 84 ellipsoid) and, with a
    confidence raster, `confidence` (mean over the polygon's pixels; null where no pixel has one).

    Args:
        path: a map written by `map_scene`: integer classes, names in the tags CLASS_<number>.
        target: .parquet (GeoParquet 1.1) or .gpkg; written atomically, so that an older file stays until then.
        confidence: a confidence raster on the same grid, 0 to 1 after its band's scale.
        names: classes to include; None for all.
        minimum_area: smallest polygon in square metres; smaller ones are dropped and leave a gap.
        simplify: tolerance in metres (for a map in degrees, metres of latitude). Polygons stay valid, but neighbours
            no longer share their edges. 1 to 2 pixels remove the staircase.
        provenance: recorded in the file's metadata.
        rows: rows of the map per strip.

    Returns:
        The number of polygons.

    Raises:
        SceneError: the map or the confidences cannot be read, or differ in grid.
        ConfigError: unsupported suffix, or a class that the map does not have.
        OutputError: the file cannot be written.

    """
    with open_classes(path, confidence) as classes:
        return write_vectors(target, _frames(classes, names, minimum_area, simplify, rows), provenance)


def class_polygons(path: str | Path, names: Sequence[str] | None = None) -> gpd.GeoDataFrame:
    """The polygons of `vectorise` in memory, for small maps.

    Args:
        path: a map written by `map_scene`.
        names: classes to include; None for all.

    Returns:
        A GeoDataFrame with `class` (number), `name` and `area_m2` (on the WGS 84 ellipsoid).

    Raises:
        SceneError: the file cannot be read.
        ConfigError: the map has no such class.

    """
    with open_classes(path) as classes:
        frames = list(_frames(classes, names, 0.0, 0.0, 256))
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), geometry="geometry", crs=frames[0].crs)


def areas_of(classes: ClassMap, numbers: Sequence[int] | None, rows: int) -> Iterator[Areas]:
    """Yields the areas of a map strip by strip, each as soon as no pixel of it lies on the strip's lower edge.

    Args:
        classes: an open map; confidences are summed where it has them.
        numbers: classes to include; None for all.
        rows: rows per strip.

    """
    height, width = classes.raster.shape
    # Open areas reach the last row read; of each of its pixels, the class and the number of its open area are kept.
    opened, above, edge = NO_AREAS, np.full((1, width), NONE, dtype=np.int32), np.zeros((1, width), dtype=np.int32)
    for window in classes.strips(rows):
        values = classes.read(window)
        if numbers is not None:
            values[~np.isin(values, numbers)] = NONE
        values = np.concatenate([above, values])
        joined, found = _connected(values, edge, len(opened))
        number = int(found.max()) + 1
        value = np.empty(number, dtype=np.int32)
        value[joined], value[found[1:]] = opened.value, values[1:]
        total, count = _summed(joined, opened.total, number), _summed(joined, opened.count, number)
        if classes.confidence is not None:
            confidence = classes.read_confidence(window)
            known = np.isfinite(confidence)
            pixels = found[1:][known]
            total += _summed(pixels, confidence[known], number)
            count += np.bincount(pixels, minlength=number)
        # An area without a pixel on the strip's last row cannot grow any more; after the last strip, none can.
        last = window.row_off + window.height == height
        outside = np.full((int(last), width), NONE, dtype=np.int32)
        corners = corners_of(np.concatenate([np.where(values == NONE, NONE, found), outside]), window.row_off)
        older = replace(opened.corners, area=joined[opened.corners.area])
        areas = Areas(value, total, count, Corners.joined([older, corners]))
        staying = np.zeros(number, dtype=bool)
        staying[found[-1]] = not last
        yield areas.chosen(np.flatnonzero(~staying & (value != NONE)))
        kept = np.flatnonzero(staying & (value != NONE))
        opened, above = areas.chosen(kept), values[-1:]
        edge = np.searchsorted(kept, found[-1:]).astype(np.int32)


def _summed(areas: Whole, values: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """(number,) sum of the values (n,) of each area (n,), in their own type; numpy's is int64 where there are none."""
    return np.bincount(areas, weights=values, minlength=number).astype(values.dtype)


def _connected(values: Whole, edge: Whole, opened: int) -> tuple[Whole, Whole]:
    """Numbers the 4-connected areas of a strip and of the open areas above it.

    Args:
        values: (rows + 1, columns) classes, the first row being the last one of the strip above.
        edge: (1, columns) open area of each pixel of that row that has a class.
        opened: number of open areas.

    Returns:
        (opened,) number of the area that each open area belongs to, and (rows + 1, columns) that of each pixel. Runs
        without a class are numbered as well.

    """
    # In graph terms, the nodes are the open areas and the runs of equal pixels in a row, the edges are the pixel sides
    # between equal classes of adjacent rows, and each connected component is one area.
    begins = np.ones(values.shape, dtype=bool)
    np.not_equal(values[:, 1:], values[:, :-1], out=begins[:, 1:])
    nodes = np.cumsum(begins[1:].ravel(), dtype=np.int32).reshape(values[1:].shape) + np.int32(opened - 1)
    number = int(nodes[-1, -1]) + 1
    nodes = np.concatenate([edge, nodes])
    meeting = (values[1:] == values[:-1]) & (values[1:] != NONE)
    meeting &= begins[1:] | begins[:-1]  # once for two runs that meet along several pixels
    sides = nodes[:-1][meeting], nodes[1:][meeting]
    graph = coo_array((np.ones(len(sides[0]), dtype=np.int8), sides), shape=(number, number))
    areas: Whole = connected_components(graph, directed=False)[1]
    return areas[:opened], areas[nodes]


def _frames(
    classes: ClassMap, names: Sequence[str] | None, minimum_area: float, simplify: float, rows: int
) -> Iterator[gpd.GeoDataFrame]:
    """Batches of finished polygons; at least one, possibly empty, so that the file always has its columns."""
    held = NO_AREAS
    for found in areas_of(classes, classes.numbers(names), rows):
        held = held.followed_by(found)
        while len(held) > BATCH:
            yield _frame(classes, held.chosen(np.arange(BATCH)), minimum_area, simplify)
            held = held.chosen(np.arange(BATCH, len(held)))
    yield _frame(classes, held, minimum_area, simplify)


def _frame(classes: ClassMap, areas: Areas, minimum_area: float, simplify: float) -> gpd.GeoDataFrame:
    """Finished areas as rows, in the map's CRS."""
    # The minimum area applies before simplification, the reported area is that of the result.
    crs = CRS.from_user_input(classes.raster.crs.to_wkt())
    traced = rings_of(areas.corners, len(areas), classes.raster.transform)
    geometry = shapely.from_ragged_array(shapely.GeometryType.POLYGON, *traced)
    measured = classes.on_earth(ragged_areas(traced, crs))
    keep = measured >= minimum_area
    geometry, measured, value = geometry[keep], measured[keep], areas.value[keep]
    if simplify > 0:
        # A polygon that simplification makes invalid, empty or multipart keeps its exact outline.
        simple = shapely.simplify(geometry, simplify * metres_of(crs), preserve_topology=True)
        sound = shapely.is_valid(simple) & ~shapely.is_empty(simple) & (shapely.get_type_id(simple) == 3)
        geometry = np.where(sound, simple, geometry)
        measured = geometry_areas(geometry, crs)
    present, which = np.unique(value, return_inverse=True)
    titles = pd.array([classes.title(number) for number in present.tolist()], dtype="string")
    columns: dict[str, Any] = {
        "class": value,
        "name": titles.take(which),
        "area_m2": measured,
    }
    if classes.confidence is not None:
        total, count = areas.total[keep], areas.count[keep]
        columns["confidence"] = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=crs)
