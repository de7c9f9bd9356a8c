"""Which windows are kept as chips, and how their small holes are filled.

The thresholds are those of the published recipe for Prithvi-EO-2.0 (NASA-IMPACT/prithvi-global-workshop): at least 80 %
good pixels by Fmask and at most 1 % missing pixels in any band, on every date; remaining holes take the value of their
nearest neighbour. (The published code discards the result of that filling, and casts NaN to int16.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from prithvi.bands import PRITHVI_BANDS
from prithvi.chips.date_plan import DateRule
from prithvi.chips.spec import NODATA
from prithvi.errors import ConfigError, ScaleError
from prithvi.hls.granules import BAD, good


@dataclass(frozen=True)
class Filters:
    """Conditions on every date of a chip."""

    good: float = 0.8
    """Least share of good pixels by Fmask."""
    missing: float = 0.01
    """Largest share of pixels without data, in any band."""
    bad: tuple[str, ...] = BAD
    """Conditions of Fmask that make a pixel not good."""

    def __post_init__(self) -> None:
        if not (0 <= self.good <= 1 and 0 <= self.missing < 1):
            raise ConfigError(f"good={self.good:g}, missing={self.missing:g}: both are shares, missing below 1.")


@dataclass(frozen=True)
class Recipe:
    """How chips are cut out of granules."""

    size: int = 224
    """Side of a chip in pixels."""
    frames: int = 3
    bands: tuple[str, ...] = PRITHVI_BANDS
    filters: Filters = field(default_factory=Filters)
    dates: DateRule = field(default_factory=DateRule)
    per_tile: int = 3000
    """Most chips of a tile."""
    per_place: int = 10
    """Most chips of one place, each of other dates."""
    labels: str | None = None
    """File of labels, see `prithvi.chips.label_files.open_labels`."""
    class_column: str | None = None
    background: str | None = None
    ignore: tuple[str, ...] = ()
    """Values or classes of the label file that are no class."""
    keep: tuple[str, ...] = ()
    """Values of a label raster that are classes though they look like no data."""
    label_product: str | None = None
    """What a label raster is, see `open_labels`."""
    least_labelled: float = 0.0
    """Chips with no more than this share of labelled pixels are left out, where there are labels."""
    area: str | None = None
    """Vector file: only chips that touch one of its features."""


def shares(
    bands: npt.NDArray[np.int16], fmask: npt.NDArray[np.uint8], size: tuple[int, int], filters: Filters
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Share of good and of missing pixels in each window of a row of windows side by side.

    Args:
        bands: (band, height, width) of one date, `NODATA` where there is none.
        fmask: (height, width).
        size: height and width of a window; columns behind the last whole window are left out.
        filters: which conditions are bad.

    Returns:
        (windows,) shares: good pixels by Fmask, and missing pixels of the band that has most.

    """
    height, width = size
    count = bands.shape[-1] // width

    def share(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        # Column by column first, in the smallest numbers that hold the count: a fifth of the time of a mean.
        down = np.add.reduce(mask.view(np.uint8), axis=-2, dtype=np.min_scalar_type(height))
        windows = down.reshape(*down.shape[:-1], count, width).sum(axis=-1, dtype=np.int64)
        found: npt.NDArray[np.float64] = windows / (height * width)
        return found

    clear = good(fmask[:height, : count * width], filters.bad)
    return share(clear), share(bands[:, :height, : count * width] == NODATA).max(axis=0)


def fill_holes(image: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Gives every pixel without data the value of its nearest neighbour in the same band and date.

    Args:
        image: (time, band, y, x), `NODATA` where there is none.

    Returns:
        The filled image, and where (time, y, x) any band was filled.

    Raises:
        ScaleError: a band without any pixel has no neighbour to take.

    """
    holes = image == NODATA
    filled = holes.any(axis=1)
    if not filled.any():
        return image, filled
    result = image.copy()
    # The distance transform gives, for each hole, row and column of the nearest pixel that is none. It looks at one
    # band of one date at a time: a hole never takes a value of another band, whose scale differs.
    for time, band in zip(*np.nonzero(holes.any(axis=(2, 3))), strict=True):
        here = holes[time, band]
        if here.all():
            raise ScaleError(f"band {band} of date {time} has no pixel at all: leave the date out.")
        rows, columns = distance_transform_edt(here, return_distances=False, return_indices=True)
        result[time, band] = image[time, band][rows, columns]
    return result, filled
