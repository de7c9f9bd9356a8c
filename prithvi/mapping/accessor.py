"""`.prithvi` of results: an array to files."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import xarray as xr
from rasterio.errors import RasterioError

from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.cog import Raster, RasterWriter, check_geotiff
from prithvi.mapping.result_files import (
    classes_of_result,
    date_labels,
    embedding_raster,
    map_rasters,
    series_rasters,
    tags_of,
)
from prithvi.modelio.predictor import ClassEntry
from prithvi.products.provenance import Provenance

if TYPE_CHECKING:
    import pystac


@xr.register_dataset_accessor("prithvi")  # type: ignore[no-untyped-call]
class PrithviAccessor:
    """Writes what `prithvi.map`, `prithvi.fill` and `prithvi.embed` give; lazy results are computed row by row."""

    def __init__(self, result: xr.Dataset) -> None:
        self.result = result

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """Of a class map.

        Raises:
            ConfigError: this is none.

        """
        return classes_of_result(self.result)

    def to_cog(self, path: str | Path, confidence: bool = False) -> Path:
        """Writes a Cloud-Optimized GeoTIFF: the classes with names and colours, or the quantity, or the embeddings.

        A filled series becomes a folder with DATE.tif, DATE_filled.tif and DATE_uncertainty.tif.

        Args:
            path: the file (.tif), or the folder of a filled series.
            confidence: whether to write STEM_confidence.tif beside a class map, too.

        Raises:
            OutputError: it cannot be written.
            SceneError: the scene of a lazy result cannot be read.
            ConfigError: nothing in here can be written so, or another suffix.

        """
        result, path = self.result, Path(path)
        if "image" in result:
            result, folder = result.transpose("time", "band", "y", "x"), path
            rasters = _rasters_of_dates(result)
        elif "embedding" in result:
            folder, rasters = path.parent, [embedding_raster(check_geotiff(path).name, result)]
        elif {"class", "value"} & set(result):
            folder, rasters = path.parent, map_rasters(result, check_geotiff(path), confidence)
        else:
            raise ConfigError(f"none of {', '.join(map(str, result.data_vars))} is a map, a series or an embedding.")
        with RasterWriter(folder, _grid(result), rasters) as writer:
            for values in _by_rows(result):
                writer.write(values)
            writer.publish()
        return path

    def to_vectors(self, path: str | Path, **options: Any) -> Path:
        """Writes the polygons of a class map: GeoParquet (.parquet) or GeoPackage (.gpkg).

        Args:
            path: the file.
            **options: see `prithvi.products.class_polygons.vectorise`: `minimum_area`, `simplify`, `names`.

        Raises:
            OutputError: it cannot be written.
            ConfigError: this is no class map.

        """
        from prithvi.products.class_polygons import vectorise

        path, sure = Path(path), bool(self.classes) and "confidence" in self.result
        with tempfile.TemporaryDirectory() as work:
            made = self.to_cog(Path(work) / f"{path.stem}.tif", confidence=sure)
            beside = made.with_name(f"{made.stem}_confidence.tif") if sure else None
            vectorise(made, path, confidence=beside, provenance=self._origin(), **options)
        return path

    def to_stac(self, path: str | Path) -> pystac.Item:
        """Writes the STAC item of a map beside its file, which `to_cog` has written, and of its confidence.

        Args:
            path: the file.

        Raises:
            ConfigError: this is no map.
            SceneError: the file is not there, or the scene had no date.

        """
        from prithvi.products.map_item import map_item, write_item

        path = Path(path)
        if not {"class", "value"} & set(self.result):
            raise ConfigError("a STAC item is written of maps (prithvi.map), and this is none.")
        if not path.is_file():
            raise SceneError(f"there is no file {path}: write it first (result.prithvi.to_cog({str(path)!r})).")
        dates = [dt.datetime.fromisoformat(day) for day in self.result.attrs.get("dates", ())]
        if not dates:
            raise SceneError("a STAC item needs a date, and the scene has none: prithvi.open_scene(..., dates=[...]).")
        beside = path.with_name(f"{path.stem}_confidence.tif")
        assets = {"confidence": beside} if beside.is_file() else {}
        write_item(path, provenance=self._origin(), dates=dates, assets=assets)
        return map_item(path, provenance=self._origin(), dates=dates, assets=assets)

    def _origin(self) -> Provenance:
        attrs = self.result.attrs
        return replace(Provenance.from_tags(attrs), model_folder=str(attrs.get("model_folder", "")))


def _grid(result: xr.Dataset) -> xr.DataArray:
    """(y, x) of nothing but places."""
    blank = result[next(iter(result.data_vars))]
    blank = blank.isel({name: 0 for name in blank.dims if name not in ("y", "x")}, drop=True)
    return blank.assign_attrs(shape=tuple(result.attrs.get("shape", blank.shape)))


def _rasters_of_dates(result: xr.Dataset) -> list[Raster]:
    if "time" not in result.coords:
        raise SceneError("a filled series is written date by date, and this one has no dates: give it a `time`.")
    labels = date_labels(result)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise SceneError(f"the filled series has the date {twice} twice, and each becomes a file: leave one out.")
    bands = [str(band) for band in result["band"].values]
    return series_rasters(labels, bands, "uncertainty" in result, tags_of(result))


def _by_rows(result: xr.Dataset, rows: int = 1024) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Values from top to bottom, by the blocks of a lazy result."""
    heights = result.chunksizes.get("y") or [rows] * -(-result.sizes["y"] // rows)
    start = 0
    for height in heights:
        try:
            part = result.isel(y=slice(start, start + height)).compute()
        except (RasterioError, OSError) as error:
            raise SceneError(f"the scene's pixels cannot be read ({error}): damaged, cut short or moved.") from error
        yield {str(name): values.values for name, values in part.data_vars.items()}
        start += height
