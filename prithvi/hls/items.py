"""Granules as STAC items: from folders, catalogs, search results; to files that others read.

Everything downstream takes a list of items, wherever they come from. Keys of assets are the product's band ids (B02,
B8A, Fmask), so what B05 means depends on the granule's name, and is looked up there.
"""

from __future__ import annotations

import filecmp
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import rasterio
from rasterio.errors import RasterioError
from shapely.geometry import shape

from prithvi.bands import PRODUCTS, band_id
from prithvi.errors import MALFORMED, BandError, DatasetError, SceneError, first_line, needs
from prithvi.files import atomic_file, refuse_unreachable
from prithvi.hls.granules import NAME, Granule, is_granule_name
from prithvi.scenes.catalog_hrefs import asset_address, from_server
from prithvi.scenes.paths import is_http
from prithvi.scenes.polygons import footprint
from prithvi.scenes.stac_items import read_stac

MISSING = "prithvi:missing"
"""Property: share of the granule without data, 0 to 1."""
_TIFF = (".tif", ".tiff")


def read_items(source: str | Path) -> list[pystac.Item]:
    """The HLS granules of a source, by tile and time, none twice.

    Args:
        source: a folder with granules; a static STAC catalog or collection; an item, an ItemCollection or a folder's
            `items.json`; a GeoParquet file of items.

    Raises:
        DatasetError: no such file, none of these, or no HLS granule in it.

    Warns:
        UserWarning: items that are no HLS granules are left out.

    """
    path = Path(source)
    refuse_unreachable(path, DatasetError)
    if path.is_dir():
        found = granule_items(path)
    elif not path.is_file():
        raise DatasetError(f"there is no file or folder {path}, and no dataset of that name.")
    elif path.suffix.lower() in (".parquet", ".geoparquet"):
        found = _from_parquet(path)
    else:
        found = _from_json(path)
    named = [item for item in found if is_granule_name(str(item.id))]
    strangers = len(found) - len(named)
    if strangers:
        warnings.warn(f"{path}: {strangers} of {len(found)} items are no HLS granules and are left out.", stacklevel=2)
    if not named:
        raise DatasetError(
            f"{path} holds no HLS granule: expected names such as HLS.L30.T31UDS.2022145T105621.v2.0.B02.tif."
        )
    return in_order(named)


def in_order(items: Iterable[pystac.Item]) -> list[pystac.Item]:
    """Granules by tile and time, none twice."""
    return sorted({item.id: item for item in items}.values(), key=lambda item: Granule.parse(item.id))


def granule_items(folder: str | Path) -> list[pystac.Item]:
    """An item for each granule whose GeoTIFFs lie in a folder or below it.

    Place and size are read from one file's header; `eo:cloud_cover` and the share of missing pixels from its tags,
    where it has them. A granule across the date line is cut there, and the west of its bbox is greater than its east
    (RFC 7946). Of files that lie there twice, byte for byte the same, one is taken.

    Raises:
        DatasetError: two different files have one name.

    Warns:
        UserWarning: a granule whose header cannot be read, or whose name states a time that does not exist, is left
            out, and named.

    """
    files: dict[str, dict[str, Path]] = {}
    left_out: dict[str, Exception] = {}
    for directory, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            match = NAME.match(name)
            if match is None or not name.lower().endswith(_TIFF):
                continue
            granule = name[: match.end("version")]
            try:
                Granule.parse(granule)
            except SceneError as error:  # such as day 366 of a year that has 365
                left_out[granule] = error
                continue
            rest = Path(name[len(granule) :].lstrip("._")).stem
            key = "Fmask" if rest.lower() == "fmask" else band_id(rest)
            if key is not None:
                known = files.setdefault(granule, {}).setdefault(key, Path(directory, name))
                _refuse_another(known, Path(directory, name))
    items = []
    for granule, bands in sorted(files.items()):
        try:
            items.append(_item(Granule.parse(granule), bands))
        except (RasterioError, SceneError) as error:
            left_out[granule] = error
    for granule, reason in sorted(left_out.items()):
        warnings.warn(f"granule {granule} is left out: {str(reason).rstrip('.')}.", stacklevel=2)
    return items


def _refuse_another(known: Path, file: Path) -> None:
    """Raises DatasetError for two files of one name that differ, such as a granule and a crop of it."""
    if file != known and not filecmp.cmp(known, file, shallow=False):
        raise DatasetError(
            f"{known} and {file} have one name and differ: which of the two is meant cannot be told. Move one of them "
            "out of this folder, or give the folder of the granules alone."
        )


def _item(granule: Granule, files: Mapping[str, Path]) -> pystac.Item:
    first = files.get("Fmask") or next(iter(files.values()))
    with rasterio.open(first) as raster:
        if raster.crs is None:
            raise RasterioError(f"{first} has no coordinate reference system")
        outline, bounds = footprint(raster.crs.to_wkt(), raster.transform, raster.shape, steps=4)
        code, tags = raster.crs.to_epsg(), raster.tags()
        properties: dict[str, Any] = {"proj:shape": list(raster.shape), "proj:transform": list(raster.transform)}
    if code is not None:
        properties["proj:code"] = f"EPSG:{code}"
    extensions = ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    with suppress(KeyError, ValueError):
        properties["eo:cloud_cover"] = float(tags["cloud_coverage"])
        extensions.append("https://stac-extensions.github.io/eo/v1.1.0/schema.json")
    with suppress(KeyError, ValueError):
        properties[MISSING] = round(1 - float(tags["spatial_coverage"]) / 100, 6)
    item = pystac.Item(str(granule), outline, bounds, granule.time, properties, stac_extensions=extensions)
    return with_files(item, dict(sorted(files.items())))


def cloud_cover(item: pystac.Item) -> float | None:
    """Per cent of clouds; None where the item does not state it, or states null as some catalogs do."""
    cloud = item.properties.get("eo:cloud_cover")
    return None if cloud is None else float(cloud)


def with_files(item: pystac.Item, files: Mapping[str, Path]) -> pystac.Item:
    """The item with files on this disk as its only assets, by band id or `Fmask`."""
    item.assets = {}
    for key, path in files.items():
        role = "mask" if key == "Fmask" else "data"
        item.add_asset(key, pystac.Asset(path.resolve().as_uri(), media_type=pystac.MediaType.GEOTIFF, roles=[role]))
    return item


def asset_href(item: pystac.Item, band: str) -> str:
    """Address of a common band's file, or of `fmask`, by the ids of the granule's own product.

    Raises:
        BandError: the granule has no such band or file.
        AddressError: an item from a server points where it may not, see `prithvi.scenes.catalog_hrefs`.

    """
    granule = Granule.parse(item.id)
    key = "Fmask" if band == "fmask" else granule.band_id(band)
    for name, asset in item.assets.items():
        if name.lower() == key.lower() or (band != "fmask" and band_id(name) == key):
            file = Path(urlparse(asset.href).path).name
            if is_granule_name(file) and Granule.parse(file).product != granule.product:
                raise BandError(f"{item.id} is {granule.product}, and its {name} is a file of another product: {file}.")
            return asset_address(item, asset)
    strangers = sorted(filter(None, {band_id(name) for name in item.assets} - set(PRODUCTS[granule.sensor])))
    more = f" ({', '.join(strangers)} are no bands of {granule.product})" if strangers else ""
    raise BandError(f"{item.id} has no file of {band} ({key}); it has {', '.join(item.assets) or 'none'}{more}.")


def write_items(items: Sequence[pystac.Item], path: str | Path) -> Path:
    """Writes items as GeoParquet (.parquet) or as an ItemCollection (.json), whole or not at all.

    Raises:
        DatasetError: another suffix.
        OutputError: the file cannot be written.

    """
    target = Path(path)
    if target.suffix not in (".parquet", ".json"):
        raise DatasetError(f"{target}: items are written as .parquet or .json.")
    features = [_plain(item) for item in items]
    with atomic_file(target) as written:
        if target.suffix == ".json":
            text = json.dumps({"type": "FeatureCollection", "features": features}, indent=1)
            written.write_text(text, encoding="utf-8")
        else:
            arrow = _stac_geoparquet()
            arrow.to_parquet(arrow.parse_stac_items_to_arrow(features), written)
    return target


def _plain(item: pystac.Item) -> dict[str, Any]:
    """An item as JSON holds it, its files by absolute address and without links to where it came from."""
    plain = item.to_dict(include_self_link=False, transform_hrefs=False)
    plain["links"] = []
    for key, asset in item.assets.items():
        plain["assets"][key]["href"] = asset_address(item, asset)
    return plain


def _stac_geoparquet() -> Any:
    with needs("GeoParquet of STAC items", "search"):
        from stac_geoparquet import arrow
    return arrow


def _from_parquet(path: Path) -> list[pystac.Item]:
    import pyarrow.parquet

    arrow = _stac_geoparquet()
    try:
        plain = list(arrow.stac_table_to_items(pyarrow.parquet.read_table(path)))
        return [pystac.Item.from_dict(_without_empty(item)) for item in plain]
    except (OSError, RuntimeError, pystac.STACError, pystac.STACTypeError, *MALFORMED) as error:
        raise DatasetError(f"{path} is no GeoParquet file of STAC items ({first_line(error)}).") from error


def _without_empty(item: dict[str, Any]) -> dict[str, Any]:
    """A table has a column for every asset and field of any item: those that this one lacks leave again."""
    assets = {
        key: {name: value for name, value in asset.items() if value is not None}
        for key, asset in item["assets"].items()
        if asset is not None and asset.get("href") is not None
    }
    properties = {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in item["properties"].items()
        if value is not None or key == "datetime"
    }
    return {**item, "assets": assets, "properties": properties, "links": item.get("links") or []}


def _from_json(path: Path) -> list[pystac.Item]:
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("type")
        if kind in ("Catalog", "Collection"):
            return [_looked_at(item) for item in pystac.read_file(str(path)).get_items(recursive=True)]  # type: ignore[attr-defined]
        if kind in ("Feature", "FeatureCollection"):
            return read_stac(path)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SceneError, pystac.STACError) as error:
        raise DatasetError(f"{path} cannot be read as STAC ({error}).") from error
    raise DatasetError(f"{path} is no STAC item, collection or catalog (its type is {kind!r}).")


def _looked_at(item: pystac.Item) -> pystac.Item:
    """An item of a catalog on disk; some of its items may be on servers."""
    own = item.get_self_href() or ""
    return from_server(item, own) if is_http(own) else item


def by_tile(items: Sequence[pystac.Item]) -> dict[str, list[pystac.Item]]:
    """Items of each tile in order of time."""
    ordered = sorted(items, key=lambda item: Granule.parse(item.id))
    return {tile: list(some) for tile, some in groupby(ordered, key=lambda item: Granule.parse(item.id).tile)}


def table(items: Iterable[pystac.Item]) -> gpd.GeoDataFrame:
    """One row a granule: id, tile, product, time, cloud (per cent, NaN where unknown) and footprint (EPSG:4326)."""
    rows = []
    for item in items:
        granule = Granule.parse(item.id)
        place = shape(item.geometry) if item.geometry else None
        rows.append((item.id, granule.tile, granule.product, pd.Timestamp(granule.time), cloud_cover(item), place))
    frame = gpd.GeoDataFrame(rows, columns=["id", "tile", "product", "time", "cloud", "geometry"], crs="EPSG:4326")
    frame["cloud"] = frame["cloud"].astype(float)
    return frame.sort_values(["tile", "time"], ignore_index=True)
