"""What a pixel shows on the date of its image, in one legend, by masks and maps that others made from open data.

Where two signs contradict each other a pixel has no label. Signs are Fmask and its kin (cfmask, SCL, Landsat's QA), the
cover of ESA WorldCover and Esri under clear land, OPERA DSWx, and the network of ukis-csmask where it is installed
(`pip install ukis-csmask[cpu]`, Apache-2.0). No label of water that a person drew is among them.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from prithvi.chips.spec import UNLABELLED
from prithvi.contract import Category

Image = npt.NDArray[np.int16]
Mask = npt.NDArray[np.uint8]

LEGEND = tuple(
    Category(value, name, color)
    for value, (name, color) in enumerate(
        (
            ("water", "0064C8"), ("snow", "F0F0F0"), ("cloud", "B4B4B4"), ("shadow", "4A4A4A"), ("land", "A08C5A"),
            ("trees", "006400"), ("shrub", "FFBB22"), ("grass", "FFFF4C"), ("cropland", "F096FF"), ("built", "FA0000"),
            ("bare", "8C6E50"), ("wetland", "0096A0"),
        )
    )
)  # fmt: skip
"""`land` is land whose cover nobody says; the rest of the list from `trees` on is land too."""
WATER, SNOW, CLOUD, SHADOW, LAND, TREES, SHRUB, GRASS, CROPLAND, BUILT, BARE, WETLAND = range(12)

WORLDCOVER = {10: TREES, 20: SHRUB, 30: GRASS, 40: CROPLAND, 50: BUILT, 60: BARE, 90: WETLAND, 95: WETLAND}
"""Code to class. Of 70 (snow and ice) and 80 (water) the image itself must show that it is so on its date, and 100
(moss and lichen) is none of ours."""
ESRI = {2: TREES, 3: WETLAND, 4: CROPLAND, 5: BUILT, 6: BARE, 9: LAND}
"""The same of the codes in TerraMind's examples; 9 is rangeland, which is shrub and grass in one."""

CLOUD_BIT, ADJACENT_BIT, SHADOW_BIT, SNOW_BIT, WATER_BIT, FILL = 2, 4, 8, 16, 32, 255


def by_fmask(fmask: Mask, image: Image) -> Mask:
    """Water, snow, cloud, shadow and land by the bits of Fmask (HLS v2.0).

    Args:
        fmask: (..., y, x).
        image: (..., 6, y, x) reflectance x 10,000 in the usual order.

    """
    mndwi, ndvi, bright = signs(image)
    wet, white = fmask & WATER_BIT > 0, fmask & SNOW_BIT > 0
    label = np.select(
        [fmask == FILL, fmask & CLOUD_BIT > 0, fmask & SHADOW_BIT > 0, white, wet],
        [UNLABELLED, CLOUD, SHADOW, SNOW, WATER], LAND,
    )  # fmt: skip
    # Beside clouds nothing is sure: the bit is a buffer for what the mask missed.
    silent = (fmask & ADJACENT_BIT > 0) & (label != CLOUD) & (label != SHADOW)
    # Fmask calls turbid water snow; and growth on a dry lake bed water, for it knows where water was in other years.
    silent |= (label == SNOW) & ~((mndwi > 0.4) & bright)
    silent |= (label == WATER) & (mndwi < -0.2) & (ndvi > 0.3)
    silent |= (label == LAND) & (mndwi > 0.2)
    silent |= (label == SHADOW) & (mndwi > 0)  # lakes, as often as not
    return np.where(silent, UNLABELLED, label).astype(np.uint8)


def signs(image: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Of (..., 6, y, x): MNDWI, which is the snow index too; NDVI; whether green and NIR are bright enough for snow.

    The test for snow is that of MODIS (Hall et al. 1995): NDSI above 0.4, green above 0.1 and NIR above 0.11.
    """
    _, green, red, nir, swir, _ = (band.astype(np.float32) / 10_000 for band in np.moveaxis(image, -3, 0))
    mndwi = (green - swir) / np.maximum(green + swir, 1e-3)
    ndvi = (nir - red) / np.maximum(nir + red, 1e-3)
    return mndwi, ndvi, (green > 0.1) & (nir > 0.11)


def with_cover(label: Mask, codes: npt.NDArray[Any], legend: dict[int, int]) -> Mask:
    """The same with the cover of clear land by a map of other years.

    Where it has water or snow and the image has neither, one of them is wrong or something has changed: no label.
    """
    table = np.full(256, UNLABELLED, np.uint8)
    table[list(legend)] = list(legend.values())
    return np.where(label == LAND, table[codes], label).astype(np.uint8)


def by_index(image: Image) -> Mask:
    """Water and land of an image that is known to be clear; no label in between."""
    mndwi, _, bright = signs(image)
    return np.select([(mndwi > 0.2) & ~bright, mndwi < -0.1], [WATER, LAND], UNLABELLED).astype(np.uint8)


def by_network(image: Image, level: str, factor: int = 1) -> Mask | None:
    """Cloud and shadow by ukis-csmask, water and land by `by_index` elsewhere; None where it is not installed.

    Its clouds need brightness, its shadows clouds: in a scene without any cloud it saw 7 % of clouds and shadows.

    Args:
        image: (6, y, x).
        level: `SR` or `TOA`.
        factor: how many pixels make one of 30 m, on which the network was trained.

    """
    network = _network()
    if network is None:
        return None
    height, width = image.shape[1:]
    padding = [(0, 0), (0, -height % factor), (0, -width % factor)]
    padded = np.pad(image, padding, mode="edge").clip(0).astype(np.float32) / 10_000  # nodata is far below 0
    rows, columns = padded.shape[1] // factor, padded.shape[2] // factor
    coarse = padded.reshape(6, rows, factor, columns, factor).mean(axis=(2, 4)).transpose(1, 2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that an image is smaller than its own windows
        answer = network(
            np.ascontiguousarray(coarse), ["blue", "green", "red", "nir", "swir16", "swir22"],
            product_level="l1c" if level == "TOA" else "l2a", intra_op_num_threads=1, inter_op_num_threads=1,
            providers=["CPUExecutionProvider"],
        ).csm[..., 0]  # fmt: skip
    answer = np.kron(answer, np.ones((factor, factor), np.uint8))[:height, :width]
    label, (mndwi, _, _) = by_index(image), signs(image)
    cloud = (answer == 1) & (image[0] > 2000)
    shadow = (answer == 2) & (mndwi < 0) & (cloud.mean() > 0.01)
    label[answer > 0] = UNLABELLED
    label[cloud], label[shadow] = CLOUD, SHADOW
    return label


@cache
def _network() -> Any:
    try:
        from ukis_csmask.mask import CSmask
    except ImportError:
        print("ukis-csmask is not installed: scenes without a mask stay without labels", flush=True)
        return None
    return CSmask
