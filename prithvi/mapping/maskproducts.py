"""What the values of cloud masks mean, product by product: a table, how a file's product is told, and its reading."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
import xarray as xr
from dask.base import tokenize
from rasterio.errors import RasterioError
from rasterio.windows import Window

from prithvi.errors import ConfigError, SceneError, nearest
from prithvi.hls.granules import BAD, BITS, FILL
from prithvi.scenes.grids import difference, grid_of, grid_of_array, repeats
from prithvi.scenes.open_files import of_file
from prithvi.scenes.raster_files import has_mask, masked_values
from prithvi.scenes.remote import DAMAGED

Values = npt.NDArray[np.generic]
Flags = npt.NDArray[np.bool_]
Reading = Callable[[Values, float | None], npt.NDArray[np.uint8]]
"""Values of a mask, and its nodata value, to what they mean. Same shape."""

NOT_CLEAR = 255
"""Rank of what is under clouds or was not seen."""
CLEAR, CLOUDY, SHADOWED, UNSEEN = 0, 1, 2, 255
"""What `MaskProduct.classes` gives, and masks that are made here hold."""
_STRIP = 512
"""Rows of a mask that are read at once."""
_HAZE = np.array([0, 0, 1, 2], np.uint8)
"""Rank of the aerosol levels climatology, low, moderate and high."""


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
    shadow_bits: tuple[int, ...] = ()
    """Those of the bits of which any means cloud shadow."""
    shadow: tuple[int, ...] = ()
    """Those of the values that do."""
    clear: tuple[int, ...] = ()
    """Where given: every other value is cloud."""
    doubt_bits: tuple[int, ...] = ()
    """Bits of which any makes a clear pixel a worse one than the others."""
    aerosol_bit: int | None = None
    """The first of two bits with the aerosol level, as in HLS: climatology, low, moderate, high."""
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

    def rank(self, values: Values, nodata: float | None = None) -> npt.NDArray[np.uint8]:
        """How good an observation is, 0 the best: below 3 plainly clear, from 3 on in doubt, and in each of the two
        low aerosol (or climatology, where none was found) before moderate and high; `NOT_CLEAR` under clouds, and where
        nothing was seen. Same shape; see `observed`.
        """
        whole, _ = _whole(values)
        level = np.zeros(whole.shape, np.uint8) if self.aerosol_bit is None else _HAZE[whole >> self.aerosol_bit & 3]
        found = level + np.uint8(len(set(_HAZE.tolist()))) * _any_bit(whole, self.doubt_bits)
        return np.where(self.is_clear(values, nodata), found, NOT_CLEAR).astype(np.uint8)

    def classes(self, values: Values, nodata: float | None = None) -> npt.NDArray[np.uint8]:
        """`CLEAR`, `CLOUDY`, `SHADOWED` (where it is not cloud, too) or `UNSEEN`. Same shape; see `observed`."""
        whole, _ = _whole(values)
        others = tuple(bit for bit in self.cloud_bits if bit not in self.shadow_bits)
        shadowed = np.isin(whole, self.shadow) | (_any_bit(whole, self.shadow_bits) & ~_any_bit(whole, others))
        found = np.where(self.is_clear(values, nodata), CLEAR, np.where(shadowed, SHADOWED, CLOUDY))
        return np.where(self.observed(values, nodata), found, UNSEEN).astype(np.uint8)

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
        cloud_bits=tuple(map(BITS.__getitem__, BAD)), shadow_bits=(BITS["shadow"],),
        doubt_bits=(BITS["adjacent"], BITS["snow"]), aerosol_bit=6, fill=(FILL,), values=range(256),
    ),
    "scl": MaskProduct(
        "Sentinel-2 SCL", "Sentinel-2 Level-2A product specification, scene classification", r"\bscl\b",
        cloud=(3, 8, 9, 10), shadow=(3,), fill=(0, 1), values=range(12),
    ),
    "qa_pixel": MaskProduct(
        # A pixel that was looked at always has a confidence (bits 8 to 15): 0 is what warping left outside.
        "Landsat Collection 2 QA_PIXEL", "Landsat 8-9 Collection 2 Level 2 science product guide, LSDS-1619",
        r"\bqa pixel\b", cloud_bits=(1, 2, 3, 4), shadow_bits=(4,), fill_bits=(0,), fill=(0,),
    ),
    "pixel_qa": MaskProduct(
        "Landsat Collection 1 pixel_qa", "Landsat 8 Collection 1 surface reflectance product guide, LSDS-1368",
        r"\bpixel qa\b", cloud_bits=(3, 5), shadow_bits=(3,), fill_bits=(0,), fill=(0,),
    ),
    "cfmask": MaskProduct(
        "Fmask or CFmask by classes", "Zhu, Wang and Woodcock 2015; Landsat 4-7 surface reflectance product guide",
        r"^l[cote]\d.*\bc?fmask4?\b|\bcfmask\b|\bfmask4\b", cloud=(2, 4), shadow=(2,), fill=(255,), values=range(5),
    ),
    "dswx_cloud": MaskProduct(
        "OPERA DSWx-HLS CLOUD", "OPERA DSWx-HLS product specification, layer 9", r"\bdswx\b.*\bcloud$",
        cloud_bits=(0, 2), shadow_bits=(0,), fill=(255,), values=range(8),
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


@dataclass(frozen=True)
class ReadMask:
    """A mask that was looked through."""

    rank: da.Array
    """(y, x) uint8 on the series' grid; see `MaskProduct.rank`."""
    told: str
    some_clear: bool
    classes: da.Array | None = None
    """(y, x) uint8 likewise; see `MaskProduct.classes`. None where there is no mask."""
    title: str = ""
    """Of its product."""


def read_mask(path: Path, series: xr.DataArray, product: MaskProduct | None) -> ReadMask:
    """A mask laid over a series; all of it is read once, to tell what it leaves.

    Args:
        path: of the file.
        series: on its grid, or on one whose pixels divide the mask's.
        product: what it is; None goes by its name and values.

    Raises:
        SceneError: it cannot be read, has values that its product has not, or lies on another grid.

    """
    try:
        with rasterio.open(path) as raster:
            counts = _counts(raster)
            bands, nodata, grid = raster.count, raster.nodata, grid_of(raster)
            dtype = np.dtype(np.float64 if has_mask(raster.mask_flag_enums[0]) else raster.dtypes[0])
    except (RasterioError, OSError) as error:
        raise SceneError(f"the cloud mask {path} cannot be read ({error}).") from error
    if bands != 1:
        raise SceneError(f"the cloud mask {path} has {bands} bands, and which is the mask is not known: give one.")
    here = grid_of_array(series)
    repeat = repeats(grid, here)
    if repeat is None:
        raise SceneError(f"the cloud mask {path} and the series do not lie on one grid: {difference(grid, here)}.")
    values = np.array(list(counts))
    number = np.array(list(counts.values()))
    kind = product or MASK_PRODUCTS[product_of(path, values[values != nodata])]
    if values.dtype.kind == "f" and (np.rint(values) != values)[np.isfinite(values)].any():
        raise SceneError(f"the cloud mask {path} has fractions ({some(values)}), such as probabilities: set a limit.")
    if strange := kind.strange(values, nodata):
        raise SceneError(
            f"the cloud mask {path} is read as {kind.title}, which has no value {some(strange)}: say what it is with "
            f"--clouds-are (product=): {', '.join(MASK_PRODUCTS)}."
        )
    is_clear, observed, every = kind.is_clear(values, nodata), kind.observed(values, nodata), number.sum()
    is_cloudy = observed & ~is_clear
    clear, cloud, lost = (number[where].sum() / every for where in (is_clear, is_cloudy, ~observed))
    cloudy = values[is_cloudy]
    told = f"{path.name}, read as {kind.title}"
    if not kind.name and kind.clear and len(cloudy):
        told += f" (so that {some(cloudy)} {'is' if len(cloudy) == 1 else 'are'} cloud)"
    told += f": {clear:.1%} clear, {cloud:.1%} cloud or shadow" + (f", {lost:.1%} not seen" if lost else "")
    if nodata is not None and nodata in kind.clear:
        told += f"; its {nodata:g} is tagged as no data, and counts as clear"

    # By files that stay open and are counted: xarray's own would stay so until the garbage collector passes by.
    state = path.stat() if path.is_file() else None  # it may lie in an archive
    strips = da.core.normalize_chunks((_STRIP, -1), grid.shape, dtype=dtype)
    pixels = da.map_blocks(
        partial(_strip, str(path)), chunks=strips, meta=np.empty((0, 0), dtype),
        token=tokenize(str(path), state and (state.st_size, state.st_mtime_ns)),
    )  # fmt: skip

    def laid(reading: Reading) -> da.Array:
        found = da.map_blocks(partial(_by_table, reading=reading, nodata=nodata), pixels, dtype=np.uint8)
        for axis in (0, 1) if repeat > 1 else ():
            found = da.repeat(found, repeat, axis=axis)
        cut: da.Array = found[: series.sizes["y"], : series.sizes["x"]]
        return cut

    return ReadMask(laid(kind.rank), f"{told}.", bool(is_clear.any()), laid(kind.classes), kind.title)


def _strip(path: str, block_info: Any = None) -> Values:
    """The rows of a mask that belong to a chunk."""
    (first, last), (_, width) = block_info[None]["array-location"]
    window = Window(0, first, width, last - first)
    return of_file(path, lambda raster: masked_values(raster, window), DAMAGED)


def _by_table(values: Values, reading: Reading, nodata: float | None) -> npt.NDArray[np.uint8]:
    """A product's `rank` or `classes`, of small numbers by a table of all of them."""
    if values.dtype not in (np.uint8, np.uint16):
        return reading(values, nodata)
    table = reading(np.arange(256**values.dtype.itemsize), nodata)
    found: npt.NDArray[np.uint8] = table[values]
    return found


def _counts(raster: rasterio.DatasetReader) -> Counter[float]:
    """Pixels of each value of a raster's first band, strip by strip."""
    counts: Counter[float] = Counter()
    rows = max(raster.block_shapes[0][0], 256)
    for first in range(0, raster.height, rows):
        pixels = masked_values(raster, Window(0, first, raster.width, min(rows, raster.height - first)))
        if pixels.dtype in (np.uint8, np.uint16):
            every = np.bincount(pixels.ravel())
            values, number = np.flatnonzero(every), every[every > 0]
        else:
            values, number = np.unique(pixels, return_counts=True)
        counts.update(dict(zip(values.tolist(), number.tolist(), strict=True)))
    return counts


def some(values: Iterable[object]) -> str:
    """The first of the different values, for a message."""
    found = sorted(set(np.asarray(values).tolist()))
    return ", ".join(f"{value:g}" for value in found[:6]) + (" ..." if len(found) > 6 else "")
