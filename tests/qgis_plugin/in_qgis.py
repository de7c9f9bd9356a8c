"""Runs an algorithm of the plugin in QGIS itself, as its window does, and prints what happened as one JSON object.

    /usr/bin/python3 tests/qgis_plugin/in_qgis.py REQUEST.json

The request has `algorithm`, `parameters`, and if wanted `cancel_at` (per cent at which it is cancelled), `layers`
(rasters and vectors to put into the project first, whose names may stand in the parameters) and `picture` (a PNG to
draw the layers `drawn` on). It is run by QGIS's own Python, and imports nothing of the project but the plugin.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

sys.path.insert(0, str(Path(__file__).parents[2] / "qgis"))
APPLICATION = QgsApplication([], False)
APPLICATION.initQgis()
sys.path.append(str(Path(APPLICATION.pkgDataPath()) / "python" / "plugins"))


class Feedback(QgsProcessingFeedback):
    """What a run tells; it cancels itself at a share."""

    def __init__(self, cancel_at: float | None) -> None:
        super().__init__(False)
        self.told: list[str] = []
        self.shares: list[float] = []
        self.progressChanged.connect(lambda share: self.note(share, cancel_at))

    def note(self, share: float, cancel_at: float | None) -> None:
        self.shares.append(share)
        if cancel_at is not None and share >= cancel_at:
            self.cancel()

    def pushInfo(self, info: str) -> None:  # noqa: N802
        self.told.append(info)

    def reportError(self, error: str, fatalError: bool = False) -> None:  # noqa: N802, N803
        self.told.append(f"error: {error}")


def look_of(layer: QgsRasterLayer | QgsVectorLayer) -> dict[str, object]:
    """A layer's name, source, renderer, and names and colours of its legend."""
    renderer = layer.renderer()
    if isinstance(layer, QgsRasterLayer):
        legend = {label: colour.name(QColor.NameFormat.HexArgb) for label, colour in renderer.legendSymbologyItems()}
    else:
        legend = {item.label(): item.symbol().color().name() for item in renderer.legendSymbolItems()}
    bands = renderer.usesBands() if isinstance(layer, QgsRasterLayer) else []
    return {
        "name": layer.name(), "source": layer.source(), "renderer": renderer.type(), "legend": legend, "bands": bands,
    }  # fmt: skip


def draw(path: str, names: list[str]) -> None:
    """The layers of these names, the first on top."""
    layers = [layer for name in names for layer in QgsProject.instance().mapLayersByName(name)]
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[0].crs())
    settings.setExtent(layers[0].extent())
    settings.setOutputSize(QSize(480, 480))
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)


def main() -> None:
    import processing
    from prithvi_qgis.plugin import PrithviPlugin
    from processing.core.Processing import Processing

    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Processing.initialize()
    plugin = PrithviPlugin()
    plugin.initProcessing()
    project = QgsProject.instance()
    for name, source in request.get("layers", {}).items():
        kind = QgsRasterLayer if source.endswith((".tif", ".vrt")) else QgsVectorLayer
        layer = kind(source, name)
        assert layer.isValid(), source
        project.addMapLayer(layer)
    context = QgsProcessingContext()
    context.setProject(project)
    feedback = Feedback(request.get("cancel_at"))
    before = set(project.mapLayers())
    answer: dict[str, object] = {}
    try:
        answer["results"] = processing.runAndLoadResults(
            request["algorithm"], request["parameters"], feedback=feedback, context=context
        )
    except Exception as error:  # noqa: BLE001 - told to whoever asked
        answer["error"] = str(error)
    made = [layer for identity, layer in project.mapLayers().items() if identity not in before]
    answer |= {"layers": [look_of(layer) for layer in made], "told": feedback.told, "shares": feedback.shares}
    if "picture" in request:
        draw(request["picture"], request["drawn"])
    sys.stdout.write("\n" + json.dumps(answer, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
