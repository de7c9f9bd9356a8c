"""GeoParquet and GeoPackage files written batch by batch, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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

from prithvi.errors import ConfigError, DatasetError, OutputError
from prithvi.files import atomic_file
from prithvi.scenes.polygons import read_vectors

CORNERS = ["xmin", "ymin", "xmax", "ymax"]


@dataclass
class GeoPackage:
    """A GeoPackage with one layer, named after the file; tags become metadata of file and layer.

    Args:
        path: the file, which must not exist yet.
        tags: metadata to record.

    """

    path: Path
    tags: Mapping[str, str]

    def write(self, frame: gpd.GeoDataFrame) -> None:
        """Appends a batch; the first one, which may be empty, determines columns and CRS."""
        begun = self.path.exists()
        told = {} if begun else {"layer_metadata": dict(self.tags), "dataset_metadata": dict(self.tags)}
        kinds = set(frame.geom_type) or {"Polygon"}
        kind = kinds.pop() if len(kinds) == 1 else "Unknown"
        pyogrio.write_dataframe(frame, self.path, driver="GPKG", append=begun, geometry_type=kind, **told)

    def close(self) -> None:
        """Does nothing: the file is complete after every batch."""


class GeoParquet:
    """A GeoParquet 1.1 file: WKB geometry, a bounding-box column to filter by, one row group per batch, zstd.

    Args:
        path: the file, which must not exist yet.
        tags: key-value metadata to record.

    """

    def __init__(self, path: Path, tags: Mapping[str, str]) -> None:
        self.path, self.tags = path, tags
        self.file: pq.ParquetWriter | None = None
        self.kinds: set[str] = set()
        self.low, self.high = np.full(2, np.inf), np.full(2, -np.inf)
        self.crs: Any = None

    def write(self, frame: gpd.GeoDataFrame) -> None:
        """Appends a batch as a row group; the first one, which may be empty, determines columns and CRS."""
        if self.file is None:
            self.box = "geometry_bbox" if "bbox" in frame else "bbox"
        table = _table(frame, self.box)
        if self.file is None:
            self.file, self.crs = pq.ParquetWriter(self.path, table.schema, compression="zstd"), frame.crs
        self.file.write_table(table.cast(self.file.schema))
        self.kinds |= set(frame.geom_type.dropna())
        if len(frame):
            bounds = frame.total_bounds
            self.low, self.high = np.fmin(self.low, bounds[:2]), np.fmax(self.high, bounds[2:])

    def close(self) -> None:
        """Writes the `geo` metadata and closes the file."""
        # Geometry types and total bounds are known only now, so the metadata goes into the footer at the end.
        if self.file is None:
            return
        with self.file as file:
            column: dict[str, Any] = {
                "encoding": "WKB",
                "geometry_types": sorted(self.kinds),
                "crs": json.loads(CRS.from_user_input(self.crs).to_json()),
                "covering": {"bbox": {corner: [self.box, corner] for corner in CORNERS}},
            }
            bounds = [*self.low.tolist(), *self.high.tolist()]
            if np.isfinite(bounds).all():
                column["bbox"] = bounds
            about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
            file.add_key_value_metadata({"geo": json.dumps(about), **self.tags})


@contextmanager
def new_vector_file(path: str | Path, tags: Mapping[str, str] | None = None) -> Iterator[GeoPackage | GeoParquet]:
    """A writer for `path`, chosen by its suffix; the file appears only when complete.

    Raises:
        ConfigError: the suffix is neither .parquet nor .gpkg.
        OutputError: the file cannot be written.

    """
    path = Path(path)
    if path.suffix.lower() not in (".parquet", ".gpkg"):
        raise ConfigError(f"{path} is neither GeoParquet (.parquet) nor a GeoPackage (.gpkg): name it so.")
    with atomic_file(path) as written:
        writer = (GeoPackage if path.suffix.lower() == ".gpkg" else GeoParquet)(written, tags or {})
        try:
            yield writer
        except (DataSourceError, DataLayerError, FeatureError) as error:  # how GDAL's drivers say that a disk is full
            raise OutputError(f"{path} cannot be written ({error}): is the disk full?") from error
        finally:
            writer.close()


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
