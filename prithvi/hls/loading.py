"""Granules as one lazy Dataset on a shared grid, through odc-stac."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pystac
import rasterio
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from prithvi.bands import PRITHVI_BANDS, check_names
from prithvi.errors import DatasetError, MissingExtraError, SceneError
from prithvi.hls.fmask import FILL
from prithvi.hls.granules import Granule
from prithvi.hls.items import asset_href
from prithvi.scenes.access import gdal_environment, readable
from prithvi.scenes.polygons import box_in_degrees

_STORED = -9999


def load(
    items: Sequence[pystac.Item],
    *,
    bands: Sequence[str] = PRITHVI_BANDS,
    grid: GeoBox | None = None,
    bbox: Sequence[float] | None = None,
    fmask: bool = True,
    chunks: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """Granules of one place, of both products, by date.

    Args:
        items: granules.
        bands: common names; each product's own ids are looked up.
        grid: the pixels to give; None takes the granules' own, which have to be of one UTM zone. On another grid
            than theirs pixels take their nearest neighbour.
        bbox: west, south, east, north in degrees: only this part; west is greater than east across the date line.
        fmask: whether the quality layer comes along.
        chunks: of the lazy arrays, by `y` and `x`; 512 x 512 pixels if left out.

    Returns:
        `image` (time, band, y, x) int16, reflectance x 10,000 with nodata -9999, and `fmask` (time, y, x) uint8, 255
        for fill; coordinates `time`, `granule` and `spatial_ref`. `prithvi.open_scene(dataset["image"],
        sensor="hls-l30")` makes a scene of it.

    Raises:
        DatasetError: no items; two UTM zones and no grid, which would be one huge raster.
        SceneError: a file's header cannot be read, or the box is none.
        BandError: a granule lacks a band.

    """
    if not items:
        raise DatasetError("no granule was given.")
    names = check_names(bands)
    ordered = sorted(items, key=lambda item: (Granule.parse(item.id).time, item.id))
    grids = {item.id: _grid(item) for item in ordered}
    zones = sorted({str(found.crs) for found in grids.values()})
    if grid is None and len(zones) > 1:
        raise DatasetError(
            f"granules of {' and '.join(zones)} would make one huge raster: load them zone by zone, or give a grid."
        )
    whole = grid if grid is not None else _union(list(grids.values()))
    if bbox is not None:
        whole = _cropped(whole, bbox)
    layers = [*names, "fmask"] if fmask else list(names)
    steps = [_one(item, grids[item.id], layers, whole, chunks or {"y": 512, "x": 512}) for item in ordered]
    times = np.array([Granule.parse(item.id).time.replace(tzinfo=None) for item in ordered], "datetime64[ns]")
    together = xr.concat(steps, dim="time", join="override", coords="minimal", compat="override")
    together = together.assign_coords(time=times, granule=("time", [item.id for item in ordered]))
    image = xr.concat([together[name] for name in names], dim="band", coords="minimal", compat="override")
    image = image.assign_coords(band=list(names)).transpose("time", "band", "y", "x")
    image.attrs = {"nodata": _STORED, "gain": 1e-4, "bias": 0.0, "level": "SR"}
    result = xr.Dataset({"image": image.rename("image")})
    if fmask:
        result["fmask"] = together["fmask"].assign_attrs(nodata=FILL)
    written: xr.Dataset = result.rio.write_crs(str(whole.crs)).rio.write_transform(whole.affine)
    return written


def _grid(item: pystac.Item) -> GeoBox:
    """The granule's pixels, from a file's header: items in the wild state wrong zones."""
    path = readable(asset_href(item, "fmask"))
    try:
        with rasterio.Env(**gdal_environment([path])), rasterio.open(path) as raster:
            return GeoBox(raster.shape, raster.transform, str(raster.crs))
    except RasterioError as error:
        raise SceneError(f"{path} of {item.id} cannot be opened ({error}).") from error


def _union(grids: Sequence[GeoBox]) -> GeoBox:
    """The smallest grid in the first one's raster that holds all."""
    first = grids[0]
    boxes = [found.boundingbox for found in grids]
    left, top = min(box.left for box in boxes), max(box.top for box in boxes)
    right, bottom = max(box.right for box in boxes), min(box.bottom for box in boxes)
    return GeoBox.from_bbox(
        (left, bottom, right, top), crs=first.crs, resolution=first.resolution, anchor="floating", tight=True
    )


def _cropped(grid: GeoBox, bbox: Sequence[float]) -> GeoBox:
    """The part of a grid that a box of longitude and latitude touches, pixels kept where they are."""
    parts = box_in_degrees(*bbox)
    boxes = [transform_bounds("EPSG:4326", str(grid.crs), *part.bounds, densify_pts=21) for part in parts]
    lows, highs = np.min(boxes, axis=0), np.max(boxes, axis=0)
    area = (lows[0], lows[1], highs[2], highs[3])
    (left, top), (right, bottom) = ~grid.affine * (area[0], area[3]), ~grid.affine * (area[2], area[1])
    rows = slice(max(0, int(np.floor(top))), min(grid.shape[0], int(np.ceil(bottom))))
    columns = slice(max(0, int(np.floor(left))), min(grid.shape[1], int(np.ceil(right))))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise DatasetError(f"the box {tuple(bbox)} lies beside the granules.")
    return grid[rows, columns]


def _one(item: pystac.Item, own: GeoBox, layers: Sequence[str], grid: GeoBox, chunks: Mapping[str, int]) -> xr.Dataset:
    """One granule's layers by common name (y, x), lazily."""
    try:
        import odc.stac
    except ImportError as error:
        raise MissingExtraError("reading granules onto a shared grid", "search") from error
    granule = Granule.parse(item.id)
    plain = pystac.Item(item.id, item.geometry, item.bbox, granule.time, {})
    hrefs = {layer: readable(asset_href(item, layer)) for layer in layers}
    for layer, href in hrefs.items():
        plain.add_asset(layer, pystac.Asset(href, media_type=pystac.MediaType.COG, roles=["data"]))
    # The item says where it is as its file does; values and nodata are told, as odc-stac would take floats otherwise.
    plain.properties.update(
        {"proj:code": str(own.crs), "proj:shape": list(own.shape), "proj:transform": list(own.affine)[:6]}
    )
    plain.stac_extensions.append("https://stac-extensions.github.io/projection/v2.0.0/schema.json")
    plain.collection_id = "hls"
    pixels = {"data_type": "int16", "nodata": granule.fill}
    quality = {"data_type": "uint8", "nodata": FILL}
    kinds = {layer: quality if layer == "fmask" else pixels for layer in layers}
    with rasterio.Env(**gdal_environment(list(hrefs.values()))):  # travels with the tasks, and reaches no other file
        loaded = odc.stac.load(
            [plain], bands=list(layers), geobox=grid, chunks=dict(chunks), resampling="nearest",
            stac_cfg={"hls": {"assets": kinds}}, fail_on_error=True,
        ).isel(time=0, drop=True)  # fmt: skip
    values = {}
    for layer in layers:
        array = loaded[layer]
        if layer != "fmask" and granule.fill != _STORED:
            array = array.where(array != granule.fill, np.int16(_STORED))
        values[layer] = array.drop_attrs()
    result: xr.Dataset = xr.Dataset(values)
    return result
