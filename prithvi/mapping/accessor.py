"""`.prithvi` of results: an array to files."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from rasterio.errors import RasterioError

from prithvi.errors import ConfigError, SceneError
from prithvi.mapping.answers import STEPS, in_steps
from prithvi.mapping.embedder import embedding_raster
from prithvi.mapping.provenance import Provenance
from prithvi.mapping.rasters import NODATA, Grid, Raster, RasterWriter
from prithvi.modelio.predictor import ClassEntry

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
        told = self.result["class"].attrs.get("classes") if "class" in self.result else None
        if told is None:
            raise ConfigError("these are no classes: prithvi.map with a segmentation model gives some.")
        return tuple(ClassEntry(**entry) for entry in json.loads(told))

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
        path = Path(path)
        if "image" in self.result:
            return self._series_to_cogs(path)
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise ConfigError(f"a GeoTIFF is written here: name {path} .tif.")
        wanted = self._rasters(path, confidence)
        names = [name for name, _ in wanted]
        with RasterWriter(path.parent, Grid.of(self._grid()), [raster for _, raster in wanted]) as writer:
            for start, values in _by_rows(self.result[names]):
                writer.write(start, [_stored(name, values[name]) for name in names])
            writer.make()
            writer.publish()
        return path

    def to_vectors(self, path: str | Path, **options: Any) -> Path:
        """Writes the polygons of a class map: GeoParquet (.parquet) or GeoPackage (.gpkg).

        Args:
            path: the file.
            **options: see `prithvi.mapping.vectors.vectorise`: `minimum_area`, `simplify`, `names`.

        Raises:
            OutputError: it cannot be written.
            ConfigError: these are no classes.

        """
        from prithvi.mapping.vectors import vectorise

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
        from prithvi.mapping.stac import map_item, write_item

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

    def _grid(self) -> xr.DataArray:
        """(y, x) of nothing but places."""
        blank = self.result[next(iter(self.result.data_vars))]
        return blank.isel({name: 0 for name in blank.dims if name not in ("y", "x")}, drop=True)

    def _tags(self) -> dict[str, str]:
        return {key: str(value) for key, value in self.result.attrs.items() if key.startswith("PRITHVI_")}

    def _rasters(self, path: Path, confidence: bool) -> list[tuple[str, Raster]]:
        tags, nan = self._tags(), float("nan")
        if "class" in self.result:
            found = [
                ("class", Raster(path.name, ("class",), "uint8", NODATA, tags, classes=self.classes, resampling="MODE"))
            ]
            if confidence:
                name = f"{path.stem}_confidence.tif"
                found.append(("confidence", Raster(name, ("confidence",), "uint8", NODATA, tags, 1 / STEPS)))
            return found
        if "value" in self.result:
            about = self.result["value"].attrs
            title, unit = str(about.get("long_name", "value")), str(about.get("units", ""))
            return [("value", Raster(path.name, (title,), "float32", nan, tags, unit=unit))]
        if "embedding" in self.result:
            steps, features = self.result["embedding"].shape[:2]
            return [("embedding", embedding_raster(path.name, (steps, features), tags))]
        raise ConfigError(f"none of {', '.join(map(str, self.result.data_vars))} is a map, a series or an embedding.")

    def _series_to_cogs(self, folder: Path) -> Path:
        from prithvi.mapping.series import date_labels, rasters_of, stored_dates

        if "time" not in self.result.coords:
            raise SceneError("a filled series is written date by date, and this one has no dates: give it a `time`.")
        ordered = PrithviAccessor(self.result.transpose("time", "band", "y", "x"))
        labels = date_labels(self.result)
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise SceneError(f"the filled series has the date {twice} twice, and each becomes a file: leave one out.")
        bands = [str(band) for band in self.result["band"].values]
        unsure = "uncertainty" in self.result
        rasters = [raster for label in labels for raster in rasters_of(label, bands, unsure, self._tags())]
        with RasterWriter(folder, Grid.of(ordered._grid()), rasters) as writer:
            for start, values in _by_rows(ordered.result):
                writer.write(start, stored_dates(values["image"], values["filled"], values.get("uncertainty")))
            writer.make()
            writer.publish()
        return folder


def _stored(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if name == "confidence":
        return in_steps(values)
    return values.reshape(-1, *values.shape[2:]).astype(np.float32) if name == "embedding" else values


def _by_rows(result: xr.Dataset, rows: int = 1024) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """First row and values, by the blocks of a lazy result."""
    heights = result.chunksizes.get("y") or [rows] * -(-result.sizes["y"] // rows)
    start = 0
    for height in heights:
        try:
            part = result.isel(y=slice(start, start + height)).compute()
        except (RasterioError, OSError) as error:
            raise SceneError(f"the scene's pixels cannot be read ({error}): damaged, cut short or moved.") from error
        yield start, {str(name): values.values for name, values in part.data_vars.items()}
        start += height
