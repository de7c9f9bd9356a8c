"""Scenes as RGB arrays: choice of bands, and contrast stretch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import BandError, ScaleError, SceneError

FALSE_COLOR = ("swir_2", "nir_narrow", "red")
"""Composite for floods and fires: water is dark, vegetation green, bare soil pink, burnt ground red."""
TRUE_COLOR = ("red", "green", "blue")
INFRARED = ("nir_narrow", "red", "green")
"""Colour-infrared composite: vegetation is red."""
MOST = 2048
"""Pixels along the longer side of a picture; larger scenes and results are thinned until they fit."""

Layers = TypeVar("Layers", xr.DataArray, xr.Dataset)
Picture = npt.NDArray[np.float32]
"""(y, x, 3) RGB from 0 to 1."""
Limits = npt.NDArray[np.float32]
"""(3, 2) values of red, green and blue that are drawn darkest and brightest."""


def image_of(scene: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The image of a scene, or of a dataset from `prithvi.fill` or `prithvi.hls.load`.

    Raises:
        SceneError: there is no image, or it lacks a dimension.

    """
    if isinstance(scene, xr.Dataset):
        if "image" not in scene:
            raise SceneError(f"a picture is made of a scene, and this holds {', '.join(map(str, scene.data_vars))}.")
        scene = scene["image"]
    return having(scene, "a scene", "band", "y", "x")


def having(array: xr.DataArray, what: str, *dims: str) -> xr.DataArray:
    """Returns the array if it has all given dimensions.

    Raises:
        SceneError: a dimension is missing.

    """
    if not set(dims) <= set(array.dims):
        raise SceneError(f"{what} has the dimensions {', '.join(dims)}; this has {', '.join(map(str, array.dims))}.")
    return array


def dates(image: xr.DataArray) -> list[xr.DataArray]:
    """The dates of a scene as a list of arrays without a time dimension."""
    return [image.isel(time=number) for number in range(image.sizes["time"])] if "time" in image.dims else [image]


def thinning(height: int, width: int) -> int:
    """Every how many rows and columns one is shown, so that none of both are more than `MOST`."""
    return -(-max(height, width) // MOST)


def thinned(layers: Layers) -> Layers:
    """Every nth row and column of a scene; see `thinning`."""
    step = thinning(layers.sizes["y"], layers.sizes["x"])
    return layers.isel(y=slice(None, None, step), x=slice(None, None, step))


def known(image: xr.DataArray, bands: Sequence[str]) -> list[str]:
    """The requested bands without duplicates.

    Raises:
        BandError: the scene lacks a band.

    """
    have, wanted = [str(name) for name in image["band"].values], list(dict.fromkeys(bands))
    missing = [band for band in wanted if band not in have]
    if missing:
        raise BandError(
            f"a picture of {', '.join(wanted)} needs {', '.join(missing)}, which the scene lacks: it has "
            f"{', '.join(have)}."
        )
    return wanted


def loaded(image: xr.DataArray, bands: Sequence[str]) -> xr.DataArray:
    """The requested bands of a scene, subsampled and loaded, so that a lazy scene is computed only once."""
    return thinned(image.sel(band=known(image, bands))).compute()


def reflectance(step: xr.DataArray, bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """(y, x, band) reflectance of one date, NaN at nodata; stored values if the scene does not state its scale."""
    values = loaded(step, bands).sel(band=list(bands)).transpose("y", "x", "band").values.astype(np.float32)
    nodata = step.attrs.get("nodata")
    if nodata is not None:
        values = np.where(values == nodata, np.float32(np.nan), values)
    gain, bias = (np.float32(step.attrs.get(name, usual)) for name, usual in (("gain", 1), ("bias", 0)))
    found: npt.NDArray[np.float32] = values * gain + bias
    return found


def stretch(*scenes: xr.DataArray | xr.Dataset, bands: Sequence[str] = FALSE_COLOR, share: float = 2.0) -> Limits:
    """A common contrast stretch for several scenes and all of their dates.

    It is the median of the stretches of single dates, so that a few cloudy dates do not darken all others.

    Args:
        scenes: (time, band, y, x) or (band, y, x) scenes.
        bands: bands for red, green and blue.
        share: percentage of a date's pixels beyond either limit of its own stretch.

    Returns:
        (3, 2) limits in reflectance, or in stored values if the scenes do not state their scale.

    Raises:
        BandError: a scene lacks a band.
        ScaleError: only some of the scenes state their scale.
        SceneError: no pixel has data.

    """
    images = [image_of(scene) for scene in scenes]
    if len({"gain" in image.attrs for image in images}) > 1:
        raise ScaleError("some of these scenes state their scale and some do not: no one range of values fits them.")
    if len(bands) != 3:
        raise BandError(f"a picture has three bands, red, green and blue; {len(bands)} were named.")
    # Only pixels with data in all three bands count; dates without any have no stretch of their own.
    steps = [step for image in images for step in dates(loaded(image, bands))]
    pixels = [reflectance(step, bands).reshape(-1, 3) for step in steps]
    there = [values[np.isfinite(values).all(axis=1)] for values in pixels]
    ranges = [np.percentile(values, [share, 100 - share], axis=0).T for values in there if len(values)]
    if not ranges:
        raise SceneError(f"no pixel has data in {', '.join(bands)}.")
    limits: Limits = np.median(ranges, axis=0).astype(np.float32)
    return limits


def rgb(
    scene: xr.DataArray | xr.Dataset,
    bands: Sequence[str] = FALSE_COLOR,
    *,
    limits: Limits | None = None,
    gamma: float = 1.0,
) -> Picture:
    """An RGB picture of the first date, with nodata in white.

    Args:
        scene: (time, band, y, x) or (band, y, x) scene; select another date with `.isel(time=[1])`.
        bands: bands for red, green and blue.
        limits: (3, 2) values drawn darkest and brightest, as from `stretch`; default those of this date.
        gamma: gamma correction; values above 1 brighten dark areas.

    Raises:
        BandError: the scene lacks a band.
        SceneError: no pixel has data and no limits are given.

    """
    first = loaded(dates(image_of(scene))[0], bands)
    low, high = (stretch(first, bands=bands) if limits is None else np.asarray(limits)).T
    scaled = np.clip((reflectance(first, bands) - low) / np.maximum(high - low, 1e-6), 0, 1) ** (1 / gamma)
    return np.where(np.isfinite(scaled).all(axis=2, keepdims=True), scaled, 1.0).astype(np.float32)
