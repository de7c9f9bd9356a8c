"""What all plots draw with: axes, georeferenced pictures, a scale bar, and colours.

Colours are distinguishable with red-green colour blindness.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.transforms import Affine2D
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from odc.geo.geobox import GeoBox

from prithvi.errors import ConfigError
from prithvi.scenes.grids import grid_of_array

OKABE_ITO = ("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7", "000000")
"""Okabe and Ito (2008), Color Universal Design."""
CONTINUOUS = "cividis"
"""Nuñez, Anderton and Renslow (2018), doi:10.1371/journal.pone.0199239."""
DIFFERENCE = "PuOr"
MARK = ("white", "black")
"""Colours of a line over a picture and of its outline, visible on bright and dark ground."""
WEB_MERCATOR = 3857
"""Its units are metres only at the equator."""


def ground_of(array: xr.DataArray) -> GeoBox:
    """Where the pixels of an array with the dimensions y and x lie.

    Where the array does not say that, pixels are counted from the upper left corner, without a CRS.
    """
    if "spatial_ref" in array.coords or {"x", "y"} <= set(array.coords):
        return grid_of_array(array)
    return GeoBox((array.sizes["y"], array.sizes["x"]), Affine.identity(), None)


def draw(
    ax: Axes | None, picture: npt.NDArray[Any], ground: GeoBox, *, ticks: bool = False, bar: bool = True, **how: Any
) -> AxesImage:
    """Draws an image in map coordinates.

    Args:
        ax: where to; None for a new figure.
        picture: (y, x) or (y, x, 3).
        ground: where its pixels lie; of a thinned picture, those of the whole.
        ticks: whether to write coordinates along the sides.
        bar: whether to draw a scale bar, where distances on the map are metres.
        how: of `Axes.imshow`.

    """
    ax = one(ax)
    rows, columns = ground.shape
    (left, top), (right, bottom) = (ground.affine @ corner for corner in ((0, 0), (columns, rows)))
    upright = ground.affine.is_rectilinear
    extent = (left, right, bottom, top) if upright else (0, columns, rows, 0)
    image = ax.imshow(picture, interpolation="nearest", extent=extent, **how)
    if not upright:
        image.set_transform(Affine2D(np.array(ground.affine).reshape(3, 3)) + ax.transData)
    if ground.crs is not None:  # north is up, whatever the order of the rows
        west, south, east, north = ground.boundingbox
        ax.set(xlim=(west, east), ylim=(south, north))
    geographic = ground.crs is not None and ground.crs.geographic
    ax.set_aspect(1 / max(math.cos(math.radians((top + bottom) / 2)), 0.01) if geographic else "equal")
    if ticks:
        ax.ticklabel_format(style="plain", useOffset=False)
        names = ("longitude", "latitude") if geographic else ("x", "y") if ground.crs is not None else ("column", "row")
        ax.set(xlabel=names[0], ylabel=names[1])
    else:
        ax.set(xticks=[], yticks=[])
    if bar:
        _scale_bar(ax, ground)
    return image


def class_colors(count: int) -> list[str]:
    """Default class colours (RRGGBB): eight colours, then lighter shades of the same."""
    return [_lighter(OKABE_ITO[number % 8], number // 8) for number in range(count)]


def _lighter(color: str, times: int) -> str:
    return "".join(f"{round(255 - (255 - part) * 0.5**times):02X}" for part in bytes.fromhex(color))


def one(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def several(axes: Any, rows: int, columns: int, what: str, side: float = 2.6) -> npt.NDArray[Any]:
    """(rows, columns) array of the given axes, or of those of a new figure.

    Args:
        axes: an Axes, or axes in any arrangement; None for a new figure.
        rows: number of rows.
        columns: number of columns.
        what: name of the plot in error messages.
        side: side of each axes of a new figure, in inches.

    Raises:
        ConfigError: the number of given axes is not rows x columns.

    """
    if axes is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(side * columns, (side + 0.3) * rows), layout="constrained")
        return np.asarray(figure.subplots(rows, columns, squeeze=False))
    given = np.asarray(axes, dtype=object).ravel()
    if len(given) != rows * columns:
        raise ConfigError(f"{what} takes {rows * columns} axes, and {len(given)} were given.")
    return given.reshape(rows, columns)


def date_of(step: xr.DataArray) -> str:
    """The date as YYYY-MM-DD; empty if there is none."""
    return str(step["time"].values)[:10] if "time" in step.coords and step["time"].ndim == 0 else ""


def _scale_bar(ax: Axes, ground: GeoBox) -> None:
    crs = ground.crs
    if crs is None or not crs.projected or crs.to_epsg() == WEB_MERCATOR:
        return
    unit = crs.proj.axis_info[0].unit_conversion_factor  # metres
    west, south, east, north = ground.boundingbox
    most = (east - west) * unit / 3
    ten = 10.0 ** math.floor(math.log10(most))
    length = max(step * ten for step in (1, 2, 5) if step * ten <= most)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    found = AnchoredSizeBar(
        ax.transData, length / unit, text, "lower left", pad=0.3, borderpad=0.4, sep=3,
        size_vertical=(north - south) / 120, fontproperties=FontProperties(size=8),
    )  # fmt: skip
    found.patch.set(alpha=0.7, linewidth=0)
    ax.add_artist(found)
