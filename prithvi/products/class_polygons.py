"""Polygons of a class map, streamed: memory holds one strip of the map and the areas that its lower edge cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio.features
import shapely
from affine import Affine
from pyproj import CRS
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from shapely.geometry import shape

from prithvi.products.classmap import NONE, ClassMap, open_classes
from prithvi.products.ellipsoid import geometry_areas, metres_of, to_places
from prithvi.products.provenance import Provenance
from prithvi.products.vectorfiles import write_vectors

BATCH = 20_000
"""Polygons per write."""


@dataclass
class Area:
    """A 4-connected region of one class, complete or read so far."""

    value: int
    pieces: list[shapely.Polygon]
    """One polygon per strip in pixel coordinates (column, row): whole numbers, so that the union is exact."""
    total: float = 0.0
    """Sum of the confidences of its pixels."""
    count: int = 0
    """Number of its pixels with a confidence."""

    def join(self, other: Area) -> None:
        """Merges an adjacent area into this one."""
        self.pieces += other.pieces
        self.total += other.total
        self.count += other.count

    def polygon(self) -> shapely.Polygon:
        """The union of the pieces, without the vertices at strip seams."""
        return self.pieces[0] if len(self.pieces) == 1 else _without_straight(shapely.union_all(self.pieces))


def vectorise(
    path: str | Path,
    target: str | Path,
    *,
    confidence: str | Path | None = None,
    names: Sequence[str] | None = None,
    minimum_area: float = 0.0,
    simplify: float = 0.0,
    provenance: Provenance | None = None,
    rows: int = 512,
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
        frames = list(_frames(classes, names, 0.0, 0.0, 512))
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True), geometry="geometry", crs=frames[0].crs)


def areas_of(classes: ClassMap, numbers: Sequence[int] | None, rows: int) -> Iterator[Area]:
    """Yields each area of a map as soon as it is complete, that is once no pixel of it lies on the strip's lower edge.

    Args:
        classes: an open map; confidences are summed where it has them.
        numbers: classes to include; None for all.
        rows: rows per strip.

    """
    # The map is read in strips from top to bottom. Areas on the lower edge of a strip stay open, and merge with areas
    # of the next strip where pixels of one class share a side across the seam. In graph terms, the nodes are the open
    # and the new areas, the edges are the shared sides, and each connected component is one area. A component without
    # a pixel on the new lower edge cannot grow any more, and is complete.
    open_areas: list[Area] = []
    edge = np.full(classes.raster.shape[1], NONE)  # (columns,) index in open_areas of each pixel of the last row read
    for window in classes.strips(rows):
        values = classes.read(window)
        if numbers is not None:
            values[~np.isin(values, numbers)] = NONE
        labels, found = _areas_in(values, window.row_off)
        if classes.confidence is not None:
            _add_confidence(found, labels, classes.read_confidence(window))
        nodes = open_areas + found
        joined = _join(nodes, edge, labels[0] - 1 + len(open_areas), labels[0] > 0)
        # Components that the last row reaches stay open and are renumbered from 0 for the next seam; after the last
        # strip, none stays open.
        known = labels[-1] > 0
        reached = joined[labels[-1][known] - 1 + len(open_areas)]
        last = window.row_off + window.height == classes.raster.shape[0]
        staying = np.unique(reached[:0] if last else reached)
        whole: dict[int, Area] = {}
        for node, group in zip(nodes, joined.tolist(), strict=True):
            if group in whole:
                whole[group].join(node)
            else:
                whole[group] = node
        open_areas = [whole.pop(group) for group in staying.tolist()]
        edge = np.full(len(known), NONE)
        edge[known] = np.searchsorted(staying, reached)
        yield from whole.values()


def _areas_in(values: npt.NDArray[np.int32], row: int) -> tuple[npt.NDArray[np.int32], list[Area]]:
    """(rows, columns) labels from 1 on, 0 for no class; and the area of each label, in order."""
    # scipy labels the regions of one class at a time; rasterio then traces all labels in a single pass.
    labels = np.zeros(values.shape, dtype=np.int32)
    of_label: list[int] = []
    for value in np.unique(values[values != NONE]).tolist():
        part, number = ndimage.label(values == value)
        labels += np.where(part > 0, part + len(of_label), 0).astype(np.int32)
        of_label += [value] * number
    found: list[Any] = [None] * len(of_label)
    down = Affine.translation(0, row)
    for geometry, label in rasterio.features.shapes(labels, labels > 0, connectivity=4, transform=down):
        found[int(label) - 1] = Area(of_label[int(label) - 1], [shape(geometry)])
    return labels, found


def _add_confidence(found: list[Area], labels: npt.NDArray[np.int32], confidence: npt.NDArray[np.float64]) -> None:
    known = np.isfinite(confidence)
    totals = np.bincount(labels[known], weights=confidence[known], minlength=len(found) + 1)
    counts = np.bincount(labels[known], minlength=len(found) + 1)
    for area, total, count in zip(found, totals[1:].tolist(), counts[1:].tolist(), strict=True):
        area.total, area.count = total, count


def _join(
    nodes: list[Area], above: npt.NDArray[np.int64], below: npt.NDArray[np.int64], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """(nodes,) group number of each node: areas of one class that share a pixel side across the seam have the same.

    Args:
        nodes: the open areas, then the areas of the new strip.
        above: (columns,) node of each pixel above the seam, or `NONE`.
        below: (columns,) node of each pixel below the seam, meaningful where `known`.
        known: (columns,) whether the pixel below the seam has a class.

    """
    # Each pixel side between equal classes is an edge of a sparse graph over the nodes.
    meeting = np.flatnonzero(known & (above != NONE))
    value = np.array([node.value for node in nodes], dtype=np.int64)
    one, other = above[meeting], below[meeting]
    same = value[one] == value[other]
    pairs = coo_matrix((np.ones(int(same.sum()), dtype=np.int8), (one[same], other[same])), shape=(len(nodes),) * 2)
    groups: npt.NDArray[np.int32] = connected_components(pairs, directed=False)[1] if nodes else np.zeros(0, np.int32)
    return groups


def _without_straight(polygon: shapely.Polygon) -> shapely.Polygon:
    """Drops the collinear vertices that the seams left in the outline."""
    rings = []
    for ring in (polygon.exterior, *polygon.interiors):
        corners = shapely.get_coordinates(ring)[:-1]
        before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
        # The cross product of the edges before and after a corner is 0 on a straight line; whole numbers make it exact.
        rings.append(corners[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])
    return shapely.Polygon(rings[0], rings[1:])


def _frames(
    classes: ClassMap, names: Sequence[str] | None, minimum_area: float, simplify: float, rows: int
) -> Iterator[gpd.GeoDataFrame]:
    """Batches of finished polygons; at least one, possibly empty, so that the file always has its columns."""
    areas = areas_of(classes, classes.numbers(names), rows)
    yield _frame(classes, list(islice(areas, BATCH)), minimum_area, simplify)
    while batch := list(islice(areas, BATCH)):
        yield _frame(classes, batch, minimum_area, simplify)


def _frame(classes: ClassMap, areas: list[Area], minimum_area: float, simplify: float) -> gpd.GeoDataFrame:
    """Finished areas as rows, in the map's CRS."""
    # Pieces were joined in pixel coordinates, where corners are exact integers; only here do they become map
    # coordinates. The minimum area applies before simplification, the reported area is that of the result.
    crs = CRS.from_user_input(classes.raster.crs.to_wkt())
    geometry = np.array([area.polygon() for area in areas], dtype=object)
    corners = shapely.get_coordinates(geometry)
    geometry = shapely.set_coordinates(geometry, np.stack(to_places(classes.raster.transform, *corners.T), axis=1))
    measured = geometry_areas(geometry, crs)
    keep = measured >= minimum_area
    geometry, measured, areas = geometry[keep], measured[keep], [areas[index] for index in np.flatnonzero(keep)]
    if simplify > 0:
        # A polygon that simplification makes invalid, empty or multipart keeps its exact outline.
        simple = shapely.simplify(geometry, simplify * metres_of(crs), preserve_topology=True)
        sound = shapely.is_valid(simple) & ~shapely.is_empty(simple) & (shapely.get_type_id(simple) == 3)
        geometry = np.where(sound, simple, geometry)
        measured = geometry_areas(geometry, crs)
    values = [area.value for area in areas]
    columns: dict[str, Any] = {
        "class": np.array(values, dtype=np.int32),
        "name": pd.array([classes.title(value) for value in values], dtype="string"),
        "area_m2": measured,
    }
    if classes.confidence is not None:
        means = [area.total / area.count if area.count else np.nan for area in areas]
        columns["confidence"] = np.array(means, dtype=np.float64)
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=crs)
