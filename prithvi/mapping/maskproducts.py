"""What the values of cloud masks mean, product by product: a table, and how a file's product is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from prithvi.errors import ConfigError, SceneError, nearest
from prithvi.hls.granules import BAD, BITS, FILL

Values = npt.NDArray[np.generic]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MaskProduct:
    """A kind of cloud mask. What is neither cloud (or its shadow) nor unobserved is clear."""

    title: str
    guide: str
    """Where its values are defined."""
    name: str = ""
    """What a file's name, in small letters and without its ending, holds; empty for what has to be said."""
    cloud_bits: tuple[int, ...] = ()
    """Bits of which any means cloud or cloud shadow."""
    cloud: tuple[int, ...] = ()
    """Values that do."""
    clear: tuple[int, ...] = ()
    """Where given: every other value is cloud."""
    fill_bits: tuple[int, ...] = ()
    fill: tuple[int, ...] = ()
    """Values of pixels of which nothing is known."""
    values: range = range(2**16)
    """What a value can be, beside `fill`."""

    def observed(self, values: Values, nodata: float | None = None) -> Flags:
        """Where a pixel was seen at all. Same shape.

        Args:
            values: of the mask.
            nodata: what the file itself calls no data; a value that is clear here stays so.

        """
        whole, there = _whole(values)
        filled = np.isin(whole, self.fill) | _any_bit(whole, self.fill_bits)
        if nodata is not None and nodata not in self.clear:
            filled |= whole == nodata
        return there & ~filled

    def is_clear(self, values: Values, nodata: float | None = None) -> Flags:
        """Where a pixel was seen and no cloud or cloud shadow lies over it. Same shape; see `observed`."""
        whole, _ = _whole(values)
        cloudy = np.isin(whole, self.cloud) | _any_bit(whole, self.cloud_bits)
        if self.clear:
            cloudy = ~np.isin(whole, self.clear)
        return self.observed(values, nodata) & ~cloudy

    def strange(self, values: Values, nodata: float | None = None) -> list[int]:
        """Those of the values that this product does not have."""
        whole, there = _whole(values)
        known = (whole >= self.values.start) & (whole < self.values.stop) | np.isin(whole, self.fill) | ~there
        if nodata is not None:
            known |= whole == nodata
        found: list[int] = np.unique(whole[~known]).tolist()
        return found


def _whole(values: Values) -> tuple[npt.NDArray[np.int64], Flags]:
    """Values as whole numbers, and where there are such; -1.7e308 is a nodata value of real masks."""
    there = np.isfinite(values) & (np.abs(values) < 2**53)
    return np.where(there, values, 0).astype(np.int64), there


def _any_bit(values: npt.NDArray[np.int64], bits: tuple[int, ...]) -> Flags:
    found: Flags = (values & sum(1 << bit for bit in bits)) != 0
    return found


OWN, OWN_CLEAR = "cloud", "clear"
MASK_PRODUCTS = {
    "fmask": MaskProduct(
        "HLS Fmask", "HLS v2.0 user guide, quality layer", r"^hls\..*\.fmask",
        cloud_bits=tuple(BITS[name] for name in BAD), fill=(FILL,), values=range(256),
    ),
    "scl": MaskProduct(
        "Sentinel-2 SCL", "Sentinel-2 Level-2A product specification, scene classification", r"\bscl\b",
        cloud=(3, 8, 9, 10), fill=(0, 1), values=range(12),
    ),
    "qa_pixel": MaskProduct(
        # A pixel that was looked at always has a confidence (bits 8 to 15): 0 is what warping left outside.
        "Landsat Collection 2 QA_PIXEL", "Landsat 8-9 Collection 2 Level 2 science product guide, LSDS-1619",
        r"\bqa pixel\b", cloud_bits=(1, 2, 3, 4), fill_bits=(0,), fill=(0,),
    ),
    "pixel_qa": MaskProduct(
        "Landsat Collection 1 pixel_qa", "Landsat 8 Collection 1 surface reflectance product guide, LSDS-1368",
        r"\bpixel qa\b", cloud_bits=(3, 5), fill_bits=(0,), fill=(0,),
    ),
    "cfmask": MaskProduct(
        "Fmask or CFmask by classes", "Zhu, Wang and Woodcock 2015; Landsat 4-7 surface reflectance product guide",
        r"^l[cote]\d.*\bc?fmask4?\b|\bcfmask\b|\bfmask4\b", cloud=(2, 4), fill=(255,), values=range(5),
    ),
    "dswx_cloud": MaskProduct(
        "OPERA DSWx-HLS CLOUD", "OPERA DSWx-HLS product specification, layer 9", r"\bdswx\b.*\bcloud$",
        cloud_bits=(0, 2), fill=(255,), values=range(8),
    ),
    OWN: MaskProduct("a mask of 0 where it is clear", "your own", clear=(0,), values=range(-(2**31), 2**32)),
    OWN_CLEAR: MaskProduct("a mask of 1 where it is clear", "your own", clear=(1,), values=range(2)),
}  # fmt: skip
"""By the name that `--clouds-are` and `product=` take."""

_NO_MASKS = re.compile(
    r"cfmask conf|\bbqa\b|\bsr (cloud|aerosol|ipflag|qa)|qa (radsat|aerosol)|cloud qa|cldprb|snwprb|\bcld \d|msk c|"
    r"\bdswx\b|\bcs( cdf)?$|\bprob"
)
"""Layers of products that lie beside a mask and hold something else: confidences, probabilities, other bits."""
_SOME_FMASK = re.compile(r"fmask$")


def product_called(name: str) -> MaskProduct:
    """A product by its name in the table.

    Raises:
        ConfigError: there is none.

    """
    if name not in MASK_PRODUCTS:
        raise ConfigError(f"there is no kind of cloud mask {name!r}: {nearest(name, MASK_PRODUCTS)}")
    return MASK_PRODUCTS[name]


def product_named(path: object) -> str | None:
    """The key of the product that a file's name states; None where it states none."""
    words = _words(path)
    dotted = PurePath(str(path)).name.lower()
    for key, product in MASK_PRODUCTS.items():
        if product.name and re.search(product.name, dotted if key == "fmask" else words):
            return None if key == "cfmask" and _NO_MASKS.search(words) else key
    return None


def product_of(path: object, values: Values) -> str:
    """The key of a mask's product, by its name, and where that leaves two by its values.

    Args:
        path: of the file.
        values: all that occur in it.

    Raises:
        SceneError: the name is that of another layer, or of two kinds of masks which the values do not tell apart.

    """
    key, words = product_named(path), _words(path)
    if key is not None:
        return key
    if _NO_MASKS.search(words):
        raise SceneError(
            f"{path} is by its name no cloud mask that is known (these are {', '.join(MASK_PRODUCTS)}): take the mask "
            "that lies beside it, or say what it holds with --clouds-are (product=)."
        )
    if not _SOME_FMASK.search(words):
        return OWN
    # HLS keeps conditions as bits, nearly always with those of aerosol (64 and above) among them; the original Fmask
    # keeps classes. Of what both have, 3 and 4 alone mean different things.
    if MASK_PRODUCTS["cfmask"].strange(values) or not np.isin(values, (3, 4)).any():
        return "fmask"
    raise SceneError(
        f"{path} may be an Fmask of HLS (bits: 4 is next to a cloud) or one of classes (4 is cloud): say --clouds-are "
        "fmask or --clouds-are cfmask (product=)."
    )


def _words(path: object) -> str:
    stem = PurePath(str(path)).name.rsplit(".", 1)[0]
    return re.sub(r"[_.\-]+", " ", stem.lower())
