"""prithvi: from Harmonized Landsat Sentinel-2 granules to maps.

    scene = prithvi.open_scene("scene.tif", sensor="hls-l30")
    flood = prithvi.map(scene, "runs/flood/model")
    flood.prithvi.to_cog("flood.tif")

Submodules are imported on first use, so that `import prithvi` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prithvi.moved import install as _install_old_names

if TYPE_CHECKING:
    from prithvi import plot
    from prithvi.contract import Contract
    from prithvi.errors import PrithviError
    from prithvi.mapping import embed, fill, map, map_scene
    from prithvi.modelio import load
    from prithvi.scenes import open_scene

__version__ = "0.2.0"

_NAMES = {
    "contract": ("Contract",),
    "errors": ("PrithviError",),
    "mapping": ("embed", "fill", "map", "map_scene"),
    "modelio": ("load",),
    "scenes": ("open_scene",),
}

__all__ = ["Contract", "PrithviError", "embed", "fill", "load", "map", "map_scene", "open_scene", "plot"]


def __getattr__(name: str) -> Any:
    if name == "plot":
        return importlib.import_module("prithvi.plot")
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"prithvi.{module}"), name)
    raise AttributeError(f"module 'prithvi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_install_old_names()
