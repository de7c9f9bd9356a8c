"""`prithvi:fill`: a series of dates with clouds to one without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterString,
)

from .base import PrithviAlgorithm
from .layers import FilledPixels, NaturalColours
from .names import RASTER

METHODS = ["auto", "nearest", "linear", "regression", "filling", "local_regression"]
KINDS = ["by their names", "fmask", "scl", "qa_pixel", "pixel_qa", "cfmask", "dswx_cloud", "cloud", "clear"]


class FillAlgorithm(PrithviAlgorithm):
    """Holes and clouds of every date, filled from the other dates."""

    verb = "fill"
    title = "Fill the clouds of a series"
    help = (
        "Fills the holes and clouds of every date from the other dates: DATE.tif (observed pixels as they were), "
        "DATE_filled.tif (what was filled) and DATE_uncertainty.tif (its standard error). Masks lie beside the files, "
        "or are given, one for each date in the same order."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Its parameters and outputs."""
        self.add_scene("Dates", "A raster for each date")
        self.add(
            QgsProcessingParameterMultipleLayers("CLOUDS", "Cloud masks", RASTER, optional=True),
            "One for each date, in the same order",
        )
        self.add(
            QgsProcessingParameterEnum(
                "CLOUDS_ARE", "What the masks are", KINDS, defaultValue=KINDS[0], usesStaticStrings=True
            ),
            "cloud: your own, 0 is clear; clear: your own, 1 is clear",
        )
        self.add(
            QgsProcessingParameterEnum("METHOD", "Method", METHODS, defaultValue="auto", usesStaticStrings=True),
            "In place of a model; auto is local_regression",
        )
        self.add_model(optional=True)
        self.add(
            QgsProcessingParameterString("ONLY", "Fill and write these dates alone", optional=True),
            "2022-06-01,2022-06-17",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("ON", "Write these days", optional=True),
            "Those on which nothing was observed are filled whole",
            advanced=True,
        )
        self.add(QgsProcessingParameterBoolean("UNCERTAINTY", "Write the standard error", defaultValue=True))
        self.add(
            QgsProcessingParameterBoolean("RESUME", "Go on with an interrupted run", defaultValue=False), advanced=True
        )
        self.add_common()
        self.add_folder("Folder of the filled dates")
        self.addOutput(QgsProcessingOutputMultipleLayers("DATES_FILLED", "The filled dates"))
        self.addOutput(QgsProcessingOutputMultipleLayers("LAYERS", "Everything written that is a layer"))

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Runs `prithvi fill` and shows what it wrote."""
        model = self.parameterAsString(parameters, "MODEL", context)
        method = self.parameterAsEnumString(parameters, "METHOD", context)
        if model and method != METHODS[0]:
            raise QgsProcessingException(f"MODEL and METHOD {method} are two ways of filling: give one of them.")
        kind = self.parameterAsEnumString(parameters, "CLOUDS_ARE", context)
        options = {
            "output": self.parameterAsFileOutput(parameters, "OUTPUT", context), "json": True,
            "method": "" if model else method,
            **self.opening(parameters, context),
            "clouds": self.rasters(parameters, "CLOUDS", context),
            "clouds-are": "" if kind == KINDS[0] else kind,
            "only": self.parameterAsString(parameters, "ONLY", context),
            "on": self.parameterAsString(parameters, "ON", context),
            "no-uncertainty": not self.parameterAsBool(parameters, "UNCERTAINTY", context),
            "resume": self.parameterAsBool(parameters, "RESUME", context),
        }  # fmt: skip
        arguments = [*([model] if model else []), *self.sources(parameters, context)]
        printed = self.prithvi(arguments, options, parameters, context, feedback)
        if printed is None:
            return {}
        told = json.loads(printed)
        layers = []
        for date in map(Path, told["files"]):
            beside = {"_uncertainty": NaturalColours(brightest=500.0), "": NaturalColours(), "_filled": FilledPixels()}
            for end, style in beside.items():
                file = date.with_name(f"{date.stem}{end}{date.suffix}")
                if file.is_file() and not (end == "_uncertainty" and options["no-uncertainty"]):
                    layers.append(str(file))
                    self.show(str(file), style, "LAYERS", parameters, context)
        return {"OUTPUT": options["output"], "DATES_FILLED": told["files"], "LAYERS": layers}
