"""`.prithvi` of results: an array to files."""

from __future__ import annotations

import datetime as dt
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from rasterio.errors import RasterioError

from prithvi.errors import ConfigError, SceneError
from prithvi.mapping import result_files
from prithvi.mapping.cog import RasterWriter, check_geotiff
from prithvi.mapping.engine import ROWS
from prithvi.mapping.inference import has_dates
from prithvi.modelio.predictor import ClassEntry
from prithvi.products.provenance import Provenance

if TYPE_CHECKING:
    import pystac


_MAIN = ("image", "embedding", "class", "value")
"""Arrays that a result is about, of which it has one."""


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
        return result_files.classes_of_result(self.result)

    def to_cog(self, path: str | Path, confidence: bool = False, disagreement: bool = False) -> Path:
        """Writes a Cloud-Optimized GeoTIFF: the classes with names and colours, or the quantity, or the embeddings.

        A filled series becomes a folder with DATE.tif, DATE_filled.tif and DATE_uncertainty.tif, of several sensors
        also DATE_source.tif; composites one with FIRST_LAST.tif and FIRST_LAST_date.tif.

        Args:
            path: the file (.tif), or the folder of a filled series.
            confidence: whether to write STEM_confidence.tif beside a class map, too.
            disagreement: whether to write STEM_disagreement.tif beside a map that was made with it, too.

        Raises:
            OutputError: it cannot be written.
            SceneError: the scene of a lazy result cannot be read; a filled series without dates, or one of whose values
                nobody says what they are; a result that lacks a dimension, has one more, or does not say where it lies.
            ConfigError: nothing in here can be written so, or another suffix.

        """
        result, path = _with_place(self.result), Path(path)
        if "image" in result:
            if not has_dates(result):
                raise SceneError("a series is written date by date, and this one has no dates: give it a `time`.")
            image = result["image"].attrs
            if image.get("gain") is None:
                raise SceneError(
                    "a series is written as reflectance, and nobody says what this one's values are: state it with "
                    "result['image'].attrs.update(gain=..., bias=...), where reflectance = value x gain + bias."
                )
            result, folder = _laid_out(result, "image", "time", "band"), path
            labels, tags = result_files.date_labels(result), result_files.tags_of(result)
            bands = [str(band) for band in result["band"].values]
            units = float(image["gain"]), float(image.get("bias") or 0.0)
            if "last_day" in result.coords:  # composites
                ends = result["last_day"].dt.strftime("%Y-%m-%d").values
                made = [
                    result_files.composite_rasters(f"{label}_{end}", bands, tags, units, place)
                    for place, (label, end) in enumerate(zip(labels, ends, strict=True))
                ]
                rasters = [raster for pair in made for raster in pair]
            else:
                rasters = result_files.series_rasters(
                    labels, bands, "uncertainty" in result, tags, units, result_files.SourceLayer.of(result)
                )
        elif "embedding" in result:
            result = _laid_out(result, "embedding", "step", "feature")
            folder, rasters = path.parent, [result_files.embedding_raster(check_geotiff(path).name, result)]
        elif {"class", "value"} & set(result):
            result = _laid_out(result, "class" if "class" in result else "value")
            wanted: dict[str, Any] = {"confidence": confidence, "disagreement": disagreement}
            folder, rasters = path.parent, result_files.map_rasters(result, check_geotiff(path), **wanted)
        else:
            raise ConfigError(f"none of {', '.join(map(str, result.data_vars))} is a map, a series or an embedding.")
        with RasterWriter(folder, result[next(name for name in _MAIN if name in result)], rasters) as writer:
            # From top to bottom, by the blocks of a lazy result.
            start = 0
            for height in result.chunksizes.get("y") or [ROWS] * -(-result.sizes["y"] // ROWS):
                try:
                    part = result.isel(y=slice(start, start + height)).compute()
                except (RasterioError, OSError) as error:
                    told = f"the scene's pixels cannot be read ({error}): damaged, cut short or moved."
                    raise SceneError(told) from error
                writer.write({str(name): values.values for name, values in part.data_vars.items()})
                start += height
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
        """Writes the STAC item of a map beside the files of it that `to_cog` has written.

        Args:
            path: the file.

        Raises:
            ConfigError: this is no map.
            SceneError: the file is not there, or the scene had no date.

        """
        from prithvi.products.map_item import map_item, save_item

        path = Path(path)
        if not {"class", "value"} & set(self.result):
            raise ConfigError("a STAC item is written of maps (prithvi.map), and this is none.")
        if not path.is_file():
            raise SceneError(f"there is no file {path}: write it first (result.prithvi.to_cog({str(path)!r})).")
        dates = [dt.datetime.fromisoformat(day) for day in self.result.attrs.get("dates", ())]
        if not dates:
            raise SceneError("a STAC item needs a date, and the scene has none: prithvi.open_scene(..., dates=[...]).")
        beside = {name: path.with_name(f"{path.stem}_{name}.tif") for name in ("confidence", "disagreement")}
        assets = {name: file for name, file in beside.items() if file.is_file()}
        item = map_item(path, provenance=self._origin(), dates=dates, assets=assets)
        save_item(item)
        return item

    def _origin(self) -> Provenance:
        attrs = self.result.attrs
        return replace(Provenance.from_tags(attrs), model_folder=str(attrs.get("model_folder", "")))


def _with_place(result: xr.Dataset) -> xr.Dataset:
    """A result that says where it lies. `xr.open_dataset` and `xr.open_zarr` leave what does among the variables.

    Raises:
        SceneError: it does not.

    """
    if any(name in result and result[name].rio.crs is None for name in _MAIN):
        result = result.set_coords([str(name) for name, values in result.data_vars.items() if _is_mapping(values)])
        if any(name in result and result[name].rio.crs is None for name in _MAIN):
            raise SceneError(
                "this result has no coordinate reference system, so nobody knows where it lies: give it one "
                "(result = result.rio.write_crs('EPSG:...'))."
            )
    for name in (name for name in _MAIN if name in result and not {"x", "y"} <= set(result.coords)):
        if result[name].rio.transform(recalc=False).is_identity:
            raise SceneError(
                "this result has a coordinate reference system and no place: give it its coordinates "
                "(result.assign_coords(x=..., y=...), the middles of pixels), or write its transform "
                "(result = result.rio.write_transform(Affine(10, 0, WEST, 0, -10, NORTH)))."
            )
    return result


def _is_mapping(values: xr.DataArray) -> bool:
    """Whether this is a variable of CF that holds no values but says where others lie."""
    return values.ndim == 0 and bool({"grid_mapping_name", "crs_wkt", "spatial_ref"} & set(values.attrs))


def _laid_out(result: xr.Dataset, name: str, *leading: str) -> xr.Dataset:
    """A result whose arrays have rows, then columns, behind what else they have.

    Raises:
        SceneError: the array of that name has other dimensions than the leading ones, y and x.

    """
    wanted, found = (*leading, "y", "x"), tuple(map(str, result[name].dims))
    lacking, more = [dim for dim in wanted if dim not in found], [dim for dim in found if dim not in wanted]
    if lacking and more:
        raise SceneError(
            f"{name!r} has the dimensions {', '.join(found)}, and a file has {', '.join(wanted)}: call them so "
            f"(result.rename({{{more[0]!r}: {lacking[0]!r}}}))."
        )
    if lacking:
        raise SceneError(
            f"{name!r} has the dimensions {', '.join(found) or 'none'}, without {' and '.join(lacking)}: take a single "
            f"one with its dimension (isel({lacking[0]}=[0]) in place of isel({lacking[0]}=0))."
        )
    if more:
        raise SceneError(
            f"{name!r} has the dimension {more[0]}, and a file has none: take one of it (isel({more[0]}=0))."
        )
    return result.transpose(*leading, "category", "y", "x", ..., missing_dims="ignore")
