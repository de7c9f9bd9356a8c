"""The values of a label raster: which are classes, their names, and which mean no data.

A value without a nodata tag that often stands for no data (255, a negative one, the largest that the file can hold) is
asked about, not guessed. Published class rasters have known values: OPERA DSWx-HLS (Dynamic Surface Water Extent from
HLS) by its product specification 1.0 (JPL, 2023), and by the provisional version 0.1 (2022), whose WTR had more classes
and 9 for what is masked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.io import MemoryFile

from prithvi.catalog.datasets import check_classes, folded
from prithvi.chips.spec import UNLABELLED
from prithvi.contract import Category
from prithvi.errors import DatasetError, one_of

PALETTE = ("0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "F0E442", "999999", "332288", "88CCEE", "44AA99",
           "117733", "DDCC77", "CC6677", "AA4499", "882255")  # fmt: skip
"""Colours that most kinds of colour vision can tell apart (Okabe and Ito; Tol)."""
_SCAN = 2048
"""Pixels along a side of the windows in which a raster's classes are looked for."""
_NOTHING = frozenset({"no data", "nodata", "no-data", "no_data", "fill", "unlabelled", "unlabeled", "ignore"})
"""Names of values that say nothing."""


@dataclass(frozen=True)
class LabelProduct:
    """One layer of a product."""

    title: str
    classes: dict[int, str]
    """Value to name."""
    ignored: dict[int, str]
    """Values that are no class, and what they say."""


_MASKED = {252: "snow or ice", 253: "cloud or cloud shadow", 254: "ocean", 255: "fill"}
_GRADES = {
    0: "not water", 1: "water, high confidence", 2: "water, moderate confidence", 3: "potential wetland",
    4: "water or wetland, low confidence",
}  # fmt: skip
_OLD = {9: "cloud, shadow or snow", 255: "fill"}
LABEL_PRODUCTS = {
    "dswx-hls": LabelProduct(
        "DSWx-HLS WTR", {0: "not water", 1: "open water", 2: "partial surface water"}, _MASKED
    ),
    "dswx-hls-bwtr": LabelProduct("DSWx-HLS BWTR", {0: "not water", 1: "water"}, _MASKED),
    "dswx-hls-wtr-1": LabelProduct("DSWx-HLS WTR-1", _GRADES, {254: "ocean", 255: "fill"}),
    "dswx-hls-wtr-2": LabelProduct("DSWx-HLS WTR-2", _GRADES, {254: "ocean", 255: "fill"}),
    "dswx-hls-0.1": LabelProduct("DSWx-HLS 0.1 WTR", _GRADES, _OLD),
    "dswx-hls-0.1-bwtr": LabelProduct(
        "DSWx-HLS 0.1 BWTR", {0: "not water", 1: "water"}, {2: "cloud, shadow or snow", 255: "fill"}
    ),
}  # fmt: skip
"""Name, as `--label-product` takes it, to layer."""
_LAYER = re.compile(r"dswx[-_]hls.*?_(?:B\d\d_)?(WTR-[12]|[A-Z]+)$", re.IGNORECASE)


def classes_in(
    raster: rasterio.DatasetReader, ignore: Sequence[str] = (), keep: Sequence[str] = (), product: str | None = None
) -> tuple[tuple[Category, ...], str]:
    """The classes of an open raster by ascending value, and a sentence about them and what was left out.

    Names are those of the product, of the file's own tags (`CLASS_<value>`, as our maps have them), of its category
    names or attribute table, or else the values; colours those of its colour table.

    Args:
        raster: one band of whole numbers, which floats may hold, too.
        ignore: values that are no class.
        keep: values that are classes though they look like no data.
        product: key of `LABEL_PRODUCTS`; None looks at the file's name and tags.

    Raises:
        DatasetError: no class, too many, a value that may be no data, or one that the product does not have.

    """
    # Three sources say what a value is, in this order: the caller (ignore, keep), a published product, the file's own
    # tags and names. Whatever remains open and looks like no data is asked about.
    file = Path(raster.name)
    silent, wanted = _whole_numbers(ignore, "--ignore"), _whole_numbers(keep, "--keep")
    both = sorted(silent & wanted)
    if both:
        raise DatasetError(f"--ignore and --keep both say {both[0]}: say one.")
    found = product_of(file, raster.tags(), product)
    counts = _counted(raster)
    names = _names(raster)
    summary = ""
    if found is not None:
        strange = sorted(set(counts) - set(found.classes) - set(found.ignored) - silent - wanted)
        if strange:
            own = ", ".join(f"{value} {name}" for value, name in found.classes.items())
            raise DatasetError(
                f"{file} holds {strange[0]} in {counts[strange[0]]:,} pixels, which {found.title} does not have "
                f"({own}): say --label-product, --ignore {strange[0]} or --keep {strange[0]}."
            )
        silent |= set(found.ignored) - wanted
        names = {**names, **found.ignored, **found.classes}
        summary = f"{file.name} is read as {found.title}: "
    else:
        _ask(file, counts, names, silent | wanted, np.dtype(raster.dtypes[0]))
    names = {value: name.strip() or str(value) for value, name in names.items()}
    gone = [value for value in sorted(counts) if value in silent]
    values = sorted(set(counts) - silent)
    if not values:
        raise DatasetError(f"{file} holds nodata{' and ignored values' if gone else ''} only: there is no class in it.")
    if len(values) > UNLABELLED:
        raise DatasetError(f"{file} has more than {UNLABELLED} values: that is no raster of classes.")
    colors = _colors(raster, values)
    classes = tuple(
        Category(value, names.get(value, str(value)), colors.get(value, PALETTE[number % 16]))
        for number, value in enumerate(values)
    )
    check_classes(classes, (), str(file))
    said = {value: f"{value} ({name})" for value, name in names.items() if name != str(value)}
    summary += "classes are " + ", ".join(said.get(value, str(value)) for value in values)
    if gone:
        silence = (f"{said.get(value, str(value))} in {counts[value]:,} pixels" for value in gone)
        summary += f"; no class are {', '.join(silence)}"
    return classes, f"{summary}."


def _whole_numbers(words: Sequence[str], option: str) -> set[int]:
    try:
        return {int(word) for word in words}
    except ValueError as error:
        raise DatasetError(f"{option} takes whole numbers for a raster, such as 254,255; found {words!r}.") from error


def _counted(raster: rasterio.DatasetReader) -> Counter[int]:
    """Pixels of each value that is not nodata."""
    # In windows, since a national land cover map does not fit into memory; ends early where a raster of measurements
    # shows more values than classes can have.
    counts: Counter[int] = Counter()
    for row in range(0, raster.height, _SCAN):
        for column in range(0, raster.width, _SCAN):
            window = ((row, min(row + _SCAN, raster.height)), (column, min(column + _SCAN, raster.width)))
            stored = raster.read(1, window=window)
            stored = stored[(raster.read_masks(1, window=window) > 0) & np.isfinite(stored)]
            values, numbers = np.unique(stored, return_counts=True)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
                if value != int(value):
                    message = "which is a measurement: labels are one band of whole numbers."
                    raise DatasetError(f"{raster.name} holds {value:g}, {message}")
                counts[int(value)] += number
            if len(counts) > 2 * UNLABELLED:  # ignored ones among them
                raise DatasetError(f"{raster.name} has more than {UNLABELLED} values: that is no raster of classes.")
    return counts


def _ask(file: Path, counts: Mapping[int, int], names: Mapping[int, str], said: set[int], dtype: Any) -> None:
    """Raises DatasetError for a value that may mean no data, unless the caller has said what it is."""
    largest = int(np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else None
    for value, number in counts.items():
        name = names.get(value)
        nothing = folded(name) in _NOTHING if name else value < 0 or value in (UNLABELLED, largest)
        if nothing and value not in said:
            called = f" and calls it {name!r}" if name else ""
            raise DatasetError(
                f"{file} holds {value} in {number:,} pixels{called}, and no tag says that it is nodata: say "
                f"--ignore={value} if it is no data, --keep={value} if it is a class."
            )


def _names(raster: rasterio.DatasetReader) -> dict[int, str]:
    """Names of values as the file has them: tags CLASS_<value>, category names, or its attribute table."""
    tags = {key.removeprefix("CLASS_"): text for key, text in raster.tags().items() if key.startswith("CLASS_")}
    found = {int(value): text for value, text in tags.items() if value.isdecimal()}
    if found:
        return found
    band = _as_vrt(raster)
    categories = [entry.text or "" for entry in band.iterfind("CategoryNames/Category")]
    return {value: text for value, text in enumerate(categories) if text.strip()} or _table(band)


def _as_vrt(raster: rasterio.DatasetReader) -> ElementTree.Element:
    """The band as GDAL's VRT driver describes it: rasterio itself reads neither category names nor attribute tables."""
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(raster, memory.name, driver="VRT")
        band = ElementTree.fromstring(memory.read()).find("VRTRasterBand")
    return band if band is not None else ElementTree.Element("VRTRasterBand")


def _table(band: ElementTree.Element) -> dict[int, str]:
    """Value to name by a raster attribute table (GDAL's usages: 2 names, 5 single values)."""
    defined = band.iterfind("GDALRasterAttributeTable/FieldDefn")
    fields = [(entry.findtext("Name", "").lower(), entry.findtext("Usage")) for entry in defined]
    value = next((place for place, (name, usage) in enumerate(fields) if usage == "5" or name == "value"), None)
    called = ("class_name", "classname", "class_names", "name", "label")
    title = next((place for place, (name, usage) in enumerate(fields) if usage == "2" or name in called), None)
    if value is None or title is None:
        return {}
    found: dict[int, str] = {}
    for row in band.iterfind("GDALRasterAttributeTable/Row"):
        cells = [cell.text or "" for cell in row.iterfind("F")]
        with suppress(ValueError, IndexError):
            if cells[title].strip():
                found[int(float(cells[value]))] = cells[title]
    return found


def _colors(raster: rasterio.DatasetReader, values: Sequence[int]) -> dict[int, str]:
    """RRGGBB of the values by the file's colour table, if it tells them all apart."""
    table: dict[int, tuple[int, ...]] = {}
    with suppress(ValueError):  # no colour table
        table = raster.colormap(1)
    found = {value: bytes(table[value][:3]).hex().upper() for value in values if value in table}
    return found if len(set(found.values())) == len(values) else {}


def product_of(path: Path, tags: Mapping[str, str], stated: str | None = None) -> LabelProduct | None:
    """The layer that a file is by its name (OPERA_L3_DSWx-HLS_..._B01_WTR.tif) or its tags; None for other files.

    Args:
        path: the file.
        tags: those of the file; a version below 1 is of the provisional product.
        stated: key of `LABEL_PRODUCTS`, if the caller knows it.

    Raises:
        DatasetError: no product of that name, a file whose name says another layer or one that holds no classes, or
            tags of DSWx-HLS and a name that does not say the layer.

    """
    if stated is not None:
        one_of(stated, LABEL_PRODUCTS, "there is no label product", DatasetError)
    match = _LAYER.search(path.stem)
    if match is None:
        kind = tags.get("PRODUCT_TYPE", "")
        if stated is None and (kind == "DSWx-HLS" or (kind == "DSWx" and tags.get("PRODUCT_SOURCE") == "HLS")):
            raise DatasetError(
                f"{path} is a layer of DSWx-HLS by its tags, and its name does not say which: say --label-product "
                "dswx-hls where it is WTR (B01), dswx-hls-bwtr where it is BWTR (B02)."
            )
        return LABEL_PRODUCTS[stated] if stated is not None else None
    name = f"dswx-hls-{match[1].lower()}".removesuffix("-wtr")
    if name not in LABEL_PRODUCTS:
        message = "which holds no classes of land or water: give the layer WTR (..._B01_WTR.tif)."
        raise DatasetError(f"{path} is the layer {match[1]} of DSWx-HLS, {message}")
    if stated is not None and stated.replace("-0.1", "") != name:
        raise DatasetError(f"{path} is {name} by its name, and --label-product says {stated}: leave it out.")
    early = name.replace("dswx-hls", "dswx-hls-0.1")
    provisional = tags.get("PRODUCT_VERSION", "").startswith("0.") and early in LABEL_PRODUCTS
    return LABEL_PRODUCTS[stated or (early if provisional else name)]
