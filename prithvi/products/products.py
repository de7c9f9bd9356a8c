"""The products that go with a map: confidence, disagreement, probabilities, polygons, zones, a STAC item, a QGIS style.

QGIS applies a .qml sidecar with the map's stem by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import rasterio
import xarray as xr

from prithvi.errors import ConfigError, nearest
from prithvi.files import write_text
from prithvi.products.provenance import Provenance
from prithvi.scenes import transform_of
from prithvi.scenes.info import name_of

if TYPE_CHECKING:  # it imports torch, and options are checked before that
    from prithvi.contract import Quantity
    from prithvi.modelio.model_files import Requirements
    from prithvi.modelio.predictor import ClassEntry, Predictor

RAMP = ("00224E", "123570", "3B496C", "575D6D", "707173", "8A8678", "A59C74", "C3B369", "E1CC55", "FEE838")
"""cividis at even steps (Nuñez, Anderton and Renslow 2018, doi:10.1371/journal.pone.0199239): lightness increases
monotonically, and it reads the same with red-green colour blindness."""

BESIDE = (".tif.aux.xml", "_confidence.tif", "_disagreement.tif", "_probabilities.tif", ".parquet", ".gpkg",
          "_zones.csv", "_zones.parquet", ".qml", ".json")  # fmt: skip
"""How the names of all products of STEM.tif end."""


class Answers(Protocol):
    """What a map holds, such as a model's classes or its quantity."""

    @property
    def classes(self) -> tuple[ClassEntry, ...]:
        """Empty for a quantity."""

    @property
    def quantity(self) -> Quantity | None:
        """None for classes."""


@dataclass(frozen=True)
class Products:
    """The products to write beside a map."""

    confidence: bool = False
    """Write STEM_confidence.tif: probability of the predicted class, after temperature scaling."""
    probabilities: str | None = None
    """`uint8` or `float32`: write STEM_probabilities.tif of this data type, one band per class."""
    polygons: str | None = None
    """`parquet` or `gpkg`: write STEM.parquet or STEM.gpkg, polygons of the classes."""
    minimum_area: float = 0.0
    """Smallest polygon in square metres."""
    simplify: float = 0.0
    """Simplification tolerance of polygons in metres."""
    zones: Path | None = None
    """Vector file of zones: write STEM_zones.csv and STEM_zones.parquet, the area of each class in each zone."""
    item: bool = False
    """Write STEM.json, a STAC item."""
    style: bool = False
    """Write STEM.qml, a QGIS style."""
    disagreement: bool = False
    """Write STEM_disagreement.tif: how far the overlapping windows over a pixel differ, each of which sees it with
    other surroundings; a sign that needs no label. Of classes the root of half the sum of the variances of their
    probabilities (0: all windows say the same; with two classes the standard deviation of either's probability); of a
    quantity its standard deviation. No data where fewer than two windows see a pixel, as in the corners of a scene."""

    @property
    def needs_confidence(self) -> bool:
        """Whether confidences must be computed, as a product or to be averaged over polygons and zones."""
        return self.confidence or self.polygons is not None or self.zones is not None

    def check(self, model: Predictor | Requirements, scene: xr.DataArray | None = None) -> None:
        """Checks that these products can be made of a model and a scene, before a long run rather than after it.

        Args:
            model: the model, or what its files state.
            scene: None checks what holds for any scene.

        Raises:
            ConfigError: an unknown format, or class products requested of a regression model.
            DatasetError: the zones cannot be read, or are no polygons.
            SceneError: zones requested of a rotated scene.

        """
        for value, options in ((self.probabilities, ("uint8", "float32")), (self.polygons, ("parquet", "gpkg"))):
            if value is not None and value not in options:
                raise ConfigError(f"there is no form {value!r}: {nearest(value, options)}")
        if not model.classes:
            for name in ("confidence", "probabilities", "polygons", "zones"):
                if getattr(self, name):
                    raise ConfigError(f"{model.name} predicts a quantity, and {name} are of classes: leave them out.")
        if self.zones is not None:
            from prithvi.products.zones import read_zones, refuse_rotated

            read_zones(self.zones)
            if scene is not None:
                refuse_rotated(transform_of(scene), name_of(scene))

    def files(self, path: Path, model: Answers, dated: bool) -> tuple[Path, ...]:
        """Paths of the products of a map, its .aux.xml sidecar included.

        Args:
            path: path of the map.
            model: what the map holds.
            dated: whether the scene has a date, which a STAC item needs.

        """
        ends = {
            f"{path.suffix}.aux.xml": bool(model.classes),
            "_confidence.tif": self.confidence, "_disagreement.tif": self.disagreement,
            "_probabilities.tif": self.probabilities is not None,
            f".{self.polygons}": self.polygons is not None, "_zones.csv": self.zones is not None,
            "_zones.parquet": self.zones is not None, ".qml": self.style, ".json": self.item and dated,
        }  # fmt: skip
        return tuple(path.with_name(path.stem + end) for end, wanted in ends.items() if wanted)


def left_beside(path: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """A note on what is named like a product of this map and is none, such as the polygons of an earlier map."""
    # A store has none, and the writer itself sees to the .aux.xml.
    return left_over([path.with_name(path.stem + end) for end in BESIDE[1:] if not path.is_dir()], files, "this map")


def left_over(named: Iterable[Path], written: Sequence[Path], what: str) -> tuple[str, ...]:
    """A note on files that have the names of what a run may write, and were not written by it."""
    others = [file.name for file in named if file not in written and file.is_file()]
    if not others:
        return ()
    are, them = ("is", "it") if len(others) == 1 else ("are", "them")
    return (f"{', '.join(others)} {are} not of {what}: remove {them} if an earlier run left {them}.",)


def write_products(
    made: Sequence[Path], folder: Path, wanted: Products, model: Answers, scene: xr.DataArray, origin: Provenance
) -> tuple[str, ...]:
    """Writes the requested products beside a map, and deletes the confidence raster unless it was requested.

    Args:
        made: the rasters so far, the map first.
        folder: final folder of the products.
        wanted: the products to write.
        model: what the map holds.
        scene: the scene that was mapped.
        origin: provenance to record in each file.

    Returns:
        Notes on products that could not be made, with the reason.

    """
    # Everything is made in the work folder beside the rasters. Polygons and zones average the confidence raster, so it
    # exists for them even if it is not a requested product, and is deleted after they are done.
    path, notes = made[0], []
    by_name = {file.stem.removeprefix(path.stem).lstrip("_"): file for file in made}
    confidence = by_name.get("confidence")
    assets = {name: file for name, file in by_name.items() if name}
    if wanted.polygons is not None:
        from prithvi.products.class_polygons import vectorise

        assets["polygons"] = path.with_suffix(f".{wanted.polygons}")
        vectorise(
            path, assets["polygons"], confidence=confidence, minimum_area=wanted.minimum_area,
            simplify=wanted.simplify, provenance=origin,
        )  # fmt: skip
    if wanted.zones is not None:
        from prithvi.products.zones import area_by_zone, write_zones

        found = area_by_zone(path, wanted.zones, confidence=confidence)
        write_zones(found, path.with_suffix(""), origin)
        assets["zones"] = path.with_name(f"{path.stem}_zones.parquet")
    if confidence is not None and not wanted.confidence:
        confidence.unlink()
        del assets["confidence"]
    if wanted.style:
        unit = model.quantity.unit if model.quantity is not None else ""
        limits = None if model.classes else _range(path)
        assets["style"] = write_style(path, classes=model.classes, limits=limits, unit=unit, provenance=origin)
    if wanted.item:
        from prithvi.products.map_item import times_of, write_item

        dates = times_of(scene)
        if dates:
            write_item(path, provenance=origin, dates=dates, assets=assets, folder=folder)
        else:
            notes.append("no STAC item was written, since the scene has no date: say --date.")
    return tuple(notes)


def _range(path: Path) -> tuple[float, float]:
    """Colour limits of a quantity: its 2nd and 98th percentiles, or a small range above a constant value."""
    with rasterio.open(path) as raster:
        # A decimated read of at most 1024 pixels a side is enough for percentiles, and bounds time and memory.
        shape = [max(1, size * 1024 // max(1024, *raster.shape)) for size in raster.shape]
        values = raster.read(1, out_shape=tuple(shape), masked=True)
    known = values.compressed()
    known = known[np.isfinite(known)].astype(float)
    if len(known) == 0:
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    if low == high:
        low, high = known.min(), known.max()
    return float(low), float(high) if high > low else float(low) + max(1.0, 1e-3 * abs(float(low)))


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
        told = SubElement(SubElement(root, "customproperties"), "Option", type="Map")
        for key, text in provenance.tags().items():
            SubElement(told, "Option", type="QString", name=key, value=text)
    pipe = SubElement(root, "pipe")
    kind = "paletted" if limits is None else "singlebandpseudocolor"
    renderer = SubElement(pipe, "rasterrenderer", type=kind, band="1", opacity="1", alphaBand="-1", nodataColor="")
    SubElement(renderer, "rasterTransparency")
    if limits is None:
        palette = SubElement(renderer, "colorPalette")
        for entry in classes:
            color = f"#{entry.color.lower()}"
            SubElement(palette, "paletteEntry", value=str(entry.value), color=color, alpha="255", label=entry.name)
    else:
        _ramp(renderer, path, limits, unit)
    SubElement(pipe, "rasterresampler", maxOversampling="2")
    SubElement(root, "blendMode").text = "0"
    ElementTree.indent(root)
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    text = ElementTree.tostring(root, encoding="unicode")
    return write_text(path.with_suffix(".qml"), f"{doctype}\n{text}\n")


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
        label = f"{value:.4g} {unit}".strip()
        SubElement(shader, "item", value=repr(value), color=f"#{color.lower()}", alpha="255", label=label)
