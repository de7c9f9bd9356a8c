"""What raster files say of themselves: bands, values, masks, place. Never touches a pixel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.transform import array_bounds

from prithvi.bands import band_id, common_name
from prithvi.catalog import Sensor
from prithvi.errors import SceneError
from prithvi.scenes.names import split_description
from prithvi.scenes.remote import ask, is_remote, shown

_AT_ONCE = 8
"""Files on servers whose headers are fetched at the same time."""


@dataclass(frozen=True)
class File:
    """A raster file's header."""

    path: str
    count: int
    descriptions: tuple[str | None, ...]
    nodata: tuple[float | None, ...]
    """Of each band."""
    scaling: tuple[tuple[float, float], ...]
    """GDAL's scale and offset of each band."""
    dtypes: tuple[str, ...]
    """Of each band."""
    masked: tuple[bool, ...]
    """Whether a mask lies beside a band's values: inside the file or as .msk."""
    alpha: int | None
    """The band, counted from 1, whose 0 means that a pixel has no data; None for none."""
    blocks: tuple[int, int]
    """Height and width."""
    wkt: str
    transform: Affine
    shape: tuple[int, int]

    @property
    def pixel_area(self) -> float:
        """In units of the coordinate reference system, squared."""
        return abs(self.transform.determinant)

    @property
    def grid(self) -> GeoBox:
        """Where the pixels lie."""
        return GeoBox(self.shape, self.transform, self.wkt)


def inspect_all(paths: Sequence[str]) -> dict[str, File]:
    """Headers of files or addresses by their paths; several at once from servers.

    Raises:
        SceneError: one cannot be opened, or does not say where it lies.

    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if not any(map(is_remote, paths)):
            return {path: _inspect(path) for path in paths}
        # A header of a file on a server is one or two requests, most of which is waiting.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                return dict(zip(paths, pool.map(_inspect, paths), strict=True))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _inspect(path: str) -> File:
    try:
        return ask(path, lambda raster: header(path, raster))
    except RasterioIOError as error:
        raise SceneError(f"{path} cannot be opened as a raster: it is damaged or of no known format.") from error


def header(path: str, raster: rasterio.DatasetReader, placed: bool = True) -> File:
    """What an open file says of itself; see `inspect_all`. With `placed` it has to say where it lies."""
    if raster.count == 0:
        raise SceneError(
            f"{shown(path)} holds {len(raster.subdatasets)} rasters and is none itself: give one of them, or several "
            f"bands with --together: {' '.join(raster.subdatasets) or 'there are none'}"
        )
    if placed:
        _check_georeference(shown(path), raster)
    height, width = raster.block_shapes[0]
    alphas = [number for number, colour in enumerate(raster.colorinterp, start=1) if colour == ColorInterp.alpha]
    return File(
        path,
        raster.count,
        raster.descriptions,
        raster.nodatavals,
        tuple(zip(raster.scales, raster.offsets, strict=True)),
        raster.dtypes,
        tuple(_has_mask(flags) for flags in raster.mask_flag_enums),
        alphas[-1] if alphas else None,
        (height, width),
        raster.crs.to_wkt() if raster.crs is not None else "",
        raster.transform,
        raster.shape,
    )


def _check_georeference(path: str, raster: rasterio.DatasetReader) -> None:
    """Raises SceneError for a file that does not say where it lies."""
    if raster.transform.is_identity:
        otherwise = "ground control points" if raster.gcps[0] else "a sensor model (RPCs)" if raster.rpcs else None
        otherwise = "a table of places (geolocation array)" if raster.tags(ns="GEOLOCATION") else otherwise
        if otherwise is not None:
            raise SceneError(
                f"{path} is placed by {otherwise} and not by a transform, so its rows and columns are no grid: warp it "
                "first ('gdalwarp IN OUT', or rasterio.vrt.WarpedVRT)."
            )
    if raster.crs is None or raster.transform.is_identity:
        what, option = (
            ("coordinate reference system", "--crs EPSG:...")
            if raster.crs is None
            else ("geotransform", "--transform [WIDTH,0,WEST,0,-HEIGHT,NORTH]")
        )
        raise SceneError(
            f"{path} has no {what}, so a map of it would lie nowhere: write it with "
            f"'rio edit-info {Path(path).name} {option}'."
        )


def _has_mask(flags: Sequence[MaskFlags]) -> bool:
    """Whether a band's mask says more than its nodata value: one inside the file, beside it, or over all bands."""
    if MaskFlags.all_valid in flags or MaskFlags.alpha in flags:  # an alpha band is read as such
        return False
    return list(flags) != [MaskFlags.nodata]


def without_alpha(file: File, bands: list[str] | dict[str, int] | None, told: Sensor | None) -> File:
    """The file without its alpha band among the bands, or without an alpha where that band is one of the scene's.

    GDAL tags bands as alpha that are none (the fourth of four, the second where ALPHA=YES was said): one that is named
    by its number, by its place among the names, by its description or by the sensor's order is that band.
    """
    if file.alpha is None:
        return file
    if isinstance(bands, dict):
        is_band = file.alpha in bands.values()
    elif bands is not None:
        is_band = file.count % len(bands) == 0
    else:
        text = file.descriptions[file.alpha - 1]
        is_band = bool(text) and _names_a_band(str(text), told)
        if not any(file.descriptions):
            is_band = told is not None and file.count == len(told.stack)
            if told is None and file.count != 2:  # which of them is which is asked as of any other file
                return file
    if is_band:
        return replace(file, alpha=None)
    if isinstance(bands, dict) or file.alpha != file.count:
        return file
    return replace(file, count=file.count - 1, descriptions=file.descriptions[:-1])


def _names_a_band(text: str, told: Sensor | None) -> bool:
    name, _ = split_description(text)
    return common_name(name, told.product if told else None) is not None or band_id(name) is not None


def onto_grid_of(file: File) -> str:
    """The command that brings another file onto the grid of this one. gdalwarp keeps names, scale, offset and nodata of
    the bands, where gdalbuildvrt -separate drops the names (GDAL 3.6.2) and rio warp all but nodata (rasterio 1.4.4).
    """
    left, bottom, right, top = array_bounds(*file.shape, file.transform)
    code = CRS.from_wkt(file.wkt).to_epsg()
    reference = f"-t_srs EPSG:{code} " if code else ""
    width, height = abs(file.transform.a), abs(file.transform.e)
    return (
        f"'gdalwarp {reference}-te {left:.12g} {bottom:.12g} {right:.12g} {top:.12g} -tr {width:.12g} {height:.12g} "
        f"OLD NEW' for each of the others, as on {Path(shown(file.path)).name}"
    )
