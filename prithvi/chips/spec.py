"""The form of a chip store: its description, its arrays, and the facts about each sample."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from prithvi.bands import PRITHVI_BANDS, check_names
from prithvi.contract import Category
from prithvi.coords import latitude_longitude
from prithvi.errors import DatasetError, ScaleError, counted, one_of

if TYPE_CHECKING:
    from rasterio.crs import CRS

FORMAT = "prithvi-chips/1"
NODATA = -9999
"""Value of an image's pixels without data."""
UNLABELLED = 255
"""Value of a label's pixels that say nothing."""
NO_FMASK = 255
"""Value of an Fmask's pixels outside the swath, and of those whose value was filled from a neighbour."""
CODECS = {"zstd": ("zstd", 1), "lz4": ("lz4", 5)}
"""Name to Blosc codec and level, both with bit-shuffle. zstd is smaller, lz4 faster: see benchmarks/results."""
COORDINATE_CHUNK = 16_384
"""Samples in a chunk of the arrays that hold one small value a sample."""


@dataclass(frozen=True)
class StoreSpec:
    """The form of every sample of a store."""

    height: int
    """Pixels."""
    width: int
    frames: int = 1
    """Dates in a sample."""
    bands: tuple[str, ...] = PRITHVI_BANDS
    """Common names."""
    gain: float = 1e-4
    """Reflectance = value x gain."""
    level: str = "SR"
    """`SR` or `TOA`."""
    fmask: bool = True
    """Whether there is a quality layer."""
    classes: tuple[Category, ...] = ()
    """In the order of the numbers 0, 1, 2, ... that the store's labels hold; `value` is what the label file had for it.
    None for a store without labels."""
    shard: int = 64
    """Samples in one file."""
    codec: str = "zstd"
    """Key of `CODECS`."""
    sharding: bool = True
    """Whether `shard` samples are in one file, which GDAL opens from 3.13 on. False keeps a file a sample and array,
    which GDAL 3.12 opens, too."""

    def __post_init__(self) -> None:
        check_names(self.bands)
        if min(self.height, self.width, self.frames, self.shard) < 1:
            form = f"{self.height} x {self.width} pixels, {self.frames} dates and {self.shard} samples a shard"
            raise DatasetError(f"a store of {form} was asked for: each is at least 1.")
        one_of(self.codec, CODECS, "there is no codec", DatasetError)
        if len(self.classes) > UNLABELLED:
            raise DatasetError(f"{len(self.classes)} classes were given; a label holds at most {UNLABELLED}.")
        values = [entry.value for entry in self.classes]
        if len(set(values)) < len(values):
            raise DatasetError(f"each class of a store has a value of its own; found {', '.join(map(str, values))}.")

    def arrays(self) -> dict[str, ArraySpec]:
        """Name to array, pixels first; a store's files are named alike."""
        frames, bands, pixels = self.frames, len(self.bands), (self.height, self.width)
        found = {"image": ArraySpec(("sample", "time", "band", "y", "x"), (frames, bands, *pixels), "int16", NODATA)}
        if self.fmask:
            found["fmask"] = ArraySpec(("sample", "time", "y", "x"), (frames, *pixels), "uint8", NO_FMASK)
        if self.classes:
            found["label"] = ArraySpec(("sample", "y", "x"), pixels, "uint8", UNLABELLED)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        plain = {**asdict(self), "bands": list(self.bands), "classes": [entry.to_dict() for entry in self.classes]}
        if self.sharding:  # what stores and plans of builds without this word are
            del plain["sharding"]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> StoreSpec:
        """The inverse of `to_dict`."""
        classes = tuple(Category(**entry) for entry in plain["classes"])
        return cls(**{**plain, "bands": tuple(plain["bands"]), "classes": classes})


@dataclass(frozen=True)
class ArraySpec:
    """One array that has a chunk a sample."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    """Of one sample."""
    dtype: str
    fill: int


@dataclass(frozen=True)
class Sample:
    """Where and when a chip is, and what was done to it."""

    name: str
    crs: str
    """`EPSG:...` where there is a code, else WKT; empty for an image without a CRS."""
    affine: tuple[float, ...]
    """Six coefficients a, b, c, d, e, f from column and row to x and y."""
    lat: float
    """Of the centre; NaN for an image without a CRS."""
    lon: float
    times: tuple[dt.datetime | None, ...]
    granules: tuple[str, ...]
    """Source of each date."""
    tile: str = ""
    split: str = ""
    good: tuple[float, ...] = ()
    """Share of good pixels of each date; 1 where nothing says otherwise."""
    filled: tuple[int, ...] = ()
    """Pixels of each date that took a value from their nearest neighbour in at least one band."""
    labelled: float = 0.0
    """Share of pixels with a label."""
    seed: int = 0

    @classmethod
    def at(cls, affine: Affine, crs: str, size: tuple[int, int], **facts: Any) -> Sample:
        """A sample by where it lies, with latitude and longitude of its centre.

        Args:
            affine: from column and row to x and y.
            crs: see `crs`.
            size: height and width in pixels.
            facts: all other fields.

        """
        lat, lon = latitude_longitude(affine, crs, [size[0] / 2], [size[1] / 2])[0].tolist()
        return cls(crs=crs, affine=tuple(affine)[:6], lat=lat, lon=lon, **facts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "times": [time.isoformat() if time else None for time in self.times]}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Sample:
        """The inverse of `to_dict`."""
        times = tuple(dt.datetime.fromisoformat(time) if time else None for time in plain["times"])
        lists = {key: tuple(plain[key]) for key in ("affine", "granules", "good", "filled")}
        return cls(**{**plain, **lists, "times": times})


@dataclass(frozen=True)
class Chip:
    """One sample with its pixels."""

    image: npt.NDArray[np.int16]
    """(time, band, y, x), `NODATA` where there is none."""
    sample: Sample
    fmask: npt.NDArray[np.uint8] | None = None
    """(time, y, x)."""
    label: npt.NDArray[np.uint8] | None = None
    """(y, x) class numbers, `UNLABELLED` where there is none."""

    def check(self, spec: StoreSpec) -> None:
        """Raises DatasetError for a chip that does not have the store's form."""
        for name, array in spec.arrays().items():
            pixels = getattr(self, name)
            if pixels is None:
                raise DatasetError(f"chip {self.sample.name} has no {name}, and the store holds one for each sample.")
            if pixels.shape != array.shape or pixels.dtype != array.dtype:
                raise DatasetError(
                    f"chip {self.sample.name}: its {name} is {pixels.dtype} {pixels.shape}; the store holds "
                    f"{array.dtype} {array.shape} ({', '.join(array.dims[1:])})."
                )
        if self.label is not None:
            strange = np.setdiff1d(self.label, [*range(len(spec.classes)), UNLABELLED])
            if strange.size:
                raise DatasetError(
                    f"chip {self.sample.name} has the label {strange[0]} of {len(spec.classes)} classes."
                )
        if not len(self.sample.times) == len(self.sample.granules) == spec.frames:
            raise DatasetError(
                f"chip {self.sample.name} has {counted(len(self.sample.times), 'date')}; the store {spec.frames}."
            )


@dataclass
class PixelSums:
    """Exact sums over pixels, so that their order does not matter: of each band's values, and of each class."""

    bands: list[list[int]] = field(default_factory=list)
    """[pixels with data, sum of values, sum of squares] of each band."""
    classes: list[int] = field(default_factory=list)
    """Pixels of each class."""

    def add_sample(self, pixels: Mapping[str, npt.NDArray[Any]], spec: StoreSpec) -> None:
        """Counts one sample, without nodata and without what was filled from neighbours.

        Args:
            pixels: its arrays by name; `image` (time, band, y, x), `fmask` (time, y, x), `label` (y, x).
            spec: the store's form.

        """
        # Sums of whole numbers, one band at a time: exact in int64 for any chip that fits into memory (values below
        # 2^15, so squares below 2^30), and in Python's integers, which have no end, over all chips.
        known = pixels["image"] != NODATA
        if spec.fmask:
            known &= (pixels["fmask"] != NO_FMASK)[:, None]
        rows = []
        for band in range(len(spec.bands)):
            values = pixels["image"][:, band][known[:, band]].astype(np.int64)
            rows.append([values.size, int(values.sum()), int((values * values).sum())])
        many = len(spec.classes)
        counts = np.bincount(pixels["label"].ravel(), minlength=256)[:many].tolist() if many else []
        self.merge(PixelSums(rows, counts))

    def merge(self, other: PixelSums) -> None:
        """Adds the sums of other pixels."""
        if other.bands:
            mine = self.bands or [[0, 0, 0] for _ in other.bands]
            self.bands = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(mine, other.bands, strict=True)]
        if other.classes:
            ours = self.classes or [0] * len(other.classes)
            self.classes = [a + b for a, b in zip(ours, other.classes, strict=True)]


def to_int16(
    values: npt.NDArray[Any], gain: float, nodata: Sequence[float], stored_gain: float = 1e-4, bias: float = 0.0
) -> npt.NDArray[np.int16]:
    """Values of any type as whole numbers of `stored_gain`, `NODATA` where there is none; NaN never becomes a number.

    Args:
        values: of any shape.
        gain: reflectance = value x gain + bias.
        nodata: values without data beside NaN.
        stored_gain: reflectance = result x stored_gain.
        bias: see gain.

    Raises:
        ScaleError: a value does not fit into 16 bits.

    """
    known = np.isfinite(values)
    for value in nodata:
        known &= values != value
    factor, added = gain / stored_gain, bias / stored_gain
    # Whole arrays are compared and cast, with 0 where nothing is known: picking out what is known costs a copy each
    # time, and took more of a build than decoding the files.
    scaled = np.where(known, values, 0)
    if (factor, added) != (1, 0):
        scaled = np.where(known, np.rint(scaled * factor + added), 0)
    # Checked before the cast, which would wrap around without a word.
    limits = np.iinfo(np.int16)
    if scaled.size and (scaled.min() <= limits.min or scaled.max() > limits.max):
        inside = scaled[known]
        found = f"values from {inside.min():g} to {inside.max():g} (reflectance x {1 / stored_gain:g})"
        raise ScaleError(f"{found} do not fit into 16 bits: the scale that was stated is not the data's.")
    result: npt.NDArray[np.int16] = np.rint(scaled).astype(np.int16)
    result[result == NODATA] = NODATA + 1  # a value is never lost for looking like none
    result[~known] = NODATA
    return result


def crs_name(crs: CRS | None) -> str:
    """A CRS as samples name it: its EPSG code where there is one, else well-known text; empty for None."""
    if crs is None:
        return ""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def statistics_of(tallies: Mapping[str, PixelSums], of: str | None = None) -> dict[str, Any]:
    """Mean and population standard deviation of each band in stored units, and the pixels of each class.

    Both are None for a band without any pixel.

    Args:
        tallies: the sums of each part.
        of: a part; None takes the training part where there is one, else everything.

    """
    part = of or ("train" if "train" in tallies else "all")
    whole = PixelSums()
    for name, tally in tallies.items():
        if part in (name, "all"):
            whole.merge(tally)
    pixels = [count for count, _, _ in whole.bands]
    # The sums are whole numbers of any size, so that nothing is lost in the difference of two large ones.
    mean = [total / count if count else None for count, total, _ in whole.bands]
    std = [max(0, n * squares - total**2) ** 0.5 / n if n else None for n, total, squares in whole.bands]
    return {"of": part, "mean": mean, "std": std, "pixels": pixels, "classes": whole.classes}
