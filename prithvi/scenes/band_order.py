"""Whether the values of bands without names speak against the order in which a sensor's bands were taken for granted.

Bands that are neighbours in wavelength look alike: over any ground, snow, cloud or water the mean correlation from band
to band, from the shortest wavelength to the longest, is higher than with the bands in another order. So the order that
was taken is compared with those in which files are often stacked, and with single bands moved. It is refused where
another fits clearly better, and said in a note where none does: the numbers cannot tell everything (blue for red).
Over the real Sentinel-2 and Landsat scenes that this was tried on, and over each 64 x 64 pixels of them, none of the
usual orders did better than the right one by more than 0.02.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from prithvi.bands import PRODUCTS, WAVELENGTHS
from prithvi.catalog import SENSORS
from prithvi.errors import BandError
from prithvi.scenes.info import SceneInfo

_MARGIN = 0.025
"""Mean correlation by which one of the usual orders must beat the one that was taken."""
_MOVED = 0.07
"""Margin for one band moved or two exchanged: of these many orders the best beat the right one by up to 0.04 over
192 x 192 pixels, and by 0.1 over 64 x 64.
"""
_ENOUGH = 5_000
"""Fewest pixels for that test."""
_BACKWARDS = 0.4
"""By how much the near infrared and SWIR 1 must look more alike than the visible bands. Where the order is right, they
were up to 0.32 more alike (64 x 64 pixels of a lake) and mostly far less.
"""
_ALONE = ("cirrus", "thermal_1", "thermal_2", "panchromatic")
"""Bands that look like no neighbour of theirs."""
_VISIBLE, _INFRARED = ("coastal", "blue", "green", "red"), ("nir_broad", "nir_narrow")
_BY_PIXEL_SIZE = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09", "B10")


def check_order(scene: xr.DataArray, blocks: Iterable[npt.NDArray[np.floating[Any]]]) -> None:
    """Compares the order of the scene's bands with others on samples of its pixels.

    Args:
        scene: with band names that were taken from the sensor's order.
        blocks: (time, band, y, x) samples, NaN where there is no data.

    Raises:
        BandError: the values fit another order clearly better.

    Warns:
        UserWarning: the order that was taken.

    """
    info = SceneInfo.of(scene)
    sensor = SENSORS.get(info.sensor or "")
    names = [str(name) for name in scene["band"].values]
    if sensor is None:
        return
    table = PRODUCTS[sensor.product]
    if names != [table[identifier] for identifier in sensor.stack]:
        return  # somebody chose or reordered them since
    like, seen = _correlations(blocks, len(names))
    order = f"{sensor.name} ({', '.join(sensor.stack)})"
    taken = f"{info.called}: the bands have no names and were taken in the order of {order}"
    others = _others(sensor.stack)
    own = _neighbours(like, names)
    scores = {words: _neighbours(like, [table[i] for i in order]) for words, order in others.items()}
    best = max(scores, key=lambda words: scores[words])
    correlate = "neighbours in wavelength correlate by"
    if scores[best] > own + _MARGIN:
        fit = f"another order better ({best}: {', '.join(others[best])}; {correlate} {scores[best]:.2f}, not {own:.2f})"
    # Landsat's few bands fit many orders.
    elif "B8A" in sensor.stack and seen >= _ENOUGH and (moved := _best_move(like, names)) > own + _MOVED:
        fit = f"another order better (with one band moved or two exchanged {correlate} {moved:.2f}, not {own:.2f})"
    elif (more := _backwards(like, names)) > _BACKWARDS:
        fit = f"the other way round better (the near infrared and SWIR 1 are by {more:.2f} more alike than the visible)"
    else:
        warnings.warn(f"{taken}.", stacklevel=4)
        return
    mend = "say which bands are which (--bands, with their numbers in the file), or name them in the file."
    raise BandError(f"{taken}, and their values fit {fit}: {mend}")


def _others(stack: Sequence[str]) -> dict[str, list[str]]:
    """Orders in which files are stacked: ids of the first band to the last. Of Landsat's few bands those that begin
    with red are left out: vegetation fits them about as well as the right one.
    """
    orders = {
        "sorted by file name": sorted(stack),
        "sorted as text": sorted(stack, key=lambda i: i.replace("B0", "B")),
        "the other way round": list(stack)[::-1],
    }
    if "B8A" in stack:
        colours = ("B04", "B03", "B02", "B08")
        orders["by pixel size"] = sorted(stack, key=_BY_PIXEL_SIZE.index)
        orders["red, green, blue and B08 first"] = [*colours, *(i for i in stack if i not in colours)]
    return {words: order for words, order in orders.items() if order != list(stack)}


def _correlations(blocks: Iterable[npt.NDArray[np.floating[Any]]], count: int) -> tuple[npt.NDArray[np.float64], int]:
    """(band, band) correlations over the pixels with data (0 for bands of one value), and the number of these."""
    # Every other pixel along both axes tells as much, in a quarter of the memory.
    flat = [np.moveaxis(block[..., ::2, ::2], 1, 0).reshape(count, -1) for block in blocks]
    values = np.concatenate(flat, axis=1).astype(np.float64) if flat else np.zeros((count, 0))
    values = values[:, np.isfinite(values).all(axis=0)]
    if values.shape[1] < 2:
        return np.zeros((count, count)), 0
    with np.errstate(invalid="ignore", divide="ignore"):
        like: npt.NDArray[np.float64] = np.nan_to_num(np.atleast_2d(np.corrcoef(values)))
    return like, values.shape[1]


def _neighbours(like: npt.NDArray[np.float64], names: Sequence[str]) -> float:
    """Mean correlation from band to band by wavelength, if the bands had these names."""
    return _along(like, _by_wavelength(names))


def _by_wavelength(names: Sequence[str]) -> list[int]:
    """Places of the bands from the shortest wavelength to the longest."""
    return [names.index(name) for name in sorted(set(names) - set(_ALONE), key=lambda name: WAVELENGTHS[name])]


def _along(like: npt.NDArray[np.float64], places: Sequence[int]) -> float:
    return float(like[places[:-1], places[1:]].mean())


def _best_move(like: npt.NDArray[np.float64], names: Sequence[str]) -> float:
    """The highest mean correlation of neighbours with one band moved to another place or two exchanged."""
    places = _by_wavelength(names)
    best = 0.0
    for old in range(len(places)):
        rest = places[:old] + places[old + 1 :]
        for new in range(len(places)):
            exchanged = list(places)
            exchanged[old], exchanged[new] = exchanged[new], exchanged[old]
            best = max(best, _along(like, [*rest[:new], places[old], *rest[new:]]), _along(like, exchanged))
    return best


def _backwards(like: npt.NDArray[np.float64], names: Sequence[str]) -> float:
    """How much more the near infrared and SWIR 1 are alike than the visible bands among themselves. A cirrus band,
    whose place the correlations of neighbours tell, would be among those if the order were turned.
    """
    if "cirrus" in names:
        return 0.0
    visible, infrared = ([names.index(name) for name in some if name in names] for some in (_VISIBLE, _INFRARED))
    among_visible = np.mean([like[pair] for pair in combinations(visible, 2)])
    return float(like[infrared, names.index("swir_1")].mean() - among_visible)
