"""A STAC item of a map and its sidecar files, so that others can find the map, read it and see its provenance.

STAC 1.1 with the extensions Projection 2.0.0, Raster 1.1.0, Classification 1.1.0 and Processing 1.1.0.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pystac
import rasterio
import xarray as xr
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from prithvi.errors import ConfigError, SceneError, nearest
from prithvi.files import write_text
from prithvi.modelio.item import CLASSIFICATION
from prithvi.modelio.predictor import ClassEntry
from prithvi.products.provenance import Provenance, classes_of
from prithvi.scenes.polygons import footprint
from prithvi.scenes.raster_files import refuse_unplaced

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v1.1.0/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.1.0/schema.json"
LEVEL = "L4"
"""Processing level of model output derived from lower levels."""
ASSETS = {
    "classes": ("Most likely class", "data"),
    "value": ("Predicted quantity", "data"),
    "confidence": ("Confidence in the class", "data"),
    "disagreement": ("Disagreement between overlapping windows", "data"),
    "probabilities": ("Probability of every class", "data"),
    "polygons": ("Areas of the classes as polygons", "data"),
    "zones": ("Areas by zone", "data"),
    "style": ("Style for QGIS", "style"),
}
"""Assets of a map by name: title and role."""
_TYPES = {
    ".parquet": "application/vnd.apache.parquet", ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf", ".geojson": "application/geo+json", ".json": "application/json",
    ".csv": "text/csv", ".qml": "application/xml", ".html": "text/html", ".png": "image/png",
}  # fmt: skip
_TIFF = (".tif", ".tiff")


def map_item(
    path: str | Path,
    *,
    provenance: Provenance,
    dates: Sequence[dt.date],
    assets: Mapping[str, str | Path] | None = None,
    folder: Path | None = None,
) -> pystac.Item:
    """The STAC item of a map and its products, not yet written.

    Args:
        path: a class map (tags CLASS_<n>, colour table) or a map of a quantity. Footprint, grid, nodata, units and
            classes are read from it; its stem is the item's id.
        provenance: model and inputs of the map. Inputs that are STAC items or have one as a sidecar, and the model
            folder's `item.json`, become `derived_from` links; other remote inputs become `via` links.
        dates: acquisition dates or times of the scene, in any order; UTC unless they state a time zone.
        assets: the other products, keyed by the names in `ASSETS`.
        folder: final folder of map and products, if they will be moved there after the item is made.

    Returns:
        The item, with hrefs relative to its own address beside the map.

    Raises:
        ConfigError: no dates, an unknown asset name, or a missing asset file.
        SceneError: the map cannot be read or has no CRS.

    """
    # Two addresses: `home`, where the item is while products are made in a work folder, and `later`, where it will be.
    # Assets move along with the item, so their hrefs are relative to `home`; inputs and model stay where they are, so
    # theirs are relative to `later`.
    path, beside = Path(path), {name: Path(file) for name, file in (assets or {}).items()}
    when = _times(path, dates)
    for name, file in beside.items():
        if name not in ASSETS:
            raise ConfigError(f"{path}: a map has no asset {name!r}: {nearest(name, ASSETS)}")
        if name in ("classes", "value"):
            raise ConfigError(f"{path} is itself the asset {name}; leave it out.")
        if not file.exists():
            raise ConfigError(f"{path}: its asset {name} is not there: {file}.")
    home = path.with_suffix(".json")
    later = (folder or path.parent) / home.name
    try:
        with rasterio.open(path) as raster:
            refuse_unplaced(str(path), raster)
            classes, grid = _classes(raster), _grid(raster)
            try:
                outline, bounds = footprint(raster.crs.to_wkt(), raster.transform, raster.shape)
            except SceneError as error:
                raise SceneError(f"{path}: {error}") from error
    except RasterioError as error:
        raise SceneError(f"{path} cannot be read as a map ({error}).") from error
    item = pystac.Item(
        path.stem, outline, bounds, when[0] if len(when) == 1 else None,
        {**grid, **_told(provenance, later)},
        start_datetime=when[0] if len(when) > 1 else None, end_datetime=when[-1] if len(when) > 1 else None,
        stac_extensions=[PROJECTION, RASTER, PROCESSING, *([CLASSIFICATION] if classes else [])],
    )  # fmt: skip
    beside = {"classes" if classes else "value": path, **beside}
    for name in ASSETS:
        if name in beside:
            item.add_asset(name, _asset(name, beside[name], home))
    if classes:
        item.assets["classes"].extra_fields["classification:classes"] = [entry.to_stac() for entry in classes]
    item.add_links(_sources(provenance, later))
    item.set_self_href(str(home))
    return item


def write_item(
    path: str | Path,
    *,
    provenance: Provenance,
    dates: Sequence[dt.date],
    assets: Mapping[str, str | Path] | None = None,
    folder: Path | None = None,
) -> Path:
    """Writes the item of `map_item`, with the same arguments, to `<stem>.json` beside the map, atomically.

    Raises:
        ConfigError: no dates, an unknown asset name, or a missing asset file.
        SceneError: the map cannot be read or has no CRS.
        OutputError: the item cannot be written.

    """
    return save_item(map_item(path, provenance=provenance, dates=dates, assets=assets, folder=folder))


def save_item(item: pystac.Item) -> Path:
    """Writes an item to its own address, atomically."""
    plain = item.to_dict(include_self_link=False, transform_hrefs=False)
    return write_text(item.self_href, json.dumps(plain, indent=2) + "\n")


def times_of(scene: xr.DataArray) -> list[dt.datetime]:
    """Acquisition times of a scene in UTC; empty if it has none."""
    if "time" not in scene.coords:
        return []
    seconds = np.atleast_1d(scene["time"].values).astype("datetime64[s]")
    return [time.replace(tzinfo=dt.UTC) for time in seconds.tolist()]


def _times(path: Path, dates: Sequence[dt.date]) -> list[dt.datetime]:
    """The distinct times in UTC, oldest first."""
    if not dates:
        raise ConfigError(f"{path}: a STAC item needs the scene's date, and none is known: give the scene its dates.")
    times = set()
    for day in dates:
        time = day if isinstance(day, dt.datetime) else dt.datetime(day.year, day.month, day.day)
        times.add(time.astimezone(dt.UTC) if time.tzinfo is not None else time.replace(tzinfo=dt.UTC))
    return sorted(times)


def _classes(raster: DatasetReader) -> list[ClassEntry]:
    """Classes in a map's tags; `color` is empty without a colour table."""
    named, labels = classes_of(raster.tags())
    colors: dict[int, tuple[int, ...]] = {}
    with suppress(ValueError):  # no colour table
        colors = raster.colormap(1)
    hexadecimal = {value: "{:02X}{:02X}{:02X}".format(*color) for value, color in colors.items()}
    return [ClassEntry(value, name, hexadecimal.get(value, ""), labels.get(value)) for value, name in named.items()]


def _grid(raster: DatasetReader) -> dict[str, Any]:
    """Fields of the projection extension."""
    crs, transform, (rows, columns) = raster.crs, raster.transform, raster.shape
    authority = crs.to_authority()
    # to_authority also reports a code for a CRS that merely resembles it: only an equal CRS is given by its code, any
    # other one in full as WKT2.
    exact = authority is not None and rasterio.CRS.from_authority(*authority) == crs
    xs, ys = zip(*(transform @ corner for corner in ((0, 0), (columns, 0), (0, rows), (columns, rows))), strict=True)
    return {
        "proj:code": ":".join(authority) if exact else None,
        **({} if exact else {"proj:wkt2": crs.to_wkt(version="WKT2_2019")}),
        "proj:shape": [rows, columns],
        "proj:transform": list(transform)[:6],
        "proj:bbox": [min(xs), min(ys), max(xs), max(ys)],
    }


def _told(provenance: Provenance, home: Path) -> dict[str, Any]:
    """Properties of the provenance; unknown facts are left out."""
    name, _, version = provenance.software.partition(" ")
    model = _model_item(provenance)
    told: dict[str, Any] = {
        "processing:level": LEVEL,
        "processing:software": {name: version},
        "processing:lineage": provenance.command,
        "processing:expression": {"format": "stac-mlm", "expression": _href(model, home)} if model else None,
        "prithvi:model": provenance.model,
        "prithvi:weights_sha256": provenance.weights_sha256,
        "prithvi:inputs": list(provenance.inputs),
        "prithvi:accepted": list(provenance.accepted),
    }
    return {key: value for key, value in told.items() if value}


def _asset(name: str, file: Path, home: Path) -> pystac.Asset:
    title, role = ASSETS[name]
    if file.suffix.lower() not in _TIFF:
        return pystac.Asset(_href(file, home), title, media_type=_TYPES.get(file.suffix.lower()), roles=[role])
    try:
        with rasterio.open(file) as raster:
            cloud = raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
            bands = [_band(raster, number) for number in raster.indexes]
    except RasterioError as error:
        raise SceneError(f"{file} cannot be read as a raster ({error}).") from error
    kind = pystac.MediaType.COG if cloud else pystac.MediaType.GEOTIFF
    return pystac.Asset(_href(file, home), title, media_type=kind, roles=[role], extra_fields={"raster:bands": bands})


def _band(raster: DatasetReader, number: int) -> dict[str, Any]:
    """A band object of the raster extension, with the band's name."""
    nodata, scale, offset = (facts[number - 1] for facts in (raster.nodatavals, raster.scales, raster.offsets))
    band = {
        "name": raster.descriptions[number - 1],
        "data_type": raster.dtypes[number - 1],
        "nodata": _number(nodata) if nodata is not None else None,
        "unit": raster.units[number - 1],
        "scale": scale if scale != 1 else None,
        "offset": offset if offset != 0 else None,
    }
    return {key: value for key, value in band.items() if value is not None and value != ""}


def _number(value: float) -> float | int | str:
    if not math.isfinite(value):
        return str(value)  # nan, inf, -inf: JSON has no numbers for them
    return int(value) if value == int(value) else value


def _sources(provenance: Provenance, home: Path) -> list[pystac.Link]:
    """Links to the inputs and to the model."""
    links = []
    # A remote address that looks like a STAC item is linked as one, without being fetched. A local input is linked only
    # if it is an item or has one as a sidecar.
    for source in provenance.inputs:
        parts = urlparse(source)
        if parts.scheme in ("http", "https", "s3", "gs"):
            item = parts.path.endswith((".json", ".geojson")) or "/items/" in parts.path
            kind = pystac.MediaType.GEOJSON if item else None
            links.append(pystac.Link("derived_from" if item else "via", source, kind, "Input"))
            continue
        # The file itself, or its .json sidecar.
        near = [Path(source), Path(source).with_suffix(".json")] if Path(source).name else []
        file = next((file for file in near if _is_item(file) and file.resolve() != home.resolve()), None)
        if file is not None:
            links.append(pystac.Link("derived_from", _href(file, home), pystac.MediaType.GEOJSON, "Input"))
    model = _model_item(provenance)
    if model:
        links.append(pystac.Link("derived_from", _href(model, home), pystac.MediaType.GEOJSON, "Model"))
    return links


def _model_item(provenance: Provenance) -> Path | None:
    file = Path(provenance.model_folder) / "item.json"
    return file if provenance.model_folder and file.is_file() else None


def _is_item(file: Path) -> bool:
    try:
        plain = json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else None
    except (OSError, ValueError):
        return False
    return isinstance(plain, dict) and plain.get("type") == "Feature" and "stac_version" in plain


def _href(file: Path, home: Path) -> str:
    """Href relative to the item's folder, so that the folder can be moved."""
    relative = Path(os.path.relpath(file.resolve(), home.resolve().parent)).as_posix()
    return relative if relative.startswith("../") else f"./{relative}"
