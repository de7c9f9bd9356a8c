"""Features of vector files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import shapely

from prithvi.errors import MALFORMED, DatasetError, PrithviError, first_line
from prithvi.scenes.grids import has_place

_ONE_LAYER = (".geojson", ".json", ".shp", ".fgb", ".parquet", ".geoparquet")
"""Endings of formats that hold one layer of features; GDAL reads a whole GeoJSON to say so."""


def read_vectors(path: str | Path, what: str = "a vector file", **options: Any) -> gpd.GeoDataFrame:
    """The features of a vector file: GeoParquet, or any format that GDAL reads.

    Args:
        path: the file.
        what: it is read as, for the message.
        options: of `geopandas.read_file`, such as layer= and bbox=. Without layer= it is the only one.

    Raises:
        DatasetError: it cannot be read, has several layers of features, no geometry, or a CRS without a place on Earth.

    """
    path = Path(path)
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            frame = gpd.read_parquet(path)
            left, bottom, right, top = options.get("bbox") or frame.total_bounds
            frame = frame.cx[left:right, bottom:top] if options.get("bbox") else frame
        else:
            layer = options.pop("layer", None)
            frame = gpd.read_file(path, layer=only_layer(path) if layer is None else layer, **options)
    except PrithviError:
        raise
    # GDAL's errors are RuntimeErrors in pyogrio, as are those of coordinate reference systems in pyproj. Where the name
    # of one is no text, pyogrio (0.13) falls over a variable of its own.
    except (RuntimeError, OSError, UnboundLocalError, shapely.errors.ShapelyError, *MALFORMED) as error:
        raise DatasetError(f"{path} cannot be read as {what} ({first_line(error)}).") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise DatasetError(f"{path} is a table without geometries, not {what}.")
    refuse_placeless(frame, str(path))
    if frame.crs is not None and frame.crs.is_geographic and (farthest := np.abs(frame.total_bounds).max()) > 3600:
        raise DatasetError(f"{path} holds the coordinate {farthest:g}, and its coordinates are degrees.")
    return frame


def refuse_placeless(frame: gpd.GeoDataFrame, name: str) -> None:
    """Raises DatasetError for features whose CRS has no place on Earth; what has none at all is left to the caller."""
    if frame.crs is not None and not has_place(frame.crs.to_wkt()):
        raise DatasetError(
            f"the coordinate reference system of {name} is {frame.crs.name!r}, which has no known place on Earth: "
            "write the right one ('ogr2ogr -a_srs EPSG:... OUT IN')."
        )


def only_layer(path: Path, error: type[PrithviError] = DatasetError, otherwise: str = "") -> str | None:
    """The layer of a file that holds features; None for the first one, where none does.

    Tables without places, such as layer_styles of QGIS, and empty layers, such as those of GPX, are none to choose.

    Args:
        path: the file.
        error: to raise.
        otherwise: what else can be done about it, for the message.

    Raises:
        error: several do.

    """
    if path.suffix.lower() in _ONE_LAYER:
        return None
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if len(layers) > 1:
        filled = [name for name in layers if pyogrio.read_info(path, name, force_feature_count=True)["features"]]
        layers = filled or layers[:1]
    if len(layers) > 1:
        raise error(
            f"{path} has the layers {', '.join(layers)}, and which is meant is not known: {otherwise}write it into a "
            f"file of its own, in Python geopandas.read_file({str(path)!r}, layer={layers[0]!r}).to_file('ONE.gpkg')."
        )
    return layers[0] if layers else None
