"""The QGIS plugin of prithvi: a provider of Processing that runs the command line of the user's own environment."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """What QGIS loads; `iface` is None in qgis_process."""
    from .plugin import PrithviPlugin

    return PrithviPlugin()
