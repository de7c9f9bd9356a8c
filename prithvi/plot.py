"""Pictures of scenes and maps; functions take arrays, draw on given axes and return them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.errors import BandError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from prithvi.metrics import Reliability

FALSE_COLOR = ("swir_2", "nir_narrow", "red")
"""Water dark, plants green, bare soil pink: what floods are looked at in."""


def composite(scene: xr.DataArray, bands: Sequence[str] = FALSE_COLOR, share: float = 2.0) -> npt.NDArray[np.float32]:
    """(y, x, 3) picture of the first date, each band stretched between its percentiles; white where there is no data.

    Args:
        scene: (time, band, y, x) or (band, y, x).
        bands: red, green and blue of the picture.
        share: percent of the pixels that saturate at either end.

    Raises:
        BandError: the scene lacks one of them.

    """
    missing = [band for band in bands if band not in scene["band"].values]
    if missing:
        raise BandError(f"a picture of {', '.join(bands)} needs {', '.join(missing)}, which the scene lacks.")
    first = scene.isel(time=0) if "time" in scene.dims else scene
    pixels = first.sel(band=list(bands)).transpose("y", "x", "band").values.astype(np.float32)
    low, high = np.nanpercentile(pixels, [share, 100 - share], axis=(0, 1))
    stretched = np.clip((pixels - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.where(np.isfinite(stretched), stretched, 1.0).astype(np.float32)


def show_composite(scene: xr.DataArray, ax: Axes, bands: Sequence[str] = FALSE_COLOR) -> Axes:
    """Draws `composite` without axis ticks."""
    ax.imshow(composite(scene, bands), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def show_classes(
    classes: npt.NDArray[Any], names: Sequence[str], colors: Sequence[str], ax: Axes, legend: bool = True
) -> Axes:
    """Draws a (y, x) array of class numbers in the classes' own colours; other numbers stay white."""
    from matplotlib.patches import Patch

    picture = np.ones((*classes.shape, 3), dtype=np.float32)
    shades = [(int(c[0:2], 16) / 255, int(c[2:4], 16) / 255, int(c[4:6], 16) / 255) for c in colors]
    for number, shade in enumerate(shades):
        picture[classes == number] = shade
    ax.imshow(picture, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    if legend:
        handles = [
            Patch(facecolor=shade, edgecolor="0.4", label=name) for shade, name in zip(shades, names, strict=True)
        ]
        ax.legend(handles=handles, loc="lower right", fontsize=8, framealpha=0.9)
    return ax


def show_reliability(found: Reliability, ax: Axes) -> Axes:
    """Draws a reliability diagram: share that is right against confidence, a point a bin, its area by pixels.

    Args:
        found: what `prithvi.metrics.CalibrationMetric` computes.
        ax: where to.

    """
    confidence, accuracy, pixels = (values.cpu().numpy() for values in found)
    there = pixels > 0
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    share = pixels[there] / pixels.sum()
    ax.scatter(confidence[there], accuracy[there], s=20 + 400 * share, alpha=0.7)
    ax.plot(confidence[there], accuracy[there], linewidth=1)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right", aspect="equal")
    ax.set_title(f"ECE {float(found.error):.3f}")
    return ax
