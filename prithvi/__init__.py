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

__version__ = "0.1.0"

_PLACES = {
    "Contract": "prithvi.contract",
    "PrithviError": "prithvi.errors",
    "embed": "prithvi.mapping",
    "fill": "prithvi.mapping",
    "load": "prithvi.modelio",
    "map": "prithvi.mapping",
    "map_scene": "prithvi.mapping",
    "open_scene": "prithvi.scenes",
}

__all__ = ["Contract", "PrithviError", "embed", "fill", "load", "map", "map_scene", "open_scene", "plot"]


def __getattr__(name: str) -> Any:
    if name == "plot":
        return importlib.import_module("prithvi.plot")
    if name not in _PLACES:
        raise AttributeError(f"module 'prithvi' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_install_old_names()
