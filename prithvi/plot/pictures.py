"""Scenes as arrays of red, green and blue: which bands these are, and which values are dark and bright."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import BandError, ScaleError, SceneError

FALSE_COLOR = ("swir_2", "nir_narrow", "red")
"""Water dark, plants green, bare soil pink, burns red: what floods and fires are looked at in."""
TRUE_COLOR = ("red", "green", "blue")
INFRARED = ("nir_narrow", "red", "green")
"""Plants red."""
MOST = 2048
"""Pixels along the longer side of a picture; larger scenes and results are thinned until they fit."""

Layers = TypeVar("Layers", xr.DataArray, xr.Dataset)
Picture = npt.NDArray[np.float32]
"""(y, x, 3) from 0 to 1."""
Limits = npt.NDArray[np.float32]
"""(3, 2) lowest and highest value of red, green and blue."""


def image_of(scene: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The pixels of a scene, or of the dataset that `prithvi.fill` or `prithvi.hls.load` gives.

    Raises:
        SceneError: none are in there.

    """
    if isinstance(scene, xr.Dataset):
        if "image" not in scene:
            raise SceneError(f"a picture is made of a scene, and this holds {', '.join(map(str, scene.data_vars))}.")
        scene = scene["image"]
    return having(scene, "a scene", "band", "y", "x")


def having(array: xr.DataArray, what: str, *dims: str) -> xr.DataArray:
    """The same array.

    Raises:
        SceneError: it lacks one of the dimensions.

    """
    if not set(dims) <= set(array.dims):
        raise SceneError(f"{what} has the dimensions {', '.join(dims)}; this has {', '.join(map(str, array.dims))}.")
    return array


def dates(image: xr.DataArray) -> list[xr.DataArray]:
    """Each date of a scene by itself."""
    return [image.isel(time=number) for number in range(image.sizes["time"])] if "time" in image.dims else [image]


def thinning(height: int, width: int) -> int:
    """Every how many rows and columns one is shown, so that none of both are more than `MOST`."""
    return -(-max(height, width) // MOST)


def thinned(layers: Layers) -> Layers:
    """Every nth row and column of a scene; see `thinning`."""
    step = thinning(layers.sizes["y"], layers.sizes["x"])
    return layers.isel(y=slice(None, None, step), x=slice(None, None, step))


def known(image: xr.DataArray, bands: Sequence[str]) -> list[str]:
    """The bands, each once.

    Raises:
        BandError: the scene lacks one.

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
    """The bands of a scene, thinned and in memory, so that a lazy one is computed once; see `known`."""
    return thinned(image.sel(band=known(image, bands))).compute()


def reflectance(step: xr.DataArray, bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """(y, x, band) of one date, see `loaded`, NaN without data; as stored where the scene does not state its scale."""
    values = loaded(step, bands).sel(band=list(bands)).transpose("y", "x", "band").values.astype(np.float32)
    nodata = step.attrs.get("nodata")
    if nodata is not None:
        values = np.where(values == nodata, np.float32(np.nan), values)
    gain, bias = (np.float32(step.attrs.get(name, usual)) for name, usual in (("gain", 1), ("bias", 0)))
    found: npt.NDArray[np.float32] = values * gain + bias
    return found


def stretch(*scenes: xr.DataArray | xr.Dataset, bands: Sequence[str] = FALSE_COLOR, share: float = 2.0) -> Limits:
    """One range of values for pictures of several scenes and all of their dates, so that they compare.

    It is the median of the dates' own ranges, so that a few cloudy dates do not make all others dark.

    Args:
        scenes: (time, band, y, x) or (band, y, x).
        bands: red, green and blue.
        share: percent of a date's pixels that are beyond its own range at either end.

    Returns:
        (3, 2) in reflectance, or in the scenes' own values where these do not state their scale.

    Raises:
        BandError: a scene lacks a band.
        ScaleError: one scene states its scale and another does not.
        SceneError: no pixel has data.

    """
    images = [image_of(scene) for scene in scenes]
    if len({"gain" in image.attrs for image in images}) > 1:
        raise ScaleError("some of these scenes state their scale and some do not: no one range of values fits them.")
    if len(bands) != 3:
        raise BandError(f"a picture has three bands, red, green and blue; {len(bands)} were named.")
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
    """A picture of the first date; white where there is no data.

    Args:
        scene: (time, band, y, x) or (band, y, x); select another date with `.isel(time=[1])`.
        bands: red, green and blue.
        limits: the range that goes from dark to bright, see `stretch`; default this date's own.
        gamma: above 1 makes dark ground brighter.

    Raises:
        BandError: the scene lacks a band.
        SceneError: no pixel has data, and no limits are given.

    """
    first = loaded(dates(image_of(scene))[0], bands)
    low, high = (stretch(first, bands=bands) if limits is None else np.asarray(limits)).T
    scaled = np.clip((reflectance(first, bands) - low) / np.maximum(high - low, 1e-6), 0, 1) ** (1 / gamma)
    return np.where(np.isfinite(scaled).all(axis=2, keepdims=True), scaled, 1.0).astype(np.float32)
