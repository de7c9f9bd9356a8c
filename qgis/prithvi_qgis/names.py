"""Enumerations of Processing by the name that they have in this QGIS: in 3.36 they moved to the class Qgis."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    Qgis,
    QgsProcessing,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
)


def _named(place: Any, new: str, other: Any, old: str) -> Any:
    return getattr(place, new) if hasattr(place, new) else getattr(other, old)


_SOURCES = _named(Qgis, "ProcessingSourceType", QgsProcessing, "SourceType")
_FLAGS = _named(Qgis, "ProcessingParameterFlag", QgsProcessingParameterDefinition, "Flag")

RASTER = _named(_SOURCES, "Raster", _SOURCES, "TypeRaster")
POLYGONS = _named(_SOURCES, "VectorPolygon", _SOURCES, "TypeVectorPolygon")
POINTS = _named(_SOURCES, "VectorPoint", _SOURCES, "TypeVectorPoint")
ADVANCED = _named(_FLAGS, "Advanced", _FLAGS, "FlagAdvanced")
FOLDER = _named(Qgis, "ProcessingFileParameterBehavior", QgsProcessingParameterFile, "Behavior").Folder
INTEGER = _named(Qgis, "ProcessingNumberParameterType", QgsProcessingParameterNumber, "Type").Integer
