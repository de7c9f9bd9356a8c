"""The plugin: it brings its provider to Processing, and takes it away again."""

from __future__ import annotations

from qgis.core import QgsApplication

from .provider import PrithviProvider


class PrithviPlugin:
    """Has no window of its own: everything is in the toolbox of Processing."""

    def __init__(self) -> None:
        self.provider: PrithviProvider | None = None

    def initProcessing(self) -> None:
        """Called by itself where there is no window (qgis_process)."""
        self.provider = PrithviProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Called where there is one."""
        self.initProcessing()

    def unload(self) -> None:
        """Takes the provider out."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
