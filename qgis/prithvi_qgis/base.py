"""What the algorithms share: their common parameters, the run of the program, and which layers are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterString,
    QgsProcessingUtils,
    QgsProviderRegistry,
    QgsRasterLayer,
)
from qgis.PyQt.QtGui import QIcon

from . import commands, running
from .environment import VARIABLE, NoPrithviError, check, child_environment, program_of
from .layers import Style, kept
from .names import ADVANCED, FOLDER, RASTER

SETTING = "PRITHVI_ENVIRONMENT"
"""Its name in the settings of Processing."""

_OPTIONS = {
    "--sensor": "SENSOR", "--date": "DATES", "--bands": "BANDS", "--clouds": "CLOUDS", "--clouds-are": "CLOUDS_ARE",
    "--method": "METHOD", "--together": "TOGETHER", "--bbox": "EXTENT", "--aoi": "AREA", "--zones": "ZONES",
    "--column": "COLUMN", "--match": "MATCH", "--reference": "REFERENCE", "--device": "DEVICE", "--engine": "ENGINE",
    "--resume": "RESUME", "--confidence": "CONFIDENCE", "--layer": "LAYER", "--output": "OUTPUT", "--only": "ONLY",
}  # fmt: skip
"""Options that prithvi's sentences name, and the parameters that stand for them."""

_RASTERS = {"INPUT", "CLOUDS"}


def values_of(given: Any) -> list[Any]:
    """The values of a parameter that takes several: a list, one, or none."""
    return list(given) if isinstance(given, (list, tuple)) else [] if given in (None, "") else [given]


class PrithviAlgorithm(QgsProcessingAlgorithm):
    """One verb of the command line. A subclass states its names, adds parameters, and makes words of their values."""

    verb = ""
    title = ""
    help = ""

    def name(self) -> str:
        """What stands after the colon of its name."""
        return self.verb

    def displayName(self) -> str:
        """What the toolbox shows."""
        return self.title

    def shortHelpString(self) -> str:
        """What stands beside the parameters."""
        return self.help

    def icon(self) -> QIcon:
        """The provider's."""
        return QIcon(str(Path(__file__).with_name("icon.svg")))

    def createInstance(self) -> PrithviAlgorithm:
        """A fresh one for each run."""
        return type(self)()

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[bool, str]:
        """As QGIS does, but for files among the rasters.

        QGIS would open them for it, compute their statistics and leave these beside them.
        """
        told = dict(parameters)
        for name in _RASTERS & told.keys():
            given = values_of(told[name])
            files = [each for each in given if isinstance(each, str) and Path(each).exists()]
            told[name] = [each for each in given if each not in files] or None
            lost = [each for each in values_of(told[name]) if isinstance(each, str) and not self._layer(each, context)]
            if lost:
                return False, f"{name}: there is neither a file nor a raster layer {', '.join(lost)}."
        return tuple(super().checkParameterValues(told, context))

    def validateInputCrs(self, parameters: dict[str, Any], context: QgsProcessingContext) -> bool:
        """Scenes, areas and extents may be in any reference systems: prithvi brings them together."""
        return True

    @staticmethod
    def _layer(text: str, context: QgsProcessingContext) -> Any:
        return QgsProcessingUtils.mapLayerFromString(text, context, False)

    # Parameters that several algorithms have

    def add(self, parameter: QgsProcessingParameterDefinition, help: str = "", advanced: bool = False) -> None:
        """Adds a parameter with what the pointer shows over it."""
        if help:
            parameter.setHelp(help)
        if advanced:
            parameter.setFlags(parameter.flags() | ADVANCED)
        self.addParameter(parameter)

    def add_model(self, optional: bool = False) -> None:
        """MODEL: a folder, or a name that is typed."""
        told = (
            "A folder that prithvi fit wrote, a name of 'prithvi models list' such as water, or OWNER/NAME on the hub"
        )
        self.add(QgsProcessingParameterFile("MODEL", "Model", behavior=FOLDER, optional=optional), told)

    def add_scene(self, title: str, what: str) -> None:
        """INPUT, SOURCES and how a scene is opened: SENSOR, DATES, BANDS."""
        self.add(QgsProcessingParameterMultipleLayers("INPUT", title, RASTER, optional=True), what)
        self.add(
            QgsProcessingParameterString("SOURCES", "Folders, STAC items or addresses", optional=True, multiLine=True),
            "What QGIS does not open as a layer: a granule's folder, a STAC item, https://..., one a line",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("SENSOR", "Sensor", optional=True),
            "Where the files do not say what their bands are: hls-l30, hls-s30, sentinel-2-l1c, sentinel-2-l2a, ...",
        )
        self.add(
            QgsProcessingParameterString("DATES", "Dates", optional=True),
            "Where the files' names do not say them: 2022-05-31, one for each file or time step",
        )
        self.add(
            QgsProcessingParameterString("BANDS", "Bands", optional=True),
            "Numbers of the model's bands in the file, from 1; or the names of all its bands",
            advanced=True,
        )

    def add_common(self) -> None:
        """EXTRA and ENVIRONMENT."""
        self.add(
            QgsProcessingParameterString("EXTRA", "Further options", optional=True),
            f"As they are typed after prithvi {self.verb}",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFile("ENVIRONMENT", "Environment", behavior=FOLDER, optional=True),
            f"The folder that prithvi is installed in, in place of the setting and of the variable {VARIABLE}",
            advanced=True,
        )

    def add_folder(self, title: str) -> None:
        """LOAD and OUTPUT of a verb that writes several files."""
        self.add(QgsProcessingParameterBoolean("LOAD", "Open the results as layers", defaultValue=True))
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", title))

    # Their values

    def sources(self, parameters: Mapping[str, Any], context: QgsProcessingContext) -> list[str]:
        """What prithvi opens: the layers of INPUT, then the lines of SOURCES.

        Raises:
            QgsProcessingException: neither is given, or a layer is no file.

        """
        lines = self.parameterAsString(parameters, "SOURCES", context).splitlines()
        found = self.rasters(parameters, "INPUT", context) + [line.strip() for line in lines if line.strip()]
        if not found:
            raise QgsProcessingException("No scene was given: choose layers in INPUT, or name folders in SOURCES.")
        return found

    def rasters(self, parameters: Mapping[str, Any], name: str, context: QgsProcessingContext) -> list[str]:
        """The files of the layers of a parameter.

        Raises:
            QgsProcessingException: a layer is no file.

        """
        found = []
        for each in values_of(parameters.get(name)):
            # A file goes on as it is, without being opened here.
            if isinstance(each, str) and Path(each).exists():
                found.append(each)
                continue
            layer = self._layer(each, context) if isinstance(each, str) else each
            if not isinstance(layer, QgsRasterLayer):
                raise QgsProcessingException(f"{name}: there is neither a file nor a raster layer {each}.")
            found.append(self.file_of(layer))
        return found

    def file_of(self, layer: QgsRasterLayer) -> str:
        """The file of a raster layer.

        Raises:
            QgsProcessingException: it is no file.

        """
        kind = layer.dataProvider().name()
        decoded = QgsProviderRegistry.instance().decodeUri(kind, layer.source())
        source = commands.source_of(kind, layer.source(), decoded)
        if source is None:
            raise QgsProcessingException(
                f"The layer {layer.name()} comes from {kind}, not from a file: export it as a GeoTIFF (Save As) first."
            )
        return source

    def vector(
        self, parameters: Mapping[str, Any], name: str, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> str:
        """A file of a vector layer as it is shown, with its filter and selection; "" without one."""
        if not parameters.get(name):
            return ""
        path: str = self.parameterAsCompatibleSourceLayerPath(
            parameters, name, context, ["gpkg", "geojson", "shp", "fgb"], "gpkg", feedback
        )
        return path

    def opening(self, parameters: Mapping[str, Any], context: QgsProcessingContext) -> dict[str, commands.Value]:
        """Options of `add_scene`."""
        return {
            "sensor": self.parameterAsString(parameters, "SENSOR", context).strip(),
            "date": commands.listed(self.parameterAsString(parameters, "DATES", context)),
            "bands": self.parameterAsString(parameters, "BANDS", context).strip(),
        }

    # The run

    def prithvi(
        self,
        arguments: Sequence[str],
        options: Mapping[str, commands.Value],
        parameters: Mapping[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
        words: Sequence[str] = (),
    ) -> str | None:
        """Runs this verb and gives what it printed; None where the user stopped it.

        Raises:
            QgsProcessingException: there is no prithvi to run, or its own sentence.

        """
        extra = self.parameterAsString(parameters, "EXTRA", context)
        given = self.parameterAsString(parameters, "ENVIRONMENT", context)
        environment = given or os.environ.get(VARIABLE) or ProcessingConfig.getSetting(SETTING) or ""
        try:
            program = program_of(environment)
            variables = child_environment(os.environ, program)
            check(program, variables)
            command = list(words) or commands.words_of(self.verb, arguments, options, extra)
        except NoPrithviError as problem:
            raise QgsProcessingException(str(problem)) from None
        except ValueError as error:
            raise QgsProcessingException(f"EXTRA cannot be read ({error}): {extra}") from None
        feedback.pushCommandInfo(commands.shown(["prithvi", *command]))
        try:
            return running.run(
                [str(program), *command], variables, progress=feedback.setProgress, say=feedback.pushInfo,
                detail=feedback.pushDebugInfo, stopped=feedback.isCanceled,
            )  # fmt: skip
        except running.StoppedError:
            feedback.pushInfo("Stopped: nothing half done stands in the results.")
            return None
        except running.RunError as failed:
            titles = {option: self.parameterDefinition(name) for option, name in _OPTIONS.items()}
            there = {option: f"'{found.description()}'" for option, found in titles.items() if found is not None}
            raise QgsProcessingException(commands.in_words_of_qgis(str(failed), there)) from None

    def show(
        self, path: str, style: Style, output: str, parameters: Mapping[str, Any], context: QgsProcessingContext
    ) -> None:
        """Has QGIS open a result as a layer when the run is over, if the user wants that."""
        if self.parameterAsBool(parameters, "LOAD", context) and context.project() is not None:
            details = QgsProcessingContext.LayerDetails(Path(path).stem + style.ending, context.project(), output)
            details.setPostProcessor(kept(path, style))
            context.addLayerToLoadOnCompletion(path, details)
