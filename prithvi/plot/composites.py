"""Plots of scenes: a composite, two scenes side by side, or a strip of dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.patheffects import withStroke
from odc.geo.geobox import GeoBox

from prithvi.errors import SceneError
from prithvi.plot.colors import DIFFERENCE, MARK
from prithvi.plot.pictures import (
    FALSE_COLOR,
    Limits,
    dates,
    image_of,
    known,
    loaded,
    reflectance,
    rgb,
    stretch,
    thinned,
)
from prithvi.plot.places import date_of, draw, ground_of, one, several
from prithvi.scenes import grids

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Scene = xr.DataArray | xr.Dataset


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
    ax = one(ax)
    draw(ax, rgb(scene, bands, limits=limits, gamma=gamma), ground_of(image_of(scene)), ticks=ticks, bar=bar)
    return ax


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
    for number, (ax, step, original) in enumerate(zip(found, steps, originals, strict=False)):
        picture = rgb(step, bands, limits=limits, gamma=gamma)
        draw(ax, picture, ground_of(original), ticks=ticks, bar=number == 0)
        ax.set_title(date_of(original) or ("before", "after")[number])
    if difference is not None:
        ground, other = map(ground_of, originals)
        differs = grids.difference(ground, other)
        if differs is not None:
            raise SceneError(f"a difference needs two scenes on one grid; of these two, {differs}.")
        _difference(_index(steps[1], difference) - _index(steps[0], difference), difference, found[2], ground, ticks)
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
    for number, (step, ax) in enumerate(zip(dates(image), found, strict=False)):
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


def _difference(
    change: npt.NDArray[np.float32], bands: str | tuple[str, str], ax: Axes, ground: GeoBox, ticks: bool
) -> None:
    most = float(np.nanpercentile(np.abs(change), 98)) if np.isfinite(change).any() else 1.0
    image = draw(ax, change, ground, ticks=ticks, bar=False, cmap=DIFFERENCE, vmin=-most, vmax=most)
    name = bands if isinstance(bands, str) else f"({bands[0]} - {bands[1]}) / ({bands[0]} + {bands[1]})"
    ax.figure.colorbar(image, ax=ax, shrink=0.8, extend="both")
    ax.set_title(f"change of {name}", fontsize="medium" if isinstance(bands, str) else 8)


def _index(scene: xr.DataArray, bands: str | tuple[str, str]) -> npt.NDArray[np.float32]:
    """(y, x) reflectance of a band, or the normalised difference of two."""
    if isinstance(bands, str):
        return reflectance(scene, [bands])[..., 0]
    first, second = np.moveaxis(reflectance(scene, bands), -1, 0)
    total = first + second
    return np.where(total != 0, (first - second) / np.where(total != 0, total, 1), np.float32(np.nan))
