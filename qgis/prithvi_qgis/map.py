"""`prithvi:map`: scenes to maps."""

from __future__ import annotations

import json
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingOutputRasterLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from .base import PrithviAlgorithm
from .layers import ClassPolygons, Style, StyleBeside
from .names import INTEGER, POLYGONS

FORMS = ["gpkg", "parquet", "none"]
ENGINES = ["torch", "openvino", "auto"]


class MapAlgorithm(PrithviAlgorithm):
    """A class or a quantity at every pixel of scenes."""

    verb = "map"
    title = "Map scenes with a model"
    help = (
        "Makes of each raster a Cloud-Optimized GeoTIFF named after it, with the style of the model's classes, "
        "polygons, a STAC item and, if wanted, confidence and areas by zone. The scene's bands, scale and date are "
        "read from the file; what it does not say is asked for."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Its parameters and outputs."""
        self.add_model()
        self.add_scene("Scenes", "Each a scene of its own, unless TOGETHER is on")
        self.add(
            QgsProcessingParameterBoolean("TOGETHER", "All inputs are one scene", defaultValue=False),
            "Its single-band files, or its dates",
        )
        self.add(QgsProcessingParameterExtent("EXTENT", "Extent to map", optional=True))
        self.add(
            QgsProcessingParameterFeatureSource("AREA", "Polygons to map", [POLYGONS], optional=True),
            "What lies in them, in place of an extent",
        )
        self.add(
            QgsProcessingParameterFeatureSource("ZONES", "Zones", [POLYGONS], optional=True),
            "The area of each class in each of them, as a table",
        )
        self.add(
            QgsProcessingParameterBoolean("CONFIDENCE", "Write the chosen class's probability", defaultValue=False)
        )
        self.add(
            QgsProcessingParameterEnum(
                "POLYGONS", "Polygons of the classes", FORMS, defaultValue="gpkg", usesStaticStrings=True
            ),
            "parquet needs a QGIS whose GDAL has the Parquet driver",
        )
        self.add(
            QgsProcessingParameterNumber("BATCH_SIZE", "Windows predicted at once", INTEGER, optional=True, minValue=1),
            "By default 8 of 224 pixels, up to 32 of smaller ones; fewer need less memory",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum("ENGINE", "Engine", ENGINES, defaultValue="torch", usesStaticStrings=True),
            "openvino is quicker on a CPU, where the environment has it",
            advanced=True,
        )
        self.add(QgsProcessingParameterString("DEVICE", "Device", optional=True), "cpu, cuda, cuda:1", advanced=True)
        self.add(
            QgsProcessingParameterBoolean("RESUME", "Go on with an interrupted run", defaultValue=False), advanced=True
        )
        self.add_common()
        self.add_folder("Folder of the maps")
        self.addOutput(QgsProcessingOutputRasterLayer("MAP", "The first map"))
        self.addOutput(QgsProcessingOutputMultipleLayers("MAPS", "All maps"))
        self.addOutput(QgsProcessingOutputMultipleLayers("LAYERS", "Everything written that is a layer"))

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Runs `prithvi map` and shows what it wrote."""
        arguments = [self.parameterAsString(parameters, "MODEL", context), *self.sources(parameters, context)]
        options = {
            "output": self.parameterAsFileOutput(parameters, "OUTPUT", context), "json": True,
            "together": self.parameterAsBool(parameters, "TOGETHER", context),
            **self.opening(parameters, context),
            "aoi": self.vector(parameters, "AREA", context, feedback),
            "zones": self.vector(parameters, "ZONES", context, feedback),
            "confidence": self.parameterAsBool(parameters, "CONFIDENCE", context),
            "polygons": self.parameterAsEnumString(parameters, "POLYGONS", context),
            "batch-size": self.parameterAsInt(parameters, "BATCH_SIZE", context) or None,
            "engine": self.parameterAsEnumString(parameters, "ENGINE", context),
            "device": self.parameterAsString(parameters, "DEVICE", context),
            "resume": self.parameterAsBool(parameters, "RESUME", context),
        }  # fmt: skip
        if parameters.get("EXTENT"):
            degrees = QgsCoordinateReferenceSystem("EPSG:4326")
            box = self.parameterAsExtent(parameters, "EXTENT", context, degrees)
            arguments += ["--bbox", *map(repr, (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()))]
        printed = self.prithvi(arguments, options, parameters, context, feedback)
        if printed is None:
            return {}
        maps, layers = [], []
        for made in json.loads(printed):
            for note in made["notes"]:
                feedback.pushInfo(f"Note: {note}")
            maps.append(made["map"])
            for file in made["files"]:
                style = _style_of(file, made["map"])
                if style is not None:
                    layers.append(file)
                    self.show(file, style, "LAYERS", parameters, context)
        return {"OUTPUT": options["output"], "MAP": maps[0], "MAPS": maps, "LAYERS": layers}


def _style_of(file: str, map_file: str) -> Style | None:
    """How a file is shown; None of one that is no layer."""
    if file == map_file:
        return StyleBeside()
    if file.endswith(("_zones.parquet", "_zones.csv")):
        return None  # a table of areas, which the zones' own layer is joined with
    if file.endswith((".gpkg", ".parquet")):
        return ClassPolygons(map_file)
    return Style() if file.endswith(".tif") else None
