"""Our parts in TerraTorch's pipeline: encoders as its backbones, and files as source and sink of its tiles.

    source = cog_source(prithvi.open_scene("scene.tif"), contract)
    with cog_sink("map.tif", source, classes=["land", "water"]) as sink:
        tiled_inference(model, source.image, source=source, sink=sink)

Importing this registers the backbones (`backbones.py`), which needs no geo stack; source (`tile_source.py`) and sink
(`tile_sink.py`) are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prithvi.terratorch.backbones import PREFIX, Backbone, Register, backbone

if TYPE_CHECKING:
    from prithvi.terratorch.tile_sink import CogSink, cog_sink
    from prithvi.terratorch.tile_source import CogSource, cog_source

_NAMES = {"tile_sink": ("CogSink", "cog_sink"), "tile_source": ("CogSource", "cog_source")}

__all__ = ["PREFIX", "Backbone", "CogSink", "CogSource", "Register", "backbone", "cog_sink", "cog_source"]


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"prithvi.terratorch.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
