"""QGIS styles of maps; QGIS applies a .qml sidecar with the map's stem by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from prithvi.errors import ConfigError
from prithvi.files import write_text
from prithvi.modelio.predictor import ClassEntry
from prithvi.products.provenance import Provenance

RAMP = ("00224E", "123570", "3B496C", "575D6D", "707173", "8A8678", "A59C74", "C3B369", "E1CC55", "FEE838")
"""cividis at even steps (Nuñez, Anderton and Renslow 2018, doi:10.1371/journal.pone.0199239): lightness increases
monotonically, and it reads the same with red-green colour blindness."""


def write_style(
    path: str | Path,
    *,
    classes: Sequence[ClassEntry] = (),
    limits: tuple[float, float] | None = None,
    unit: str = "",
    provenance: Provenance | None = None,
) -> Path:
    """Writes `<stem>.qml` beside a map: a palette of classes, or a colour ramp over the range of a quantity.

    Nodata pixels of the map are transparent; values beyond the limits take the colour at that end of the ramp.

    Args:
        path: the map.
        classes: classes of a class map, with names and colours.
        limits: lowest and highest value of the ramp for a quantity, in its unit (after the file's scale).
        unit: unit of the quantity, for the legend.
        provenance: recorded in the layer's custom properties.

    Raises:
        ConfigError: neither classes nor limits, both of them, or limits that do not increase.
        OutputError: the file cannot be written.

    """
    path = Path(path)
    if bool(classes) == (limits is not None):
        raise ConfigError(f"{path}: a style is of classes or of the limits of a quantity: give one of them.")
    # Elements, attributes and their order follow the files that QGIS 3.22 itself writes.
    root = Element("qgis", version="3.22.0", styleCategories="AllStyleCategories", hasScaleBasedVisibilityFlag="0")
    if provenance is not None:
        _properties(root, provenance)
    pipe = SubElement(root, "pipe")
    kind = "paletted" if limits is None else "singlebandpseudocolor"
    renderer = SubElement(
        pipe, "rasterrenderer", type=kind, band="1", opacity="1", alphaBand="-1", nodataColor=""
    )  # fmt: skip
    SubElement(renderer, "rasterTransparency")
    if limits is None:
        _palette(renderer, classes)
    else:
        _ramp(renderer, path, limits, unit)
    SubElement(pipe, "rasterresampler", maxOversampling="2")
    SubElement(root, "blendMode").text = "0"
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    return write_text(path.with_suffix(".qml"), f"{doctype}\n{text}\n")


def _properties(root: Element, provenance: Provenance) -> None:
    told = SubElement(SubElement(root, "customproperties"), "Option", type="Map")
    for key, value in provenance.tags().items():
        SubElement(told, "Option", type="QString", name=key, value=value)


def _palette(renderer: Element, classes: Sequence[ClassEntry]) -> None:
    palette = SubElement(renderer, "colorPalette")
    for entry in classes:
        SubElement(
            palette, "paletteEntry", value=str(entry.value), color=f"#{entry.color.lower()}", alpha="255",
            label=entry.name,
        )  # fmt: skip


def _ramp(renderer: Element, path: Path, limits: tuple[float, float], unit: str) -> None:
    low, high = map(float, limits)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{path}: the limits of its style are {low:g} and {high:g}; the second must be the higher.")
    renderer.set("classificationMin", repr(low))
    renderer.set("classificationMax", repr(high))
    shader = SubElement(
        SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED", classificationMode="2",
        minimumValue=repr(low), maximumValue=repr(high), clip="0", labelPrecision="4",
    )  # fmt: skip
    for step, color in enumerate(RAMP):
        value = low + (high - low) * step / (len(RAMP) - 1)
        SubElement(
            shader,
            "item",
            value=repr(value),
            color=f"#{color.lower()}",
            alpha="255",
            label=f"{value:.4g} {unit}".strip(),
        )
