"""Granules as one lazy Dataset on a shared grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pystac
import rasterio
import rioxarray  # noqa: F401  (the .rio accessor)
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from prithvi.bands import PRITHVI_BANDS, check_names
from prithvi.errors import DatasetError, SceneError
from prithvi.hls.granules import FILL, Granule
from prithvi.hls.items import asset_href
from prithvi.scenes.grids import called, difference, grid_of, same_crs
from prithvi.scenes.in_flight import begin
from prithvi.scenes.open_files import of_file
from prithvi.scenes.paths import is_remote, readable, shown
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
            than theirs each pixel takes the granule's pixel that contains its centre, whatever the chunks.
        bbox: west, south, east, north in degrees: only this part; west is greater than east across the date line.
        fmask: whether the quality layer comes along.
        chunks: of the lazy arrays, by `y` and `x`; if left out 512 x 512 pixels, and 512 x 2,048 of files on servers,
            where each is a request.

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
    asked = {item.id: begin(readable(asset_href(item, "fmask")), partial(_grid, item)) for item in ordered}
    grids = {id: wait() for id, wait in asked.items()}
    first = next(iter(grids.values()))
    strange = next((found for found in grids.values() if not same_crs(found, first)), None)
    if grid is None and strange is not None:
        message = f"granules of {called(first)} and {called(strange)} would make one huge raster"
        raise DatasetError(f"{message}: load them zone by zone, or give a grid.")
    whole = grid if grid is not None else _union(list(grids.values()))
    if bbox is not None:
        whole = _cropped(whole, bbox)

    # Dask reads as many chunks at a time as it has threads, often two: those of servers are better few and wide.
    remote = any(is_remote(readable(asset_href(item, name))) for item in ordered for name in names)
    usual = {"y": 512, "x": 2048 if remote else 512}
    sizes = tuple((chunks or usual).get(axis, -1) for axis in ("y", "x"))

    def dates_of(layer: str) -> Any:
        """(time, y, x)."""
        return da.stack([_layer(item, layer, grids[item.id], whole, sizes) for item in ordered])

    times = np.array([Granule.parse(item.id).time.replace(tzinfo=None) for item in ordered], "datetime64[ns]")
    coords: dict[str, Any] = {"time": times, "band": list(names), "granule": ("time", [item.id for item in ordered])}
    if whole.affine.is_rectilinear:
        at, (height, width) = whole.affine, whole.shape
        coords |= {"x": at.c + at.a * (np.arange(width) + 0.5), "y": at.f + at.e * (np.arange(height) + 0.5)}
    attrs = {"nodata": _STORED, "gain": 1e-4, "bias": 0.0, "level": "SR"}
    image = da.stack([dates_of(name) for name in names], axis=1)
    result = xr.Dataset({"image": (("time", "band", "y", "x"), image, attrs)}, coords)
    if fmask:
        result["fmask"] = (("time", "y", "x"), dates_of("fmask"), {"nodata": FILL})
    written: xr.Dataset = result.rio.write_crs(str(whole.crs)).rio.write_transform(whole.affine)
    return written


def _grid(item: pystac.Item) -> GeoBox:
    """The granule's pixels, from a file's header: items in the wild state wrong zones."""
    return of_file(readable(asset_href(item, "fmask")), grid_of, f"of {item.id} cannot be opened as a raster.")


def _union(grids: Sequence[GeoBox]) -> GeoBox:
    """The smallest grid in the first one's raster that holds all."""
    first, bounds = grids[0], _around([tuple(found.boundingbox) for found in grids])
    return GeoBox.from_bbox(bounds, crs=first.crs, resolution=first.resolution, anchor="floating", tight=True)


def _around(boxes: Sequence[tuple[float, ...]]) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of the smallest box that holds all."""
    lows, highs = np.min(boxes, axis=0).tolist(), np.max(boxes, axis=0).tolist()
    return lows[0], lows[1], highs[2], highs[3]


def _cropped(grid: GeoBox, bbox: Sequence[float]) -> GeoBox:
    """The part of a grid that a box of longitude and latitude touches, pixels kept where they are."""
    parts = box_in_degrees(*bbox)
    boxes = [transform_bounds("EPSG:4326", str(grid.crs), *part.bounds, densify_pts=21) for part in parts]
    west, south, east, north = _around(boxes)
    # All four corners: on a turned grid any of them may be the leftmost or the uppermost.
    x, y = np.array([west, east, east, west]), np.array([north, north, south, south])
    columns, rows = (
        slice(max(0, int(np.floor(along.min()))), min(size, int(np.ceil(along.max()))))
        for along, size in zip(~grid.affine @ (x, y), (grid.shape[1], grid.shape[0]), strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise DatasetError(f"the box {tuple(bbox)} lies beside the granules.")
    return grid[rows, columns]


@dataclass(frozen=True)
class _OnGrid:
    """A file on the pixels of a grid, for dask: each pixel takes the one that contains its centre.

    Which one that is follows from the pixel's own row and column, so it is the same however the array is cut in chunks.
    GDAL's warp follows a straight line between the ends of what it is asked for, to an eighth of a pixel, and gives
    other pixels in other chunks.
    """

    path: str
    own: GeoBox
    grid: GeoBox
    dtype: np.dtype[Any]
    fill: int
    """What the file stores where there is nothing."""
    written: int
    """What is given there."""
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.grid.shape[0], self.grid.shape[1]

    def __getitem__(self, key: tuple[slice, slice]) -> npt.NDArray[Any]:
        """Reads a part.

        Raises:
            SceneError: the file is damaged, cannot be had, or lies on another grid than the granule's Fmask.

        """
        (top, bottom, _), (left, right, _) = (part.indices(size) for part, size in zip(key, self.shape, strict=True))
        rows, columns = _pixels_under(self.own, self.grid, (top, bottom), (left, right))
        inside = (rows >= 0) & (rows < self.own.shape[0]) & (columns >= 0) & (columns < self.own.shape[1])
        found = np.full(inside.shape, self.written, self.dtype)
        if not inside.any():
            return found
        rows, columns = np.broadcast_arrays(rows, columns)
        rows, columns = rows[inside], columns[inside]
        window = Window.from_slices((rows.min(), rows.max() + 1), (columns.min(), columns.max() + 1))

        def read(raster: rasterio.DatasetReader) -> npt.NDArray[Any]:
            differs = difference(grid_of(raster), self.own)
            if differs is not None:
                raise SceneError(f"{shown(self.path)} and its granule's Fmask do not lie on one grid: {differs}.")
            stored: npt.NDArray[Any] = raster.read(1, window=window)
            return stored

        stored = of_file(self.path, read, "is damaged or cut short: its pixels cannot be read.")
        found[inside] = stored[rows - rows.min(), columns - columns.min()]
        found[found == self.fill] = self.written
        return found


@lru_cache(maxsize=16)
def _pixels_under(
    own: GeoBox, grid: GeoBox, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of a granule's pixels that contain the centres of a grid's, to be broadcast together."""
    down, along = np.arange(*rows)[:, None] + 0.5, np.arange(*columns)[None] + 0.5
    alike = same_crs(grid, own)
    step = ~own.affine @ grid.affine
    if alike and step.is_rectilinear:
        low, across = step.e * down + step.f, step.a * along + step.c
    else:
        centres: Any = tuple(np.broadcast_arrays(along, down))
        points = grid.affine @ centres
        if not alike:
            points = Transformer.from_crs(str(grid.crs), str(own.crs), always_xy=True).transform(*points)
        across, low = ~own.affine @ points
    # A centre on the edge of two pixels goes to the right and lower one, not by its last digits.
    beside = [np.where(np.isfinite(part), np.floor(np.round(part, 6)), -1) for part in (low, across)]
    return beside[0].astype(np.int64), beside[1].astype(np.int64)


def _layer(item: pystac.Item, layer: str, own: GeoBox, grid: GeoBox, sizes: tuple[int, ...]) -> Any:
    """One file of a granule on a grid, (y, x) and lazy."""
    kind = ("uint8", FILL, FILL) if layer == "fmask" else ("int16", Granule.parse(item.id).fill, _STORED)
    file = _OnGrid(readable(asset_href(item, layer)), own, grid, np.dtype(kind[0]), *kind[1:])
    return da.from_array(file, chunks=sizes, lock=False, asarray=False, meta=np.empty((0, 0), file.dtype))
