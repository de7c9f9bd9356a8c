"""A GDAL VRT over a plain file of rows: names, colours, nodata and tags that GDAL's drivers carry over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from prithvi.mapping.cog import Grid, Raster

_TYPES = {"uint8": "Byte", "int16": "Int16", "uint16": "UInt16", "float32": "Float32"}


def write_vrt(path: Path, raw: Path, grid: Grid, raster: Raster) -> Path:
    """Writes the VRT of a raw file whose rows hold one band after the other, little-endian.

    Args:
        path: of the VRT.
        raw: in the same folder.
        grid: its size and place.
        raster: what its bands hold.

    """
    root = ElementTree.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    if grid.crs is not None:
        _add(root, "SRS", grid.crs.to_wkt())
    a, b, c, d, e, f = grid.transform[:6]
    _add(root, "GeoTransform", ", ".join(repr(float(value)) for value in (c, a, b, f, d, e)))
    tags = {**raster.tags, **{f"CLASS_{entry.value}": entry.name for entry in raster.classes}}
    tags |= {f"LABEL_VALUE_{entry.value}": str(entry.label) for entry in raster.classes if entry.label is not None}
    metadata = ElementTree.SubElement(root, "Metadata")
    for key, text in tags.items():
        _add(metadata, "MDI", text, key=key)
    size = np.dtype(raster.dtype).itemsize
    line = grid.width * size
    for number, name in enumerate(raster.bands):
        band = ElementTree.SubElement(
            root, "VRTRasterBand", dataType=_TYPES[raster.dtype], band=str(number + 1), subClass="VRTRawRasterBand"
        )
        _add(band, "Description", name)
        if raster.unit:
            _add(band, "UnitType", raster.unit)
        if raster.scale is not None:
            _add(band, "Scale", repr(raster.scale))
        _add(band, "NoDataValue", str(raster.nodata))
        if raster.classes:
            _add_classes(band, raster)
        _add(band, "SourceFilename", raw.name, relativeToVRT="1")
        _add(band, "ImageOffset", str(number * line))
        _add(band, "PixelOffset", str(size))
        _add(band, "LineOffset", str(len(raster.bands) * line))
        _add(band, "ByteOrder", "LSB")
    ElementTree.ElementTree(root).write(path, encoding="utf-8")
    return path


def rgb(color: str) -> tuple[int, int, int]:
    """`2B6CB0` as (43, 108, 176)."""
    return int(color[0:2], 16), int(color[2:4], 16), int(color[4:6], 16)


def _add_classes(band: ElementTree.Element, raster: Raster) -> None:
    _add(band, "ColorInterp", "Palette")
    named = {entry.value: entry for entry in raster.classes}
    categories = ElementTree.SubElement(band, "CategoryNames")
    for value in range(max(named) + 1):
        _add(categories, "Category", named[value].name if value in named else "")
    table = ElementTree.SubElement(band, "ColorTable")
    for value in range(256):
        red, green, blue = rgb(named[value].color) if value in named else (0, 0, 0)
        alpha = 0 if value == raster.nodata else 255
        ElementTree.SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=str(alpha))


def _add(parent: ElementTree.Element, name: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, name, attributes).text = text
