"""The provider: its algorithms, and the one setting that it has."""

from __future__ import annotations

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .area import AreaAlgorithm
from .base import SETTING
from .embed import EmbedAlgorithm
from .fill import FillAlgorithm
from .map import MapAlgorithm
from .model import ModelAlgorithm


class PrithviProvider(QgsProcessingProvider):
    """`prithvi` in the toolbox."""

    def load(self) -> bool:
        """Adds the setting under Settings, Options, Processing, Providers."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        title = "Environment: the folder that prithvi is installed in"
        ProcessingConfig.addSetting(Setting(self.name(), SETTING, title, "", valuetype=Setting.FOLDER))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Takes the setting out, and keeps its value."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:
        """Adds the algorithms."""
        for algorithm in (MapAlgorithm, FillAlgorithm, EmbedAlgorithm, AreaAlgorithm, ModelAlgorithm):
            self.addAlgorithm(algorithm())

    def id(self) -> str:
        """What stands before the colon of an algorithm's name."""
        return "prithvi"

    def name(self) -> str:
        """What the toolbox shows."""
        return "prithvi"

    def icon(self) -> QIcon:
        """What stands before it."""
        return QIcon(str(Path(__file__).with_name("icon.svg")))
