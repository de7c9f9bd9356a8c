"""Scenes as pictures: RGB arrays with a contrast stretch, and composites, comparisons and strips of dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from odc.geo.geobox import GeoBox

from prithvi.errors import BandError, ScaleError, SceneError
from prithvi.plot.drawing import DIFFERENCE, MARK, date_of, draw, ground_of, several
from prithvi.scenes import grids

FALSE_COLOR = ("swir_2", "nir_narrow", "red")
"""Composite for floods and fires: water is dark, vegetation green, bare soil pink, burnt ground red."""
TRUE_COLOR = ("red", "green", "blue")
INFRARED = ("nir_narrow", "red", "green")
"""Colour-infrared composite: vegetation is red."""
MOST = 2048
"""Pixels along the longer side of a picture; larger scenes and results are thinned until they fit."""

Scene = xr.DataArray | xr.Dataset
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
        BandError: the scene lacks a band, or has one twice.

    """
    have, wanted = [str(name) for name in image["band"].values], list(dict.fromkeys(bands))
    if twice := [name for name in have if have.count(name) > 1]:
        raise BandError(f"the scene has the band {twice[0]} twice, and which is meant is not known.")
    missing = [band for band in wanted if band not in have]
    if missing:
        lacking = f"{', '.join(missing)}, which the scene lacks: it has {', '.join(have)}."
        raise BandError(f"a picture of {', '.join(wanted)} needs {lacking}")
    return wanted


def loaded(image: xr.DataArray, bands: Sequence[str]) -> xr.DataArray:
    """The requested bands of a scene, subsampled and loaded, so that a lazy scene is computed only once."""
    return thinned(image.sel(band=known(image, bands))).compute()


def reflectance(step: xr.DataArray, bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """(y, x, band) reflectance of one date, NaN at nodata; stored values if the scene does not state its scale."""
    values = loaded(step, bands).sel(band=list(bands)).transpose("y", "x", "band").values.astype(np.float32)
    if step.attrs.get("nodata") is not None:
        values = np.where(values == step.attrs["nodata"], np.float32(np.nan), values)
    found: npt.NDArray[np.float32] = values * np.float32(step.attrs.get("gain", 1))
    return found + np.float32(step.attrs.get("bias", 0))


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


def composite(
    scene: Scene,
    ax: Axes | None = None,
    *,
    bands: Sequence[str] = FALSE_COLOR,
    limits: Limits | None = None,
    gamma: float = 1.0,
    ticks: bool = False,
    bar: bool = True,
) -> Axes:
    """Draws three bands of a scene's first date as red, green and blue.

    Args:
        scene: a scene from `prithvi.open_scene`; select another date with `.isel(time=[1])`.
        ax: axes to draw on; None for a new figure.
        bands: bands for red, green and blue: `FALSE_COLOR`, `TRUE_COLOR`, `INFRARED` or any three.
        limits: (3, 2) values drawn darkest and brightest; default the 2nd and 98th percentile of each band. `stretch`
            computes limits for several scenes.
        gamma: gamma correction; values above 1 brighten dark areas.
        ticks: label the axes with coordinates.
        bar: draw a scale bar, if the scene's CRS is in metres.

    Raises:
        BandError: the scene lacks a band.
        SceneError: the scene has no pixel with data.

    """
    picture = rgb(scene, bands, limits=limits, gamma=gamma)
    return draw(ax, picture, ground_of(image_of(scene)), ticks=ticks, bar=bar).axes


def compare(
    before: Scene,
    after: Scene,
    axes: Any = None,
    *,
    bands: Sequence[str] = FALSE_COLOR,
    difference: str | tuple[str, str] | None = None,
    gamma: float = 1.0,
    ticks: bool = False,
) -> npt.NDArray[Any]:
    """Draws two scenes side by side with a common stretch and, optionally, their difference.

    Args:
        before: the first scene, with one date.
        after: the second scene, with one date.
        axes: two axes, or three with a difference; None for a new figure.
        bands: bands for red, green and blue.
        difference: a band, or two bands for a normalised difference (`("nir_narrow", "swir_2")` for burn scars); a
            third panel shows its change, after minus before.
        gamma: gamma correction; values above 1 brighten dark areas.
        ticks: label the axes with coordinates.

    Returns:
        (2,) or (3,) array of axes.

    Raises:
        BandError: a scene lacks a band.
        ScaleError: only one of the scenes states its scale.
        SceneError: a difference was requested of scenes on different grids.

    """
    originals = [dates(image_of(scene))[0] for scene in (before, after)]
    more = (difference,) if isinstance(difference, str) else difference or ()
    steps = [loaded(step, (*bands, *more)) for step in originals]
    limits = stretch(*steps, bands=bands)
    found = several(axes, 1, 2 if difference is None else 3, "this comparison", side=3.6).ravel()
    for number, (ax, step, original) in enumerate(zip(found[:2], steps, originals, strict=True)):
        picture = rgb(step, bands, limits=limits, gamma=gamma)
        draw(ax, picture, ground_of(original), ticks=ticks, bar=number == 0)
        ax.set_title(date_of(original) or ("before", "after")[number])
    if difference is not None:
        ground, other = map(ground_of, originals)
        differs = grids.difference(ground, other)
        if differs is not None:
            raise SceneError(f"a difference needs two scenes on one grid; of these two, {differs}.")
        change = _index(steps[1], difference) - _index(steps[0], difference)
        most = float(np.nanpercentile(np.abs(change), 98)) if np.isfinite(change).any() else 1.0
        image = draw(found[2], change, ground, ticks=ticks, bar=False, cmap=DIFFERENCE, vmin=-most, vmax=most)
        found[2].figure.colorbar(image, ax=found[2], shrink=0.8, extend="both")
        name = difference if isinstance(difference, str) else "({0} - {1}) / ({0} + {1})".format(*difference)
        found[2].set_title(f"change of {name}", fontsize="medium" if isinstance(difference, str) else 8)
    return found


def strip(
    series: Scene,
    axes: Any = None,
    *,
    bands: Sequence[str] = FALSE_COLOR,
    columns: int = 6,
    limits: Limits | None = None,
    gamma: float = 1.0,
) -> npt.NDArray[Any]:
    """Draws all dates of a time series as small pictures with a common stretch.

    Args:
        series: (time, band, y, x) images, or a result of `prithvi.fill`, in which filled pixels are outlined.
        axes: one axes per date; None for a new figure.
        bands: bands for red, green and blue.
        columns: pictures per row of a new figure.
        limits: (3, 2) values drawn darkest and brightest; default those of `stretch` over all dates.
        gamma: gamma correction; values above 1 brighten dark areas.

    Returns:
        (dates,) array of axes.

    Raises:
        BandError: the series lacks a band.
        SceneError: the series has no pixel with data.

    """
    image, filled = image_of(series), None
    original = dates(image)
    if isinstance(series, xr.Dataset) and "filled" in series:  # lazy results share one computation: run it once
        both = thinned(series[["image", "filled"]].sel(band=known(image, bands))).compute()
        image, filled = both["image"], both["filled"]
    image = loaded(image, bands)
    limits = stretch(image, bands=bands) if limits is None else limits
    width = min(columns, len(original)) if axes is None else len(original)
    found = several(axes, -(-len(original) // width), width, f"a strip of {len(original)} dates", side=1.9).ravel()
    for ax in found[len(original) :]:
        ax.set_axis_off()
    for number, (step, ax) in enumerate(zip(dates(image), found[: len(original)], strict=True)):
        ground = ground_of(original[number])
        draw(ax, rgb(step, bands, limits=limits, gamma=gamma), ground, bar=number == 0)
        ax.set_title(date_of(step) or f"date {number + 1}", fontsize=9)
        if filled is not None:
            _mark(ax, filled.isel(time=number).transpose("y", "x").values, ground)
    return found[: len(original)]


def _mark(ax: Axes, filled: npt.NDArray[np.bool_], ground: GeoBox) -> None:
    """Outlines what was filled, and says how much that is."""
    if filled.any():
        ax.set_xlabel(f"{filled.mean():.0%} filled" if filled.mean() >= 0.005 else "< 1% filled", fontsize=8)
    if filled.any() and not filled.all():
        rows, columns = np.indices(filled.shape) + 0.5
        centres = ground.zoom_to(filled.shape).affine @ (columns, rows)
        lines = ax.contour(*centres, filled, levels=[0.5], colors=MARK[0], linewidths=1)
        lines.set(path_effects=[withStroke(linewidth=2.5, foreground=MARK[1])])  # seen on bright and dark ground


def _index(scene: xr.DataArray, bands: str | tuple[str, str]) -> npt.NDArray[np.float32]:
    """(y, x) reflectance of a band, or the normalised difference of two."""
    if isinstance(bands, str):
        return reflectance(scene, [bands])[..., 0]
    first, second = np.moveaxis(reflectance(scene, bands), -1, 0)
    total = first + second
    return np.where(total != 0, (first - second) / np.where(total != 0, total, 1), np.float32(np.nan))
