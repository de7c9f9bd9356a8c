"""GeoParquet and GeoPackage files written batch by batch, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

SUFFIXES = (".parquet", ".gpkg")


class GeoPackage:
    """A GeoPackage with one layer, named after the file; tags become metadata of file and layer.

    Args:
        path: the file, which must not exist yet.
        tags: metadata to record.

    """

    def __init__(self, path: Path, tags: Mapping[str, str]) -> None:
        self.path, self.tags = path, tags

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
        self.bounds = [np.inf, np.inf, -np.inf, -np.inf]
        self.crs: Any = None
        self.box = "bbox"

    def write(self, frame: gpd.GeoDataFrame) -> None:
        """Appends a batch as a row group; the first one, which may be empty, determines columns and CRS."""
        if self.file is None and "bbox" in frame:
            self.box = "geometry_bbox"
        table = _table(frame, self.box)
        if self.file is None:
            self.file, self.crs = pq.ParquetWriter(self.path, table.schema, compression="zstd"), frame.crs
        self.file.write_table(table.cast(self.file.schema))
        self.kinds |= set(frame.geom_type.dropna())
        if len(frame):
            low, high = self.bounds[:2], self.bounds[2:]
            bounds = frame.total_bounds
            self.bounds = [*np.fmin(low, bounds[:2]).tolist(), *np.fmax(high, bounds[2:]).tolist()]

    def close(self) -> None:
        """Writes the `geo` metadata and closes the file."""
        # Geometry types and total bounds are known only now, so the metadata goes into the footer at the end.
        if self.file is None:
            return
        file, self.file = self.file, None
        try:
            file.add_key_value_metadata({"geo": json.dumps(self._geo()), **self.tags})
        finally:
            file.close()

    def _geo(self) -> dict[str, Any]:
        corners = ("xmin", "ymin", "xmax", "ymax")
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(self.kinds),
            "crs": json.loads(CRS.from_user_input(self.crs).to_json()),
            "covering": {"bbox": {corner: [self.box, corner] for corner in corners}},
        }
        if np.isfinite(self.bounds).all():
            column["bbox"] = self.bounds
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


@contextmanager
def new_vector_file(path: str | Path, tags: Mapping[str, str] | None = None) -> Iterator[GeoPackage | GeoParquet]:
    """A writer for `path`, chosen by its suffix; the file appears only when complete.

    Raises:
        ConfigError: the suffix is neither .parquet nor .gpkg.
        OutputError: the file cannot be written.

    """
    path = Path(path)
    check_suffix(path)
    with atomic_file(path) as written:
        writer = (GeoPackage if path.suffix.lower() == ".gpkg" else GeoParquet)(written, tags or {})
        try:
            yield writer
        except (DataSourceError, DataLayerError, FeatureError) as error:  # how GDAL's drivers say that a disk is full
            raise OutputError(f"{path} cannot be written ({error}): is the disk full?") from error
        finally:
            writer.close()


def read_places(path: str | Path, what: str) -> gpd.GeoDataFrame:
    """The features of a vector file, which must have at least one feature and a CRS.

    Args:
        path: the file.
        what: role of the file in error messages, such as "zones".

    Raises:
        DatasetError: the file cannot be read, or has no features or no CRS.

    """
    frame = read_vectors(path, what)
    if len(frame) == 0:
        raise DatasetError(f"{path} has no features.")
    if frame.crs is None:
        raise DatasetError(f"{path} has no coordinate reference system, so nobody knows where its features lie.")
    return frame


def check_suffix(path: Path) -> None:
    """Checks that there is a writer for the suffix of a file.

    Raises:
        ConfigError: the suffix is neither .parquet nor .gpkg.

    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path} is neither GeoParquet (.parquet) nor a GeoPackage (.gpkg): name it so.")


def _table(frame: gpd.GeoDataFrame, beside: str) -> pa.Table:
    """Arrow table of attributes and WKB geometry, with bounding boxes in the column `beside`."""
    # geopandas only writes whole files, so batches are converted here. The bounding box is a struct column, whose
    # min/max statistics let readers skip row groups (GeoParquet 1.1, "covering").
    table = pa.Table.from_pandas(frame.drop(columns=frame.geometry.name), preserve_index=False)
    geometry = frame.geometry.to_numpy()
    table = table.append_column("geometry", pa.array(shapely.to_wkb(geometry).tolist(), pa.binary()))
    sides = [pa.array(side, pa.float64()) for side in shapely.bounds(geometry).reshape(-1, 4).T]
    box = pa.StructArray.from_arrays(sides, names=["xmin", "ymin", "xmax", "ymax"])
    return table.append_column(beside, box).replace_schema_metadata(None)
