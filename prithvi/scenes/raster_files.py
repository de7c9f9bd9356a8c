"""Raster files: what their headers say of bands, values, masks and place, and how one band of one date is read."""

from __future__ import annotations

import datetime as dt
import shlex
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import array_bounds
from rasterio.windows import Window

from prithvi.bands import band_id, common_name
from prithvi.catalog import Sensor
from prithvi.errors import PrithviError, SceneError
from prithvi.scenes.in_flight import in_order
from prithvi.scenes.info import Scales, scale_tag
from prithvi.scenes.names import read_file_name, split_description
from prithvi.scenes.open_files import of_file
from prithvi.scenes.paths import is_remote, shown
from prithvi.scenes.remote import DAMAGED
from prithvi.scenes.validity import Values

DATE_TAG = "PRITHVI_DATE"
"""Tag of images of ours: their day, or the time (2022-05-31T104500) where two are of one day."""
_PICTURES = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
"""Drivers of files that hardly ever hold reflectance."""


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
    repeat: int = 1
    """Integer upsampling factor onto the scene's grid."""
    date: dt.date | None = None
    """As `DATE_TAG` states it, a datetime where that is a time."""

    @property
    def grid(self) -> GeoBox:
        """Where the pixels lie."""
        return GeoBox(self.shape, self.transform, self.wkt)


@dataclass(frozen=True)
class Plane:
    """One band of one date: where it stands in a file, and all that reading it right takes."""

    path: str
    index: int
    """Band of the file, counted from 1."""
    dtype: str
    """As it is stored; rasterio reads bands of one type together."""
    missing: tuple[float, ...]
    """Values of pixels without data: what the band declares and what its product says."""
    stated_scale: Scales
    """What its file, item and product say of its values."""
    masked: bool = False
    """Whether the file has a mask of the band beside its values."""
    alpha: int | None = None
    """A band of the file whose 0 means that a pixel has no data."""
    repeat: int = 1
    """See `File`."""
    adjust: tuple[float, float] = (1.0, 0.0)
    """Factor and summand that bring values to the scene's scale."""

    @property
    def fill(self) -> tuple[float, ...]:
        """What of `missing` the type can hold, as it holds it: compared with integers nothing is converted."""
        if np.dtype(self.dtype).kind not in "iu":
            return self.missing
        limits = np.iinfo(self.dtype)
        return tuple(int(value) for value in self.missing if limits.min <= value <= limits.max and value.is_integer())

    def facts(self) -> dict[str, Any]:
        """All that decides on the values that are read; what was said of the scale is in `adjust` by then."""
        return {name: value for name, value in {**vars(self), "missing": self.fill}.items() if name != "stated_scale"}

    def __dask_tokenize__(self) -> object:
        return tuple(self.facts().values())


def plane_of(file: File, index: int, *nodata: float | None, product: Sensor | None = None) -> Plane:
    """A band of a file.

    Args:
        file: its header.
        index: of the band, counted from 1.
        nodata: values of pixels without data, beside what the file declares and its name implies.
        product: says what values usually mean.

    """
    at = index - 1
    missing = values_of(*nodata, file.nodata[at], read_file_name(file.path).nodata)
    scale = scale_tag(*file.scaling[at]).of(product)
    return Plane(file.path, index, file.dtypes[at], missing, scale, file.masked[at], file.alpha, file.repeat)


def values_of(*values: float | None) -> tuple[float, ...]:
    """The nodata values among what was said, each once; NaN is one anyway."""
    return tuple(dict.fromkeys(float(value) for value in values if value is not None and value == value))


def inspect_all(paths: Sequence[str]) -> dict[str, File]:
    """Headers of files or addresses by their paths; several at once from servers.

    Raises:
        SceneError: one cannot be opened, or does not say where it lies.

    """

    def inspect(path: str) -> File:
        # Files on servers stay open, as they are read next: their headers are not asked for again.
        return of_file(path, partial(header, path), keep=is_remote(path))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if not any(map(is_remote, paths)):
            return {path: inspect(path) for path in paths}
        return dict(zip(paths, in_order(partial(inspect, path) for path in paths), strict=True))


def header(path: str, raster: rasterio.DatasetReader, placed: bool = True) -> File:
    """What an open file says of itself; see `inspect_all`. With `placed` it has to say where it lies."""
    if raster.count == 0:
        raise SceneError(
            f"{shown(path)} holds {len(raster.subdatasets)} rasters and is none itself: give one of them, or several "
            "bands as one scene (of map and mask --together, in Python a list): "
            f"{' '.join(raster.subdatasets) or 'there are none'}"
        )
    if placed:
        refuse_unplaced(shown(path), raster)
    height, width = raster.block_shapes[0]
    alphas = [number for number, colour in enumerate(raster.colorinterp, start=1) if colour == ColorInterp.alpha]
    return File(
        path,
        raster.count,
        raster.descriptions,
        raster.nodatavals,
        tuple(zip(raster.scales, raster.offsets, strict=True)),
        raster.dtypes,
        tuple(map(has_mask, raster.mask_flag_enums)),
        alphas[-1] if alphas else None,
        (height, width),
        raster.crs.to_wkt() if raster.crs is not None else "",
        raster.transform,
        raster.shape,
        date=_date_of(raster.tags().get(DATE_TAG, "")),
    )


def _date_of(text: str) -> dt.date | None:
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H%M%S"):
        with suppress(ValueError):
            time = dt.datetime.strptime(text, form)
            return time if "T" in text else time.date()
    return None


def refuse_unplaced(path: str, raster: rasterio.DatasetReader, error: type[PrithviError] = SceneError) -> None:
    """Raises SceneError, or the error given, for a file that does not say where it lies."""
    nowhere = raster.transform.is_identity or not abs(raster.transform.determinant) > 0  # pixels without any size
    if nowhere:
        otherwise = "ground control points" if raster.gcps[0] else "a sensor model (RPCs)" if raster.rpcs else None
        otherwise = "a table of places (geolocation array)" if raster.tags(ns="GEOLOCATION") else otherwise
        if otherwise is not None:
            raise error(
                f"{path} is placed by {otherwise} and not by a transform, so its rows and columns are no grid: warp it "
                "first ('gdalwarp IN OUT', or rasterio.vrt.WarpedVRT)."
            )
    if raster.crs is None or nowhere:
        what, option = "geotransform", "--transform [WIDTH,0,WEST,0,-HEIGHT,NORTH]"
        if raster.crs is None:
            what, option = "coordinate reference system", "--crs EPSG:..."
        remedy = f"write it with 'rio edit-info {shlex.quote(path)} {option}'"
        if raster.driver in _PICTURES:
            remedy = "give the raster of reflectance that this picture was drawn from, such as a GeoTIFF"
        raise error(f"{path} has no {what}, so its pixels lie nowhere: {remedy}.")


def has_mask(flags: Sequence[MaskFlags]) -> bool:
    """Whether a band's mask says more than its nodata value: one inside the file, beside it, or over all bands."""
    if MaskFlags.all_valid in flags or MaskFlags.alpha in flags:  # an alpha band is read as such
        return False
    return list(flags) != [MaskFlags.nodata]


def masked_values(raster: rasterio.DatasetReader, window: Window) -> Values:
    """(y, x) values of the first band; as float64 with NaN where a mask says so, if the file has one (`has_mask`)."""
    values: Values = raster.read(1, window=window)
    if not has_mask(raster.mask_flag_enums[0]):
        return values
    return np.where(raster.read_masks(1, window=window) == 0, np.nan, values.astype(np.float64))


def without_alpha(file: File, bands: list[str] | dict[str, int] | None, sensor: Sensor | None) -> File:
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
    elif any(file.descriptions):
        name, _ = split_description(file.descriptions[file.alpha - 1] or "")
        is_band = common_name(name, sensor.product if sensor else None) is not None or band_id(name) is not None
    else:
        is_band = sensor is not None and file.count == len(sensor.stack)
        if sensor is None and file.count != 2:  # which of them is which is asked as of any other file
            return file
    if is_band:
        return replace(file, alpha=None)
    if isinstance(bands, dict) or file.alpha != file.count:
        return file
    return replace(file, count=file.count - 1, descriptions=file.descriptions[:-1])


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


def floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Floats that hold a type's values exactly, as far as there are such."""
    if np.issubdtype(dtype, np.floating):
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def convert(
    parts: Sequence[Values], place: int, plane: Plane, into: npt.NDArray[np.floating[Any]], finite: bool
) -> None:
    """One band of what `read_planes` gave as floats, NaN where it is declared missing or, with `finite`, infinite."""
    stored, *masks = parts
    values = stored[place]
    into[...] = values
    if finite and values.dtype.kind == "f":
        into[~np.isfinite(values)] = np.nan
    for value in plane.fill:
        into[values == value] = np.nan
    for mask in masks:
        into[mask[place % len(mask)] == 0] = np.nan


def read_planes(raster: rasterio.DatasetReader, planes: Sequence[Plane], window: Window) -> list[Values]:
    """(band, y, x) values of an open file, then masks of all bands or of each, whose 0 means that there is no data."""
    # One call for all bands: files that interleave them decode each block once. Masks are asked for only where a header
    # says that there is one, as GDAL would make them up from nodata otherwise.
    indexes = [plane.index for plane in planes]
    alpha, masked = planes[0].alpha, [plane.masked for plane in planes]
    parts = [raster.read(indexes, window=window)]
    if alpha is not None:
        parts.append(raster.read([alpha], window=window))
    if any(masked):
        masks = raster.read_masks(indexes, window=window)
        masks[[not own for own in masked]] = 255
        parts.append(masks)
    return parts


def read_window(path: str, planes: Sequence[Plane], window: Window) -> list[Values]:
    """`read_planes` of a file by its path.

    Raises:
        SceneError: it is damaged where it is read, or its server does not give it.

    """
    return of_file(path, lambda raster: read_planes(raster, planes, window), DAMAGED)
