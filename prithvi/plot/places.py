"""Drawing of georeferenced pictures on matplotlib axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import Affine2D
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from odc.geo.geobox import GeoBox

from prithvi.errors import ConfigError
from prithvi.scenes import transform_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

WEB_MERCATOR = 3857
"""EPSG code of Web Mercator, whose units are metres only at the equator."""


@dataclass(frozen=True)
class Place:
    """Georeference of a picture."""

    transform: Affine
    shape: tuple[int, int]
    """Rows and columns of the transform's grid; a subsampled picture has fewer."""
    crs: Any = None
    """None if the picture is not georeferenced; coordinates are then pixels from the upper left corner."""

    @classmethod
    def of(cls, array: xr.DataArray) -> Place:
        """The georeference of an array with the dimensions y and x."""
        known = "spatial_ref" in array.coords or {"x", "y"} <= set(array.coords)
        shape = array.sizes["y"], array.sizes["x"]
        return cls(transform_of(array), shape, array.rio.crs) if known else cls(Affine.identity(), shape)

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        """(4, 2) map coordinates of the outer corners: upper left, upper right, lower right, lower left."""
        rows, columns = self.shape
        return np.array([self.transform @ corner for corner in ((0, 0), (columns, 0), (columns, rows), (0, rows))])

    @property
    def grid(self) -> GeoBox:
        """The georeference as a GeoBox."""
        return GeoBox(self.shape, self.transform, None if self.crs is None else self.crs.to_wkt())

    def centres(self, shape: tuple[int, int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Map coordinates x and y, each (rows, columns), of pixel centres of a picture of this shape."""
        scaled = self.transform @ Affine.scale(self.shape[1] / shape[1], self.shape[0] / shape[0])
        rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
        x, y = scaled @ (columns, rows)
        return x, y


def draw(
    ax: Axes, picture: npt.NDArray[Any], place: Place, *, ticks: bool = False, bar: bool = True, **how: Any
) -> AxesImage:
    """Draws an image in map coordinates.

    Args:
        ax: axes to draw on.
        picture: (y, x) or (y, x, 3) image.
        place: its georeference.
        ticks: label the axes with coordinates.
        bar: draw a scale bar, if the CRS is in metres.
        how: arguments of `Axes.imshow`.

    """
    # Matplotlib draws axis-aligned images by their extent; a rotated grid needs its affine as a transform of the image.
    (left, top), _, (right, bottom), _ = place.corners
    if place.transform.is_rectilinear:
        image = ax.imshow(picture, interpolation="nearest", extent=(left, right, bottom, top), **how)
    else:
        rows, columns = place.shape
        image = ax.imshow(picture, interpolation="nearest", extent=(0, columns, rows, 0), **how)
        a, b, c, d, e, f = place.transform[:6]
        image.set_transform(Affine2D(np.array([[a, b, c], [d, e, f], [0, 0, 1]])) + ax.transData)
    if place.crs is not None:  # north is up, regardless of the order of rows
        (west, south), (east, north) = place.corners.min(axis=0), place.corners.max(axis=0)
        ax.set(xlim=(west, east), ylim=(south, north))
    geographic = place.crs is not None and place.crs.is_geographic
    ax.set_aspect(1 / max(math.cos(math.radians((top + bottom) / 2)), 0.01) if geographic else "equal")
    if ticks:
        ax.ticklabel_format(style="plain", useOffset=False)
        names = ("longitude", "latitude") if geographic else ("x", "y") if place.crs is not None else ("column", "row")
        ax.set(xlabel=names[0], ylabel=names[1])
    else:
        ax.set(xticks=[], yticks=[])
    if bar:
        _scale_bar(ax, place)
    return image


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


def _scale_bar(ax: Axes, place: Place) -> None:
    crs = place.crs
    if crs is None or not crs.is_projected or crs.to_epsg() == WEB_MERCATOR:
        return
    unit = float(crs.linear_units_factor[1])
    (west, south), (east, north) = place.corners.min(axis=0), place.corners.max(axis=0)
    # The longest of 1, 2 or 5 times a power of ten metres that is at most a third of the picture's width.
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
