"""GeoParquet and GeoPackage files written batch by batch, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from pyproj import CRS
from pyproj.exceptions import CRSError

from prithvi.errors import ConfigError, DatasetError, OutputError, first_line
from prithvi.files import atomic_file
from prithvi.products.provenance import Provenance
from prithvi.scenes.vector_files import read_vectors, refuse_placeless

CORNERS = ["xmin", "ymin", "xmax", "ymax"]


def write_vectors(path: str | Path, frames: Iterable[gpd.GeoDataFrame], provenance: Provenance | None = None) -> int:
    """Writes batches of features, the first of which may be empty and determines columns and CRS, to a .parquet or
    .gpkg file, which appears only when complete. Returns the number of features.

    Raises:
        ConfigError: the suffix is neither .parquet nor .gpkg.
        OutputError: the file cannot be written, or not in the features' coordinate reference system.

    """
    path, tags = Path(path), provenance.tags() if provenance else {}
    if path.suffix.lower() not in (".parquet", ".gpkg"):
        raise ConfigError(f"{path} is neither GeoParquet (.parquet) nor a GeoPackage (.gpkg): name it so.")
    with atomic_file(path) as written:
        try:
            return (_geopackage if path.suffix.lower() == ".gpkg" else _geoparquet)(written, iter(frames), tags)
        except CRSError as error:
            raise OutputError(
                f"{path} cannot be written: GeoPackages do not know the coordinate reference system of these features "
                f"({first_line(error)}). Write GeoParquet (.parquet), or warp the map first (gdalwarp)."
            ) from error
        except (DataSourceError, DataLayerError, FeatureError) as error:  # how GDAL's drivers say that a disk is full
            raise OutputError(f"{path} cannot be written ({error}): is the disk full?") from error


def _geopackage(path: Path, frames: Iterator[gpd.GeoDataFrame], tags: Mapping[str, str]) -> int:
    """One layer, named after the file; tags become metadata of file and layer."""
    number = 0
    for frame in frames:
        begun = path.exists()
        told = {} if begun else {"layer_metadata": dict(tags), "dataset_metadata": dict(tags)}
        kinds = set(frame.geom_type.unique()) or {"Polygon"}
        kind = kinds.pop() if len(kinds) == 1 else "Unknown"
        pyogrio.write_dataframe(frame, path, driver="GPKG", append=begun, geometry_type=kind, **told)
        number += len(frame)
    return number


def _geoparquet(path: Path, frames: Iterator[gpd.GeoDataFrame], tags: Mapping[str, str]) -> int:
    """GeoParquet 1.1: WKB geometry, a bounding-box column to filter by, one row group per batch, zstd."""
    first, number = next(frames), 0
    kinds: set[str] = set()
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    box = "geometry_bbox" if "bbox" in first else "bbox"
    table = _table(first, box)
    with pq.ParquetWriter(path, table.schema, compression="zstd") as file:
        for frame in chain([first], frames):
            table = table if frame is first else _table(frame, box)
            file.write_table(table.cast(file.schema))
            kinds |= set(frame.geom_type.dropna().unique())
            number += len(frame)
            if len(frame):
                bounds = frame.total_bounds
                low, high = np.fmin(low, bounds[:2]), np.fmax(high, bounds[2:])
        # Geometry types and total bounds are known only now, so the metadata goes into the footer at the end.
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(kinds),
            "crs": json.loads(CRS.from_user_input(first.crs).to_json()),
            "covering": {"bbox": {corner: [box, corner] for corner in CORNERS}},
        }
        if np.isfinite([low, high]).all():
            column["bbox"] = [*low.tolist(), *high.tolist()]
        about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        file.add_key_value_metadata({"geo": json.dumps(about), **tags})
    return number


def read_places(places: str | Path | gpd.GeoDataFrame, what: str) -> tuple[gpd.GeoDataFrame, str]:
    """Features with a CRS, at least one, and how to call them in a message.

    Args:
        places: a vector file, or the features.
        what: role of the file in error messages, such as "zones".

    Raises:
        DatasetError: the file cannot be read, or there are no features or no CRS.

    """
    frame = places if isinstance(places, gpd.GeoDataFrame) else read_vectors(places, what)
    name, has = (f"the {what}", "have") if frame is places else (str(places), "has")
    if len(frame) == 0:
        raise DatasetError(f"{name} {has} no features.")
    if frame.crs is None:
        raise DatasetError(f"{name} {has} no coordinate reference system, so nobody knows where its features lie.")
    refuse_placeless(frame, name)
    return frame, name


def _table(frame: gpd.GeoDataFrame, beside: str) -> pa.Table:
    """Arrow table of attributes and WKB geometry, with bounding boxes in the column `beside`."""
    # geopandas only writes whole files, so batches are converted here. The bounding box is a struct column, whose
    # min/max statistics let readers skip row groups (GeoParquet 1.1, "covering").
    table = pa.Table.from_pandas(frame.drop(columns=frame.geometry.name), preserve_index=False)
    geometry = frame.geometry.to_numpy()
    table = table.append_column("geometry", pa.array(shapely.to_wkb(geometry).tolist(), pa.binary()))
    sides = [pa.array(side, pa.float64()) for side in shapely.bounds(geometry).reshape(-1, 4).T]
    box = pa.StructArray.from_arrays(sides, names=CORNERS)
    return table.append_column(beside, box).replace_schema_metadata(None)
