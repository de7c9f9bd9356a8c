"""Parts of a scene: by rows and columns, or by polygons on the ground.

A pixel belongs to an area if its middle lies inside, as `rasterio.features.geometry_mask` decides; edges of polygons
are straight in the polygons' own coordinates, so a box in degrees is curved in UTM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyogrio
import rioxarray  # noqa: F401  (the .rio accessor)
import shapely
import xarray as xr
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.features import geometry_mask
from shapely.affinity import translate

from prithvi.errors import DatasetError, SceneError
from prithvi.files import refuse_unreachable
from prithvi.scenes.grids import grid_of_array, transform_of, write_grid
from prithvi.scenes.info import name_of
from prithvi.scenes.polygons import (
    RASTERIO_LOCK,
    Coordinates,
    box_in_degrees,
    cut_at_date_line,
    frames,
    mend,
    ring,
    sound,
)
from prithvi.scenes.vector_files import only_layer, read_vectors

_STRIP = 1024
"""Rows that are looked at together where a whole window is."""
_PRECISE = 0.001
"""Pixels that a projected edge may lie beside its true course."""


def crop(scene: xr.DataArray, rows: slice, columns: slice) -> xr.DataArray:
    """A part of a scene that knows where it lies, on any grid and of any size; nothing is read.

    Args:
        scene: what `open_scene` gives, or a crop of it.
        rows: rows from the top, without a step.
        columns: columns from the left, without a step.

    Raises:
        SceneError: no pixel is left, or a step was given.

    """
    top, bottom, row_step = rows.indices(scene.sizes["y"])
    left, right, column_step = columns.indices(scene.sizes["x"])
    if (row_step, column_step) != (1, 1):
        raise SceneError(
            f"a crop with steps of {row_step} rows and {column_step} columns was asked for; it takes every pixel."
        )
    if top >= bottom or left >= right:
        raise SceneError(
            f"no pixel is left of {name_of(scene)}: rows {rows.start} to {rows.stop} and columns {columns.start} to "
            f"{columns.stop} were asked for, and it has {scene.sizes['y']} x {scene.sizes['x']}."
        )
    part = grid_of_array(scene)[top:bottom, left:right]
    return write_grid(scene.isel(y=slice(top, bottom), x=slice(left, right)), part)


@dataclass(frozen=True, eq=False)
class Area:
    """Polygons on the ground."""

    polygons: tuple[shapely.Geometry, ...]
    crs: CRS
    source: str
    """How to call it in a message."""

    @classmethod
    def box(cls, west: float, south: float, east: float, north: float) -> Area:
        """A box of longitudes and latitudes in degrees (EPSG:4326); across the date line if west is greater than east.

        Raises:
            SceneError: no such box, or one more than 180 degrees wide across the date line.

        """
        source = f"the box {west:g},{south:g},{east:g},{north:g}"
        return cls(box_in_degrees(west, south, east, north), CRS.from_epsg(4326), source)

    @classmethod
    def from_file(cls, path: str | Path, layer: str | None = None) -> Area:
        """The polygons of a vector file (GeoJSON, GeoPackage, Shapefile, GeoParquet).

        Args:
            path: the file.
            layer: its layer, where it has several.

        Raises:
            SceneError: no such file, no vector file, without a coordinate reference system, or without polygons.

        Warns:
            UserWarning: polygons cross or cover themselves and were mended; what is drawn twice counts once.

        """
        frame = _read(Path(path), layer)
        if frame.crs is None:
            raise SceneError(
                f"{path} does not say its coordinate reference system: write it with 'ogr2ogr -a_srs EPSG:... OUT IN'."
            )
        polygons = tuple(_polygons(sound(frame.geometry, str(path))))
        if not polygons:
            kinds = sorted({str(kind) for kind in frame.geom_type.dropna()})
            raise SceneError(f"{path} holds no polygon ({', '.join(kinds) or 'nothing at all'}): an area needs one.")
        return cls(polygons, CRS.from_user_input(frame.crs), str(path))

    def window(self, scene: xr.DataArray) -> tuple[slice, slice]:
        """The smallest rows and columns that hold every pixel of the area.

        Raises:
            SceneError: the area lies beside the scene, or between the middles of its pixels.

        """
        height, width = scene.sizes["y"], scene.sizes["x"]
        placed, transform = self._placed(scene), transform_of(scene)
        if not placed:
            own = _in_degrees(ring(*shapely.total_bounds(np.array(self.polygons))), self.crs)
            outline = np.array([transform @ corner for corner in ring(0, 0, width, height)])
            raise SceneError(
                f"{self.source} lies beside {name_of(scene)}: west, south, east, north are {own}, the scene's "
                f"{_in_degrees(outline, CRS.from_user_input(scene.rio.crs))}."
            )
        # First the corners' rows and columns, a little too many; then strip by strip what the polygons really hold.
        columns, rows = ~transform @ tuple(np.concatenate([shapely.get_coordinates(shape) for shape in placed]).T)
        top, bottom = max(0, int(np.floor(rows.min()))), min(height, int(np.ceil(rows.max())) + 1)
        left, right = max(0, int(np.floor(columns.min()))), min(width, int(np.ceil(columns.max())) + 1)
        across = np.zeros(max(0, right - left), dtype=bool)
        touched: list[int] = []
        for first in range(top, bottom, _STRIP) if right > left else ():
            inside = self.mask(scene, slice(first, min(bottom, first + _STRIP)), slice(left, right))
            across |= inside.any(axis=0)
            touched += (np.flatnonzero(inside.any(axis=1)) + first).tolist()
        if not touched:
            raise SceneError(
                f"{self.source} holds the middle of no pixel of {name_of(scene)}: it is smaller than a pixel, or "
                "touches the scene's edge only."
            )
        used = np.flatnonzero(across) + left
        return slice(touched[0], touched[-1] + 1), slice(int(used[0]), int(used[-1]) + 1)

    def mask(self, scene: xr.DataArray, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """(rows, columns) bool: True where the middle of a pixel lies in the area; for any part of a scene."""
        top, bottom, _ = rows.indices(scene.sizes["y"])
        left, right, _ = columns.indices(scene.sizes["x"])
        inside = np.zeros((max(0, bottom - top), max(0, right - left)), dtype=bool)
        placed = self._placed(scene)
        if placed and inside.size:
            with RASTERIO_LOCK:
                transform = transform_of(scene) @ Affine.translation(left, top)
                inside = geometry_mask(placed, inside.shape, transform, invert=True)
        return inside

    def _placed(self, scene: xr.DataArray) -> tuple[shapely.Geometry, ...]:
        """The polygons near a scene in its coordinates."""
        return _place(self, scene.rio.crs.to_wkt(), transform_of(scene), scene.sizes["y"], scene.sizes["x"])


def _read(path: Path, layer: str | None) -> gpd.GeoDataFrame:
    refuse_unreachable(path, SceneError)
    if not path.exists():
        raise SceneError(f"there is no file {path}.")
    try:
        if layer is None:
            layer = only_layer(path, SceneError, "say layer=... of Area.from_file, or ")
        elif path.suffix.lower() not in (".parquet", ".geoparquet"):
            layers = [str(name) for name in pyogrio.list_layers(path)[:, 0]]
            if layer not in layers:
                raise SceneError(f"{path} has no layer {layer}; it has {', '.join(layers) or 'none'}.")
        return read_vectors(path, "polygons", layer=layer)
    except pyogrio.errors.DataSourceError as error:
        raise SceneError(f"{path} cannot be read as polygons ({error}): GeoJSON, GPKG or GeoParquet can.") from error
    except DatasetError as error:
        raise SceneError(f"{str(error).rstrip('.')}: GeoJSON, GPKG or GeoParquet can hold an area.") from error


def _polygons(shapes: Sequence[Any] | npt.NDArray[Any]) -> list[shapely.Geometry]:
    """The polygons of valid geometries."""
    parts = shapely.get_parts(shapely.get_parts(shapes))  # collections may hold polygons of several parts
    return [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]


@lru_cache(maxsize=8)
def _place(area: Area, wkt: str, transform: Affine, height: int, width: int) -> tuple[shapely.Geometry, ...]:
    # The scene's outline, a pixel wider, is taken into the polygons' coordinates; what of them lies near is cut out
    # there, and only that is projected: far away a projection may fold or have no numbers.
    target = CRS.from_wkt(wkt)
    corners = ((-1, -1), (width + 1, -1), (width + 1, height + 1), (-1, height + 1))
    outline = shapely.Polygon([transform @ corner for corner in corners])
    outline = shapely.segmentize(outline, outline.length / 400)
    pixel = min(np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e))
    shapes = list(area.polygons)
    if area.crs.is_geographic:
        shapes = [part for shape in shapes for part in cut_at_date_line(shape)]
    if target != area.crs:
        there = Transformer.from_crs(area.crs, target, always_xy=True)
        near = frames(shapely.get_coordinates(outline), Transformer.from_crs(target, area.crs, always_xy=True))
        if area.crs.is_geographic:
            near = [part for frame in near for part in cut_at_date_line(frame)]
        # What lies far from the scene may have no coordinates in its projection.
        parts = [shapely.intersection(shape, frame) for shape in shapes for frame in near]
        bounds = shapely.bounds(near).reshape(-1, 4)
        step = (bounds[:, 2:] - bounds[:, :2]).max(initial=0)
        dense = (shapely.segmentize(part, step / 32) for part in _polygons(parts))
        middle = outline.centroid.x if target.is_geographic else None
        shapes = [_projected(shape, there, middle, _PRECISE * float(pixel)) for shape in dense]
    if target.is_geographic:  # a scene may go on past the date line, to 180.2 or from 0 to 360
        shapes = [translate(shape, turn) for shape in shapes for turn in (-360, 0, 360)]
    return tuple(shape for shape in shapes if shapely.intersects(shape, outline))


def _projected(shape: shapely.Geometry, there: Transformer, middle: float | None, tolerance: float) -> shapely.Geometry:
    """A polygon in other coordinates, with as many corners as keep its edges where they are.

    Where these are degrees, longitudes are those within half a turn of `middle`.
    """

    def moved(points: Coordinates) -> Coordinates:
        x, y = there.transform(points[:, 0], points[:, 1])
        return np.column_stack([x if middle is None else middle + (x - middle + 180) % 360 - 180, y])

    # A straight edge in the polygons' coordinates is a curve in the scene's.
    rings = [shape.exterior, *shape.interiors]
    shell, *holes = (_followed(shapely.get_coordinates(ring), moved, tolerance) for ring in rings)
    return mend([shapely.Polygon(shell, holes)])[0][0]


def _followed(corners: Coordinates, moved: Callable[[Coordinates], Coordinates], tolerance: float) -> Coordinates:
    """A ring in other coordinates; edges are halved until their middles lie where they should."""
    for _ in range(24):
        there = moved(corners)
        middles = (corners[:-1] + corners[1:]) / 2
        beside = np.hypot(*(moved(middles) - (there[:-1] + there[1:]) / 2).T)
        bent = np.flatnonzero(beside > tolerance)
        if len(bent) == 0:
            break
        corners = np.insert(corners, bent + 1, middles[bent], axis=0)
    return moved(corners)


def _in_degrees(outline: Coordinates, crs: CRS) -> str:
    """West, south, east, north of an outline in degrees; west is greater than east where it crosses the date line."""
    x, y = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*outline.T)
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return "unknown"
    x, y = np.unwrap(x[known], period=360), y[known]
    west, east = x.min(), x.max()
    if east - west < 360 and (west < -180 or east > 180):
        west, east = ((side + 180) % 360 - 180 for side in (west, east))
    return ", ".join(f"{value:.5g}" for value in (west, y.min(), east, y.max()))
