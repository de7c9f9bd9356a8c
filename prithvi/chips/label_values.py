"""The values of a label raster: which are classes, their names, and which mean no data.

A value without a nodata tag that often stands for no data (255, a negative one, the largest that the file can hold) is
asked about, not guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.io import MemoryFile

from prithvi.catalog.datasets import check_classes, folded
from prithvi.catalog.label_products import product_of
from prithvi.chips.spec import UNLABELLED
from prithvi.contract import Category
from prithvi.errors import DatasetError

PALETTE = ("0072B2", "E69F00", "009E73", "CC79A7", "56B4E9", "D55E00", "F0E442", "999999", "332288", "88CCEE", "44AA99",
           "117733", "DDCC77", "CC6677", "AA4499", "882255")  # fmt: skip
"""Colours that most kinds of colour vision can tell apart (Okabe and Ito; Tol)."""
_SCAN = 2048
"""Pixels along a side of the windows in which a raster's classes are looked for."""
_NOTHING = frozenset({"no data", "nodata", "no-data", "no_data", "fill", "unlabelled", "unlabeled", "ignore"})
"""Names of values that say nothing."""


def classes_in(
    raster: rasterio.DatasetReader,
    ignore: Sequence[str] = (),
    keep: Sequence[str] = (),
    product: str | None = None,
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
    silent, wanted = _numbers(ignore, "--ignore"), _numbers(keep, "--keep")
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
            raise DatasetError(
                f"{file} holds {strange[0]} in {counts[strange[0]]:,} pixels, which {found.title} does not have "
                f"({', '.join(f'{value} {name}' for value, name in found.classes.items())}): say --label-product, "
                f"--ignore {strange[0]} or --keep {strange[0]}."
            )
        silent |= set(found.ignored) - wanted
        names = {**names, **found.ignored, **found.classes}
        summary = f"{file.name} is read as {found.title}: "
    else:
        _ask(file, counts, names, silent | wanted, np.dtype(raster.dtypes[0]))
    gone = [value for value in sorted(counts) if value in silent]
    values = sorted(set(counts) - silent)
    if not values:
        raise DatasetError(f"{file} holds nodata{' and ignored values' if gone else ''} only: there is no class in it.")
    if len(values) > UNLABELLED:
        raise DatasetError(f"{file} has more than {UNLABELLED} values: that is no raster of classes.")
    colors = _colors(raster, values)
    classes = tuple(
        Category(value, names.get(value, str(value)).strip() or str(value), colors.get(value, PALETTE[number % 16]))
        for number, value in enumerate(values)
    )
    check_classes(classes, (), str(file))
    summary += "classes are " + ", ".join(_said(entry.value, entry.name) for entry in classes)
    if gone:
        summary += "; no class are " + ", ".join(
            f"{_said(value, names.get(value, str(value)))} in {counts[value]:,} pixels" for value in gone
        )
    return classes, f"{summary}."


def _said(value: int, name: str) -> str:
    return f"{value} ({name})" if name != str(value) else str(value)


def _numbers(words: Sequence[str], option: str) -> set[int]:
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
            if stored.dtype.kind == "f" and (broken := stored[stored != np.round(stored)]).size:
                raise DatasetError(
                    f"{raster.name} holds {broken[0]:g}, which is a measurement: labels are one band of whole numbers."
                )
            values, numbers = np.unique(stored, return_counts=True)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
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
    fields = [(entry.findtext("Name", "").lower(), entry.findtext("Usage")) for entry in
              band.iterfind("GDALRasterAttributeTable/FieldDefn")]  # fmt: skip
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
