"""A class map as polygons."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
from pyproj import Geod
from rasterio.errors import RasterioError
from shapely.geometry import shape

from prithvi.errors import OutputError, SceneError


def class_polygons(path: str | Path, names: Sequence[str] | None = None) -> gpd.GeoDataFrame:
    """The areas of a class map, as 4-connected polygons with holes, in the map's own CRS.

    Args:
        path: a map that `map_scene` wrote.
        names: classes to take; None for all.

    Returns:
        A GeoDataFrame with `class` (number), `name` and `area_m2` (geodesic, on the WGS 84 ellipsoid).

    Raises:
        SceneError: the file cannot be read.

    """
    try:
        with rasterio.open(path) as raster:
            values, valid = raster.read(1), raster.read_masks(1) > 0
            tags, crs, transform = raster.tags(), raster.crs, raster.transform
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read as a map ({error}).") from error
    title = {int(key[6:]): text for key, text in tags.items() if key.startswith("CLASS_")}
    wanted = [value for value, name in title.items() if names is None or name in names]
    mask = valid & np.isin(values, wanted)
    found = [
        (shape(geometry), int(value)) for geometry, value in rasterio.features.shapes(values, mask, transform=transform)
    ]
    geometry = gpd.GeoSeries([polygon for polygon, _ in found], crs=crs)
    geod = Geod(ellps="WGS84")
    areas = [abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in geometry.to_crs("EPSG:4326")]
    classes = [value for _, value in found]
    columns = {"class": classes, "name": [title[value] for value in classes], "area_m2": areas}
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=crs)


def write_polygons(polygons: gpd.GeoDataFrame, path: str | Path) -> Path:
    """Writes GeoParquet; the file appears under its name when it is whole.

    Raises:
        OutputError: it cannot be written.

    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as work:
            made = Path(work) / path.name
            polygons.to_parquet(made, compression="zstd")
            os.replace(made, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    return path
