"""`prithvi:area`: areas of a map's classes by reference points."""

from __future__ import annotations

import json
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterLayer,
)

from .base import PrithviAlgorithm
from .names import POINTS

MATCHES = ["as fits", "name", "number", "label"]


class AreaAlgorithm(PrithviAlgorithm):
    """The area of each class, and how sure it is."""

    verb = "area"
    title = "Areas of a map's classes"
    help = (
        "Estimates the area of each class from a map that prithvi made and reference points with the true class, with "
        "its 95 % interval (Olofsson et al. 2014). The points have to be a random sample in each class of the map."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Its parameters and outputs."""
        self.add(QgsProcessingParameterRasterLayer("MAP", "Map"), "That prithvi:map wrote")
        self.add(QgsProcessingParameterFeatureSource("REFERENCE", "Reference points", [POINTS]))
        self.add(
            QgsProcessingParameterField("COLUMN", "Field with the true class", "class", "REFERENCE"),
            "The class by name or number",
        )
        self.add(
            QgsProcessingParameterEnum(
                "MATCH", "What the field holds", MATCHES, defaultValue=MATCHES[0], usesStaticStrings=True
            )
        )
        self.add_common()
        self.add(QgsProcessingParameterFileDestination("OUTPUT", "Table", "CSV files (*.csv)"))
        self.addOutput(QgsProcessingOutputNumber("OVERALL_ACCURACY", "Overall accuracy"))

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Runs `prithvi area` and tells the areas."""
        output = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        match = self.parameterAsEnumString(parameters, "MATCH", context)
        options = {
            "reference": self.vector(parameters, "REFERENCE", context, feedback),
            "column": self.parameterAsString(parameters, "COLUMN", context),
            "match": "" if match == MATCHES[0] else match, "output": output, "json": True,
        }  # fmt: skip
        printed = self.prithvi(self.rasters(parameters, "MAP", context), options, parameters, context, feedback)
        if printed is None:
            return {}
        told = json.loads(printed)
        for row in told["classes"]:
            feedback.pushInfo(", ".join(f"{key} {value}" for key, value in row.items()))
        feedback.pushInfo(told["note"])
        return {"OUTPUT": output, "OVERALL_ACCURACY": told["overall_accuracy"]}
