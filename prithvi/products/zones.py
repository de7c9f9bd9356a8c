"""Zonal statistics: the area of each class in each zone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from affine import Affine
from exactextract import exact_extract
from exactextract.operation import Operation
from exactextract.raster import RasterSource
from pyproj import CRS, Transformer
from rasterio.windows import Window
from shapely.affinity import translate

from prithvi.errors import DatasetError, SceneError
from prithvi.files import atomic_file
from prithvi.products.classmap import NONE, ClassMap, open_classes
from prithvi.products.ellipsoid import geometry_areas, step_of
from prithvi.products.provenance import Provenance
from prithvi.products.vectorfiles import read_places, write_vectors
from prithvi.scenes.grids import has_place
from prithvi.scenes.polygons import clip, frames, mend, near_longitudes, ring, sound, unwrapped

CELLS = 2_000_000
"""Upper limit of the pixels that exactextract holds in memory at once."""
FINE = 2.0**24
"""Zone vertices are rounded to 1 / FINE of a pixel, so that a vertex on a pixel corner lies on it exactly:
exactextract loses whole pixels where an edge misses a corner by rounding in the last digit of a degree."""
OWN = ("class", "name", "area_m2", "share", "confidence", "without_data_m2")
"""Columns that the result adds to those of the zones."""


def area_by_zone(
    path: str | Path, zones: str | Path | gpd.GeoDataFrame, *, confidence: str | Path | None = None
) -> gpd.GeoDataFrame:
    """Area of every class in every zone in square metres on the WGS 84 ellipsoid; edge pixels count fractionally.

    Args:
        path: a map written by `map_scene`.
        zones: polygons in any vector format and CRS, or a GeoDataFrame of them.
        confidence: a confidence raster on the map's grid, 0 to 1 after its band's scale.

    Returns:
        One row per zone and class of the map, also where the class does not occur in the zone. Columns are those of
        the zones (a name that clashes with ours becomes `zone_<name>`; further geometries are left out), then `class`
        (number), `name`, `area_m2`, `share` (of the zone's mapped area; null where nothing is mapped), with a
        confidence raster `confidence` (area-weighted mean; null where the class does not occur), `without_data_m2`
        (area of the zone that is nodata or outside the map), and the unchanged geometry of the zone.

    Raises:
        SceneError: the map or the confidences cannot be read, differ in grid, or are rotated.
        DatasetError: the zones cannot be read, have no features or no CRS, or are not polygons.

    Warns:
        UserWarning: self-intersecting zones were repaired; overlapping parts of one zone count once.

    """
    frame, source = read_zones(zones)
    with open_classes(path, confidence) as classes:
        refuse_rotated(classes.raster.transform, str(path))
        valid = sound(frame.geometry, source)
        valid[shapely.is_missing(valid)] = shapely.Polygon()
        shapes = gpd.GeoSeries(valid, crs=frame.crs)
        return _table(frame, geometry_areas(valid, frame.crs), classes, _sums(shapes, classes))


def read_zones(zones: str | Path | gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, str]:
    """Polygons in the column `geometry`, and how to call them in a message. Further columns of geometries are left out,
    as a zone has one outline, and another column of that name becomes `zone_geometry`.

    Raises:
        DatasetError: they cannot be read, have no features or no CRS, or are not polygons.

    """
    frame, source = read_places(zones, "zones")
    kinds = set(frame.geom_type.dropna()) - {"Polygon", "MultiPolygon"}
    if kinds:
        raise DatasetError(f"{source} has {' and '.join(sorted(kinds))} features; zones are polygons.")
    outline = frame.geometry.name
    others = [name for name in frame if name != outline and str(frame[name].dtype) == "geometry"]
    frame = frame.reset_index(drop=True).drop(columns=others)
    if outline != "geometry":
        if "geometry" in frame:
            frame = frame.rename(columns={"geometry": _free("geometry", frame)})
        frame = frame.rename_geometry("geometry")
    frame["geometry"] = shapely.force_2d(frame.geometry.to_numpy())
    return frame, source


def _free(name: str, frame: gpd.GeoDataFrame) -> str:
    """The name with `zone_` before it, as often as it takes to be no other column's."""
    while name in {*frame, *OWN}:
        name = f"zone_{name}"
    return name


def refuse_rotated(transform: Affine, name: str) -> None:
    """Raises SceneError where the rows of a map of that name do not run east."""
    if transform.b or transform.d or transform.a < 0:
        raise SceneError(f"{name} is rotated; areas by zone need rows that run east: warp it first (gdalwarp).")


def write_zones(frame: gpd.GeoDataFrame, stem: str | Path, provenance: Provenance | None = None) -> tuple[Path, Path]:
    """Writes <stem>_zones.csv, without geometry, and <stem>_zones.parquet, each atomically.

    Args:
        frame: the result of `area_by_zone`.
        stem: folder and prefix of the file names, such as `maps/flood`.
        provenance: recorded in the Parquet file.

    Returns:
        The paths of the CSV and the Parquet file.

    Raises:
        OutputError: a file cannot be written.

    """
    table, features = (Path(f"{stem}_zones{suffix}") for suffix in (".csv", ".parquet"))
    write_vectors(features, [frame], provenance)
    with atomic_file(table) as made:
        frame.drop(columns="geometry").to_csv(made, index=False)
    return table, features


def _blocks(classes: ClassMap) -> Callable[[int, int, int, int], tuple[Any, Any, Any]]:
    """Reads classes, areas and confidences of a block of map pixels (column, row, columns, rows), north on top."""
    pixels, raster = classes.areas(), classes.raster
    north_up = raster.transform.e < 0

    @lru_cache(maxsize=1)  # each source asks for the same block in turn
    def block(column: int, row: int, columns: int, rows: int) -> tuple[Any, Any, Any]:
        if not rows or not columns:
            nothing = np.zeros((rows, columns))
            return nothing, nothing, nothing
        # A south-up map is flipped here, since exactextract expects the northernmost row first.
        start = row if north_up else raster.height - row - rows
        window, turn = Window(column, start, columns, rows), slice(None, None, 1 if north_up else -1)
        sure = classes.read_confidence(window)[turn] if classes.confidence is not None else None
        found, areas = classes.read(window), pixels.window(start, column, rows, columns)
        classes.on_earth(areas[found != NONE])
        return found[turn], areas[turn], sure

    return block


class _Source(RasterSource):  # type: ignore[misc]
    """A quantity per pixel as an exactextract raster, in pixel units from the map's south-west corner.

    Args:
        classes: the map.
        block: of `_blocks`.
        kind: `area` (1 where the class is), `confidence` (that of the class), else each pixel's area.
        value: the class.

    """

    def __init__(self, classes: ClassMap, block: Callable[..., Any], kind: str, value: int = NONE) -> None:
        super().__init__()
        self.set_name(f"{kind}_{value}")
        self.raster, self.block, self.kind, self.value = classes.raster, block, kind, value

    def res(self) -> tuple[float, float]:
        return 1.0, 1.0

    def extent(self) -> tuple[float, float, float, float]:
        return 0.0, 0.0, float(self.raster.width), float(self.raster.height)

    def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Any:
        values, areas, confidence = self.block(x0, y0, nx, ny)
        if self.value == NONE:
            return areas
        return np.where(values == self.value, confidence if self.kind == "confidence" else 1.0, np.nan)

    def nodata_value(self) -> None:
        return None

    def srs_wkt(self) -> str:
        return str(self.raster.crs.to_wkt())


def _sums(zones: gpd.GeoSeries, classes: ClassMap) -> pd.DataFrame:
    """One row per zone: `area_<class>` in square metres and the mean confidence `confidence_<class>`."""
    # exactextract weights each pixel by the fraction of it inside a zone. A second weight, the pixel's area on the
    # ellipsoid, turns the weighted sum of a class indicator (1 or NaN) into square metres, and the weighted mean of the
    # confidence into an area-weighted mean. All sources share one block of pixels, so each pixel is read once.
    block = _blocks(classes)
    weights = _Source(classes, block, "m2")
    kinds = {"area": "weighted_sum"} | ({"confidence": "weighted_mean"} if classes.confidence is not None else {})
    sources, operations, columns = [], [], []  # exactextract does not keep the sources alive
    for value in classes.present():
        for kind, operation in kinds.items():
            sources.append(_Source(classes, block, kind, value))
            columns.append(f"{kind}_{value}")
            operations.append(Operation(operation, columns[-1], sources[-1], weights))
    shapes = _in_the_map(zones, classes)
    known = shapes[~shapes.is_empty].rename("geometry").to_frame()
    known["zone"] = known.index
    if len(known) == 0 or not operations:
        return pd.DataFrame(np.nan, index=zones.index, columns=columns)
    found = exact_extract(
        sources, known, operations, weights=weights, include_cols=["zone"],
        output="pandas", max_cells_in_memory=CELLS,
    )  # fmt: skip
    return found.set_index("zone").reindex(zones.index)[columns].astype(float)


def _in_the_map(zones: gpd.GeoSeries, classes: ClassMap) -> gpd.GeoSeries:
    """Valid polygons in pixel units from the map's south-west corner; empty where a zone misses the map."""
    # Zones are reprojected to the map's CRS and then expressed in pixels. exactextract does not snap coordinates, but
    # in pixel units a vertex within rounding error of a pixel corner can be moved exactly onto it (`FINE`). Both steps
    # can make a polygon invalid, so polygons are repaired after each.
    crs = CRS.from_user_input(classes.raster.crs.to_wkt())
    if not has_place(crs.to_wkt()):
        raise classes.nowhere()
    if zones.crs != crs:
        zones = _near(zones, classes, crs).segmentize(step_of(zones.crs))  # keeps edges in place when reprojected
    shapes = zones.to_crs(crs).to_numpy().copy()
    left, low, right, high = map(float, classes.raster.bounds)
    low, high = min(low, high), max(low, high)  # of a south-up map
    shapes[~np.isfinite(shapely.bounds(shapes)).all(axis=1)] = shapely.Polygon()  # outside the projection's domain
    if crs.is_geographic:  # longitudes of a map may cross the antimeridian (to 180.2) or run from 0 to 360
        if not zones.crs.is_geographic:
            shapes = [unwrapped(shape) for shape in shapes]
        shapes = [near_longitudes(shape, left, right) for shape in mend(shapes)[0]]
    shapes, _ = mend(shapes)
    bounds = shapely.bounds(shapes)
    with np.errstate(invalid="ignore"):
        meets = (bounds[:, 0] < right) & (bounds[:, 2] > left) & (bounds[:, 1] < high) & (bounds[:, 3] > low)
    sizes = [classes.raster.transform.a, abs(classes.raster.transform.e)]

    def placed(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        pixels: npt.NDArray[np.float64] = np.round((points - (left, low)) / sizes * FINE) / FINE
        return pixels

    pairs = zip(shapes, meets, strict=True)
    found = [shapely.transform(shape, placed) if there else shapely.Polygon() for shape, there in pairs]
    return gpd.GeoSeries(mend(found)[0], index=zones.index, crs=crs)


def _near(zones: gpd.GeoSeries, classes: ClassMap, crs: CRS) -> gpd.GeoSeries:
    """What of zones lies around the map: parts far away may have no place in its projection, or a wrong one."""
    raster = classes.raster
    outline = np.array(
        [raster.transform @ tuple(corner) for corner in ring(-1, -1, raster.width + 1, raster.height + 1)]
    )
    there = Transformer.from_crs(crs, zones.crs, always_xy=True)
    x, y = there.transform(*outline.T)
    again = np.column_stack(there.transform(x, y, direction="INVERSE"))
    # A map of the whole Earth reaches to where the zones' projection, or its own, knows no place: all is near it.
    with np.errstate(invalid="ignore"):
        astray = np.abs(again - outline)
        if crs.is_geographic:
            astray[:, 0] = np.abs((astray[:, 0] + 180) % 360 - 180)
        if not (astray < max(abs(raster.transform.a), abs(raster.transform.e))).all():
            return zones
    # Around a pole the inside of an outline lies in no box of it in the zones' own projection.
    turn = np.unwrap(Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(*outline.T)[0], period=360)
    if not zones.crs.is_geographic and not abs(turn[-1] - turn[0]) < 180:
        return zones
    near = frames(outline, there)
    if zones.crs.is_geographic:  # zones may go on past 180 degrees
        near = [translate(frame, turn) for frame in near for turn in (-360, 0, 360)]
    return gpd.GeoSeries(clip(zones.to_numpy(), shapely.union_all(near)), index=zones.index, crs=zones.crs)


def _table(
    zones: gpd.GeoDataFrame, whole: npt.NDArray[np.float64], classes: ClassMap, sums: pd.DataFrame
) -> gpd.GeoDataFrame:
    """The result table: one row per zone and class, from the zones, their own areas `whole` and their sums."""
    # The area without data is the zone's own area minus its mapped area, so nodata pixels need not be counted.
    values = [int(name.removeprefix("area_")) for name in sums if name.startswith("area_")]
    areas = sums[[f"area_{value}" for value in values]].fillna(0.0).to_numpy()
    mapped = areas.sum(axis=1)
    lacking = np.where(whole - mapped > 1e-6 * whole, whole - mapped, 0.0)  # a smaller difference is rounding
    own = {name: _free(name, zones) for name in zones if name in OWN}
    repeated = zones.loc[zones.index.repeat(len(values))].reset_index(drop=True).rename(columns=own)
    repeated["class"] = np.tile(np.array(values, dtype=np.int32), len(zones))
    repeated["name"] = [classes.title(value) for value in values] * len(zones)
    repeated["area_m2"] = areas.ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        repeated["share"] = (areas / mapped[:, None]).ravel()
    if classes.confidence is not None:
        repeated["confidence"] = sums[[f"confidence_{value}" for value in values]].to_numpy().ravel()
    repeated["without_data_m2"] = np.repeat(lacking, len(values))
    return repeated[[*(name for name in repeated if name != "geometry"), "geometry"]]
