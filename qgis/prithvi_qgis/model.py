"""`prithvi:model`: what a model folder is, and what it expects of a scene."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingOutputString,
    QgsProcessingParameterFileDestination,
)

from .base import PrithviAlgorithm


class ModelAlgorithm(PrithviAlgorithm):
    """Opens a model folder, and tells what stands in it."""

    verb = "model"
    title = "Open a model"
    help = (
        "Tells what a model is for, the bands in their order that it expects, its classes and its origin, as a page. "
        "Its output MODEL goes into the other algorithms, as in a graphical model."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Its parameters and outputs."""
        self.add_model()
        self.add_common()
        self.add(QgsProcessingParameterFileDestination("PAGE", "Page", "HTML files (*.html)", optional=True))
        for name, title in (("MODEL", "Model"), ("TASK", "Task"), ("BANDS", "Bands"), ("CLASSES", "Classes")):
            self.addOutput(QgsProcessingOutputString(name, title))
        self.addOutput(QgsProcessingOutputHtml("PAGE", "Page"))

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Runs `prithvi models show`."""
        model = self.parameterAsString(parameters, "MODEL", context)
        page = self.parameterAsFileOutput(parameters, "PAGE", context)
        words = ["models", "show", model, "--json"]
        printed = self.prithvi([], {}, parameters, context, feedback, words)
        if printed is None:
            return {}
        facts = {
            key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            for key, value in json.loads(printed).items()
            if value not in (None, "", [])
        }
        for key in ("summary", "architecture", "task", "bands", "classes", "window", "num_frames"):
            if key in facts:
                feedback.pushInfo(f"{key}: {facts[key]}")
        results = {"MODEL": model, **{key: facts.get(key.lower(), "") for key in ("TASK", "BANDS", "CLASSES")}}
        if page:
            rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
            text = f"<!DOCTYPE html><meta charset='utf-8'><h1>{html.escape(Path(model).name)}</h1><table>{rows}</table>"
            Path(page).write_text(text, encoding="utf-8")
            results["PAGE"] = page
        return results
