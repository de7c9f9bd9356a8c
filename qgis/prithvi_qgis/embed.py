"""`prithvi:embed`: what an encoder sees in a scene."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
)

from .base import PrithviAlgorithm
from .layers import ThreeFeatures, kept
from .names import INTEGER

EACH = ["patch", "window", "pixel"]


class EmbedAlgorithm(PrithviAlgorithm):
    """A vector for every patch of a scene."""

    verb = "embed"
    title = "Embed a scene"
    help = (
        "Writes the vectors that an encoder gives for every patch of a scene, as a GeoTIFF with a band for each "
        "feature. The first three are shown as red, green and blue."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Its parameters and outputs."""
        self.add_model()
        self.add_scene("Scene", "A raster, its single-band files, or its dates")
        self.add(QgsProcessingParameterEnum("EACH", "A vector a", EACH, defaultValue="patch", usesStaticStrings=True))
        self.add(
            QgsProcessingParameterNumber("LAYER", "Block of the encoder", INTEGER, -1),
            "From 0, or from -1 (the last) backwards",
            advanced=True,
        )
        self.add(QgsProcessingParameterString("DEVICE", "Device", optional=True), "cpu, cuda, cuda:1", advanced=True)
        self.add_common()
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", "Embedding"))

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Runs `prithvi embed`."""
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        each = self.parameterAsEnumString(parameters, "EACH", context)
        options = {
            "output": output, **self.opening(parameters, context),
            "pooled": each == "window", "pixels": each == "pixel",
            "layer": self.parameterAsInt(parameters, "LAYER", context),
            "device": self.parameterAsString(parameters, "DEVICE", context),
        }  # fmt: skip
        arguments = [self.parameterAsString(parameters, "MODEL", context), *self.sources(parameters, context)]
        if self.prithvi(arguments, options, parameters, context, feedback) is None:
            return {}
        if context.willLoadLayerOnCompletion(output):
            context.layerToLoadOnCompletionDetails(output).setPostProcessor(kept(output, ThreeFeatures()))
        return {"OUTPUT": output}
