"""Styles of results, put on when QGIS has opened them.

QGIS takes the .qml beside a file where the user opens it, and not where Processing does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsContrastEnhancement,
    QgsFillSymbol,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterLayer,
    QgsRendererCategory,
)
from qgis.PyQt.QtGui import QColor

_STRETCH = QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
_FILLED = "#d95f02"


class Style(QgsProcessingLayerPostProcessorInterface):
    """A style of a kind of result."""

    ending = ""
    """Of the layer's name, after that of the file without its suffix."""

    def postProcessLayer(self, layer: Any, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> None:
        """Called in the main thread with the opened layer."""
        self.put_on(layer)
        layer.triggerRepaint()

    def put_on(self, layer: Any) -> None:
        """Changes the layer's renderer."""


class StyleBeside(Style):
    """The .qml beside the file."""

    def put_on(self, layer: Any) -> None:
        """Also the names of the classes, which are in it."""
        style = Path(layer.source()).with_suffix(".qml")
        if style.is_file():
            layer.loadNamedStyle(str(style))


class ClassPolygons(Style):
    """Outlines in the colours of the map that they were made of, which they do not hide."""

    ending = " polygons"

    def __init__(self, map_file: str) -> None:
        super().__init__()
        self.map_file = map_file

    def put_on(self, layer: Any) -> None:
        """A category for each class."""
        pixels = QgsRasterLayer(self.map_file, "map")
        StyleBeside().put_on(pixels)
        if isinstance(pixels.renderer(), QgsPalettedRasterRenderer):
            categories = [
                QgsRendererCategory(
                    each.label,
                    QgsFillSymbol.createSimple(
                        {"color": each.color.name(), "style": "no", "outline_color": each.color.name()}
                    ),
                    each.label,
                )
                for each in pixels.renderer().classes()
            ]
            layer.setRenderer(QgsCategorizedSymbolRenderer("name", categories))


class NaturalColours(Style):
    """Reflectance x 10,000 in red, green and blue, from 0 to a brightest value; by the names of the bands."""

    def __init__(self, brightest: float = 3000.0) -> None:
        super().__init__()
        self.brightest = brightest

    def put_on(self, layer: Any) -> None:
        """Three bands; of a file without names, QGIS's own choice stays."""
        provider = layer.dataProvider()
        names = {number: provider.generateBandName(number) for number in range(1, provider.bandCount() + 1)}
        numbers = {name.rpartition(": ")[2]: number for number, name in names.items()}  # of "Band 3: red"
        bands = [numbers.get(colour, 0) for colour in ("red", "green", "blue")]
        if all(bands):
            # QGIS shows values after the file's own scale.
            three_bands(layer, bands, [(0.0, self.brightest * provider.bandScale(band)) for band in bands])


class ThreeFeatures(Style):
    """The first three features of an embedding as red, green and blue, each over its own range."""

    def put_on(self, layer: Any) -> None:
        """Of fewer, QGIS's own choice stays."""
        provider = layer.dataProvider()
        if provider.bandCount() >= 3:
            ranges = [provider.cumulativeCut(number, 0.02, 0.98) for number in (1, 2, 3)]
            three_bands(layer, [1, 2, 3], ranges)


class FilledPixels(Style):
    """Of what was filled: colour where it was, nothing where it was observed."""

    def put_on(self, layer: Any) -> None:
        """Two classes."""
        classes = [
            QgsPalettedRasterRenderer.Class(0, QColor(0, 0, 0, 0), "observed"),
            QgsPalettedRasterRenderer.Class(1, QColor(_FILLED), "filled"),
        ]
        layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, classes))


def three_bands(layer: Any, bands: list[int], ranges: list[tuple[float, float]]) -> None:
    """Shows three bands as red, green and blue, each from its lowest to its highest value."""
    provider = layer.dataProvider()
    renderer = QgsMultiBandColorRenderer(provider, *bands)
    setters = (
        renderer.setRedContrastEnhancement,
        renderer.setGreenContrastEnhancement,
        renderer.setBlueContrastEnhancement,
    )
    for band, (low, high), put in zip(bands, ranges, setters):
        stretch = QgsContrastEnhancement(provider.dataType(band))
        stretch.setContrastEnhancementAlgorithm(_STRETCH)
        stretch.setMinimumValue(low)
        stretch.setMaximumValue(high)
        put(stretch)
    layer.setRenderer(renderer)


_styles: dict[str, Style] = {}


def kept(path: str, style: Style) -> Style:
    """Keeps a style until the next result of this path: QGIS calls it after the run, when nobody else holds it."""
    _styles[path] = style
    return style
